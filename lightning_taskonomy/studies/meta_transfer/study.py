"""The Task Meta-Transfer study: every method on every case under one protocol (section 4 of the paper)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.meta_transfer.comparison import COLUMNS, INSTRUMENTS, SELECTION, read_comparison
from lightning_taskonomy.results import Results
from lightning_taskonomy.studies.base import Study, Table
from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.meta_transfer.checks import check_runs, check_trials
from lightning_taskonomy.studies.meta_transfer.factors import factors, variations
from lightning_taskonomy.studies.meta_transfer.methods import Knob
from lightning_taskonomy.studies.meta_transfer.plan import MetaTransferPlan
from lightning_taskonomy.studies.meta_transfer.selection import Expected, Selection, instruments, rows
from lightning_taskonomy.studies.meta_transfer.settings import MetaTransferSettings

__all__ = ["MetaTransferStudy"]


@dataclass(frozen=True)
class MetaTransferStudy(MetaTransferSettings, Study):
    """Does Task Meta-Transfer help, where, and against which baselines?

    Every method gets the same images, the same choice of those with primary labels, the same number of network steps
    and the same validations; each run ends with its best weights on the validation of its primary task. Settings of a
    method that are lists are chosen on the validation images of the first seed; the test images are read once, by what
    was chosen.

    Args:
        methods: What is compared, and the settings of each: ``primary_only``, ``transfer``, ``transfer_full``,
            ``mtl``, ``kendall``, ``du``, ``lin``, ``pcgrad``, ``cagrad``, ``mgda``, ``nash_mtl``, ``imtl_g``,
            ``aligned_mtl``, ``tmt``, ``tmt_identity``, ``tmt_full``, ``tmt_mean`` (cases of several auxiliary tasks),
            ``oracle``, or a name of your own with ``callback``. ``auxiliary_steps`` is k, ``pretrain`` the share of
            steps that Transfer Learning pretrains; all else goes to the method's callback. A list is a grid.
        trials: How many settings each method chooses from, ``primary_only`` and ``oracle`` aside: grids of another
            number are refused. None: what they have.
        seeds: Further seeds, with the settings chosen at the first: mean and interval of each cell.
        ranks: Ranks of the projection that are studied (Figure 3), on the first network.
        splits: Blocks of the decoder to split the first network at (Figure 5); its backbone has a ``split``.
        amounts: Shares or numbers of parallel images that are studied (Figure 4), on the first network.
        reselect: Whether settings are chosen again for each rank, block and amount; else those of the main study stay.
        factors: One factor at a time: per factor and label what differs from the settings above, by dotted paths:
            ``{length: {400: {steps: 400}, 1600: {steps: 1600}}, k: {1: {methods.*.auxiliary_steps: 1}}}``. ``*``
            stands for all methods that have the setting. Grids are chosen from anew.
        factor_methods: The methods of the factors; all where not given.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    methods: dict[str, dict[str, Knob] | None] = field(default_factory=dict)
    trials: int | None = None
    seeds: list[int] | None = None
    ranks: list[int] | None = None
    splits: list[int] | None = None
    amounts: list[int | float] | None = None
    reselect: bool = True
    factors: dict[str, dict[str, dict[str, Knob] | None]] | None = None
    factor_methods: list[str] | None = None
    checkpoint_seconds: float = 60.0

    report: ClassVar[str] = "lightning_taskonomy.reports.meta_transfer.MetaTransferReport"
    tables: ClassVar[Mapping[str, str]] = {"results": "results.csv", "selection": "selection.csv"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.methods:
            raise InputError("a study of Task Meta-Transfer needs at least one method")
        if len(set(self.all_seeds)) < len(self.all_seeds):
            raise InputError(f"seeds {self.all_seeds} repeat a seed; 'seeds' come in addition to 'seed'")
        for study, values in self.varied.items():
            for value in values:
                if not value > 0 or (study != "amount" and int(value) != value):
                    allowed = "shares below 1 or counts" if study == "amount" else "whole numbers from 1 on"
                    raise InputError(f"{study}s {list(values)}: {value} is not allowed; give {allowed}")
        check_trials(self.selection(Path(".")).methods, self.trials)
        check_runs(self.selections(Path(".")))

    @property
    def all_seeds(self) -> list[int]:
        """The first seed, by which settings are chosen, and the further ones."""
        return [self.seed, *(self.seeds or [])]

    @property
    def varied(self) -> dict[str, Sequence[float]]:
        """What figures 3 to 5 vary, and its values."""
        return {"rank": self.ranks or [], "split": self.splits or [], "amount": self.amounts or []}

    def selection(self, folder: Path) -> Selection:
        """The main study's cells, and which settings each takes."""
        settings = MetaTransferSettings(**{one.name: getattr(self, one.name) for one in fields(MetaTransferSettings)})
        return Selection(
            MetaTransferPlan(settings, folder), {name: knobs or {} for name, knobs in self.methods.items()}
        )

    def selections(self, folder: Path) -> dict[str, list[Selection]]:
        """All cells by the stage that fits them: of the main study, of its variations and of the factors."""
        main = self.selection(folder)
        return {
            "fits": [main],
            "variations": variations(main, self.varied, self.reselect),
            "factors": factors(main, self.factors or {}, self.factor_methods),
        }

    def stages(self, folder: Path) -> list[Stage]:
        """Fits, then what depends on their choice: further seeds, variations, factors, the test; see the base class."""
        selections = self.selections(folder)
        expected, stages = Expected(), [Stage(name="data", jobs=selections["fits"][0].plan.prepared)]
        for name, several in selections.items():
            for seeds in (self.all_seeds[:1], self.all_seeds[1:]):
                if not several or not seeds:
                    continue
                first = seeds[0] == self.seed
                waits = not first or any(one.kept for one in several)  # for the choice of an earlier stage
                counts = expected.runs(several, seeds, first)
                jobs = partial(self._fits, several, seeds, first)
                title = {"fits": "", "variations": " of variations", "factors": " of factors"}[name]
                stages.append(
                    Stage(
                        name=name,
                        title="" if first else f"further seeds{title}",
                        jobs=jobs,
                        expected=counts if waits else None,
                    )
                )
        whole = [one for several in selections.values() for one in several]
        tests = {"test": expected.tests(whole, self.all_seeds)}
        return [*stages, Stage(name="test", jobs=partial(self._tests, whole), expected=tests)]

    def _fits(self, selections: Sequence[Selection], seeds: Sequence[int], first: bool) -> list[Job]:
        """The runs of some selections: all candidates at the first seed, what was chosen at the others."""
        points = [
            point
            for one in selections
            for point in (
                [point for cell in one.cells() for point in one.candidates(cell)] if first else one.points(seeds)
            )
        ]
        return [job for point in points for job in point.plan.jobs(point.fit, self.checkpoint_seconds)]

    def _tests(self, selections: Sequence[Selection]) -> list[Job]:
        """Tests what was chosen, each run once."""
        points = [point for one in selections for point in one.points(self.all_seeds)]
        return [point.fit.run.test_job() for point in points if point.fit.run.is_done]

    def analyse(self, folder: Path) -> Iterator[tuple[str, Table | Any]]:
        """The validation of every candidate and the test of every chosen one; see the base class."""
        selections = self.selections(folder)
        points = [point for several in selections.values() for one in several for point in one.points(self.all_seeds)]
        if not points:
            raise InputError(f"{folder} holds no finished run; run stage 'fits' first, or see failures.json")
        yield "selection.csv", (SELECTION, selections["fits"][0].rows())
        yield "results.csv", (COLUMNS, rows(points))
        yield "instruments.csv", (INSTRUMENTS, instruments(points))

    def results(self, folder: Path) -> Results:
        """The mean of every cell, wins, and the tables; see the base class."""
        results = super().results(folder)
        if "results" in results.tables:
            comparison = read_comparison(folder)
            results.scalars = {f"{cell.place}/{cell.method}": cell.mean for cell in comparison.cells}
            if comparison.subject is not None:
                wins = comparison.wins()
                results.scalars |= {"cases": wins.cases, "tmt/best": wins.best, "tmt/second": wins.second}
            results.artifacts = {name: folder / f"{name}.csv" for name in results.tables}
        return results

    def probes(self, folder: Path) -> dict[str, Probe]:
        """Some cycles of each method at each length of training, timed; see the base class."""
        from lightning_taskonomy.studies.meta_transfer.estimate import probes

        return probes([one for several in self.selections(folder).values() for one in several])
