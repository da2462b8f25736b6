"""What cameras see: normals and depth, vanishing points, poses and second views, depth and distance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log, radians

import torch
from torch import Tensor

from lightning_taskonomy.data import geometry
from lightning_taskonomy.data.agreement.base import Limits, Outcome, images
from lightning_taskonomy.data.batch import Sample, is_given, size_of
from lightning_taskonomy.data.geometry import AXES, Intrinsics

__all__ = [
    "DEPTHS",
    "PAIRS",
    "DepthAndDistance",
    "DepthAtCentre",
    "NormalsAndCamera",
    "NormalsAndDepth",
    "NormalsAndFrame",
    "SecondView",
]

DEPTHS = ("depth_z", "depth_euclidean")
"""The keys of depths along the axis and of distances from the camera, both in metres."""
PAIRS: Mapping[str, str] = {"pair_fixated": "pose_fixated", "pair_nonfixated": "pose_nonfixated"}
"""The key of a pair's pose, by that of its pictures."""
_REACH = 4
_FIELDS = [radians(degrees) for degrees in range(30, 125, 5)]
_USUAL = radians(60)
_CLEARLY = 3.0


@dataclass
class NormalsAndDepth:
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
        """Takes an image into account."""
        if not is_given(sample, self.normals, self.depth):
            return
        normals, depth = sample[self.normals], sample[self.depth]
        size = size_of(depth)
        if size_of(normals) != size or min(size) <= 2 * _REACH or normals.isnan().all() or depth.isnan().all():
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
        """By how much they differ, and whether that is too much."""
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
            f"{self.normals} and {self.depth} differ by {median:.1f} deg on average over {images(len(chosen))}, "
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


@dataclass
class NormalsAndCamera:
    """Without a depth: what is seen faces the camera."""

    normals: str
    shares: list[float] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        """Takes an image into account."""
        if is_given(sample, self.normals) and not sample[self.normals].isnan().all():
            size = size_of(sample[self.normals])
            lens = camera or Intrinsics.of_view(size, _USUAL)
            self.shares.append(float(geometry.facing_away(sample[self.normals], lens)))

    def outcome(self) -> Outcome | None:
        """By how much they differ, and whether that is too much."""
        if not self.shares:
            return None
        mean = sum(self.shares) / len(self.shares)
        measured = f"{mean:.0%} of {self.normals} point away from the camera ({images(len(self.shares))})"
        return Outcome(
            measured, f"{measured}; what is seen faces it: axes are reversed or exchanged" if mean > 0.5 else None
        )


@dataclass
class NormalsAndFrame:
    """Much of what people build lies along the vanishing directions, or across."""

    normals: str
    frame: str
    shares: list[Tensor] = field(default_factory=list)
    away: list[Tensor] = field(default_factory=list)
    inverted: list[bool] = field(default_factory=list)

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        """Takes an image into account."""
        if not is_given(sample, self.normals, self.frame):
            return
        normals, frame = sample[self.normals], sample[self.frame]
        if normals.isnan().all() or frame.isnan().any():
            return
        self.shares.append(geometry.share_along(normals, frame))
        self.away.append(geometry.facing_away(normals, camera or Intrinsics.of_view(size_of(normals), _USUAL), AXES))
        self.inverted.append(bool(frame.reshape(3, 3)[1, 1] < 0))

    def outcome(self) -> Outcome | None:
        """By how much they differ, and whether that is too much."""
        if not self.shares:
            return None
        shares = torch.stack(self.shares).mean(0)
        best = float(shares.max())
        measured = (
            f"{float(shares[0]):.0%} of {self.normals} lie within 5 deg of a direction of {self.frame} "
            f"({images(len(self.shares))})"
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
class DepthAtCentre:
    """The depth in the middle against where the axes of a fixated pair meet, or against the metadata's distance."""

    depth: str
    pose: str
    limits: Limits
    ratios: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    posed: int = 0

    def add(self, sample: Sample, name: str, camera: Intrinsics | None) -> None:
        """Takes an image into account."""
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
        """By how much they differ, and whether that is too much."""
        if not self.ratios:
            return None
        factors = torch.tensor(self.ratios, dtype=torch.float64).clamp(min=1e-9).log()
        ratio = float(factors.median().exp())
        spread = float((factors - factors.median()).abs().median().exp())
        source = (
            f"where the axes of {self.pose} meet" if self.posed > len(self.ratios) / 2 else "the metadata's distance"
        )
        measured = f"{self.depth} in the middle is {ratio:.3g} times {source} (median of {images(len(self.ratios))})"
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
        """Takes an image into account."""
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
        """By how much they differ, and whether that is too much."""
        if not self.correlations:
            return None
        read, back = torch.stack(self.correlations).mean(0).tolist()
        measured = (
            f"{self.pose} carries {self.depth} onto the second view of {self.pair} with a correlation of {read:.2f} "
            f"({images(len(self.correlations))})"
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
        """Takes an image into account."""
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
        """By how much they differ, and whether that is too much."""
        if not self.ratios:
            return None
        read, exchanged = (sum(values) / len(values) for values in (self.ratios, self.exchanged))
        measured = f"depth_euclidean and depth_z differ by {read - 1:.1%} ({images(len(self.ratios))})"
        if read < self.limits.ratio:
            return Outcome(measured)
        advice = (
            "exchanged they fit" if exchanged < self.limits.ratio else "their units differ, or one is another depth"
        )
        return Outcome(measured, f"{measured}; {advice}")
