"""Directed affinities: their file, the scores of groups by hand, orders against SciPy, groups grown from pairs."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau

from lightning_taskonomy.affinity.groupings import (
    Affinities,
    GroupingsTable,
    Network,
    by_affinity,
    candidate_groups,
    completed,
    gains,
    grown_groups,
    higher_order,
    kendall_tau,
)
from lightning_taskonomy.errors import InputError

TASKS = ("a", "b", "c")
ONTO = np.array([[0.9, 0.1, -0.2], [0.3, 0.8, 0.4], [-0.1, 0.2, 0.7]])  # from the row's task onto the column's


def groups_of(tasks):
    return [group for size in range(1, len(tasks) + 1) for group in itertools.combinations(tasks, size)]


def test_a_file_says_who_helps_whom(tmp_path):
    affinities = Affinities(TASKS, {"lookahead": ONTO, "cosine": np.where(np.eye(3), np.nan, ONTO)})
    affinities.write(tmp_path / "affinities.csv")
    lines = (tmp_path / "affinities.csv").read_text().splitlines()
    assert lines[:4] == ["task,partner,lookahead,cosine", "a,a,0.9,", "a,b,0.3,0.3", "a,c,-0.1,-0.1"]
    read = Affinities.read(tmp_path / "affinities.csv")
    assert read.tasks == TASKS
    np.testing.assert_array_equal(read.of("lookahead"), ONTO)
    np.testing.assert_array_equal(read.of("cosine", ["c", "a"]), [[np.nan, -0.1], [-0.2, np.nan]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task,lookahead\n", "give task, partner and measures"),
        ("task,partner,x\na,b,1\n", "line 2: 'b' is no task"),
        ("task,partner,x\na,a,1\na,a,1\n", "line 3: a with a comes twice"),
        ("task,partner,x\na,a\n", "line 2: 2 cells"),
        ("task,partner,x\na,a,much\n", "'much' is no number"),
        ("task,partner,x\na,a,inf\n", "infinite"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        Affinities.read(tmp_path / "a.csv")
    with pytest.raises(InputError, match="cannot be read"):
        Affinities.read(tmp_path / "b.csv")


def test_unknown_names_are_refused():
    affinities = Affinities(TASKS, {"lookahead": ONTO})
    with pytest.raises(InputError, match="did you mean 'lookahead'"):
        affinities.of("lookahed")
    with pytest.raises(InputError, match="of task 'd'"):
        affinities.of("lookahead", ["d"])
    with pytest.raises(InputError, match="scale: 'd'"):
        by_affinity(ONTO, TASKS, [(TASKS, 1.0)], scale={"d": 1.0})
    with pytest.raises(InputError, match="above 0"):
        by_affinity(ONTO, TASKS, [(TASKS, 1.0)], scale={"a": 0.0})
    with pytest.raises(InputError, match="square"):
        by_affinity(ONTO[:2], TASKS, [(TASKS, 1.0)])


def test_a_task_scores_the_mean_of_its_partners():
    keys = [(group, 1.0 if len(group) > 1 else 0.5) for group in groups_of(TASKS)]
    table = by_affinity(ONTO, TASKS, keys)
    expected = {("a",): [0], ("a", "b"): [0.3, 0.1], ("b", "c"): [0.2, 0.4], TASKS: [0.1, 0.15, 0.1]}
    for group, scores in expected.items():
        network = table.by_key[group, 1.0 if len(group) > 1 else 0.5]
        np.testing.assert_allclose(network.losses, 1 - np.array(scores))
    scaled = by_affinity(ONTO, TASKS, keys, scale={"a": 2.0}, alone="self")
    np.testing.assert_allclose(scaled.by_key[("a",), 0.5].losses, [2 * (1 - 0.9)])
    np.testing.assert_allclose(scaled.by_key[("a", "b"), 1.0].losses, [2 * (1 - 0.3), 1 - 0.1])
    never = by_affinity(ONTO, TASKS, keys, alone=-1e6)
    assert never.by_key[("a",), 0.5].losses[0] == 1e6 + 1
    above = by_affinity(3 * ONTO, TASKS, keys)  # a first order may promise more than there is to lose
    np.testing.assert_allclose(above.by_key[("b", "c"), 1.0].losses, [1.2 - 0.6, 0])


def test_what_was_not_measured_is_left_out():
    onto = ONTO.copy()
    onto[0, 1] = np.nan
    table = by_affinity(onto, TASKS, [(group, 1.0) for group in groups_of(TASKS)])
    assert [network.tasks for network in table.networks] == [("a",), ("b",), ("c",), ("a", "c"), ("b", "c")]


def random_table(generator, tasks, costs=(0.5,)):
    keys = [((task,), cost) for cost in costs for task in tasks] + [(group, 1.0) for group in groups_of(tasks)]
    networks = (Network(group, cost, tuple(generator.uniform(0.1, 1, len(group)))) for group, cost in keys)
    return GroupingsTable(tuple(tasks), tuple(networks))


def test_kendall_tau_is_that_of_the_gains():
    generator = np.random.default_rng(0)
    first, second = (random_table(generator, "abcd") for _ in range(2))
    left, right = [], []
    for table, values in ((first, left), (second, right)):
        for network in table.networks:
            for task, loss in zip(network.tasks, network.losses, strict=True):
                if len(network.tasks) > 1:
                    values.append(1 - loss / table.by_key[(task,), 0.5].losses[0])
    assert kendall_tau(first, second) == pytest.approx(kendalltau(left, right).statistic)
    assert kendall_tau(first, first) == pytest.approx(1)
    assert len(gains(first)) == len(left) == 4 * 7
    with pytest.raises(InputError, match=r"cost 0\.4 have 0"):
        kendall_tau(first, second, single_cost=0.4)


def test_completed_keeps_measurements_and_corrects_predictions():
    generator = np.random.default_rng(1)
    table = random_table(generator, "abcd")
    keys = tuple(table.by_key)
    small = GroupingsTable(table.tasks, tuple(network for network in table.networks if len(network.tasks) < 3))
    assert set(completed(small, keys).networks) == set(higher_order(table).networks)  # nothing to correct by
    some = GroupingsTable(table.tasks, (*small.networks, table.by_key[("a", "b", "c"), 1.0]))
    predicted, result = higher_order(table).by_key, completed(some, keys).by_key
    ratio = table.by_key[("a", "b", "c"), 1.0].loss("a") / predicted[("a", "b", "c"), 1.0].loss("a")
    assert result[("a", "b", "c"), 1.0] == table.by_key[("a", "b", "c"), 1.0]
    network = result[("a", "c", "d"), 1.0]
    assert network.loss("a") == pytest.approx(ratio * predicted[network.key].loss("a"))
    assert network.loss("d") == predicted[network.key].loss("d")  # in no measured network of three
    assert completed(some, keys, corrected=False).by_key[network.key] == predicted[network.key]


def test_a_pair_that_failed_is_left_out_of_the_mean():
    table = random_table(np.random.default_rng(2), "abc")
    left = GroupingsTable(table.tasks, tuple(n for n in table.networks if n.tasks not in (("a", "b"), TASKS)))
    (network,) = (n for n in completed(left, table.by_key).networks if len(n.tasks) == 3)
    of_c = [table.by_key[pair, 1.0].loss("c") for pair in (("a", "c"), ("b", "c"))]
    assert network.loss("c") == pytest.approx(np.mean(of_c))
    assert network.loss("a") == table.by_key[("a", "c"), 1.0].loss("a")
    fewer = GroupingsTable(table.tasks, tuple(n for n in left.networks if n.tasks != ("a", "c")))
    assert all(len(n.tasks) < 3 for n in completed(fewer, table.by_key).networks)  # a has no pair
    with pytest.raises(InputError, match="a\\+b: measure it"):
        higher_order(table.__class__(table.tasks, (*left.networks, table.by_key[TASKS, 1.0])))


def test_all_groups_are_candidates_up_to_twelve_tasks():
    assert candidate_groups("abc") == [
        *(((task,), 1.0) for task in "abc"), *(((task,), 0.5) for task in "abc"),
        *((group, 1.0) for group in groups_of("abc") if len(group) > 1),
    ]  # fmt: skip
    names = [f"t{number:02d}" for number in range(13)]
    assert len(candidate_groups(names[:12])) == 2**12 - 1 + 12
    assert len(candidate_groups(names)) == 13 * 2 + 78


def test_groups_grow_by_the_task_that_fits_best():
    """Two blocks of tasks that help each other and harm the others: pairs within a block grow to it, and go on."""
    names = tuple(f"t{number:02d}" for number in range(14))
    networks = [Network((name,), cost, (1.0,)) for cost in (1.0, 0.5) for name in names]
    for first, second in itertools.combinations(range(14), 2):
        loss = 0.8 if (first < 7) == (second < 7) else 1.5
        networks.append(Network((names[first], names[second]), 1.0, (loss, loss)))
    table = GroupingsTable(names, tuple(networks))
    groups = grown_groups(table)
    assert {names[:7], names[7:]} <= {group for group, _ in groups}
    assert len(groups) <= 14 * 13 * 12 / 2 and len(set(groups)) == len(groups)
    assert candidate_groups(names, table) == [*candidate_groups(names), *groups]
    with pytest.raises(InputError, match=r"t12\+t13 of cost 1"):
        grown_groups(GroupingsTable(names, tuple(networks[:-1])))


def test_each_group_grows_by_the_lowest_predicted_mean():
    table = random_table(np.random.default_rng(4), "abcde")
    small = [network for network in table.networks if len(network.tasks) < 3]
    lowest = {task: min(n.loss(task) for n in small if task in n.tasks) for task in table.tasks}
    predicted = higher_order(table).by_key

    def mean(group):
        network = predicted[group, 1.0]
        return np.mean([loss / lowest[task] for task, loss in zip(group, network.losses, strict=True)])

    expected = set()
    for pair in itertools.combinations("abcde", 2):
        group = pair
        while len(group) < 5:
            group = min((tuple(sorted({*group, task})) for task in "abcde" if task not in group), key=mean)
            expected.add((group, 1.0))
    assert set(grown_groups(table)) == expected
