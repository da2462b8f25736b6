"""All ways to solve a taxonomy, its runners-up included, against enumeration of every set of sources."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_taskonomy.affinity import Transfer, TransfersTable
from lightning_taskonomy.commands.solve import solve_taxonomy
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers import TaxonomySolver

PUBLISHED = Path(__file__).parents[3] / "shared/published/taskonomy/transfers_16k.csv"
BACKENDS = ("branch_and_bound", "mip", "scipy")
SAME = 1e-9

needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"the published measurements are not at {PUBLISHED}"
)


@st.composite
def problems(draw, rough=None):
    """A table of up to 6 tasks, and options of a solver; half of them with affinities that are often equal."""
    names = [f"task{index}" for index in range(draw(st.integers(2, 6)))]
    rough = draw(st.booleans()) if rough is None else rough
    numbers = st.sampled_from([0.0, 0.25, 0.5]) if rough else st.floats(0, 1).map(lambda x: round(x, 6))
    sets = [chosen for order in (1, 2, 3) for chosen in itertools.combinations(names, order)]
    rows = []
    for target in draw(st.lists(st.sampled_from(names), min_size=1, unique=True)):
        if draw(st.booleans()):
            rows.append(Transfer(target, 1, (target,), "task_specific", draw(numbers)))
        for chosen in draw(st.lists(st.sampled_from(sets), min_size=1, max_size=10, unique=True)):
            rows.append(Transfer(target, len(chosen), chosen, "transfer", draw(numbers)))
    table = TransfersTable(tuple(rows))
    some = st.lists(st.sampled_from(table.sources), max_size=2, unique=True)
    options = {"budget": draw(st.integers(0, 12)) / 2, "max_order": draw(st.integers(1, 3))}
    if draw(st.booleans()):
        options["label_costs"] = {name: draw(st.integers(0, 4)) / 2 for name in table.sources}
    if draw(st.booleans()):
        options["importance"] = {name: draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])) for name in table.targets}
    options["forbidden"] = draw(some) if draw(st.booleans()) else []
    options["required"] = [name for name in draw(some) if name not in options["forbidden"]]
    match draw(st.sampled_from(["all", "targets", "source_only", "target_only", "novel"])):
        case "targets":
            options["targets"] = draw(st.lists(st.sampled_from(table.targets), min_size=1, unique=True))
        case "source_only":
            options["source_only"] = list(table.targets[1:3])
        case "target_only":
            options["target_only"] = list(table.targets[:2])
        case "novel":
            options["novel"] = table.targets[0]
    closed = {*options.get("target_only", ()), options.get("novel")}
    options["required"] = [name for name in options["required"] if name not in closed]
    return table, options


def by_enumeration(table, options):
    """All (objective, cost, sources) that are different taxonomies within the budget, in no order."""
    costs, weights = options.get("label_costs", {}), options.get("importance", {})
    novel = [options["novel"]] if "novel" in options else []
    closed = {*options["forbidden"], *options.get("target_only", ()), *novel}
    targets = novel or options.get("targets", table.targets)
    targets = [name for name in targets if name not in options.get("source_only", ())]
    free = [name for name in table.sources if name not in closed]
    rows = [row for row in table.transfers if row.order <= options["max_order"]]
    rows.sort(key=lambda row: (-row.affinity, row.order, row.kind, sorted(row.sources)))
    objectives = {}
    for size in range(len(free) + 1):
        for chosen in itertools.combinations(free, size):
            policy = [
                next((row for row in rows if row.target == target and set(row.sources) <= set(chosen)), None)
                for target in targets
            ]
            if None in policy or not set(options["required"]) <= set(chosen):
                continue
            used = {name for row in policy for name in row.sources} | set(options["required"])
            cost = math.fsum(costs.get(name, 1.0) for name in used)
            if cost <= options["budget"] * (1 + SAME):
                objective = math.fsum(weights.get(row.target, 1.0) * row.affinity for row in policy)
                objectives[tuple(sorted(used))] = (objective, cost)
    return [(objective, cost, sources) for sources, (objective, cost) in objectives.items()]


def assert_first(answer, others):
    """An answer (objective, cost, sources) is not worse than any other; which of equal ones is first is left open."""
    objective, cost, sources = answer
    for other in others:
        assert other[0] <= objective + SAME * max(1, objective)
        if other[0] >= objective * (1 - SAME):
            assert cost <= other[1] + SAME
            if other[1] <= cost + SAME:
                assert len(sources) <= len(other[2])


def solutions(table, options, backend, count):
    try:
        return TaxonomySolver(**options, backend=backend).best(table, count)
    except InputError as error:
        return str(error)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(problems(), st.integers(1, 4))
def test_the_best_are_those_of_enumeration(problem, count):
    table, options = problem
    left = by_enumeration(table, options)
    answers = solutions(table, options, "branch_and_bound", count)
    if isinstance(answers, str):
        assert not left
        assert "budget" in answers or "exactly one transfer" in answers
        return
    assert len(answers) == min(count, len(left))
    for answer in answers:
        assert answer.proven
        assert answer.gap == 0
        (known,) = (item for item in left if item[2] == answer.sources)
        assert answer.objective == pytest.approx(known[0], abs=1e-12)
        assert answer.label_cost == pytest.approx(known[1], abs=1e-12)
        assert {name for row in answer.policy.values() for name in row.sources} | set(options["required"]) == set(
            answer.sources
        )
        left.remove(known)
        assert_first(known, left)


@pytest.mark.parametrize("backend", ["mip", "scipy"])
@settings(deadline=None, derandomize=True, max_examples=25)
@given(problem=problems(), count=st.integers(1, 3))
def test_general_solvers_agree(backend, problem, count):
    table, options = problem
    ours, theirs = (solutions(table, options, name, count) for name in ("branch_and_bound", backend))
    if isinstance(ours, str):
        assert ours == theirs
        return
    assert [(answer.sources, answer.policy) for answer in ours] == [
        (answer.sources, answer.policy) for answer in theirs
    ]
    assert all(answer.proven for answer in theirs)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(problems(rough=True), st.randoms(use_true_random=False))
def test_ties_do_not_depend_on_the_order_of_rows(problem, random):
    table, options = problem
    rows = list(table.transfers)
    random.shuffle(rows)
    answers = [solutions(each, options, "branch_and_bound", 3) for each in (table, TransfersTable(tuple(rows)))]
    if isinstance(answers[0], str):
        return
    assert [answer.sources for answer in answers[0]] == [answer.sources for answer in answers[1]]


@settings(deadline=None, derandomize=True, max_examples=20)
@given(problems())
def test_infeasible_budgets_name_the_smallest_that_would_do(problem):
    table, options = problem
    affordable = by_enumeration(table, options | {"budget": 100.0})
    if not affordable:
        return
    least = min(cost for _, cost, _ in affordable)
    if least > 0:
        with pytest.raises(InputError, match=f"cost {least:g} "):
            TaxonomySolver(**options | {"budget": least * 0.9}).solve(table)
    TaxonomySolver(**options | {"budget": least}).solve(table)


def published(names):
    """The published transfers among a few tasks."""
    rows = TransfersTable.read(PUBLISHED).transfers
    return TransfersTable(tuple(row for row in rows if row.target in names and set(row.sources) <= set(names)))


SIX = ["autoencoder", "curvature", "edge3d", "keypoint3d", "reshade", "rgb2sfnorm"]


@needs_published
@pytest.mark.parametrize("budget", [1.0, 2.0, 4.0])
def test_renamed_permuted_and_reweighted_tasks_move_the_answer_as_they_must(budget):
    table = published(SIX)
    options = {"budget": budget, "max_order": 4, "forbidden": [], "required": []}
    before = TaxonomySolver(budget, 4).solve(table)
    assert (before.objective, before.label_cost, before.sources) == max(by_enumeration(table, options))
    assert table.targets == tuple(SIX)

    other = dict(zip(SIX, np.random.default_rng(0).permutation(SIX).tolist(), strict=True))
    rows = [
        Transfer(other[r.target], r.order, tuple(other[s] for s in r.sources), r.kind, r.affinity)
        for r in reversed(table.transfers)
    ]
    renamed = TaxonomySolver(budget, 4).solve(TransfersTable(tuple(rows)))
    assert renamed.objective == pytest.approx(before.objective, rel=1e-12)
    assert set(renamed.sources) == {other[name] for name in before.sources}
    for target, transfer in before.policy.items():
        assert set(renamed.policy[other[target]].sources) == {other[name] for name in transfer.sources}

    scaled = TaxonomySolver(budget, 4, importance=dict.fromkeys(SIX, 3.0)).solve(table)
    assert scaled.sources == before.sources
    assert scaled.objective == pytest.approx(3 * before.objective, rel=1e-12)
    for target in SIX:
        options["importance"] = {target: 20.0}
        moved = TaxonomySolver(budget, 4, importance={target: 20.0}).solve(table)
        expected = max(by_enumeration(table, options))
        assert (moved.objective, moved.sources) == (pytest.approx(expected[0], rel=1e-12), expected[2])
        assert moved.policy[target].affinity >= before.policy[target].affinity

    generator = np.random.default_rng(1)
    rows = [
        Transfer(r.target, r.order, r.sources, r.kind, r.affinity * generator.uniform(0.5, 1.5))
        for r in table.transfers
    ]
    perturbed = TransfersTable(tuple(rows))
    del options["importance"]
    expected = max(by_enumeration(perturbed, options))
    answer = TaxonomySolver(budget, 4).solve(perturbed)
    assert (answer.objective, answer.sources) == (pytest.approx(expected[0], rel=1e-12), expected[2])


@needs_published
def test_a_novel_task_gets_a_policy_from_all_others():
    table = TransfersTable.read(PUBLISHED)
    answer = TaxonomySolver(3, 4, novel="reshade").solve(table)
    among = [
        row for row in table.candidates if row.target == "reshade" and "reshade" not in row.sources and row.order <= 3
    ]
    best = max(among, key=lambda row: row.affinity)
    assert answer.policy == {"reshade": best}
    assert set(answer.sources) == set(best.sources)
    with pytest.raises(InputError, match="novel: 'reshade' is the only target: leave out"):
        TaxonomySolver(novel="reshade", source_only=["curvature"])
    with pytest.raises(InputError, match="novel: 'reshad' is not in the transfers table; did you mean 'reshade'"):
        TaxonomySolver(novel="reshad").solve(table)


@needs_published
def test_the_best_of_the_published_table_are_different_and_ordered():
    table = TransfersTable.read(PUBLISHED)
    answers = TaxonomySolver(8, 4).best(table, 6)
    assert len({answer.sources for answer in answers}) == 6
    assert answers[0].objective == pytest.approx(2.279443, abs=5e-7)
    objectives = [answer.objective for answer in answers]
    assert objectives == sorted(objectives, reverse=True)
    assert all(answer.proven and answer.label_cost <= 8 for answer in answers)
    again = TaxonomySolver(8, 4).best(table, 2)
    assert [(one.sources, one.policy) for one in again] == [(one.sources, one.policy) for one in answers[:2]]


def test_counts_below_one_are_refused():
    table = TransfersTable((Transfer("a", 1, ("b",), "transfer", 0.5),))
    with pytest.raises(InputError, match="count 0 must be"):
        TaxonomySolver(1).best(table, 0)


def synthetic(tasks):
    generator = np.random.default_rng(0)
    names = [f"t{index:03d}" for index in range(tasks)]
    return TransfersTable(
        tuple(Transfer(t, 1, (s,), "transfer", float(generator.random())) for t in names for s in names)
    )


def test_out_of_time_the_gap_holds():
    table = synthetic(60)
    answer = TaxonomySolver(12, time_limit=1e-9).solve(table)
    assert answer.proven is False
    assert 0 < answer.gap < 0.1
    assert json.loads(answer.to_json())["gap"] == answer.gap
    better = TaxonomySolver(12, gap=0.01).solve(table)
    assert answer.objective <= better.objective * (1 + better.gap)
    assert better.objective <= answer.objective * (1 + answer.gap)
    assert better.gap <= 0.01


def test_a_thousand_ties_are_broken_as_general_solvers_break_them():
    names = [f"t{index}" for index in range(24)]
    threes = {name: names[index // 3 * 3 : index // 3 * 3 + 3] for index, name in enumerate(names)}
    rows = [Transfer(target, 1, (source,), "transfer", 0.5) for target in names for source in threes[target]]
    table = TransfersTable(tuple(rows))
    answers = [TaxonomySolver(9, backend=backend).solve(table).sources for backend in BACKENDS]
    assert len(answers[0]) == 8
    assert all(answer == answers[0] for answer in answers)
    with pytest.raises(InputError, match=r"budget 7 .*cost 8 "):
        TaxonomySolver(7).solve(table)


def test_the_command_lists_alternatives(tmp_path, capsys):
    rows = [Transfer("a", 1, (s,), "transfer", p) for s, p in (("b", 0.5), ("c", 0.4), ("d", 0.3))]
    TransfersTable(tuple(rows)).write(tmp_path / "transfers.csv")
    results = solve_taxonomy(tmp_path / "transfers.csv", budget=1, count=5, json=True, out=tmp_path / "found.json")
    printed = json.loads(capsys.readouterr().out)
    assert (
        printed
        == json.loads((tmp_path / "found.json").read_text())
        == json.loads(json.dumps(results.artifacts["taxonomy"]))
    )
    assert printed["sources"] == ["b"]
    assert [other["sources"] for other in printed["alternatives"]] == [["c"], ["d"]]
    solve_taxonomy(tmp_path / "transfers.csv", budget=1, json=True)
    assert "alternatives" not in json.loads(capsys.readouterr().out)
    solve_taxonomy(tmp_path / "transfers.csv", budget=1, count=2)
    assert "or 0.400000: c" in capsys.readouterr().out
