"""Which networks a Taskonomy study trains: settings in, runs out. Nothing is trained here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.studies.engine import Job
from lightning_taskonomy.studies.runs import QUIET, RunSpec, content_hash
from lightning_taskonomy.studies.specs import Spec
from lightning_taskonomy.tasks import Task, keys_of, resolve

__all__ = ["Plan", "Settings"]

RANDOM = "random_encoder"
_MULTITASK = "lightning_taskonomy.modules.MultiTaskModule"
_TRANSFER = "lightning_taskonomy.modules.TransferModule"
_REPRESENTATIONS = "lightning_taskonomy.data.RepresentationDataModule"


@dataclass(frozen=True)
class Settings:
    """What decides which networks are trained; the meaning of each is in ``TaxonomyStudy``."""

    tasks: tuple[str, ...]
    data: Spec
    backbone: Spec
    heads: Spec | None = None
    transfer_heads: Spec | None = None
    transfer_width: int = 32
    optimizer: Spec | None = None
    scheduler: Spec | None = None
    scheduler_interval: str = "epoch"
    trainer: Spec = field(default_factory=dict)
    epochs: int = 20
    transfer_epochs: int = 10
    scratch_epochs: int | None = None
    transfer_scheduler: Spec | None = None
    transfer_size: int | None = None
    max_order: int = 1
    beam: int = 5
    seed: int = 0
    test_images: int | None = None
    scratch_scheduler: Spec | None = None
    scratch_validation: float = 0.0

    def but(self, changes: Mapping[str, Any]) -> "Settings":
        """A copy with some settings changed.

        Raises:
            InputError: There is no such setting.
        """
        names = self.__dataclass_fields__
        for name in changes:
            if name not in names:
                raise InputError(f"a variant changes {name!r}, which is no setting{hint(name, names)}")
        plain: dict[str, Any] = {name: tuple(v) if name == "tasks" else v for name, v in changes.items()}
        return replace(self, **plain)


@dataclass(frozen=True)
class Plan:
    """The runs of one setting of a study.

    Args:
        settings: The settings.
        root: The study's folder.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    settings: Settings
    root: Path
    checkpoint_seconds: float = 60.0

    @property
    def tasks(self) -> dict[str, Task]:
        """All tasks by name."""
        return resolve(self.settings.tasks)

    @property
    def references(self) -> dict[str, str]:
        """How each task is referred to in a recipe: its catalog name or dotted path."""
        return dict(zip(self.tasks, self.settings.tasks, strict=True))

    @property
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
        own = self.settings
        return fit_configuration(
            model,
            init_args,
            data,
            trainer={**QUIET, "limit_val_batches": 0, "max_epochs": epochs, **own.trainer},
            seed=own.seed,
            optimizer=own.optimizer,
            scheduler=scheduler,
            scheduler_interval=own.scheduler_interval,
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
        own = self.settings
        return self._network("task_specific", task, self.training_data, own.epochs, own.scheduler)

    def scratch(self, task: str) -> RunSpec:
        """The same network from scratch on the data of the transfers: the best that can be done without them.

        With a validation share it keeps the weights of its best epoch on images that it is not trained on.
        """
        own = self.settings
        epochs = own.scratch_epochs or own.transfer_epochs
        scheduler = own.scratch_scheduler or own.transfer_scheduler or own.scheduler
        spec = self._network("scratch", task, self.transfer_data, epochs, scheduler)
        if not own.scratch_validation:
            return spec
        data, trainer = spec.config["data"], dict(spec.config["trainer"])
        data = with_arguments(data, validation_share=own.scratch_validation)
        if "limit_val_batches" not in own.trainer:
            trainer.pop("limit_val_batches")
        best = {"class_path": "lightning_taskonomy.callbacks.best.BestWeights"}
        trainer["callbacks"] = [*trainer.get("callbacks", []), best]
        return replace(spec, config={**spec.config, "data": data, "trainer": trainer})

    @property
    def random_encoder(self) -> RunSpec:
        """A network that is never trained: its encoder is Gaussian noise."""
        init_args = {"backbone": self.settings.backbone, "seed": self.settings.seed}
        backbone = {"class_path": "lightning_taskonomy.models.backbones.GaussianBackbone", "init_args": init_args}
        return replace(self, settings=replace(self.settings, backbone=backbone)).untrained(RANDOM)

    def untrained(self, kind: str) -> RunSpec:
        """The backbone as it is, as a run."""
        return replace(self._network(kind, next(iter(self.tasks)), self.training_data, 0, None), name=kind)

    def source(self, name: str) -> RunSpec:
        """The run whose encoder a source is."""
        return self.random_encoder if name == RANDOM else self.task_specific(name)

    def representation(self, source: RunSpec) -> Path:
        """The folder of a source's cached representations."""
        name = content_hash([source.config, self._images()], self.root)
        return self.root / "representations" / f"{source.name}-{name}"

    def _images(self) -> Spec:
        """What decides which images are encoded."""
        return {**self.transfer_data, "key": "images"}

    def encode(self, source: str, key: str) -> Job:
        """Encodes one input with one source, once for all transfers."""
        spec = self.source(source)
        return self.encode_run(spec, key)

    def encode_run(self, spec: RunSpec, key: str) -> Job:
        """Encodes one input with the encoder of one run."""
        folder = self.representation(spec)
        kwargs = {
            "run": str(spec.folder),
            "data": self.transfer_data,
            "folder": str(folder),
            "key": key,
            "splits": {"validation": self.settings.transfer_size, "test": None},
        }
        return Job(
            "encode", f"{key} by {spec.name}", "lightning_taskonomy.studies.jobs.encode", kwargs, folder / f"{key}.done"
        )

    def transfer(self, target: str, sources: Sequence[str]) -> RunSpec:
        """(II) The readout of a target from the cached representations of some sources."""
        return self.transfer_from(target, [self.source(name) for name in sources], "+".join(sources))

    def transfer_from(self, target: str, runs: Sequence[RunSpec], label: str) -> RunSpec:
        """The readout of a target from the cached representations of some runs' encoders."""
        own = self.settings
        folders = [str(self.representation(spec)) for spec in runs]
        head = self._head(target, own.transfer_heads, own.heads)
        init_args = transfer_arguments(self.references[target], folders, own.transfer_width, head)
        data = {
            "class_path": _REPRESENTATIONS,
            "init_args": {"labels": self.transfer_data, "sources": folders, "input": self.tasks[target].input},
        }
        scheduler = own.transfer_scheduler or own.scheduler
        config = self._config(_TRANSFER, init_args, data, own.transfer_epochs, scheduler)
        return RunSpec("transfer", f"{target}<-{label}", config, self.root)

    def average(self, task: str) -> Job:
        """The statistically informed guess."""
        name = f"average-{task}-{content_hash([self.training_data, self.references[task]], self.root)}"
        folder = self.root / "runs" / name
        kwargs = {"task": self.references[task], "data": self.training_data, "folder": str(folder)}
        return Job("average", task, "lightning_taskonomy.studies.jobs.average_guess", kwargs, folder / "scores.npz")

    def prepared(self) -> dict[str, Job]:
        """What the data module prepares once, a job per split."""
        every = self.tasks.values()
        targets = [task for task in every if not task.source_only]
        jobs = {}
        for split, tasks in {"train": every, "validation": targets, "test": targets}.items():
            keys = keys_of(tasks)
            kwargs = {"data": self.training_data, "split": split, "keys": keys}
            done = self.root / "data" / f"{split}-{content_hash([self.settings.data, keys], self.root)}.json"
            function = "lightning_taskonomy.studies.jobs.prepare"
            jobs[split] = Job("prepare", split, function, {**kwargs, "done": str(done)}, done)
        return jobs
