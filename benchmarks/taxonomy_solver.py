"""The taxonomy solver's sweep beside one ``scipy.optimize.milp`` per problem, and how far it gets on large tables.

The peer gets the same aggregated formulation without dominated transfers, built once per order outside its clock, at
zero gap and without breaking ties; what is timed is its 104 calls. Ours is the whole call of ``sweep``. Objectives must
agree to 1e-6. ``--growth`` instead solves synthetic tables of 50, 100 and 200 tasks, transfers to order 3, for at most
60 seconds each, and writes ``docs/images/solver_growth.png``.
"""

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
from _timing import interleaved, options, show
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from lightning_taskonomy.affinity import Transfer, TransfersTable
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.solvers.taxonomy.problem import TaxonomyProblem

BUDGETS, ORDERS = range(1, 27), (1, 2, 3, 4)


def formulation(problem: TaxonomyProblem) -> tuple[np.ndarray, Any, np.ndarray, np.ndarray]:
    """Costs, matrix and limits of the program; the last row is the budget's."""
    edges = [(t, row) for t, rows in enumerate(problem.edges.values()) for row in rows]
    place = {name: len(edges) + index for index, name in enumerate(problem.sources)}
    pairs = sorted({(t, name) for t, row in edges for name in row.sources})
    link = {pair: len(problem.edges) + index for index, pair in enumerate(pairs)}
    matrix = lil_array((len(problem.edges) + len(pairs) + 1, len(edges) + len(place)))
    for column, (t, row) in enumerate(edges):
        matrix[t, column] = 1
        for name in row.sources:
            matrix[link[t, name], column] = 1
    for (_, name), line in link.items():
        matrix[line, place[name]] = -1
    matrix[-1, len(edges) :] = 1
    lower = np.where(np.arange(matrix.shape[0]) < len(problem.edges), 1.0, -np.inf)
    upper = np.where(np.arange(matrix.shape[0]) < len(problem.edges), 1.0, 0.0)
    costs = np.array([*(-row.affinity for _, row in edges), *(0.0 for _ in place)])
    return costs, matrix.tocsr(), lower, upper


def by_milp(costs: np.ndarray, matrix: Any, lower: np.ndarray, upper: np.ndarray, budget: float) -> float:
    """The objective that HiGHS finds."""
    limits = LinearConstraint(matrix, lower, np.append(upper[:-1], budget))
    solution = milp(
        costs, constraints=limits, bounds=Bounds(0, 1), integrality=np.ones(len(costs)), options={"mip_rel_gap": 0.0}
    )
    return -solution.fun


def published(path: Path, rounds: int, as_json: bool) -> None:
    """Times both on all orders and budgets."""
    table = TransfersTable.read(path)
    programs = []
    for order in ORDERS:
        rows = [row for row in table.candidates if row.order <= order]
        programs.append(formulation(TaxonomyProblem.of(rows, table.targets, {}, frozenset(), {})))
    objectives: dict[str, list[float]] = {}

    def ours() -> None:
        objectives["ours"] = [solution.objective for solution in TaxonomySolver().sweep(table, BUDGETS, ORDERS)]

    def peer() -> None:
        objectives["milp"] = [by_milp(*program, budget) for program in programs for budget in BUDGETS]

    times = interleaved({"ours": ours, "milp": peer}, rounds, warmup=1)
    apart = float(np.abs(np.subtract(objectives["ours"], objectives["milp"])).max())
    assert apart <= 1e-6, f"objectives differ by {apart}"
    single = interleaved({"single": lambda: TaxonomySolver(8, 4).solve(table)}, 20 * rounds)["single"]
    runners = interleaved({"five": lambda: TaxonomySolver(8, 4).best(table, 5)}, 5 * rounds)["five"]
    row = {
        "problems": len(programs) * len(BUDGETS),
        "sweep": times["ours"],
        "104 x milp": times["milp"],
        "ratio": times["ours"] / times["milp"],
        "apart": apart,
        "one at order 4": single,
        "its 5 best": runners,
    }
    show([row], as_json, threads=1, rounds=rounds)


