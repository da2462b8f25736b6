"""Labels and predictions of every kind of task as colours, for predictions and reports alike (NumPy only).

Missing values (NaN, or negative classes) are grey diagonal stripes, which no map of a value produces.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import LabelKind, Task, TaskKind, presence

__all__ = ["caption", "colorize", "hatch", "lab_colors", "palette", "value_range"]

Picture = NDArray[np.uint8]
"""Colours, shape (H, W, 3)."""

_SPARSE = ("edges", "keypoints", "edge", "keypoint")
_XYZ_TO_RGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
# What a dichromat sees of linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.0.
_PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
_DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def colorize(
    task: Task,
    label: Any,
    limits: tuple[float, float] | None = None,
    colors: ArrayLike | None = None,
    size: tuple[int, int] = (128, 128),
    image: ArrayLike | None = None,
) -> Picture:
    """The picture of one label or prediction.

    Images stay as they are; a quantity with a unit (depth) goes through a perceptual map; edges and keypoints glow;
    two channels (principal curvatures) lie around neutral grey, the first from blue to orange, the second from purple
    to green; normals show right as red, up as green and towards the camera as blue; classes have distinct colours
    that stay apart for colour-blind readers; embeddings show their three principal components; a class or a vector
    per sample becomes a panel of bars; objects of a set are drawn over their image.

    Args:
        task: What the label is.
        label: Target or prediction of one sample, without a batch dimension: (C, H, W); (H, W) ids or (C, H, W) logits
            for classes per pixel; an id or (C,) logits for a class; (C,) for a vector; of a set, a mapping of its
            labels by key, with ``scores`` (n,) where predicted.
        limits: The values at both ends of the map, for dense labels of one channel; taken from the label if not given.
        colors: Colours of the classes instead of the palette, shape (classes, 3), RGB of 0 to 255.
        size: Height and width of the panel of a label without pixels.
        image: (3, H, W) in [0, 1], what the objects of a set are drawn over; grey if not given.

    Returns:
        RGB of 0 to 255, shape (H, W, 3).

    Raises:
        InputError: The label has not the shape of its task.
    """
    if task.kind is TaskKind.SET:
        return _objects(task, label, size, image)
    values = np.asarray(label)
    if task.kind in (TaskKind.CLASSIFICATION, TaskKind.VECTOR):
        return _panel(task, values, size)
    if task.kind is TaskKind.SEGMENTATION or (task.kind is TaskKind.GROUPING and _is_ids(values)):
        return _classes(task, values, colors)
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3:
        raise InputError(f"task {task.name!r}: a label of shape {values.shape}; give one sample as (channels, H, W)")
    values = values.astype(np.float64)
    if task.kind is TaskKind.GROUPING:
        return _principal_components(values)
    if values.shape[0] != task.channels:
        raise InputError(f"task {task.name!r}: {values.shape[0]} channels; the task has {task.channels}")
    valid = np.isfinite(values).all(0)
    values = np.where(valid, values, 0.0)
    if task.kind is TaskKind.NORMALS:
        unit = values / np.maximum(np.linalg.norm(values, axis=0), 1e-9)
        return _bytes(np.stack([unit[0], -unit[1], -unit[2]], -1) * 0.5 + 0.5, valid)
    if task.channels == 1:
        low, high = limits or value_range(task, label)
        return _bytes(_mapped((values[0] - low) / max(high - low, 1e-9), _map_name(task)), valid)
    if task.channels == 2:
        first, second = np.tanh((values - task.shift) / task.scale)
        rgb = 0.6 + 0.4 * (first[..., None] * (0.9, 0.1, -0.9) + second[..., None] * (-0.4, 0.6, -0.4))
        return _bytes(rgb, valid)
    if task.channels == 3:
        return _bytes(np.moveaxis(values, 0, -1), valid)
    return _principal_components(np.where(valid, values, np.nan))


def value_range(task: Task, label: ArrayLike) -> tuple[float, float]:
    """The ends of the map of a dense label of one channel, to share between truth and prediction.

    Args:
        task: What the label is.
        label: Target of one sample or many, any shape.

    Returns:
        The 2nd and 98th percentile of a quantity with a unit; 0 and the 99.5th percentile of edges and keypoints;
        0 and 1 otherwise.
    """
    values = np.asarray(label, np.float64)
    values = values[np.isfinite(values)]
    if values.size and task.units:
        low, high = np.percentile(values, (2, 98))
        return float(low), float(max(high, low + 1e-6))
    if values.size and task.target.startswith(_SPARSE):
        return 0.0, float(max(np.percentile(values, 99.5), 1e-6))
    return 0.0, 1.0


def caption(task: Task, value: Any) -> str:
    """A label or prediction without pixels in words: ``bedroom``, ``bedroom (87 %)``, ``0.12, -0.31 rad, m``.

    Objects of a set are counted: ``2 objects: ball, vase``.

    Args:
        task: A classification, vector or set task.
        value: An id or (C,) logits of a class; (C,) values of a vector; labels of a set by key.
    """
    if task.kind is TaskKind.SET:
        there = _rows(task, value)
        if there is None:
            return "no label"
        key = next((key for key, label in task.targets.items() if label.kind is LabelKind.OBJECT_CLASSES), None)
        names = sorted({_class_name(task, int(number)) for number in np.asarray(value[key])[there]}) if key else []
        return f"{len(there)} object{'' if len(there) == 1 else 's'}{': ' if names else ''}{', '.join(names)}"
    values = np.asarray(value)
    if task.kind is TaskKind.CLASSIFICATION:
        if values.size > 1:
            chances = _softmax(values)
            best = int(chances.argmax())
            return f"{_class_name(task, best)} ({chances[best]:.0%})".replace("%", " %")
        number = float(values.reshape(-1)[0])
        return "no label" if not np.isfinite(number) or number < 0 else _class_name(task, int(number))
    flat = values.astype(np.float64).reshape(-1)
    if not np.isfinite(flat).any():
        return "no label"
    shown = ", ".join(f"{number:.2f}" for number in flat[:9]) + (", …" if flat.size > 9 else "")
    return f"{shown} {task.units}".strip()


@cache
def palette(count: int) -> Picture:
    """Colours that are far apart, for normal sight and for the two common kinds of colour blindness together.

    Each next colour is the one of a grid farthest from all before it, where the distance of two colours is the least
    of their CIELAB distances under normal sight (weighted half), protanopia and deuteranopia (simulated after Machado
    et al. 2009). A longer palette begins with the shorter ones.

    Args:
        count: How many, at most 1000.

    Returns:
        Shape (count, 3), without near-black, near-white and the greys of missing values.
    """
    if not 0 < count <= 1000:
        raise InputError(f"a palette of {count} colours; ask for 1 to 1000")
    axis = np.linspace(0.0, 1.0, 14)
    rgb = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    lab = _to_lab(rgb)
    rgb = rgb[(lab[:, 0] > 25) & (lab[:, 0] < 92) & (np.hypot(lab[:, 1], lab[:, 2]) > 18)]
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    seen = [0.5 * _to_lab(rgb)]
    for matrix in (_PROTANOPIA, _DEUTERANOPIA):
        simulated = np.clip(linear @ matrix.T, 0, 1)
        seen.append(_to_lab(np.where(simulated > 0.0031308, 1.055 * simulated ** (1 / 2.4) - 0.055, 12.92 * simulated)))
    picked = [int(np.abs(rgb - (0.0, 0.45, 0.70)).sum(1).argmin())]
    distance = np.full(len(rgb), np.inf)
    while len(picked) < count:
        for view in seen:
            distance = np.minimum(distance, np.linalg.norm(view - view[picked[-1]], axis=1))
        distance[picked] = -1
        picked.append(int(distance.argmax()))
    return np.round(rgb[picked] * 255).astype(np.uint8)


def lab_colors(ab: ArrayLike, lightness: float = 65.0) -> Picture:
    """RGB colours of CIELAB chromaticities, such as the bins of colorization (Zhang et al. 2016).

    Args:
        ab: Centres of the bins, shape (bins, 2).
        lightness: The L at which they are shown, 0 to 100.

    Returns:
        Shape (bins, 3), to be given as ``colors`` to :func:`colorize`.
    """
    a, b = np.asarray(ab, np.float64).T
    middle = (lightness + 16) / 116
    scaled = np.stack([middle + a / 500, np.full_like(a, middle), middle - b / 200], -1)
    xyz = np.where(scaled > 6 / 29, scaled**3, 3 * (6 / 29) ** 2 * (scaled - 4 / 29)) * _WHITE
    linear = np.clip(xyz @ _XYZ_TO_RGB.T, 0, 1)
    return _bytes(np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear))


def hatch(height: int, width: int) -> Picture:
    """Diagonal stripes of two greys: what missing values look like."""
    rows, columns = np.indices((height, width))
    grey = np.where((rows + columns) // 4 % 2, 150, 176).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def _classes(task: Task, values: NDArray[Any], colors: ArrayLike | None) -> Picture:
    """Ids (H, W), or logits (C, H, W), as colours."""
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3:
        missing = ~np.isfinite(values).all(0)
        ids = np.where(missing, 0, values).argmax(0)
    elif values.ndim == 2:
        missing = ~np.isfinite(values) | (values < 0)
        ids = np.where(missing, 0, values).astype(np.int64)
    else:
        raise InputError(f"task {task.name!r}: classes of shape {values.shape}; give (H, W) ids or (C, H, W) logits")
    if colors is not None:
        table = np.asarray(colors).astype(np.uint8)
    else:
        table = palette(255 if task.kind is TaskKind.GROUPING else min(task.channels, 1000))
    picture: Picture = table[ids % len(table)]
    picture[missing] = hatch(*missing.shape)[missing]
    return picture


_LEAST_SCORE = 0.3
"""A predicted object that is less sure is neither drawn nor counted; metrics see all."""


def _rows(task: Task, labels: Any) -> NDArray[np.int64] | None:
    """The objects of a set without what fills up a batch; None where the set is not labelled."""
    if not bool(labels.get(presence(task.target), True)):
        return None
    valid = np.ones(len(np.asarray(labels[task.target])), bool)
    if "scores" in labels:
        valid &= np.asarray(labels["scores"]) >= _LEAST_SCORE
    for key, label in task.targets.items():
        values = np.asarray(labels[key]) if key in labels and label.objects == task.label.objects else None
        if values is not None and label.kind is LabelKind.BOXES:
            valid &= np.isfinite(values).all(1)
        elif values is not None and label.kind is LabelKind.OBJECT_CLASSES:
            valid &= values >= 0
        elif values is not None and label.kind is LabelKind.MASKS:
            valid &= values.any((1, 2))
    return np.flatnonzero(valid)


def _objects(task: Task, labels: Any, size: tuple[int, int], image: ArrayLike | None) -> Picture:
    """Masks, boxes and points over a picture; objects of a class, else each object, have a colour."""
    from PIL import Image, ImageDraw

    there = _rows(task, labels)
    if there is None:
        return hatch(*size)
    canvas = np.full((*size, 3), 128, np.uint8)
    if image is not None:
        canvas = np.round(np.clip(np.moveaxis(np.asarray(image, np.float64), 0, -1), 0, 1) * 255).astype(np.uint8)
    same = {key: label for key, label in task.targets.items() if label.objects == task.label.objects and key in labels}
    kinds = {label.kind: np.asarray(labels[key])[there] for key, label in same.items() if label.is_set}
    classes = kinds.get(LabelKind.OBJECT_CLASSES, np.arange(len(there)))
    colors = palette(max(1, int(classes.max()) + 1 if len(classes) else 1))[classes]
    for mask, color in zip(kinds.get(LabelKind.MASKS, ()), colors, strict=False):
        canvas[mask] = (canvas[mask] * 0.5 + color * 0.5).astype(np.uint8)
    picture = Image.fromarray(canvas)
    draw, width = ImageDraw.Draw(picture), max(1, size[0] // 96)
    for box, color in zip(kinds.get(LabelKind.BOXES, ()), colors, strict=False):
        left, top, right, bottom = box - (0, 0, 1, 1)  # pixels count from their corners
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=tuple(color), width=width)
    reach = max(1.0, size[0] / 64)
    for points, color in zip(kinds.get(LabelKind.POINTS, ()), colors, strict=False):
        for x, y in points[np.isfinite(points).all(-1)] - 0.5:
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=tuple(color), outline=(255, 255, 255))
    return np.array(picture)


def _is_ids(values: NDArray[Any]) -> bool:
    """Whether a grouping is given as segment ids rather than as an embedding."""
    return values.ndim == 2 or (values.ndim == 3 and values.shape[0] == 1)


def _principal_components(values: NDArray[np.float64]) -> Picture:
    """The three principal components of an embedding (C, H, W) as RGB; signs fixed by the largest loading."""
    channels, height, width = values.shape
    flat = values.reshape(channels, -1).T
    valid = np.isfinite(flat).all(1)
    shown = np.full((flat.shape[0], 3), 0.5)
    if valid.any():
        centred = flat[valid] - flat[valid].mean(0)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        vectors = vectors[:, ::-1][:, :3]
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
        scores = centred @ vectors
        low, high = np.percentile(scores, (2, 98), axis=0)
        spread = np.where(high - low > 1e-9, high - low, np.inf)
        shown[np.flatnonzero(valid)[:, None], np.arange(vectors.shape[1])] = np.where(
            np.isinf(spread), 0.5, (scores - low) / spread
        )
    return _bytes(shown.reshape(height, width, 3), valid.reshape(height, width))


def _panel(task: Task, values: NDArray[Any], size: tuple[int, int]) -> Picture:
    """Bars of a class or a vector, with words."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = size
    text = caption(task, values)
    if text == "no label":
        return hatch(height, width)
    image = Image.new("RGB", (width, height), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    blue, orange, ink = (0, 114, 178), (213, 94, 0), (31, 36, 48)
    points = max(8, round(height / 11))
    font = ImageFont.load_default(points)
    if task.kind is TaskKind.CLASSIFICATION:
        chances = _softmax(values) if values.size > 1 else np.eye(1)[0]
        order = np.argsort(-chances, kind="stable")[:5]
        names = [_class_name(task, int(i)) for i in order] if values.size > 1 else [text]
        step = height / 5
        for row, (index, name) in enumerate(zip(order, names, strict=True)):
            top = row * step + step * 0.12
            draw.rectangle((0, top, max(1, chances[index] * (width - 1)), top + step * 0.76), fill=(166, 206, 227))
            draw.text((3, top + step * 0.38), name, fill=ink, font=font, anchor="lm")
        return np.array(image)
    scaled = (values.astype(np.float64).reshape(-1) - task.shift) / task.scale
    step = height / scaled.size
    for row, number in enumerate(np.nan_to_num(scaled)):
        end = width / 2 + np.clip(number / 2, -1, 1) * width / 2
        box = (min(end, width / 2), row * step + step * 0.15, max(end, width / 2), row * step + step * 0.85)
        draw.rectangle(box, fill=blue if number >= 0 else orange)
    draw.line((width / 2, 0, width / 2, height), fill=ink)
    return np.array(image)


def _class_name(task: Task, index: int) -> str:
    """The name of a class, or its number."""
    return task.class_names[index] if task.class_names and 0 <= index < len(task.class_names) else f"class {index}"


def _softmax(values: NDArray[Any]) -> NDArray[np.float64]:
    """Chances of logits."""
    flat = values.astype(np.float64).reshape(-1)
    chances: NDArray[np.float64] = np.exp(flat - flat.max())
    chances /= chances.sum()
    return chances


def _map_name(task: Task) -> str:
    """The colour map of a dense label of one channel."""
    if task.units:
        return "viridis"
    return "inferno" if task.target.startswith(_SPARSE) else "gray"


@cache
def _table(name: str) -> NDArray[np.float64]:
    """256 colours of a map of matplotlib."""
    import matplotlib

    return np.asarray(matplotlib.colormaps[name](np.arange(256))[:, :3], np.float64)


def _mapped(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Values of 0 to 1 through a colour map."""
    rgb: NDArray[np.float64] = _table(name)[np.clip(np.round(values * 255), 0, 255).astype(int)]
    return rgb


def _bytes(rgb: NDArray[np.float64], valid: NDArray[np.bool_] | None = None) -> Picture:
    """RGB of 0 to 1 as bytes, striped where invalid."""
    picture: Picture = np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    if valid is not None and not valid.all():
        picture[~valid] = hatch(*valid.shape)[~valid]
    return picture


def _to_lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB (D65) of sRGB of 0 to 1, shape (..., 3)."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ np.linalg.inv(_XYZ_TO_RGB).T / _WHITE
    scaled = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(scaled, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)
