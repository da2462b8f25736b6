"""What the numbers in each of Taskonomy's files mean.

From the data set's description (data/README.md of StanfordVL/taskonomy): depth and distance are in 1/512 m, 65535 where
the mesh has a hole; zero curvature is 127; semantic class 0 is "uncertain" and 1 the background. The unit of the
curvatures is not stated, so they stay in multiples of the largest that fits.

Normals are stored x right, y down, z forward, as here, and point at the camera: a frontal wall is about (127, 127, 0),
a floor (127, 0, 127), a ceiling (127, 255, 127). The description does not say so; views of three building scans do, by
the normals of their own depth with the field of view of their metadata: median angle 1.2 degrees in a building of
Taskonomy and 0.9 in a room of Replica, against 10 and 135 with z turned. They are value / 127.5 - 1; the description's
"127-centred" differs from that by at most 0.4 degrees, less than the step of 8 bits.

The names of files are those of the authors' sample building (alexsax/taskonomy-sample-model-1): two differ from their
folder's. Both spellings are read, since users and download scripts have renamed files to the folder's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy.data.geometry import unit_normals
from lightning_taskonomy.data.stored import FileProblem, read_array, read_pixels, refuse_classes
from lightning_taskonomy.tasks import IGNORE_INDEX
from lightning_taskonomy.tasks.catalog.taskonomy import OBJECTS, SCENES

__all__ = ["DOMAINS", "Domain", "invalid", "read_depth"]

_HOLE = 65535
_UNITS_PER_METRE = 512
_NO_CURVATURE = 127
_CLASSES = 17


@dataclass(frozen=True)
class Domain:
    """One kind of label.

    Args:
        folder: Its folder.
        read: File to tensor.
        geometric: Rendered from the mesh, so nothing is known where the mesh has a hole.
        suffix: That of its files.
        names: How its files' names end; none for the folder's name.
    """

    folder: str
    read: Callable[[Path], Tensor]
    geometric: bool = False
    suffix: str = ".png"
    names: tuple[str, ...] = ()


def _pixels(file: Path, channels: int) -> NDArray[np.generic]:
    pixels = read_pixels(file)
    stored = 1 if pixels.ndim == 2 else pixels.shape[2]
    if stored < channels:
        raise FileProblem(file, f"damaged ({stored} channels instead of {channels})")
    return pixels if pixels.ndim == 3 else pixels[..., None]


def read_depth(file: Path) -> Tensor:
    """(1, H, W) metres, NaN in holes."""
    stored = _pixels(file, 1)[..., 0].astype(np.float32)
    return torch.from_numpy(np.where(stored >= _HOLE, np.float32("nan"), stored / _UNITS_PER_METRE))[None]


def invalid(file: Path) -> Tensor:
    """(H, W) bool: where the mesh has a hole, by a depth file."""
    return read_depth(file)[0].isnan()


def _read_normals(file: Path) -> Tensor:
    stored = torch.from_numpy(_pixels(file, 3)[..., :3].astype(np.float32)).permute(2, 0, 1)
    return unit_normals(stored / 127.5 - 1)


def _read_curvature(file: Path) -> Tensor:
    stored = torch.from_numpy(_pixels(file, 2)[..., :2].astype(np.float32)).permute(2, 0, 1)
    return torch.where((stored == 0).all(0), float("nan"), (stored - _NO_CURVATURE) / _NO_CURVATURE)


def _read_share(file: Path) -> Tensor:
    stored = _pixels(file, 1)[..., 0]
    most = 255 if stored.dtype == np.uint8 else 65535
    return torch.from_numpy(stored.astype(np.float32) / most)[None]


def _read_semantic(file: Path) -> Tensor:
    numbers = _pixels(file, 1)[..., 0].astype(np.int64)
    refuse_classes(
        numbers, numbers > _CLASSES, file, f"there are 1 to {_CLASSES}, and 0 for uncertain; download it again"
    )
    stored = torch.from_numpy(numbers)
    return torch.where(stored >= 1, stored - 1, IGNORE_INDEX)


def _read_segments(file: Path) -> Tensor:
    stored = _pixels(file, 1).astype(np.int64)
    numbers = (stored * (stored.max() + 1) ** np.arange(stored.shape[2])).sum(-1)
    ids = np.unique(numbers, return_inverse=True)[1].reshape(numbers.shape)
    return torch.from_numpy(ids)


def _read_class(count: int, among: Sequence[int] | None, file: Path) -> Tensor:
    """The most probable of all ``count`` classes, or of those chosen, in their order; a file may hold these alone."""
    outputs = torch.from_numpy(read_array(file).astype(np.float32)).flatten()
    if among is not None and len(outputs) == count:
        outputs = outputs[list(among)]
    if len(outputs) != (count if among is None else len(among)):
        raise FileProblem(file, f"damaged ({len(outputs)} class probabilities instead of {count})")
    if not outputs.isfinite().all():
        raise FileProblem(file, "damaged (class probabilities that are not numbers)")
    return outputs.argmax()


DOMAINS: Mapping[str, Domain] = {
    "depth_z": Domain("depth_zbuffer", read_depth),
    "depth_euclidean": Domain("depth_euclidean", read_depth),
    "normals": Domain("normal", _read_normals, True),
    "curvature": Domain("principal_curvature", _read_curvature, True),
    "reshading": Domain("reshading", _read_share, True),
    "edges_2d": Domain("edge_texture", _read_share),
    "edges_occlusion": Domain("edge_occlusion", _read_share, True),
    "keypoints_2d": Domain("keypoints2d", _read_share),
    "keypoints_3d": Domain("keypoints3d", _read_share, True),
    "segments_2d": Domain("segment_unsup2d", _read_segments),
    "segments_25d": Domain("segment_unsup25d", _read_segments, True),
    "semantic": Domain("segment_semantic", _read_semantic, names=("segmentsemantic", "segment_semantic")),
    "object_class": Domain("class_object", partial(_read_class, 1000, None), suffix=".npy"),
    "object_class_100": Domain("class_object", partial(_read_class, 1000, tuple(OBJECTS)), suffix=".npy"),
    "scene_class": Domain(
        "class_scene", partial(_read_class, 365, tuple(SCENES)), suffix=".npy", names=("class_places", "class_scene")
    ),
}
"""Labels with a file per view, by batch key."""
