"""What a target is: its kind says its type, its missing value, and whether it is per pixel, per image or a set.

Nothing is guessed from a shape. Readers, joint transforms, collating, losses and the data doctor all go by this.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from lightning_taskonomy.errors import InputError

__all__ = ["CONVENTION", "IGNORE_INDEX", "Extent", "Label", "LabelKind", "map_size", "presence"]

IGNORE_INDEX = -100
"""The class of a missing label, per pixel, per image or per object: torch's own ``ignore_index``. A missing number is
NaN. Numbers such as 255, 0 or 65535 are conventions of files, which readers translate."""

CONVENTION = 2
"""Version of how labels are held, written into caches; 1 had 255 where a class was missing."""

Extent = Literal["pixel", "image", "set"]


class LabelKind(StrEnum):
    """What a label holds, and so what a transform does to it. Shapes are those of one sample."""

    VALUES = "values"
    """Numbers per pixel that a mirror leaves as they are: (C, H, W) float32."""
    NORMALS = "normals"
    """Unit vectors per pixel in the camera frame, x right, y down, z forward: (3, H, W) float32."""
    CLASSES = "classes"
    """A class or segment per pixel: (H, W) int64."""
    CLASS = "class"
    """A class per image, which no transform changes: () int64."""
    VECTOR = "vector"
    """Numbers per image of which it is not known what a mirror or a turn does to them: (C,) float32."""
    INVARIANT = "invariant"
    """Numbers per image that no transform changes: (C,) float32."""
    FRAME = "frame"
    """Three orthogonal unit vectors in the camera frame, the scene's right, down and forward: (9,) float32."""
    LAYOUT = "layout"
    """A box: centre in the camera frame, extents along its own axes, rotation vector of those axes: (9,) float32."""
    POSES = "poses"
    """Rotation vector and translation in the camera frame, one pose after the other: (6 n,) float32."""
    BOXES = "boxes"
    """Boxes of n objects, left, top, right, bottom in pixels of the image: (n, 4) float32."""
    POINTS = "points"
    """Points of n objects, x and y in pixels of the image, NaN for a point that is not marked: (n, C, 2) float32."""
    MASKS = "masks"
    """The pixels of n objects, which may overlap: (n, H, W) bool."""
    OBJECT_CLASSES = "object_classes"
    """The classes of n objects: (n,) int64."""

    @property
    def extent(self) -> Extent:
        """Whether there is a value per pixel, per image, or per object of a set."""
        if self in (LabelKind.VALUES, LabelKind.NORMALS, LabelKind.CLASSES):
            return "pixel"
        if self in (LabelKind.BOXES, LabelKind.POINTS, LabelKind.MASKS, LabelKind.OBJECT_CLASSES):
            return "set"
        return "image"

    @property
    def dtype(self) -> Literal["float32", "int64", "bool"]:
        """The type of its numbers."""
        if self in (LabelKind.CLASSES, LabelKind.CLASS, LabelKind.OBJECT_CLASSES):
            return "int64"
        return "bool" if self is LabelKind.MASKS else "float32"

    @property
    def missing(self) -> float | int | bool:
        """What stands where there is no label: NaN, -100, or False in a mask."""
        return {"float32": float("nan"), "int64": IGNORE_INDEX, "bool": False}[self.dtype]


