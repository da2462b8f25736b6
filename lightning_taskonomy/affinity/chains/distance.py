"""Domain distance: how far the images of a target are from those of a source, by pooled features.

"Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2021), section 3.2, Eq. (1), and the four
assignments of section 6 (A4) and Table 10. The paper takes 1,000 images of each collection, 720 features each from its
multi-source segmentation backbone, averaged over the image.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.chains.factors import Factors, factors_of
from lightning_taskonomy.affinity.chains.reading import finite, read_rows
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import write_csv

__all__ = ["Assignment", "Distances", "Nearest", "chain_distances", "domain_distances", "nearest", "one_to_one"]

Assignment = Literal["one_to_one", "target_to_source", "source_to_target", "symmetric"]
"""``one_to_one``: another source image for each target image, so that the mean is smallest (earth mover's distance);
``target_to_source``: the nearest source image of each target image, Eq. (1), small where the source includes it;
``source_to_target``: the nearest target image of each source image; ``symmetric``: the mean of the last two."""

ROWS, COLUMNS = 512, 4096
"""Images of target and source whose distances are computed at once: 8 MiB."""

GROUP = 64
"""Images of the target among which a source image's nearest is searched again; ROWS are a multiple of it."""

Features = NDArray[np.floating]


@dataclass(frozen=True)
class Nearest:
    """The distance of each image to the nearest one of the other collection.

    Args:
        target_to_source: (N,) of the target's images.
        source_to_target: (M,) of the source's images.
    """

    target_to_source: NDArray[np.float64]
    source_to_target: NDArray[np.float64]


def nearest(target: Features, source: Features) -> Nearest:
    """Euclidean distances to the nearest images, both ways from one blocked matrix product.

    The nearest image is searched in float32, around the common mean; its distance is then computed in float64. So a
    distance is never below the exact minimum, and above it only where several images are equally near up to rounding.
    Beside the features it takes about as much memory as both of them have in float32, and some blocks.

    Args:
        target: (N, D) features.
        source: (M, D) features.

    Raises:
        InputError: The shapes do not fit, a collection has no image, or a feature is not finite.
    """
    target, source = _checked(target, source)
    mean = (target.sum(axis=0, dtype=np.float64) + source.sum(axis=0, dtype=np.float64)) / (len(target) + len(source))
    ends = np.stack([end(side, axis=0) for side in (target, source) for end in (np.min, np.max)])
    scale = float(np.abs(ends - mean).max()) or 1.0
    left, right = _augmented(target, mean, scale, -len(target) % GROUP), _augmented(source, mean, scale)
    left[:, :-2] *= -2
    right[:, [-2, -1]] = right[:, [-1, -2]]
    best_t, best_s = np.full(len(left), np.inf, np.float32), np.full(len(right), np.inf, np.float32)
    near_t, group_s = np.zeros(len(left), np.intp), np.zeros(len(right), np.intp)
    buffer = np.empty((min(ROWS, len(left)), min(COLUMNS, len(right))), np.float32)
    for row in range(0, len(left), ROWS):
        rows = slice(row, min(row + ROWS, len(left)))
        for column in range(0, len(right), COLUMNS):
            columns = slice(column, min(column + COLUMNS, len(right)))
            block = buffer[: rows.stop - row, : columns.stop - column]
            np.matmul(left[rows], right[columns].T, out=block)
            place = block.argmin(axis=1)
            _keep(best_t[rows], near_t[rows], block[np.arange(len(place)), place], place + column)
            lowest = block.reshape(-1, GROUP, block.shape[1]).min(axis=1)  # argmin along columns is slow
            place = lowest.argmin(axis=0)
            _keep(best_s[columns], group_s[columns], lowest[place, np.arange(len(place))], place + row // GROUP)
    near_s = np.zeros(len(right), np.intp)
    for group in np.unique(group_s):
        (columns_of,) = np.nonzero(group_s == group)
        start = group * GROUP
        near_s[columns_of] = start + (left[start : start + GROUP] @ right[columns_of].T).argmin(axis=0)
    return Nearest(_distances(target, source, near_t[: len(target)]), _distances(source, target, near_s))


def one_to_one(target: Features, source: Features) -> float:
    """The mean Euclidean distance of the best pairs, each image in one pair at most (Hungarian algorithm).

    Of collections of different sizes all images of the smaller one are paired, and those of the larger one that are
    left over do not count. Sets of one size are what the paper compares, so draw as many images of each where that
    matters. It takes the memory of (N, M) float64 and grows with the cube of the size: 1,000 images take a second.

    Args:
        target: (N, D) features.
        source: (M, D) features.

    Raises:
        InputError: As for :func:`nearest`.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    costs = cdist(*_checked(target, source))
    return float(costs[linear_sum_assignment(costs)].mean())


def domain_distances(target: Features, source: Features) -> dict[Assignment, float]:
    """The distance by all four assignments.

    Args:
        target: (N, D) features.
        source: (M, D) features.

    Raises:
        InputError: As for :func:`nearest`.
    """
    both = nearest(target, source)
    inclusion, reverse = float(both.target_to_source.mean()), float(both.source_to_target.mean())
    return {
        "one_to_one": one_to_one(target, source),
        "target_to_source": inclusion,
        "source_to_target": reverse,
        "symmetric": (inclusion + reverse) / 2,
    }


@dataclass(frozen=True)
class Distances:
    """Distances between collections of images.

    Args:
        values: By (target, source), each the name of a collection, those of the four assignments, at least 0.
    """

    values: Mapping[tuple[str, str], Mapping[Assignment, float]]

    @classmethod
    def measure(cls, features: Mapping[str, Features]) -> "Distances":
        """The distances between every two collections, each pair computed once.

        Args:
            features: (N, D) by the name of the collection; a multi-source model's are those of all its images, under
                the names joined by ``+``.

        Raises:
            InputError: As for :func:`nearest`.
        """
        values: dict[tuple[str, str], Mapping[Assignment, float]] = {}
        names = list(features)
        for place, target in enumerate(names):
            for source in names[place + 1 :]:
                there = domain_distances(features[target], features[source])
                back = dict(there)
                back["target_to_source"], back["source_to_target"] = (
                    there["source_to_target"],
                    there["target_to_source"],
                )
                values[target, source], values[source, target] = there, back
        return cls(values)

    def of(self, target: str, source: str, assignment: Assignment = "target_to_source") -> float:
        """One distance; 0 of a collection to itself.

        Raises:
            InputError: It was not measured, or there is no such assignment.
        """
        if assignment not in get_args(Assignment):
            raise InputError(f"assignment {assignment!r} is unknown{hint(assignment, get_args(Assignment))}")
        if target == source:
            return 0.0
        if (target, source) not in self.values:
            raise InputError(f"the distance of {target} from {source} was not measured: give features of both")
        return self.values[target, source][assignment]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Distances":
        """Reads what :meth:`write` wrote.

        Args:
            path: The CSV, or the folder of a study that has its ``distances.csv``.

        Raises:
            InputError: The file cannot be read, its columns are others, or a row is wrong; the line is named.
        """
        values: dict[tuple[str, str], Mapping[Assignment, float]] = {}
        for line, (pair, row) in read_rows(path, "distances.csv", ("target", "source", *get_args(Assignment)), _parse):
            if pair in values:
                raise InputError(f"{path} line {line}: {pair[0]} from {pair[1]} comes twice: keep one of its rows")
            values[pair] = row
        return cls(values)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the CSV atomically; reading it gives equal distances."""
        names = get_args(Assignment)
        rows = ([*pair, *(repr(float(row[name])) for name in names)] for pair, row in self.values.items())
        write_csv(path, ("target", "source", *names), rows)


def chain_distances(
    chains: Iterable[tuple[str, str]],
    distances: Distances,
    factors: Mapping[str, Factors],
    assignment: Assignment = "target_to_source",
) -> dict[tuple[str, str], float]:
    """The distances of chains; those whose collections have none, as a multi-source model's may, are left out.

    Args:
        chains: (target, source) of each.
        distances: Between their collections of images.
        factors: Of all targets and sources.
        assignment: Which distance.

    Raises:
        InputError: A target or source has no factors.
    """
    result = {}
    for target, source in chains:
        pair = factors_of(target, factors).collection, factors_of(source, factors).collection
        if pair in distances.values or pair[0] == pair[1]:
            result[target, source] = distances.of(*pair, assignment)
    return result


def _checked(target: Features, source: Features) -> tuple[Features, Features]:
    target, source = np.asarray(target), np.asarray(source)
    for name, side in (("target", target), ("source", source)):
        if side.ndim != 2 or not side.size:
            raise InputError(f"features of the {name} are {side.shape}: give (images, channels), at least one of each")
        if not all(np.isfinite(part).all() for part in _parts(side)):
            raise InputError(f"features of the {name} are not all finite: leave out the images whose features are not")
    if target.shape[1] != source.shape[1]:
        raise InputError(
            f"the target has {target.shape[1]} features per image, the source {source.shape[1]}: take one backbone"
        )
    return target, source


def _parts(features: Features) -> list[Features]:
    """The rows in blocks."""
    return [features[start : start + ROWS] for start in range(0, len(features), ROWS)]


def _augmented(features: Features, mean: NDArray[np.float64], scale: float, padding: int = 0) -> NDArray[np.float32]:
    """(N + padding, D + 2) float32: features around the mean, their squared norm, 1; padding is infinitely far."""
    out = np.zeros((len(features) + padding, features.shape[1] + 2), np.float32)
    out[:, -2:] = np.inf, 1
    dtype = np.result_type(features, np.float32)
    for rows, part in zip(_parts(out[: len(features)]), _parts(features), strict=True):
        centred = np.subtract(part, mean, dtype=dtype, casting="same_kind")
        np.divide(centred, scale, out=rows[:, :-2], casting="same_kind")
        rows[:, -2] = np.einsum("nd,nd->n", rows[:, :-2], rows[:, :-2])
    return out


def _keep(
    best: NDArray[np.float32], near: NDArray[np.intp], value: NDArray[np.float32], place: NDArray[np.intp]
) -> None:
    """Takes over what is lower."""
    lower = value < best
    best[lower], near[lower] = value[lower], place[lower]


def _distances(ours: Features, theirs: Features, place: NDArray[np.intp]) -> NDArray[np.float64]:
    """(N,) distances of each image to the one at a place."""
    parts = zip(_parts(ours), (place[start : start + ROWS] for start in range(0, len(place), ROWS)), strict=True)
    return np.concatenate([np.linalg.norm(np.subtract(a, theirs[b], dtype=np.float64), axis=1) for a, b in parts])


def _parse(cells: dict[str, str]) -> tuple[tuple[str, str], dict[Assignment, float]]:
    row = {name: finite(cells[name], name) for name in get_args(Assignment)}
    for name, value in row.items():
        if value < 0:
            raise InputError(f"{name} {value:g} is below 0: no distance is")
    return (cells["target"], cells["source"]), row
