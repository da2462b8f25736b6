"""The chains table: what every trained transfer chain reaches on its target, one row per training.

"Factors of Influence for Transfer Learning across Diverse Appearance Domains and Task Types" (Mensink et al., TPAMI
2021), sections 3.1 and 5: chains ILSVRC'12 -> source -> target, compared with ILSVRC'12 -> target.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from lightning_taskonomy.affinity.chains.reading import finite, read_rows
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import write_csv

__all__ = ["COLUMNS", "FIRST_LINK", "Chain", "ChainKey", "ChainKind", "ChainsTable", "Setting"]

ChainKind = Literal["scratch", "pretrained", "chain"]
"""``scratch``: random weights -> target; ``pretrained``: first link -> target, the reference of gains; ``chain``: first
link -> source -> target."""

Setting = Literal["full", "small", "small_source"]
"""``full``: the whole training part of the target; ``small``: 150 or 1,000 images of it; ``small_source``: the same,
and at most 1,500 images of the source (sections 5.2 to 5.4)."""

FIRST_LINK = "imagenet"
"""The source of ``pretrained`` rows: the weights that every chain begins with, whatever they were trained on."""

COLUMNS = ("target", "source", "kind", "setting", "seed", "metric", "higher_is_better", "value")
"""The columns of ``chains.csv``; the source of ``scratch`` rows is empty, ``higher_is_better`` is 0 or 1."""

ChainKey = tuple[str, str, ChainKind, Setting, int, str]
"""What makes a row unique: target, source, kind, setting, seed, metric."""


@dataclass(frozen=True)
class Chain:
    """What one training reaches on its target, by one metric.

    Args:
        target: The name of the target.
        source: The name of the source model; ``imagenet`` for the first link alone, empty for random weights.
        kind: How the target was initialised.
        setting: How much of target and source was used.
        seed: The seed of the training.
        metric: What was measured, such as ``miou``.
        higher_is_better: False for errors, such as the depth's root mean square.
        value: The measurement on the target's validation part, at least 0.

    Raises:
        InputError: A value is not allowed.
    """

    target: str
    source: str
    kind: ChainKind
    setting: Setting
    seed: int
    metric: str
    higher_is_better: bool
    value: float

    def __post_init__(self) -> None:
        for what, word, allowed in (
            ("kind", self.kind, get_args(ChainKind)),
            ("setting", self.setting, get_args(Setting)),
        ):
            if word not in allowed:
                raise InputError(f"{what} {word!r} is unknown{hint(word, allowed)}")
        names = (self.target, self.metric) if self.kind == "scratch" else (self.target, self.metric, self.source)
        for name in names:
            if not name or name != name.strip() or ";" in name:
                raise InputError(f"name {name!r} is empty, or has a ';' or blanks around it: rename it")
        expected = {"scratch": "", "pretrained": FIRST_LINK}.get(self.kind)
        if self.source != expected and (expected is not None or self.source == FIRST_LINK):
            rule = "a source other than imagenet" if expected is None else repr(expected)
            raise InputError(f"a row of kind {self.kind} has source {self.source!r}: it takes {rule}")
        if not 0 <= self.value < math.inf:
            raise InputError(f"{self.metric} {self.value} is not a finite number of at least 0")

    @property
    def key(self) -> ChainKey:
        """What makes it unique."""
        return self.target, self.source, self.kind, self.setting, self.seed, self.metric

    def __str__(self) -> str:
        start = self.source or self.kind
        return f"{start} -> {self.target} ({self.setting}, seed {self.seed}, {self.metric})"


@dataclass(frozen=True)
class ChainsTable:
    """All trained chains.

    Args:
        chains: One row per training and metric.

    Raises:
        InputError: Two rows are of the same training and metric, or rows disagree whether more of a metric is better.
    """

    chains: tuple[Chain, ...]

    def __post_init__(self) -> None:
        seen: set[ChainKey] = set()
        directions: dict[str, bool] = {}
        for row in self.chains:
            if row.key in seen:
                raise InputError(f"chain {row} comes twice: keep one of its rows")
            seen.add(row.key)
            if directions.setdefault(row.metric, row.higher_is_better) != row.higher_is_better:
                raise InputError(
                    f"higher_is_better of {row.metric} is 0 in some rows and 1 in others, as in {row}: use one of them"
                )

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, in the order of their first rows."""
        return tuple(dict.fromkeys(row.target for row in self.chains))

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of chains, in the order of their first rows, without the first link."""
        return tuple(dict.fromkeys(row.source for row in self.chains if row.kind == "chain"))

    def comparable(self) -> "tuple[ChainsTable, tuple[Chain, ...]]":
        """The chains that have a reference under their seed, and the others, as an unfinished study has them."""
        references = {
            (row.target, row.metric, row.setting, row.seed) for row in self.chains if row.kind == "pretrained"
        }
        references |= {
            (t, metric, "small_source", seed) for t, metric, setting, seed in references if setting == "small"
        }
        compared: list[Chain] = []
        waiting: list[Chain] = []
        for row in self.chains:
            has_reference = (row.target, row.metric, row.setting, row.seed) in references
            (compared if has_reference else waiting).append(row)
        return ChainsTable(tuple(compared)), tuple(waiting)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "ChainsTable":
        """Reads and validates a table.

        Args:
            path: The CSV, or the folder of a study that has its ``chains.csv``.

        Raises:
            InputError: The file cannot be read, its columns are others, or a row is wrong; the line is named.
        """
        rows = read_rows(path, "chains.csv", COLUMNS, _parse)
        first: dict[ChainKey, int] = {}
        for line, row in rows:
            if first.setdefault(row.key, line) != line:
                raise InputError(f"{path} line {line}: {row} comes twice, first on line {first[row.key]}: keep one")
        try:
            return cls(tuple(row for _, row in rows))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the CSV atomically; reading it gives an equal table."""
        write_csv(path, COLUMNS, map(_cells, self.chains))

    def by_training(self, kinds: Iterable[ChainKind], setting: Setting) -> dict[tuple[str, str, str], dict[int, Chain]]:
        """Rows by (target, source, metric) and then by seed.

        Args:
            kinds: The kinds of rows that count.
            setting: Their setting.
        """
        groups: dict[tuple[str, str, str], dict[int, Chain]] = {}
        allowed = set(kinds)
        for row in self.chains:
            if row.kind in allowed and row.setting == setting:
                groups.setdefault((row.target, row.source, row.metric), {})[row.seed] = row
        return groups


def _cells(row: Chain) -> tuple[object, ...]:
    direction, value = int(row.higher_is_better), repr(float(row.value))
    return row.target, row.source, row.kind, row.setting, row.seed, row.metric, direction, value


def _parse(cells: dict[str, str]) -> Chain:
    if cells["higher_is_better"] not in ("0", "1"):
        raise InputError(f"higher_is_better {cells['higher_is_better']!r} is neither 0 nor 1")
    try:
        seed = int(cells["seed"])
    except ValueError:
        raise InputError(f"seed {cells['seed']!r} is not a whole number") from None
    return Chain(
        cells["target"],
        cells["source"],
        cells["kind"],  # type: ignore[arg-type]  # checked by Chain itself
        cells["setting"],  # type: ignore[arg-type]  # checked by Chain itself
        seed,
        cells["metric"],
        cells["higher_is_better"] == "1",
        finite(cells["value"], "value"),
    )
