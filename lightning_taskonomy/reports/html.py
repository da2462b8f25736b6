"""One self-contained page: text, tables, figures as inline SVG or PNG; nothing is loaded from anywhere."""

import base64
import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_bytes, write_text
from lightning_taskonomy.reports.figures.style import to_png, to_svg

__all__ = ["Cell", "Page"]

Cell = str | int | float | None
"""A cell of a table; None and NaN stand as a dash."""

_TEMPLATES = Path(__file__).with_name("templates")


class Page:
    """A page that is written from top to bottom; its figures and tables also become files beside it.

    Args:
        folder: Where ``index.html`` and the PNG and CSV files go.
        title: The page's heading.
        subtitle: A line below it.
    """

    def __init__(self, folder: Path, title: str, subtitle: str = "") -> None:
        self.folder = Path(folder)
        self.title = title
        self.subtitle = subtitle
        self._blocks: list[dict[str, Any]] = []
        self._names: set[str] = set()

    def section(self, title: str) -> None:
        """Begins a section; it appears in the table of contents."""
        slug = "to-" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        self._add("section", title=title, id=self._unique(slug))

    def text(self, text: str) -> None:
        """A paragraph."""
        self._add("text", text=text)

    def answer(self, lines: Sequence[str]) -> None:
        """What the reader came for, set apart; a paragraph per line."""
        self._add("answer", lines=lines)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """A few numbers in large type: (what it is, the number)."""
        self._add("facts", facts=facts)

    def figure(self, figure: Figure, name: str, *, alt: str, caption: str = "", vector: bool = True) -> None:
        """A figure inside the page, and ``NAME.png`` beside it.

        Args:
            figure: What to show.
            name: Unique in the page; letters, digits, ``-`` and ``_``.
            alt: What a reader who cannot see it should know.
            caption: Shown below.
            vector: As SVG in the page's own colours; pictures of pixels are better as PNG.
        """
        name = self._unique(name)
        png = to_png(figure)
        write_bytes(self.folder / f"{name}.png", png)
        svg = to_svg(figure, name).removeprefix("<svg ") if vector else ""
        encoded = "" if vector else base64.b64encode(png).decode()
        self._add("figure", name=name, alt=alt, caption=caption, svg=svg, png=encoded)

    def table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str = "") -> None:
        """A table inside the page, and ``NAME.csv`` with full precision beside it.

        Raises:
            InputError: A row has not as many cells as the header.
        """
        name = self._unique(name)
        for row in rows:
            if len(row) != len(header):
                raise InputError(f"table {name!r}: a row of {len(row)} cells under {len(header)} headings")
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(["" if cell is None or cell != cell else cell for cell in row] for row in rows)
        write_text(self.folder / f"{name}.csv", buffer.getvalue())
        numeric = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(header))]
        self._add(
            "table",
            name=name,
            caption=caption,
            header=list(zip(header, numeric, strict=True)),
            rows=[list(zip(map(shown, row), numeric, strict=True)) for row in rows],
        )

    def code(self, text: str) -> None:
        """Preformatted text."""
        self._add("code", text=text)

    @contextmanager
    def details(self, summary: str) -> Iterator[None]:
        """What is added inside is folded away until asked for."""
        outside, self._blocks = self._blocks, []
        try:
            yield
        finally:
            inside, self._blocks = self._blocks, outside
        self._add("details", summary=summary, blocks=inside)

    def write(self) -> Path:
        """Writes ``index.html`` and returns its path."""
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
        )
        template = environment.get_template("report.html")
        path = self.folder / "index.html"
        write_text(path, template.render(title=self.title, subtitle=self.subtitle, blocks=self._blocks))
        return path

    def _add(self, kind: str, **content: Any) -> None:
        self._blocks.append({"kind": kind, **content})

    def _unique(self, name: str) -> str:
        """Refuses a name that is taken."""
        if name in self._names or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise InputError(
                f"{name!r} is taken or has other letters than A-Z, a-z, 0-9, '-' and '_'; name it otherwise"
            )
        self._names.add(name)
        return name


def shown(cell: Cell) -> str:
    """A cell as people read it."""
    if cell is None or cell != cell:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.3f}" if abs(cell) < 100 else f"{cell:,.0f}"
    return str(cell)
