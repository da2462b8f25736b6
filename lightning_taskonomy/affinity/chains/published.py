"""What the paper prints, to stand beside one's own numbers.

"Factors of Influence for Transfer Learning across Diverse Appearance Domains and Task Types" (Mensink et al., TPAMI
2021). The gains of single chains are pictures in its text; its aggregated numbers are here.
"""

from dataclasses import dataclass
from typing import Literal

from lightning_taskonomy.affinity.chains.shares import GROUPS, Across

__all__ = ["PUBLISHED", "PUBLISHED_SHARES", "PUBLISHED_TASK_TYPES", "PublishedShares"]


@dataclass(frozen=True)
class PublishedShares:
    """A row of Table 7 or 8, in whole percent.

    Args:
        positive: Above 2 %, very positive ones included.
        very_positive: Above 10 %.
        negative: Below -2 %.
        count: How many chains, or targets in Table 8.
    """

    positive: int
    very_positive: int
    negative: int
    count: int


def _rows(*numbers: tuple[int, int, int, int]) -> dict[tuple[Across, Across], PublishedShares]:
    return {group: PublishedShares(*row) for group, row in zip(GROUPS, numbers, strict=True)}


PUBLISHED_SHARES: dict[
    tuple[Literal["all", "best"], Literal["small", "full"]], dict[tuple[Across, Across], PublishedShares]
] = {
    ("all", "small"): _rows((21, 11, 56, 509), (69, 44, 17, 64), (43, 22, 37, 49), (14, 5, 55, 242), (5, 2, 79, 154)),
    ("all", "full"): _rows((14, 3, 41, 382), (33, 9, 22, 78), (22, 6, 39, 18), (8, 1, 43, 242), (7, 2, 64, 44)),
    ("best", "small"): _rows((85, 67, 4, 27), (73, 64, 14, 22), (65, 35, 18, 17), (56, 30, 26, 27), (32, 11, 53, 19)),
    ("best", "full"): _rows((56, 19, 7, 27), (50, 15, 12, 26), (33, 17, 0, 6), (30, 4, 19, 27), (29, 14, 14, 7)),
}
"""Tables 7 (``all`` chains) and 8 (``best`` source per target) by setting, rows as `by_factors` gives them."""

PUBLISHED_TASK_TYPES: dict[tuple[str, str], dict[Literal["same_images", "same_domain"], tuple[int, int, int]]] = {
    ("segmentation", "detection"): {"same_images": (100, 0, 2), "same_domain": (63, 25, 8)},
    ("segmentation", "keypoints"): {"same_images": (0, 100, 1), "same_domain": (0, 100, 2)},
    ("segmentation", "depth"): {"same_images": (33, 0, 3), "same_domain": (33, 33, 3)},
    ("detection", "segmentation"): {"same_images": (0, 0, 1), "same_domain": (30, 50, 10)},
    ("detection", "keypoints"): {"same_images": (100, 0, 1), "same_domain": (100, 0, 2)},
    ("keypoints", "segmentation"): {"same_images": (0, 100, 1), "same_domain": (0, 100, 3)},
    ("keypoints", "detection"): {"same_images": (100, 0, 1), "same_domain": (0, 33, 3)},
    ("depth", "segmentation"): {"same_images": (100, 0, 1), "same_domain": (100, 0, 1)},
}
"""Table 11, small targets: positive and negative in percent and the count, by task types of source and target."""

PUBLISHED: dict[str, float] = {
    "tau distance small": 0.40,
    "tau source size small": 0.12,
    "tau one_to_one small_source": 0.20,
    "tau target_to_source small_source": 0.42,
    "tau source_to_target small_source": 0.06,
    "tau symmetric small_source": 0.27,
    "positive larger to smaller": 60,
    "positive smaller to larger": 5,
    "full positive also small positive": 80,
    "small positive also full positive": 43,
    "small negative not full positive": 100,
    "targets compared with the multi-source model": 10,
    "largest source beats the multi-source model": 7,
    "similar fixed resolution": 88,
    "similar ResNet-50": 81,
    "stronger ResNet-50": 69,
    "negative turned positive ResNet-50": 13,
}
"""Single numbers: tau of section 6 (A3) and Table 10, percentages of A8 and A9, counts of A5, percentages of
appendix B."""
