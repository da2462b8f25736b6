"""Which networks a Task Meta-Transfer study trains: settings in, runs out. Nothing is trained here."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_taskonomy.configurations import fit_configuration, network_arguments, with_arguments
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.modules.objectives import objective
from lightning_taskonomy.studies.engine import Job
from lightning_taskonomy.studies.meta_transfer.methods import Knobs, in_words, method
from lightning_taskonomy.studies.runs import QUIET, RunSpec, content_hash
from lightning_taskonomy.studies.specs import BackboneSpec, HeadSpec, Spec
from lightning_taskonomy.tasks import Task, keys_of, resolve

__all__ = ["Case", "Fit", "Network", "Plan", "Settings"]


@dataclass(frozen=True)
class Case:
    """A primary task and those that shall help it, as a recipe names them.

    Args:
        primary: The task with few labels.
        auxiliary: The tasks with many.
    """

    primary: str
    auxiliary: list[str]


@dataclass(frozen=True)
class Network:
    """A backbone and the heads behind it.

    Args:
        backbone: Its class and arguments.
        heads: Head factories by task or kind.
    """

    backbone: BackboneSpec
    heads: dict[str, HeadSpec] | None = None


@dataclass(frozen=True)
class Settings:
    """What decides which networks are trained; the meaning of each is in ``MetaTransferStudy``."""

    tasks: tuple[str, ...]
    data: Spec
    networks: dict[str, Network]
    cases: tuple[Case, ...]
    steps: int
    evaluations: int
    parallel: int | float = 0.1
    optimizer: Spec | None = None
    scheduler: Spec | None = None
    trainer: Spec = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Fit:
    """One method with fixed settings on one case: the run, and the one that must be finished before it.

    Args:
        run: The run whose weights are validated and, if chosen, tested.
        before: The pretraining it starts from.
    """

    run: RunSpec
    before: RunSpec | None = None


@dataclass(frozen=True)
class Plan:
    """The runs of one setting of a study.

    Args:
        settings: The settings.
        root: The study's folder.
    """

    settings: Settings
    root: Path

    @property
    def tasks(self) -> dict[str, Task]:
        """All tasks by name."""
        return resolve(self.settings.tasks)

    def but(self, **changes: Any) -> "Plan":
        """The same with other settings."""
        return replace(self, settings=replace(self.settings, **changes))

    def split_at(self, network: str, block: int) -> "Plan":
        """The same with a network split at another block of its decoder."""
        net = self.settings.networks[network]
        changed = replace(net, backbone=with_arguments(net.backbone, split=block))
        return self.but(networks={**self.settings.networks, network: changed})

    def metric(self, reference: str) -> tuple[str, bool]:
        """The first metric of a task's kind, which decides, and whether higher is better.

        Args:
            reference: The task as a recipe names it.
        """
        task = next(iter(resolve([reference]).values()))
        name, found = next(iter(objective(task).metrics(task).items()))
        return name, bool(found.higher_is_better)

    def fit(self, network: str, case: Case, name: str, knobs: Knobs) -> Fit:
        """One method on one case.

        Args:
            network: The network's name.
            case: The case.
            name: The method's name.
            knobs: Its settings, none of them a grid.

        Raises:
            InputError: No such method, or a share that leaves nothing to train.
        """
        found, own = method(name, knobs), self.settings
        if found.alone:
            case = next(other for other in own.cases if other.primary == case.primary)
        metric, higher = self.metric(case.primary)
        task = next(iter(resolve([case.primary])))
        kept = {"monitor": f"val/{task}/{metric}", "mode": "max" if higher else "min"}
        case_name = case.primary if found.alone else f"{case.primary}<-{'+'.join(case.auxiliary)}"
        label = f"{case_name} {network} {in_words(knobs)}".strip()
        knobs = {**found.knobs, **knobs}
        if "pretrain" in knobs:
            share = knobs["pretrain"]
            rounds = round(own.steps * share / own.evaluations) if isinstance(share, float) else 0
            if not 0 < rounds < own.steps // own.evaluations:
                raise InputError(f"method {name!r}: pretrain is {share!r}, must be a share of the steps within 0 and 1")
            first = self._config(
                network, case.auxiliary, case, "auxiliary", rounds, {"monitor": "val/loss", "mode": "min"}
            )
            before = RunSpec("pretraining", label, first, self.root)
            config = self._config(
                network, [case.primary], case, found.streams, own.steps // own.evaluations - rounds, kept
            )
            config |= {"weights": str(before.folder), "weights_of": "backbone."}
            return Fit(RunSpec(name, label, config, self.root), before)
        tasks = [case.primary] if found.alone else [case.primary, *case.auxiliary]
        steps = knobs.get("auxiliary_steps", 1)
        if type(steps) is not int or steps < 1:
            raise InputError(f"method {name!r}: auxiliary_steps is {steps!r}, must be a whole number from 1 on")
        config = self._config(network, tasks, case, found.streams, own.steps // own.evaluations, kept, steps)
        config["trainer"]["callbacks"] = [*self.callbacks(name, case, knobs), *config["trainer"]["callbacks"]]
        return Fit(RunSpec(name, label, config, self.root))

    def callbacks(self, name: str, case: Case, knobs: Knobs) -> list[Spec]:
        """What makes a method more than plain training on its batches: one callback or none.

        Args:
            name: The method's name.
            case: The case.
            knobs: Its settings, none of them a grid.
        """
        found = method(name, knobs)
        if found.callback is None:
            return []
        primary, *auxiliary = resolve([case.primary, *case.auxiliary])
        told = {"primary": primary, "auxiliary": auxiliary} if found.directed else {}
        given = {key: value for key, value in knobs.items() if key not in (*found.knobs, "callback")}
        init_args = {**told, **found.arguments, **given}
        return [{"class_path": found.callback, "init_args": init_args}]

    def _config(
        self, network: str, tasks: Sequence[str], case: Case, streams: str, steps: int, kept: Spec, every: int = 1
    ) -> dict[str, Any]:
        """A run of ``evaluations`` epochs of so many steps, each of them followed by a validation."""
        own, net = self.settings, self.settings.networks[network]
        data = {
            "data": self._data(), "primary": case.primary, "auxiliary": list(case.auxiliary), "parallel": own.parallel,
            "streams": streams, "auxiliary_steps": every, "steps": steps, "seed": own.seed,
        }  # fmt: skip
        best = {"class_path": "lightning_taskonomy.callbacks.best.BestWeights", "init_args": kept}
        callbacks = [*own.trainer.get("callbacks", []), best]
        return fit_configuration(
            "lightning_taskonomy.modules.MultiTaskModule",
            network_arguments(tasks, net.backbone, net.heads),
            {"class_path": "lightning_taskonomy.data.ParallelLabels", "init_args": data},
            trainer={**QUIET, "max_epochs": own.evaluations, **own.trainer, "callbacks": callbacks},
            seed=own.seed,
            optimizer=own.optimizer,
            scheduler=own.scheduler,
        )

    def _data(self) -> Spec:
        """The data set; the seed decides the order of its batches and their augmentation."""
        return with_arguments(self.settings.data, seed=self.settings.seed)

    def test(self, run: RunSpec) -> Job:
        """The one test of a chosen run."""
        function = "lightning_taskonomy.training.evaluate"
        return Job("test", f"{run.kind} {run.name}", function, {"folder": str(run.folder)}, run.folder / "test.json")

    def prepared(self) -> list[Job]:
        """What the data module prepares once, a job per split."""
        jobs = []
        keys = keys_of(self.tasks.values())
        for split in ("train", "validation", "test"):
            done = self.root / "data" / f"{split}-{content_hash([self.settings.data, keys], self.root)}.json"
            kwargs = {"data": self._data(), "split": split, "keys": keys, "done": str(done)}
            jobs.append(Job("prepare", split, "lightning_taskonomy.studies.jobs.prepare", kwargs, done))
        return jobs
