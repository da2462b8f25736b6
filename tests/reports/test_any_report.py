"""What ``report``, ``solve`` and ``serve`` do with a folder goes by its ``study.json``; ``report`` takes tables too."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network
from lightning_taskonomy.affinity.table import Transfer, TransfersTable
from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import SCHEMA, Manifest, RunEntry, write_runs
from lightning_taskonomy.reports import report
from lightning_taskonomy.reports.base import Report, open_report
from lightning_taskonomy.reports.tables import read_tables


@pytest.fixture
def folder(tmp_path):
    """The folder of a user's own study: two of its three runs are done, one table is written and one is not."""
    folder = tmp_path / "curve"
    folder.mkdir()
    Manifest(
        study="my_project.LearningCurveStudy", version=1, report="lightning_taskonomy.reports.base.Report",
        tables={"curve": "curve.csv", "summary": "summary.csv"},
    ).write(folder)  # fmt: skip
    names = ("small", "middle", "large")
    write_runs(folder, [RunEntry(run=n, folder=f"runs/{n}", kind="fit", tasks=("depth",), seed=0) for n in names])
    for name in names[:2]:
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "metrics.json").write_text("{}")
    (folder / "curve.csv").write_text("images,mean_score,note\n4,0.25,<b>\n8,0.125,\n")
    costs = {"fit": {"runs": 2, "seconds": 90.0, "gpu_seconds": 5400.0}, "prepare": {"runs": 1, "seconds": 10.0}}
    (folder / "costs.json").write_text(json.dumps(costs))
    (folder / "failures.json").write_text('[{"name": "fit large", "error": "ValueError: no", "trace": "line 1"}]')
    (folder / "config.yaml").write_text("study: {class_path: my_project.LearningCurveStudy}\n")
    return folder


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_study_without_a_report_of_its_own_shows_its_tables_costs_and_failures(folder):
    path = report(folder)
    text = path.read_text()
    assert path == folder / "report/index.html" and "<h1>Learning curve</h1>" in text
    assert re.findall("<h2[^>]*>([^<]+)", text) == ["Curve", "Summary", "Costs", "Configuration", "Failures"]
    assert rows(folder / "report/curve.csv") == [
        {"images": "4", "mean score": "0.25", "note": "<b>"}, {"images": "8", "mean score": "0.125", "note": ""},
    ]  # fmt: skip
    assert "&lt;b&gt;" in text and "has not written summary.csv yet" in text
    costs = {row["what ran"]: row for row in rows(folder / "report/costs.csv")}
    assert float(costs["fit"]["GPU-hours"]) == 1.5 and float(costs["all"]["seconds"]) == 100
    assert float(costs["fit"]["seconds per run"]) == 45
    assert "ValueError: no" in text and "my_project.LearningCurveStudy" in text


def test_a_half_done_study_is_named_and_how_to_go_on(folder, capsys):
    said = open_report(folder).unfinished
    assert "LearningCurveStudy is not finished: 2 of the 3 runs planned so far are done, 1 job failed." in said
    assert "run 'lightning-taskonomy study'" in said and f"status {folder}" in said
    assert main(["report", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"report: {folder / 'report/index.html'}\n" and "is not finished" in captured.err
    assert "2 of the 3 runs planned so far" in (folder / "report/index.html").read_text()
    replace(Manifest.read(folder), finished=True).write(folder)
    assert main(["report", str(folder)]) == 0 and not capsys.readouterr().err
    assert "planned so far" not in (folder / "report/index.html").read_text()


def test_a_report_of_its_own_is_a_class_by_its_path(folder, tmp_path, monkeypatch):
    (tmp_path / "my_reports.py").write_text(
        "from lightning_taskonomy.reports.base import Report\n"
        "class Mine(Report):\n"
        "    title = 'My own'\n"
        "    def sections(self):\n"
        "        yield 'Only this', lambda page: page.text('nothing else')\n"
        "class Other: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    manifest = Manifest.read(folder)
    replace(manifest, report="my_reports.Mine").write(folder)
    text = report(folder, tmp_path / "elsewhere").read_text()
    assert "<h1>My own</h1>" in text and re.findall("<h2[^>]*>([^<]+)", text) == ["Only this"]
    assert not (folder / "report").exists()
    for named, message in (
        ("my_reports.Other", "which is not a subclass of lightning_taskonomy.reports.base.Report"),
        ("my_reports.Nothing", "which cannot be imported"),
        ("no_such_module.Mine", "which cannot be imported .*set PYTHONPATH"),
        ("", "which cannot be imported"),
    ):
        replace(manifest, report=named).write(folder)
        with pytest.raises(InputError, match=message) as refused:
            open_report(folder)
        assert "\n" not in str(refused.value)


def test_a_newer_schema_is_refused(folder, capsys):
    plain = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**plain, "schema": SCHEMA + 1}))
    assert main(["report", str(folder)]) == 1
    assert "install a newer release" in capsys.readouterr().err


