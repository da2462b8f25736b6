"""The grouping solver's three methods against enumeration of every set of networks."""

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_taskonomy.affinity.groupings import Footprint, GroupingsTable, Network
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers import GroupingSolver
from lightning_taskonomy.solvers.grouping import pessimal, score, select_again, served

FAST = ("dynamic", "branch_and_bound")
WAYS = [*({"method": method} for method in FAST), *({"method": "program", "backend": b} for b in ("mip", "scipy"))]


def exact(number):
    return Fraction(repr(number))


def takes(networks):
    """Bytes: weights add up, the largest activations count."""
    return sum(one.memory.weights for one in networks) + max(one.memory.activations for one in networks)


def most_covered(table, budget, limits=None, memory=None, **_):
    """How many tasks a choice within the budget and the memory can serve, by trying every one."""
    counts = [0]
    for size in range(1, len(table.networks) + 1):
        for chosen in itertools.combinations(table.networks, size):
            within = float(sum(exact(network.cost) for network in chosen)) <= budget
            if within and (memory is None or takes(chosen) <= memory * 2**20):
                good = {t for n in chosen for t in n.tasks if n.loss(t) <= (limits or {}).get(t, 1e9)}
                counts.append(len(good))
    return max(counts)


def enumerated(table, budget, importance=None, limits=None, objective="total", memory=None, largest=False):
    """The best set of networks by trying every one, ties by the documented rule; None if none is within the budget."""
    networks = sorted(table.networks, key=lambda network: (sorted(network.tasks), network.cost))
    choices = []
    for size in range(1, len(networks) + 1):
        for places in itertools.combinations(range(len(networks)), size):
            chosen = [networks[place] for place in places]
            cost = sum(exact(network.cost) for network in chosen)
            lowest = {
                task: min((network.loss(task) for network in chosen if task in network.tasks), default=math.inf)
                for task in table.tasks
            }
            if float(cost) > budget or any(loss > (limits or {}).get(task, 1e9) for task, loss in lowest.items()):
                continue
            if memory is not None and takes(chosen) > memory * 2**20:
                continue
            if largest and min(exact(network.cost) for network in networks) <= exact(budget) - cost:
                continue
            losses = [exact((importance or {}).get(task, 1.0)) * exact(loss) for task, loss in lowest.items()]
            first = (max(losses), sum(losses)) if objective == "max" else (sum(losses),)
            choices.append((first, cost, size, places, chosen))
    if not choices:
        return None
    best = max(choices) if largest else min(choices)
    return tuple(best[4]), float(best[0][0])


@st.composite
def tables(draw, most_tasks=6, most_networks=8, step=10):
    """Small tables with many equal numbers: costs in tenths, losses in hundredths."""
    tasks = [f"task{index}" for index in range(draw(st.integers(1, most_tasks)))]
    sets = st.lists(st.sampled_from(tasks), min_size=1, unique=True).map(lambda names: tuple(sorted(names)))
    keys = draw(
        st.lists(st.tuples(sets, st.integers(1, step)), min_size=1, max_size=most_networks - len(tasks), unique=True)
        if most_networks > len(tasks)
        else st.just([])
    )
    served = {task for names, _ in keys for task in names}
    keys += [((task,), draw(st.integers(1, step))) for task in tasks if task not in served]
    quarters = st.integers(1, 8).map(lambda count: count << 18)  # of a MiB
    networks = [
        Network(
            names,
            cost / 10,
            tuple(draw(st.integers(0, 30)) / 100 for _ in names),
            memory=Footprint(draw(quarters), draw(quarters)),
        )
        for names, cost in keys
    ]
    return GroupingsTable(tuple(tasks), tuple(draw(st.permutations(networks))))


@st.composite
def problems(draw, **sizes):
    """A table with a budget, weights, limits, an objective and perhaps a limit of memory."""
    table = draw(tables(**sizes))
    some = st.sampled_from(table.tasks)
    options = {
        "importance": draw(st.dictionaries(some, st.integers(0, 30).map(lambda weight: weight / 10), max_size=3)),
        "limits": draw(st.dictionaries(some, st.integers(5, 40).map(lambda limit: limit / 100), max_size=2)),
        "objective": draw(st.sampled_from(["total", "max"])),
        "memory": draw(st.none() | st.integers(2, 40).map(lambda count: count / 4)),
    }
    return table, draw(st.integers(1, 40)) / 10, options


