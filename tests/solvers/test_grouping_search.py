"""The search for what to train next, and what approximations cost and lose, on random and on published losses."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from lightning_taskonomy.affinity.groupings import (
    Affinities,
    GroupingsTable,
    Network,
    candidate_groups,
    completed,
    higher_order,
    kendall_tau,
)
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers.grouping import (
    GroupingSolver,
    approximation_rows,
    next_trainings,
    score,
    searched,
)

PUBLISHED = Path(__file__).parents[3] / "shared/published/taskgrouping"
PARTS = ("validation", "test", "early")
BUDGETS = [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
HOA = [0.50278, 0.46132, 0.45474, 0.4505, 0.44875, 0.44489, 0.44112, 0.44552, 0.44196]
ESA = [0.50278, 0.48732, 0.46727, 0.46063, 0.45722, 0.45058, 0.45058, 0.44742, 0.44742]
OPTIMAL = [0.50278, 0.46132, 0.45224, 0.44612, 0.44235, 0.43932, 0.43555, 0.43555, 0.43481]


@pytest.fixture(scope="module")
def published():
    if not all((PUBLISHED / f"setting1_{part}.tsv").exists() for part in PARTS):
        pytest.skip(f"the published losses are not here: {PUBLISHED}")
    return {part: GroupingsTable.read(PUBLISHED / f"setting1_{part}.tsv") for part in PARTS}


def random_table(seed, tasks="abcdef"):
    generator = np.random.default_rng(seed)
    networks = (
        Network(group, cost, tuple(generator.uniform(0.1, 1, len(group)).round(3)))
        for group, cost in candidate_groups(tasks)
    )
    return GroupingsTable(tuple(tasks), tuple(networks))


def total(networks, table):
    return sum(min(n.loss(task) for n in networks if task in n.tasks) for task in table.tasks)


@pytest.mark.parametrize("seed", range(6))
def test_the_search_ends_and_is_never_worse_than_higher_order_alone(seed):
    table, budgets, solver = random_table(seed), [1, 2.5, 4], GroupingSolver()
    keys, asked, measured = tuple(table.by_key), [], None
    while True:
        step = next_trainings(measured, keys, budgets, solver)
        if not step.networks:
            break
        assert not set(step.networks) & set(asked)  # so that it ends
        asked += step.networks
        measured = GroupingsTable(table.tasks, tuple(n for n in table.networks if n.key in asked))
    small = [key for key in keys if len(key[0]) < 3]
    assert set(asked[: len(small)]) == set(small)
    assert searched(table, keys, budgets, solver) == measured
    for budget, solution, alone in zip(
        budgets, step.solutions, solver.sweep(higher_order(table), budgets), strict=True
    ):
        chosen = [table.by_key[network.key] for network in solution.networks]
        assert list(solution.networks) == chosen and solution.objective == pytest.approx(total(chosen, table))
        assert total(chosen, table) <= total([table.by_key[n.key] for n in alone.networks], table) + 1e-9
        best = min(
            total(networks, table)
            for count in range(1, 4)
            for networks in itertools.combinations(measured.networks, count)
            if sum(n.cost for n in networks) <= budget and {t for n in networks for t in n.tasks} == set(table.tasks)
        )
        assert total(chosen, table) <= best + 1e-9  # of all that is trained


def test_what_cannot_be_trained_is_never_asked_for():
    table = random_table(0, "abcd")
    failed = {(("a", "b"), 1.0), (("a", "b", "c"), 1.0), (("c",), 0.5)}
    keys = [key for key in table.by_key if key not in failed]
    trained = searched(table, keys, [1, 2, 3], GroupingSolver())
    assert not failed & trained.by_key.keys()
    with pytest.raises(InputError, match=r"budget 0\.5 is below"):
        next_trainings(trained, keys, [0.5])
    with pytest.raises(InputError, match="served by no network"):
        next_trainings(trained, [key for key in keys if "d" not in key[0]], [2])


@pytest.mark.slow
def test_beyond_a_dozen_tasks_groups_grow_from_measured_pairs():
    """Two blocks that help each other: two networks of the right tasks are what the search ends with."""
    names = tuple(f"t{number:02d}" for number in range(14))

    def measure(group, cost):
        near = [[other for other in group if (other < "t07") == (task < "t07")] for task in group]
        losses = (1 - 0.02 * (len(side) - 1) + 0.2 * (len(group) - len(side)) for side in near)
        return Network(group, cost, tuple(losses) if len(group) > 1 else (1.0 if cost == 1 else 1.2,))

    networks, measured, rounds = [], None, 0
    while asked := next_trainings(measured, candidate_groups(names, measured), [2.0]).networks:
        networks += [measure(*key) for key in asked]
        measured, rounds = GroupingsTable(names, tuple(networks)), rounds + 1
    (solution,) = next_trainings(measured, candidate_groups(names, measured), [2.0]).solutions
    assert {network.tasks for network in solution.networks} == {names[:7], names[7:]}
    assert rounds < 6 and len(networks) < 130


def test_rows_of_approximations_on_published_losses(published):
    tables = [published[part] for part in PARTS[:2]]
    rows = approximation_rows(*tables, BUDGETS, early=published["early"])
    by_name = {name: [row for row in rows if row.approximation == name] for name in ("exhaustive", "hoa", "esa")}
    for name, expected in {"exhaustive": OPTIMAL, "hoa": HOA, "esa": ESA}.items():
        assert [row.budget for row in by_name[name]] == BUDGETS
        assert [round(row.test_loss, 5) for row in by_name[name]] == expected
        for row, best in zip(by_name[name], OPTIMAL, strict=True):
            assert row.optimal_loss == pytest.approx(best, abs=1e-5)
            assert row.regret == pytest.approx(row.test_loss - best, abs=2e-5)
    trainings = {name: of_name[0].trainings for name, of_name in by_name.items()}
    assert trainings == pytest.approx({"exhaustive": 31 + 2.5, "hoa": 15 + 2.5, "esa": 33.5 / 5})
    assert by_name["hoa"][0].kendall_tau == kendall_tau(higher_order(tables[0]), tables[1])


def test_the_search_on_published_losses_trains_little_more_than_the_pairs(published):
    validation, test = published["validation"], published["test"]
    trained = searched(validation, tuple(validation.by_key), BUDGETS, GroupingSolver())
    assert 20 < len(trained.networks) <= 24  # of 36; singles and pairs are 20
    solutions = GroupingSolver().sweep(completed(trained, validation.by_key), BUDGETS)
    rows = [row for row in approximation_rows(validation, test, BUDGETS) if row.approximation == "search"]
    for solution, row, hoa in zip(solutions, rows, HOA, strict=True):
        assert all(network == validation.by_key[network.key] for network in solution.networks)
        reached = sum(score(solution.networks, on=test, by=validation).values())
        assert row.test_loss == pytest.approx(reached)
        assert row.test_loss <= hoa + 1e-5  # on validation it must be; here on test, too
        assert row.regret >= -1e-9


def test_affinities_that_are_the_gains_of_pairs_select_as_pairs_do():
    """Affinity equal to the gain in a pair: groups by mean affinity are groups by mean loss, that is by pairs."""
    table = random_table(3, "abcd")
    alone = {task: table.by_key[(task,), 0.5].losses[0] for task in table.tasks}
    onto = np.full((4, 4), np.nan)
    for network in table.networks:
        if len(network.tasks) == 2:
            for task, partner in itertools.permutations(network.tasks):
                place = table.tasks.index(partner), table.tasks.index(task)
                onto[place] = 1 - network.loss(task) / alone[task]
    networks = tuple(n for n in table.networks if len(n.tasks) > 1 or n.cost == 0.5)
    table = GroupingsTable(table.tasks, networks)
    affinities = Affinities(table.tasks, {"gain": onto})
    rows = approximation_rows(table, table, [1, 2, 3], affinities=affinities, affinity_trainings=1.2, scale=alone)
    losses = {name: [r.test_loss for r in rows if r.approximation == name] for name in ("hoa", "gain")}
    taus = {row.approximation: row.kendall_tau for row in rows}
    assert losses["gain"] == pytest.approx(losses["hoa"])
    assert taus["gain"] == pytest.approx(taus["hoa"])
    assert {row.trainings for row in rows if row.approximation == "gain"} == {1.2}
    with pytest.raises(InputError, match="early_part 0"):
        approximation_rows(table, table, [1], early=table, early_part=0)
