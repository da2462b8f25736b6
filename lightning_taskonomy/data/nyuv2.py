"""NYU Depth v2 (Silberman et al., ECCV 2012): indoor images with 13 classes, depth and surface normals."""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy.data import mtan
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Samples, blank, size_of
from lightning_taskonomy.data.geometry import Intrinsics, facing_away, normals_from_depth, unit_normals
from lightning_taskonomy.data.reading import Entry, Labelled, stable_id
from lightning_taskonomy.data.stored import FileProblem
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, find
from lightning_taskonomy.tasks.catalog.nyuv2 import SEMANTIC_SEGMENTATION

__all__ = ["OF_40", "Axis", "NYUv2DataModule"]

Axis = Literal["right", "left", "up", "down", "forward", "back"]

OF_40 = (
    12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5, 7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7,
    7, 7, 6, 7,
)  # fmt: skip
"""By class of 40 (Gupta et al., CVPR 2013) the class of 13, both counted from 1."""
_MAT = "nyu_depth_v2_labeled.mat"
_SPLITS, _CLASSES = "splits.mat", "classMapping40.mat"
_CAMERA = Intrinsics((518.858, 519.470), (325.582 - 1, 253.736 - 1))
"""The colour camera of the data set's toolbox, there in pixels of 640 x 480 counted from 1; depths lie in its frame."""
_AXES: Mapping[str, tuple[int, float]] = {
    "right": (0, 1.0), "left": (0, -1.0), "down": (1, 1.0), "up": (1, -1.0), "forward": (2, 1.0), "back": (2, -1.0),
}  # fmt: skip


class NYUv2DataModule(TaskDataModule):
    """Images, ``semantic`` (13 classes), ``depth_z`` (metres) and ``normals``; what is not labelled is missing.

    Splits are ``train`` (795 images), and ``validation`` and ``test`` (327 each): the official 654 test images, all of
    which are ``official_test``, taken in turns in their order, the first for validation.

    Args:
        root: The folder of ``nyu_depth_v2_labeled.mat`` (read with h5py, the extra ``nyuv2``), ``splits.mat`` and, for
            the classes, ``classMapping40.mat``; or that of the MTAN authors with ``train/image/0.npy``, ``label``,
            ``depth``, ``normal``. The first has no normals: they are fitted to its depths.
        size: Height and width to resize to; None keeps 480 x 640, or the arrays' 288 x 384.
        raw_depth: Of the first layout, the depths as measured instead of those with holes filled.
        normal_axes: Where the three channels of the arrays' normals point. The files do not say; of all 48 these fit
            the depth of a real image best.
        **options: Those of ``TaskDataModule``.
    """

    def __init__(
        self,
        root: str,
        size: tuple[int, int] | None = None,
        raw_depth: bool = False,
        normal_axes: tuple[Axis, Axis, Axis] = ("right", "forward", "up"),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if sorted(_AXES[axis][0] for axis in normal_axes if axis in _AXES) != [0, 1, 2]:
            raise InputError(
                f"normal_axes is {tuple(normal_axes)}; three of right or left, up or down, forward or back"
            )
        self.root = Path(root)
        self.size = None if size is None else (size[0], size[1])
        self.raw_depth = raw_depth
        self.normal_axes = normal_axes

    @property
    def keys_offered(self) -> Collection[str]:
        """Image and labels."""
        return ("image", *_TASKS)

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its segmentation, and depth and normals of the dictionary."""
        return _TASKS.values()

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The images of a split.

        Raises:
            InputError: No such split, a file is missing, or h5py is not installed.
        """
        wanted = [key for key in keys if key in _TASKS]
        if mtan.is_mtan(self.root):
            arrays = {
                "semantic": ("label", partial(mtan.read_classes, 13), _TASKS["semantic"]),
                "depth_z": ("depth", partial(mtan.read_values, 1), _TASKS["depth_z"]),
                "normals": ("normal", partial(_read_normals, self.normal_axes), _TASKS["normals"]),
            }
            arrays = {key: arrays[key] for key in wanted}
            return mtan.samples(self.root, split, "nyuv2", arrays, size=self.size, lens=_camera)
        return self._official(split, wanted)

    def _official(self, split: str, keys: Collection[str]) -> Samples:
        part, half = mtan.half_of(split, "nyuv2")
        for name, needed in ((_MAT, True), (_SPLITS, True), (_CLASSES, "semantic" in keys)):
            if needed and not (self.root / name).is_file():
                raise InputError(
                    f"{self.root / name} is missing; root must hold {_MAT}, {_SPLITS} and, for classes, {_CLASSES}, or "
                    "the MTAN folder with train/image/0.npy and val/image/0.npy"
                )
        _h5py()
        indices = _read_mat(self.root / _SPLITS, "trainNdxs" if part == "train" else "testNdxs")
        numbers = [int(number) for number in indices.ravel()][half]
        depths = "rawDepths" if self.raw_depth else "depths"
        read: dict[str, tuple[str, Any]] = {"depth_z": (depths, _read_depth), "normals": ("depths", _fit_normals)}
        if "semantic" in keys:
            table = _read_mat(self.root / _CLASSES, "mapClass").ravel().astype(np.int64)
            read["semantic"] = ("labels", partial(_read_labels, _table(table)))
        inside = self.root / _MAT
        return Labelled(
            [inside / "images" / str(number) for number in numbers],
            {key: [inside / read[key][0] / str(number) for number in numbers] for key in keys},
            {key: Entry(read[key][1], partial(blank, _TASKS[key])) for key in keys},
            ids=[stable_id("nyuv2", number) for number in numbers],
            size=self.size,
            picture=_read_colours,
            lens=_camera,
        )


_TASKS = {"semantic": SEMANTIC_SEGMENTATION, "depth_z": find("depth_z"), "normals": find("normals")}


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            f"{_MAT} is an HDF5 file and needs h5py: pip install 'lightning-taskonomy[nyuv2]', or give the MTAN folder"
        ) from error
    module: ModuleType = h5py
    return module


