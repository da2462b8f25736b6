"""The page's callbacks as plain functions: no browser, no server."""

import base64
import io
import itertools
import json
import math
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import yaml

from lightning_taskonomy.errors import InputError

pytest.importorskip("dash", reason="the extra 'page' is not installed")

from dash import no_update

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network
from lightning_taskonomy.affinity.table import Transfer, TransfersTable
from lightning_taskonomy.reports.page.grouping import GroupingTab
from lightning_taskonomy.reports.page.layout import COLUMNS, first, marks, page
from lightning_taskonomy.reports.page.settings import TaxonomySettings
from lightning_taskonomy.reports.page.solving import LIMIT, QUICK
from lightning_taskonomy.reports.page.taxonomy import TaxonomyTab
from lightning_taskonomy.reports.tables import Tables, read_tables

TASKS = ("normals", "depth_z", "edges_2d", "colorization")  # the last one is source-only


def affinity(target, sources):
    """Some number that depends on all the names."""
    return (sum(ord(letter) * (i + 2) for i, letter in enumerate(target + "".join(sources))) % 97 + 1) / 100


@pytest.fixture
def table():
    rows = []
    for target in TASKS[:3]:
        rows.append(Transfer(target, 1, (target,), "task_specific", 0.9, 0.5, 0.95))
        for order in (1, 2):
            for sources in itertools.combinations([task for task in TASKS if task != target], order):
                p = affinity(target, sources)
                rows.append(Transfer(target, order, sources, "transfer", p, p / 2, p))
    return TransfersTable(tuple(rows))


@pytest.fixture
def tab(table):
    return TaxonomyTab(Tables(title="table.csv", transfers=table, families={"normals": "3D", "edges_2d": "2D"}))


def controls(tab, budget=2, order=2, **changes):
    """What stands in the controls: the first values, some changed as ``column={task: value}``."""
    rows = {task: {**first(task, tab.table)} for task in tab.tasks}
    for column, values in changes.items():
        for task, value in values.items():
            rows[task][column] = value
    return {"budget": budget, "order": order, **{c: [rows[task][c] for task in tab.tasks] for c in COLUMNS}}


def solved(tab, session="one", **given):
    """Asks and waits for the exact answer; what each of the two callbacks gave, and the solution."""
    quick = tab.asked(controls(tab, **given), session)
    exact = tab.searched(quick["request"], session)
    settings = tab.restored(json.loads(json.dumps(quick["request"]))["settings"])
    return quick, exact, tab.answers.cached(settings)


def best(table, budget, order, targets, closed=(), required=(), costs=None, weights=None):
    """The highest objective over every set of sources."""
    costs, weights, optimum = costs or {}, weights or {}, -math.inf
    for count in range(len(TASKS) + 1):
        for chosen in map(set, itertools.combinations([t for t in TASKS if t not in closed], count)):
            if not set(required) <= chosen or sum(costs.get(t, 1) for t in chosen) > budget:
                continue
            values = []
            for target in targets:
                usable = [r for r in table.candidates if r.target == target and r.order <= order]
                values.append(max((r.affinity for r in usable if set(r.sources) <= chosen), default=-math.inf))
            optimum = max(optimum, sum(weights.get(t, 1) * v for t, v in zip(targets, values, strict=True)))
    return optimum


def text(component):
    """All text of a component."""
    if component is None or isinstance(component, str):
        return component or ""
    if isinstance(component, list | tuple):
        return " ".join(map(text, component))
    return text(getattr(component, "children", None))


def test_every_control_reaches_the_solver(tab, table):
    cases = [
        ({"budget": 1}, {"budget": 1}),
        ({"order": 1}, {"order": 1}),
        ({"must": {"colorization": ["must"]}}, {"required": ["colorization"]}),
        ({"train": {"normals": []}}, {"closed": ["normals"]}),
        ({"solve": {"normals": []}}, {"targets": TASKS[1:3]}),
        ({"solve": {"normals": []}, "train": {"normals": []}}, {"targets": TASKS[1:3], "closed": ["normals"]}),
        ({"cost": {"normals": 3, "depth_z": 0.5}}, {"costs": {"normals": 3, "depth_z": 0.5}}),
        ({"importance": {"normals": 0, "depth_z": 4}}, {"weights": {"normals": 0, "depth_z": 4}}),
    ]
    for given, expected in cases:
        _, exact, solution = solved(tab, **given)
        expected = {"budget": 2, "order": 2, "targets": TASKS[:3], **expected}
        assert solution.objective == pytest.approx(best(table, **expected)), given
        assert "Proven optimal" in exact["state"]


