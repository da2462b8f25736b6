"""What inference costs: the section of a grouping study's report on encoders, decoders and chosen networks."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from statistics import fmean

from lightning_taskonomy.affinity.groupings import Footprint, GroupingsTable, Network, priced
from lightning_taskonomy.inference import InferenceCost, InferenceCosts, Machine
from lightning_taskonomy.reports.grouping import study_figures
from lightning_taskonomy.reports.grouping.comparison import CHOICES, RIVALS, by_method, method_name
from lightning_taskonomy.reports.grouping.files import GroupingResults, as_written
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.words import join, readable

__all__ = ["inference"]

_MANY = 24
"""Longer tables are folded away."""

_PANELS: dict[str, Callable[[InferenceCost], float]] = {
    "multiply-adds, 10⁹": lambda row: row.multiply_adds / 1e9,
    "weights, 10⁶": lambda row: row.weights / 1e6,
    "latency of 1 image, ms": lambda row: row.latency_1,
    "latency of 32 images, ms": lambda row: row.latency_32,
    "activations, MiB": lambda row: row.memory / 2**20,
}
"""What is measured of each part."""


def inference(page: Page, results: GroupingResults) -> None:
    """What encoders of each size and decoders cost, and what the choices take of time and memory."""
    costs = results.inference
    if costs is None or not costs.sizes:
        page.text("Not here: inference.csv names no encoder, or machine.json is missing.")
        return
    page.text(f"Measured on {_machine(costs.machine)}.")
    if 1.0 in costs.sizes:
        unit = costs.encoder(1.0)
        page.text(
            f"The full-size encoder, 1 SNT: {unit.multiply_adds / 1e9:.3g} × 10⁹ multiply-adds, "
            f"{unit.weights / 1e6:.3g} × 10⁶ weights, {unit.latency_1:.3g} ms an image (the paper's: 2.28 × 10⁹, about "
            "4 × 10⁶, and about 4 ms on an RTX 2080 Ti, at 256 × 256)."
        )
    panels = {
        title: ([(size, measure(costs.encoder(size))) for size in costs.sizes], _decoders(costs, measure))
        for title, measure in _PANELS.items()
    }
    page.figure(
        study_figures.inference_panels(panels),
        "inference",
        alt="What encoders of each size and their decoders cost; inference-numbers.csv has the numbers.",
        caption="By the size of the encoder; a decoder is the mean over tasks, on the features of that encoder. "
        "Dotted: a part of the full-size encoder's cost as large as the size.",
    )
    rows: list[list[Cell]] = [
        [row.part, readable(row.task), row.size, row.snt, *(measure(row) for measure in _PANELS.values())]
        for row in costs.rows
    ]
    with page.details(f"Each encoder and decoder ({len(rows)})") if len(rows) > _MANY else nullcontext():
        page.table("inference-numbers", ("part", "task", "size", "SNT", *_PANELS), rows)
    _choices(page, costs, results)


def _decoders(costs: InferenceCosts, measure: Callable[[InferenceCost], float]) -> list[tuple[float, float]]:
    """The mean over decoders, by size."""
    by_size = {size: [row for row in costs.rows if row.part == "decoder" and row.size == size] for size in costs.sizes}
    return [(size, fmean(map(measure, rows))) for size, rows in by_size.items() if rows]


def _choices(page: Page, costs: InferenceCosts, results: GroupingResults) -> None:
    """What chosen networks take together, with the decoders of all their tasks."""
    rows: list[list[Cell]] = []
    lacking: dict[str, None] = {}
    sizes = {as_written(size): size for size in costs.sizes}
    ways = {method: cells for method, cells in by_method(results).items() if method in (*CHOICES, *RIVALS)}
    for choice in (at.choices[0] for cells in ways.values() for at in cells.values()):
        absent = [f"{size:g}" for _, size in choice.networks if as_written(size) not in sizes]
        if absent or not choice.networks:
            lacking |= dict.fromkeys(absent)
            continue
        networks = [(tasks, sizes[as_written(size)]) for tasks, size in choice.networks]
        parts = [part for tasks, size in networks for part in (costs.encoder(size), *costs.decoders(size, tasks))]
        memory = Footprint.of(_with_memory(networks, costs, results.tasks))
        assert memory is not None  # each has it
        rows.append(
            [method_name(choice.method), f"{choice.budget:g}", f"{choice.cost:g}", len(networks),
             sum(part.multiply_adds for part in parts) / 1e9, sum(part.latency_1 for part in parts),
             memory.weights / 2**20, memory.activations / 2**20, memory.total / 2**20]
        )  # fmt: skip
    if lacking:
        page.text(f"Without choices of encoders that were not measured, of size {join(list(lacking))}.")
    if rows:
        with page.details(f"What choices take together ({len(rows)})") if len(rows) > _MANY else nullcontext():
            page.table(
                "cost-of-choices",
                ("method", "budget", "cost", "networks", "multiply-adds, 10⁹", "latency, ms", "weights, MiB",
                 "activations, MiB", "memory, MiB"),
                rows,
                caption="Of the first seed, with the decoders of all tasks of a network, also those that would be "
                "dropped. Weights add up over networks; activations are the largest network's, with a batch of 1.",
            )  # fmt: skip


def _with_memory(
    networks: Sequence[tuple[tuple[str, ...], float]], costs: InferenceCosts, tasks: Sequence[str]
) -> tuple[Network, ...]:
    """Networks with the memory that each takes."""
    places = [Network(tuple(t for t in tasks if t in group), size, (0.0,) * len(group)) for group, size in networks]
    names = tuple(task for task in tasks if any(task in network.tasks for network in places))
    return priced(GroupingsTable(names, tuple(dict.fromkeys(places))), costs).networks


def _machine(machine: Machine) -> str:
    where = machine.gpu or f"{machine.processor}, {machine.threads} of {machine.cores} cores"
    return f"{where}, with torch {machine.torch}"
