"""What a policy is worth, on images of one's choice.

Taskonomy (Zamir et al., CVPR 2018), section 4.1: *gain* is the win rate against a network trained from scratch on the
transfer's training data; *quality* is the win rate against the fully supervised network, the gold standard.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lightning_taskonomy.affinity.table import Transfer
from lightning_taskonomy.affinity.tournament import NetworkScores
from lightning_taskonomy.affinity.win_rates import win_rate
from lightning_taskonomy.errors import InputError

__all__ = ["Outcome", "policy_outcome"]


@dataclass(frozen=True)
class Outcome:
    """Gain and quality of a policy.

    Args:
        gain: Per target a share in [0, 1]; None without a network from scratch or a common valid image.
        quality: Per target a share in [0, 1]; None without a task-specific network or a common valid image.
    """

    gain: dict[str, float | None]
    quality: dict[str, float | None]

    @property
    def mean_gain(self) -> float | None:
        """Mean over the targets that have one; None if none has."""
        return _mean(self.gain)

    @property
    def mean_quality(self) -> float | None:
        """Mean over the targets that have one; None if none has."""
        return _mean(self.quality)


def policy_outcome(policy: Mapping[str, Transfer], measured: Mapping[str, Mapping[str, NetworkScores]]) -> Outcome:
    """Gain and quality of every target's transfer.

    Args:
        policy: The transfer of every target, as a solver returns it.
        measured: Per target its networks and their scores on the images to judge by (the paper takes those that the
            affinity was measured on; others are fairer).

    Raises:
        InputError: A target or its chosen transfer has no scores.
    """
    gain: dict[str, float | None] = {}
    quality: dict[str, float | None] = {}
    for target, transfer in policy.items():
        networks = {
            Transfer(target, len(network.sources), network.sources, network.kind).key: network
            for network in measured.get(target, {}).values()
        }
        if transfer.key not in networks:
            raise InputError(f"transfer {transfer} has no scores here: score it on these images first")
        ours = networks[transfer.key].scores
        for result, reference in (
            (gain, networks.get((target, "scratch", ()))),
            (quality, networks.get((target, "task_specific", (target,)))),
        ):
            rate = math.nan if reference is None else win_rate(ours, reference.scores)
            result[target] = None if math.isnan(rate) else rate
    return Outcome(gain, quality)


def _mean(rates: Mapping[str, float | None]) -> float | None:
    measured = [rate for rate in rates.values() if rate is not None]
    return math.fsum(measured) / len(measured) if measured else None
