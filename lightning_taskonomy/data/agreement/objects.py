"""Boxes against masks and points, masks against the class of each pixel."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_taskonomy.data import geometry
from lightning_taskonomy.data.agreement.base import Limits, Outcome
from lightning_taskonomy.data.batch import Sample, is_given, size_of
from lightning_taskonomy.data.geometry import Intrinsics

__all__ = ["BoxesAndMasks", "MasksAndClasses", "PointsAndBoxes"]

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
class BoxesAndMasks:
    """A box against the smallest one around its mask."""

    boxes: str
    masks: str
    limits: Limits
    overlaps: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        """Takes an image into account, if it has the labels."""
        if not is_given(sample, self.boxes, self.masks):
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
        self.overlaps.append(torch.stack([_overlap(layout, around) for layout in _rewritten(boxes, size_of(masks))]))
        self.names += [name] * int(valid.sum())

    def outcome(self) -> Outcome | None:
        """What all images say together."""
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


_NEAR = 0.1
"""How far from a box, in shares of its longer side, a point still counts as in it: some are hidden behind its edge."""


_CLEARLY = 0.25
"""By what share of the points another reading must fit better."""


@dataclass
class PointsAndBoxes:
    """The points of an object lie in its box."""

    points: str
    boxes: str
    limits: Limits
    inside: list[Tensor] = field(default_factory=list)
    worst: tuple[float, str] = (2.0, "")

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        """Takes an image into account, if it has the labels."""
        if not is_given(sample, self.points, self.boxes) or len(sample[self.points]) != len(sample[self.boxes]):
            return
        points, boxes = sample[self.points].float(), sample[self.boxes].float()
        marked = ~points.isnan().any(-1)
        if not marked.any():
            return
        layouts = _rewritten(boxes, size_of(sample["image"]))
        inside = torch.stack([_contained(points, layout)[marked] for layout in layouts])
        self.inside.append(inside)
        self.worst = min(self.worst, (float(inside[0].float().mean()), name))

    def outcome(self) -> Outcome | None:
        """What all images say together."""
        if not self.inside:
            return None
        inside = torch.cat(self.inside, 1)
        shares = inside.float().mean(1)
        measured = (
            f"{float(shares[0]):.0%} of {inside.shape[1]} {self.points} lie in their {self.boxes}, {self.worst[0]:.0%} "
            f"in the worst image ({self.worst[1]})"
        )
        best, fits = int(shares.argmax()), ""
        fits_better = bool(shares[best] > max(0.8, float(shares[0]) + _CLEARLY))
        if shares[0] >= self.limits.overlap and not fits_better:
            return Outcome(measured)
        if fits_better:
            fits = f"; in {self.boxes} read as {_LAYOUTS[best - 1]} {float(shares[best]):.0%} would"
        return Outcome(measured, f"{measured}; they disagree{fits}")


def _contained(points: Tensor, boxes: Tensor) -> Tensor:
    """(n, K) whether points lie in their boxes or near them; False for a point that is not marked."""
    reach = _NEAR * (boxes[:, 2:] - boxes[:, :2]).amax(1)[:, None, None]
    low, high = boxes[:, None, :2] - reach, boxes[:, None, 2:] + reach
    return ((points >= low) & (points <= high)).all(-1)


@dataclass
class MasksAndClasses:
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
        """Takes an image into account, if it has the labels."""
        if not is_given(sample, self.masks, self.classes, self.map):
            return
        masks, classes, pixels = sample[self.masks], sample[self.classes], sample[self.map]
        if size_of(masks) != size_of(pixels) or len(masks) != len(classes):
            return
        for mask, number in zip(masks, classes.tolist(), strict=True):
            inside = pixels[mask & (pixels >= 0)]
            if inside.numel() and number >= 0:
                values, counts = inside.unique(return_counts=True)
                self.purities.append(float(counts.max()) / inside.numel())
                self.pairs[number][int(values[counts.argmax()])] += 1

    def outcome(self) -> Outcome | None:
        """What all images say together."""
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
