"""Which networks a Taskonomy study trains: settings in, runs and jobs out. Nothing is trained here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Any

from lightning_taskonomy.configurations import (
    fit_configuration,
    fitted_on,
    head_of,
    network_arguments,
    transfer_arguments,
    with_arguments,
)
from lightning_taskonomy.studies.graph import HashedFolder, Job
from lightning_taskonomy.studies.runs import QUIET, RunSpec, hashed_folder, prepare_jobs
from lightning_taskonomy.studies.specs import Spec
from lightning_taskonomy.studies.taxonomy.settings import TaxonomySettings
from lightning_taskonomy.tasks import Task, resolve, stored_keys_of

__all__ = ["RANDOM", "TaxonomyPlan"]

RANDOM = "random_encoder"
_MULTITASK = "lightning_taskonomy.modules.MultiTaskModule"
_TRANSFER = "lightning_taskonomy.modules.TransferModule"
_REPRESENTATIONS = "lightning_taskonomy.data.RepresentationDataModule"


@dataclass(frozen=True)
class TaxonomyPlan:
    """The runs of one setting of a study.

    Args:
        settings: The settings.
        root: The study's folder.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    settings: TaxonomySettings
    root: Path
    checkpoint_seconds: float = 60.0

    def described(self) -> dict[str, dict[str, Any]]:
        """What reports say of each task."""
        return {
            name: {
                "family": task.family.value, "kind": task.kind.value, "channels": task.channels,
                "source_only": task.source_only, "units": task.units, "target": task.target,
                "class_names": list(task.class_names) if task.class_names else None,
            }
            for name, task in self.tasks.items()
        }  # fmt: skip

    def higher_order_counts(self) -> dict[str, int]:
        """How many transfers of several sources there will be: beyond the beam one per target and order."""
        beam, orders = self.settings.beam, range(2, self.settings.max_order + 1)
        sources = len(self.tasks) - 1
        each = sum((comb(min(beam, sources), n) if n <= beam else 1) for n in orders if sources >= n)
        return {"transfer": each * len(self.targets)}

    def but(self, **changes: Any) -> "TaxonomyPlan":
        """The same with other settings.

        Raises:
            InputError: There is no such setting.
        """
        return replace(self, settings=self.settings.but(changes))

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """All tasks by name."""
        return resolve(self.settings.tasks)

    @cached_property
    def references(self) -> dict[str, str]:
        """How each task is referred to in a recipe: its catalog name or dotted path."""
        return dict(zip(self.tasks, self.settings.tasks, strict=True))

    @cached_property
    def targets(self) -> list[str]:
        """The tasks to be solved."""
        return [name for name, task in self.tasks.items() if not task.source_only]

    def _data(self, split: str, size: int | None) -> Spec:
        data = fitted_on(self.settings.data, split, size, self.settings.seed)
        if self.settings.test_images is None:
            return data
        return with_arguments(data, limit={**(data["init_args"].get("limit") or {}), "test": self.settings.test_images})

    @property
    def training_data(self) -> Spec:
        """The training buildings."""
        return self._data("train", None)

    @property
    def transfer_data(self) -> Spec:
        """The seeded subset of the validation buildings."""
        return self._data("validation", self.settings.transfer_size)

    def _config(self, model: str, init_args: Spec, data: Spec, epochs: int, scheduler: Spec | None) -> dict[str, Any]:
        settings = self.settings
        return fit_configuration(
            model,
            init_args,
            data,
            trainer={**QUIET, "limit_val_batches": 0, "max_epochs": epochs, **(settings.trainer or {})},
            seed=settings.seed,
            optimizer=settings.optimizer,
            scheduler=scheduler,
            scheduler_interval=settings.scheduler_interval,
        )

    def _head(self, task: str, *heads: Spec | None) -> Spec | None:
        return head_of(task, self.tasks[task].kind.value, *heads)

    def _network(self, kind: str, task: str, data: Spec, epochs: int, scheduler: Spec | None) -> RunSpec:
        head = self._head(task, self.settings.heads)
        heads = None if head is None else {task: head}
        init_args = network_arguments([self.references[task]], self.settings.backbone, heads)
        return RunSpec(kind, task, self._config(_MULTITASK, init_args, data, epochs, scheduler), self.root)

    def task_specific(self, task: str) -> RunSpec:
        """(I) The fully supervised network on the training buildings: the gold standard."""
        settings = self.settings
        return self._network("task_specific", task, self.training_data, settings.epochs, settings.scheduler)

    def scratch(self, task: str) -> RunSpec:
        """The same network from scratch on the data of the transfers: the best that can be done without them.

        With a validation share it keeps the weights of its best epoch on images that it is not trained on.
        """
        settings = self.settings
        epochs = settings.scratch_epochs or settings.transfer_epochs
        scheduler = settings.scratch_scheduler or settings.transfer_scheduler or settings.scheduler
        spec = self._network("scratch", task, self.transfer_data, epochs, scheduler)
        if not settings.scratch_validation:
            return spec
        data, trainer = spec.config["data"], dict(spec.config["trainer"])
        data = with_arguments(data, validation_share=settings.scratch_validation)
        if "limit_val_batches" not in (settings.trainer or {}):
            trainer.pop("limit_val_batches")
        best = {"class_path": "lightning_taskonomy.callbacks.best.BestWeights"}
        trainer["callbacks"] = [*trainer.get("callbacks", []), best]
        return replace(spec, config={**spec.config, "data": data, "trainer": trainer})

    @property
    def random_encoder(self) -> RunSpec:
        """A network that is never trained: its encoder is Gaussian noise."""
        init_args = {"backbone": self.settings.backbone, "seed": self.settings.seed}
        backbone = {"class_path": "lightning_taskonomy.models.backbones.GaussianBackbone", "init_args": init_args}
        return self.but(backbone=backbone).untrained(RANDOM)

    def untrained(self, kind: str) -> RunSpec:
        """The backbone as it is, as a run."""
        return replace(self._network(kind, next(iter(self.tasks)), self.training_data, 0, None), name=kind)

    def source(self, name: str) -> RunSpec:
        """The run whose encoder a source is."""
        return self.random_encoder if name == RANDOM else self.task_specific(name)

    def representation(self, source: RunSpec) -> HashedFolder:
        """The folder of a source's cached representations."""
        content = [source.config, {**self.transfer_data, "key": "images"}]  # what decides which images are encoded
        return hashed_folder(self.root / "representations", source.name, content, self.root)

    def encode(self, source: RunSpec, key: str) -> Job:
        """Encodes one input with the encoder of a run, once for all transfers."""
        place = self.representation(source)
        arguments = {
            "run": str(source.folder), "data": self.transfer_data, "folder": str(place.folder), "key": key,
            "splits": {"validation": self.settings.transfer_size, "test": None},
        }  # fmt: skip
        return Job(
            kind="encode",
            name=f"{key} by {source.name}",
            function="lightning_taskonomy.studies.jobs.encode",
            arguments=arguments,
            done=(place.folder / f"{key}.done",),
            needs=(source.done, *self._prepared("validation", "test")),
            hashed_folders=(place,),
        )

    def network_job(self, run: RunSpec) -> Job:
        """Fits and tests a network, once its data are prepared."""
        split = run.config["data"]["init_args"]["fit_split"]
        return run.job(self.checkpoint_seconds, needs=self._prepared(split, "test"))

    def networks(self) -> list[Job]:
        """(I) What the data module prepares, all networks but transfers, and the average guesses."""
        runs = [self.random_encoder, *map(self.task_specific, self.tasks), *map(self.scratch, self.targets)]
        prepared = self.prepared.values()
        return [*prepared, *map(self.network_job, runs), *map(self.average, self.tasks)]

    def first_orders(self) -> list[Job]:
        """(II) The representations of every source, and the transfers from one of them."""
        sources = [*self.tasks, RANDOM]
        keys = sorted({self.tasks[name].input for name in self.targets})
        encoded = [self.encode(self.source(name), key) for name in sources for key in keys]
        pairs = [(target, name) for target in self.targets for name in sources if name != target]
        return encoded + [self.transfer_job(target, [name]) for target, name in pairs]

    def transfer_job(self, target: str, sources: Sequence[str]) -> Job:
        """Fits and tests a transfer, once its sources are encoded."""
        return self.transfer_from_job(target, [self.source(name) for name in sources], "+".join(sources))

    def transfer_from_job(self, target: str, runs: Sequence[RunSpec], label: str) -> Job:
        """Fits and tests the readout of a target from some runs' encoders, once these have encoded."""
        needs = [self.encode(run, self.tasks[target].input).done[0] for run in runs]
        return self.transfer_from(target, runs, label).job(self.checkpoint_seconds, needs=needs)

    def transfer(self, target: str, sources: Sequence[str]) -> RunSpec:
        """(II) The readout of a target from the cached representations of some sources."""
        return self.transfer_from(target, [self.source(name) for name in sources], "+".join(sources))

    def transfer_from(self, target: str, runs: Sequence[RunSpec], label: str) -> RunSpec:
        """The readout of a target from the cached representations of some runs' encoders."""
        settings = self.settings
        folders = [str(self.representation(run).folder) for run in runs]
        head = self._head(target, settings.transfer_heads, settings.heads)
        init_args = transfer_arguments(self.references[target], folders, settings.transfer_width, head)
        data = {
            "class_path": _REPRESENTATIONS,
            "init_args": {"labels": self.transfer_data, "sources": folders, "input": self.tasks[target].input},
        }
        scheduler = settings.transfer_scheduler or settings.scheduler
        config = self._config(_TRANSFER, init_args, data, settings.transfer_epochs, scheduler)
        return RunSpec("transfer", f"{target}<-{label}", config, self.root)

    def average(self, task: str) -> Job:
        """The statistically informed guess."""
        content = [self.training_data, self.references[task]]
        place = hashed_folder(self.root / "runs", f"average-{task}", content, self.root)
        arguments = {"task": self.references[task], "data": self.training_data, "folder": str(place.folder)}
        return Job(
            kind="average",
            name=task,
            function="lightning_taskonomy.studies.jobs.average_guess",
            arguments=arguments,
            done=(place.folder / "scores.npz",),
            needs=self._prepared("train", "test"),
            hashed_folders=(place,),
        )

    @cached_property
    def prepared(self) -> dict[str, Job]:
        """What the data module prepares once, a job per split."""
        targets = stored_keys_of([self.tasks[name] for name in self.targets])
        keys = {"train": stored_keys_of(self.tasks.values()), "validation": targets, "test": targets}
        return prepare_jobs(self.training_data, keys, self.root)

    def _prepared(self, *splits: str) -> tuple[Path, ...]:
        return tuple(self.prepared[split].done[0] for split in splits)
