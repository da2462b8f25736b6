"""Normals against depth, the camera and vanishing points."""

from dataclasses import dataclass, field
from math import radians

import torch
from torch import Tensor

from lightning_taskonomy.data import geometry
from lightning_taskonomy.data.agreement.base import Limits, Outcome, image_count
from lightning_taskonomy.data.batch import Sample, is_given, size_of
from lightning_taskonomy.data.geometry import AXES, Intrinsics

__all__ = ["NormalsAndCamera", "NormalsAndDepth", "NormalsAndFrame"]

_REACH = 4
"""Pixels to each side of a window of depths."""
_FIELDS = [radians(degrees) for degrees in range(30, 125, 5)]
"""The fields of view that are tried."""
_USUAL = radians(60)
"""A field of view that will do where it matters little."""
_CLEARLY = 3.0
"""Degrees that other axes must fit better by, and by half."""


@dataclass
class NormalsAndDepth:
    """The normals of planes fitted to windows of 9 by 9 depths; an unknown field of view is fitted to all images.

    That takes depths along the axis: distances are compared where the camera is known.

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
        """Takes an image into account, if it has the labels."""
        if not is_given(sample, self.normals, self.depth):
            return
        normals, depth = sample[self.normals], sample[self.depth]
        size = size_of(depth)
        if size_of(normals) != size or min(size) <= 2 * _REACH or normals.isnan().all() or depth.isnan().all():
            return
        if camera is None and self.depth == "depth_z":
            planes = geometry.inverse_planes(depth, _REACH)
            table = torch.stack([self._angles(normals, planes, Intrinsics.of_view(size, a), AXES) for a in _FIELDS])
            distances = torch.full((1, 2), torch.nan)
        elif camera is not None:
            converted = geometry.depth_of_distance(depth, camera)
            read, other = (depth, converted) if self.depth == "depth_z" else (converted, depth)
            table = self._angles(normals, geometry.inverse_planes(read, _REACH), camera, AXES)[None]
            distances = self._angles(normals, geometry.inverse_planes(other, _REACH), camera, AXES[:1])
        else:
            return
        if not table.isnan().any():
            self.names.append(name)
            self.tables.append(table)
            self.distances.append(distances[0, 1])

    def _angles(self, normals: Tensor, planes: Tensor, camera: Intrinsics, axes: Tensor) -> Tensor:
        fitted = geometry.normals_of_planes(planes, camera.focal, camera.centre, _REACH)
        return geometry.angles_between(normals, fitted, axes)

    def outcome(self) -> Outcome | None:
        """What all images say together."""
        if not self.tables:
            return None
        count = min(len(table) for table in self.tables)  # with some cameras known, only those images
        indices = [index for index, table in enumerate(self.tables) if len(table) == count]
        tables = torch.stack([self.tables[index] for index in indices])  # image, field of view, axes, median and mean
        medians, means = tables.mean(0).unbind(-1)
        view = int(means[:, 0].argmin())
        median, mean = float(medians[view, 0]), float(means[view, 0])
        which = int(tables[:, view, 0, 0].argmax())
        worst = float(tables[which, view, 0, 0])
        measured = (
            f"{self.normals} and {self.depth} differ by {median:.1f} deg on average over {image_count(len(indices))}, "
            f"{worst:.1f} deg in the worst ({self.names[indices[which]]})"
        )
        if count > 1:
            measured += f", with a fitted field of view of {round(_FIELDS[view] * 180 / torch.pi)} deg"
        fitting = int(means.argmin())
        best, axes = float(means.min()), AXES[fitting % len(AXES)]
        other = float(torch.stack([self.distances[index] for index in indices]).mean())
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
        """Takes an image into account, if it has the labels."""
        if is_given(sample, self.normals) and not sample[self.normals].isnan().all():
            size = size_of(sample[self.normals])
            lens = camera or Intrinsics.of_view(size, _USUAL)
            self.shares.append(float(geometry.facing_away(sample[self.normals], lens)))

    def outcome(self) -> Outcome | None:
        """What all images say together."""
        if not self.shares:
            return None
        mean = sum(self.shares) / len(self.shares)
        measured = f"{mean:.0%} of {self.normals} point away from the camera ({image_count(len(self.shares))})"
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
        """Takes an image into account, if it has the labels."""
        if not is_given(sample, self.normals, self.frame):
            return
        normals, frame = sample[self.normals], sample[self.frame]
        if normals.isnan().all() or frame.isnan().any():
            return
        self.shares.append(geometry.share_along(normals, frame))
        self.away.append(geometry.facing_away(normals, camera or Intrinsics.of_view(size_of(normals), _USUAL), AXES))
        self.inverted.append(bool(frame.reshape(3, 3)[1, 1] < 0))

    def outcome(self) -> Outcome | None:
        """What all images say together."""
        if not self.shares:
            return None
        shares = torch.stack(self.shares).mean(0)
        best = float(shares.max())
        measured = (
            f"{float(shares[0]):.0%} of {self.normals} lie within 5 deg of a direction of {self.frame} "
            f"({image_count(len(self.shares))})"
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
