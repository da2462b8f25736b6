"""The taxonomy solver against enumeration of every set of sources, and against published numbers."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from lightning_taskonomy.affinity import Transfer, TransfersTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.solvers.taxonomy.problem import TaxonomyProblem

PUBLISHED = Path(__file__).parents[3] / "shared/published/taskonomy/transfers_16k.csv"
BACKENDS = ("branch_and_bound", "mip", "scipy")


def random_table(seed, tasks=6, ties=False):
    """First- to third-order transfers between a few tasks; with ``ties`` most affinities are equal to others."""
    generator = np.random.default_rng(seed)
    names = [f"task{index}" for index in range(tasks)]

    def number():
        return float(generator.integers(0, 3) / 4 if ties else generator.random())

    rows = []
    for target in names[: generator.integers(2, tasks + 1)]:
        if generator.random() < 0.7:
            rows.append(Transfer(target, 1, (target,), "task_specific", number(), 0.5, number()))
        sets = [chosen for order in (1, 2, 3) for chosen in itertools.combinations(names, order)]
        picked = generator.permutation(len(sets))[: generator.integers(1, 16)]
        for index in picked:
            rows.append(Transfer(target, len(sets[index]), sets[index], "transfer", number(), number(), number()))
    return TransfersTable(tuple(rows))


def random_options(table, seed, ties):
    generator = np.random.default_rng(seed + 1000)
    options = {"budget": float(generator.integers(1, 6)), "max_order": int(generator.integers(1, 4))}
    if generator.random() < 0.5:
        options["label_costs"] = {name: float(generator.integers(0, 4)) / 2 for name in table.sources[::2]}
    if generator.random() < 0.5:
        options["importance"] = {name: float(generator.integers(0, 4)) for name in table.targets[::2]}
    if generator.random() < 0.3:
        options["forbidden"] = [table.sources[0]]
    if generator.random() < 0.3:
        options["required"] = [table.sources[-1]]
    if generator.random() < 0.3:
        options["source_only"] = [table.targets[-1]]
    if generator.random() < 0.3:
        options["target_only"] = [table.targets[0]]
    return options


def by_enumeration(table, *, budget, max_order, label_costs=None, importance=None, **closed):
    """(objective, sources) by trying every set of sources, ties by the documented rule; None if infeasible."""
    costs, weights = label_costs or {}, importance or {}
    targets = [name for name in table.targets if name not in closed.get("source_only", ())]
    unused = {*closed.get("forbidden", ()), *closed.get("target_only", ())}
    free = [name for name in table.sources if name not in unused]
    rows = [row for row in table.transfers if row.order <= max_order]
    choices = []
    for size in range(len(free) + 1):
        for chosen in itertools.combinations(free, size):
            cost = sum(costs.get(name, 1.0) for name in chosen)
            if cost > budget or not set(closed.get("required", ())) <= set(chosen):
                continue
            best = [
                max(
                    (row.affinity for row in rows if row.target == target and set(row.sources) <= set(chosen)),
                    default=None,
                )
                for target in targets
            ]
            if None not in best:
                total = math.fsum(weights.get(t, 1.0) * p for t, p in zip(targets, best, strict=True))
                choices.append((total, cost, size, tuple(sorted(chosen))))
    if not choices:
        return None
    top = max(total for total, *_ in choices)
    equal = [item for item in choices if item[0] >= top - 1e-9 * abs(top)]
    cheapest = [item for item in equal if item[1] <= min(equal, key=lambda i: i[1])[1] + 1e-9]
    fewest = [item for item in cheapest if item[2] == min(i[2] for i in cheapest)]
    return top, [item[3] for item in fewest]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_all_backends_find_what_enumeration_finds(seed, ties):
    table = random_table(seed, ties=ties)
    options = random_options(table, seed, ties)
    clash = set(options.get("required", ())) & {*options.get("forbidden", ()), *options.get("target_only", ())}
    clash |= set(options.get("source_only", ())) & set(options.get("target_only", ()))
    if clash or len(set(table.targets) - set(options.get("source_only", ()))) == 0:
        options.pop("required", None), options.pop("source_only", None)
    expected = by_enumeration(table, **options)
    answers = []
    for backend in BACKENDS:
        solver = TaxonomySolver(**options, backend=backend)
        if expected is None:
            with pytest.raises(InputError, match=r"budget|exactly one transfer"):
                solver.solve(table)
            continue
        answer = solver.solve(table)
        answers.append((answer.sources, answer.policy))
        assert answer.objective == pytest.approx(expected[0], abs=1e-9)
        assert answer.proven
        assert answer.gap == 0
        assert answer.sources in expected[1]
        assert answer.label_cost <= solver.budget
        for target, transfer in answer.policy.items():
            assert transfer.target == target
            assert set(transfer.sources) <= set(answer.sources)
        assert math.fsum(answer.values.values()) == pytest.approx(answer.objective)
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("seed", range(6))
def test_order_of_rows_does_not_move_ties(seed):
    table = random_table(seed, ties=True)
    shuffled = np.random.default_rng(seed).permutation(len(table.transfers))
    other = TransfersTable(tuple(table.transfers[index] for index in shuffled))
    try:
        first = TaxonomySolver(3, 2).solve(table)
    except InputError:
        with pytest.raises(InputError):
            TaxonomySolver(3, 2).solve(other)
        return
    second = TaxonomySolver(3, 2, backend="scipy").solve(other)
    assert first.sources == second.sources
    assert first.policy == second.policy


def test_total_tie_is_broken_the_same_way():
    names = [f"t{index}" for index in range(8)]
    rows = [Transfer(t, 1, (s,), "transfer", 0.25) for t in names for s in names]
    solutions = {
        TaxonomySolver(budget, backend=backend).solve(TransfersTable(tuple(rows))).sources
        for backend in BACKENDS
        for budget in (1, 3, 8)
    }
    assert len(solutions) == 1
    assert len(solutions.pop()) == 1


def test_dominated_transfers_are_left_out():
    rows = [
        Transfer("a", 1, ("b",), "transfer", 0.5),
        Transfer("a", 2, ("b", "c"), "transfer", 0.5),
        Transfer("a", 2, ("c", "d"), "transfer", 0.4),
        Transfer("a", 1, ("c",), "transfer", 0.3),
        Transfer("a", 1, ("d",), "transfer", 0.6),
    ]
    problem = TaxonomyProblem.of(rows, ("a",), {}, frozenset(), {})
    assert [row.sources for row in problem.edges["a"]] == [("d",), ("b",), ("c",)]


def test_infeasible_budget_names_the_smallest_that_would_do():
    rows = [Transfer(t, 1, (s,), "transfer", 0.5) for t, s in (("a", "b"), ("c", "d"), ("e", "d"))]
    table = TransfersTable(tuple(rows))
    for backend in BACKENDS:
        with pytest.raises(InputError, match=r"budget 1 .*cost 2 \(b, d\)"):
            TaxonomySolver(1, backend=backend).solve(table)
        with pytest.raises(InputError, match=r"budget 2 .*cost 3.5"):
            TaxonomySolver(2, label_costs={"d": 2.5}, backend=backend).solve(table)
        with pytest.raises(InputError, match=r"budget 0 "):
            TaxonomySolver(0, backend=backend).solve(table)


def test_a_target_whose_every_transfer_is_closed_is_named():
    table = TransfersTable(tuple(Transfer(t, 1, ("b",), "transfer", 0.5) for t in ("a", "b")))
    with pytest.raises(InputError, match="exactly one transfer per target: target 'a'"):
        TaxonomySolver(forbidden=["b"]).solve(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["norm"]}, "targets: 'norm' is not in the transfers table; did you mean 'normals'"),
        ({"source_only": ["x"]}, "source_only: 'x'"),
        ({"required": ["normal"]}, "required: 'normal'"),
        ({"forbidden": ["y"]}, "forbidden: 'y'"),
        ({"target_only": ["z"]}, "target_only: 'z'"),
        ({"label_costs": {"z": 1}}, "label_costs: 'z'"),
        ({"importance": {"z": 1}}, "importance: 'z'"),
        ({"required": ["depth"], "forbidden": ["depth"]}, "required: 'depth' is also forbidden"),
        ({"source_only": ["depth"], "targets": ["depth"]}, "source_only: 'depth' is also among the targets"),
        ({"source_only": ["depth", "normals"]}, "no target is left"),
    ],
)
def test_unknown_and_contradicting_names_are_refused(options, message):
    table = TransfersTable(
        tuple(Transfer(t, 1, (s,), "transfer", 0.5) for t in ("depth", "normals") for s in ("depth", "normals"))
    )
    with pytest.raises(InputError, match=message):
        TaxonomySolver(**options).solve(table)


@pytest.mark.parametrize(
    "options",
    [
        {"budget": -1},
        {"budget": math.nan},
        {"max_order": 0},
        {"gap": -0.1},
        {"time_limit": 0},
        {"backend": "gurobi"},
        {"novel": "a", "targets": ["b"]},
        {"label_costs": {"a": -1.0}},
        {"importance": {"a": math.inf}},
    ],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        TaxonomySolver(**options)


def test_task_specific_needs_its_target_among_the_sources():
    rows = (
        Transfer("a", 1, ("a",), "task_specific", 0.9, 0.5, 1.0),
        Transfer("a", 1, ("b",), "transfer", 0.1, 0.2, 0.6),
    )
    solver = TaxonomySolver(1, target_only=["a"])
    assert TaxonomySolver(1).solve(TransfersTable(rows)).sources == ("a",)
    assert solver.solve(TransfersTable(rows)).policy["a"].kind == "transfer"


def test_scratch_is_never_chosen_and_missing_win_rates_give_none():
    rows = (
        Transfer("a", 0, (), "scratch", 9.0),
        Transfer("a", 1, ("b",), "transfer", 0.1, None, 0.6),
    )
    answer = TaxonomySolver(0 + 1).solve(TransfersTable(rows))
    assert answer.policy["a"].kind == "transfer"
    assert answer.mean_quality is None
    assert answer.mean_gain == 0.6


def test_all_affinities_zero_is_solved():
    rows = tuple(Transfer(t, 1, (s,), "transfer", 0.0) for t in "ab" for s in "cd")
    for backend in BACKENDS:
        answer = TaxonomySolver(2, backend=backend).solve(TransfersTable(rows))
        assert (answer.objective, answer.proven, len(answer.sources)) == (0.0, True, 1)


def test_scaling_one_targets_importance_moves_the_answer():
    rows = (
        Transfer("a", 1, ("s",), "transfer", 0.6),
        Transfer("a", 1, ("t",), "transfer", 0.1),
        Transfer("b", 1, ("s",), "transfer", 0.1),
        Transfer("b", 1, ("t",), "transfer", 0.5),
    )
    table = TransfersTable(rows)
    assert TaxonomySolver(1).solve(table).sources == ("s",)
    heavier = TaxonomySolver(1, importance={"b": 3.0}).solve(table)
    assert heavier.sources == ("t",)
    assert heavier.values == pytest.approx({"a": 0.1, "b": 1.5})


def full_table(seed, tasks=5):
    """Every transfer of order 1 and 2, and every task-specific network."""
    generator = np.random.default_rng(seed)
    names = [f"task{index}" for index in range(tasks)]
    rows = [Transfer(name, 1, (name,), "task_specific", float(generator.random()) + 0.5, 0.5, 0.9) for name in names]
    for order in (1, 2):
        for chosen in itertools.combinations(names, order):
            rows += [Transfer(name, order, chosen, "transfer", *generator.random(3).tolist()) for name in names]
    return TransfersTable(tuple(rows))


def test_sweep_equals_single_solves():
    table = full_table(0)
    budgets, orders = [6, 2.5, 3, 4, 1], [2, 1]
    swept = TaxonomySolver().sweep(table, budgets, orders)
    single = [TaxonomySolver(budget, order).solve(table) for order in orders for budget in budgets]
    for one, other in zip(swept, single, strict=True):
        assert (one.budget, one.max_order) == (other.budget, other.max_order)
        assert one.sources == other.sources
        assert one.policy == other.policy


@pytest.mark.parametrize("backend", ["branch_and_bound", "scipy"])
def test_a_sweep_leaves_out_budgets_that_nothing_meets_if_asked(backend):
    table, solver = full_table(0), TaxonomySolver(backend=backend)
    assert [one.budget for one in solver.sweep(table, [0, 3, 0.5, 1], skip_infeasible=True)] == [3, 1]
    for budgets, skip in (([0, 3], False), ([0.5, 0], True)):
        with pytest.raises(InputError, match="is below what any taxonomy costs"):
            solver.sweep(table, budgets, skip_infeasible=skip)


def test_json_is_one_object_that_json_can_read():
    answer = TaxonomySolver(2).solve(full_table(1))
    plain = json.loads(answer.to_json())
    assert plain["sources"] == list(answer.sources)
    keys = {"objective", "proven", "gap", "sources", "policy", "seconds"}
    assert keys | {"mean_quality", "mean_gain"} <= set(plain)
    assert set(plain["policy"]) == set(answer.policy)


needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"the published measurements are not at {PUBLISHED}"
)


@needs_published
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("max_order", "budget", "objective", "quality", "gain"),
    [
        (1, 8, 2.247202, 0.389474, 0.826205),
        (1, 2, 1.532514, 0.171767, 0.526241),
        (1, 15, 2.416259, 0.469368, 0.8701),
        (2, 8, 2.275766, 0.412416, 0.838023),
        (4, 8, 2.279443, None, None),
        (4, 15, 2.442112, 0.48528, 0.878574),
        (4, 26, 2.470977, 0.504877, 0.886469),
    ],
)
def test_published_measurements_give_the_known_taxonomies(backend, max_order, budget, objective, quality, gain):
    table = TransfersTable.read(PUBLISHED)
    answer = TaxonomySolver(budget, max_order, backend=backend).solve(table)
    assert answer.objective == pytest.approx(objective, abs=5e-7)
    assert answer.proven
    if quality is not None:
        assert answer.mean_quality == pytest.approx(quality, abs=5e-7)
        assert answer.mean_gain == pytest.approx(gain, abs=5e-7)
    assert len(table.unmeasured) == 4
    assert {row.target for row in table.unmeasured} == {"non_fixated_pose"}


@needs_published
@pytest.mark.parametrize("backend", ["mip", "scipy"])
def test_time_limit_returns_a_taxonomy_and_an_honest_gap(backend):
    table = TransfersTable.read(PUBLISHED)
    answer = TaxonomySolver(8, 4, time_limit=1e-9, backend=backend).solve(table)
    assert not answer.proven
    assert answer.label_cost <= 8
    assert 0 < answer.objective < 2.2794435 <= answer.objective * (1 + answer.gap)
    assert answer.objective > 0.9 * 2.279443


@needs_published
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gap_bounds_how_much_better_one_could_be(backend):
    table = TransfersTable.read(PUBLISHED)
    loose = TaxonomySolver(8, 4, gap=0.2, backend=backend).solve(table)
    assert 0 <= loose.gap <= 0.2
    assert loose.objective * (1 + loose.gap) >= 2.279443 - 1e-6


def test_a_machine_without_cbc_is_told_which_backend_works(monkeypatch):
    from mip import cbc

    rows = Transfer("a", 1, ("a",), "task_specific", 0.5, 0.5, 0.5), Transfer("a", 1, ("b",), "transfer", 0.3, 0.5, 0.5)
    table = TransfersTable(rows)
    monkeypatch.setattr(cbc, "has_cbc", False)  # as it is where the library cannot be loaded
    with pytest.raises(InputError, match=r"cannot load its CBC library here .*; set the solver's backend: scipy"):
        TaxonomySolver(1, backend="mip").solve(table)
    assert TaxonomySolver(1, backend="scipy").solve(table).objective == 0.5
