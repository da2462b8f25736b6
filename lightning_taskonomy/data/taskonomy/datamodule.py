"""Taskonomy's images with every label that a download holds, pairs and triplets made from its metadata."""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample, Samples, blank
from lightning_taskonomy.data.geometry import Intrinsics
from lightning_taskonomy.data.poses import relative_pose
from lightning_taskonomy.data.reading import Entry, Labelled
from lightning_taskonomy.data.stored import FileProblem, near, read_image
from lightning_taskonomy.data.taskonomy.cameras import (
    read_intrinsics,
    read_pose,
    read_room_layout,
    read_vanishing_points,
)
from lightning_taskonomy.data.taskonomy.encodings import DOMAINS, invalid
from lightning_taskonomy.data.taskonomy.index import METADATA, Files, Index, buildings_of, find_domain
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, catalog

__all__ = ["TaskonomyDataModule"]

_LOG = logging.getLogger(__name__)
_SPLITS = ("train", "validation", "test")
_METADATA = {"vanishing_points": read_vanishing_points, "room_layout": read_room_layout}
_VIEWS: Mapping[str, tuple[str, int]] = {
    "pair_fixated": ("pose_fixated", 2),
    "pair_nonfixated": ("pose_nonfixated", 2),
    "triplet": ("egomotion", 3),
    "pair_matching": ("matching", 2),
}
_FROM_METADATA = {*_METADATA, *_VIEWS, *(target for target, _ in _VIEWS.values())} - {"pair_matching", "matching"}
_VIEWS_OF_MATCHES = {"pair_nonfixated", "pose_nonfixated"}
_MATCHING_STREAM = 7


