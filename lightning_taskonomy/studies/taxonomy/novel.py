"""Novel tasks: each target as if it were new, solved from all others (section 4.2, Fig. 10)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity import win_rate
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.studies.base import Table
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.studies.taxonomy.analysis import read_scores
from lightning_taskonomy.studies.taxonomy.measurements import Measurements
from lightning_taskonomy.studies.taxonomy.plan import TaxonomyPlan

__all__ = ["RIVALS", "fixed_jobs", "novel_tasks"]

RIVALS = (
    "egomotion", "pose_fixated", "pose_nonfixated", "point_matching", "colorization", "jigsaw", "inpainting",
)  # fmt: skip
"""Tasks whose features are a rival for novel tasks, as in the paper's Fig. 10: Agrawal et al. (ICCV 2015) learn from
egomotion, Zamir et al. (ECCV 2016) from pose and matching, Zhang et al. (ECCV 2016) from colour, Noroozi and Favaro
(ECCV 2016) from jigsaw puzzles; in-painting is Pathak et al.'s (CVPR 2016)."""


def fixed_jobs(plan: TaxonomyPlan, fixed: RunSpec) -> list[Job]:
    """A network of fixed features, ImageNet's, its representations, and every target's readout of them."""
    keys: Sequence[str] = sorted({plan.tasks[name].input for name in plan.targets})
    readouts = [plan.transfer_from_job(target, [fixed], "imagenet") for target in plan.targets]
    return [plan.network_job(fixed), *(plan.encode(fixed, key) for key in keys), *readouts]


def novel_tasks(measurements: Measurements, fixed: RunSpec | None) -> Table:
    """All-for-one: each target as if it were new, target-only, at growing order (section 4.2, Fig. 10).

    Args:
        measurements: The finished runs, with each target as if it were new: its own network is not a member of its
            tournament; it is only what quality is measured against.
        fixed: A network of fixed features, ImageNet's.

    Returns:
        Per target and order: the policy, its affinity, gain (against scratch) and quality (against full supervision),
        its mean score and those of scratch and full supervision, and its win rate over each rival with the rival's
        mean score; all on the images to judge by, empty where there is no such network.
    """
    plan = measurements.plan
    table, scores, _, held_out = measurements.table()
    rivals = [*(["imagenet"] if fixed else []), *(name for name in RIVALS if name in plan.tasks)]
    columns = [
        "target", "order", "sources", "affinity", "gain", "quality", "loss", "loss_scratch", "loss_task_specific",
    ]  # fmt: skip
    columns += [f"{what}_{name}" for name in rivals for what in ("win_rate_vs", "loss")]
    rows: list[list[Any]] = []
    for target, networks in scores.items():
        others = {name: networks.get((target, "transfer", (name,))) for name in rivals}
        others |= {"scratch": networks.get((target, "scratch", ()))}
        others |= {"task_specific": networks.get((target, "task_specific", (target,)))}
        if fixed is not None and (run := plan.transfer_from(target, [fixed], "imagenet")).is_done:
            others["imagenet"] = read_scores(run.folder / "scores.npz", target)[1]
        losses = {name: _mean(values, held_out) for name, values in others.items()}
        for order in range(1, plan.settings.max_order + 1):
            solver = TaxonomySolver(budget=len(plan.tasks), max_order=order, novel=target)
            try:
                (transfer,) = solver.solve(table).policy.values()
            except InputError:
                continue  # no transfer of this target has an affinity
            ours = networks[transfer.key]
            rates = {name: _win_rate(ours, values, held_out) for name, values in others.items()}
            row = [
                target, order, ";".join(transfer.sources), transfer.affinity, rates["scratch"], rates["task_specific"],
                _mean(ours, held_out), losses["scratch"], losses["task_specific"],
            ]  # fmt: skip
            rows.append(row + [values[name] for name in rivals for values in (rates, losses)])
    return columns, rows


def _mean(scores: NDArray[np.float32] | None, images: NDArray[np.bool_]) -> float | None:
    """The mean score over some images; None where nothing is labelled or there is no such network."""
    return None if scores is None or np.isnan(scores[images]).all() else float(np.nanmean(scores[images]))


def _win_rate(
    scores: NDArray[np.float32], reference: NDArray[np.float32] | None, images: NDArray[np.bool_]
) -> float | None:
    """The win rate on some images; None where no image is valid in both or there is no such network."""
    rate = float("nan") if reference is None else win_rate(scores[images], reference[images])
    return None if np.isnan(rate) else rate
