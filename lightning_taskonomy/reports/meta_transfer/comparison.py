"""What a Task Meta-Transfer study measured: every method on every case, with the spread over seeds."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

from lightning_taskonomy.affinity.intervals import half_width
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.meta_transfer.differences import Difference, paired, pooled
from lightning_taskonomy.reports.reading import read_rows

__all__ = [
    "CEILING",
    "COLUMNS",
    "CONTROLS",
    "FLOOR",
    "IDENTITY",
    "INSTRUMENTS",
    "SELECTION",
    "SUBJECT",
    "VARIATIONS",
    "CaseResult",
    "Comparison",
    "Place",
    "TestedRun",
    "Wins",
    "read_comparison",
]

SUBJECT, FLOOR, CEILING = "tmt", "primary_only", "oracle"
"""What is asked about; what errors are reduced from; what no method is expected to pass."""
IDENTITY = "tmt_identity"
CONTROLS = ("mtl", "lin", IDENTITY)
"""What a learnt projection must beat: no projection, a scalar, and the same steps with the identity."""
VARIATIONS = ("rank", "split", "amount")
"""The paper's figures 3, 5 and 4; every other study but ``main`` is a factor with labels."""
COLUMNS = (
    "study", "at", "network", "primary", "auxiliary", "method", "settings", "seed", "metric", "higher_is_better",
    "validation", "test", "seconds",
)  # fmt: skip
"""Of ``results.csv``: a row per tested run; ``study`` is ``main``, ``rank``, ``split`` or ``amount`` at a value, or a
factor at a label."""
SELECTION = ("network", "primary", "auxiliary", "method", "settings", "validation", "chosen")
"""Of ``selection.csv``: a row per candidate."""
INSTRUMENTS = (*COLUMNS[:8], "step", "instrument", "value")
"""Of ``instruments.csv``: a row per instrument (what was logged as ``meta/...``) and validation of a tested run."""

Place = tuple[str, str, str]
"""Network, primary task, and the auxiliary ones joined by ``+``."""


@dataclass(frozen=True, kw_only=True)
class TestedRun:
    """A tested run: a row of ``results.csv``.

    Args:
        study: ``main``, ``rank``, ``split``, ``amount``, or a factor's name.
        at: The value or label of the latter; empty in the main study.
        network: The network's name.
        primary: The primary task.
        auxiliary: The auxiliary ones joined by ``+``; empty where the method uses none.
        method: The method's key.
        settings: Its settings in words.
        seed: The seed.
        metric: What was measured on the test images.
        higher: Whether higher is better.
        value: The measurement, in the metric's own units.
        validation: The same on the validation images, by which weights and settings were chosen.
    """

    study: str
    at: str
    network: str
    primary: str
    auxiliary: str
    method: str
    settings: str
    seed: int
    metric: str
    higher: bool
    value: float
    validation: float

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """Network, tasks, method and seed: what it shares with the same cell of another study."""
        return self.network, self.primary, self.auxiliary, self.method, self.seed

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
    def errors(self) -> dict[int, float]:
        """The error by seed."""
        return {run.seed: run.error for run in self.runs}

    @property
    def reductions(self) -> list[float]:
        """Per seed the share of Primary Only's error that is gone (section 4.5); 1 - mIoU is the error of mIoU."""
        floor = {run.seed: run.error for run in self.floor}
        return [1 - run.error / floor[run.seed] for run in self.runs if floor.get(run.seed)]


