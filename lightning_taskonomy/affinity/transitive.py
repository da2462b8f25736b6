"""Does a detour help? Transitive transfers (s to t1 to t2) against direct ones (s to t2).

Taskonomy (Zamir et al., CVPR 2018), section 3.2: the two performed equally in almost all cases, with little and with
much data, so that taxonomies need no more than one level of branches.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lightning_taskonomy.affinity.win_rates import win_rate

__all__ = ["Detour", "compare_detour"]

Z = 1.959963984540054
"""Of 95 % confidence: the 97.5th percentile of the normal distribution."""


@dataclass(frozen=True)
class Detour:
    """A transitive transfer beside the direct one, on the images valid in both.

    Args:
        images: How many there are.
        win_rate: Share in [0, 1] on which the transitive one is better, ties counted half; NaN without an image.
        interval: Its 95 % confidence interval over images (Wilson's); (0, 1) without an image.
        gain: The transitive one's win rate against a network from scratch; None without one or a common image.
        direct_gain: The direct one's.
    """

    images: int
    win_rate: float
    interval: tuple[float, float]
    gain: float | None
    direct_gain: float | None

    @property
    def is_equal(self) -> bool:
        """Whether these images show no difference: one half lies within the interval."""
        return self.interval[0] <= 0.5 <= self.interval[1]


def compare_detour(transitive: ArrayLike, direct: ArrayLike, scratch: ArrayLike | None = None) -> Detour:
    """Compares the two image by image.

    Args:
        transitive: (N,) scores of the readout of t2 on the representation of s to t1, lower is better, NaN where
            unlabelled.
        direct: (N,) scores of the readout of t2 on s, for the same images.
        scratch: (N,) scores of t2 from scratch.

    Raises:
        InputError: They do not have one score for each of the same images.
    """
    rate = win_rate(transitive, direct)
    images = int(np.count_nonzero(~(np.isnan(np.asarray(transitive)) | np.isnan(np.asarray(direct)))))
    low, high = 0.0, 1.0
    if images:
        shrink = 1 / (1 + Z**2 / images)
        middle = shrink * (rate + Z**2 / (2 * images))
        reach = shrink * Z * math.sqrt(rate * (1 - rate) / images + (Z / (2 * images)) ** 2)
        low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    gains = [math.nan if scratch is None else win_rate(scores, scratch) for scores in (transitive, direct)]
    gain, direct_gain = (None if math.isnan(value) else value for value in gains)
    return Detour(images, rate, (low, high), gain, direct_gain)
