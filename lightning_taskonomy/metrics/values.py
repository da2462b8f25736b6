"""Metrics of values: functional core, class shell. States are sums and counts, added across processes."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX

__all__ = [
    "AngularError",
    "DeltaAccuracy",
    "MaskedMeanAbsoluteError",
    "MaskedRootMeanSquaredError",
    "PairAccuracy",
    "angles",
    "delta_accuracy",
    "pair_agreement",
]


def angles(preds: Tensor, target: Tensor) -> Tensor:
    """Angles in degrees between predicted and true directions, where there is a true one.

    Args:
        preds: Vectors of any length (B, 3, ...); a zero vector counts as 90 degrees off.
        target: Vectors (B, 3, ...); missing where a component is not finite or all are zero.

    Returns:
        Angles (N,), in [0, 180].
    """
    _require(preds.shape == target.shape, preds, target)
    preds, target = (values.double().movedim(1, -1).reshape(-1, 3) for values in (preds, target))
    valid = target.isfinite().all(1) & (target != 0).any(1)
    preds, target = preds[valid], target[valid]
    across, along = torch.linalg.cross(preds, target).square().sum(1).sqrt(), (preds * target).sum(1)
    return torch.rad2deg(torch.atan2(across, along)).where(preds.any(1), 90.0).float()


def delta_accuracy(preds: Tensor, target: Tensor, threshold: float = 1.25) -> tuple[Tensor, Tensor]:
    """How many predictions are within a factor of the truth, of how many.

    Args:
        preds: Predictions (B, ...).
        target: Positive labels of the same shape; missing where not finite or not positive.
        threshold: The factor; max(preds / target, target / preds) must stay below it.

    Returns:
        Number of hits and number of valid elements, scalars. A prediction that is not positive is a miss.
    """
    _require(preds.shape == target.shape, preds, target)
    valid = target.isfinite() & (target > 0)
    preds, target = preds[valid].double(), target[valid].double()
    hits = (preds < threshold * target) & (target < threshold * preds)
    return hits.sum(), valid.sum()


def pair_agreement(preds: Tensor, target: Tensor, offsets: tuple[int, ...] = (1, 4, 16)) -> Tensor:
    """Whether an embedding tells pairs of pixels of one segment from pairs across two.

    A pair counts as one segment where its similarity 2 / (1 + exp(d)) (Fathi et al. 2017) is above one half: where the
    squared distance d is below ln 3.

    Args:
        preds: Embedding (B, C, H, W).
        target: Segment ids (B, H, W), -100 where missing.
        offsets: Every pixel is compared with those so far to its right and so far below it.

    Returns:
        (4,): pairs judged rightly within segments, pairs within, pairs judged rightly across, pairs across.
    """
    _require(preds.shape[:1] + preds.shape[2:] == target.shape, preds, target)
    counts = torch.zeros(4, dtype=torch.long, device=preds.device)
    for offset in offsets:
        for axis in (-2, -1):
            length = target.shape[axis] - offset
            if length < 1:
                continue
            embedding = preds.float()
            gap = embedding.narrow(axis, offset, length) - embedding.narrow(axis, 0, length)
            judged_same = gap.square().sum(1) < torch.log(torch.tensor(3.0))
            one, other = target.narrow(axis, offset, length), target.narrow(axis, 0, length)
            valid = (one != IGNORE_INDEX) & (other != IGNORE_INDEX)
            same, apart = valid & (one == other), valid & (one != other)
            counts += torch.stack([(same & judged_same).sum(), same.sum(), (apart & ~judged_same).sum(), apart.sum()])
    return counts


class MaskedMeanAbsoluteError(Metric):
    """Mean absolute error over what is labelled, in the units of the target; NaN if nothing is.

    Labels are masked, predictions are not: one that is NaN makes the mean NaN. torchmetrics' ``MeanMetric`` leaves such
    values out or, with its checks disabled, ignores the weights of a mask (1.9).

    Example:
        >>> metric = MaskedMeanAbsoluteError()
        >>> metric(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, float("nan")]]))
        tensor(2.)
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch; both (B, ...), the target NaN or infinite where missing."""
        _require(preds.shape == target.shape, preds, target)
        valid = target.isfinite()
        self.total += (preds.float() - target.float()).abs().where(valid, 0.0).sum()
        self.count += valid.sum()

    def compute(self) -> Tensor:
        """The mean."""
        return self.total / self.count


class MaskedRootMeanSquaredError(MaskedMeanAbsoluteError):
    """Root of the mean squared error over what is labelled, in the units of the target; NaN if nothing is.

    "RMSE (linear)" of Eigen et al. 2014: over all labelled pixels of all images at once, not a mean of images.

    Example:
        >>> metric = MaskedRootMeanSquaredError()
        >>> metric(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, float("nan")]]))
        tensor(3.)
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch; both (B, ...), the target NaN or infinite where missing."""
        _require(preds.shape == target.shape, preds, target)
        valid = target.isfinite()
        self.total += (preds.float() - target.float()).square().where(valid, 0.0).sum()
        self.count += valid.sum()

    def compute(self) -> Tensor:
        """The root."""
        return (self.total / self.count).sqrt()


class AngularError(Metric):
    """Angle between predicted and true directions: its mean or median in degrees, or the share within a limit.

    The figures of Eigen and Fergus 2015 and of Fouhey et al. 2013 for surface normals. The median comes from counts per
    0.05 degrees, linear within: at most that much off.

    Args:
        statistic: ``mean``, ``median`` or ``within``.
        limit: The limit of ``within`` in degrees; usual are 11.25, 22.5 and 30.
        kwargs: Arguments of every torchmetrics metric.

    Raises:
        InputError: An unknown statistic.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor
    histogram: Tensor
    _bins = 3600

    def __init__(
        self, statistic: Literal["mean", "median", "within"] = "mean", limit: float = 30.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if statistic not in ("mean", "median", "within"):
            raise InputError(f"AngularError: statistic {statistic!r}; allowed: mean, median, within")
        self.statistic, self.limit = statistic, limit
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        if statistic == "median":
            self.add_state("histogram", torch.zeros(self._bins, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch; both (B, 3, ...), the target NaN where missing."""
        degrees = angles(preds, target)
        self.total += (degrees <= self.limit).sum() if self.statistic == "within" else degrees.sum()
        self.count += degrees.numel()
        if self.statistic == "median":
            bins = (degrees * (self._bins / 180)).long().clamp(max=self._bins - 1)
            self.histogram += torch.zeros_like(self.histogram).index_add_(0, bins, torch.ones_like(bins))

    def compute(self) -> Tensor:
        """The statistic; NaN if nothing was labelled."""
        if self.statistic != "median":
            return self.total / self.count
        if not self.count:
            return torch.full_like(self.total, torch.nan)
        below = self.histogram.cumsum(0)
        half = self.count / 2
        place = torch.searchsorted(below, half.ceil().long()).clamp(max=self._bins - 1)
        inside = (half - (below[place] - self.histogram[place])) / self.histogram[place]
        return (place + inside) * (180 / self._bins)


class DeltaAccuracy(Metric):
    """Share of depths within a factor ``1.25**power`` of the truth (Eigen et al. 2014); NaN if nothing was labelled.

    Args:
        power: 1, 2 or 3 for the usual figures.
        base: The factor at power 1.
        kwargs: Arguments of every torchmetrics metric.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    hits: Tensor
    count: Tensor

    def __init__(self, power: int = 1, base: float = 1.25, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = base**power
        self.add_state("hits", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch; both (B, ...), the target missing where not finite or not positive."""
        hits, count = delta_accuracy(preds, target, self.threshold)
        self.hits += hits
        self.count += count

    def compute(self) -> Tensor:
        """The share."""
        return self.hits / self.count


class PairAccuracy(Metric):
    """How well an embedding tells pixels of one segment from pixels of two: mean of both kinds' shares judged rightly.

    One half is chance. NaN if no pair was labelled; with one kind of pairs alone, its share.

    Args:
        offsets: Every pixel is compared with those so far to its right and so far below it.
        kwargs: Arguments of every torchmetrics metric.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, offsets: tuple[int, ...] = (1, 4, 16), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.offsets = tuple(offsets)
        self.add_state("counts", torch.zeros(4, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds a batch: embedding (B, C, H, W), segment ids (B, H, W)."""
        self.counts += pair_agreement(preds, target, self.offsets)

    def compute(self) -> Tensor:
        """The mean of both shares."""
        return (self.counts[[0, 2]] / self.counts[[1, 3]]).nanmean()


def _require(fits: bool, preds: Tensor, target: Tensor) -> None:
    if not fits:
        raise InputError(
            f"predictions of shape {tuple(preds.shape)} do not belong to labels of shape {tuple(target.shape)}; "
            "image and label must have the same size"
        )
