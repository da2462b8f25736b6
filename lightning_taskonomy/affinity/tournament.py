"""From one target's per-image scores to its rows of the transfers table.

Taskonomy (Zamir et al., CVPR 2018), section 3.3: one tournament per target over the transfers of all orders and the
task-specific network, then AHP. The network from scratch takes no part; it is what gain is measured against.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.ahp import ahp
from lightning_taskonomy.affinity.table import Transfer, TransferKind
from lightning_taskonomy.affinity.win_rates import tournament, win_rate
from lightning_taskonomy.errors import InputError

__all__ = ["NetworkScores", "measure_target"]


@dataclass(frozen=True)
class NetworkScores:
    """One network's scores on the test images of a target.

    Args:
        sources: What it reads: the sources of a transfer, the target alone if task-specific, none if from scratch.
        kind: How the target is solved.
        scores: (N,) one score per image, lower is better, NaN where unlabelled; the same images in the same order for
            every network of a target.
    """

    sources: tuple[str, ...]
    kind: TransferKind
    scores: NDArray[np.float32]


def measure_target(target: str, measured: Mapping[str, NetworkScores]) -> list[Transfer]:
    """The rows of one target.

    Networks without a single valid score come back unmeasured (no affinity). Two networks that share no valid image
    say nothing about each other: they count as equal (0.5) in the tournament.

    Args:
        target: The task that all of them solve.
        measured: Every network by a name of the caller's choice; at most one of kind ``task_specific`` and one of
            kind ``scratch``.

    Returns:
        One row each, in the given order. Affinities sum to 1 over the measured ones. Win rates are None without a
        reference or a common valid image.

    Raises:
        InputError: Scores of different length, infinite scores, two networks of a kind of which one is allowed, or no
            transfer at all.
    """
    if not any(network.kind == "transfer" for network in measured.values()):
        raise InputError(f"target {target!r} has no transfer: measure at least one")
    scores = _stack(target, measured)
    references = {kind: _reference(target, measured, kind) for kind in ("task_specific", "scratch")}
    valid = ~np.isnan(scores).all(axis=1)
    rivals = np.array([network.kind != "scratch" for network in measured.values()]) & valid
    affinity = np.full(len(measured), np.nan)
    if rivals.any():
        rates = tournament(scores[rivals])
        affinity[rivals] = ahp(np.where(np.isnan(rates), 0.5, rates))
    rows = []
    for network, errors, share in zip(measured.values(), scores, affinity, strict=True):
        against = {
            kind: None if reference is None else _or_none(win_rate(errors, scores[reference]))
            for kind, reference in references.items()
        }
        rows.append(
            Transfer(
                target,
                len(network.sources),
                network.sources,
                network.kind,
                _or_none(share),
                against["task_specific"],
                against["scratch"],
            )
        )
    return rows


def _stack(target: str, measured: Mapping[str, NetworkScores]) -> NDArray[np.float32]:
    """(K, N) scores, one row per network."""
    shapes = {name: np.shape(network.scores) for name, network in measured.items()}
    first_name, first = next(iter(shapes.items()))
    for name, shape in shapes.items():
        if len(shape) != 1 or shape != first:
            raise InputError(
                f"target {target!r}: {name!r} has scores of shape {shape}, {first_name!r} of {first}: "
                "score every network on the same images"
            )
    scores = np.stack([np.asarray(network.scores, dtype=np.float32) for network in measured.values()])
    if np.isinf(scores).any():
        name = list(measured)[int(np.argwhere(np.isinf(scores))[0][0])]
        raise InputError(f"target {target!r}: {name!r} has infinite scores: look at its run; NaN means unlabelled")
    return scores


def _reference(target: str, measured: Mapping[str, NetworkScores], kind: str) -> int | None:
    """The position of the one network of a kind."""
    places = [index for index, network in enumerate(measured.values()) if network.kind == kind]
    if len(places) > 1:
        raise InputError(f"target {target!r} has {len(places)} networks of kind {kind}: keep one")
    return places[0] if places else None


def _or_none(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