def test_an_answer_comes_at_once_and_says_that_it_is_not_proven_yet(tab):
    quick, exact, solution = solved(tab)
    assert "greedy" in quick["state"] and "under way" in quick["state"]
    assert set(solution.policy) == set(TASKS[:3])
    for row in solution.policy.values():
        assert f"{row.affinity:.3f}" in text(exact["table"])
    again = tab.asked(controls(tab), "one")  # known by now
    assert "Proven optimal" in again["state"]


def test_the_graph_holds_the_policy(tab):
    _, exact, solution = solved(tab, budget=2)
    nodes = [e["data"]["id"] for e in exact["elements"] if "source" not in e["data"]]
    edges = {(e["data"]["source"], e["data"]["target"]) for e in exact["elements"] if "source" in e["data"]}
    assert len(nodes) == len(set(nodes))
    assert edges == {
        (f"left:{source}", f"right:{target}")
        for target, row in solution.policy.items()
        if row.kind != "task_specific"
        for source in row.sources
    }
    assert {end for edge in edges for end in edge} <= set(nodes)
    trained = {e["data"]["id"] for e in exact["elements"] if "trained" in e.get("classes", "")}
    assert trained == {f"left:{source}" for source in solution.sources}
    unused = {e["data"]["id"] for e in exact["elements"] if e.get("classes") == "left unused"}
    assert unused == {f"left:{t}" for t in TASKS if t not in solution.sources and t not in solution.policy}
    assert all(math.isfinite(v) for e in exact["elements"] if "position" in e for v in e["position"].values())


def test_what_more_budget_buys(tab, table):
    quick, _, now = solved(tab, budget=1)
    message = text(tab.compared(quick["request"], "one"))
    then = best(table, 2, 2, TASKS[:3])
    assert f"{then - now.objective:+.4f}" in message
    quick, _, _ = solved(tab, budget=4)
    assert "buys nothing" in text(tab.compared(quick["request"], "one"))


def test_the_curve_runs_over_all_budgets_that_something_meets(tab):
    quick, _, _ = solved(tab, budget=2, must={"colorization": ["must"]}, cost={"colorization": 2})
    (line, _) = tab.swept(quick["request"], "one").figure["data"]
    assert line["x"] == [2, 3, 4, 5]
    assert all(0 <= value <= 1 for value in line["y"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budget": 0}, "budget 0 is below"),
        ({"budget": None}, "the budget is empty"),
        ({"solve": {task: [] for task in TASKS}}, "tick at least one"),
        ({"importance": {"normals": None}}, "importance of 'normals' is empty"),
        ({"must": {"normals": ["must"]}, "train": {"normals": []}}, "'normals' must be trained but may not"),
        ({"train": {task: [] for task in TASKS}}, "has none of order"),
    ],
)
def test_what_cannot_be_met_is_said_in_one_line_in_place_of_the_answer(tab, given, words):
    asked = tab.asked(controls(tab, **given), "one")
    answer = asked if asked["request"] is None else tab.searched(asked["request"], "one")
    line = text(answer["state"])
    assert words in line and "\n" not in line and "Traceback" not in line
    assert answer["elements"] == [] and answer["table"] is None
    if asked["request"] is None:
        refused = tab.as_json(1, None)
        assert refused["data"] is no_update and "no solution" in refused["refused"]
    else:
        assert answer["solved"] is None and tab.compared(None, "one") is None and tab.swept(None, "one") is None
        assert words in tab.as_json(1, asked["request"])["refused"]


def test_browsers_do_not_change_each_other(tab):
    one = tab.asked(controls(tab, budget=1), "one")
    two = tab.asked(controls(tab, budget=3, solve={"normals": []}), "two")
    assert "1 of 1" in text(tab.searched(one["request"], "one")["cards"])
    graphs = [tab.searched(asked["request"], name)["elements"] for asked, name in ((one, "one"), (two, "two"))]
    solved_tasks = [{e["data"]["id"] for e in graph} & {"left:normals", "right:normals"} for graph in graphs]
    assert len(solved_tasks[0]) >= 1 and "right:normals" not in solved_tasks[1]


def test_an_older_request_is_not_searched(tab):
    old = tab.asked(controls(tab, budget=1), "one")
    new = tab.asked(controls(tab, budget=3), "one")
    assert tab.searched(old["request"], "one")["elements"] is no_update
    assert tab.answers.cached(tab.restored(old["request"]["settings"])) is None
    assert "Proven" in tab.searched(new["request"], "one")["state"]


