"""Labels that geometry ties together, compared over some images of a data set: what disagrees, by how much, what fits.

Normals and depth; normals and vanishing points; depth, poses and a second view; depth and distance; boxes and masks;
masks and the class of each pixel. Each comparison is given one sample after the other and keeps a few numbers of each.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log, radians
from typing import Protocol

import torch
from torch import Tensor

from lightning_taskonomy.data import geometry
from lightning_taskonomy.data.batch import Sample
from lightning_taskonomy.data.geometry import AXES, Intrinsics
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, LabelKind, presence

__all__ = ["DEPTHS", "Comparison", "Limits", "Outcome", "comparisons", "outcomes"]

DEPTHS = ("depth_z", "depth_euclidean")
"""The keys of depths along the axis and of distances from the camera, both in metres."""
_REACH = 4
_FIELDS = [radians(degrees) for degrees in range(30, 125, 5)]
_PAIRS = {"pair_fixated": "pose_fixated", "pair_nonfixated": "pose_nonfixated"}
_USUAL = radians(60)
_CLEARLY = 3.0


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
    """What a comparison has found.

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
        """What has been found; None where no image had all the labels."""


def comparisons(
    keys: Collection[str], labels: Mapping[str, Label], limits: Limits, *, groupings: Collection[str] = ()
) -> list[Comparison]:
    """Those that the labels at hand allow.

    Args:
        keys: The labels that are read.
        labels: What they hold.
        limits: From where on they disagree.
        groupings: Keys of segments, whose numbers mean nothing across images.
    """
    of = {kind: sorted(key for key in keys if key in labels and labels[key].kind is kind) for kind in LabelKind}
    depth = next((key for key in DEPTHS if key in keys), None)
    wanted: list[Comparison] = []
    for normals in of[LabelKind.NORMALS]:
        wanted.append(_NormalsAndDepth(normals, depth, limits) if depth else _NormalsAndCamera(normals))
        wanted += [_NormalsAndFrame(normals, frame) for frame in of[LabelKind.FRAME]]
    if depth is not None:
        wanted.append(_DepthAtCentre(depth, "pose_fixated", limits))
        wanted += [_SecondView(pair, pose, depth) for pair, pose in _PAIRS.items() if {pair, pose} <= {*keys}]
    if all(key in keys for key in DEPTHS):
        wanted.append(_DepthAndDistance(limits))
    for masks in of[LabelKind.MASKS]:
        objects = labels[masks].objects
        wanted += [_BoxesAndMasks(b, masks, limits) for b in of[LabelKind.BOXES] if labels[b].objects == objects]
        for classes in of[LabelKind.OBJECT_CLASSES]:
            if labels[classes].objects == objects:
                maps = [key for key in of[LabelKind.CLASSES] if key not in groupings and labels[key].stride == 1]
                wanted += [_MasksAndClasses(masks, classes, key, limits) for key in maps]
    return wanted


def _size(entry: Tensor) -> tuple[int, int]:
    return int(entry.shape[-2]), int(entry.shape[-1])


def _known(sample: Sample, *keys: str) -> bool:
    return all(key in sample and bool(sample.get(presence(key), True)) for key in keys)


