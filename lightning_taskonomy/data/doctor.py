"""The data doctor: reads a whole data set once and says what is in it and what is wrong with it."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_taskonomy.data.agreement import DEPTHS, Limits, comparisons
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample, Samples, SkipSample, is_given, size_of
from lightning_taskonomy.data.geometry import Intrinsics, outside
from lightning_taskonomy.data.reading import Labelled
from lightning_taskonomy.data.stored import UnexpectedFiles
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Label, LabelKind, TaskKind, catalog, presence

__all__ = ["KeyReport", "Report", "SplitReport", "check"]

_SPLITS = ("train", "validation", "test")
_LISTED = 20
_FARTHEST = 10_000.0
"""No depth of a picture is so many metres."""
_LARGEST = 1e6
"""No other label is so large."""
_MARKS = (-999.0, -999.9, -9999.0, -9999.9, -32768.0, -99999.0)
_NO_MEASUREMENT = "which usually means no measurement; name it in encodings as missing"


@dataclass
class KeyReport:
    """What one key holds in one split.

    Args:
        samples: Samples with at least one valid value; of a set, those that are labelled, with or without objects.
        objects: Of a set, how many there are.
        values: Numbers in all of them, valid or not.
        valid: Numbers that are neither NaN nor -100.
        low: The smallest valid one.
        high: The largest valid one.
        mean: The mean of the valid ones.
        histogram: How often each class occurs, if it holds classes.
    """

    samples: int = 0
    objects: int | None = None
    values: int = 0
    valid: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    mean: float = 0.0
    histogram: dict[int, int] = field(default_factory=dict)

    def add(self, entry: Tensor, *, is_set: bool = False) -> None:
        """Takes one sample's entry into account; of a set, one that is labelled."""
        floating = entry.is_floating_point()
        valid = entry[~entry.isnan() if floating else entry != IGNORE_INDEX]
        self.values += entry.numel()
        if is_set:
            self.objects = (self.objects or 0) + len(entry)
        self.samples += is_set or valid.numel() > 0
        if not valid.numel():
            return
        total = self.mean * self.valid + float(valid.double().sum())
        self.valid += valid.numel()
        self.mean = total / self.valid
        self.low, self.high = min(self.low, float(valid.min())), max(self.high, float(valid.max()))
        if not floating and entry.dtype != torch.bool:
            for number, count in zip(*(t.tolist() for t in valid.unique(return_counts=True)), strict=True):
                self.histogram[number] = self.histogram.get(number, 0) + count


@dataclass
class SplitReport:
    """What one split holds.

    Args:
        images: Images listed.
        read: Images that could be read.
        buildings: Buildings (or other units that splits must not share); none known if empty.
        keys: What each key holds.
        compared: Labels that geometry ties together, and by how much they differ: one line each.
    """

    images: int = 0
    read: int = 0
    buildings: list[str] = field(default_factory=list)
    keys: dict[str, KeyReport] = field(default_factory=dict)
    compared: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What a data set holds.

    Args:
        splits: By name.
        problems: Files that are missing or damaged, mismatching sizes, samples shared by splits, labels that disagree
            with each other or hold what cannot be: one line each.
        notes: What is worth knowing but no fault: splits and keys that are not there, labels that never vary.
    """

    splits: dict[str, SplitReport] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON: a key without any valid value has no range."""
        content = asdict(self) | {"ok": self.ok}
        for split in content["splits"].values():
            for key in split["keys"].values():
                if not key["valid"]:
                    key.update(low=None, high=None, mean=None)
        return content

    def __str__(self) -> str:
        """A few lines for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for name, split in self.splits.items():
            where = f" of {len(split.buildings)} buildings" if split.buildings else ""
            yield f"{name}: {split.read} of {split.images} images{where}"
            for key, counts in split.keys.items():
                missing = 1 - counts.valid / counts.values if counts.values else 1.0
                line = f"  {key}: in {counts.samples} images, {missing:.1%} missing"
                if counts.objects is not None:
                    line = f"  {key}: labelled in {counts.samples} images, {counts.objects} objects"
                if counts.valid:
                    line += f", {counts.low:.4g} to {counts.high:.4g}, mean {counts.mean:.4g}"
                if (classes := len(counts.histogram)) > 1:
                    common = sorted(counts.histogram.items(), key=lambda item: (-item[1], item[0]))[:6]
                    shares = ", ".join(f"{number}: {count / counts.valid:.1%}" for number, count in common)
                    line += f"; {classes} classes ({shares}{', ...' if classes > 6 else ''})"
                yield line
            yield from (f"  {line}" for line in split.compared)
        yield from (f"note: {note}" for note in self.notes)
        yield from (f"problem: {problem}" for problem in self.problems[:_LISTED])
        if len(self.problems) > _LISTED:
            yield f"problem: and {len(self.problems) - _LISTED} more"
        yield "no problem found" if self.ok else f"{len(self.problems)} problems found"


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
    pictures: dict[str, dict[bytes, str]] = {}
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
        reading = _Reading(samples, split, report, data.targets, _groupings(data), asked)
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
    lines = report.problems if asked or isinstance(error, UnexpectedFiles) else report.notes
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
        self, samples: Samples, split: str, report: Report, labels: Mapping[str, Label], groupings: Collection[str],
        asked: Collection[str],
    ) -> None:  # fmt: skip
        self.samples, self.split, self.report = samples, split, report
        self.labels, self.groupings, self.asked = labels, groupings, asked
        self.faults: dict[str, _Fault] = {}

    def run(self, limit: int | None, wanted: Collection[str], compare: int, limits: Limits) -> dict[bytes, str]:
        """Reads, counts and compares; returns the pictures by digest."""
        split_report = self.report.splits[self.split] = SplitReport(images=len(self.samples))
        split_report.buildings = sorted({str(name) for name in getattr(self.samples, "buildings", None) or ()})
        pictures: dict[bytes, str] = {}
        keys = {key: KeyReport() for key in sorted(wanted)}
        count = len(self.samples) if limit is None else min(limit, len(self.samples))
        compared = comparisons(wanted, self.labels, limits, groupings=self.groupings) if compare else []
        compare = min(compare, count)
        places = {position * count // compare for position in range(compare)}
        for position in range(count):
            index = position * len(self.samples) // count
            try:
                sample = self.samples[index]
            except SkipSample:
                continue
            except InputError as error:
                self.report.problems.append(f"{self.split}: {error}")
                continue
            split_report.read += 1
            pictures[_digest(sample)] = f"{self.split} {index}"
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
    elif label.kind is LabelKind.POINTS:
        yield f"{key} outside the image", outside(entry, size)
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


def _compare(pictures: dict[str, dict[bytes, str]], report: Report) -> None:
    """Splits must not share buildings, nor the very same picture."""
    for first, second in combinations(pictures, 2):
        shared = sorted({*report.splits[first].buildings} & {*report.splits[second].buildings})
        if shared:
            report.problems.append(f"{first} and {second} share {len(shared)} buildings: {', '.join(shared[:5])}")
        same = sorted(pictures[first].keys() & pictures[second].keys())
        if same:
            where = f"{pictures[first][same[0]]} is {pictures[second][same[0]]}"
            report.problems.append(f"{first} and {second} share {len(same)} identical images, such as {where}")