def test_a_search_ends_at_its_limit_and_says_how_far_from_the_best_it_may_be(tab, monkeypatch):
    limits = []

    def short(settings, table, time_limit=None):
        limits.append(time_limit)
        return replace(solve(settings, table), proven=False, gap=0.125, seconds=20.0)

    solve = TaxonomySettings.solve
    monkeypatch.setattr(TaxonomySettings, "solve", short)
    quick = tab.asked(controls(tab), "one")
    assert "greedy" in quick["state"] and "at most 12.5 %" in quick["state"]
    exact = tab.searched(quick["request"], "one")
    assert limits == [QUICK, LIMIT]
    for answer in (exact, tab.asked(controls(tab), "one")):
        assert answer["state"] == "Not proven: at most 12.5 % from the best, after 20 s of search."


def test_a_request_that_waits_gives_up_when_a_newer_one_comes(tab):
    old = tab.asked(controls(tab, budget=1), "one")
    with tab.answers._searching, ThreadPoolExecutor() as pool:  # another search is under way
        waiting = pool.submit(tab.searched, old["request"], "one")
        new = tab.asked(controls(tab, budget=3), "one")
        assert waiting.result(timeout=60)["elements"] is no_update
    assert "Proven" in tab.searched(new["request"], "one")["state"]


def unpacked(data):
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(data["content"]))) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_downloads(tab):
    quick, _, solution = solved(tab)
    content = json.loads(base64.b64decode(tab.as_json(1, quick["request"])["data"]["content"]))
    assert content["solution"] == json.loads(solution.to_json())
    assert content["settings"]["budget"] == 2
    files = unpacked(tab.as_recipes(1, quick["request"])["data"])
    policy = {target: row for target, row in solution.policy.items() if row.kind != "task_specific"}
    wanted = {f"source_{n}.yaml" for n in solution.sources} | {f"target_{n}.yaml" for n in policy} | {"train.sh"}
    assert set(files) == wanted
    assert files["train.sh"].count("lightning-taskonomy fit --config") == len(wanted) - 1
    for target, row in policy.items():
        recipe = yaml.safe_load(files[f"target_{target}.yaml"])
        outs = [yaml.safe_load(files[f"source_{source}.yaml"])["out"] for source in row.sources]
        assert recipe["model"]["init_args"]["sources"] == outs


def test_a_task_without_a_recipe_is_named():
    rows = [
        Transfer("mine", 1, (name,), kind, 0.5) for name, kind in (("mine", "task_specific"), ("yours", "transfer"))
    ]
    tab = TaxonomyTab(Tables(title="table.csv", transfers=TransfersTable(tuple(rows))))
    quick, _, _ = solved(tab)
    assert "'mine' is not in the catalog" in tab.as_recipes(1, quick["request"])["refused"]


def test_buttons_and_slider(tab):
    none = tab.preset("none")
    assert none["solve"] == [[]] * 4 and none["cost"] == [no_update] * 4
    assert tab.preset("all")["solve"] == [first(task, tab.table)["solve"] for task in tab.tasks]
    assert tab.preset("reset")["importance"] == [1] * 4
    assert tab.span([1, 1, 1, 1])["max"] == 4 and tab.span([1, 1, 1, 1])["step"] == 1
    assert tab.span([0.5, 1, 1, None])["max"] == 3 and tab.span([0.5, 1, 1, 1])["step"] == 0.1
    assert list(marks(1, 26)) == [1, 6, 11, 16, 21, 26] and list(marks(1, 1)) == [1]


def test_settings_survive_the_browser(tab):
    settings = tab.settings(controls(tab, cost={"normals": 2}, importance={"depth_z": 0.5}))
    assert TaxonomySettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings
    assert hash(TaxonomySettings.from_dict(json.loads(json.dumps(settings.as_dict())))) == hash(settings)


# the second tab


@pytest.fixture
def groups():
    names = ("SemSeg", "Depth", "Normals")
    networks = [Network((name,), 0.5, (0.2 + 0.01 * i,)) for i, name in enumerate(names)]
    for count in (1, 2, 3):
        for tasks in itertools.combinations(names, count):
            losses = tuple(affinity(task, tasks) / 4 for task in tasks)
            networks.append(Network(tasks, 1.0, losses))
    return GroupingTab(Tables(title="groups.tsv", groupings=GroupingsTable(names, tuple(networks))))


def asked(tab, budget=1.5, objective="total", importance=(1, 1, 1), limit=(None, None, None)):
    given = {"budget": budget, "objective": objective, "importance": [*importance], "limit": [*limit]}
    quick = tab.asked(given, "one")
    return quick, quick if quick["request"] is None else tab.searched(quick["request"], "one")


