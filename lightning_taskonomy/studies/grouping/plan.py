"""Which networks a grouping study trains: settings in, runs and jobs out. Nothing is trained here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from lightning_taskonomy.configurations import descent, fit_configuration, network_arguments, with_arguments
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.inference import INFERENCE, MACHINE
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.grouping.baselines import baseline_of
from lightning_taskonomy.studies.grouping.settings import GroupingSettings
from lightning_taskonomy.studies.runs import QUIET, RunSpec, hashed_folder, prepare_jobs, stream_job
from lightning_taskonomy.studies.specs import Spec
from lightning_taskonomy.tasks import Task, resolve, stored_keys_of
from lightning_taskonomy.training.run import FAILED

__all__ = ["AFFINITY", "CANDIDATE", "EARLY", "SINGLE", "Candidate", "GroupingPlan"]

CANDIDATE, SINGLE, EARLY, AFFINITY = "candidate", "single", "early", "affinity"
"""Kinds of networks: those that may be chosen, single-task baselines, those that are trained on a part of the data, and
the one in which affinities are measured."""

_STANDARDISED = "lightning_taskonomy.modules.StandardisedModule"
_SHARING = "lightning_taskonomy.modules.StandardisedSoftSharingModule"
_JOBS = "lightning_taskonomy.studies.grouping.jobs"


@dataclass(frozen=True)
class Candidate:
    """A network of a group of tasks.

    Args:
        tasks: The group, in the study's order.
        size: The size of its encoder; 1 is the full-size encoder.
        kind: What it is for: a candidate, a single-task network, a baseline by its name.
    """

    tasks: tuple[str, ...]
    size: float = 1.0
    kind: str = CANDIDATE

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{'+'.join(self.tasks)}@{self.size:g}"


@dataclass(frozen=True)
class GroupingPlan:
    """The runs of one seed of a study.

    Args:
        settings: The settings.
        root: The study's folder.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    settings: GroupingSettings
    root: Path
    checkpoint_seconds: float = 60.0

    def but(self, **changes: Any) -> "GroupingPlan":
        """The same with other settings."""
        return replace(self, settings=replace(self.settings, **changes))

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """All tasks by name."""
        return resolve(self.settings.tasks)

    @cached_property
    def references(self) -> dict[str, str]:
        """How each task is referred to in a recipe."""
        return dict(zip(self.tasks, self.settings.tasks, strict=True))

    # which networks

    def groups(self, sizes: Iterable[int] | None = None) -> list[tuple[str, ...]]:
        """All groups of tasks, the small ones first.

        Args:
            sizes: How many tasks they have; any where not given.
        """
        counts = range(1, len(self.tasks) + 1) if sizes is None else sizes
        return [group for count in counts for group in combinations(self.tasks, count)]

    def first(self) -> list[Candidate]:
        """The candidates that are trained first, whatever comes of them: C0, or what stands for it."""
        mode, settings = self.settings.candidates, self.settings
        groups = settings.groups
        if groups is None:
            groups = self.groups((1, 2) if mode in ("pairs", "search") else None)
        kind = EARLY if mode == "early" else CANDIDATE
        full = [Candidate(group, 1.0, kind) for group in groups]
        if settings.affinity_steps and self.joint.kind == CANDIDATE and self.joint not in full:
            full.append(self.joint)
        return full + [
            Candidate((task,), settings.single_size, kind) for task in self.tasks if settings.single_size < 1
        ]

    def compared(self) -> list[Candidate]:
        """The networks that are never chosen: smaller single-task ones, and other ways to train all tasks."""
        settings = self.settings
        singles = [
            Candidate((task,), size, SINGLE)
            for size in settings.small_sizes or []
            if size not in (1, settings.single_size)
            for task in self.tasks
        ]
        together = [
            Candidate(tuple(self.tasks), size, name)
            for name in settings.baselines or []
            for size in settings.baseline_sizes or [1.0]
            if not (name == "mtl" and size == 1 and Candidate(tuple(self.tasks)) in self.first())
        ]
        joint = [self.joint] if settings.affinity_steps and self.joint.kind == AFFINITY else []
        return singles + together + joint

    @property
    def joint(self) -> Candidate:
        """The full-size network of all tasks, in which affinities are measured: a candidate, or trained for that."""
        everything, groups = Candidate(tuple(self.tasks)), self.settings.groups
        is_candidate = self.settings.candidates != "early" and (groups is None or everything.tasks in groups)
        return everything if is_candidate else replace(everything, kind=AFFINITY)

    def sizes(self) -> list[float]:
        """The sizes of all encoders."""
        shares = []
        for network in [*self.first(), *self.compared()]:
            baseline = baseline_of(network.kind)
            shared = baseline is not None and baseline.shares
            shares.append(network.size / len(self.tasks) if shared else network.size)
        return sorted({1.0, *shares})

    # what is prepared

    @property
    def data(self) -> Spec:
        """The data, an epoch of which is a part of a pass."""
        return with_arguments(self.settings.data, seed=self.settings.seed, parts=self.settings.parts)

    @cached_property
    def prepared(self) -> list[Job]:
        """What the data module prepares once, a job per split."""
        keys = stored_keys_of(self.tasks.values())
        splits = dict.fromkeys(("train", "validation", "test"), keys)
        return list(prepare_jobs(self.settings.data, splits, self.root).values())

    @cached_property
    def statistics(self) -> Job:
        """The statistics of the labels, the same for all seeds."""
        content = [self.settings.data, {"init_args": {"tasks": self.settings.tasks}}]
        return self._measured("statistics", "label_statistics", content, tasks=self.settings.tasks)

    @cached_property
    def encoders(self) -> Job:
        """The encoders of all sizes."""
        settings = self.settings
        arguments = {
            "backbone": settings.backbone,
            "sizes": self.sizes(),
            "shrunk_by": {repr(float(size)): spec for size, spec in (settings.shrunk or {}).items()},
        }
        content = [settings.data, {"init_args": arguments}]
        return self._measured("encoders", "encoder_sizes", content, **arguments)

    @cached_property
    def inference(self) -> Job:
        """What encoders and decoders cost."""
        arguments = {
            "backbones": str(self.encoders.done[0]), "tasks": self.settings.tasks, "heads": self.settings.heads,
        }  # fmt: skip
        content = [self.settings.data, {"init_args": arguments}]
        place = hashed_folder(self.root / "data", "inference", content, self.root)
        return Job(
            kind="inference",
            name="of all sizes",
            function=f"{_JOBS}.inference_costs",
            arguments={**arguments, "data": self.settings.data, "folder": str(place.folder)},
            done=(place.folder / INFERENCE,),
            needs=(*self.encoders.needs, self.encoders.done[0]),
            files=(place.folder / MACHINE,),
            hashed_folders=(place,),
        )

    def _measured(self, kind: str, function: str, content: Any, **arguments: Any) -> Job:
        """A job that measures the data or what reads them, and writes one JSON file."""
        place = hashed_folder(self.root / "data", kind, content, self.root)
        done = place.folder / f"{kind}.json"
        return Job(
            kind=kind,
            name="of the training images" if kind == "statistics" else "of all sizes",
            function=f"{_JOBS}.{function}",
            arguments={**arguments, "data": self.settings.data, "done": str(done)},
            done=(done,),
            needs=tuple(job.done[0] for job in self.prepared),
            hashed_folders=(place,),
        )

    def read_statistics(self) -> dict[str, list[float]]:
        """Mean and deviation of the tasks whose labels are numbers."""
        measured = _read(self.statistics)
        return {name: [row["mean"], row["std"]] for name, row in measured.items() if "std" in row}

    def read_encoders(self) -> dict[float, Spec]:
        """Encoders by size."""
        return {float(size): spec for size, spec in _read(self.encoders).items()}

    # runs

    def run(
        self,
        network: Candidate,
        statistics: Mapping[str, Sequence[float]] | None = None,
        encoders: Mapping[float, Spec] | None = None,
    ) -> RunSpec:
        """The run of a network.

        Args:
            network: Which.
            statistics: Mean and deviation by task; those that were measured where not given.
            encoders: Encoders by size; those that were made where not given.
        """
        settings = self.settings
        measured = self.read_statistics() if statistics is None else statistics
        encoders = self.read_encoders() if encoders is None else encoders
        baseline = baseline_of(network.kind)
        shares = baseline is not None and baseline.shares
        encoder = encoders[network.size / len(self.tasks) if shares else network.size]
        arguments = network_arguments([self.references[task] for task in network.tasks], encoder, self._heads(network))
        arguments["statistics"] = {task: list(measured[task]) for task in network.tasks if task in measured}
        callbacks = list((settings.trainer or {}).get("callbacks", []))
        if baseline is not None and baseline.callback:
            factor = {"factor": float(len(network.tasks))} if baseline.averages else {}
            callbacks.append({"class_path": baseline.callback, "init_args": {**baseline.arguments, **factor}})
        if settings.affinity_steps and network == self.joint:
            spaced = {"every_n_steps": settings.affinity_steps}
            callbacks.append({"class_path": "lightning_taskonomy.callbacks.TaskAffinity", "init_args": spaced})
        stall = {"monitor": "val/loss", "patience": settings.patience}
        callbacks += [
            {"class_path": "lightning_taskonomy.callbacks.BestWeights"},
            {"class_path": "lightning_taskonomy.callbacks.History"},
            {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": stall},
        ]
        optimizer, scheduler = descent(settings.optimizer, settings.scheduler)
        epochs = 1 if network.kind == EARLY else settings.passes * settings.parts
        config = fit_configuration(
            _SHARING if shares else _STANDARDISED,
            arguments,
            self.data,
            trainer={**QUIET, "max_epochs": epochs, **(settings.trainer or {}), "callbacks": callbacks},
            seed=settings.seed,
            optimizer=optimizer,
            scheduler=scheduler,
        )
        return RunSpec(network.kind, network.name, config, self.root)

    def is_over(self, network: Candidate) -> bool:
        """Whether the training of a network has ended, or failed."""
        run = self.run(network)
        return run.is_done or (run.folder / FAILED).is_file()

    def _heads(self, network: Candidate) -> dict[str, Spec] | None:
        """The heads that the network's tasks use."""
        if self.settings.heads is None:
            return None
        names = {*network.tasks, *(self.tasks[task].kind.value for task in network.tasks)}
        return {name: head for name, head in self.settings.heads.items() if name in names} or None

    def jobs(self, networks: Sequence[Candidate]) -> list[Job]:
        """Jobs that train networks side by side, about as long each.

        Args:
            networks: What is trained.
        """
        if not networks:
            return []
        statistics, encoders = self.read_statistics(), self.read_encoders()
        count = -(-len(networks) // self.settings.side_by_side)
        by_work = sorted(networks, key=lambda n: (-n.size - 0.2 * len(n.tasks), n.kind, n.name))
        shares: list[list[Candidate]] = [[] for _ in range(count)]
        for place, network in enumerate(by_work):
            turn, position = divmod(place, count)
            shares[position if turn % 2 == 0 else count - 1 - position].append(network)
        return [
            stream_job(
                "networks",
                f"{len(share)} networks, seed {self.settings.seed}: {', '.join(n.name for n in share)}"[:100],
                [self.run(network, statistics, encoders) for network in share],
                self.checkpoint_seconds,
                needs=[job.done[0] for job in self.prepared],
            )
            for share in shares
        ]


def _read(job: Job) -> dict[str, Any]:
    """What a job has measured.

    Raises:
        InputError: It is not done.
    """
    if not job.is_done:
        raise InputError(f"no network can be trained before '{job.title}' is done; run stage 'data' of the study")
    return dict(json.loads(job.done[0].read_text()))
