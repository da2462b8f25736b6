"""The Task Meta-Transfer study: every method on every case under one protocol (section 4 of the paper)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.meta_transfer.comparison import COLUMNS, SELECTION, read_comparison
from lightning_taskonomy.results import Results
from lightning_taskonomy.studies.base import Study, Table
from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.meta_transfer.checks import check_runs
from lightning_taskonomy.studies.meta_transfer.methods import Knob
from lightning_taskonomy.studies.meta_transfer.plan import MetaTransferPlan
from lightning_taskonomy.studies.meta_transfer.selection import VARIED, Selection, rows
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
        methods: What is compared, and the settings of each: ``primary_only``, ``transfer``, ``mtl``, ``kendall``,
            ``du``, ``lin``, ``pcgrad``, ``cagrad``, ``mgda``, ``nash_mtl``, ``imtl_g``, ``aligned_mtl``, ``tmt``,
            ``oracle``, or a name of your own with ``callback``. ``auxiliary_steps`` is k, ``pretrain`` the share of
            steps that Transfer Learning pretrains; all else goes to the method's callback. A list is a grid.
        seeds: Further seeds, with the settings chosen at the first: mean and interval of each cell.
        ranks: Ranks of the projection that are studied (Figure 3), on the first network.
        splits: Blocks of the decoder to split the first network at (Figure 5); its backbone has a ``split``.
        amounts: Shares or numbers of parallel images that are studied (Figure 4), on the first network.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    methods: dict[str, dict[str, Knob] | None] = field(default_factory=dict)
    seeds: list[int] | None = None
    ranks: list[int] | None = None
    splits: list[int] | None = None
    amounts: list[int | float] | None = None
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
        check_runs(self.selection(Path(".")), self.varied)

    @property
    def all_seeds(self) -> list[int]:
        """The first seed, by which settings are chosen, and the further ones."""
        return [self.seed, *(self.seeds or [])]

    @property
    def varied(self) -> dict[str, Sequence[float]]:
        """What figures 3 to 5 vary, and its values."""
        return {"rank": self.ranks or [], "split": self.splits or [], "amount": self.amounts or []}

    def selection(self, folder: Path) -> Selection:
        """The study's cells, and which settings each takes."""
        settings = MetaTransferSettings(**{one.name: getattr(self, one.name) for one in fields(MetaTransferSettings)})
        return Selection(
            MetaTransferPlan(settings, folder), {name: knobs or {} for name, knobs in self.methods.items()}
        )

    def stages(self, folder: Path) -> list[Stage]:
        """Fits, then what depends on their choice: further seeds, variations, the test; see the base class."""
        selection = self.selection(folder)
        plan, cells = selection.plan, selection.cells()
        first = [point for cell in cells for point in selection.candidates(cell)]
        seeds = Counter({name: n * (len(self.all_seeds) - 1) for name, n in selection.runs().items()})
        varied: Counter[str] = Counter()
        for study, values in self.varied.items():
            for name in VARIED[study]:
                varied[name] += len(values) * len(plan.settings.pairs) * len(self.all_seeds) * (name in self.methods)
        tests = {"test": sum(selection.runs().values()) * len(self.all_seeds) + varied.total()}
        stages = [
            Stage(name="data", jobs=plan.prepared),
            Stage(name="fits", jobs=partial(self._fits, lambda: first)),
        ]
        if self.seeds:
            further = partial(self._fits, partial(selection.points, self.seeds))
            stages.append(Stage(name="fits", title="further seeds", jobs=further, expected=+seeds))
        if varied.total():
            variations = partial(self._fits, partial(selection.variations, self.varied, self.all_seeds))
            stages.append(Stage(name="variations", jobs=variations, expected=+varied))
        return [*stages, Stage(name="test", jobs=partial(self._tests, selection), expected=tests)]

    def _fits(self, points: Any) -> list[Job]:
        return [job for point in points() for job in point.plan.jobs(point.fit, self.checkpoint_seconds)]

    def _tests(self, selection: Selection) -> list[Job]:
        """Tests what was chosen, each run once."""
        points = [*selection.points(self.all_seeds), *selection.variations(self.varied, self.all_seeds)]
        return [point.fit.run.test_job() for point in points if point.fit.run.is_done]

    def analyse(self, folder: Path) -> Iterator[tuple[str, Table | Any]]:
        """The validation of every candidate and the test of every chosen one; see the base class."""
        selection = self.selection(folder)
        points = [*selection.points(self.all_seeds), *selection.variations(self.varied, self.all_seeds)]
        if not points:
            raise InputError(f"{folder} holds no finished run; run stage 'fits' first, or see failures.json")
        yield "selection.csv", (SELECTION, selection.rows())
        yield "results.csv", (COLUMNS, rows(points))

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
        """Some cycles of each method, timed; see the base class."""
        from lightning_taskonomy.studies.meta_transfer.estimate import probes

        return probes(self.selection(folder))
