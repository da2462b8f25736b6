"""A solution has one form as plain data: what is read is what was written, and what is wrong is one line."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_taskonomy.affinity import Transfer, TransfersTable
from lightning_taskonomy.affinity.groupings import Footprint, Network
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers import GroupingSolution, TaxonomySolution, TaxonomySolver
from lightning_taskonomy.solvers.base import SCHEMA
from lightning_taskonomy.solvers.taxonomy import Band, Chance, as_entry, measure_chance, read_solutions

numbers = st.floats(0, 1e6, allow_subnormal=False)
rates = st.none() | st.floats(0, 1)
names = st.text("abcdefghij_é", min_size=1, max_size=6)
shared = {"objective": numbers, "proven": st.booleans(), "gap": numbers, "seconds": numbers, "budget": numbers}


@st.composite
def transfers(draw, target):
    """Any way to solve a target."""
    if draw(st.booleans()):
        sources, kind = (target,), "task_specific"
    else:
        sources, kind = tuple(draw(st.lists(names, min_size=1, max_size=3, unique=True))), "transfer"
    return Transfer(target, len(sources), sources, kind, draw(st.none() | numbers), draw(rates), draw(rates))


@st.composite
def taxonomies(draw):
    """Any taxonomy, sensible or not."""
    policy = {target: draw(transfers(target)) for target in draw(st.lists(names, max_size=4, unique=True))}
    return TaxonomySolution(
        **{name: draw(values) for name, values in shared.items()},
        values={target: draw(numbers) for target in policy},
        max_order=draw(st.integers(1, 5)),
        sources=tuple(sorted({name for row in policy.values() for name in row.sources})),
        label_cost=draw(numbers),
        policy=policy,
        mean_gain=draw(rates),
        mean_quality=draw(rates),
    )


@st.composite
def groupings(draw):
    """Any grouping, sensible or not."""
    sets = draw(st.lists(st.lists(names, min_size=1, max_size=3, unique=True), min_size=1, max_size=3))
    memory = st.none() | st.builds(Footprint, st.integers(0), st.integers(0))
    networks = tuple(
        Network(
            tuple(tasks),
            draw(st.floats(0.01, 4)),
            tuple(draw(numbers) for _ in tasks),
            draw(st.just(0.0) | st.floats(0.01, 1)),
            draw(memory),
        )
        for tasks in sets
    )
    assignment = {task: place for place, network in enumerate(networks) for task in network.tasks}
    return GroupingSolution(
        **{name: draw(values) for name, values in shared.items()},
        values={task: networks[place].loss(task) for task, place in assignment.items()},
        networks=networks,
        cost=draw(numbers),
        assignment=assignment,
        memory=draw(memory),
    )


def test_a_grouping_of_an_earlier_release_is_read():
    """It said nothing of sizes and memory."""
    network = {"tasks": ["a"], "cost": 0.5, "losses": [0.25]}
    plain = {"schema": 1, "kind": "grouping", "objective": 0.25, "values": {"a": 0.25}, "proven": True, "gap": 0.0,
             "seconds": 0.1, "budget": 1.0, "networks": [network], "cost": 0.5, "assignment": {"a": 0}}  # fmt: skip
    solution = GroupingSolution.from_dict(plain)
    assert solution.networks == (Network(("a",), 0.5, (0.25,)),) and solution.networks[0].size == 0.5
    assert solution.memory is None


@given(taxonomies() | groupings())
def test_what_is_read_is_what_was_written(solution):
    plain = json.loads(solution.to_json())
    assert plain == solution.as_dict()
    assert (plain["schema"], plain["kind"]) == (SCHEMA, "taxonomy" if "policy" in plain else "grouping")
    assert type(solution).from_dict(plain) == solution
    assert type(solution).from_dict({**plain, "beside": {"anything": 1}}) == solution
    assert json.loads(type(solution).from_dict(plain).to_json()) == plain


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    tasks = ("depth", "edges", "normals")
    rows = [Transfer(target, 1, (target,), "task_specific", 0.9, 0.5, 0.8) for target in tasks]
    rows += [Transfer(t, 1, (s,), "transfer", *rng.uniform(0.1, 0.8, 3)) for t in tasks for s in tasks if s != t]
    return TransfersTable.of(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": SCHEMA + 1}, f"a solution of schema {SCHEMA + 1}, this release reads {SCHEMA}"),
        ({"schema": None}, "it has no 'schema'"),
        ({"kind": "grouping"}, "a solution of kind 'grouping', not 'taxonomy'"),
        ({"policy": None}, "a taxonomy without 'policy'"),
        ({"objective": "much"}, "a damaged taxonomy .objective 'much' is not a number."),
        ({"policy": {"depth": {"kind": "transfer"}}}, "without 'sources'"),
        ({"policy": {"depth": {"kind": "guess", "order": 1, "sources": ["a"]}}}, "kind 'guess' is unknown"),
        ({"policy": [1, 2]}, "a damaged taxonomy"),
    ],
)
def test_what_is_wrong_is_one_line(table, change, message):
    plain = TaxonomySolver(budget=1).solve(table).as_dict()
    plain = {name: value for name, value in {**plain, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message) as refused:
        TaxonomySolution.from_dict(plain)
    assert "\n" not in str(refused.value)


def test_chance_is_the_percentiles_of_random_taxonomies_and_its_p_value(table):
    """With one source every random taxonomy is one of three, as likely as each other: few draws find all."""
    solution = TaxonomySolver(budget=1).solve(table)
    reached = {}
    for source in table.sources:
        rows = {row.target: row for row in table.candidates if row.sources == (source,)}
        reached[source] = [sum(getattr(row, name) for row in rows.values()) for name in
                           ("affinity", "win_rate_vs_scratch", "win_rate_vs_task_specific")]  # fmt: skip
    chance = measure_chance(solution, table, count=400, seed=1)
    gains, qualities = (sorted(values[place] / 3 for values in reached.values()) for place in (1, 2))
    assert (chance.gain.low, chance.gain.middle, chance.gain.high) == pytest.approx(gains)
    assert (chance.quality.low, chance.quality.middle, chance.quality.high) == pytest.approx(qualities)
    assert solution.objective == pytest.approx(max(values[0] for values in reached.values()))
    assert chance.p_value == pytest.approx(1 / 3, abs=0.08)
    assert measure_chance(solution, table, count=0) is None


def test_chance_without_win_rates_has_no_bands(table):
    plain = TransfersTable.of([Transfer(r.target, r.order, r.sources, r.kind, r.affinity) for r in table.candidates])
    chance = measure_chance(TaxonomySolver(budget=2).solve(plain), plain, count=50)
    assert chance.gain is None and chance.quality is None and 0 < chance.p_value <= 1


def test_solutions_of_a_file_stand_beside_chance(table, tmp_path):
    solutions = TaxonomySolver().sweep(table, [1, 2])
    chance = Chance(gain=Band(0.1, 0.2, 0.3), quality=None, p_value=0.01)
    file = tmp_path / "solutions.json"
    file.write_text(json.dumps([as_entry(solutions[0], chance), as_entry(solutions[1], None)]))
    assert read_solutions(file) == [(solutions[0], chance), (solutions[1], None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ('{"budget": 1}', "is not a list of solutions"),
        ("[1]", "is not a list of solutions"),
        ('[{"budget": 1, "mean_gain": 0.5}]', "of an earlier release: it has no 'schema'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, message):
    (tmp_path / "solutions.json").write_text(text)
    with pytest.raises(InputError, match=rf"solutions\.json.*{message}.*run the study again"):
        read_solutions(tmp_path / "solutions.json")


def test_damaged_chance_is_named(table, tmp_path):
    entry = as_entry(TaxonomySolver(budget=1).solve(table), Chance(gain=None, quality=None, p_value=math.pi / 10))
    for damaged in ({"gain": None}, {"gain": [1], "quality": None, "p_value": 1}):
        (tmp_path / "solutions.json").write_text(json.dumps([{**entry, "random": damaged}]))
        with pytest.raises(InputError, match=r"solutions\.json: 'random' is damaged"):
            read_solutions(tmp_path / "solutions.json")