def _read_mat(file: Path, name: str) -> NDArray[np.generic]:
    """One array of a MATLAB file before version 7.3."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        array: NDArray[np.generic] = loadmat(file, variable_names=[name])[name]
    except (MatReadError, OSError, KeyError, ValueError, NotImplementedError, TypeError) as error:
        raise InputError(f"{file} cannot be read as the data set's own file with {name!r} ({error})") from error
    return array


def _read_slice(file: Path) -> NDArray[np.generic]:
    """``FILE.mat/images/12``: the 12th of ``images``, rows before columns."""
    try:
        with _h5py().File(file.parents[1], "r") as content:
            stored: NDArray[np.generic] = content[file.parent.name][int(file.name) - 1]
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise FileProblem(file, f"damaged ({error})") from error
    return np.ascontiguousarray(np.swapaxes(stored, -1, -2))


def _read_colours(file: Path) -> Tensor:
    return torch.from_numpy(_read_slice(file).astype(np.float32)) / 255


def _read_depth(file: Path) -> Tensor:
    depth = torch.from_numpy(_read_slice(file).astype(np.float32))[None]
    return torch.where(depth > 0, depth, torch.nan)


def _fit_normals(file: Path) -> Tensor:
    return normals_from_depth(_read_depth(file), _CAMERA.focal, _CAMERA.centre)


def _camera(size: tuple[int, int]) -> Intrinsics:
    return _CAMERA.resized((480, 640), size)


def _table(of_894: NDArray[np.int64]) -> Tensor:
    """By number in ``labels`` the class; -100 for 0, unlabelled."""
    if of_894.min() < 0 or of_894.max() > len(OF_40):
        raise InputError(f"mapClass of {_CLASSES} has {of_894.min()} to {of_894.max()}; it maps to classes 0 to 40")
    thirteen = torch.tensor([IGNORE_INDEX + 1, *OF_40]) - 1
    return torch.cat([torch.tensor([IGNORE_INDEX]), thirteen[torch.from_numpy(of_894)]])


def _read_labels(table: Tensor, file: Path) -> Tensor:
    labels = torch.from_numpy(_read_slice(file).astype(np.int64))
    if labels.max() >= len(table):
        raise FileProblem(file, f"damaged (class {int(labels.max())} of {len(table) - 1})")
    return table[labels]


def _read_normals(axes: tuple[Axis, Axis, Axis], file: Path) -> Tensor:
    """(3, H, W) unit vectors, x right, y down, z forward.

    Raises:
        FileProblem: The file is missing or damaged.
        InputError: Most of them point away from the camera.
    """
    stored = mtan.read_values(3, file)
    normals = torch.empty_like(stored)
    for channel, axis in zip(stored, axes, strict=True):
        row, sign = _AXES[axis]
        normals[row] = sign * channel
    normals = unit_normals(normals)
    if bool(facing_away(normals, _camera(size_of(normals))) > 0.5):
        raise InputError(
            f"most normals of {file} point away from the camera with normal_axes={tuple(axes)}; give the axes of these "
            "files, three of right or left, up or down, forward or back"
        )
    return normals
