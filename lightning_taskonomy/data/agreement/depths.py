"""Depth against poses, a second view and distances."""

from dataclasses import dataclass, field
from math import log

import torch
from torch import Tensor

from lightning_taskonomy.data import geometry
from lightning_taskonomy.data.agreement.base import DEPTHS, Limits, Outcome, image_count
from lightning_taskonomy.data.batch import Sample, is_given, size_of
from lightning_taskonomy.data.geometry import Intrinsics

__all__ = ["DepthAndDistance", "DepthAtCentre", "SecondView"]


@dataclass
class DepthAtCentre:
    """The depth in the middle against where the axes of a fixated pair meet, or against the metadata's distance."""

    depth: str
    pose: str
    limits: Limits
    ratios: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    posed: int = 0

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        """Takes an image into account, if it has the labels."""
        if not is_given(sample, self.depth):
            return
        depth = sample[self.depth][0]
        height, width = size_of(depth)
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
        """What all images say together."""
        if not self.ratios:
            return None
        factors = torch.tensor(self.ratios, dtype=torch.float64).clamp(min=1e-9).log()
        ratio = float(factors.median().exp())
        spread = float((factors - factors.median()).abs().median().exp())
        source = (
            f"where the axes of {self.pose} meet" if self.posed > len(self.ratios) / 2 else "the metadata's distance"
        )
        measured = (
            f"{self.depth} in the middle is {ratio:.3g} times {source} (median of {image_count(len(self.ratios))})"
        )
        if self.gaps and sorted(self.gaps)[len(self.gaps) // 2] > self.limits.ratio - 1:
            gap = sorted(self.gaps)[len(self.gaps) // 2]
            return Outcome(measured, f"{measured}; but they pass each other at {gap:.2g} of that: {self.pose} is wrong")
        if spread > self.limits.ratio:
            return Outcome(measured, f"{measured}, but half of them differ from that by more than {spread:.2g} times")
        if abs(log(max(ratio, 1e-9))) > log(self.limits.ratio):
            return Outcome(measured, f"{measured}; another unit? divided by {ratio:.3g} it fits")
        return Outcome(measured)


@dataclass
class SecondView:
    """The second picture at the points that the first one sees, by their correlation in grey."""

    pair: str
    pose: str
    depth: str
    correlations: list[Tensor] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        """Takes an image into account, if it has the labels."""
        if camera is None or not is_given(sample, self.pair, self.pose, self.depth) or sample[self.pose].isnan().any():
            return
        depth, pose = sample[self.depth], sample[self.pose]
        if size_of(depth) != size_of(sample[self.pair]):
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
        """What all images say together."""
        if not self.correlations:
            return None
        read, back = torch.stack(self.correlations).mean(0).tolist()
        measured = (
            f"{self.pose} carries {self.depth} onto the second view of {self.pair} with a correlation of {read:.2f} "
            f"({image_count(len(self.correlations))})"
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
class DepthAndDistance:
    """A distance from the camera is the depth along its axis times the length of the pixel's ray."""

    limits: Limits
    ratios: list[float] = field(default_factory=list)
    exchanged: list[float] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        """Takes an image into account, if it has the labels."""
        if camera is None or not is_given(sample, *DEPTHS):
            return
        depth, distance = (sample[key][0] for key in DEPTHS)
        valid = (depth > 0) & (distance > 0)
        if not valid.any():
            return
        length = camera.rays(size_of(depth)).norm(dim=0)[valid]
        error = [(distance / depth)[valid] / length, (depth / distance)[valid] / length]
        self.ratios.append(float(error[0].log().abs().median().exp()))
        self.exchanged.append(float(error[1].log().abs().median().exp()))

    def outcome(self) -> Outcome | None:
        """What all images say together."""
        if not self.ratios:
            return None
        read, exchanged = (sum(values) / len(values) for values in (self.ratios, self.exchanged))
        measured = f"depth_euclidean and depth_z differ by {read - 1:.1%} ({image_count(len(self.ratios))})"
        if read < self.limits.ratio:
            return Outcome(measured)
        advice = (
            "exchanged they fit" if exchanged < self.limits.ratio else "their units differ, or one is another depth"
        )
        return Outcome(measured, f"{measured}; {advice}")