def lowest(table, budget, objective, importance, limit):
    """The lowest objective over every set of networks."""
    optimum = math.inf
    for count in (1, 2, 3):
        for kept in itertools.combinations(table.networks, count):
            if sum(network.cost for network in kept) > budget:
                continue
            losses = [
                min((network.loss(task) for network in kept if task in network.tasks), default=math.inf)
                for task in table.tasks
            ]
            if any(top is not None and loss > top for loss, top in zip(losses, limit, strict=True)):
                continue
            weighted = [weight * loss for weight, loss in zip(importance, losses, strict=True)]
            optimum = min(optimum, sum(weighted) if objective == "total" else max(weighted))
    return optimum


@pytest.mark.parametrize(
    "given",
    [
        {"budget": 1},
        {"budget": 2.5},
        {"objective": "max"},
        {"importance": (1, 5, 0)},
        {"budget": 3, "limit": (None, 0.15, 0.2)},
    ],
)
def test_groupings_are_the_best_of_all(groups, given):
    everything = {"budget": 1.5, "objective": "total", "importance": (1, 1, 1), "limit": (None,) * 3, **given}
    expected = lowest(groups.table, **everything)
    quick, exact = asked(groups, **given)
    if expected == math.inf:
        assert "budget" in text(exact["state"]) or "limit" in text(exact["state"])
        return
    solution = groups.answers.cached(groups.restored(quick["request"]["settings"]))
    assert solution.objective == pytest.approx(expected) and solution.proven
    drawn = {e["data"]["id"] for e in exact["elements"] if e.get("classes") == "left network"}
    assert len(drawn) == len(solution.networks)
    chart = groups.swept(quick["request"], "one").figure["data"][0]
    assert chart["y"] == sorted(chart["y"], reverse=True)
    message = text(groups.compared(quick["request"], "one"))
    assert "half network" in message


def test_the_total_loss_is_told_once(groups):
    _, plain = asked(groups)
    _, weighted = asked(groups, importance=(1, 5, 0))
    assert "Objective" not in text(plain["cards"]) and "Total loss" in text(plain["cards"])
    assert "Objective" in text(weighted["cards"]) and "Total loss" in text(weighted["cards"])


def test_groupings_download(groups):
    quick, _ = asked(groups)
    files = unpacked(groups.as_recipes(1, quick["request"])["data"])
    solution = groups.answers.cached(groups.restored(quick["request"]["settings"]))
    assert list(files) == ["choice.yaml", "train.sh"]
    parts = yaml.safe_load(files["choice.yaml"])["model"]["init_args"]["networks"]
    assert [len(part["init_args"]["tasks"]) for part in parts] == [len(network.tasks) for network in solution.networks]


def test_a_grouping_that_cannot_be(groups):
    _, exact = asked(groups, budget=0.5)
    assert "budget 0.5 is below" in text(exact["state"])


# what is served


def test_a_folder_of_a_study(study):
    served = read_tables(study())
    assert served.transfers is not None and served.families["normals"] == "3D" and served.groupings is None
    assert set(served.tasks) == {*served.transfers.targets, *served.transfers.sources}
    assert page(served) is not None


def test_a_file_tells_what_it_is(tmp_path, table, groups):
    table.write(tmp_path / "transfers.csv")
    groups.table.write(tmp_path / "groups.tsv")
    both = read_tables(tmp_path / "transfers.csv", tmp_path / "groups.tsv")
    assert both.transfers == table and both.groupings == groups.table
    assert both.families["Normals"] == "3D"
    alone = read_tables(tmp_path / "groups.tsv")
    assert alone.transfers is None and alone.groupings == groups.table
    with pytest.raises(InputError, match="give the groupings once"):
        read_tables(tmp_path / "groups.tsv", tmp_path / "groups.tsv")
    with pytest.raises(InputError, match="cannot be read"):
        read_tables(tmp_path / "nothing.csv")


def test_groupings_without_a_header_are_named_and_shown_under_their_own_file(study, tmp_path):
    (tmp_path / "plain.tsv").write_text("0.1\t0.2\n0.15\t0.25\n")
    served = read_tables(study(), tmp_path / "plain.tsv", ["a", "b"])
    assert served.groupings.tasks == ("a", "b")
    assert read_tables(tmp_path / "plain.tsv", tasks=["c", "d"]).transfers is None
    shown = text(page(served))
    assert "Measurements:  study" in shown and "Measurements:  plain.tsv" in shown
    with pytest.raises(InputError, match="tasks name the columns"):
        read_tables(tmp_path / "study", tasks=["a", "b"])
