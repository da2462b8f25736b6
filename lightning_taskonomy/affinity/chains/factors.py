"""The factors of influence: image domain, task type and size of what a chain passes through.

"Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2021), sections 3.2 to 3.4.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lightning_taskonomy.affinity.chains.reading import finite, read_rows
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import write_csv

__all__ = ["FACTOR_COLUMNS", "MARK", "Factors", "factors_of", "on_top", "read_factors", "write_factors"]

FACTOR_COLUMNS = ("name", "task_type", "domains", "images", "size")
"""The columns of ``factors.csv``; several domains or collections of images are separated by ``;``."""

MARK = "◥"
"""Of a chain whose source saw the target's images for another task."""


def on_top(images: int, share: float) -> int:
    """Images that select the learning rate of a small target, on top of those that it is trained on.

    Args:
        images: Images that it is trained on.
        share: Those that select learning rates, per image of a training set that includes them.
    """
    return max(1, round(images * share / (1 - share)))


@dataclass(frozen=True)
class Factors:
    """What a source or a target is.

    Args:
        task_type: Such as ``segmentation``, ``detection``, ``keypoints`` or ``depth``.
        domains: Its image domain; for a multi-source model the domains of all its collections.
        images: The collection of images it is trained on; several make it a multi-source model.
        size: How many training images it has in the full setting, at least 1.

    Raises:
        InputError: A field is empty, or names something twice.
    """

    task_type: str
    domains: tuple[str, ...]
    images: tuple[str, ...]
    size: int

    def __post_init__(self) -> None:
        for what, names in (("task_type", (self.task_type,)), ("domains", self.domains), ("images", self.images)):
            if not names or len(set(names)) != len(names) or not all(name and ";" not in name for name in names):
                raise InputError(f"{what} {';'.join(names)!r}: name at least one, each once, without ';' in it")
        if self.size < 1:
            raise InputError(f"size {self.size} is not a number of images: give at least 1")

    @property
    def multi_source(self) -> bool:
        """Whether it is trained on several collections."""
        return len(self.images) > 1

    @property
    def collection(self) -> str:
        """The name of its images in a table of distances: the collections joined by ``+``."""
        return "+".join(self.images)

    def same_domain(self, other: "Factors") -> bool:
        """Whether they have a domain in common.

        A multi-source model is within the domain of what it was trained on: only so are there 64 and 78 experiments
        within domain and task type, as the paper's Table 7 counts them.
        """
        return not set(self.domains).isdisjoint(other.domains)

    def same_type(self, other: "Factors") -> bool:
        """Whether their task types are the same."""
        return self.task_type == other.task_type

    def shares_images(self, other: "Factors") -> bool:
        """Whether they have a collection of images in common.

        Between task types this is the caveat of section 5.2: the source saw all images of the target's training part,
        for another task.
        """
        return not set(self.images).isdisjoint(other.images)

    def saw_images_of(self, target: "Factors") -> bool:
        """Whether, as a source, it saw the target's images with labels of another task type: such chains are marked."""
        return self.shares_images(target) and not self.same_type(target)

    def was_trained_on(self, target: "Factors") -> bool:
        """Whether it is a model of several sources with the target among them, on which it is not judged."""
        return self.multi_source and self.same_type(target) and self.shares_images(target)


def factors_of(name: str, factors: Mapping[str, Factors]) -> Factors:
    """The factors of a source or target by its name.

    Raises:
        InputError: There are none.
    """
    if name not in factors:
        raise InputError(f"{name!r} has no factors of influence{hint(name, factors)}")
    return factors[name]


def read_factors(path: str | os.PathLike[str]) -> dict[str, Factors]:
    """Reads the factors of every source and target.

    Args:
        path: The CSV, or the folder of a study that has its ``factors.csv``.

    Raises:
        InputError: The file cannot be read, its columns are others, or a row is wrong; the line is named.
    """
    factors: dict[str, Factors] = {}
    for line, (name, row) in read_rows(path, "factors.csv", FACTOR_COLUMNS, _parse):
        if name in factors:
            raise InputError(f"{path} line {line}: {name!r} comes twice: keep one of its rows")
        factors[name] = row
    return factors


def write_factors(path: str | os.PathLike[str], factors: Mapping[str, Factors]) -> None:
    """Writes the CSV atomically; reading it gives equal factors."""
    rows = ((name, f.task_type, ";".join(f.domains), ";".join(f.images), f.size) for name, f in factors.items())
    write_csv(path, FACTOR_COLUMNS, rows)


def _parse(cells: dict[str, str]) -> tuple[str, Factors]:
    if not cells["name"]:
        raise InputError("the name is empty")
    domains, images = (tuple(word.strip() for word in cells[column].split(";")) for column in ("domains", "images"))
    size = finite(cells["size"], "size")
    if size != int(size):
        raise InputError(f"size {cells['size']!r} is not a whole number")
    return cells["name"], Factors(cells["task_type"], domains, images, int(size))
