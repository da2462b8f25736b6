"""The data doctor: reads a whole data set once and says what is in it and what is wrong with it."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from lightning_taskonomy.data.agreement import DEPTHS, Limits, comparisons
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample, Samples, SkipSample, is_given, size_of
from lightning_taskonomy.data.findings import KeyReport, Report, SplitReport
from lightning_taskonomy.data.geometry import Intrinsics, outside
from lightning_taskonomy.data.reading import Labelled
from lightning_taskonomy.data.skips import image_name
from lightning_taskonomy.data.stored import FileProblem, UnexpectedFiles
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Label, LabelKind, TaskKind, catalog, presence

__all__ = ["KeyReport", "Report", "SplitReport", "check"]

_SPLITS = ("train", "validation", "test")
_FARTHEST = 10_000.0
"""No depth of a picture is so many metres."""
_FAR_ON_AVERAGE = 500.0
"""No data set's depths are so many metres on average, not even with a sky at 655 m."""
_LARGEST = 1e6
"""No other label is so large."""
_MARKS = (-999.0, -999.9, -9999.0, -9999.9, -32768.0, -99999.0)
_SHARES = "of an object within the first pixel; if they are shares of the image's sides, they must be made pixels"
_NO_MEASUREMENT = "which usually means no measurement; name it in encodings as missing"


def check(
    data: TaskDataModule,
    *,
    keys: Collection[str] | None = None,
    splits: Sequence[str] = _SPLITS,
    limit: int | None = None,
    compare: int = 16,
    limits: Limits | None = None,
) -> Report:
    """Reads every image and label once, and compares labels that geometry ties together.

    Args:
        data: The data set.
        keys: What to read; None for the module's own keys, or everything that is there.
        splits: Which splits.
        limit: At most so many images of each split, evenly spread.
        compare: On how many of them labels are compared with each other (``data.agreement``), evenly spread.
        limits: From where on they disagree; None for ``Limits()``.

    Returns:
        Counts, ranges, class histograms, and everything that is wrong.

    Raises:
        InputError: ``limit`` or ``compare`` is too small, the data set's folder is not there, it does not offer one of
            its ``keys``, or none of the splits can be read at all; says why.
    """
    root = getattr(data, "root", None)
    if isinstance(root, str | Path) and not Path(root).is_dir():
        raise InputError(f"{root} is not a folder; give the folder of the data set")
    if (limit is not None and limit < 1) or compare < 0:
        raise InputError(f"limit is {limit} and compare {compare}; give at least 1 sample, and 0 or more to compare")
    requested = keys or (data.keys and [key for key in data.batch_keys() if key in data.keys_offered])
    report = Report()
    pictures: dict[str, dict[bytes | int, tuple[str, str | None]]] = {}
    reasons: list[str] = []
    for split in splits:
        there = False
        try:
            data.build(split, ["image"])
            there = True
            wanted = list(requested or _usable(data, split, report))
            samples = data.build(split, wanted)
        except InputError as error:
            reasons.append(str(error))
            _report(report, split, error, asked=there)
            continue
        asked = {*(requested or data.keys_asked)}
        reading = _Reading(data, samples, split, report, _groupings(data), asked)
        pictures[split] = reading.run(limit, wanted, compare, limits or Limits())
    if not report.splits:
        raise InputError(reasons[0])
    _compare(pictures, report)
    return report


def _groupings(data: TaskDataModule) -> set[str]:
    """The keys of segments, whose numbers are not classes."""
    tasks = [*catalog().values(), *getattr(data, "tasks", {}).values()]
    return {task.target for task in tasks if task.kind is TaskKind.GROUPING}


def _usable(data: TaskDataModule, split: str, report: Report) -> list[str]:
    usable, asked = [], data.keys_asked
    for key in sorted(data.keys_offered):
        try:
            data.build(split, [key])
        except InputError as error:
            _report(report, split, error, asked=key in asked)
        else:
            usable.append(key)
    return usable


def _report(report: Report, split: str, error: InputError, *, asked: bool = False) -> None:
    """What is not there is worth a note; what is asked for, or is there but not as it must be, is a problem."""
    lines = report.problems if asked or isinstance(error, UnexpectedFiles | FileProblem) else report.notes
    lines.append(f"{split}: {error}")


@dataclass
class _Fault:
    """Something that a label cannot hold: in how many images, how often, and where first."""

    where: str
    images: int = 0
    times: int = 0


