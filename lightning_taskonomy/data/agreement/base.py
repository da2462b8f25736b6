"""What a comparison of labels is, from where on it finds that they disagree, and what it reports."""

from dataclasses import dataclass
from math import inf
from typing import Protocol

from lightning_taskonomy.data.batch import Sample
from lightning_taskonomy.data.geometry import Intrinsics
from lightning_taskonomy.errors import InputError

__all__ = ["DEPTHS", "Comparison", "Limits", "Outcome", "image_count"]

DEPTHS = ("depth_z", "depth_euclidean")
"""The keys of depths along the axis and of distances from the camera, both in metres."""


@dataclass(frozen=True)
class Limits:
    """From where on labels disagree.

    Args:
        angle: Degrees between normals and those of the depth, the median of an image.
        ratio: Times that a depth may be larger or smaller than what other labels say.
        overlap: Intersection over union of a box and its mask's box; share of a mask's pixels that are of one class.

    Raises:
        InputError: One of them would call all or nothing wrong.
    """

    angle: float = 15.0
    ratio: float = 1.1
    overlap: float = 0.5

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for name, least, most in (("angle", 0, 180), ("ratio", 1, inf), ("overlap", 0, 1)):
            if not least < getattr(self, name) <= most:
                raise InputError(
                    f"{name} is {getattr(self, name):g}; give a number above {least}"
                    + (f", at most {most}" if most < inf else "")
                )


@dataclass(frozen=True)
class Outcome:
    """What a comparison shows.

    Args:
        measured: In one line, by how much the labels differ.
        problem: The same where that is too much, with what would fit.
    """

    measured: str
    problem: str | None = None


class Comparison(Protocol):
    """Two or more labels, compared image by image."""

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        """Takes an image into account.

        Args:
            sample: Its labels.
            name: What it is called in a message.
            camera: Its camera, if known.
        """

    def outcome(self) -> Outcome | None:
        """What it shows; None where no image had all the labels."""


def image_count(count: int) -> str:
    """In words."""
    return f"{count} images" if count != 1 else "1 image"
