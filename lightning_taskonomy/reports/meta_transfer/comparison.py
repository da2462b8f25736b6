"""What a Task Meta-Transfer study measured: every method on every case, with the spread over seeds."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from lightning_taskonomy.affinity.intervals import half_width
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.reading import read_rows

__all__ = [
    "CEILING",
    "COLUMNS",
    "FLOOR",
    "SELECTION",
    "SUBJECT",
    "CaseResult",
    "Comparison",
    "TestedRun",
    "Wins",
    "read_comparison",
]

SUBJECT, FLOOR, CEILING = "tmt", "primary_only", "oracle"
"""What is asked about; what errors are reduced from; what no method is expected to pass."""
COLUMNS = (
    "study", "at", "network", "primary", "auxiliary", "method", "settings", "seed", "metric", "higher_is_better",
    "validation", "test", "seconds",
)  # fmt: skip
"""Of ``results.csv``: a row per tested run; ``study`` is ``main``, or ``rank``, ``split`` or ``amount`` at a value."""
SELECTION = ("network", "primary", "auxiliary", "method", "settings", "validation", "chosen")
"""Of ``selection.csv``: a row per candidate."""


@dataclass(frozen=True, kw_only=True)
class TestedRun:
    """A tested run: a row of ``results.csv``.

    Args:
        study: ``main``, or ``rank``, ``split`` or ``amount``.
        at: The value of the latter; NaN in the main study.
        network: The network's name.
        primary: The primary task.
        auxiliary: The auxiliary ones joined by ``+``; empty where the method uses none.
        method: The method's key.
        settings: Its settings in words.
        seed: The seed.
        metric: What was measured on the test images.
        higher: Whether higher is better.
        value: The measurement, in the metric's own units.
    """

    study: str
    at: float
    network: str
    primary: str
    auxiliary: str
    method: str
    settings: str
    seed: int
    metric: str
    higher: bool
    value: float

    @property
    def error(self) -> float:
        """What shall be small: 1 - value of a share, else the value."""
        return 1 - self.value if self.higher else self.value


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """A method on a case: its runs over the seeds.

    Args:
        network: The network's name.
        primary: The primary task.
        auxiliary: The auxiliary ones joined by ``+``.
        method: The method's key.
        runs: At least one; those of methods without auxiliary labels are shared by all cases of a primary task.
        floor: The runs of Primary Only on that task, for the reduction of its error.
    """

    network: str
    primary: str
    auxiliary: str
    method: str
    runs: tuple[TestedRun, ...]
    floor: tuple[TestedRun, ...] = ()

    @property
    def place(self) -> str:
        """Network and case in one word, for logs."""
        return f"{self.network}/{self.primary}" + (f"<-{self.auxiliary}" if self.auxiliary else "")

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return fmean(run.value for run in self.runs)

    @property
    def spread(self) -> float | None:
        """Half of the 95 % t interval of the mean over seeds; None of one seed."""
        return half_width([run.value for run in self.runs])

    @property
    def reductions(self) -> list[float]:
        """Per seed the share of Primary Only's error that is gone (section 4.5); 1 - mIoU is the error of mIoU."""
        floor = {run.seed: run.error for run in self.floor}
        return [1 - run.error / floor[run.seed] for run in self.runs if floor.get(run.seed)]


