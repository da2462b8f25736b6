"""Joint transforms of images and labels: torchvision's ``transforms.v2`` with labels that know what geometry means.

Any geometric or photometric transform of ``torchvision.transforms.v2`` works, wrapped by ``Joint``. What each kind of
label does is said here once, by registering kernels for its type:

- classes and masks move by nearest neighbour; classes are missing where there was no image;
- values (depth, curvature, ...) keep their units: an image resized or cropped and enlarged shows the same scene from
  the same place, so a depth stays the same number of metres; they are interpolated between valid pixels, and a hole
  (NaN) stays a hole;
- normals stay unit vectors in the camera frame (x right, y down, z forward); a mirrored image mirrors them;
- poses, vanishing points and room layouts are mirrored likewise, so pairs and triplets (mirrored view by view) stay
  consistent;
- of other vectors it is not known what a mirror does to them: that is refused;
- boxes, points and masks of objects move with the image, x and y from the outer corner of the first pixel, so that a
  point at the middle of a box stays there; an object that has left the image is taken out of every label of its set.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode, functional

from lightning_taskonomy.batch import missing_value
from lightning_taskonomy.data.batch import Sample, is_given, is_picture, size_of
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.refusals import refusing
from lightning_taskonomy.tasks import Label, LabelKind, catalog, targets_of

__all__ = [
    "Classes",
    "Frame",
    "Invariant",
    "Joint",
    "Layout",
    "Masks",
    "Normals",
    "Points",
    "Poses",
    "Values",
    "Vector",
]


class Classes(tv_tensors.Mask):
    """Class or segment ids per pixel, (H, W)."""


class Masks(tv_tensors.Mask):
    """The pixels of each object, (n, H, W) bool."""


class Values(tv_tensors.Mask):
    """Values per pixel that are the same in a mirrored image, (C, H, W), NaN where missing."""


class Normals(Values):
    """Unit vectors per pixel in the camera frame, (3, H, W), NaN where missing."""


class Vector(tv_tensors.TVTensor):
    """Values per sample with an unknown relation to geometry, (C,)."""


class Invariant(Vector):
    """Values or classes per sample or per object that no transform changes."""


class Frame(Vector):
    """Three orthogonal unit vectors in the camera frame: the scene's right, down and forward, (9,)."""


class Layout(Vector):
    """A box: centre in the camera frame, extents along its own axes, rotation vector of those axes, (9,)."""


class Poses(Vector):
    """Rotation vector and translation in the camera frame, one pose after the other, (6 n,)."""


class Points(tv_tensors.KeyPoints):
    """Points of objects, (n, C, 2) pixels, NaN where not marked; ``mirror`` says what a flip makes of each."""

    mirror: tuple[int, ...] | None = None


@cache
def _points(mirror: tuple[int, ...] | None) -> type[Points]:
    """Of points torchvision keeps the type and nothing else; so each order is a type."""
    return type("Points", (Points,), {"mirror": mirror})


_TYPES: Mapping[LabelKind, type[tv_tensors.TVTensor]] = {
    LabelKind.VALUES: Values,
    LabelKind.NORMALS: Normals,
    LabelKind.CLASSES: Classes,
    LabelKind.VECTOR: Vector,
    LabelKind.INVARIANT: Invariant,
    LabelKind.FRAME: Frame,
    LabelKind.LAYOUT: Layout,
    LabelKind.POSES: Poses,
    LabelKind.MASKS: Masks,
    LabelKind.OBJECT_CLASSES: Invariant,
}