def synthetic(tasks: int, families: bool, seed: int = 0) -> TransfersTable:
    """All first-order transfers, and for each target all pairs and triples of its 12 best sources: 97,200 at 200 tasks.

    Args:
        tasks: How many.
        families: Tasks as points around a few centres, affinity falling with distance, more sources helping a little
            more; else uniform random numbers, which no data is like and which is hard.
        seed: Of both.
    """
    generator = np.random.default_rng(seed)
    names = [f"t{index:03d}" for index in range(tasks)]
    affinity = generator.random((tasks, tasks))
    if families:
        centres = generator.normal(0, 1.2, (max(4, tasks // 10), 4))
        points = centres[generator.integers(0, len(centres), tasks)] + generator.normal(0, 0.5, (tasks, 4))
        apart = ((points[:, None] - points[None]) ** 2).sum(-1)
        affinity = np.exp(-apart / 4) * generator.uniform(0.4, 0.9, (tasks, 1)) * (0.8 + 0.2 * affinity)
    rows = []
    for t, target in enumerate(names):
        rows.append(Transfer(target, 1, (target,), "task_specific", 1.0))
        ranked = [int(s) for s in np.argsort(-affinity[:, t]) if s != t]
        rows += [Transfer(target, 1, (names[s],), "transfer", float(affinity[s, t])) for s in ranked]
        for order in (2, 3):
            for chosen in itertools.combinations(sorted(ranked[:12]), order):
                together = 1 - np.prod([1 - affinity[s, t] for s in chosen]) ** 0.75
                value = min(0.98, together * generator.uniform(0.9, 1.05)) if families else generator.random()
                rows.append(Transfer(target, order, tuple(names[s] for s in chosen), "transfer", float(value)))
    return TransfersTable(tuple(rows))


def growth(seconds: float, picture: Path, as_json: bool) -> None:
    """Solves, prints and draws the gap that is left."""
    rows = []
    TaxonomySolver(2, 3).solve(synthetic(6, families=True))
    for families, tasks, part in itertools.product((True, False), (50, 100, 200), (10, 5)):
        table = synthetic(tasks, families)
        start = time.perf_counter()
        solution = TaxonomySolver(tasks / part, 3, time_limit=seconds).solve(table)
        rows.append(
            {
                "table": "families" if families else "uniform",
                "tasks": tasks,
                "transfers": len(table.candidates),
                "budget": int(solution.budget),
                "objective": solution.objective,
                "gap, %": 100 * solution.gap,
                "seconds": time.perf_counter() - start,
            }
        )
        show([rows[-1]], as_json)
    draw(rows, seconds, picture)


def draw(rows: list[dict[str, Any]], seconds: float, picture: Path) -> None:
    """The gap by the number of tasks, one line per kind of table and share of tasks that the budget allows."""
    import matplotlib.pyplot as plt

    colours = {10: "#0072B2", 5: "#D55E00"}  # Okabe and Ito
    titles = {"families": "tasks in families", "uniform": "uniform random affinities"}
    sizes = {row["tasks"]: row["transfers"] for row in rows}
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    for panel, kind in zip(panels, ("families", "uniform"), strict=True):
        for part, marker in ((10, "o"), (5, "s")):
            line = [row for row in rows if row["table"] == kind and row["budget"] == row["tasks"] // part]
            panel.plot(
                [row["tasks"] for row in line],
                [row["gap, %"] for row in line],
                color=colours[part],
                marker=marker,
                label=f"budget: 1 task of {part}",
            )
            for row in line:
                if row["gap, %"] == 0:
                    shift = {10: -4, 5: 8}[part]
                    panel.annotate(
                        f"{row['seconds']:.1f} s", (row["tasks"], 0), (-8, shift), textcoords="offset points",
                        color=colours[part], fontsize=8, ha="right",
                    )  # fmt: skip
        panel.set(title=titles[kind], xlabel="tasks (transfers)", xlim=(20, 215), xticks=list(sizes))
        panel.set_xticklabels([f"{tasks}\n({transfers:,})" for tasks, transfers in sizes.items()])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"gap left after {seconds:.0f} s, %")
    panels[1].legend(frameon=False, fontsize=8)
    figure.suptitle("0: proven optimal, with its time", fontsize=9)
    figure.savefig(picture, dpi=150)


def main() -> None:
    """Runs it."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--table", type=Path, default=Path("../shared/published/taskonomy/transfers_16k.csv"))
    parser.add_argument("--growth", action="store_true", help="large synthetic tables instead")
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit of each, with --growth")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/solver_growth.png"))
    given = parser.parse_args()
    if given.growth:
        growth(given.seconds, given.picture, given.json)
    else:
        published(given.table, given.rounds, given.json)


if __name__ == "__main__":
    main()