class _Reading:
    """One pass over a split."""

    def __init__(
        self, data: TaskDataModule, samples: Samples, split: str, report: Report, groupings: Collection[str],
        asked: Collection[str],
    ) -> None:  # fmt: skip
        self.samples, self.split, self.report = samples, split, report
        self.labels, self.groupings, self.asked = data.targets, groupings, asked
        self.faults: dict[str, _Fault] = {}
        self.kept = data.kept(samples)
        root = getattr(data, "root", None)
        self.root = None if root is None else Path(root)

    def run(
        self, limit: int | None, wanted: Collection[str], compare: int, limits: Limits
    ) -> dict[bytes | int, tuple[str, str | None]]:
        """Reads, counts and compares; by digest and by id where each picture is, and what a skip list calls it."""
        split_report = self.report.splits[self.split] = SplitReport(images=len(self.kept))
        if left_out := len(self.samples) - len(self.kept):
            self.report.notes.append(f"{self.split}: {left_out} images are skipped, as asked")
        split_report.buildings = sorted({str(name) for name in getattr(self.samples, "buildings", None) or ()})
        pictures: dict[bytes | int, tuple[str, str | None]] = {}
        keys = {key: KeyReport() for key in sorted(wanted)}
        count = len(self.kept) if limit is None else min(limit, len(self.kept))
        compared = comparisons(wanted, self.labels, limits, groupings=self.groupings) if compare else []
        compare = min(compare, count)
        places = {position * count // compare for position in range(compare)}
        for position in range(count):
            index = self.kept[position * len(self.kept) // count]
            name = image_name(self.samples, index, self.root)
            try:
                sample = self.samples[index]
            except (SkipSample, InputError) as error:
                if isinstance(error, InputError):
                    self.report.problems.append(f"{self.split}: {error}")
                self.report.skip += [] if name is None else [name]
                continue
            split_report.read += 1
            pictures[_digest(sample)] = pictures[int(sample["id"])] = (f"{self.split} {index}", name)
            for key in self._entries(sample):
                keys.setdefault(key, KeyReport()).add(
                    sample[key], is_set=key in self.labels and self.labels[key].is_set
                )
                self._examine(sample, key, index)
            if compared and position in places:
                camera = self._camera(sample, index)
                for comparison in compared:
                    comparison.add(sample, self._file(index), camera)
        split_report.keys = keys
        self._conclude(split_report)
        for outcome in filter(None, (comparison.outcome() for comparison in compared)):
            split_report.compared.append(outcome.measured)
            if outcome.problem is not None:
                self.report.problems.append(f"{self.split}: {outcome.problem}")
        return pictures

    def _entries(self, sample: Sample) -> Iterator[str]:
        """The keys that the sample has a label of; not that of a set that is not labelled."""
        flags = {presence(key) for key, label in self.labels.items() if label.is_set}
        yield from (key for key in sorted(sample.keys() - {"id"} - flags) if is_given(sample, key))

    def _conclude(self, split_report: SplitReport) -> None:
        problems = getattr(self.samples, "problems", ())
        self.report.problems += [f"{self.split}: {problem.file}: {problem.reason}" for problem in problems]
        for what, fault in self.faults.items():
            times = f"{fault.times} times in {fault.images} images" if fault.images > 1 else f"{fault.times} times"
            self.report.problems.append(f"{self.split}: {what}: {times}, first in {fault.where}")
        for key, entries in split_report.keys.items():
            if key in DEPTHS and entries.valid and entries.high <= _FARTHEST and entries.mean > _FAR_ON_AVERAGE:
                self.report.problems.append(
                    f"{self.split}: {key} is {entries.mean:g} m on average; it may be in millimetres or another unit"
                )
            if entries.samples > 1 and entries.valid and entries.low == entries.high:
                self.report.notes.append(f"{self.split}: every value of {key} is {entries.low:g}")
            elif not entries.samples and split_report.read:
                reason = self._without(key)
                lines = self.report.problems if key in self.asked else self.report.notes
                lines.append(f"{self.split}: no image has a label {key}" + (f": {reason}" if reason else ""))
        if isinstance(self.samples, Labelled):
            self.report.problems += [f"{self.split}: {remark}" for remark in self.samples.remarks()]

    def _without(self, key: str) -> str | None:
        """Why there is no label at a key, where the samples come from files."""
        if not isinstance(self.samples, Labelled):
            return None
        try:
            return self.samples.unlabelled(key, range(len(self.samples)))
        except InputError as error:
            return str(error)

    def _camera(self, sample: Sample, index: int) -> Intrinsics | None:
        """The image's camera, where the samples know it."""
        camera = getattr(self.samples, "camera", None)
        if camera is None:
            return None
        intrinsics: Intrinsics | None = camera(index, size_of(sample["image"]))
        return intrinsics

    def _file(self, index: int, key: str = "image") -> str:
        """The file of a label, or of the image, where the samples have files."""
        files = getattr(self.samples, "labels", {}).get(key) or getattr(self.samples, "images", None)
        return f"{self.split} {index}" if files is None or files[index] is None else str(files[index])

    def _examine(self, sample: Sample, key: str, index: int) -> None:
        """Counts what the label at a key cannot hold."""
        entry, label = sample[key], self.labels.get(key)
        for what, wrong in _impossible(key, entry, label, sample, key in self.groupings):
            times = int(wrong.sum())
            if times:
                fault = self.faults.setdefault(what, _Fault(self._file(index, key)))
                fault.images, fault.times = fault.images + 1, fault.times + times


def _impossible(
    key: str, entry: Tensor, label: Label | None, sample: Sample, grouping: bool
) -> Iterator[tuple[str, Tensor]]:
    """What a label cannot hold, each with where it does."""
    if label is None:
        return
    size = size_of(sample["image"])
    if key in DEPTHS:
        yield f"{key} of 0 m or less; if that means no measurement, it must be read as missing", entry <= 0
        yield f"{key} of more than {_FARTHEST:g} m; another unit, or a number for no measurement", entry > _FARTHEST
    elif label.kind is LabelKind.BOXES:
        missing = entry.isnan().any(1)
        yield f"{key} with NaN", missing
        yield f"{key} of no area", ~missing & (entry[:, 2:] <= entry[:, :2]).any(1)
        yield f"{key} that reach outside the image", ~missing & outside(entry.reshape(-1, 2, 2), size).any(1)
        yield f"{key} {_SHARES}", (entry <= 1).all(1) & (min(size) > 2)
    elif label.kind is LabelKind.POINTS:
        yield f"{key} outside the image", outside(entry, size)
        marked = ~entry.isnan().any(-1)
        several = marked.sum(1) > 1
        yield f"{key} {_SHARES}", several & ((entry <= 1).all(-1) | ~marked).all(1) & (min(size) > 2)
    elif label.is_classes:
        if label.classes is not None and not grouping:
            for number in entry[(entry != IGNORE_INDEX) & ((entry < 0) | (entry >= label.classes))].unique().tolist():
                yield f"{key} of class {number}, but there are 0 to {label.classes - 1}", entry == number
    elif entry.is_floating_point():
        yield f"{key} beyond {_LARGEST:g}, {_NO_MEASUREMENT}", entry.abs() > _LARGEST
        for mark in _MARKS:
            yield f"{key} of {mark:g}, {_NO_MEASUREMENT}", (entry - mark).abs() <= 1e-6 * -mark


def _digest(sample: Sample) -> bytes:
    pixels = (sample["image"] * 255).round().to(torch.uint8).contiguous()
    return hashlib.blake2b(pixels.numpy().tobytes(), digest_size=16).digest()


def _compare(pictures: dict[str, dict[bytes | int, tuple[str, str | None]]], report: Report) -> None:
    """Splits must not share buildings, nor an image, nor the very same picture under two names."""
    for first, second in combinations(pictures, 2):
        shared = sorted({*report.splits[first].buildings} & {*report.splits[second].buildings})
        if shared:
            report.problems.append(f"{first} and {second} share {len(shared)} buildings: {', '.join(shared[:5])}")
        shared_keys = pictures[first].keys() & pictures[second].keys()
        for kind, what in ((bytes, "identical images"), (int, "images of one id")):
            same = [key for key in pictures[first] if key in shared_keys and isinstance(key, kind)]
            if same:
                where = f"{pictures[first][same[0]][0]} is {pictures[second][same[0]][0]}"
                report.problems.append(f"{first} and {second} share {len(same)} {what}, such as {where}")
        report.skip += [name for key in pictures[first] if key in shared_keys and (name := pictures[first][key][1])]
    report.skip = list(dict.fromkeys(report.skip))