class Joint(nn.Module):
    """Applies transforms to image and labels together.

    Args:
        transforms: Transforms of ``torchvision.transforms.v2``, in order.
        targets: What keys that are not pictures hold, besides those of the catalog's tasks.
    """

    def __init__(self, transforms: Sequence[nn.Module], targets: Mapping[str, Label] | None = None) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.targets = {**targets_of(catalog().values()), **(targets or {})}

    def forward(self, sample: Sample) -> Sample:
        """Transforms one sample.

        Args:
            sample: Entries of one height and width, without batch dimension; a sample with sets has ``image``.

        Raises:
            InputError: A transform cannot be applied to one of the labels, no label says what an entry holds, or labels
                of the same objects differ in number.
        """
        size = size_of(sample["image"]) if "image" in sample else (0, 0)
        wrapped = {key: self._wrap(key, entry, size) for key, entry in sample.items() if entry.ndim}
        for transform in self.transforms:
            name = type(transform).__name__
            try:
                with refusing():
                    moved = transform(wrapped)
            except _CannotFollow as error:
                raise InputError(f"{error} cannot follow {name}; leave out the transform or the task") from error
            for key, entry in moved.items():
                if not isinstance(entry, Tensor):
                    raise InputError(f"{name} makes a {type(entry).__name__} of {key!r}, not one of it; leave it out")
            wrapped = moved
        moved = {**sample, **{key: entry.as_subclass(Tensor) for key, entry in wrapped.items()}}
        self._tidy(moved)
        return moved

    def _wrap(self, key: str, entry: Tensor, size: tuple[int, int]) -> Any:
        if is_picture(key):
            return entry.as_subclass(tv_tensors.Image)
        if key not in self.targets:
            raise InputError(
                f"no task says what {key!r} of shape {tuple(entry.shape)} holds, so that it cannot be transformed with "
                "its image; name a task that reads it, or leave it out of keys"
            )
        label = self.targets[key]
        if label.kind is LabelKind.BOXES:
            return tv_tensors.BoundingBoxes(entry, format="XYXY", canvas_size=size)
        if label.kind is LabelKind.POINTS:
            return _points((0,) if label.channels == 1 else label.mirror)(entry, canvas_size=size)
        return entry.as_subclass(_TYPES[label.kind])

    def _tidy(self, sample: Sample) -> None:
        """Takes out the objects that have left the image; a point that has is no longer marked."""
        sets: dict[str, list[Label]] = defaultdict(list)
        for key, label in self.targets.items():
            if label.is_set and is_given(sample, key):
                sets[label.objects].append(label)
        for labels in sets.values():
            height, width = size_of(sample["image"])
            whole, marked = list[Tensor](), list[Tensor]()  # by boxes and masks; by points
            for label in labels:
                entry = sample[label.key]
                match label.kind:
                    case LabelKind.BOXES:
                        entry = entry.clamp(min=0).minimum(entry.new_tensor([width, height, width, height]))
                        whole.append((entry[:, 2:] > entry[:, :2]).all(1))
                    case LabelKind.POINTS:
                        within = ((entry >= 0) & (entry <= entry.new_tensor([width, height]))).all(-1, keepdim=True)
                        entry = torch.where(within, entry, torch.nan)
                        marked.append(within.flatten(1).any(1))
                    case LabelKind.MASKS:
                        whole.append(entry.flatten(1).any(1))
                sample[label.key] = entry
            counts = {label.key: len(sample[label.key]) for label in labels}
            if len(set(counts.values())) > 1:
                raise InputError(
                    f"labels of the same objects differ in number: {counts}; where they are other objects, give their "
                    "labels another name of objects"
                )
            if there := whole or marked:  # an object with a box or a mask needs no marked point
                keep = torch.stack(there).all(0)
                sample.update({label.key: sample[label.key][keep] for label in labels})


Typed = TypeVar("Typed", bound=Tensor)
_MIRROR = torch.tensor([-1.0, 1.0, 1.0])
"""What a mirror does to a vector; a rotation vector is axial and keeps its x instead."""


def _like(entry: Tensor, label: Typed) -> Typed:
    return entry.as_subclass(type(label))


def _kernel(operation: Callable[..., Any], *types: type[tv_tensors.TVTensor]) -> Callable[[Any], Any]:
    def register(kernel: Any) -> Any:
        for kind in types:
            functional.register_kernel(operation, kind)(kernel)
        return kernel

    return register


class _CannotFollow(InputError):
    """What a label is that a transform would have to move otherwise than its pixels."""


def _refuse(label: Tensor, *_: Any, **__: Any) -> Tensor:
    raise _CannotFollow(f"a {type(label).__name__.lower()} label of shape {tuple(label.shape)}")


for _operation in (functional.rotate, functional.affine, functional.perspective, functional.elastic):
    _kernel(_operation, Normals, Vector, Frame, Layout, Poses)(_refuse)
_kernel(functional.vertical_flip, Vector, Frame, Layout, Poses)(_refuse)
_kernel(functional.horizontal_flip, Vector)(_refuse)
for _operation in (
    functional.horizontal_flip, functional.vertical_flip, functional.rotate, functional.affine,
    functional.perspective, functional.elastic,
):  # fmt: skip
    _kernel(_operation, Invariant)(lambda label, *_, **__: label)


def _filled(operation: Callable[..., Any], kernel: Callable[..., Tensor], *types: type[tv_tensors.TVTensor]) -> None:
    """What comes into view is missing, whatever colour the transform gives to the image there."""

    def run(label: Typed, *args: Any, fill: Any = None, interpolation: Any = None, **options: Any) -> Typed:
        return _like(kernel(label.as_subclass(Tensor), *args, fill=missing_value(label.dtype), **options), label)

    _kernel(operation, *types)(run)