def check(way, table, budget, options):
    expected = enumerated(table, budget, **options)
    solver = GroupingSolver(budget, **options, **way)
    if expected is None:
        with pytest.raises(InputError, match=r"limits: no network|budget .* is below|memory of .* is below") as error:
            solver.solve(table)
        text = str(error.value)
        if "raise the budget" in text:
            enough = float(text.split(" cost ")[1].split(" ")[0])
            assert enumerated(table, enough, **options) is not None
            assert enumerated(table, math.nextafter(enough, 0), **options) is None
        if "raise memory" in text:
            enough = float(text.split(" take ")[1].split(" ")[0])
            assert enumerated(table, 1e9, **{**options, "memory": enough}) is not None
            assert enumerated(table, 1e9, **{**options, "memory": math.nextafter(enough, 0)}) is None
            budget = 1e9
        if "uncovered" in text:
            left = text.split(": ")[1].split(" stay")[0].replace(" and ", ", ").split(", ")
            assert set(left) <= set(table.tasks)
            assert len(table.tasks) - len(left) == most_covered(table, budget, **options)
        return
    answer = solver.solve(table)
    assert answer.networks == expected[0]
    assert answer.objective == expected[1]
    assert (answer.proven, answer.gap, answer.budget) == (True, 0.0, budget)
    assert answer.cost == float(sum(exact(network.cost) for network in answer.networks)) <= budget
    assert answer.memory is None or answer.memory.total == takes(answer.networks)
    for task, place in answer.assignment.items():
        able = [network.loss(task) for network in answer.networks if task in network.tasks]
        assert answer.values[task] == answer.networks[place].loss(task) == min(able)


@settings(max_examples=100)
@given(problems())
def test_dynamic_program_and_branch_and_bound_find_what_enumeration_finds(problem):
    for method in FAST:
        check({"method": method}, *problem)


@pytest.mark.parametrize("backend", ["mip", "scipy"])
@settings(max_examples=25)
@given(problem=problems(most_networks=7))
def test_binary_program_finds_what_enumeration_finds(backend, problem):
    check({"method": "program", "backend": backend}, *problem)


@settings(max_examples=60)
@given(tables(most_networks=7), st.lists(st.floats(0.01, 3.0), min_size=7, max_size=7), st.floats(0.1, 6.0))
def test_costs_may_be_any_numbers(table, costs, budget):
    networks = tuple(
        Network(network.tasks, cost, network.losses) for network, cost in zip(table.networks, costs, strict=False)
    )
    if len({network.key for network in networks}) == len(networks) == len(table.networks):
        for method in FAST:
            check({"method": method}, GroupingsTable(table.tasks, networks), budget, {})


def random_table(seed, tasks, networks):
    generator = np.random.default_rng(seed)
    names = tuple(f"task{index}" for index in range(tasks))
    sets = [chosen for size in range(1, tasks + 1) for chosen in itertools.combinations(names, size)]
    picked = [sets[index] for index in generator.permutation(len(sets))[:networks]]
    picked += [(name,) for name in names if (name,) not in picked]
    return GroupingsTable(
        names,
        tuple(
            Network(
                p,
                float(generator.choice([0.5, 1.0])),
                tuple(generator.random(len(p)).tolist()),
                memory=Footprint(int(generator.integers(1 << 18, 1 << 20)), int(generator.integers(1, 4)) << 18),
            )
            for p in picked
        ),
    )


@pytest.mark.parametrize("objective", ["total", "max"])
@pytest.mark.parametrize("memory", [None, 3.5])
def test_methods_agree_on_larger_tables(objective, memory):
    table = random_table(0, tasks=6, networks=30)
    answers = [GroupingSolver(memory=memory, objective=objective, **way).sweep(table, [2, 2.5, 4]) for way in WAYS]
    for others in zip(*answers, strict=True):
        assert len({(answer.networks, answer.objective) for answer in others}) == 1
        assert all(answer.proven for answer in others)
        assert memory is None or others[0].memory.total <= memory * 2**20


@settings(max_examples=30)
@given(tables(), st.lists(st.integers(10, 60).map(lambda budget: budget / 10), min_size=1, max_size=4), st.booleans())
def test_a_sweep_is_its_single_solves_and_never_worse_with_more(table, budgets, by_max):
    for method in FAST:
        solver = {"method": method, "objective": "max" if by_max else "total"}
        if enumerated(table, min(budgets)) is None:
            with pytest.raises(InputError, match=f"budget {min(budgets):g} is below"):
                GroupingSolver(**solver).sweep(table, budgets)
            met = [budget for budget in budgets if enumerated(table, budget) is not None]
            if met:
                solutions = GroupingSolver(**solver).sweep(table, budgets, skip_infeasible=True)
                assert [answer.budget for answer in solutions] == met
            else:
                with pytest.raises(InputError, match=f"budget {max(budgets):g} is below"):
                    GroupingSolver(**solver).sweep(table, budgets, skip_infeasible=True)
            continue
        swept = GroupingSolver(**solver).sweep(table, budgets)
        for budget, answer in zip(budgets, swept, strict=True):
            single = GroupingSolver(budget, **solver).solve(table)
            assert (single.networks, single.objective, single.budget) == (answer.networks, answer.objective, budget)
        ordered = sorted(swept, key=lambda answer: answer.budget)
        assert all(a.objective >= b.objective for a, b in itertools.pairwise(ordered))


