"""From per-image scores to affinities, taxonomies, gain and quality. Files in, numbers out; nothing is trained here."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity import NetworkScores, TransfersTable, measure_target
from lightning_taskonomy.affinity.significance import band, p_value, random_taxonomies
from lightning_taskonomy.affinity.table import TransferKey
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution

__all__ = ["Scores", "as_report", "halves", "mean_scores", "measure", "read_scores", "shuffled", "significance"]

_LOG = logging.getLogger(__name__)

Scores = dict[str, dict[TransferKey, NDArray[np.float32]]]
"""Per target and network one score per test image, all in the order of the same image ids."""


def read_scores(file: Path, task: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Image ids and scores of one run.

    Raises:
        InputError: The file is damaged or of another task.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
            return content["id"], content[task]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(
            f"{file} holds no scores of {task!r} ({error}); remove its run folder and run again"
        ) from error


def halves(ids: NDArray[np.int64], seed: int, same: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which test images measure affinity, and which gain and quality.

    Args:
        ids: (N,) image ids.
        seed: Of the draw.
        same: Use all images for both, as the paper does.
    """
    if same:
        everything = np.ones(len(ids), bool)
        return everything, everything
    first = np.zeros(len(ids), bool)
    first[np.random.default_rng(seed).permutation(len(ids))[: (len(ids) + 1) // 2]] = True
    return first, ~first


def measure(scores: Scores, images: NDArray[np.bool_], held_out: NDArray[np.bool_]) -> TransfersTable:
    """(III) One tournament per target over all orders and the task-specific network, then AHP.

    Args:
        scores: All scores.
        images: The images that affinities are measured on.
        held_out: The images that the win rates against scratch (gain) and task-specific (quality) are measured on.
    """
    rows = []
    for target, networks in scores.items():
        on = [
            {
                f"{kind}:{';'.join(sources)}": NetworkScores(sources, kind, values[chosen])
                for (_, kind, sources), values in networks.items()
            }
            for chosen in (images, held_out)
        ]
        for measured, judged in zip(measure_target(target, on[0]), measure_target(target, on[1]), strict=True):
            rows.append(
                replace(
                    measured,
                    win_rate_vs_task_specific=judged.win_rate_vs_task_specific,
                    win_rate_vs_scratch=judged.win_rate_vs_scratch,
                )
            )
    return TransfersTable.of(rows)


def mean_scores(scores: Scores, images: NDArray[np.bool_]) -> list[tuple[TransferKey, float]]:
    """Mean score per network over the images that measure affinity; NaN where nothing is labelled."""
    found = []
    for networks in scores.values():
        for key, values in networks.items():
            own = values[images]
            found.append((key, float(np.nanmean(own)) if np.isfinite(own).any() else float("nan")))
    return found


def shuffled(scores: Scores, seed: int) -> Scores:
    """The null: at each image the scores change hands among the networks of a target, so that none is better."""
    rng = np.random.default_rng(seed)
    mixed: Scores = {}
    for target, networks in scores.items():
        values = rng.permuted(np.stack(list(networks.values())), axis=0)
        mixed[target] = dict(zip(networks, values, strict=True))
    return mixed


def significance(solution: TaxonomySolution, table: TransfersTable, *, count: int, seed: int) -> dict[str, Any] | None:
    """A taxonomy's gain and quality against random feasible taxonomies of its budget; None where there is none."""
    if count < 1 or solution.budget < 1:
        return None
    try:
        drawn = random_taxonomies(table, solution.budget, max_order=solution.max_order, count=count, seed=seed)
    except InputError as error:  # so few random sources hardly ever reach every target
        _LOG.info("budget %g is not compared with random taxonomies: %s", solution.budget, error)
        return None
    return {
        "gain": band(drawn.gain), "quality": band(drawn.quality),
        "p_value": p_value(solution.objective, drawn.objective),
    }  # fmt: skip


def as_report(solution: TaxonomySolution, random: dict[str, Any] | None) -> dict[str, Any]:
    """A solution as the report reads it: the policy with gain and quality of each transfer, and their means."""
    return {
        "budget": solution.budget, "max_order": solution.max_order, "objective": solution.objective,
        "proven": solution.proven, "gap": solution.gap, "seconds": solution.seconds, "sources": list(solution.sources),
        "policy": [
            {
                "target": target, "sources": list(transfer.sources), "order": transfer.order, "kind": transfer.kind,
                "affinity": transfer.affinity, "gain": transfer.win_rate_vs_scratch,
                "quality": transfer.win_rate_vs_task_specific,
            }
            for target, transfer in solution.policy.items()
        ],
        "mean_gain": solution.mean_win_rate_vs_scratch, "mean_quality": solution.mean_win_rate_vs_task_specific,
        "random": random,
    }  # fmt: skip
