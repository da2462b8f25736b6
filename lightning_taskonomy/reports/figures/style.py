"""One look for all figures: ink, families, orders. Figures are plain matplotlib figures, without global state."""

import re
from collections.abc import Callable
from functools import wraps
from io import BytesIO, StringIO
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = [
    "FAMILIES", "FAMILY_COLORS", "FAMILY_MARKERS", "GREY", "INK", "LINE_MARKERS", "LINE_STYLES", "MUTED",
    "ORDER_WIDTHS", "SERIES_COLORS", "line_style", "new_figure", "order_width", "readable", "styled", "text_on",
    "to_png", "to_svg",
]  # fmt: skip

INK = "#1f2430"
"""Text and lines; follows the reader's light or dark page in an SVG."""
MUTED = "#8a8f9a"
"""Grids and secondary marks, visible on light and on dark."""
GREY = "#b9bdc6"

FAMILIES = ("2D", "3D", "low-dimensional", "semantic")
FAMILY_COLORS = {"2D": "#E69F00", "3D": "#56B4E9", "low-dimensional": "#009E73", "semantic": "#CC79A7"}
"""Okabe and Ito's palette, which colour-blind readers tell apart; the marker says the same once more."""
FAMILY_MARKERS = {"2D": "s", "3D": "o", "low-dimensional": "^", "semantic": "D"}

SERIES_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
"""Okabe and Ito's, for curves; style and marker say the same once more. Black turns with the page's text."""
LINE_MARKERS = ("o", "s", "^", "D")
LINE_STYLES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 1.6)), (0, (2.2, 1.4)), (0, (1, 1.4)))
ORDER_WIDTHS = (3.2, 2.2, 1.4, 0.8)

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    **{f"{name}color": INK for name in ("text.", "axes.label", "axes.title", "xtick.", "ytick.", "legend.label")},
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "image.composite_image": False,
    "grid.color": MUTED,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "hatch.color": "#96969e",
    "hatch.linewidth": 0.8,
}

P = ParamSpec("P")
T = TypeVar("T")


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Draws inside the style of this module, whatever the user's own matplotlib settings are."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            return function(*args, **kwargs)

    return inside


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, with its own canvas: no window, no pyplot, nothing to close."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure


def readable(task: str) -> str:
    """A task's name as people read it: ``edges_2d`` becomes ``edges 2d``."""
    return task.replace("_", " ")


def line_style(index: int) -> str | tuple[int, tuple[float, ...]]:
    """The style of the curve of that index, from 0; after four they come again."""
    return LINE_STYLES[index % len(LINE_STYLES)]


def order_width(order: int) -> float:
    """The width of a transfer of that order, in points; orders above four look like four."""
    return ORDER_WIDTHS[min(max(order, 1), len(ORDER_WIDTHS)) - 1]


def text_on(red: float, green: float, blue: float) -> str:
    """Black or white, whichever is legible on that colour of 0 to 1 (WCAG's relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return "#000000" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.18 else "#ffffff"


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG on white, at the figure's own resolution. Its layout is fixed from then on."""
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])).save(stream, "PNG")
    return stream.getvalue()


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG to stand inside a page: ink in the page's text colour, no background, no foreign address.

    Args:
        figure: What to draw.
        name: Unique in the page; prefixes every id.
    """
    stream = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    return text.replace(INK, "currentColor")
