"""What the finished runs of a Task Meta-Transfer study say, as rows of plain data."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightning_taskonomy.studies.meta_transfer.methods import Knobs, candidates, in_words, method
from lightning_taskonomy.studies.meta_transfer.plan import Fit, MetaTransferPlan
from lightning_taskonomy.studies.meta_transfer.settings import Case
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.tasks import resolve

__all__ = ["VARIED", "Cell", "Point", "Selection", "rows"]

VARIED = {"rank": ("tmt",), "split": ("transfer", "mtl", "tmt"), "amount": ("mtl", "tmt")}
"""The methods of figures 3, 5 and 4."""


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
    study: str = "main"
    at: float | None = None

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
            self.study, "" if self.at is None else self.at, self.cell.network, primary, auxiliary, self.cell.method,
            in_words(self.knobs), self.plan.settings.seed, metric, int(higher), fitted[f"val/{primary}/{metric}"],
            tested[f"test/{primary}/{metric}"], fitted["seconds"],
        ]  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """Which settings each cell takes: the best on the validation images of the first seed. Tests are never read.

    Args:
        plan: The plan of the first seed.
        methods: The settings of each method, some of them grids.
    """

    plan: MetaTransferPlan
    methods: Mapping[str, Knobs]

    def cells(self, methods: Iterable[str] | None = None, network: str | None = None) -> list[Cell]:
        """All methods on all cases with all networks, or some of them."""
        settings = self.plan.settings
        networks = settings.networks if network is None else [network]
        names = self.methods if methods is None else methods
        return [Cell(net, case, name) for net in networks for case in settings.pairs for name in names]

    def candidates(self, cell: Cell) -> list[Point]:
        """The settings that a cell chooses from."""
        return [Point(self.plan, cell, knobs) for knobs in candidates(self.methods[cell.method])]

    def best(self, cell: Cell) -> Point | None:
        """The best of them that is finished, the first of equals; None if none is."""
        points = self.candidates(cell)
        finished = [point for point in points if point.fit.run.is_done]
        if len(points) == 1 or not finished:
            return finished[0] if finished else None
        higher = self.plan.metric(cell.case.primary)[1]
        return (max if higher else min)(finished, key=self._validation)

    def runs(self) -> Counter[str]:
        """Different runs per method at one seed, once settings are chosen."""
        runs = {self.candidates(cell)[0].fit.run.folder: cell.method for cell in self.cells()}
        return Counter(runs.values())

    def points(self, seeds: Iterable[int]) -> list[Point]:
        """The chosen settings of every cell, at some seeds."""
        best = [self.best(cell) for cell in self.cells()]
        return [point.seeded(seed) for seed in seeds for point in best if point is not None]

    def variations(self, varied: Mapping[str, Sequence[float]], seeds: Sequence[int]) -> list[Point]:
        """The studies of rank, split and amount on the first network, with the settings chosen in the main one.

        Args:
            varied: The values of each.
            seeds: The seeds of each value.
        """
        network = next(iter(self.plan.settings.networks))
        points = []
        for study, values in varied.items():
            for cell in self.cells([name for name in VARIED[study] if name in self.methods], network):
                point = self.best(cell)
                for at in values if point is not None else ():
                    assert point is not None
                    changed, knobs = self.plan, point.knobs
                    if study == "rank":
                        knobs = {**knobs, "rank": at}
                    elif study == "split":
                        changed = self.plan.split_at(network, int(at))
                    else:
                        changed = self.plan.but(parallel=at)
                    points += [Point(changed, cell, knobs, study, at).seeded(seed) for seed in seeds]
        return points

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


def rows(points: Sequence[Point]) -> list[list[Any]]:
    """The rows of the tested among some points, each once."""
    tested = [point for point in points if (point.fit.run.folder / "test.json").is_file()]
    return list({tuple(row[:8]): row for row in (point.row() for point in tested)}.values())


def _read(run: RunSpec, name: str) -> dict[str, float]:
    return dict(json.loads((run.folder / name).read_text()))