@dataclass
class _NormalsAndDepth:
    """The normals of planes fitted to windows of 9 by 9 depths; an unknown field of view is fitted to all images.

    Angles are given as the median of an image, their mean and their worst over images: a floor and a ceiling alone tell
    little of an axis turned round. Which axes fit is decided by the mean of all pixels.
    """

    normals: str
    depth: str
    limits: Limits
    names: list[str] = field(default_factory=list)
    tables: list[Tensor] = field(default_factory=list)
    distances: list[Tensor] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        if not _known(sample, self.normals, self.depth):
            return
        normals, depth = sample[self.normals], sample[self.depth]
        size = _size(depth)
        if _size(normals) != size or min(size) <= 2 * _REACH or normals.isnan().all() or depth.isnan().all():
            return
        cameras = [Intrinsics.of_view(size, angle) for angle in _FIELDS] if camera is None else [camera]
        along, rows = [], []
        for lens in cameras:
            converted = geometry.depth_of_distance(depth, lens)
            read, other = (depth, converted) if self.depth == "depth_z" else (converted, depth)
            rows.append(self._angles(normals, read, lens, AXES))
            along.append(self._angles(normals, other, lens, AXES[:1]))
        if not rows[0].isnan().any():
            self.names.append(name)
            self.tables.append(torch.stack(rows))
            self.distances.append(torch.stack(along))

    def _angles(self, normals: Tensor, depth: Tensor, camera: Intrinsics, axes: Tensor) -> Tensor:
        fitted = geometry.normals_from_depth(depth, camera.focal, camera.centre, _REACH)
        return geometry.angles_between(normals, fitted, axes)

    def outcome(self) -> Outcome | None:
        if not self.tables:
            return None
        count = min(len(table) for table in self.tables)  # with some cameras known, only those images
        chosen = [index for index, table in enumerate(self.tables) if len(table) == count]
        tables = torch.stack([self.tables[index] for index in chosen])  # image, field of view, axes, median and mean
        medians, means = tables.mean(0).unbind(-1)
        view = int(means[:, 0].argmin())
        median, mean = float(medians[view, 0]), float(means[view, 0])
        which = int(tables[:, view, 0, 0].argmax())
        worst = float(tables[which, view, 0, 0])
        measured = (
            f"{self.normals} and {self.depth} differ by {median:.1f} deg on average over {_images(len(chosen))}, "
            f"{worst:.1f} deg in the worst ({self.names[chosen[which]]})"
        )
        if count > 1:
            measured += f", with a fitted field of view of {round(_FIELDS[view] * 180 / torch.pi)} deg"
        fitting = int(means.argmin())
        best, axes = float(means.min()), AXES[fitting % len(AXES)]
        other = float(torch.stack([self.distances[index] for index in chosen])[..., 1].mean(0).min())
        if other < best and _clearly(other, mean):
            meant = "distances from the camera" if self.depth == "depth_z" else "depths along its axis"
            advice = f"{self.depth} looks like {meant}: so it fits at {other:.1f} deg, as read {mean:.1f}"
        elif fitting % len(AXES) and _clearly(best, mean):
            name = geometry.axes_name(axes)
            advice = f"{self.normals} look turned: {name} fits at {best:.1f} deg, as read {mean:.1f}"
        elif max(median, worst) > self.limits.angle:
            return Outcome(
                measured, f"{measured}, more than {self.limits.angle:g}; no exchange or reversal of axes fits better"
            )
        else:
            return Outcome(measured)
        return Outcome(measured, f"{measured}; {advice} (mean of all pixels)")


def _clearly(better: float, worse: float) -> bool:
    return better < worse / 2 and worse - better > _CLEARLY


def _images(count: int) -> str:
    return f"{count} images" if count != 1 else "1 image"


@dataclass
class _NormalsAndCamera:
    """Without a depth: what is seen faces the camera."""

    normals: str
    shares: list[float] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        if _known(sample, self.normals) and not sample[self.normals].isnan().all():
            size = _size(sample[self.normals])
            lens = camera or Intrinsics.of_view(size, _USUAL)
            self.shares.append(float(geometry.facing_away(sample[self.normals], lens)))

    def outcome(self) -> Outcome | None:
        if not self.shares:
            return None
        mean = sum(self.shares) / len(self.shares)
        measured = f"{mean:.0%} of {self.normals} point away from the camera ({_images(len(self.shares))})"
        return Outcome(
            measured, f"{measured}; what is seen faces it: axes are reversed or exchanged" if mean > 0.5 else None
        )


@dataclass
class _NormalsAndFrame:
    """Much of what people build lies along the vanishing directions, or across."""

    normals: str
    frame: str
    shares: list[Tensor] = field(default_factory=list)
    away: list[Tensor] = field(default_factory=list)
    inverted: list[bool] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        if not _known(sample, self.normals, self.frame):
            return
        normals, frame = sample[self.normals], sample[self.frame]
        if normals.isnan().all() or frame.isnan().any():
            return
        self.shares.append(geometry.share_along(normals, frame))
        self.away.append(geometry.facing_away(normals, camera or Intrinsics.of_view(_size(normals), _USUAL), AXES))
        self.inverted.append(bool(frame.reshape(3, 3)[1, 1] < 0))

    def outcome(self) -> Outcome | None:
        if not self.shares:
            return None
        shares = torch.stack(self.shares).mean(0)
        best = float(shares.max())
        measured = (
            f"{float(shares[0]):.0%} of {self.normals} lie within 5 deg of a direction of {self.frame} "
            f"({_images(len(self.shares))})"
        )
        upside = sum(self.inverted) / len(self.inverted)
        if upside > 0.5:
            return Outcome(measured, f"{measured}; its 'down' points up in {upside:.0%} of them")
        if best < 0.3 or float(shares[0]) > best / 2:
            return Outcome(measured)
        changes = AXES.ne(torch.eye(3)).flatten(1).sum(1)  # directions fit either way, so what faces the camera
        fits = (shares > 0.95 * best) & (torch.stack(self.away).mean(0) < 0.5)
        fitting = int(torch.where(fits, changes, 100).argmin())
        return Outcome(measured, f"{measured}, {best:.0%} with {geometry.axes_name(AXES[fitting])}")


