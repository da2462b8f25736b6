"""Intervals of a mean over seeds."""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["half_width"]


def half_width(values: Sequence[float], level: float = 0.95) -> float | None:
    """Half of the interval of a mean by Student's t.

    Args:
        values: Independent measurements, such as one per seed.
        level: The confidence, above 0 and below 1.

    Returns:
        Half of the interval, in the unit of the values; None of fewer than two values, NaN where one is NaN.
    """
    from scipy.special import stdtrit

    count = len(values)
    if count < 2:
        return None
    return float(stdtrit(count - 1, (1 + level) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(count)
