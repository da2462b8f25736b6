"""A taxonomy beside random ones of its budget (Taskonomy, CVPR 2018, section 5 and Fig. 11), and both in a file."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from lightning_taskonomy.affinity.significance import band, p_value, random_taxonomies
from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers.taxonomy.solution import TaxonomySolution

__all__ = ["Band", "Chance", "Compared", "as_entry", "measure_chance", "read_solutions"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Band:
    """Three percentiles of a mean: the 5th, the 50th and the 95th."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What random feasible taxonomies of the same budget and order reach.

    Args:
        gain: Of their mean gains; None where a transfer has no win rate against a network from scratch.
        quality: Of their mean qualities; None likewise.
        p_value: How often their objective is as good.
    """

    gain: Band | None
    quality: Band | None
    p_value: float


Compared = tuple[TaxonomySolution, Chance | None]
"""A taxonomy, and chance beside it where it was drawn."""


def measure_chance(
    solution: TaxonomySolution, table: TransfersTable, *, count: int = 1000, seed: int = 0
) -> Chance | None:
    """Compares a taxonomy with random ones; None where so few random sources hardly ever reach every target.

    Args:
        solution: The taxonomy.
        table: The transfers that it was found in.
        count: How many are drawn; none for 0.
        seed: Of the draw.
    """
    if count < 1 or solution.budget < 1:
        return None
    try:
        drawn = random_taxonomies(table, solution.budget, max_order=solution.max_order, count=count, seed=seed)
    except InputError as error:
        _LOG.info("budget %g is not compared with random taxonomies: %s", solution.budget, error)
        return None
    return Chance(
        gain=_band(drawn.gain), quality=_band(drawn.quality), p_value=p_value(solution.objective, drawn.objective)
    )


def as_entry(solution: TaxonomySolution, beside: Chance | None) -> dict[str, Any]:
    """An entry of ``solutions.json``: the solution's own form, and ``random`` beside it."""
    return {**solution.as_dict(), "random": None if beside is None else asdict(beside)}


def read_solutions(path: Path) -> list[Compared]:
    """Reads a list of what :func:`as_entry` gave.

    Raises:
        InputError: There is no such file, or it is damaged or of another release.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run the study again: nothing is trained twice") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path} is not a list of solutions; run the study again: nothing is trained twice")
    try:
        return [(TaxonomySolution.from_dict(entry), _chance(entry.get("random"))) for entry in entries]
    except InputError as error:
        raise InputError(f"{path}: {error} (run the study again: nothing is trained twice)") from error


def _chance(plain: Mapping[str, Any] | None) -> Chance | None:
    if plain is None:
        return None
    try:
        gain, quality = ((None if plain[key] is None else Band(**plain[key])) for key in ("gain", "quality"))
        return Chance(gain=gain, quality=quality, p_value=plain["p_value"])
    except (KeyError, TypeError) as error:
        raise InputError(f"'random' is damaged ({error})") from error


def _band(means: ArrayLike) -> Band | None:
    percentiles = band(means)
    return None if any(map(math.isnan, percentiles)) else Band(*percentiles)