@dataclass(frozen=True)
class Label:
    """What the entry of a batch at one key holds.

    Args:
        key: Its key in a batch.
        kind: What it holds.
        channels: Numbers per pixel or per image, or points per object; 4 for boxes; of classes how many there are, 1
            where that is not known.
        stride: Image pixels per pixel of a label that is per pixel.
        objects: Of a set, whose objects they are: rows of labels with one name belong together.
        mirror: Of points, which place each takes in a mirrored image: ``(1, 0)`` exchanges left and right ear. Several
            points per object cannot be mirrored without it.
        made_by: Dotted path of what makes it from other labels after every transform, such as a map of peaks from
            boxes; called as ``made_by(sample)``, returns the tensor.
        made_from: The keys of the labels that ``made_by`` reads; where one of them is not labelled, nor is this.
        names: Of points, what each is.
        sigmas: Of points, how far each may be off: standard deviations of annotators as shares of the object's size,
            the square root of its area, for COCO's object keypoint similarity.

    Raises:
        InputError: ``channels`` or ``stride`` is not positive, ``mirror`` is not a permutation of the points, ``names``
            or ``sigmas`` are not one per point, or one of ``made_by`` and ``made_from`` is given without the other.
    """

    key: str
    kind: LabelKind
    channels: int = 1
    stride: int = 1
    objects: str = "objects"
    mirror: tuple[int, ...] | None = None
    made_by: str | None = None
    made_from: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    sigmas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Checks what can be checked without data."""
        try:
            object.__setattr__(self, "kind", LabelKind(self.kind))
        except ValueError:
            raise InputError(
                f"label {self.key!r} has kind {str(self.kind)!r}; allowed: {', '.join(LabelKind)}"
            ) from None
        for name in ("channels", "stride"):
            if not getattr(self, name) > 0:
                raise InputError(f"label {self.key!r}: {name} is {getattr(self, name)!r}, must be positive")
        if self.mirror is not None:
            object.__setattr__(self, "mirror", tuple(self.mirror))
            if self.kind is not LabelKind.POINTS or sorted(self.mirror) != list(range(self.channels)):
                raise InputError(
                    f"label {self.key!r}: mirror is {self.mirror}; it must give each of the {self.channels} points of "
                    "an object its place in a mirrored image"
                )

        for name in ("names", "sigmas"):
            object.__setattr__(self, name, values := tuple(getattr(self, name)))
            if values and (self.kind is not LabelKind.POINTS or len(values) != self.channels):
                raise InputError(
                    f"label {self.key!r}: {len(values)} {name}; points have one each, and this label has "
                    f"{self.channels if self.kind is LabelKind.POINTS else 'no'} points"
                )
        if not all(sigma > 0 for sigma in self.sigmas):
            raise InputError(f"label {self.key!r}: sigmas are {self.sigmas}; all must be positive")

        object.__setattr__(self, "made_from", tuple(self.made_from))
        if bool(self.made_by) is not bool(self.made_from):
            raise InputError(f"label {self.key!r}: made_by and made_from belong together; give both or neither")

    @property
    def is_set(self) -> bool:
        """Whether it has as many rows as the image has objects."""
        return self.kind.extent == "set"

    @property
    def is_dense(self) -> bool:
        """Whether it has a value per pixel."""
        return self.kind.extent == "pixel"

    @property
    def is_classes(self) -> bool:
        """Whether its numbers are classes or segments."""
        return self.kind.dtype == "int64"

    @property
    def classes(self) -> int | None:
        """How many classes there are, counted from 0; None where nothing says it, and for what holds no classes."""
        return self.channels if self.is_classes and self.channels > 1 else None

    def shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape of one sample's label; of a set, with no object.

        Args:
            size: Height and width of the image.
        """
        height, width = map_size(size, self.stride)
        match self.kind:
            case LabelKind.CLASSES:
                return (height, width)
            case LabelKind.VALUES | LabelKind.NORMALS:
                return (self.channels, height, width)
            case LabelKind.CLASS:
                return ()
            case LabelKind.BOXES:
                return (0, 4)
            case LabelKind.POINTS:
                return (0, self.channels, 2)
            case LabelKind.MASKS:
                return (0, height, width)
            case LabelKind.OBJECT_CLASSES:
                return (0,)
        return (self.channels,)


def map_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of a map with a value per so many pixels of an image: whole cells, but one at least.

    Args:
        size: Height and width of the image.
        stride: Image pixels per cell, along each axis.
    """
    return max(1, size[0] // stride), max(1, size[1] // stride)


def presence(key: str) -> str:
    """The batch key that says, per image, whether a set is labelled: (B,) bool. An image without objects is."""
    return f"{key}_labelled"