class TaskonomyDataModule(TaskDataModule):
    """Views at ``<root>/<domain>/<building>/point_P_view_V_domain_D.png``.

    Splits are ``train``, ``validation`` and ``test`` of an official split file; they never share a building. A missing
    or damaged label is missing in the batch, a view whose image is damaged is left out; both are logged and counted.
    In a fixated pair both views look at one point, in a triplet all three; the second view of a non-fixated pair sees
    the point that the first looks at. Points match (half of the pairs) if both views look at the same one.

    Args:
        root: The folder of the domains ``rgb``, ``normal``, ``depth_zbuffer``, ..., and ``point_info`` or ``points``.
        partition: Which official split file, ``train_val_test_<partition>.csv``, in ``root`` or in
            ``root/splits_taskonomy``.
        split_file: Another split file with columns id, train, val, test.
        size: Height and width to resize to; the files have 512.
        mask_holes: Labels rendered from the mesh are missing where the depth says that it has a hole.
        **options: Those of ``TaskDataModule``.
    """

    def __init__(
        self,
        root: str,
        partition: Literal["tiny", "medium", "full", "fullplus"] = "tiny",
        split_file: str | None = None,
        size: int = 256,
        mask_holes: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.partition = partition
        self.split_file = split_file
        self.size = size
        self.mask_holes = mask_holes

    @property
    def keys_offered(self) -> Collection[str]:
        """Every key of the dictionary of 26 tasks, and the 100 selected object classes."""
        pairs = {key for inputs, (target, _) in _VIEWS.items() for key in (inputs, target)}
        return {"image", *DOMAINS, *_METADATA, *pairs}

    @property
    def own_tasks(self) -> Collection[Task]:
        """Those of the dictionary, with classes of its own."""
        return _tasks_by_target().values()

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The views of a split's buildings.

        Raises:
            InputError: No such split, no split file, no image, no folder for a key, or none of its files is named as
                expected.
        """
        if split not in _SPLITS:
            raise InputError(f"Taskonomy has no split {split!r}{hint(split, _SPLITS)}")
        if not find_domain(self.root, "rgb").is_dir():
            raise InputError(
                f"{self.root} holds no images; expected {self.root}/rgb/BUILDING/point_P_view_V_domain_rgb.png and "
                "one such folder per label (normal, depth_zbuffer, ...)"
            )
        for key in keys:
            if key in DOMAINS and not find_domain(self.root, DOMAINS[key].folder).is_dir():
                raise InputError(
                    f"{self.root} has no folder {DOMAINS[key].folder!r}, where {key!r} is; download it too"
                    f"{near(DOMAINS[key].folder, self.root)}"
                )
        index = Index(self.root, buildings_of(self._split_file(), split))
        if index.absent:
            _LOG.warning(
                "%d of %d buildings of split %s are not there, the first is %s",
                len(index.absent), len(index.buildings), split, index.absent[0],
            )  # fmt: skip
        if not len(index.views):
            if not index.buildings:
                raise InputError(f"{self._split_file()} has no building of split {split!r}")
            index.check_names("rgb")
            raise InputError(
                f"{self.root}/rgb has no image of a building of split {split!r}, such as {index.buildings[:3]}"
            )
        for key in keys:
            if key in DOMAINS:
                index.check_names(DOMAINS[key].folder, DOMAINS[key].suffix, DOMAINS[key].names)
        for key in keys:
            folder = "nonfixated_matches" if key in _VIEWS_OF_MATCHES else index.metadata_folder
            if key in _FROM_METADATA and not find_domain(self.root, folder).is_dir():
                raise InputError(
                    f"{self.root} has no folder {folder!r}, where {key!r} is from; download it too"
                    f"{near(folder, self.root)}"
                )
        if _FROM_METADATA.intersection(keys):
            index.check_names(index.metadata_folder, ".json", METADATA)
        return _Views(index, keys, (self.size, self.size), self.mask_holes)

    def _split_file(self) -> Path:
        if self.split_file is not None:
            return Path(self.split_file)
        name = f"train_val_test_{self.partition}.csv"
        unpacked = self.root / "splits_taskonomy" / name
        return unpacked if unpacked.is_file() else self.root / name


def _tasks_by_target() -> Mapping[str, Task]:
    tasks = catalog().items()
    return {task.target: task for name, task in tasks if "." not in name or name.startswith("taskonomy.")}


class _Views(Labelled):
    """The views of an index with the labels asked for."""

    def __init__(self, index: Index, keys: Collection[str], size: tuple[int, int], mask_holes: bool) -> None:
        tasks = _tasks_by_target()
        labels: dict[str, Sequence[Path | None]] = {}
        entries: dict[str, Entry] = {}
        for key in keys:
            if key in DOMAINS:
                domain = DOMAINS[key]
                labels[key] = Files(index, domain.folder, domain.suffix, domain.names)
                entries[key] = Entry(domain.read, partial(blank, tasks[key]), tasks[key].is_dense)
            elif key in _METADATA:
                labels[key] = Files(index, "metadata")
                entries[key] = Entry(_METADATA[key], partial(blank, tasks[key]), False)
        super().__init__(
            Files(index, "rgb"),
            labels,
            entries,
            ids=index.ids(),
            size=size,
            buildings=[index.buildings[row] for row in index.views[:, 0]],
        )
        self.index = index
        self.masked = [key for key in keys if mask_holes and key in DOMAINS and DOMAINS[key].geometric]
        self.lonely: set[str] = set()
        self.pairs = [key for key, (target, _) in _VIEWS.items() if key in keys or target in keys]

    def camera(self, index: int, size: tuple[int, int]) -> Intrinsics | None:
        """The lens and the fixated point of a view's metadata; None without them."""
        try:
            return read_intrinsics(self.index.metadata(index), size)
        except FileProblem:
            return None

    def complete(self, index: int, sample: Sample) -> None:
        """Masks holes of the mesh and adds pairs and triplets."""
        if self.masked:
            self._mask(index, sample)
        if self.pairs:
            for key in self.pairs:
                self._add_views(key, index, sample)

    def _mask(self, row: int, sample: Sample) -> None:
        file = self.index.file(row, DOMAINS["depth_z"].folder)
        try:
            holes = invalid(file)
        except FileProblem as problem:
            if problem.reason != "missing":
                self.log.add(problem.file, problem.reason)
            return
        for key in self.masked:
            label = sample[key]
            if label.shape[-2:] == holes.shape:
                sample[key] = label.masked_fill(holes, float("nan") if label.is_floating_point() else IGNORE_INDEX)

    def _add_views(self, key: str, row: int, sample: Sample) -> None:
        """A pair or triplet with its label; without partners, the image repeated and no label."""
        target, count = _VIEWS[key]
        matches: Tensor | None = None
        if key == "pair_matching":
            matches = torch.tensor(pretext.mix(self.ids[row], _MATCHING_STREAM) % 2)
        rows = self._partners(key, row, matches)[: count - 1]
        try:
            if len(rows) < count - 1:
                return self._add_alone(key, row, sample)
            images = [sample["image"], *(self._picture(partner, sample["image"]) for partner in rows)]
            label = matches if matches is not None else self._poses([row, *rows])
        except FileProblem as problem:
            self.log.add(problem.file, problem.reason)
            return self._add_alone(key, row, sample)
        sample[key], sample[target] = torch.stack(images), label

    def _add_alone(self, key: str, row: int, sample: Sample) -> None:
        """The image repeated, without a label: nothing is wrong with a point that few views see."""
        target, count = _VIEWS[key]
        if key not in self.lonely:
            self.lonely.add(key)
            _LOG.warning("no other views for %s at %s: it has no label, nor have others like it", key, self.images[row])
        sample[key] = torch.stack([sample["image"]] * count)
        sample[target] = blank(_tasks_by_target()[target], (1, 1))

    def _partners(self, key: str, row: int, matches: Tensor | None) -> list[int]:
        if key == "pair_nonfixated":
            return self._nonfixated(row)
        if matches is None or matches:
            return self.index.siblings(row)
        others = self.index.others(row)
        return [others[self.ids[row] % len(others)]] if others else []

    def _nonfixated(self, row: int) -> list[int]:
        file = self.index.matches(row)
        if file is None:
            return []
        try:
            views = json.loads(file.read_text())["views"]
            pairs = [(int(view["point_uuid"]), int(view["view_id"])) for view in views]
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.log.add(file, f"damaged ({error!r})")
            return []
        rows = [self.index.row(int(self.index.views[row, 0]), point, view) for point, view in pairs]
        there = [partner for partner in rows if partner is not None and partner != row]
        start = self.ids[row] % len(there) if there else 0
        return there[start:] + there[:start]

    def _picture(self, row: int, like: Tensor) -> Tensor:
        file = self.images[row]
        image = read_image(file)
        if image.shape != like.shape:
            raise FileProblem(file, f"is {image.shape[-1]}x{image.shape[-2]}, not {like.shape[-1]}x{like.shape[-2]}")
        return image

    def _poses(self, rows: Sequence[int]) -> Tensor:
        """The poses 0 to 1, 1 to 2 and 0 to 2 of a triplet, or 0 to 1 of a pair."""
        poses = [read_pose(self.index.metadata(row)) for row in rows]
        steps = [(0, 1)] if len(poses) == 2 else [(0, 1), (1, 2), (0, 2)]
        relative = [relative_pose(poses[first], poses[second]) for first, second in steps]
        return torch.from_numpy(np.concatenate(relative)).float()
