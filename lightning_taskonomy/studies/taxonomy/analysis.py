"""From per-image scores to affinities, gain and quality. Files in, numbers out; nothing is trained here."""

from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity import NetworkScores, TransfersTable, measure_target
from lightning_taskonomy.affinity.table import TransferKey
from lightning_taskonomy.errors import InputError

__all__ = ["Scores", "halves", "mean_scores", "measure", "read_scores", "shuffled"]

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
                f"{kind}:{';'.join(sources)}": NetworkScores(sources, kind, values[part])
                for (_, kind, sources), values in networks.items()
            }
            for part in (images, held_out)
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
    means = []
    for networks in scores.values():
        for key, values in networks.items():
            measured = values[images]
            means.append((key, float(np.nanmean(measured)) if np.isfinite(measured).any() else float("nan")))
    return means


def shuffled(scores: Scores, seed: int) -> Scores:
    """The null: at each image the scores change hands among the networks of a target, so that none is better."""
    rng = np.random.default_rng(seed)
    mixed: Scores = {}
    for target, networks in scores.items():
        values = rng.permuted(np.stack(list(networks.values())), axis=0)
        mixed[target] = dict(zip(networks, values, strict=True))
    return mixed
