"""Which networks a Task Meta-Transfer study trains: settings in, runs out. Nothing is trained here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lightning_taskonomy.configurations import fit_configuration, network_arguments, with_arguments
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.modules.objectives import objective
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.meta_transfer.methods import Knobs, in_words, method
from lightning_taskonomy.studies.meta_transfer.settings import Case, MetaTransferSettings
from lightning_taskonomy.studies.runs import QUIET, RunSpec, prepare_jobs
from lightning_taskonomy.studies.specs import Spec
from lightning_taskonomy.tasks import Task, resolve, stored_keys_of

__all__ = ["Fit", "MetaTransferPlan"]


@dataclass(frozen=True)
class Fit:
    """One method with fixed settings on one case: the run, and the one that must be finished before it.

    Args:
        run: The run whose weights are validated and, if chosen, tested.
        before: The pretraining it starts from.
    """

    run: RunSpec
    before: RunSpec | None = None

    @property
    def runs(self) -> list[RunSpec]:
        """Both in their order."""
        return [self.run] if self.before is None else [self.before, self.run]


@dataclass(frozen=True)
class MetaTransferPlan:
    """The runs of one setting of a study.

    Args:
        settings: The settings.
        root: The study's folder.
    """

    settings: MetaTransferSettings
    root: Path

    @property
    def tasks(self) -> dict[str, Task]:
        """All tasks by name."""
        return resolve(self.settings.tasks)

    def jobs(self, fit: "Fit", checkpoint_seconds: float) -> list[Job]:
        """Fits a run once the data are prepared, after the pretraining it starts from."""
        prepared = [job.done[0] for job in self.prepared()]
        if fit.before is None:
            return [fit.run.job(checkpoint_seconds, test=False, needs=prepared)]
        before = fit.before.job(checkpoint_seconds, test=False, needs=prepared)
        return [before, fit.run.job(checkpoint_seconds, test=False, needs=[*prepared, fit.before.done])]

    def but(self, **changes: Any) -> "MetaTransferPlan":
        """The same with other settings."""
        return replace(self, settings=replace(self.settings, **changes))

    def split_at(self, network: str, block: int) -> "MetaTransferPlan":
        """The same with a network split at another block of its decoder."""
        net = self.settings.networks[network]
        changed = replace(net, backbone=with_arguments(net.backbone, split=block))
        return self.but(networks={**self.settings.networks, network: changed})

    def metric(self, reference: str) -> tuple[str, bool]:
        """The first metric of a task's kind, which decides, and whether higher is better.

        Args:
            reference: The task as a recipe names it.
        """
        return _metric(reference)

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
        tried, settings = method(name, knobs), self.settings
        if tried.alone:
            case = next(other for other in settings.pairs if other.primary == case.primary)
        case_name = case.primary if tried.alone else f"{case.primary}<-{'+'.join(case.auxiliary)}"
        label = f"{case_name} {network} {in_words(knobs)}".strip()
        knobs, epoch = {**tried.knobs, **knobs}, settings.steps // settings.evaluations
        if "pretrain" in knobs:
            rounds = self._rounds(name, knobs["pretrain"], epoch - 1 if tried.divides else epoch)
            first = self._config(network, case.auxiliary, case, "auxiliary", rounds, self._monitor(case.auxiliary))
            before = RunSpec("pretraining", label, first, self.root)
            rest = epoch - rounds if tried.divides else epoch
            config = self._config(network, [case.primary], case, tried.streams, rest, self._monitor([case.primary]))
            config |= {"weights": str(before.folder), "weights_of": "backbone."}
            return Fit(RunSpec(name, label, config, self.root), before)
        tasks = [case.primary] if tried.alone else [case.primary, *case.auxiliary]
        steps = knobs.get("auxiliary_steps", 1)
        if type(steps) is not int or steps < 1:
            raise InputError(f"method {name!r}: auxiliary_steps is {steps!r}, must be a whole number from 1 on")
        turns = {"auxiliary_steps": steps, **({"held_out": True} if knobs.get("meta_batch") == "held_out" else {})}
        config = self._config(network, tasks, case, tried.streams, epoch, self._monitor([case.primary]), turns)
        config["trainer"]["callbacks"] = [*self.callbacks(name, case, knobs), *config["trainer"]["callbacks"]]
        return Fit(RunSpec(name, label, config, self.root))

    def _monitor(self, references: Sequence[str]) -> Spec:
        """What decides which weights are kept: the metric of a task, or the loss of several."""
        if len(references) > 1:
            return {"monitor": "val/loss", "mode": "min"}
        metric, higher = self.metric(references[0])
        return {"monitor": f"val/{next(iter(resolve(references)))}/{metric}", "mode": "max" if higher else "min"}

    def _rounds(self, name: str, share: Any, most: int) -> int:
        """Steps of the pretraining between two validations."""
        rounds = round(self.settings.steps * share / self.settings.evaluations) if isinstance(share, float) else 0
        if not 0 < rounds <= most:
            raise InputError(
                f"method {name!r}: pretrain is {share!r}, must be a share of the steps by which pretraining gets 1 to "
                f"{most} of the steps between two validations"
            )
        return rounds

    def callbacks(self, name: str, case: Case, knobs: Knobs) -> list[Spec]:
        """What makes a method more than plain training on its batches: one callback or none.

        Args:
            name: The method's name.
            case: The case.
            knobs: Its settings, none of them a grid.
        """
        tried = method(name, knobs)
        if tried.callback is None:
            return []
        primary, *auxiliary = resolve([case.primary, *case.auxiliary])
        tasks = {"primary": primary, "auxiliary": auxiliary} if tried.directed else {}
        further = {key: value for key, value in knobs.items() if key not in (*tried.knobs, "callback")}
        probe = {"probe_every_n_steps": self.settings.steps // self.settings.evaluations} if tried.instruments else {}
        init_args = {**tasks, **tried.arguments, **probe, **further}
        return [{"class_path": tried.callback, "init_args": init_args}]

    def _config(
        self,
        network: str,
        tasks: Sequence[str],
        case: Case,
        streams: str,
        steps: int,
        kept: Spec,
        turns: Spec | None = None,
    ) -> dict[str, Any]:
        """A run of ``evaluations`` epochs of so many steps, each of them followed by a validation."""
        settings, net = self.settings, self.settings.networks[network]
        data = {
            "data": self._data(), "primary": case.primary, "auxiliary": list(case.auxiliary),
            "parallel": settings.parallel, "streams": streams, "steps": steps, "seed": settings.seed,
            **({"auxiliary_steps": 1} if turns is None else turns),
        }  # fmt: skip
        if settings.shuffled and streams in ("both", "auxiliary"):
            data["shuffled"] = True
        best = {"class_path": "lightning_taskonomy.callbacks.best.BestWeights", "init_args": kept}
        history = {"class_path": "lightning_taskonomy.callbacks.History"}
        callbacks = [*(settings.trainer or {}).get("callbacks", []), best, history]
        kinds = {name for task in resolve(tasks).values() for name in (task.name, task.kind.value)}
        heads = net.heads and {name: head for name, head in net.heads.items() if name in kinds}
        return fit_configuration(
            "lightning_taskonomy.modules.MultiTaskModule",
            network_arguments(tasks, net.backbone, heads or None),
            {"class_path": "lightning_taskonomy.data.ParallelLabels", "init_args": data},
            trainer={**QUIET, "max_epochs": settings.evaluations, **(settings.trainer or {}), "callbacks": callbacks},
            seed=settings.seed,
            optimizer=settings.optimizer,
            scheduler=settings.scheduler,
        )

    def _data(self) -> Spec:
        """The data set; the seed decides the order of its batches and their augmentation."""
        return with_arguments(self.settings.data, seed=self.settings.seed)

    def prepared(self) -> list[Job]:
        """What the data module prepares once, a job per split."""
        keys = stored_keys_of(self.tasks.values())
        return list(
            prepare_jobs(self._data(), dict.fromkeys(("train", "validation", "test"), keys), self.root).values()
        )


@cache
def _metric(reference: str) -> tuple[str, bool]:
    task = next(iter(resolve([reference]).values()))
    name, metric = next(iter(objective(task).metrics(task).items()))
    return name, bool(metric.higher_is_better)
