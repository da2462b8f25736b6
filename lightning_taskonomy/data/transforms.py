"""Joint transforms of images and labels: torchvision's ``transforms.v2`` with labels that know what geometry means.

Any geometric or photometric transform of ``torchvision.transforms.v2`` works, wrapped by ``Joint``. What each label
does is said here once, by registering kernels for its type:

- classes move by nearest neighbour and are 255 where there was no image;
- values (depth, curvature, ...) keep their units: an image resized or cropped and enlarged shows the same scene from
  the same place, so a depth stays the same number of metres; they are interpolated between valid pixels, and a hole
  (NaN) stays a hole;
- normals stay unit vectors in the camera frame (x right, y down, z forward); a mirrored image mirrors them;
- poses, vanishing points and room layouts are mirrored likewise, so pairs and triplets (mirrored view by view) stay
  consistent;
- of other vectors it is not known what a mirror does to them: that is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from lightning_taskonomy.data.batch import Sample
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, VIEWS

__all__ = ["WRAPPERS", "Classes", "Frame", "Invariant", "Joint", "Layout", "Normals", "Poses", "Values", "Vector"]


class Classes(tv_tensors.Mask):
    """Class or segment ids per pixel, (H, W)."""


class Values(tv_tensors.Mask):
    """Values per pixel that are the same in a mirrored image, (C, H, W), NaN where missing."""


class Normals(Values):
    """Unit vectors per pixel in the camera frame, (3, H, W), NaN where missing."""


class Vector(tv_tensors.TVTensor):
    """Values per sample with an unknown relation to geometry, (C,)."""


class Invariant(Vector):
    """Values per sample that no transform changes, (C,)."""


class Frame(Vector):
    """Three orthogonal unit vectors in the camera frame: the scene's right, down and forward, (9,)."""


class Layout(Vector):
    """A box: centre in the camera frame, extents along its own axes, rotation vector of those axes, (9,)."""


class Poses(Vector):
    """Rotation vector and translation in the camera frame, one pose after the other, (6 n,)."""


WRAPPERS: Mapping[str, type[tv_tensors.TVTensor]] = {
    "normals": Normals,
    "vanishing_points": Frame,
    "room_layout": Layout,
    "pose_fixated": Poses,
    "pose_nonfixated": Poses,
    "egomotion": Poses,
}
"""What a key holds, where its type and shape do not tell."""


class Joint(nn.Module):
    """Applies transforms to image and labels together.

    Args:
        transforms: Transforms of ``torchvision.transforms.v2``, in order.
        wrappers: What further keys hold, such as ``{"my_normals": Normals}``.
    """

    def __init__(
        self, transforms: Sequence[nn.Module], wrappers: Mapping[str, type[tv_tensors.TVTensor]] | None = None
    ) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.wrappers = {**WRAPPERS, **(wrappers or {})}

    def forward(self, sample: Sample) -> Sample:
        """Transforms one sample.

        Args:
            sample: Entries of one height and width, without batch dimension.

        Raises:
            InputError: A transform cannot be applied to one of the labels.
        """
        wrapped = {key: self._wrap(key, entry) for key, entry in sample.items() if entry.ndim}
        for transform in self.transforms:
            wrapped = transform(wrapped)
        return {**sample, **{key: entry.as_subclass(Tensor) for key, entry in wrapped.items()}}

    def _wrap(self, key: str, entry: Tensor) -> Tensor:
        kind: type[tv_tensors.TVTensor]
        if key in self.wrappers:
            kind = self.wrappers[key]
        elif key == "image" or key.startswith("image_") or key in VIEWS:
            kind = tv_tensors.Image
        elif entry.is_floating_point():
            kind = Values if entry.ndim > 1 else Vector
        else:
            kind = Classes if entry.ndim > 1 else Invariant
        return entry.as_subclass(kind)


Label = TypeVar("Label", bound=Tensor)
_MIRROR = torch.tensor([-1.0, 1.0, 1.0])
"""What a mirror does to a vector; a rotation vector is axial and keeps its x instead."""


def _like(entry: Tensor, label: Label) -> Label:
    return entry.as_subclass(type(label))


def _kernel(operation: Callable[..., Any], *types: type[tv_tensors.TVTensor]) -> Callable[[Any], Any]:
    def register(kernel: Any) -> Any:
        for kind in types:
            functional.register_kernel(operation, kind)(kernel)
        return kernel

    return register


def _refuse(label: Tensor, *_: Any, **__: Any) -> Tensor:
    raise InputError(
        f"a {type(label).__name__.lower()} label of shape {tuple(label.shape)} cannot follow this geometric transform; "
        "leave out the transform or the task"
    )


for _operation in (functional.rotate, functional.affine, functional.perspective, functional.elastic):
    _kernel(_operation, Normals, Vector, Frame, Layout, Poses)(_refuse)
_kernel(functional.vertical_flip, Vector, Frame, Layout, Poses)(_refuse)
_kernel(functional.horizontal_flip, Vector)(_refuse)
for _operation in (
    functional.horizontal_flip, functional.vertical_flip, functional.rotate, functional.affine,
    functional.perspective, functional.elastic,
):  # fmt: skip
    _kernel(_operation, Invariant)(lambda label, *_, **__: label)


def _outside(label: Tensor) -> float:
    return float("nan") if label.is_floating_point() else IGNORE_INDEX


def _filled(operation: Callable[..., Any], kernel: Callable[..., Tensor], *types: type[tv_tensors.TVTensor]) -> None:
    """What comes into view is missing, whatever colour the transform gives to the image there."""

    def run(label: Label, *args: Any, fill: Any = None, interpolation: Any = None, **options: Any) -> Label:
        return _like(kernel(label.as_subclass(Tensor), *args, fill=_outside(label), **options), label)

    _kernel(operation, *types)(run)


_filled(functional.pad, functional.pad_mask, Classes, Values, Normals)
_filled(functional.rotate, functional.rotate_mask, Classes, Values)
_filled(functional.affine, functional.affine_mask, Classes, Values)
_filled(functional.perspective, functional.perspective_mask, Classes, Values)
_filled(functional.elastic, functional.elastic_mask, Classes, Values)


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
