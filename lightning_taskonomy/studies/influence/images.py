"""What is done once with the images of each data set of a study of chains: prepared, and their colours measured."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lightning_taskonomy.affinity.chains import FIRST_LINK
from lightning_taskonomy.configurations import with_arguments
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.influence.settings import ChainTask, InfluenceSettings
from lightning_taskonomy.studies.runs import hashed_folder, prepare_jobs

__all__ = ["colour_jobs", "preparations"]


def preparations(settings: InfluenceSettings, root: Path) -> dict[tuple[str, str], Job]:
    """What data modules prepare once: the images that are trained on (``fit``) and tested (``test``) of each data set.

    Args:
        settings: The study's settings.
        root: Its folder.
    """
    by_set: dict[str, list[ChainTask]] = {}
    for task in [*settings.used.values(), *([settings.first_task] if settings.first_task else [])]:
        by_set.setdefault(task.set_name, []).append(task)
    jobs: dict[tuple[str, str], Job] = {}
    for name, of_set in by_set.items():
        keys = sorted({key for task in of_set for key in task.stored_keys})
        data = of_set[0].images.data
        splits = {"fit": "train", "test": "test"}
        splits = {role: data.get("init_args", {}).get(f"{role}_split", split) for role, split in splits.items()}
        by_split = prepare_jobs(data, dict.fromkeys(splits.values(), keys), root)
        jobs |= {(name, role): replace(by_split[split], name=f"{name} {split}") for role, split in splits.items()}
    return jobs


def colour_jobs(settings: InfluenceSettings, prepared: Mapping[tuple[str, str], Job], root: Path) -> dict[str, Job]:
    """The measurement of each data set's colours; none of those that the recipe normalises, or that stay as they are.

    Args:
        settings: The study's settings.
        prepared: What is prepared before.
        root: The study's folder.
    """
    sets = {**settings.used_sets, **({FIRST_LINK: settings.first} if settings.first else {})}
    jobs = {}
    for name, images in sets.items():
        data = with_arguments(images.data, seed=0)  # all training images are measured, whatever the seed
        if not settings.normalise or data["init_args"].get("normalise") is not None:
            continue
        place = hashed_folder(root / "data", f"colours-{name}", [data], root)
        done = place.folder / "colours.json"
        jobs[name] = Job(
            kind="colours", name=name, function="lightning_taskonomy.studies.influence.features.colours",
            arguments={"data": data, "file": str(done)}, done=(done,), hashed_folders=(place,),
            needs=prepared[name, "fit"].done if (name, "fit") in prepared else (),
        )  # fmt: skip
    return jobs
