"""Contact sheets: many pictures of rooms, or every label of a few."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_taskonomy.data.rooms.camera import manhattan
from lightning_taskonomy.data.rooms.render import View
from lightning_taskonomy.pictures import colorize
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.rooms import DEPTH_Z, DETECTION, KEYPOINTS, SEGMENTATION

__all__ = ["appearance_sheet", "label_sheet", "picture_sheet"]

_DENSE: Mapping[str, Mapping[str, Any]] = {
    "depth_z": {"cmap": "viridis"},
    "depth_euclidean": {"cmap": "viridis"},
    "normals": {},
    "curvature": {"cmap": "magma", "vmin": 0, "vmax": 12},
    "reshading": {"cmap": "gray", "vmin": 0, "vmax": 1},
    "edges_2d": {"cmap": "magma", "vmin": 0, "vmax": 0.7},
    "edges_occlusion": {"cmap": "magma", "vmin": 0, "vmax": 1},
    "keypoints_2d": {"cmap": "magma", "vmin": 0, "vmax": 0.6},
    "keypoints_3d": {"cmap": "magma", "vmin": 0, "vmax": 0.7},
    "segments_2d": {"cmap": "tab20", "vmin": 0, "vmax": 20},
    "segments_25d": {"cmap": "tab20", "vmin": 0, "vmax": 20},
    "semantic": {"cmap": "tab20", "vmin": 0, "vmax": 20},
}


def _png(pixels: NDArray[np.uint8], colors: int = 256) -> bytes:
    picture = Image.fromarray(pixels).convert("RGB").quantize(colors, dither=Image.Dither.FLOYDSTEINBERG)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def picture_sheet(views: Sequence[tuple[int, int]], size: int = 128, columns: int = 6, samples: int = 3) -> bytes:
    """A PNG of the plain pictures of (building, view) pairs, side by side."""
    pictures = [View(building, view, size, samples).image().transpose(1, 2, 0) for building, view in views]
    pictures += [np.full_like(pictures[0], 255)] * (-len(pictures) % columns)
    rows = [np.concatenate(pictures[k : k + columns], 1) for k in range(0, len(pictures), columns)]
    return _png(np.concatenate(rows))


def label_sheet(views: Sequence[tuple[int, int]], size: int = 128, dpi: int = 60, samples: int = 3) -> bytes:
    """A PNG with a row of all labels per (building, view) pair: maps, other views, and vanishing points as arrows."""
    from matplotlib.figure import Figure

    from lightning_taskonomy.tasks.catalog.rooms import OBJECT_CLASSES, SCENE_CLASSES

    titles = ["image", *_DENSE, "fixated", "non-fixated", "triplet's third", "matching"]
    figure = Figure((1.5 * len(titles), 1.62 * len(views)), dpi=dpi)
    axes = figure.subplots(len(views), len(titles), squeeze=False)
    for number, (row, (building, view)) in enumerate(zip(axes, views, strict=True)):
        seen = View(building, view, size, samples)
        labels = seen.render([*_DENSE, "object_class", "scene_class", "pair_matching", "matching"])
        panels: list[tuple[Any, Mapping[str, Any]]] = [(seen.image().transpose(1, 2, 0), {})]
        for key, look in _DENSE.items():
            value = labels[key]
            if key == "normals":
                panels.append((np.asarray(value, float).transpose(1, 2, 0) / 2 + 0.5, look))
            else:
                panels.append((value if value.ndim == 2 else value[0], look))
        panels += [(seen.image(k).transpose(1, 2, 0), {}) for k in (1, 2, 3)]
        panels.append((np.concatenate(list(labels["pair_matching"].transpose(0, 2, 3, 1)), 1), {}))
        for axis, title, (values, look) in zip(row, titles, panels, strict=True):
            axis.imshow(values, interpolation="nearest", **look)
            axis.set_xticks([])
            axis.set_yticks([])
            if number == 0:
                axis.set_title(title, fontsize=9)
        thing = int(labels["object_class"])
        row[0].set_ylabel(SCENE_CLASSES[int(labels["scene_class"])], fontsize=8)
        row[0].set_xlabel(OBJECT_CLASSES[thing] if thing < len(OBJECT_CLASSES) else "none", fontsize=8, labelpad=1)
        row[-1].set_xlabel(("different", "same")[int(labels["matching"])], fontsize=8, labelpad=1)
        for direction, color in zip(manhattan(seen.camera(0))[0], "rgb", strict=True):
            arrow = {"arrowstyle": "->", "color": color}
            row[0].annotate("", size * (0.5 + 0.3 * direction[:2]), (size / 2, size / 2), arrowprops=arrow)
    figure.tight_layout(pad=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _png(np.asarray(Image.open(buffer).convert("RGB")))


def appearance_sheet(names: Sequence[str], size: int = 128, dpi: int = 90, samples: int = 3, columns: int = 4) -> bytes:
    """A PNG with a row per appearance: pictures of some buildings, and boxes, points, classes and depth of the first.

    Args:
        names: Appearances, by name.
        size: Pixels along each side of a picture.
        dpi: Pixels per inch of the sheet; a panel is 1.5 inches wide.
        samples: Colour samples along each side of a pixel that lies on an edge.
        columns: Pictures per appearance, of one building each.
    """
    from matplotlib.figure import Figure

    shown: Mapping[str, Task] = {
        "boxes": DETECTION, "points": KEYPOINTS, "classes": SEGMENTATION, "depth": DEPTH_Z,
    }  # fmt: skip
    titles = ["picture", *shown, *["another"] * (columns - 1)]
    figure = Figure((1.5 * (columns + len(shown)), 1.55 * len(names) + 0.15), dpi=dpi)
    axes = figure.subplots(len(names), columns + len(shown), squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    for row, name in zip(axes, names, strict=True):
        views = [View(building, 0, size, samples, name) for building in range(1, columns + 1)]
        labels = views[0].render([key for task in shown.values() for key in task.stored_targets])
        image = views[0].image() / 255
        panels = [views[0].image().transpose(1, 2, 0)]
        for task in shown.values():
            label = labels if len(task.targets) > 1 else labels[task.target]
            panels.append(colorize(task, label, size=(size, size), image=image))
        panels += [view.image().transpose(1, 2, 0) for view in views[1:]]
        for axis, panel in zip(row, panels, strict=True):
            axis.imshow(panel, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name, fontsize=9)
    figure.tight_layout(pad=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _png(np.asarray(Image.open(buffer).convert("RGB")))
