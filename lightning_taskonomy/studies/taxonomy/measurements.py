"""What the finished runs of a plan measured: per-image scores, which higher orders follow, the transfers table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity import TransfersTable, candidates
from lightning_taskonomy.affinity.table import TransferKey
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.studies.taxonomy.analysis import Scores, halves, measure, read_scores
from lightning_taskonomy.studies.taxonomy.plan import TaxonomyPlan

__all__ = ["Measurements"]


@dataclass(frozen=True)
class Measurements:
    """What the finished runs of a plan measured.

    Args:
        plan: The runs.
        same_images: Judge by the images that the affinity is measured on, as the paper does.
        novel: Each target as if it were new (section 4.2): its task-specific network is in no tournament.
    """

    plan: TaxonomyPlan
    same_images: bool = False
    novel: bool = False

    def higher_orders(self, target: str) -> list[tuple[str, ...]]:
        """The sets of several sources by the paper's rule, from the first-order affinities of a target.

        None of them where no first-order transfer of the target is finished.
        """
        if not any(kind == "transfer" for _, kind, _ in self._networks(target, first_order=True)):
            return []
        scores, ids = self._scores([target], first_order=True)
        images, _ = halves(ids, self.plan.settings.seed, self.same_images)
        ranked = {
            row.sources[0]: row.affinity
            for row in self._measured(scores, images, images).transfers
            if row.kind == "transfer" and row.affinity is not None
        }
        orders = range(2, self.plan.settings.max_order + 1)
        return [sources for order in orders for sources in candidates(ranked, order, self.plan.settings.beam)]

    def higher_jobs(self) -> list[Job]:
        """The transfers of several sources into every target."""
        plan = self.plan
        return [plan.transfer_job(target, sources) for target in plan.targets for sources in self.higher_orders(target)]

    def table(self) -> tuple[TransfersTable, Scores, NDArray[np.bool_], NDArray[np.bool_]]:
        """(III) The transfers table, the scores behind it, the images of the affinity and those to judge by.

        Raises:
            InputError: No transfer is finished, or a run was tested on other images.
        """
        networks, ids = self._scores(self.plan.targets)
        scores = {t: rows for t, rows in networks.items() if any(kind == "transfer" for _, kind, _ in rows)}
        if not scores:
            raise self._nothing("transfer", "transfers")
        images, held_out = halves(ids, self.plan.settings.seed, self.same_images)
        return self._measured(scores, images, held_out), scores, images, held_out

    def _measured(self, scores: Scores, images: NDArray[np.bool_], held_out: NDArray[np.bool_]) -> TransfersTable:
        """The transfers table, of novel tasks without the targets' own networks."""
        if self.novel:
            scores = {t: {key: v for key, v in rows.items() if key[1] != "task_specific"} for t, rows in scores.items()}
        return measure(scores, images, held_out)

    def _networks(self, target: str, first_order: bool) -> dict[TransferKey, RunSpec]:
        """The finished networks of a target, by the key of their row."""
        runs: dict[TransferKey, RunSpec] = {
            (target, "task_specific", (target,)): self.plan.task_specific(target),
            (target, "scratch", ()): self.plan.scratch(target),
        }
        sets: list[tuple[str, ...]] = [(name,) for name in self.plan.tasks if name != target]
        if not first_order and self.plan.settings.max_order > 1:
            sets += self.higher_orders(target)
        runs |= {(target, "transfer", sources): self.plan.transfer(target, sources) for sources in sets}
        return {key: run for key, run in runs.items() if run.is_done}

    def _scores(self, targets: Sequence[str], first_order: bool = False) -> tuple[Scores, NDArray[np.int64]]:
        """Per-image scores of the finished networks of some targets, and the images' ids."""
        scores: Scores = {}
        ids: NDArray[np.int64] | None = None
        for target in targets:
            scores[target] = {}
            for key, run in self._networks(target, first_order).items():
                tested, values = read_scores(run.folder / "scores.npz", target)
                if ids is not None and not np.array_equal(ids, tested):
                    raise InputError(f"{run.folder} was tested on other images than the rest; remove it and run again")
                ids, scores[target][key] = tested, values
        if ids is None:
            raise self._nothing(f"network of {', '.join(targets)}", "networks")
        return scores, ids

    def _nothing(self, what: str, stage: str) -> InputError:
        return InputError(
            f"{self.plan.root} holds no finished {what}; run stage {stage!r} first, or see its failures.json"
        )
