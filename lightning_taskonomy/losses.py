"""Losses of every task kind, over what is labelled.

Each error function returns ``(error, valid)``: element errors, finite everywhere and zero where nothing is labelled,
and a boolean mask of the same shape, both with the batch as leading dimension. Missing labels are taken out *before*
any arithmetic, so a NaN label reaches neither the loss nor a gradient. The reducers turn the pair into a loss
(``mean``), into what processes sum before dividing (``total_and_count``) or into a score per image (``per_image``).
Everything is computed in float32 or wider, whatever the precision of the predictions.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX

__all__ = [
    "angle",
    "angular",
    "check_classes",
    "cross_entropy",
    "gradient_matching",
    "grouping",
    "l1",
    "l1_and_gradients",
    "mean",
    "per_image",
    "total_and_count",
]


def l1(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute error, in the units of the target.

    Args:
        preds: Predictions (B, ...).
        target: Labels of the same shape; each element that is NaN or infinite is missing, on its own.

    Returns:
        Errors and mask, both of the shape of the target.

    Raises:
        InputError: The shapes differ.

    Example:
        >>> l1(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, float("nan")]]))
        (tensor([[2., 0.]]), tensor([[ True, False]]))
    """
    _same_shape(preds, target)
    preds, target = _wide(preds), _wide(target)
    valid = target.isfinite()
    return (preds - torch.where(valid, target, 0.0)).abs().where(valid, 0.0), valid


def gradient_matching(preds: Tensor, target: Tensor, scales: int = 1) -> tuple[Tensor, Tensor]:
    """Absolute error of the differences to the next pixel, along x and along y added.

    At one scale it is the smoothness loss of "Factors of Influence" (Eq. A.6). MegaDepth (Li and Snavely 2018, Eq. 3)
    and MiDaS (Ranftl et al. 2022, Eq. 11) match the gradients at four scales, each of every second pixel of the one
    before, and add the means; there an error of scale k counts 4^k times, so that the mean over all pixels is their
    sum of means where labels are evenly spread.

    Args:
        preds: Predictions (B, C, H, W).
        target: Labels of the same shape; missing where not finite. A difference counts where both pixels are labelled.
        scales: How many scales.

    Returns:
        Errors and mask, both of the shape of the target; the mask is that of the labels, as the paper divides by the
        number of pixels.

    Raises:
        InputError: The shapes differ, or there is no scale.
    """
    _same_shape(preds, target)
    if scales < 1:
        raise InputError(f"gradient_matching at {scales} scales; give at least 1")
    preds, target = _wide(preds), _wide(target)
    valid = target.isfinite()
    difference = (preds - torch.where(valid, target, 0.0)).where(valid, 0.0)
    error = torch.zeros_like(difference)
    for scale in range(scales):
        step = 2**scale
        part, there = difference[..., ::step, ::step], valid[..., ::step, ::step]
        for axis in (-1, -2):
            both = _next(there, axis) & _now(there, axis)
            change = (_next(part, axis) - _now(part, axis)).abs().where(both, 0.0)
            padding = (0, 1, 0, 0) if axis == -1 else (0, 0, 0, 1)
            sparse = torch.zeros_like(error)
            sparse[..., ::step, ::step] = step**2 * F.pad(change, padding)
            error = error + sparse
    return error, valid


def _next(values: Tensor, axis: int) -> Tensor:
    return values.narrow(axis, 1, max(0, values.shape[axis] - 1))


def _now(values: Tensor, axis: int) -> Tensor:
    return values.narrow(axis, 0, max(0, values.shape[axis] - 1))


def l1_and_gradients(preds: Tensor, target: Tensor, scales: int = 1) -> tuple[Tensor, Tensor]:
    """The depth loss of "Factors of Influence" (A.5): L1, and L1 of the differences to the next pixel, both in metres.

    A task takes it by ``loss="lightning_taskonomy.losses.l1_and_gradients"``.

    Args:
        preds: Predictions (B, C, H, W).
        target: Labels of the same shape; missing where not finite.
        scales: At how many scales gradients are matched; the paper has one.

    Returns:
        Errors and mask, both of the shape of the target.

    Raises:
        InputError: The shapes differ, or there is no scale.
    """
    error, valid = gradient_matching(preds, target, scales)
    return error + l1(preds, target)[0], valid