@dataclass(frozen=True, kw_only=True)
class Wins:
    """How often Task Meta-Transfer is the best, as the paper counts: by the mean, among all methods but the oracle.

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
        trials: Candidates per network, primary task, auxiliary ones and method, those without a finished run too.
        cases: (network, primary, auxiliary) in their order.
    """

    runs: tuple[TestedRun, ...]
    trials: Mapping[tuple[str, str, str, str], int]
    cases: tuple[Place, ...]

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """All methods in their order, the oracle last, those without a finished run too."""
        return tuple(sorted(dict.fromkeys(method for *_, method in self.trials), key=CEILING.__eq__))

    @property
    def subject(self) -> str | None:
        """``tmt``, if it is among the methods."""
        return SUBJECT if SUBJECT in self.methods else None

    @property
    def variants(self) -> tuple[str, ...]:
        """The methods that are Task Meta-Transfer with another projection or combination, the control included."""
        return tuple(method for method in self.methods if method.startswith(f"{SUBJECT}_"))

    @cached_property
    def seeds(self) -> int:
        """How many seeds were tested in the main study."""
        return len({run.seed for run in self.runs if run.study == "main"})

    def on_validation(self) -> "Comparison":
        """The same with what was measured on validation images in place of test images."""
        return replace(self, runs=tuple(replace(run, value=run.validation) for run in self.runs))

    @cached_property
    def cells(self) -> tuple[CaseResult, ...]:
        """The main study, each cell once."""
        cells = (self.cell(*case, method) for case in self.cases for method in self.methods)
        unique = {(cell.network, cell.primary, cell.auxiliary, cell.method): cell for cell in cells if cell is not None}
        return tuple(unique.values())

    def planned(self, places: Sequence[Place]) -> list[str]:
        """The methods that some case of these was to have, in their order."""
        keys = {(*place[:2], auxiliary) for place in places for auxiliary in ("", place[2])}
        return [method for method in self.methods if any((*key, method) in self.trials for key in keys)]

    def cell(
        self, network: str, primary: str, auxiliary: str, method: str, study: str = "main", at: str = ""
    ) -> CaseResult | None:
        """A method on a case; None if no run of it is finished."""
        runs = [run for run in self._by[study, at, network, primary, method] if run.auxiliary in ("", auxiliary)]
        if not runs:
            return None
        floor = ("main", "") if study in VARIATIONS else (study, at)
        return CaseResult(
            network=network,
            primary=primary,
            auxiliary=runs[0].auxiliary,
            method=method,
            runs=tuple(runs),
            floor=tuple(self._by[*floor, network, primary, FLOOR]),
        )

    @cached_property
    def _by(self) -> defaultdict[tuple[str, ...], list[TestedRun]]:
        """The runs by study, label, network, primary task and method."""
        runs: defaultdict[tuple[str, ...], list[TestedRun]] = defaultdict(list)
        for run in self.runs:
            runs[run.study, run.at, run.network, run.primary, run.method].append(run)
        return runs

    def ranked(self, network: str, primary: str, auxiliary: str) -> list[CaseResult]:
        """The methods of a case but the oracle, the best first."""
        cells = [self.cell(network, primary, auxiliary, method) for method in self.methods if method != CEILING]
        return sorted((c for c in cells if c is not None), key=lambda c: -c.mean if c.runs[0].higher else c.mean)

    def rank(self, network: str, primary: str, auxiliary: str, method: str) -> int | None:
        """1 for the best method of a case; equals share a rank; None for the oracle or where it is not measured."""
        cells = self.ranked(network, primary, auxiliary)
        cell = next((cell for cell in cells if cell.method == method), None)
        return None if cell is None else 1 + sum(_better(other, cell) for other in cells)

    def wins(self, cases: Sequence[Place] | None = None, *, variants: bool = False) -> Wins:
        """How often Task Meta-Transfer is the best.

        Args:
            cases: The cases; all where not given.
            variants: Whether its own variants count as other methods.
        """
        best = second = clear = count = 0
        beaten, seeds = [], 0
        for case in self.cases if cases is None else cases:
            cells = [cell for cell in self.ranked(*case) if variants or cell.method not in self.variants]
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
                following = next(cell for cell in cells if cell.method != SUBJECT)
                lead = paired(subject.errors, following.errors)
                clear += lead is not None and lead.verdict > 0
        return Wins(cases=count, best=best, second=second, clear=clear if seeds > 1 else None, beaten=tuple(beaten))

    def lead(self, place: Place, other: str, study: str = "main", at: str = "") -> Difference | None:
        """How far Task Meta-Transfer leads another method on a case, seed by seed, in the error's own unit."""
        ours, theirs = self.cell(*place, SUBJECT, study, at), self.cell(*place, other, study, at)
        return None if ours is None or theirs is None else paired(ours.errors, theirs.errors)

    def pooled(
        self, other: str, places: Sequence[Place] | None = None, study: str = "main", at: str = ""
    ) -> Difference | None:
        """How far it leads another method over several cases, all where not given, as a share of that one's error."""
        pairs = [
            (self.cell(*place, SUBJECT, study, at), self.cell(*place, other, study, at))
            for place in (self.cases if places is None else places)
        ]
        return pooled((one.errors, two.errors) for one, two in pairs if one is not None and two is not None)

    def varied(self, study: str) -> dict[Place, dict[str, list[tuple[float, CaseResult]]]]:
        """A study of rank, split or amount: per case and method its values in order, and what was measured there."""
        by_case: dict[Place, dict[str, list[tuple[float, CaseResult]]]] = {}
        values = sorted({run.at for run in self.runs if run.study == study}, key=float)
        for case in self.cases:
            for method in self.methods:
                cells = [(float(at), c) for at in values if (c := self.cell(*case, method, study, at)) is not None]
                if cells:
                    by_case.setdefault(case, {})[method] = cells
        return by_case

    def controls(self, case: Place) -> dict[str, CaseResult]:
        """What a learnt projection must beat on a case, as the main study measured it."""
        cells = {method: self.cell(*case, method) for method in CONTROLS if method in self.methods}
        return {method: cell for method, cell in cells.items() if cell is not None}

    def factors(self, order: Mapping[str, Mapping[str, object]]) -> dict[str, list[str]]:
        """The labels of every factor that were measured.

        Args:
            order: Factors and labels in the order of the study's settings; what they do not name comes last.
        """
        measured: dict[str, dict[str, None]] = {}
        for run in self.runs:
            if run.study not in ("main", *VARIATIONS):
                measured.setdefault(run.study, {})[run.at] = None
        return {
            name: list(dict.fromkeys([*(at for at in order.get(name, ()) if at in measured[name]), *measured[name]]))
            for name in dict.fromkeys([*order, *measured])
            if name in measured
        }


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
                at=row["at"],
                network=row["network"],
                primary=row["primary"],
                auxiliary=row["auxiliary"],
                method=row["method"],
                settings=row["settings"],
                seed=int(row["seed"]),
                metric=row["metric"],
                higher=row["higher_is_better"] == "1",
                value=float(row["test"]),
                validation=float(row["validation"]),
            )
            for row in read_rows(folder / "results.csv", COLUMNS)
        )
        for run in runs:
            if run.study in VARIATIONS:
                float(run.at)
    except ValueError as error:
        raise InputError(f"{folder / 'results.csv'}: {error}; run the study again to write it anew") from error
    cases = dict.fromkeys((row["network"], row["primary"], row["auxiliary"]) for row in candidates if row["auxiliary"])
    alone = dict.fromkeys((row["network"], row["primary"], "") for row in candidates)
    trials = Counter((row["network"], row["primary"], row["auxiliary"], row["method"]) for row in candidates)
    return Comparison(runs=runs, trials=trials, cases=tuple(cases or alone))


def _better(one: CaseResult, other: CaseResult) -> bool:
    return one.mean > other.mean if one.runs[0].higher else one.mean < other.mean
