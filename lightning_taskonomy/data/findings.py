"""What the data doctor finds in a data set: counts, ranges, problems, and the images to leave out."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_taskonomy.tasks import IGNORE_INDEX

__all__ = ["KeyReport", "Report", "SplitReport"]

_LISTED = 20


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
        skip: The images that cannot be used, and those that a later split has too: path or id of each.
    """

    splits: dict[str, SplitReport] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)

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
