"""Reading, checking, writing and matching tables of candidate networks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network
from lightning_taskonomy.errors import InputError

TASKS = ("depth", "edges", "normals")
HEADED = "cost\tdepth\tedges\tnormals\n0.5\t0.4\t\t\n1\t0.3\t\t0.2\n1\t\t0.1\t\n"
BARE = "0.4\t0.2\t\n0.3\t\t0.2\n\t0.1\t\n"


@pytest.fixture
def read(tmp_path):
    def read(text, tasks=None, name="table.tsv"):
        path = tmp_path / name
        path.write_text(text)
        return GroupingsTable.read(path, tasks)

    return read


def test_a_file_with_a_header(read):
    table = read(HEADED)
    assert table.tasks == TASKS
    assert table.networks == (
        Network(("depth",), 0.5, (0.4,)),
        Network(("depth", "normals"), 1.0, (0.3, 0.2)),
        Network(("edges",), 1.0, (0.1,)),
    )
    nan = np.nan
    np.testing.assert_array_equal(table.losses(), [[0.4, nan, nan], [0.3, nan, 0.2], [nan, 0.1, nan]])
    np.testing.assert_array_equal(table.costs(), [0.5, 1, 1])
    assert read(HEADED.replace("\t", ","), name="table.csv") == table
    assert read("\ufeff" + HEADED.replace("\n", "\r\n")) == table


def test_the_cost_may_stand_anywhere(read):
    assert read("b,cost,a\n1,2,\n,0.5,3\n").networks == (Network(("b",), 2.0, (1.0,)), Network(("a",), 0.5, (3.0,)))


def test_a_file_without_a_header(read):
    table = read(BARE, TASKS)
    assert [network.key for network in table.networks] == [
        (("depth",), 0.5),
        (("edges",), 0.5),
        (("depth", "normals"), 1.0),
        (("edges",), 1.0),
    ]
    named = read("1\t1\t1\t1\t1\n1\t1\t1\t1\t1\n")
    assert named.tasks == ("SemSeg", "Depth", "Normals", "Keypoints", "Edges")
    assert len(named.networks) == 6


@pytest.mark.parametrize("part", ["validation", "test", "early"])
def test_the_published_files_load(part):
    path = Path(__file__).parents[3] / f"shared/published/taskgrouping/setting1_{part}.tsv"
    if not path.exists():
        pytest.skip(f"the published losses are not here: {path}")
    table = GroupingsTable.read(path)
    assert len(table.networks) == 5 + 31
    assert {network.tasks for network in table.networks if network.cost == 0.5} == {(task,) for task in table.tasks}
    assert len({network.tasks for network in table.networks if network.cost == 1}) == 31


@pytest.mark.parametrize(
    ("text", "tasks", "line", "message"),
    [
        (HEADED + "1\t0.5\t\t0.6\n", None, 5, "duplicate of line 3"),
        (HEADED + "1\t\t\t\n", None, 5, "serves no task"),
        (HEADED + "1\t-0.5\t\t\n", None, 5, "loss -0.5 of depth is not a finite number of at least 0"),
        (HEADED + "2\tinf\t\t\n", None, 5, "loss inf of depth is not a finite"),
        (
            "cost\ta\tb\n1\t1\t\n1\t1\tnan\n",
            None,
            1,
            "'b' is served by no network (left out, a loss is NaN: a+b (cost 1))",
        ),
        (HEADED + "2\tlow\t\t\n", None, 5, "'low' of depth is not a number"),
        (HEADED + "2\t0.5\t\n", None, 5, "3 cells, but there are 4 columns"),
        (HEADED + "0\t0.5\t\t\n", None, 5, "cost 0 is not a finite number above 0"),
        (HEADED + "inf\t0.5\t\t\n", None, 5, "cost inf is not"),
        (HEADED + "\t0.5\t\t\n", None, 5, "'' of cost is not a number"),
        (HEADED, ("depth", "edge", "normals"), 1, "task 'edges' is unknown; did you mean 'edge'"),
        ("cost\ta\tb\n1\t1\t\n", None, 1, "task 'b' is served by no network"),
        ("cost\ta\ta\n1\t1\t1\n", None, 1, "'a' is named twice"),
        ("cost\tcost\ta\n1\t1\t1\n", None, 1, "two columns are named 'cost'"),
        ("cost\ta\t\n1\t1\t1\n", None, 1, "task name '' is empty"),
        ("cost\n1\n", None, 2, "serves no task"),
        ("cost\n", None, 1, "no task"),
        (BARE, None, 1, "no header, and 3 columns"),
        (BARE, ("depth", "edges"), 1, "3 columns, but 2 tasks are given"),
        ("a\tb\n1\t\n", ("a", "b"), 1, "'a' of a is not a number (a header has the column 'cost')"),
        ("\t\t\n" + BARE, TASKS, 1, "no half-size network has a loss"),
        (BARE + "0.1\t\t0.3\n", TASKS, 4, "duplicate of line 2"),
        ("\n\n" + HEADED + "\n1\t\t\t\n", None, 8, "serves no task"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(read, text, tasks, line, message):
    with pytest.raises(InputError) as error:
        read(text, tasks)
    assert f"table.tsv line {line}: " in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_network_with_a_loss_of_nan_is_left_out_and_named(read):
    table = read(HEADED + "2\t0.5\tnan\t\n0.5\tNaN\t\t\n")
    assert table == read(HEADED) and table.unmeasured == ("depth+edges (cost 2)", "depth (cost 0.5)")
    assert not read(HEADED).unmeasured
    bare = read("nan\t0.2\t\n0.3\tnan\t0.2\n" + BARE.partition("\n")[2], TASKS)
    assert bare.unmeasured == ("depth (cost 0.5)", "depth+edges+normals (cost 1)")
    assert [network.key for network in bare.networks] == [
        (("edges",), 0.5),
        (("depth", "normals"), 1.0),
        (("edges",), 1.0),
    ]


def test_a_file_that_cannot_be_read(read, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        GroupingsTable.read(tmp_path / "none.tsv")
    with pytest.raises(InputError, match="is empty"):
        read("\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        GroupingsTable.read(tmp_path / "picture.png")
    with pytest.raises(InputError, match="task 'c' is served by no network"):
        read("1\t1\t\n", ("a", "b", "c"))


def test_tables_made_in_python_are_checked():
    one = Network(("a",), 1.0, (0.5,))
    for tasks, networks, message in (
        (("a", "b"), (one,), "'b' is served by no network"),
        (("a",), (one, one), "duplicate network a"),
        (("b",), (one,), "unknown task 'a'"),
        ((), (), "no task"),
        (("a\tb",), (Network(("a\tb",), 1.0, (0.5,)),), "a tab in it"),
        (("a", "b"), (Network(("b", "a"), 1.0, (1.0, 2.0)),), "another order"),
    ):
        with pytest.raises(InputError, match=message):
            GroupingsTable(tasks, networks)
    with pytest.raises(InputError, match="2 losses"):
        Network(("a",), 1.0, (0.5, 0.6))
    with pytest.raises(InputError, match="a task twice"):
        Network(("a", "a"), 1.0, (0.5, 0.6))


@st.composite
def tables(draw):
    names = st.text("ab ,;\"'é", min_size=1).filter(lambda name: name == name.strip())
    tasks = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    keys = draw(
        st.lists(
            st.tuples(st.sets(st.sampled_from(tasks), min_size=1), st.floats(1e-3, 1e3)),
            max_size=8,
            unique_by=lambda key: (frozenset(key[0]), key[1]),
        )
    )
    keys = [*((set(tasks), 2000.0),), *keys]
    losses = st.floats(0, 1e6)
    return GroupingsTable(
        tasks,
        tuple(
            Network(tuple(t for t in tasks if t in chosen), cost, tuple(draw(losses) for _ in chosen))
            for chosen, cost in keys
        ),
    )


@settings(max_examples=40)
@given(table=tables(), suffix=st.sampled_from([".csv", ".tsv"]))
def test_what_is_written_is_read(tmp_path_factory, table, suffix):
    path = tmp_path_factory.mktemp("written") / f"table{suffix}"
    table.write(path)
    assert GroupingsTable.read(path, table.tasks) == table


def test_networks_match_by_tasks_and_cost_whatever_the_order_of_columns_and_rows(read):
    first = read("cost,a,b\n1,1,2\n0.5,3,\n0.5,,4\n1,5,\n")
    second = read("cost,b,a\n0.5,40,\n1,20,10\n2,,30\n1,,50\n")
    (mine, other), missing = GroupingsTable.common(first, second)
    assert mine.networks == tuple(first.networks[i] for i in (0, 2, 3))
    assert other.tasks == ("a", "b")
    assert other.networks == (
        Network(("a", "b"), 1.0, (10.0, 20.0)),
        Network(("b",), 0.5, (40.0,)),
        Network(("a",), 1.0, (50.0,)),
    )
    assert missing == ("a (cost 0.5)", "a (cost 2)")
    assert GroupingsTable.common(first, first) == ([first, first], ())
    third = read("cost,a,b\n1,,7\n1,8,9\n")
    three, missing = GroupingsTable.common(first, third, second)
    assert [[str(network) for network in table.networks] for table in three] == [["a+b (cost 1)"]] * 3


def test_tables_that_do_not_match(read):
    table = read("cost,a,b\n1,1,2\n")
    with pytest.raises(InputError, match="different tasks: a, b against a, c"):
        GroupingsTable.common(table, read("cost,a,c\n1,1,2\n"))
    with pytest.raises(InputError, match="no network of task 'b' in common"):
        GroupingsTable.common(read("cost,a,b\n1,1,2\n1,1,\n"), read("cost,a,b\n1,1,\n1,,2\n"))
