"""Which networks a study of transfer chains trains: settings in, runs and jobs out. Nothing is trained here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_taskonomy.affinity.chains import FIRST_LINK, ChainKind, Setting, on_top
from lightning_taskonomy.configurations import (
    fit_configuration,
    network_arguments,
    untrained_backbone,
    with_arguments,
)
from lightning_taskonomy.reports.reading import read_values
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.influence.images import colour_jobs, preparations
from lightning_taskonomy.studies.influence.settings import (
    SCRATCH,
    ChainTask,
    ImageSet,
    InfluenceSettings,
    Training,
)
from lightning_taskonomy.studies.runs import QUIET, RunSpec
from lightning_taskonomy.studies.specs import Spec

__all__ = ["InfluencePlan", "PlannedChain"]

_MULTITASK = "lightning_taskonomy.modules.MultiTaskModule"
_MULTI_SOURCE = "lightning_taskonomy.modules.MultiSourceModule"
_MULTI_SOURCE_DATA = "lightning_taskonomy.data.MultiSourceData"


@dataclass(frozen=True)
class PlannedChain:
    """The last link of a chain: a target from the backbone of a source.

    Args:
        target: ``set/type``.
        source: ``set/type``, the name of a model of several sources, ``imagenet`` for the first link alone, or
            ``scratch``.
        setting: How many images source and target are trained on.
    """

    target: str
    source: str
    setting: Setting

    @property
    def kind(self) -> ChainKind:
        """What it is in the table of chains."""
        kinds: dict[str, ChainKind] = {FIRST_LINK: "pretrained", SCRATCH: "scratch"}
        return kinds.get(self.source, "chain")


@dataclass(frozen=True)
class InfluencePlan:
    """The runs of a study under one seed.

    Args:
        settings: The settings.
        root: The study's folder.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
        base: The plan whose learning rates are kept; None to select here.
    """

    settings: InfluenceSettings
    root: Path
    checkpoint_seconds: float = 60.0
    base: "InfluencePlan | None" = None

    def seeded(self, seed: int) -> "InfluencePlan":
        """The same targets with another seed, at the learning rates that were selected here."""
        return replace(self, settings=self.settings.but(seed=seed), base=self)

    @property
    def tasks(self) -> dict[str, ChainTask]:
        """The tasks by name, but those that are neither target nor source."""
        return dict(self.settings.used)

    @cached_property
    def targets(self) -> list[str]:
        """The targets."""
        names = [name for name, task in self.tasks.items() if not task.is_self_supervised]
        return list(self.settings.targets or names)

    @cached_property
    def sources(self) -> list[str]:
        """The sources of one data set."""
        return list(self.settings.sources or self.tasks)

    def chains(self) -> list[PlannedChain]:
        """All chains: from scratch, from the first link alone, and from each source that is not the target.

        A model of several sources is not judged on a target that it was trained on (section 5.2).
        """
        several = self.settings.multi_source or {}
        chains = []
        for setting in self.settings.settings:
            for target in self.targets:
                starts = [FIRST_LINK, *([SCRATCH] if self.settings.scratch else [])]
                repeats = setting == "small_source" and "small" in self.settings.settings  # the same networks
                names = [*([] if repeats else starts), *(name for name in self.sources if name != target)]
                if setting != "small_source":
                    names += [name for name, parts in several.items() if target not in parts]
                chains += [PlannedChain(target, name, setting) for name in names]
        return chains

    # data

    def _data(self, task: ChainTask, size: int | None) -> Spec:
        """Training images, some of which decide the learning rate; of a small set they come on top."""
        share, seed = self.settings.validation_share, self.settings.seed
        more: dict[str, Any] = {} if task.training.batch_size is None else {"batch_size": task.training.batch_size}
        if size is not None:
            kept = on_top(size, share)
            size, share = size + kept, kept / (size + kept)
        data = self.normalised(task.set_name, task.images)
        return with_arguments(data, fit_size=size, validation_share=share, seed=seed, **more)

    def normalised(self, name: str, images: ImageSet) -> Spec:
        """The data module of a data set, normalised by what is measured of its colours."""
        job = self.colours.get(name)
        return images.data if job is None else with_arguments(images.data, normalise=str(job.done[0]))

    @cached_property
    def _prepared(self) -> dict[tuple[str, str], Job]:
        return preparations(self.settings, self.root)

    @cached_property
    def colours(self) -> dict[str, Job]:
        """The measurement of each data set's colours, of those that are normalised by it."""
        return colour_jobs(self.settings, self._prepared, self.root)

    def prepared(self) -> list[Job]:
        """What data modules prepare once, and what is measured of their colours."""
        return list({job.done: job for job in (*self._prepared.values(), *self.colours.values())}.values())

    def prepared_images(self, task: ChainTask) -> Path:
        """The file that says how many images there are to train on, once they are prepared."""
        return self._prepared[task.set_name, "fit"].done[0]

    # networks

    def _run(
        self, kind: str, name: str, task: ChainTask, data: Spec, steps: int, rate: float, start: RunSpec | str
    ) -> RunSpec:
        """A network of one task.

        Args:
            kind: The run's kind.
            name: What a person calls it.
            task: The task.
            data: What it is trained on.
            steps: Optimizer steps.
            rate: The learning rate.
            start: The run whose backbone it starts from, ``imagenet`` for the backbone as the recipe has it, or
                ``scratch``.
        """
        backbone = self._backbone(start)
        if task.is_self_supervised:
            module, arguments = task.reference, {"backbone": backbone}
        else:
            module, arguments = _MULTITASK, network_arguments([task.reference], backbone, self._heads([task]))
        config = self._config(module, arguments, data, task.training, steps, rate, start)
        return RunSpec(kind, name, config, self.root)

    def from_scratch(self, task: ChainTask) -> RunSpec:
        """A network of a task from random weights, on all its images."""
        data, steps, rate = self._data(task, None), task.training.steps, task.training.rates[0]
        return self._run("scratch", task.name, task, data, steps, rate, SCRATCH)

    def _multi_source(self, label: str, name: str, rate: float, start: RunSpec | str) -> RunSpec:
        """A network of several sources, trained for the steps of all of them."""
        tasks = [self.tasks[part] for part in (self.settings.multi_source or {})[name]]
        by_name = {task.name.replace("/", "_"): task for task in tasks}
        arguments = {
            "tasks": {key: task.reference for key, task in by_name.items()}, "backbone": self._backbone(start),
            **({"heads": heads} if (heads := self._heads(tasks)) else {}),
        }  # fmt: skip
        batch = tasks[0].training.batch_size
        init_args = {
            "sources": {key: self._data(task, None) for key, task in by_name.items()}, "seed": self.settings.seed,
            **({} if batch is None else {"batch_size": batch}),
        }  # fmt: skip
        data, steps = {"class_path": _MULTI_SOURCE_DATA, "init_args": init_args}, sum(t.training.steps for t in tasks)
        config = self._config(_MULTI_SOURCE, arguments, data, tasks[0].training, steps, rate, start)
        return RunSpec("multi_source", label, config, self.root)

    def _backbone(self, start: RunSpec | str) -> Spec:
        backbone = self.settings.backbone if start == FIRST_LINK else untrained_backbone(self.settings.backbone)
        return with_arguments(backbone, normalises=False) if self.settings.normalise else backbone

    def _heads(self, tasks: Sequence[ChainTask]) -> dict[str, Spec] | None:
        kinds = {name for task in tasks for name in (task.task.name, task.task.kind.value)}
        return {key: head for key, head in (self.settings.heads or {}).items() if key in kinds} or None

    def _config(
        self,
        model: str,
        arguments: Mapping[str, Any],
        data: Spec,
        training: Training,
        steps: int,
        rate: float,
        start: RunSpec | str,
    ) -> dict[str, Any]:
        """A fit of so many steps that is validated at its end."""
        trainer = {**QUIET, "max_steps": steps, "max_epochs": -1, "check_val_every_n_epoch": steps + 1}
        config = fit_configuration(
            model,
            arguments,
            data,
            trainer={**trainer, **(self.settings.trainer or {})},
            seed=self.settings.seed,
            optimizer=with_arguments(training.optimizer or {"class_path": "torch.optim.AdamW"}, lr=rate),
            scheduler=_schedule(training.decay, training.milestones, steps),
            scheduler_interval="step",
        )
        if isinstance(start, RunSpec):
            config |= {"weights": str(start.folder), "weights_of": "backbone."}
        return config

    def firsts(self) -> dict[float, RunSpec]:
        """The first link at each of its learning rates; none where the backbone's own weights are it."""
        task = self.settings.first_task
        if task is None:
            return {}
        data, steps = self._data(task, None), task.training.steps
        name = f"{task.name} {{:g}}"
        return {
            rate: self._run("pretrained", name.format(rate), task, data, steps, rate, SCRATCH)
            for rate in task.training.rates
        }

    def source_runs(self, name: str, setting: Setting) -> dict[float, RunSpec]:
        """A source at each of its learning rates, from the first link; the same under all seeds."""
        if self.base is not None:
            return self.base.source_runs(name, setting)
        limited, start = setting == "small_source", self.start(FIRST_LINK, setting)
        label = "small source {} {:g}" if limited else "{} {:g}"
        if name not in self.tasks:
            rates = self.tasks[(self.settings.multi_source or {})[name][0]].training.rates
            return {rate: self._multi_source(label.format(name, rate), name, rate, start) for rate in rates}
        task = self.tasks[name]
        data, steps = self._data(task, self.settings.source_limit if limited else None), task.training.steps
        return {
            rate: self._run("source", label.format(name, rate), task, data, steps, rate, start)
            for rate in task.training.rates
        }

    def start(self, source: str, setting: Setting) -> RunSpec | str:
        """Where a chain starts: the run whose backbone it takes, or ``imagenet`` or ``scratch``.

        Args:
            source: As in :class:`PlannedChain`.
            setting: As there.
        """
        if self.base is not None:
            return self.base.start(source, setting)
        if source == SCRATCH:
            return SCRATCH
        if source == FIRST_LINK:
            return self.selected(self.firsts(), self.settings.first_task) if self.settings.first_task else FIRST_LINK
        return self.source_run(source, setting)

    def chain_runs(self, chain: PlannedChain) -> dict[float, RunSpec]:
        """A target at each of its learning rates; under a further seed at the one that the first selected."""
        task = self.tasks[chain.target]
        training, is_full = task.training, chain.setting == "full"
        size = None if is_full else task.images.small or self.settings.small
        data, steps = self._data(task, size), training.steps if is_full else training.small_steps
        start, label = self.start(chain.source, chain.setting), f"{chain.target}<-{chain.source} {chain.setting}"
        rates = training.rates
        if self.base is not None:
            runs = self.base.chain_runs(chain)
            kept = self.base.selected(runs, task)
            rates = [rate for rate, run in runs.items() if run == kept]
        return {rate: self._run("chain", f"{label} {rate:g}", task, data, steps, rate, start) for rate in rates}

    def selected(self, runs: Mapping[float, RunSpec], task: ChainTask | None) -> RunSpec:
        """The run of the learning rate that is best on validation images, as far as runs are finished.

        Args:
            runs: A network at each learning rate.
            task: Its task; None of several sources, whose summed loss decides.
        """
        key, higher = ("val/loss", False) if task is None else (task.logged("val"), task.metric[1])
        values = {rate: read_values(run.done, key)[0] for rate, run in runs.items() if run.is_done}
        if not values:
            return next(iter(runs.values()))
        return runs[(max if higher else min)(values, key=lambda rate: values[rate])]

    # jobs

    def fits(self, runs: Iterable[RunSpec], starts: Iterable[RunSpec | str]) -> list[Job]:
        """Fits some runs once their data are prepared and what each starts from is trained."""
        needs = [job.done[0] for job in self.prepared()]
        return [
            run.job(self.checkpoint_seconds, test=False, needs=[*needs, *_done(start)])
            for run, start in zip(runs, starts, strict=True)
        ]

    def first_jobs(self) -> list[Job]:
        """The first link at each of its learning rates."""
        runs = list(self.firsts().values())
        return self.fits(runs, [SCRATCH] * len(runs))

    def source_jobs(self) -> list[Job]:
        """All sources that a chain starts from, at each of their learning rates."""
        start = self.start(FIRST_LINK, "small")
        jobs = []
        for name, setting in self.trained_sources():
            runs = self.source_runs(name, setting).values()
            jobs += self.fits(runs, [start] * len(runs))
        return jobs

    def trained_sources(self) -> list[tuple[str, Setting]]:
        """The sources that chains start from; ``small`` and ``full`` have the same."""
        settings: dict[Setting, Setting] = {"small_source": "small_source", "small": "full", "full": "full"}
        pairs = [(chain.source, settings[chain.setting]) for chain in self.chains() if chain.kind == "chain"]
        return list(dict.fromkeys(pairs))

    def chain_jobs(self) -> list[Job]:
        """All targets from all their starts, at each of their learning rates."""
        jobs = []
        for chain in self.chains():
            runs = self.chain_runs(chain).values()
            jobs += self.fits(runs, [self.start(chain.source, chain.setting)] * len(runs))
        return jobs

    def test_jobs(self) -> list[Job]:
        """The one test of each target, at the learning rate that was selected."""
        return [run.test_job() for chain in self.chains() if (run := self.kept(chain)).is_done]

    def source_run(self, name: str, setting: Setting) -> RunSpec:
        """The run of a source that was selected on validation images."""
        return self.selected(self.source_runs(name, setting), self.tasks.get(name))

    def kept(self, chain: PlannedChain) -> RunSpec:
        """The run of a chain that was selected on validation images."""
        return self.selected(self.chain_runs(chain), self.tasks[chain.target])


def _done(start: RunSpec | str) -> list[Path]:
    return [start.done] if isinstance(start, RunSpec) else []


def _schedule(decay: str, milestones: Sequence[float], steps: int) -> Spec:
    """The schedule of a fit of so many steps."""
    if decay == "poly":
        options: dict[str, Any] = {"total_iters": steps, "power": 0.9}
        return {"class_path": "torch.optim.lr_scheduler.PolynomialLR", "init_args": options}
    options = {"milestones": [max(1, round(share * steps)) for share in milestones], "gamma": 0.1}
    return {"class_path": "torch.optim.lr_scheduler.MultiStepLR", "init_args": options}