@pytest.mark.parametrize(
    ("cost", "count"), [(0.1, 3), (0.5, 3), (0.1, 10), (0.7, 3), (5 / 6, 6), (1 / 3, 3), (1e-9, 7)]
)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_budget_of_exactly_the_cost_is_enough(way, cost, count):
    names = tuple("abcdefghij"[:count])
    table = GroupingsTable(names, tuple(Network((name,), cost, (0.5,)) for name in names))
    budget = float(count * exact(cost))
    answer = GroupingSolver(budget, **way).solve(table)
    assert (len(answer.networks), answer.cost) == (count, budget)
    with pytest.raises(InputError, match="is below what any choice costs"):
        GroupingSolver(math.nextafter(budget, 0), **way).solve(table)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_ties_go_by_loss_then_cost_then_number_then_name(way):
    def solve(*rows, budget=2.0):
        table = GroupingsTable(
            ("a", "b"), tuple(Network(tuple(tasks), cost, (0.5,) * len(tasks)) for tasks, cost in rows)
        )
        return [str(network) for network in GroupingSolver(budget, **way).solve(table).networks]

    assert solve(("ab", 2.0), ("ab", 1.5)) == ["a+b (cost 1.5)"]
    assert solve(("ab", 1.0), ("a", 0.25), ("b", 0.5)) == ["a (cost 0.25)", "b (cost 0.5)"]
    assert solve(("a", 0.5), ("b", 0.5), ("ab", 1.0)) == ["a+b (cost 1)"]
    assert solve(("b", 0.5), ("a", 0.75), ("b", 0.75), ("a", 0.5), ("ab", 1.5)) == ["a (cost 0.5)", "b (cost 0.5)"]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_everything_equal_still_has_one_answer(way):
    names = tuple("abcd")
    rows = [Network(pair, 1.0, (0.25, 0.25)) for pair in itertools.combinations(names, 2)]
    tables = [GroupingsTable(names, tuple(rows)), GroupingsTable(names, tuple(reversed(rows)))]
    networks = {tuple(map(str, GroupingSolver(3, **way).solve(table).networks)) for table in tables}
    assert networks == {("a+b (cost 1)", "c+d (cost 1)")}


def test_importance_limits_and_max_move_the_answer():
    table = GroupingsTable(
        ("a", "b"),
        (Network(("a", "b"), 1.0, (0.1, 0.5)), Network(("a", "b"), 1.5, (0.45, 0.2)), Network(("b",), 1.0, (0.4,))),
    )
    assert GroupingSolver(1.5).solve(table).values == {"a": 0.1, "b": 0.5}
    heavier = GroupingSolver(1.5, importance={"b": 2.0}).solve(table)
    assert (heavier.values, heavier.objective) == ({"a": 0.45, "b": 0.2}, 0.85)
    assert GroupingSolver(1.5, objective="max").solve(table).objective == 0.45
    assert GroupingSolver(2, limits={"b": 0.45}).solve(table).values == {"a": 0.1, "b": 0.4}
    ignored = GroupingSolver(2, importance={"a": 0.0}).solve(table)
    assert ignored.values == {"a": 0.45, "b": 0.2}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_memory_is_the_sum_of_weights_and_the_largest_activations(way):
    mib = 1 << 20

    def network(tasks, losses, weights, activations):
        return Network(tuple(tasks), 1.0, losses, memory=Footprint(weights * mib, activations * mib))

    wide = network("ab", (0.2, 0.2), 4, 8)
    table = GroupingsTable(("a", "b"), (wide, network("a", (0.1,), 3, 2), network("b", (0.1,), 3, 5)))
    for memory, tasks in ((None, ["a", "b"]), (11, ["a", "b"]), (12, ["a", "b"])):
        answer = GroupingSolver(2, memory=memory, **way).solve(table)
        assert ["+".join(one.tasks) for one in answer.networks] == tasks
        assert answer.memory == Footprint(6 * mib, 5 * mib)
    with pytest.raises(
        InputError, match=r"memory of 10 MiB .*: [ab] stays uncovered; .* take 11 MiB \(a .*, b .*\); raise"
    ):
        GroupingSolver(2, memory=10, **way).solve(table)
    with pytest.raises(InputError, match=r"budget 1 .*: [ab] stays uncovered; .* all 2 tasks in 11 MiB cost 2 \("):
        GroupingSolver(1, memory=11, **way).solve(table)
    assert GroupingSolver(1, memory=12, **way).solve(table).networks == (wide,)