def angular(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One minus the cosine between predicted and true direction, in [0, 2]: smooth at a perfect prediction.

    Predictions shorter than 1e-3 are divided by 1e-3 instead of their length: values and gradients stay bounded.

    Args:
        preds: Vectors of any length (B, 3, ...).
        target: Vectors (B, 3, ...); missing where a component is not finite or all are zero.

    Returns:
        Errors and mask (B, ...).

    Raises:
        InputError: The shapes differ.
    """
    _same_shape(preds, target)
    preds = _wide(preds)
    unit, valid = _directions(_wide(target))
    inverse = preds.square().sum(1).clamp_min(1e-6).rsqrt()
    return (1.0 - (preds * unit).sum(1) * inverse).where(valid, 0.0), valid


def angle(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Angle between predicted and true direction in degrees, in [0, 180], exact at both ends. For scores, not training.

    Args:
        preds: Vectors of any length (B, 3, ...); a zero vector counts as 90 degrees off.
        target: Vectors (B, 3, ...); missing where a component is not finite or all are zero.

    Returns:
        Angles and mask (B, ...).

    Raises:
        InputError: The shapes differ.

    Example:
        >>> angle(torch.tensor([[0.0, 0.0, -2.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
        (tensor([90.]), tensor([True]))
    """
    _same_shape(preds, target)
    preds = _wide(preds)
    unit, valid = _directions(_wide(target))
    across = _length(torch.linalg.cross(preds, unit, dim=1))
    along = (preds * unit).sum(1)
    degrees = torch.rad2deg(torch.atan2(across, along))
    return degrees.where((across > 0) | (along != 0), 90.0).where(valid, 0.0), valid


def cross_entropy(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of a softmax in nats, per pixel or per sample.

    Class ids are checked on the CPU; on an accelerator that would wait for the device at each step, so
    ``check_classes`` is for the caller to run on the first batches.

    Args:
        preds: Logits (B, K, ...).
        target: Class ids (B, ...) in [0, K), -100 where missing.

    Returns:
        Errors and mask, both of the shape of the target.

    Raises:
        InputError: The shapes do not belong together, or a class id is out of range.
    """
    if preds.shape[:1] + preds.shape[2:] != target.shape:
        raise InputError(
            f"logits of shape {tuple(preds.shape)} and classes of shape {tuple(target.shape)}: expected (B, K, ...) "
            "and (B, ...); image and label must have the same size"
        )
    try:
        error = F.cross_entropy(_wide(preds), target, ignore_index=IGNORE_INDEX, reduction="none")
    except IndexError:  # so the CPU says that a class is out of range
        check_classes(target, preds.shape[1])
        raise
    return error, target != IGNORE_INDEX


def check_classes(target: Tensor, num_classes: int, name: str = "target") -> None:
    """Checks that class ids are in [0, num_classes) or -100. Waits for the device that holds them.

    Args:
        target: Class ids, any shape.
        num_classes: How many classes the task has.
        name: What to call the target in the message.

    Raises:
        InputError: There is another value; names it.
    """
    wrong = ((target < 0) | (target >= num_classes)) & (target != IGNORE_INDEX)
    if wrong.any():
        value = target[wrong][0].item()
        raise InputError(
            f"{name}: class {value} among the labels, but the task has {num_classes} classes (0 to {num_classes - 1}, "
            f"{IGNORE_INDEX} where missing); correct the labels or the number of channels"
        )


_PAIRS = 2048
_EPSILON = 1e-2


def grouping(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Pairwise metric-learning error of an embedding: close within a segment, apart between segments.

    Similarity s = 2 / (1 + exp(d)) with d the squared distance of two pixels' embeddings; the error of a pair is
    -log s in one segment, -log(1 - s) across two (Fathi et al. 2017, "Semantic Instance Segmentation via Deep Metric
    Learning", Eq. 1-2), where d + 0.01 stands for d in the second, which bounds value and gradient. Pairs are a fixed
    sample, half of them near each other, the same for every image and step. In each image the errors are weighted so
    that pairs within and across segments count half each in the mean over its valid pairs.

    Args:
        preds: Embedding (B, C, H, W).
        target: Segment ids (B, H, W), -100 where missing; they mean nothing across images.

    Returns:
        Weighted errors and mask (B, P) of the sampled pairs.

    Raises:
        InputError: The shapes do not belong together.
    """
    if preds.shape[:1] + preds.shape[2:] != target.shape:
        raise InputError(
            f"an embedding of shape {tuple(preds.shape)} and segments of shape {tuple(target.shape)}: expected "
            "(B, C, H, W) and (B, H, W); image and label must have the same size"
        )
    first, second = _pixel_pairs(target.shape[1], target.shape[2], target.device)
    segments = target.flatten(1)
    one, other = segments[:, first], segments[:, second]
    valid = (one != IGNORE_INDEX) & (other != IGNORE_INDEX)
    same = (one == other) & valid
    apart = valid & ~same

    embedding = _wide(preds).flatten(2)
    distance = (embedding[:, :, first] - embedding[:, :, second]).square().sum(1)
    # -log s = softplus(d) - log 2; -log(1 - s) = -log tanh(d / 2), written so that no d overflows or loses digits
    attract = F.softplus(distance) - math.log(2.0)
    gap = distance + _EPSILON
    repel = torch.log1p(torch.exp(-gap)) - torch.log(-torch.expm1(-gap))

    count, count_same, count_apart = (mask.sum(1, keepdim=True) for mask in (valid, same, apart))
    kinds = (count_same > 0).long() + (count_apart > 0).long()
    weight = count / (kinds * torch.where(same, count_same, count_apart)).clamp_min(1)
    return (torch.where(same, attract, repel) * weight).where(valid, 0.0), valid


def mean(error: Tensor, valid: Tensor) -> Tensor:
    """Mean over what is valid, a scalar; zero (with zero gradient) if nothing is."""
    total, count = total_and_count(error, valid)
    return total / count.clamp_min(1)


def total_and_count(error: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the errors and number of valid elements, both scalars: what is summed across processes before dividing."""
    return error.sum(), valid.sum()


def per_image(error: Tensor, valid: Tensor) -> Tensor:
    """Mean over what is valid of each image.

    Args:
        error: Errors (B, ...), zero where not valid.
        valid: Mask of the same shape.

    Returns:
        Means (B,); NaN for an image with nothing valid.
    """
    error, count = error.flatten(1) if error.ndim > 1 else error[:, None], valid.reshape(len(valid), -1).sum(1)
    return (error.sum(1) / count.clamp_min(1)).where(count > 0, torch.nan)


@lru_cache(maxsize=32)
def _pixel_pairs(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Flat indices (P,) of the first and second pixel of each pair; the same for equal sizes, whatever the data."""
    with torch.inference_mode(False):  # kept tensors must serve training after a validation
        generator = torch.Generator().manual_seed(0)

        def draw(high: int) -> Tensor:
            return torch.randint(high, (_PAIRS,), generator=generator)

        y, x = draw(height), draw(width)
        reach_y, reach_x = max(1, height // 8), max(1, width // 8)
        near_y = (y + draw(2 * reach_y + 1) - reach_y).clamp(0, height - 1)
        near_x = (x + draw(2 * reach_x + 1) - reach_x).clamp(0, width - 1)
        near = torch.arange(_PAIRS) % 2 == 0
        first, second = y * width + x, torch.where(near, near_y * width + near_x, draw(height) * width + draw(width))
        distinct = first != second if height * width > 1 else torch.ones_like(near)
        return first[distinct].to(device), second[distinct].to(device)


def _directions(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (zero where missing) and the mask of where there is a direction."""
    finite = vectors.isfinite().all(1)
    vectors = torch.where(finite.unsqueeze(1), vectors, 0.0)
    length = _length(vectors)
    valid = finite & (length > 0)
    return vectors / torch.where(valid, length, 1.0).unsqueeze(1), valid


def _length(vectors: Tensor) -> Tensor:
    """Lengths over the channels, with no gradient at zero; ``norm(dim=1)`` is tens of times slower on the CPU."""
    squared = vectors.square().sum(1)
    positive = squared > 0
    return torch.where(positive, squared, 1.0).sqrt().where(positive, 0.0)


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _same_shape(preds: Tensor, target: Tensor) -> None:
    if preds.shape != target.shape:
        raise InputError(
            f"predictions of shape {tuple(preds.shape)} and labels of shape {tuple(target.shape)} differ; image and "
            "label must have the same size and the task as many channels as its label"
        )