@dataclass
class _DepthAtCentre:
    """The depth in the middle against where the axes of a fixated pair meet, or against the metadata's distance."""

    depth: str
    pose: str
    limits: Limits
    ratios: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    posed: int = 0

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        if not _known(sample, self.depth):
            return
        depth = sample[self.depth][0]
        height, width = _size(depth)
        x, y = camera.centre if camera else ((width - 1) / 2, (height - 1) / 2)
        middle = depth[max(int(y), 0) : int(y + 1.99), max(int(x), 0) : int(x + 1.99)]
        middle = middle[~middle.isnan()]
        if not len(middle):
            return
        along, pose = camera.fixation if camera else None, sample.get(self.pose)
        if pose is not None and not pose.isnan().any():
            meeting, gap, angle = geometry.axis_meeting(pose)
            if angle > 2 and meeting > 0:
                along, self.posed = meeting, self.posed + 1
                self.gaps.append(gap / meeting)
        if along:
            self.ratios.append(float(middle.median()) / along)

    def outcome(self) -> Outcome | None:
        if not self.ratios:
            return None
        factors = torch.tensor(self.ratios, dtype=torch.float64).clamp(min=1e-9).log()
        ratio = float(factors.median().exp())
        spread = float((factors - factors.median()).abs().median().exp())
        source = (
            f"where the axes of {self.pose} meet" if self.posed > len(self.ratios) / 2 else "the metadata's distance"
        )
        measured = f"{self.depth} in the middle is {ratio:.3g} times {source} (median of {_images(len(self.ratios))})"
        if self.gaps and sorted(self.gaps)[len(self.gaps) // 2] > self.limits.ratio - 1:
            gap = sorted(self.gaps)[len(self.gaps) // 2]
            return Outcome(measured, f"{measured}; but they pass each other at {gap:.2g} of that: {self.pose} is wrong")
        if spread > self.limits.ratio:
            return Outcome(measured, f"{measured}, but half of them differ from that by more than {spread:.2g} times")
        if abs(log(max(ratio, 1e-9))) > log(self.limits.ratio):
            return Outcome(measured, f"{measured}; another unit? divided by {ratio:.3g} it fits")
        return Outcome(measured)


@dataclass
class _SecondView:
    """The second picture at the points that the first one sees, by their correlation in grey."""

    pair: str
    pose: str
    depth: str
    correlations: list[Tensor] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        if camera is None or not _known(sample, self.pair, self.pose, self.depth) or sample[self.pose].isnan().any():
            return
        depth, pose = sample[self.depth], sample[self.pose]
        if _size(depth) != _size(sample[self.pair]):
            return
        depth = depth if self.depth == "depth_z" else geometry.depth_of_distance(depth, camera)
        turn = geometry.rotation_matrix(pose[:3]).float()
        back = torch.cat([-pose[:3], -(turn.T @ pose[3:])])
        first, second = sample[self.pair].mean(1)
        seen = [geometry.warped(second[None], depth, motion, camera)[0] for motion in (pose, back)]
        correlations = torch.tensor([_correlation(first, view) for view in seen])
        if not correlations.isnan().any():
            self.correlations.append(correlations)

    def outcome(self) -> Outcome | None:
        if not self.correlations:
            return None
        read, back = torch.stack(self.correlations).mean(0).tolist()
        measured = (
            f"{self.pose} carries {self.depth} onto the second view of {self.pair} with a correlation of {read:.2f} "
            f"({_images(len(self.correlations))})"
        )
        wrong = back - read > 0.15
        return Outcome(measured, f"{measured}, of {back:.2f} with the pose inverted" if wrong else None)


def _correlation(first: Tensor, second: Tensor) -> float:
    """NaN where less than a tenth of the picture can be compared."""
    valid = ~second.isnan()
    if valid.float().mean() < 0.1:
        return float("nan")
    return float(torch.corrcoef(torch.stack([first[valid], second[valid]]))[0, 1])


@dataclass
class _DepthAndDistance:
    """A distance from the camera is the depth along its axis times the length of the pixel's ray."""

    limits: Limits
    ratios: list[float] = field(default_factory=list)
    exchanged: list[float] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        if camera is None or not _known(sample, *DEPTHS):
            return
        depth, distance = (sample[key][0] for key in DEPTHS)
        valid = (depth > 0) & (distance > 0)
        if not valid.any():
            return
        length = camera.rays(_size(depth)).norm(dim=0)[valid]
        error = [(distance / depth)[valid] / length, (depth / distance)[valid] / length]
        self.ratios.append(float(error[0].log().abs().median().exp()))
        self.exchanged.append(float(error[1].log().abs().median().exp()))

    def outcome(self) -> Outcome | None:
        if not self.ratios:
            return None
        read, exchanged = (sum(values) / len(values) for values in (self.ratios, self.exchanged))
        measured = f"depth_euclidean and depth_z differ by {read - 1:.1%} ({_images(len(self.ratios))})"
        if read < self.limits.ratio:
            return Outcome(measured)
        advice = (
            "exchanged they fit" if exchanged < self.limits.ratio else "their units differ, or one is another depth"
        )
        return Outcome(measured, f"{measured}; {advice}")


_LAYOUTS = (
    "x and y exchanged",
    "left, top, width and height",
    "centre, width and height",
    "shares of the image's width and height",
)
"""How boxes are written elsewhere."""


def _rewritten(boxes: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """Boxes as read and by each of ``_LAYOUTS``."""
    corner, extent = boxes[:, :2], boxes[:, 2:]
    return [
        boxes,
        boxes[:, [1, 0, 3, 2]],
        torch.cat([corner, corner + extent], 1),
        torch.cat([corner - extent / 2, corner + extent / 2], 1),
        boxes * boxes.new_tensor([size[1], size[0], size[1], size[0]]),
    ]


@dataclass
class _BoxesAndMasks:
    """A box against the smallest one around its mask."""

    boxes: str
    masks: str
    limits: Limits
    overlaps: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        if not _known(sample, self.boxes, self.masks):
            return
        boxes, masks = sample[self.boxes], sample[self.masks]
        if len(boxes) != len(masks):
            self.unpaired.append(f"{len(boxes)} boxes and {len(masks)} masks in {name}")
            return
        around = geometry.boxes_of_masks(masks)
        valid = ~(boxes.isnan().any(1) | around.isnan().any(1))
        if not valid.any():
            return
        boxes, around = boxes[valid].float(), around[valid]
        self.overlaps.append(torch.stack([_overlap(layout, around) for layout in _rewritten(boxes, _size(masks))]))
        self.names += [name] * int(valid.sum())

    def outcome(self) -> Outcome | None:
        if self.unpaired:
            return Outcome(self.unpaired[0], f"{self.boxes} and {self.masks} differ in number: {self.unpaired[0]}")
        if not self.overlaps:
            return None
        overlaps = torch.cat(self.overlaps, 1)
        read, means = overlaps[0], overlaps.mean(1)
        worst, low = int(read.argmin()), int((read < self.limits.overlap).sum())
        measured = (
            f"{self.boxes} overlap the boxes of their {self.masks} by {float(means[0]):.2f} on average over "
            f"{len(read)} objects, {float(read[worst]):.2f} in the worst ({self.names[worst]})"
        )
        if not low:
            return Outcome(measured)
        best, fits = int(means.argmax()), ""
        if best and means[best] > 0.8:
            fits = f"; read as {_LAYOUTS[best - 1]} they fit at {float(means[best]):.2f}"
        return Outcome(measured, f"{measured}, {low} of them by less than {self.limits.overlap:g}{fits}")


def _overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """(n,) intersection over union, row by row; 0 for a box of no area."""
    from torchvision.ops import box_iou

    overlaps: Tensor = box_iou(boxes, others).diagonal()
    return overlaps.nan_to_num(0.0).clamp(0, 1)


@dataclass
class _MasksAndClasses:
    """The pixels of one object are of one class, and objects of one class lie on pixels of one class, but not all do.

    The numbers of the objects' classes need not be those of the map.
    """

    masks: str
    classes: str
    map: str
    limits: Limits
    purities: list[float] = field(default_factory=list)
    pairs: defaultdict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        if not _known(sample, self.masks, self.classes, self.map):
            return
        masks, classes, pixels = sample[self.masks], sample[self.classes], sample[self.map]
        if _size(masks) != _size(pixels) or len(masks) != len(classes):
            return
        for mask, number in zip(masks, classes.tolist(), strict=True):
            inside = pixels[mask & (pixels >= 0)]
            if inside.numel() and number >= 0:
                values, counts = inside.unique(return_counts=True)
                self.purities.append(float(counts.max()) / inside.numel())
                self.pairs[number][int(values[counts.argmax()])] += 1

    def outcome(self) -> Outcome | None:
        if not self.purities:
            return None
        purity = sum(self.purities) / len(self.purities)
        common = sum(max(counts.values()) for counts in self.pairs.values()) / len(self.purities)
        measured = (
            f"{self.map} has {purity:.0%} of the pixels of one of {self.masks} in one class, the same for {common:.0%} "
            f"of the objects of one class ({len(self.purities)} objects)"
        )
        lying = sum(self.pairs.values(), Counter[int]())
        alike = (
            max(lying.values()) / len(self.purities),
            max(map(Counter.total, self.pairs.values())) / len(self.purities),
        )
        wrong = min(purity, common) < self.limits.overlap or alike[0] > 0.9 > alike[1]
        return Outcome(measured, f"{measured}; they disagree" if wrong else None)


def outcomes(compared: Sequence[Comparison]) -> list[Outcome]:
    """What all of some comparisons have found."""
    return [outcome for comparison in compared if (outcome := comparison.outcome()) is not None]