_filled(functional.pad, functional.pad_mask, Classes, Masks, Values, Normals)
_filled(functional.rotate, functional.rotate_mask, Classes, Masks, Values)
_filled(functional.affine, functional.affine_mask, Classes, Masks, Values)
_filled(functional.perspective, functional.perspective_mask, Classes, Masks, Values)
_filled(functional.elastic, functional.elastic_mask, Classes, Masks, Values)


def _flip_points(points: Points, axis: int) -> Points:
    """From pixel corners, as boxes are; torchvision counts points from pixel centres when it flips them."""
    if points.mirror is None:
        raise InputError(
            f"{points.shape[1]} points per object cannot be flipped: their label does not say which becomes which; "
            "give it mirror, or leave out the transform"
        )
    size = points.canvas_size
    flipped = points.as_subclass(Tensor).clone()
    flipped[..., axis] = size[1 - axis] - flipped[..., axis]
    return type(points)(flipped[:, list(points.mirror)], canvas_size=size)


_kernel(functional.horizontal_flip, Points)(lambda points: _flip_points(points, 0))
_kernel(functional.vertical_flip, Points)(lambda points: _flip_points(points, 1))


@_kernel(functional.horizontal_flip, Normals)
def _mirror_normals(normals: Normals) -> Normals:
    mirrored = normals.as_subclass(Tensor).flip(-1)
    mirrored[0].neg_()
    return _like(mirrored, normals)


@_kernel(functional.vertical_flip, Normals)
def _upend_normals(normals: Normals) -> Normals:
    upended = normals.as_subclass(Tensor).flip(-2)
    upended[1].neg_()
    return _like(upended, normals)


@_kernel(functional.horizontal_flip, Frame)
def _mirror_frame(frame: Frame) -> Frame:
    """Each vector is mirrored; what was right then points left and is turned round."""
    rows = frame.as_subclass(Tensor).reshape(3, 3)
    return _like((_MIRROR[:, None] * rows * _MIRROR).flatten(), frame)


@_kernel(functional.horizontal_flip, Layout)
def _mirror_layout(layout: Layout) -> Layout:
    center, extents, rotation = layout.as_subclass(Tensor).reshape(3, 3)
    return _like(torch.cat([center * _MIRROR, extents, rotation * -_MIRROR]), layout)


@_kernel(functional.horizontal_flip, Poses)
def _mirror_poses(poses: Poses) -> Poses:
    rotation, translation = poses.as_subclass(Tensor).reshape(-1, 2, 3).unbind(1)
    return _like(torch.stack([rotation * -_MIRROR, translation * _MIRROR], 1).flatten(), poses)


_EXACT = InterpolationMode.NEAREST_EXACT
"""The pixel under the middle of the new one; torchvision's own resize of masks is up to half a new pixel off."""


@_kernel(functional.resize, Classes, Masks)
def _resize_classes(classes: Classes, size: Any, *_: Any, max_size: int | None = None, **__: Any) -> Classes:
    plain = classes.as_subclass(Tensor)
    maps = plain if plain.ndim > 2 else plain[None]
    resized = functional.resize_image(maps, size, interpolation=_EXACT, max_size=max_size)
    return _like(resized.reshape(*plain.shape[:-2], *resized.shape[-2:]), classes)


@_kernel(functional.resized_crop, Classes, Masks)
def _resize_crop_of_classes(
    classes: Classes, top: int, left: int, height: int, width: int, size: Any, *_: Any, **__: Any
) -> Classes:
    cropped = functional.crop(classes.as_subclass(Tensor), top, left, height, width)
    resized: Classes = _resize_classes(_like(cropped, classes), size)
    return resized


@_kernel(functional.resize, Values, Normals)
def _resize_values(values: Values, size: Any, *_: Any, max_size: int | None = None, **__: Any) -> Values:
    return _like(_resized(values.as_subclass(Tensor), size, max_size, isinstance(values, Normals)), values)


@_kernel(functional.resized_crop, Values, Normals)
def _resize_crop_of_values(
    values: Values, top: int, left: int, height: int, width: int, size: Any, *_: Any, **__: Any
) -> Values:
    cropped = functional.crop(values.as_subclass(Tensor), top, left, height, width)
    return _like(_resized(cropped, size, None, isinstance(values, Normals)), values)


def _resized(values: Tensor, size: Any, max_size: int | None, unit: bool) -> Tensor:
    """Bilinear between valid pixels; a pixel that is mostly hole is one."""
    valid = ~values.isnan()
    filled = functional.resize_image(torch.where(valid, values, 0), size, max_size=max_size, antialias=True)
    if not valid.all():
        share = functional.resize_image(valid.to(values.dtype), size, max_size=max_size, antialias=True)
        filled = torch.where(share >= 0.5, filled / share, float("nan"))
    return torch.nn.functional.normalize(filled, dim=-3) if unit else filled
