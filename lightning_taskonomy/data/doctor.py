"""The data doctor: reads a whole data set once and says what is in it and what is wrong with it."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample, Samples, SkipSample
from lightning_taskonomy.data.reading import Labelled, absurd_range
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, presence

__all__ = ["KeyReport", "Report", "SplitReport", "check"]

_SPLITS = ("train", "validation", "test")
_LISTED = 20


@dataclass
class KeyReport:
    """What one key holds in one split.

    Args:
        samples: Samples with at least one valid value, or of which it is known that there is no object.
        values: Numbers in all of them, valid or not.
        valid: Numbers that are neither NaN nor -100.
        low: The smallest valid one.
        high: The largest valid one.
        mean: The mean of the valid ones.
        histogram: How often each class occurs, if it holds classes.
    """

    samples: int = 0
    values: int = 0
    valid: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    mean: float = 0.0
    histogram: dict[int, int] = field(default_factory=dict)

    def add(self, entry: Tensor, labelled: bool = True) -> None:
        """Takes one sample's entry into account.

        Args:
            entry: The entry.
            labelled: Of a set, whether it is known; one without objects is.
        """
        floating = entry.is_floating_point()
        valid = entry[~entry.isnan() if floating else entry != IGNORE_INDEX]
        self.values += entry.numel()
        if not valid.numel():
            self.samples += labelled and not entry.numel()
            return
        self.samples += 1
        total = self.mean * self.valid + float(valid.double().sum())
        self.valid += valid.numel()
        self.mean = total / self.valid
        self.low, self.high = min(self.low, float(valid.min())), max(self.high, float(valid.max()))
        if not floating:
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
    """

    images: int = 0
    read: int = 0
    buildings: list[str] = field(default_factory=list)
    keys: dict[str, KeyReport] = field(default_factory=dict)


@dataclass
class Report:
    """What a data set holds.

    Args:
        splits: By name.
        problems: Files that are missing or damaged, mismatching sizes, samples shared by splits: one line each.
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
            for key, found in split.keys.items():
                missing = 1 - found.valid / found.values if found.values else 1.0
                line = f"  {key}: in {found.samples} images, {missing:.1%} missing"
                if found.valid:
                    line += f", {found.low:.4g} to {found.high:.4g}, mean {found.mean:.4g}"
                if len(found.histogram) > 1:
                    common = sorted(found.histogram.items(), key=lambda item: (-item[1], item[0]))[:6]
                    shares = ", ".join(f"{number}: {count / found.valid:.1%}" for number, count in common)
                    line += f"; {len(found.histogram)} classes ({shares}{', ...' if len(found.histogram) > 6 else ''})"
                yield line
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
) -> Report:
    """Reads every image and label once.

    Args:
        data: The data set.
        keys: What to read; None for the module's own keys, or everything that is there.
        splits: Which splits.
        limit: At most so many images of each split, evenly spread.

    Returns:
        Counts, ranges, class histograms, and everything that is wrong.

    Raises:
        InputError: None of the splits can be read at all; says why.
    """
    report = Report()
    pictures: dict[str, dict[bytes, str]] = {}
    reasons: list[str] = []
    for split in splits:
        try:
            data.build(split, ["image"])
            wanted = list(keys or data.keys or _usable(data, split, report))
            samples = data.build(split, wanted)
        except InputError as error:
            reasons.append(str(error))
            report.notes.append(f"{split}: {error}")
            continue
        pictures[split] = _read(samples, split, limit, report, {*(keys or data.keys or data.keys_asked)})
    if not report.splits:
        raise InputError(reasons[0])
    _compare(pictures, report)
    return report


def _usable(data: TaskDataModule, split: str, report: Report) -> list[str]:
    usable = []
    for key in sorted(data.keys_offered):
        try:
            data.build(split, [key])
        except InputError as error:
            report.notes.append(f"{split}: {error}")
        else:
            usable.append(key)
    return usable


def _read(samples: Samples, split: str, limit: int | None, report: Report, asked: Collection[str]) -> dict[bytes, str]:
    found = report.splits[split] = SplitReport(images=len(samples))
    found.buildings = sorted({str(name) for name in getattr(samples, "buildings", None) or ()})
    pictures: dict[bytes, str] = {}
    keys: dict[str, KeyReport] = defaultdict(KeyReport)
    count = len(samples) if limit is None else min(limit, len(samples))
    indices = [position * len(samples) // count for position in range(count)]
    for index in indices:
        try:
            sample = samples[index]
        except SkipSample:
            continue
        except InputError as error:
            report.problems.append(f"{split}: {error}")
            continue
        found.read += 1
        pictures[_digest(sample)] = f"{split} {index}"
        for key in sorted(sample.keys() - {"id"} - {presence(key) for key in sample}):
            keys[key].add(sample[key], bool(sample.get(presence(key), True)))
    found.keys = dict(keys)
    report.problems += [f"{split}: {problem.file}: {problem.reason}" for problem in getattr(samples, "problems", ())]
    for key, entries in found.keys.items():
        if entries.samples > 1 and entries.low == entries.high:
            report.notes.append(f"{split}: every value of {key} is {entries.low:g}")
        elif not entries.samples:
            try:
                reason = samples.unlabelled(key, indices) if isinstance(samples, Labelled) else None
            except InputError as error:
                reason = str(error)
            lines = report.problems if key in asked else report.notes
            lines.append(f"{split}: no image has a label {key}" + (f": {reason}" if reason else ""))
        if entries.valid and not entries.histogram and (wrong := absurd_range(entries.low, entries.high)):
            report.problems.append(f"{split}: {key}: {wrong}")
    if isinstance(samples, Labelled):
        report.problems += [f"{split}: {remark}" for remark in samples.remarks()]
    return pictures


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
