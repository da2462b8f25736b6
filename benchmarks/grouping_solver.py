"""The grouping solver against a compiled branch and bound, as the grouping paper prints it.

python benchmarks/grouping_solver.py FOLDER   FOLDER has the published setting1_validation.tsv and setting1_early.tsv:
                                              the paper's 27 problems, 9 budgets by three tables of losses
python benchmarks/grouping_solver.py          random losses of its shape instead

And 10 tasks, 1,023 networks with random losses: all budgets. The peer is our own plain C++ (benchmarks/
grouping_branch_and_bound.cpp), compiled by g++ -O2, timed inside its process, without start-up and reading.
"""

import itertools
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from _timing import interleaved, options, show

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network, higher_order
from lightning_taskonomy.solvers import GroupingSolver

BUDGETS = [1 + step / 2 for step in range(9)]


def random_table(tasks: int, halves: bool, seed: int) -> GroupingsTable:
    """A network of cost 1 for every set of tasks, and half-size ones of one task; losses uniform in [0, 1]."""
    generator = np.random.default_rng(seed)
    names = tuple(f"task{index}" for index in range(tasks))
    sets = [chosen for size in range(1, tasks + 1) for chosen in itertools.combinations(names, size)]
    keys = [((name,), 0.5) for name in names if halves] + [(chosen, 1.0) for chosen in sets]
    return GroupingsTable(names, tuple(Network(*key, tuple(generator.random(len(key[0])).tolist())) for key in keys))


def compiled(folder: str) -> str:
    """The peer's program."""
    compiler = shutil.which("g++")
    if compiler is None:
        sys.exit("the peer is C++: install g++")
    program = f"{folder}/peer"
    source = Path(__file__).with_name("grouping_branch_and_bound.cpp")
    subprocess.run([compiler, "-O2", "-std=c++17", "-o", program, str(source)], check=True)
    return program


def by_peer(program: str, problems: Sequence[tuple[GroupingsTable, float]], limit: float) -> list[tuple[float, float]]:
    """The lowest total (-1: out of time) and the seconds of each problem."""
    words = [f"{limit} {len(problems)}"]
    for table, budget in problems:
        words.append(f"{len(table.tasks)} {len(table.networks)} {budget}")
        rows = np.column_stack([table.costs(), np.nan_to_num(table.losses(), nan=1e9)])
        words += [" ".join(map(repr, row)) for row in rows.tolist()]
    done = subprocess.run([program], input="\n".join(words), capture_output=True, text=True, check=True)
    return [(float(line.split()[0]), float(line.split()[1])) for line in done.stdout.splitlines()]


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=15)
    parser.add_argument("folder", nargs="?", type=Path, help="the published measurements")
    parser.add_argument(
        "--limit", type=float, default=10.0, help="seconds that the peer gets per budget; 10 by default"
    )
    given = parser.parse_args()
    if given.folder is None:
        measured, early = random_table(5, True, 0), random_table(5, True, 1)
    else:
        measured, early = (
            GroupingsTable.read(given.folder / f"setting1_{name}.tsv") for name in ("validation", "early")
        )
    tables = [measured, higher_order(measured), early]
    problems = [(table, budget) for table in tables for budget in BUDGETS]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(folder)
        for method in ("dynamic", "branch_and_bound"):
            solver = GroupingSolver(method=method)
            losses: list[float] = []
            peer: list[float] = []

            def ours(solver: GroupingSolver = solver, losses: list[float] = losses) -> None:
                losses[:] = [one.objective for table in tables for one in solver.sweep(table, BUDGETS)]

            def theirs(losses: list[float] = losses, peer: list[float] = peer) -> None:
                answers = by_peer(program, problems, 600.0)
                peer.append(sum(seconds for _, seconds in answers))
                assert np.allclose([total for total, _ in answers], losses, atol=1e-9), "the answers differ"

            seconds = interleaved({"ours": ours, "peer": theirs}, given.rounds, warmup=1)["ours"]
            rows.append(
                {"problem": "27 problems, 5 tasks", "method": method, "ours s": seconds, "peer s": median(peer),
                 "ours / peer": seconds / median(peer), "proven": len(problems)}
            )  # fmt: skip
        large = random_table(10, False, 0)
        budgets = [float(budget) for budget in range(1, 11)]
        swept = GroupingSolver().sweep(large, budgets)
        seconds = interleaved({"ours": lambda: GroupingSolver().sweep(large, budgets)}, 3, warmup=0)["ours"]
        answers = by_peer(program, [(large, budget) for budget in budgets], given.limit)
        for one, (total, _) in zip(swept, answers, strict=True):
            assert total < 0 or math.isclose(total, one.objective, abs_tol=1e-9), "the answers differ"
        ended = sum(total >= 0 for total, _ in answers)
        peer_seconds = sum(spent for _, spent in answers)
        rows.append(
            {"problem": "10 budgets, 10 tasks, 1,023 networks", "method": "dynamic", "ours s": seconds,
             "peer s": f"{peer_seconds:.0f} ({ended} of 10 end in {given.limit:g} s each)",
             "ours / peer": seconds / peer_seconds, "proven": sum(one.proven for one in swept)}
        )  # fmt: skip
    show(rows, given.json, losses="published" if given.folder else "random", rounds=given.rounds, threads=1)


if __name__ == "__main__":
    main()
