"""What the finished runs of a Task Meta-Transfer study say, as rows of plain data."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_taskonomy.callbacks.history import HISTORY
from lightning_taskonomy.studies.meta_transfer.methods import Knobs, Method, candidates, in_words, method
from lightning_taskonomy.studies.meta_transfer.plan import Fit, MetaTransferPlan
from lightning_taskonomy.studies.meta_transfer.settings import Case
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.tasks import resolve

__all__ = ["MAIN", "VARIED", "Cell", "Expected", "Point", "Selection", "instruments", "rows"]

MAIN = "main"
"""The study of all methods on all cases, by the name that ``results.csv`` has for it."""

_CONTROLLED = ("mtl", "lin", "tmt", "tmt_identity")
VARIED = {"rank": ("tmt",), "split": ("transfer", *_CONTROLLED), "amount": _CONTROLLED}
"""The methods of figures 3, 5 and 4, with the controls ``lin`` and ``tmt_identity``."""


@dataclass(frozen=True)
class Cell:
    """A method on a case with a network: a cell of the tables."""

    network: str
    case: Case
    method: str

    def names(self, alone: bool = False) -> tuple[str, str]:
        """Names of the primary task and of the auxiliary ones, joined by ``+``."""
        (primary,) = resolve([self.case.primary])
        return primary, "" if alone else "+".join(resolve(self.case.auxiliary))


@dataclass(frozen=True)
class Point:
    """A cell with fixed settings in one study at one value: what is fitted and, once, tested."""

    plan: MetaTransferPlan
    cell: Cell
    knobs: Knobs
    study: str = MAIN
    at: float | str = ""

    @property
    def fit(self) -> Fit:
        """Its run."""
        return self.plan.fit(self.cell.network, self.cell.case, self.cell.method, self.knobs)

    def seeded(self, seed: int) -> "Point":
        """The same with another seed."""
        return replace(self, plan=self.plan.but(seed=seed))

    def row(self) -> list[Any]:
        """Its row of ``results.csv``; ``reports.meta_transfer.comparison.COLUMNS`` is the order."""
        run = self.fit.run
        metric, higher = self.plan.metric(self.cell.case.primary)
        fitted, tested = _read(run, "metrics.json"), _read(run, "test.json")
        primary, auxiliary = self.cell.names(method(self.cell.method, self.knobs).alone)
        return [
            self.study, self.at, self.cell.network, primary, auxiliary, self.cell.method,
            in_words(self.knobs), self.plan.settings.seed, metric, int(higher), fitted[f"val/{primary}/{metric}"],
            tested[f"test/{primary}/{metric}"], fitted["seconds"],
        ]  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """Which settings each cell takes: the best on the validation images of the first seed. Tests are never read.

    Args:
        plan: The plan of the first seed.
        methods: The settings of each method, some of them grids.
        study: ``main``, ``rank``, ``split``, ``amount`` or a factor.
        at: The value or label of the latter.
        network: The only network; all of the plan where not given.
        kept: The selection whose choices are kept, so that nothing is chosen here; None to choose.
        fixed: Settings of all methods beside what is kept.
    """

    plan: MetaTransferPlan
    methods: Mapping[str, Knobs]
    study: str = MAIN
    at: float | str = ""
    network: str | None = None
    kept: "Selection | None" = None
    fixed: Knobs = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """All methods on all cases with all networks."""
        settings = self.plan.settings
        networks = settings.networks if self.network is None else [self.network]
        cells = [Cell(net, case, name) for net in networks for case in settings.pairs for name in self.methods]
        return [one for one in cells if len(one.case.auxiliary) > 1 or not self._tried(one.method).several]

    def candidates(self, cell: Cell) -> list[Point]:
        """The settings that a cell chooses from; where a choice is kept, that one once it is made."""
        if self.kept is None:
            return [self._point(cell, knobs) for knobs in candidates(self.methods[cell.method])]
        best = self.kept.best(cell)
        return [] if best is None else [self._point(cell, {**best.knobs, **self.fixed})]

    def best(self, cell: Cell) -> Point | None:
        """The best of them that is finished, the first of equals; None if none is."""
        points = self.candidates(cell)
        finished = [point for point in points if point.fit.run.is_done]
        if len(points) == 1 or not finished:
            return finished[0] if finished else None
        higher = self.plan.metric(cell.case.primary)[1]
        return (max if higher else min)(finished, key=self._validation)

    def expected(self, cell: Cell) -> Point:
        """What will be chosen as far as that is known: the best so far, else the first candidate."""
        return self.best(cell) or self._point(cell, {**candidates(self.methods[cell.method])[0], **self.fixed})

    def points(self, seeds: Iterable[int]) -> list[Point]:
        """The chosen settings of every cell, at some seeds."""
        best = [self.best(cell) for cell in self.cells()]
        return [point.seeded(seed) for seed in seeds for point in best if point is not None]

    def _point(self, cell: Cell, knobs: Knobs) -> Point:
        return Point(self.plan, cell, knobs, self.study, self.at)

    def _tried(self, name: str) -> Method:
        return method(name, self.methods[name])

    def rows(self) -> list[list[Any]]:
        """The rows of ``selection.csv``, a cell whose run serves several cases once; ``SELECTION`` is their order."""
        table: dict[tuple[str, ...], list[Any]] = {}
        for cell in self.cells():
            best = self.best(cell)
            for point in self.candidates(cell):
                run = point.fit.run
                names = cell.names(method(cell.method, point.knobs).alone)
                value = self._validation(point) if run.is_done else ""
                key = (cell.network, *names, cell.method, in_words(point.knobs))
                table[key] = [*key, value, int(best is not None and best.knobs == point.knobs)]
        return list(table.values())

    def _validation(self, point: Point) -> float:
        (task,) = resolve([point.cell.case.primary])
        value = _read(point.fit.run, "metrics.json")[f"val/{task}/{self.plan.metric(point.cell.case.primary)[0]}"]
        return float(value)


class Expected:
    """How many runs and tests are to come, as far as that is known before choices are made; each run counts once."""

    def __init__(self) -> None:
        self._planned: set[Path] = set()

    def runs(self, selections: Iterable[Selection], seeds: Sequence[int], candidates: bool) -> Counter[str]:
        """The runs of each kind that are not done.

        Args:
            selections: What chooses.
            seeds: The seeds.
            candidates: Whether all that is chosen from is fitted, not only what is chosen.
        """
        counts: Counter[str] = Counter()
        for one in selections:
            for cell in one.cells():
                points = (one.candidates(cell) if candidates else []) or [one.expected(cell)]
                for fit in (point.seeded(seed).fit for seed in seeds for point in points):
                    for run in fit.runs:
                        if run.folder not in self._planned:
                            self._planned.add(run.folder)
                            counts[run.kind] += not run.is_done
        return +counts

    def tests(self, selections: Iterable[Selection], seeds: Sequence[int]) -> int:
        """The runs that are chosen but not tested.

        Args:
            selections: What chooses.
            seeds: The seeds.
        """
        points = [one.expected(cell) for one in selections for cell in one.cells()]
        folders = {point.seeded(seed).fit.run.folder for seed in seeds for point in points}
        return sum(not (folder / "test.json").is_file() for folder in folders)


def rows(points: Sequence[Point]) -> list[list[Any]]:
    """The rows of the tested among some points, each once."""
    tested = [point for point in points if (point.fit.run.folder / "test.json").is_file()]
    return list({tuple(row[:8]): row for row in (point.row() for point in tested)}.values())


def instruments(points: Sequence[Point]) -> list[list[Any]]:
    """The rows of ``instruments.csv``: what the tested among some points logged at their validations, each once.

    ``reports.meta_transfer.comparison.INSTRUMENTS`` is their order.
    """
    table: dict[tuple[Any, ...], list[Any]] = {}
    for point in points:
        folder = point.fit.run.folder
        if not (folder / "test.json").is_file() or not (folder / HISTORY).is_file():
            continue
        keys = point.row()[:8]
        for entry in json.loads((folder / HISTORY).read_text()):
            for name, value in entry.items():
                if name.startswith("meta/") and value is not None:
                    row = [*keys, entry["step"], name.removeprefix("meta/"), value]
                    table[tuple(row[:-1])] = row
    return list(table.values())


def _read(run: RunSpec, name: str) -> dict[str, float]:
    return dict(json.loads((run.folder / name).read_text()))
