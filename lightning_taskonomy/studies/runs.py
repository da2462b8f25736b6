"""A run is named by what it is made of: the hash of its configuration, but for what cannot change a number."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_taskonomy.manifest import RunEntry
from lightning_taskonomy.studies.graph import HashedFolder, Job
from lightning_taskonomy.training.identity import RESULTS_VERSION, identity

__all__ = ["QUIET", "RunSpec", "content_hash", "hashed_folder", "prepare_jobs", "stream_job"]

QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
"""Arguments of the Trainer of a run among many, of which the study itself shows the progress."""


def content_hash(content: Any, root: Path) -> str:
    """Ten hexadecimal digits of plain data and the version of results.

    Settings of execution do not count (``training.identity``), nor does the study's folder, so that it may be moved.

    Args:
        content: Configurations of runs, or parts of them.
        root: The study's folder.
    """
    text = json.dumps([RESULTS_VERSION, _counting(content)], sort_keys=True, separators=(",", ":"), default=str)
    text = re.sub(rf'"{re.escape(str(root))}(?=[/"])', '"$STUDY', text)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _counting(content: Any) -> Any:
    """Configurations of runs, descriptions of data, and lists of them, without what cannot change a number."""
    if isinstance(content, Mapping):
        return identity({"data": content})["data"] if "class_path" in content else identity(content)
    return [_counting(part) for part in content] if isinstance(content, list) else content


def hashed_folder(parent: Path, stem: str, content: Any, root: Path) -> HashedFolder:
    """A folder that is named by what is in it.

    Args:
        parent: Where it lies.
        stem: The first part of its name.
        content: What is in it, as :func:`content_hash` takes it.
        root: The study's folder.
    """
    return HashedFolder(folder=parent / f"{stem}-{content_hash(content, root)}", stem=stem, content=content)


@dataclass(frozen=True)
class RunSpec:
    """One training run of a study.

    Args:
        kind: ``task_specific``, ``scratch``, ``transfer``, ...
        name: What a person calls it: ``normals``, ``normals<-depth_z+edges_2d``.
        config: What ``fit --config`` takes.
        root: The study's folder.
    """

    kind: str
    name: str
    config: dict[str, Any]
    root: Path

    @cached_property
    def hashed_folder(self) -> HashedFolder:
        """Its folder, and what names it: kind, name and hash."""
        slug = re.sub(r"[^\w+<-]+", "-", self.name).replace("<-", "-from-")[:80]
        return hashed_folder(self.root / "runs", f"{self.kind}-{slug}", self.config, self.root)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.hashed_folder.folder

    @property
    def done(self) -> Path:
        """The file that exists once it is finished."""
        return self.folder / "metrics.json"

    @property
    def is_done(self) -> bool:
        """Whether it is finished."""
        return self.done.is_file()

    @property
    def entry(self) -> RunEntry:
        """Its row of ``runs.csv``."""
        init_args = self.config["model"].get("init_args", {})
        tasks = init_args.get("tasks") or [name for name in [init_args.get("target")] if name is not None]
        return RunEntry(
            run=self.name,
            folder=str(self.folder.relative_to(self.root)),
            kind=self.kind,
            tasks=tuple(map(str, tasks)),
            seed=int(self.config.get("seed_everything", 0)),
        )

    def job(self, checkpoint_seconds: float = 60.0, test: bool = True, needs: Sequence[Path] = ()) -> Job:
        """The job that fits it, and tests or only validates it.

        Args:
            checkpoint_seconds: The shortest time between two checkpoints to resume from.
            test: Whether it ends with a test; else with a validation.
            needs: Files that must be there before.
        """
        arguments = {"config": self.config, "folder": str(self.folder), "checkpoint_seconds": checkpoint_seconds}
        return Job(
            kind=self.kind,
            name=self.name,
            function="lightning_taskonomy.training.execute",
            arguments=arguments if test else {**arguments, "test": False},
            done=(self.done,),
            needs=tuple(needs),
            files=(self.folder / "weights.safetensors",),
            runs=(self.entry,),
            hashed_folders=(self.hashed_folder,),
        )

    def test_job(self, needs: Sequence[Path] = ()) -> Job:
        """The one test of a run that was fitted without it."""
        return Job(
            kind="test",
            name=f"{self.kind} {self.name}",
            function="lightning_taskonomy.training.evaluate",
            arguments={"folder": str(self.folder), "config": self.config},  # the study may have been moved since
            done=(self.folder / "test.json",),
            needs=(self.done, *needs),
        )


def stream_job(
    kind: str, name: str, runs: Sequence[RunSpec], checkpoint_seconds: float = 60.0, needs: Sequence[Path] = ()
) -> Job:
    """The job that trains several runs side by side from one stream of batches; what is finished of them stays.

    Args:
        kind: The job's kind.
        name: What a person calls it.
        runs: The runs, at least one.
        checkpoint_seconds: The shortest time between two checkpoints of each run to resume from.
        needs: Files that must be there before.
    """
    described = [{"config": run.config, "folder": str(run.folder)} for run in runs]
    return Job(
        kind=kind,
        name=name,
        function="lightning_taskonomy.training.execute_together",
        arguments={"runs": described, "checkpoint_seconds": checkpoint_seconds},
        done=tuple(run.done for run in runs),
        needs=tuple(needs),
        files=tuple(run.folder / "weights.safetensors" for run in runs),
        runs=tuple(run.entry for run in runs),
        hashed_folders=tuple(run.hashed_folder for run in runs),
    )


def prepare_jobs(data: Mapping[str, Any], keys: Mapping[str, Sequence[str]], root: Path) -> dict[str, Job]:
    """What a data module prepares once, a job per split, whatever the seed of those who read it.

    Args:
        data: The data module's class and arguments.
        keys: The batch keys that are read, by split.
        root: The study's folder.
    """
    init_args = {name: value for name, value in data.get("init_args", {}).items() if name != "seed"}
    data = {**data, "init_args": init_args}
    jobs = {}
    for split, wanted in keys.items():
        place = hashed_folder(root / "data", split, [data, list(wanted)], root)
        done = place.folder / "prepared.json"
        arguments = {"data": data, "split": split, "keys": list(wanted), "done": str(done)}
        function = "lightning_taskonomy.studies.jobs.prepare"
        jobs[split] = Job(kind="prepare", name=split, function=function, arguments=arguments, done=(done,))
    return jobs