def test_memory_of_a_network_that_nobody_measured():
    table = GroupingsTable(("a",), (Network(("a",), 1.0, (0.1,)),))
    with pytest.raises(
        InputError, match=r"what network a \(cost 1\) takes is not known: give measured inference costs"
    ):
        GroupingSolver(1, memory=10).solve(table)
    assert GroupingSolver(1).solve(table).memory is None


def test_what_cannot_be_met_is_named():
    table = GroupingsTable(("a", "b"), (Network(("a", "b"), 1.0, (0.1, 0.5)), Network(("b",), 0.5, (0.4,))))
    with pytest.raises(
        InputError, match=r"budget 0.9 .*: a stays uncovered; .* all 2 tasks cost 1 \(a\+b \(cost 1\)\)"
    ):
        GroupingSolver(0.9).solve(table)
    with pytest.raises(InputError, match=r"budget 1 .* within the limits cost 1.5 \("):
        GroupingSolver(1, limits={"b": 0.4}).solve(table)
    with pytest.raises(InputError, match=r"limits: no network serves b with a loss of at most 0.3; the lowest is 0.4"):
        GroupingSolver(1, limits={"b": 0.3}).solve(table)
    with pytest.raises(InputError, match=r"budget 0.5 is below"):
        GroupingSolver().sweep(table, [2, 0.5, 1])
    with pytest.raises(InputError, match=r"importance: 'bb' is not a task of the table; did you mean 'b'"):
        GroupingSolver(importance={"bb": 1}).solve(table)