@dataclass(frozen=True, kw_only=True)
class Wins:
    """How often Task Meta-Transfer is the best, as the paper counts: among all methods but the oracle.

    Args:
        cases: Cases that it finished, of at least two methods.
        best: Cases in which no other is better.
        second: Cases in which exactly one is better.
        clear: Cases it is best in and the interval of its lead, seed by seed, excludes zero; None of one seed.
        beaten: The other cases: network and case, with the methods that are better, the best first.
    """

    cases: int
    best: int
    second: int
    clear: int | None
    beaten: tuple[tuple[CaseResult, tuple[CaseResult, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that a study measured.

    Args:
        runs: The tested runs.
        methods: All methods in their order, those without a finished run too.
        cases: (network, primary, auxiliary) in their order.
    """

    runs: tuple[TestedRun, ...]
    methods: tuple[str, ...]
    cases: tuple[tuple[str, str, str], ...]

    @property
    def subject(self) -> str | None:
        """``tmt``, if it is among the methods."""
        return SUBJECT if SUBJECT in self.methods else None

    @cached_property
    def cells(self) -> tuple[CaseResult, ...]:
        """The main study, each cell once."""
        cells = (self.cell(*case, method) for case in self.cases for method in self.methods)
        unique = {(cell.network, cell.primary, cell.auxiliary, cell.method): cell for cell in cells if cell is not None}
        return tuple(unique.values())

    def cell(
        self, network: str, primary: str, auxiliary: str, method: str, study: str = "main", at: float = math.nan
    ) -> CaseResult | None:
        """A method on a case; None if no run of it is finished."""
        key, floor = (study, network, primary, method), ("main", network, primary, FLOOR)
        runs = [
            run
            for run in self.runs
            if (run.study, run.network, run.primary, run.method) == key
            and run.auxiliary in ("", auxiliary)
            and (study == "main" or run.at == at)
        ]
        if not runs:
            return None
        return CaseResult(
            network=network,
            primary=primary,
            auxiliary=runs[0].auxiliary,
            method=method,
            runs=tuple(runs),
            floor=tuple(run for run in self.runs if (run.study, run.network, run.primary, run.method) == floor),
        )

    def ranked(self, network: str, primary: str, auxiliary: str) -> list[CaseResult]:
        """The methods of a case but the oracle, the best first."""
        cells = [self.cell(network, primary, auxiliary, method) for method in self.methods if method != CEILING]
        return sorted((c for c in cells if c is not None), key=lambda c: -c.mean if c.runs[0].higher else c.mean)

    def rank(self, network: str, primary: str, auxiliary: str, method: str) -> int | None:
        """1 for the best method of a case; equals share a rank; None for the oracle or where it is not measured."""
        cells = self.ranked(network, primary, auxiliary)
        cell = next((cell for cell in cells if cell.method == method), None)
        return None if cell is None else 1 + sum(_better(other, cell) for other in cells)

    def wins(self) -> Wins:
        """How often Task Meta-Transfer is the best."""
        best = second = clear = count = 0
        beaten, seeds = [], 0
        for case in self.cases:
            cells = self.ranked(*case)
            subject = next((cell for cell in cells if cell.method == SUBJECT), None)
            if subject is None or len(cells) < 2:
                continue
            count += 1
            seeds = max(seeds, len(subject.runs))
            ahead = tuple(cell for cell in cells if _better(cell, subject))
            best, second = best + (not ahead), second + (len(ahead) == 1)
            if ahead:
                beaten.append((subject, ahead))
            else:
                clear += _leads(subject, next(cell for cell in cells if cell.method != SUBJECT))
        return Wins(cases=count, best=best, second=second, clear=clear if seeds > 1 else None, beaten=tuple(beaten))

    def varied(self, study: str) -> dict[tuple[str, str, str], dict[str, list[tuple[float, CaseResult]]]]:
        """A study of rank, split or amount: per case and method its values in order, and what was measured there."""
        by_case: dict[tuple[str, str, str], dict[str, list[tuple[float, CaseResult]]]] = {}
        values = sorted({run.at for run in self.runs if run.study == study})
        for case in self.cases:
            for method in self.methods:
                cells = [(at, cell) for at in values if (cell := self.cell(*case, method, study, at)) is not None]
                if cells:
                    by_case.setdefault(case, {})[method] = cells
        return by_case


def read_comparison(folder: Path) -> Comparison:
    """Reads ``results.csv`` and ``selection.csv`` of a study's folder.

    Raises:
        InputError: A file or a column is missing, or a cell is not a number.
    """
    for name in ("results.csv", "selection.csv"):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing; run the study again to go on: nothing is trained twice")
    candidates = read_rows(folder / "selection.csv", SELECTION)
    try:
        runs = tuple(
            TestedRun(
                study=row["study"],
                at=float(row["at"] or "nan"),
                network=row["network"],
                primary=row["primary"],
                auxiliary=row["auxiliary"],
                method=row["method"],
                settings=row["settings"],
                seed=int(row["seed"]),
                metric=row["metric"],
                higher=row["higher_is_better"] == "1",
                value=float(row["test"]),
            )
            for row in read_rows(folder / "results.csv", COLUMNS)
        )
    except ValueError as error:
        raise InputError(f"{folder / 'results.csv'}: {error}; run the study again to write it anew") from error
    cases = dict.fromkeys((row["network"], row["primary"], row["auxiliary"]) for row in candidates if row["auxiliary"])
    alone = dict.fromkeys((row["network"], row["primary"], "") for row in candidates)
    methods = tuple(dict.fromkeys(row["method"] for row in candidates))
    return Comparison(runs=runs, methods=methods, cases=tuple(cases or alone))


def _better(one: CaseResult, other: CaseResult) -> bool:
    return one.mean > other.mean if one.runs[0].higher else one.mean < other.mean


def _leads(one: CaseResult, other: CaseResult) -> bool:
    """Whether the mean lead over seeds is larger than half its interval."""
    errors = {run.seed: run.error for run in other.runs}
    leads = [errors[run.seed] - run.error for run in one.runs if run.seed in errors]
    width = half_width(leads)
    return width is not None and fmean(leads) > width
