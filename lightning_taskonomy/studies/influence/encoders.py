"""Jobs that write features of images: to compare domains, and to picture task types."""

from lightning_taskonomy.affinity.chains import FIRST_LINK, PICTURED
from lightning_taskonomy.configurations import with_arguments
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.influence.plan import InfluencePlan
from lightning_taskonomy.studies.influence.settings import ChainTask
from lightning_taskonomy.studies.runs import RunSpec, hashed_folder

__all__ = ["collections", "encoder", "feature_jobs", "task_type_jobs"]


def collections(plan: InfluencePlan) -> dict[str, str]:
    """The collections of images, each with the data set whose training images stand for it: the set of that name.

    Where sets share the images of one that is not in the study, the first of them stands for these.

    Args:
        plan: The study's runs.
    """
    sets = plan.settings.used_sets
    pools = dict.fromkeys(images.images or name for name, images in sets.items())
    return {
        pool: next(name for name in (pool, *sets) if name in sets and (sets[name].images or name) == pool)
        for pool in pools
    }


def encoder(plan: InfluencePlan) -> RunSpec:
    """The run whose backbone gives the features by which domains are compared (section 3.2).

    The first model of several sources where there is one, else the first link, else the first source.

    Args:
        plan: The study's runs.
    """
    for name in plan.settings.multi_source or {}:
        return plan.source_run(name, "full")
    start = plan.start(FIRST_LINK, "full")
    return start if isinstance(start, RunSpec) else plan.source_run(plan.sources[0], "full")


def feature_jobs(plan: InfluencePlan, count: int) -> list[Job]:
    """The features of so many training images of each collection of images, all by one network.

    Args:
        plan: The study's runs.
        count: Images of a collection; all where there are fewer.
    """
    run = encoder(plan)
    return [_job(plan, "features", pool, name, run, count) for pool, name in collections(plan).items()]


def task_type_jobs(plan: InfluencePlan) -> list[Job]:
    """The features of the same images by the networks of several task types (Fig. 3b and c).

    Of each collection of images that is a source by two or more task types: by each of these sources, and by the first
    link if it is trained here. Data sets that share images are one collection.

    Args:
        plan: The study's runs.
    """
    by_pool: dict[str, dict[str, ChainTask]] = {}
    for name, setting in plan.trained_sources():
        if setting == "full" and name in plan.tasks:
            task = plan.tasks[name]
            by_pool.setdefault(task.pool, {}).setdefault(task.type, task)
    jobs = []
    owners = collections(plan)
    for collection, tasks in by_pool.items():
        if len(tasks) > 1:
            runs = {kind: plan.source_run(task.name, "full") for kind, task in tasks.items()}
            start = plan.start(FIRST_LINK, "full")
            if isinstance(start, RunSpec):
                runs["first link"] = start
            for kind, run in runs.items():
                label = f"{collection}/{kind}"
                jobs.append(_job(plan, "type_features", label, owners[collection], run, PICTURED))
    return jobs


def _job(plan: InfluencePlan, kind: str, label: str, name: str, run: RunSpec, count: int) -> Job:
    """The features of images of a data set by the backbone of a run."""
    data = with_arguments(plan.normalised(name, plan.settings.sets[name]), seed=plan.settings.seed)
    colours = plan.colours[name].done if name in plan.colours else ()
    place = hashed_folder(plan.root / kind, label.replace("/", "-"), [run.config, data, count], plan.root)
    file = place.folder / "features.npz"
    return Job(
        kind=kind, name=label, function="lightning_taskonomy.studies.influence.features.pooled_features",
        arguments={"run": str(run.folder), "data": data, "count": count, "file": str(file)}, done=(file,),
        needs=(run.done, *colours), hashed_folders=(place,),
    )  # fmt: skip