@pytest.mark.parametrize(
    "options",
    [
        {"budget": -1},
        {"budget": math.nan},
        {"budget": math.inf},
        {"importance": {"a": -1.0}},
        {"limits": {"a": math.nan}},
        {"memory": 0},
        {"memory": math.nan},
        {"objective": "mean"},
        {"method": "simplex"},
        {"backend": "gurobi"},
        {"gap": -0.1},
        {"time_limit": 0},
    ],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        GroupingSolver(**options)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("objective", ["total", "max"])
@pytest.mark.parametrize("memory", [None, 2.5])
def test_out_of_time_there_is_an_answer_with_its_gap(way, objective, memory):
    table = random_table(1, tasks=8, networks=60)
    limits = {"budget": 3, "objective": objective, "memory": memory}
    best = GroupingSolver(**limits, method="dynamic").solve(table)
    answer = GroupingSolver(**limits, time_limit=1e-6, **way).solve(table)
    assert set(answer.assignment) == set(table.tasks) and answer.cost <= 3
    assert memory is None or answer.memory.total <= memory * 2**20
    assert answer.objective * (1 - answer.gap) <= best.objective + 1e-12 <= answer.objective + 1e-12
    assert answer.proven == (answer.gap == 0)


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
def test_a_gap_is_kept_and_told(way):
    table = random_table(2, tasks=6, networks=30)
    best = GroupingSolver(2).solve(table)
    answer = GroupingSolver(2, gap=0.3, **way).solve(table)
    assert best.objective <= answer.objective <= best.objective / (1 - 0.3) + 1e-9
    assert answer.gap <= 0.3 + 1e-9
    assert answer.objective * (1 - answer.gap) <= best.objective + 1e-9


def test_many_tasks_are_solved_by_the_binary_program():
    generator = np.random.default_rng(3)
    names = tuple(f"task{index:02}" for index in range(20))
    rows = [Network((name,), 1.0, (float(generator.random()),)) for name in names]
    rows += [Network(names[i : i + 5], 2.0, tuple(generator.random(5).tolist())) for i in (0, 5, 10, 15)]
    table = GroupingsTable(names, tuple(rows))
    answer = GroupingSolver(11, backend="scipy").solve(table)
    assert answer.proven
    assert {network.cost for network in answer.networks} == {1.0, 2.0}
    with pytest.raises(InputError, match=r"budget 7.5 is below .* cost 8 "):
        GroupingSolver(7.5, backend="scipy").solve(table)
    with pytest.raises(InputError, match="20 tasks are too many, 16 at most"):
        GroupingSolver(11, method="dynamic").solve(table)


def test_memory_of_many_tasks_is_met_by_the_binary_program():
    """Of two wide networks and twenty small ones, as many of the better small ones as memory holds."""
    mib = 1 << 20
    names = tuple(f"task{index:02}" for index in range(20))
    rows = [Network((name,), 1.0, (0.1,), memory=Footprint(2 * mib, mib)) for name in names]
    rows += [Network(names[i : i + 10], 1.0, (0.5,) * 10, memory=Footprint(9 * mib, peak * mib))
             for i, peak in ((0, 3), (10, 7))]  # fmt: skip
    table = GroupingsTable(names, tuple(rows))
    # small ones alone: 40 + 1; one wide and k small ones: 9 + 2k + 3, k at least 10; both wide: 18 + 2k + 7
    for memory, small, taken in ((41, 20, 41), (40, 14, 40), (35, 11, 34), (31.5, 3, 31)):
        answer = GroupingSolver(30, memory=memory, backend="scipy").solve(table)
        assert answer.proven and answer.memory.total == taken * mib
        assert answer.objective == pytest.approx(0.1 * small + 0.5 * (20 - small))
    with pytest.raises(InputError, match=r"memory of 24\.5 MiB .* stay uncovered; .* all 20 tasks take 25 MiB"):
        GroupingSolver(30, memory=24.5, backend="scipy").solve(table)


def test_a_solver_with_another_setting_keeps_the_rest():
    solver = GroupingSolver(importance={"a": 2.0}, method="program")
    assert vars(solver.replace(budget=4)) == {**vars(solver), "budget": 4.0}
    with pytest.raises(InputError, match="budget -1 must"):
        solver.replace(budget=-1)


def test_a_solution_is_json():
    plain = json.loads(GroupingSolver(3).solve(random_table(4, 4, 9)).to_json())
    assert {"objective", "values", "proven", "gap", "seconds", "budget", "networks", "cost", "assignment"} <= set(plain)


@settings(max_examples=60)
@given(tables(most_networks=8, step=3), st.integers(1, 20).map(lambda budget: budget / 10))
def test_pessimal_is_the_worst_that_spends_the_budget(table, budget):
    expected = enumerated(table, budget, largest=True)
    if expected is None:
        with pytest.raises(InputError, match="cannot be spent"):
            pessimal(table, budget)
        return
    answer = pessimal(table, budget)
    assert (answer.objective, answer.proven) == (expected[1], True)
    assert math.fsum(answer.values.values()) == pytest.approx(answer.objective)
    assert budget - answer.cost < min(network.cost for network in table.networks) + 1e-12


def test_a_choice_is_scored_by_what_serves_on_validation():
    first = GroupingsTable(("a", "b"), (Network(("a", "b"), 1.0, (0.2, 0.2)), Network(("b",), 0.5, (0.3,))))
    other = GroupingsTable(("a", "b"), (Network(("b",), 0.5, (0.1,)), Network(("a", "b"), 1.0, (0.4, 0.6))))
    kept = first.networks
    assert score(kept, on=other, by=first) == {"a": 0.4, "b": 0.6}
    assert score(kept, on=other, by=other) == {"a": 0.4, "b": 0.1}
    assert served(kept, by=first) == (("a", "b"), ())
    assert served(kept, by=other) == (("a",), ("b",))
    lone = GroupingsTable(("a", "b"), other.networks[1:])
    with pytest.raises(InputError, match=r"network b \(cost 0.5\) is not in the table"):
        score(kept, on=lone, by=other)


def test_a_network_that_serves_nothing_is_removed_and_selection_repeated():
    def table(*losses):
        kinds = ((("a", "b"), 1.0), (("a",), 1.0), (("b",), 1.0), (("b",), 0.5))
        return GroupingsTable(("a", "b"), tuple(Network(*kind, row) for kind, row in zip(kinds, losses, strict=True)))

    early = table((0.3, 0.3), (0.2,), (0.1,), (0.25,))
    trained = table((0.1, 0.2), (0.2,), (0.15,), (0.18,))
    solver = GroupingSolver(2)
    solution, removed = select_again(solver, early, trained)
    assert removed == ()  # a and b alone: both serve
    worse = table((0.25, 0.3), (0.4,), (0.1,), (0.25,))
    solution, removed = select_again(solver, worse, table((0.1, 0.2), (0.2,), (0.25,), (0.18,)))
    assert removed == (worse.networks[2],)
    assert [str(network) for network in solution.networks] == ["a+b (cost 1)", "b (cost 0.5)"]
