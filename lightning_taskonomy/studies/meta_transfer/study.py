"""The Task Meta-Transfer study: every method on every case under one protocol (section 4 of the paper)."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import write_csv
from lightning_taskonomy.reports import report
from lightning_taskonomy.reports.comparison import COLUMNS, SELECTION, read_comparison
from lightning_taskonomy.results import Results
from lightning_taskonomy.studies.base import Study, at_work, wanted
from lightning_taskonomy.studies.engine import Engine
from lightning_taskonomy.studies.meta_transfer.evidence import Point, Selection, rows
from lightning_taskonomy.studies.meta_transfer.methods import Knob, Knobs, candidates
from lightning_taskonomy.studies.meta_transfer.plan import Case, Network, Plan, Settings
from lightning_taskonomy.studies.specs import DataSpec, OptimizerSpec, SchedulerSpec
from lightning_taskonomy.tasks import resolve
from lightning_taskonomy.training import check, instantiate_callback, instantiate_data

__all__ = ["STAGES", "MetaTransferStudy"]

STAGES = ("data", "fits", "variations", "test", "report")
_VARIED = {"rank": ("tmt",), "split": ("transfer", "mtl", "tmt"), "amount": ("mtl", "tmt")}
"""The methods of figures 3, 5 and 4."""


class MetaTransferStudy(Study):
    """Does Task Meta-Transfer help, where, and against which baselines?

    Every method gets the same images, the same choice of those with primary labels, the same number of network steps
    and the same validations; each run ends with its best weights on the validation of its primary task. Settings of a
    method that are lists are chosen on the validation images of the first seed; the test images are read once, by what
    was chosen.

    Args:
        tasks: Names of the catalog or dotted paths.
        data: The data module's class and arguments.
        networks: Backbone and heads by name: ``{SplitVGG-3: {backbone: ..., heads: ...}}``.
        methods: What is compared, and the settings of each: ``primary_only``, ``transfer``, ``mtl``, ``kendall``,
            ``du``, ``lin``, ``pcgrad``, ``cagrad``, ``mgda``, ``nash_mtl``, ``imtl_g``, ``aligned_mtl``, ``tmt``,
            ``oracle``, or a name of your own with ``callback``. ``auxiliary_steps`` is k, ``pretrain`` the share of
            steps that Transfer Learning pretrains; all else goes to the method's callback. A list is a grid.
        cases: Primary tasks and those that help them; all ordered pairs of ``tasks`` where not given.
        steps: Network steps of every run.
        evaluations: Validations of every run, evenly apart; the schedule counts them as epochs.
        parallel: The share or number of training images with primary labels.
        optimizer: The optimizer's class and arguments.
        scheduler: The schedule's class and arguments; an epoch is what lies between two validations.
        trainer: Further arguments of every Trainer (precision, accelerator, ...).
        seed: Of weights, batches and the choice of parallel images.
        seeds: Further seeds, with the settings chosen at the first: mean and interval of each cell.
        ranks: Ranks of the projection that are studied (Figure 3), on the first network.
        splits: Blocks of the decoder to split the first network at (Figure 5); its backbone has a ``split``.
        amounts: Shares or numbers of parallel images that are studied (Figure 4), on the first network.
        workers: Worker processes.
        threads: Torch threads of each.
        checkpoint_seconds: The shortest time between two checkpoints of a run.

    Raises:
        InputError: A setting is wrong.
    """

    def __init__(
        self,
        tasks: list[str],
        data: DataSpec,
        networks: dict[str, Network],
        methods: dict[str, dict[str, Knob] | None],
        cases: list[Case] | None = None,
        steps: int = 2000,
        evaluations: int = 10,
        parallel: int | float = 0.1,
        optimizer: OptimizerSpec | None = None,
        scheduler: SchedulerSpec | None = None,
        trainer: dict[str, Any] | None = None,
        seed: int = 0,
        seeds: list[int] | None = None,
        ranks: list[int] | None = None,
        splits: list[int] | None = None,
        amounts: list[int | float] | None = None,
        workers: int = 2,
        threads: int = 1,
        checkpoint_seconds: float = 60.0,
    ) -> None:
        built = {name: Network(**net) if isinstance(net, dict) else net for name, net in networks.items()}  # a recipe
        pairs = [Case(primary, [other]) for primary in tasks for other in tasks if other != primary]
        given = [Case(**case) if isinstance(case, dict) else case for case in cases or pairs]
        self.settings = Settings(
            tuple(tasks),
            data,
            built,
            tuple(given),
            steps,
            evaluations,
            parallel,
            optimizer,
            scheduler,
            trainer or {},
            seed,
        )
        self.methods: dict[str, Knobs] = {name: knobs or {} for name, knobs in methods.items()}
        self.seeds = [seed, *(seeds or [])]
        self.varied: dict[str, Sequence[float]] = {"rank": ranks or [], "split": splits or [], "amount": amounts or []}
        self.workers, self.threads, self.checkpoint_seconds = workers, threads, checkpoint_seconds
        self._check()

    def _check(self) -> None:
        own, names = self.settings, resolve(self.settings.tasks)
        if len(names) < 2 or not own.networks or not self.methods:
            raise InputError("a study of Task Meta-Transfer needs two tasks, a network and a method")
        for case in own.cases:
            for task in (case.primary, *case.auxiliary):
                if task not in own.tasks:
                    raise InputError(f"a case names {task!r}, which is no task here{hint(task, own.tasks)}")
            if not case.auxiliary or len({case.primary, *case.auxiliary}) <= len(case.auxiliary):
                raise InputError(
                    f"case {case.primary!r} with {case.auxiliary}: give at least one auxiliary task, each once, and "
                    "none of them the primary one"
                )
        if own.evaluations < 1 or own.steps < own.evaluations or own.steps % own.evaluations:
            raise InputError(
                f"{own.steps} steps and {own.evaluations} evaluations: steps must be a multiple of evaluations"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds {self.seeds} name one twice; 'seeds' are further ones beside 'seed'")
        for study, values in self.varied.items():
            for value in values:
                if not value > 0 or (study != "amount" and int(value) != value):
                    allowed = "shares below 1 or counts" if study == "amount" else "whole numbers from 1 on"
                    raise InputError(f"{study}s {list(values)}: {value} is none; give {allowed}")
        self._check_runs()

    def _check_runs(self) -> None:
        """Refuses what no run can have, before hours of other runs; networks and training data are not made."""
        selection, own = self._selection(Path(".")), self.settings
        plan, network, case = selection.plan, next(iter(own.networks)), own.cases[0]

        def plain(plan: Plan, network: str = network, case: Case = case) -> dict[str, Any]:
            return plan.fit(network, case, "mtl", {}).run.config

        for cell in selection.cells():
            for point in selection.candidates(cell):
                _ = point.fit
        for name, knobs in self.methods.items():
            for spec in (spec for one in candidates(knobs) for spec in plan.callbacks(name, case, one)):
                with _about(f"method {name!r}"):
                    instantiate_callback(spec)
        for other in own.cases:
            instantiate_data(plain(plan, case=other)["data"])
        for amount in self.varied["amount"]:
            with _about("amounts"):
                instantiate_data(plain(plan.but(parallel=amount))["data"])
        for name in own.networks:
            with _about(f"network {name!r}"):
                check(plain(plan, name))
        for block in self.varied["split"]:
            with _about(f"splits of network {network!r}"):
                check(plain(plan.split_at(network, int(block))))

    # the study

    def run(self, out: Path, *, stages: list[str] | None = None, redo: bool = False) -> Results:
        """Does what is not done yet; see the base class."""
        chosen, out = wanted(stages, STAGES), Path(out)
        selection = self._selection(out)
        with at_work(out, self.workers, self.threads, redo) as engine:
            if "data" in chosen:
                jobs = selection.plan.prepared()
                if len(engine.run("data", jobs)) < len(jobs):
                    raise InputError(f"the data cannot be prepared: {engine.failures[-1].error}")
            if "fits" in chosen:
                cells = selection.cells()
                later = Counter({cell.method: len(self.seeds) - 1 for cell in cells})
                self._fit(engine, "fits", [point for cell in cells for point in selection.candidates(cell)], later)
                self._fit(engine, "further seeds", self._points(selection, self.seeds[1:]))
            if "variations" in chosen:
                self._fit(engine, "variations", self._variations(selection))
            if "test" in chosen:
                self._test(engine, selection)
            page = report(out) if "report" in chosen else None
            return self._results(out, page)

    def _selection(self, out: Path) -> Selection:
        return Selection(Plan(self.settings, out), self.methods)

    def _points(self, selection: Selection, seeds: Iterable[int]) -> list[Point]:
        """The chosen settings of every cell, at some seeds."""
        chosen = [selection.chosen(cell) for cell in selection.cells()]
        return [point.seeded(seed) for seed in seeds for point in chosen if point is not None]

    def _variations(self, selection: Selection) -> list[Point]:
        """The studies of rank, split and amount, with the settings chosen in the main one."""
        plan, network = selection.plan, next(iter(self.settings.networks))
        points = []
        for study, values in self.varied.items():
            for cell in selection.cells([name for name in _VARIED[study] if name in self.methods], network):
                point = selection.chosen(cell)
                for at in values if point is not None else ():
                    assert point is not None
                    changed, knobs = plan, point.knobs
                    if study == "rank":
                        knobs = {**knobs, "rank": at}
                    elif study == "split":
                        changed = plan.split_at(network, int(at))
                    else:
                        changed = plan.but(parallel=at)
                    points += [Point(changed, cell, knobs, study, at).seeded(seed) for seed in self.seeds]
        return points

    def _fit(
        self, engine: Engine, stage: str, points: Sequence[Point], later: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """Fits some points, pretraining first; what needs a pretraining that failed is left out."""
        fits = [point.fit for point in points]
        jobs = [(fit.run.job(self.checkpoint_seconds, test=False), fit.before) for fit in fits]
        before = [fit.before.job(self.checkpoint_seconds, test=False) for fit in fits if fit.before is not None]
        if before:
            engine.run(
                f"pretraining for {stage}", before, lambda: Counter(job.kind for job, _ in jobs) + Counter(later)
            )
        ready = [job for job, needs in jobs if needs is None or needs.job(0).is_done]
        if ready:
            engine.run(stage, ready, lambda: dict(later))

    def _test(self, engine: Engine, selection: Selection) -> None:
        """Tests what was chosen, each run once, and writes the tables."""
        points = [*self._points(selection, self.seeds), *self._variations(selection)]
        finished = [point for point in points if point.fit.run.job(0).is_done]
        if not finished:
            raise InputError(
                f"{selection.plan.root} holds no finished run; run stage 'fits' first, or see failures.json"
            )
        engine.run("test", [point.plan.test(point.fit.run) for point in finished])
        write_csv(selection.plan.root / "selection.csv", SELECTION, selection.rows())
        write_csv(selection.plan.root / "results.csv", COLUMNS, rows(points))

    def _results(self, out: Path, page: Path | None) -> Results:
        results = Results(report=page)
        if (out / "results.csv").is_file():
            found = read_comparison(out)
            for row in found.cells:
                results.scalars[f"{row.place}/{row.method}"] = row.mean
            if found.subject is not None:
                wins = found.wins()
                results.scalars |= {"cases": wins.cases, "tmt/best": wins.best, "tmt/second": wins.second}
            for name in ("results", "selection"):
                with (out / f"{name}.csv").open(newline="") as file:
                    header, *held = list(csv.reader(file))
                results.tables[name] = (header, held)
                results.artifacts[name] = out / f"{name}.csv"
        if page is not None:
            results.figures = {file.stem: file for file in sorted(page.parent.glob("*.png"))}
        return results

    def dry_run(self, out: Path) -> str:
        """Runs, expected time and disk; see the base class."""
        from lightning_taskonomy.studies.meta_transfer.estimate import estimate

        cells = len(self.settings.cases) * len(self.seeds)
        varied: Counter[str] = Counter()
        for study, values in self.varied.items():
            varied.update({name: len(values) * cells for name in _VARIED[study] if name in self.methods})
        return estimate(self._selection(Path(out)), self.seeds, varied, self.workers, self.threads)


@contextmanager
def _about(subject: str) -> Iterator[None]:
    """Says what was refused."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{subject}: {error}") from error
