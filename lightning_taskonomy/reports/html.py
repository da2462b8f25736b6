"""One self-contained page: text, tables, figures as inline SVG or PNG; nothing is loaded from anywhere."""

import base64
import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_bytes, write_text
from lightning_taskonomy.reports.figures.style import to_png, to_svg

__all__ = ["Cell", "Page"]

Cell = str | int | float | None
"""A cell of a table; None and NaN stand as a dash."""

_CSS = """
:root{color-scheme:light dark;--ink:#1f2430;--soft:#5b6270;--line:#d5d8df;--page:#fbfbfc;--card:#fff;--mark:#0062a3}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8ec;--soft:#a7adba;--line:#3a4150;--page:#14171d;--card:#1b1f27;
--mark:#7cc0f2}}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
.layout{max-width:1320px;margin:0 auto;padding:0 1.2rem;display:grid;
grid-template-columns:13.5rem minmax(0,1fr);gap:2.2rem}
nav{position:sticky;top:0;align-self:start;padding:1.6rem 0;max-height:100vh;overflow:auto;font-size:.9rem}
nav ol{list-style:none;margin:0;padding:0}
nav a{display:block;padding:.22rem .6rem;border-left:2px solid var(--line);color:var(--soft);text-decoration:none}
nav a:hover,nav a:focus{color:var(--ink);border-color:var(--mark)}
header{padding:1.6rem 0 .4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0}
h2{font-size:1.3rem;margin:2.6rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line);scroll-margin-top:.5rem}
p{max-width:46rem;margin:.6rem 0}
.sub,figcaption,caption{color:var(--soft);font-size:.9rem}
.answer{background:var(--card);border:1px solid var(--line);border-left:5px solid var(--mark);border-radius:6px;
padding:.6rem 1.2rem;margin:1rem 0;font-size:1.06rem;max-width:none}
.answer p{max-width:60rem}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.8rem;margin:1rem 0;padding:0}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.6rem .9rem}
.facts dt{color:var(--soft);font-size:.82rem}.facts dd{margin:0;font-size:1.45rem;font-weight:650}
figure{margin:1rem 0;padding:.9rem;background:var(--card);border:1px solid var(--line);border-radius:6px}
.scroll{overflow-x:auto}
figure svg,figure img{display:block;max-width:100%;height:auto;margin:0 auto}
figure .wide{min-width:38rem}
figcaption{margin-top:.5rem}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;caption-side:bottom;padding-top:.4rem}
th,td{padding:.28rem .8rem .28rem 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft)}.number{text-align:right}
tbody tr:hover{background:color-mix(in srgb,var(--mark) 8%,transparent)}
details{margin:.6rem 0;border:1px solid var(--line);border-radius:6px;padding:.45rem .9rem;background:var(--card)}
details figure{border:0;padding:.4rem 0}
summary{cursor:pointer;font-weight:600}
pre{overflow:auto;font-size:.82rem;line-height:1.45}
a{color:var(--mark)}
:focus-visible{outline:2px solid var(--mark);outline-offset:2px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.4rem .8rem;z-index:2}
@media (max-width:60rem){.layout{display:block}
nav{position:static;padding:.8rem 0 0;max-height:none}
nav ol{display:flex;flex-wrap:wrap}nav a{border-left:0;border-bottom:2px solid var(--line)}}
@media print{nav,.skip{display:none}.layout{display:block}figure,details{break-inside:avoid}}
"""


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
        self._sections: list[tuple[str, str]] = []
        self._body: list[str] = []
        self._names: set[str] = set()

    def section(self, title: str) -> None:
        """Begins a section; it appears in the table of contents."""
        name = self._unique("to-" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"))
        self._sections.append((name, title))
        self._body.append(f'<h2 id="{name}">{escape(title)}</h2>')

    def text(self, text: str) -> None:
        """A paragraph."""
        self._body.append(f"<p>{escape(text)}</p>")

    def answer(self, lines: Sequence[str]) -> None:
        """What the reader came for, set apart; a paragraph per line."""
        self._body.append('<div class="answer">' + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</div>")

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """A few numbers in large type: (what it is, the number)."""
        cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
        self._body.append(f'<dl class="facts">{cells}</dl>')

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
        if vector:
            drawing = to_svg(figure, name).replace(
                "<svg ", f'<svg class="wide" role="img" aria-label="{escape(alt)}" focusable="false" ', 1
            )
        else:
            data = base64.b64encode(png).decode()
            drawing = f'<img class="wide" alt="{escape(alt)}" src="data:image/png;base64,{data}">'
        self._body.append(
            f'<figure><div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}">{drawing}</div>'
            f'<figcaption>{escape(caption)} <a href="{name}.png">PNG</a></figcaption></figure>'
        )

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
        marks = [' class="number"' if flag else "" for flag in numeric]
        head = "".join(f'<th scope="col"{mark}>{escape(cell)}</th>' for cell, mark in zip(header, marks, strict=True))
        body = "".join(
            "<tr>"
            + "".join(f"<td{mark}>{escape(shown(cell))}</td>" for cell, mark in zip(row, marks, strict=True))
            + "</tr>"
            for row in rows
        )
        self._body.append(
            f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}"><table>'
            f'<caption>{escape(caption)} <a href="{name}.csv">CSV</a></caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def code(self, text: str) -> None:
        """Preformatted text."""
        self._body.append(f'<pre tabindex="0">{escape(text)}</pre>')

    @contextmanager
    def details(self, summary: str) -> Iterator[None]:
        """What is added inside is folded away until asked for."""
        self._body.append(f"<details><summary>{escape(summary)}</summary>")
        yield
        self._body.append("</details>")

    def write(self) -> Path:
        """Writes ``index.html`` and returns its path."""
        contents = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in self._sections)
        subtitle = f'<p class="sub">{escape(self.subtitle)}</p>' if self.subtitle else ""
        page = (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<link rel="icon" href="data:,"><title>{escape(self.title)}</title><style>{_CSS}</style></head>\n<body>'
            '<a class="skip" href="#main">Skip to the report</a><div class="layout">'
            f'<nav aria-label="Contents"><ol>{contents}</ol></nav>'
            f'<main id="main"><header><h1>{escape(self.title)}</h1>{subtitle}</header>\n'
            + "\n".join(self._body)
            + "</main></div></body></html>\n"
        )
        path = self.folder / "index.html"
        write_text(path, page)
        return path

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
