"""Figures that reports share: functions of plain data that return matplotlib figures. No pyplot, no global state."""

from lightning_taskonomy.reports.figures.curves import (
    Ranking,
    budget_curves,
    labels_saved,
    rankings_elsewhere,
    seed_spread,
)
from lightning_taskonomy.reports.figures.graphs import taxonomy_graph
from lightning_taskonomy.reports.figures.grid import taxonomy_grid
from lightning_taskonomy.reports.figures.matrices import affinity_matrix, gain_quality, novel_tasks
from lightning_taskonomy.reports.figures.qualitative import qualitative
from lightning_taskonomy.reports.figures.style import to_png, to_svg
from lightning_taskonomy.reports.figures.tree import dendrogram

__all__ = [
    "Ranking", "affinity_matrix", "budget_curves", "dendrogram", "gain_quality", "labels_saved", "novel_tasks",
    "qualitative", "rankings_elsewhere", "seed_spread", "taxonomy_graph", "taxonomy_grid", "to_png", "to_svg",
]  # fmt: skip