@pytest.mark.parametrize("damaged", ["images,mae\n4\n", "images,mae\n4,\udcff\n"])
def test_a_damaged_table_is_named(folder, damaged):
    (folder / "curve.csv").write_bytes(damaged.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"curve\.csv"):
        report(folder)


def test_a_class_by_itself_serves_any_study(folder):
    assert Report(folder).write() == folder / "report/index.html"
    with pytest.raises(InputError, match=r"holds no study\.json"):
        Report(folder.parent)


# tables


@pytest.fixture
def tables(tmp_path):
    """A table of transfers and one of groupings."""
    rng = np.random.default_rng(0)
    tasks = ("edges_2d", "depth_z", "normals")
    transfers = [Transfer(task, 1, (task,), "task_specific", 1.0, 0.5, 0.9) for task in tasks]
    transfers += [Transfer(t, 1, (s,), "transfer", *rng.uniform(0.1, 0.8, 3)) for t in tasks for s in tasks if s != t]
    TransfersTable.of(transfers).write(tmp_path / "transfers.csv")
    networks = [Network((task,), 0.5, (0.3,)) for task in tasks] + [Network(tasks, 1.0, (0.2, 0.2, 0.4))]
    GroupingsTable(tasks, tuple(networks)).write(tmp_path / "groups.tsv")
    return tmp_path / "transfers.csv", tmp_path / "groups.tsv"


def test_a_table_of_transfers_has_a_report_that_recommends_a_budget(tables, capsys):
    transfers, _ = tables
    assert main(["report", str(transfers)]) == 0
    page = transfers.parent / "transfers-report/index.html"
    assert capsys.readouterr().out == f"report: {page}\n"
    assert "With a budget of " in page.read_text() and "from which on more budget pays less" in page.read_text()
    assert {row["budget"] for row in rows(page.parent / "solutions.csv")} == {"1", "2", "3"}


def test_a_table_of_groupings_has_a_report_of_even_budgets(tables, capsys):
    _, groupings = tables
    assert main(["report", str(groupings), "--out", str(groupings.parent / "page")]) == 0
    by_budget = {float(row["budget"]): row for row in rows(groupings.parent / "page/solutions.csv")}
    assert (
        min(by_budget) == 1.0
        and by_budget[1.0]["networks"] == "1"
        and float(by_budget[1.0]["total loss"]) == pytest.approx(0.8)
    )
    assert float(by_budget[max(by_budget)]["total loss"]) == pytest.approx(0.7)  # all together, and normals alone
    groupings.write_text("0.1\t0.2\n0.15\t0.25\n")
    assert main(["report", str(groupings), "--tasks", "[a, b]"]) == 0
    assert "keep a (cost 0.5) and b (cost 0.5)" in (groupings.parent / "groups-report/index.html").read_text()
    capsys.readouterr()
    assert main(["report", str(groupings)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_columns_of_a_folder_are_refused(folder, capsys):
    assert main(["report", str(folder), "--tasks", "[a]"]) == 1
    assert "holds LearningCurveStudy without a table of transfers; it has curve, summary" in capsys.readouterr().err


# folders in place of tables


@pytest.fixture
def decided(folder, tables):
    """A user's study that has both tables."""
    for file in tables:
        file.rename(folder / file.name)
    tables = {"transfers": "transfers.csv", "groupings": "groups.tsv"}
    replace(Manifest.read(folder), tables=tables, settings={"seed": 7}).write(folder)
    return folder


def test_solve_takes_a_study_s_folder(decided, capsys):
    for kind, option, name in (("taxonomy", "transfers", "transfers.csv"), ("grouping", "validation", "groups.tsv")):
        answers = []
        for place in (decided, decided / name):
            assert main(["solve", kind, f"--{option}", str(place), "--budget", "1", "--json"]) == 0
            answers.append(re.sub(r'"seconds": [^,]+', "", capsys.readouterr().out))
        assert answers[0] == answers[1]


def test_solve_says_what_a_folder_lacks(folder, decided, capsys):
    (decided / "transfers.csv").unlink()
    for place, message in (
        (decided, "has not written transfers.csv"), (folder.parent, "holds no study.json"),
    ):  # fmt: skip
        assert main(["solve", "taxonomy", "--transfers", str(place)]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_the_page_shows_both_tables_of_a_folder_and_knows_its_settings(decided, folder):
    tables = read_tables(decided)
    assert (tables.title, tables.groupings_title, tables.settings) == ("curve", "groups.tsv", {"seed": 7})
    assert tables.transfers is not None and tables.groupings is not None and tables.families["normals"] == "3D"
    (decided / "tasks.json").write_text('{"normals": {"family": "2D"}, "depth_z": {"family": ""}}')
    assert read_tables(decided).families == {"normals": "2D", "depth_z": "3D", "edges_2d": "2D"}
    replace(Manifest.read(decided), tables={"groupings": "groups.tsv"}).write(decided)
    assert read_tables(decided).transfers is None
    replace(Manifest.read(decided), tables={"curve": "curve.csv"}).write(decided)
    with pytest.raises(InputError, match="without a table of transfers; it has curve"):
        read_tables(decided)
