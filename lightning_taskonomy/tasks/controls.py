"""Tasks for controlled experiments: what is known of them beforehand, no task of a user's has."""

from collections.abc import Mapping

from torch import Tensor

from lightning_taskonomy.tasks.base import Task, TaskKind
from lightning_taskonomy.tasks.labels import Label, LabelKind

__all__ = ["DEPTH_AGAIN", "depth_again"]


def depth_again(sample: Mapping[str, Tensor]) -> Tensor:
    """The depth of a sample, under another key.

    Args:
        sample: One sample with ``depth_z``, (1, H, W).
    """
    return sample["depth_z"].clone()


DEPTH_AGAIN = Task(
    "depth_again", TaskKind.DENSE, "depth_again", units="m", shift=3.0, scale=1.5,
    labels=(Label("depth_again", LabelKind.VALUES, made_by=f"{__name__}.depth_again", made_from=("depth_z",)),),
)  # fmt: skip
"""``depth_z`` once more: an auxiliary task that has the primary's labels in all images, where ``depth_z`` is primary.

What its gradient says of ``depth_z`` is then known, and what :class:`~lightning_taskonomy.models.heads.ConflictingHead`
makes of it is the only difference to all of the primary labels.
"""
