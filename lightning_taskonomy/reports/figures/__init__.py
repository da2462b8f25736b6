"""Figures of the reports: functions of plain data that return matplotlib figures. No pyplot, no global state."""

from lightning_taskonomy.reports.figures.curves import budget_curves, labels_saved, rankings_elsewhere, seed_spread
from lightning_taskonomy.reports.figures.graphs import dendrogram, taxonomy_graph, taxonomy_grid
from lightning_taskonomy.reports.figures.grouping import (
    Chosen,
    approximation_scatter,
    chosen_networks,
    grouping_curves,
    relationship_matrices,
)
from lightning_taskonomy.reports.figures.matrices import affinity_matrix, gain_quality, novel_tasks
from lightning_taskonomy.reports.figures.meta_transfer import error_reductions, variation_panels
from lightning_taskonomy.reports.figures.qualitative import qualitative
from lightning_taskonomy.reports.figures.style import to_png, to_svg

__all__ = [
    "Chosen", "affinity_matrix", "approximation_scatter", "budget_curves", "chosen_networks", "dendrogram",
    "error_reductions", "gain_quality", "grouping_curves", "labels_saved", "novel_tasks", "qualitative",
    "rankings_elsewhere", "relationship_matrices", "seed_spread", "taxonomy_graph", "taxonomy_grid",
    "to_png", "to_svg", "variation_panels",
]  # fmt: skip
