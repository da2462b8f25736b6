"""What every study is given: scheduling, the ledger, one driver per folder, resuming, its own folder's words."""

import csv
import io
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import MANIFEST, Manifest, read_runs
from lightning_taskonomy.studies.base import Study
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.ledger import Ledger
from lightning_taskonomy.studies.lock import STALE, driver_at_work, driving
from lightning_taskonomy.studies.scheduler import Scheduler
from lightning_taskonomy.studies.status import status

HERE = LocalExecutor(workers=0)
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

JOBS = """
from pathlib import Path

def write(file, text="done", log=None):
    with open(file, "a") as opened:
        opened.write(text)
    if log is not None:
        with open(log, "a") as opened:
            opened.write(Path(file).parent.name)

def nothing(file):
    pass

def fail(file):
    raise ValueError("no such thing")

def fill(file):
    raise OSError(28, "No space left on device", file)
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Makes jobs of a module that can be imported."""
    (tmp_path / "jobs_of_a_test.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(kind, name, needs=(), **arguments):
        file = tmp_path / "results" / name / "done"
        arguments = {"file": str(file), **arguments}
        return Job(
            kind=kind, name=name, function=f"jobs_of_a_test.{kind}", arguments=arguments, done=(file,),
            needs=tuple(tmp_path / "results" / other / "done" for other in needs),
        )  # fmt: skip

    yield make
    sys.modules.pop("jobs_of_a_test", None)


@pytest.fixture
def scheduler(tmp_path):
    """Does jobs in this process; its console is kept."""
    console = Console(file=io.StringIO())
    with LocalExecutor(workers=0).at(tmp_path) as executor:
        yield Scheduler(executor, Ledger(tmp_path, ["stage"]), console=console)


def run(scheduler, *jobs, later=None):
    scheduler.run(Stage(name="stage", jobs=lambda: jobs), later or {})
    scheduler.ledger.close()


def done(tmp_path):
    return {file.parent.name: file.read_text() for file in tmp_path.glob("results/*/done")}


# scheduling


def test_a_job_is_done_once(job, scheduler, tmp_path):
    run(scheduler, job("write", "a"), job("write", "a"), job("write", "b"))
    run(scheduler, job("write", "a"))
    assert done(tmp_path) == {"a": "done", "b": "done"} and scheduler.ledger.failures == []


def test_needs_come_first_however_jobs_are_ordered(job, scheduler, tmp_path):
    needs = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
    run(scheduler, *(job("write", name, needs[name], log=str(tmp_path / "log")) for name in "abcd"))
    order = (tmp_path / "log").read_text()
    assert sorted(order) == list("abcd") and order[0] == "d" and order[-1] == "a"


def test_a_failure_stops_only_what_needs_it(job, scheduler, tmp_path):
    run(
        scheduler, job("write", "d", ["c"]), job("write", "c", ["b"]), job("fail", "b"), job("write", "a"),
        job("write", "e", ["a"]), job("write", "f", ["nowhere"]),
    )  # fmt: skip
    assert set(done(tmp_path)) == {"a", "e"}
    (failure,) = json.loads((tmp_path / "failures.json").read_text())
    assert (failure["name"], failure["error"]) == ("fail b", "ValueError: no such thing")
    assert "Traceback" in failure["trace"] and "jobs_of_a_test" in failure["trace"]
    assert "failed: fail b: ValueError: no such thing" in scheduler.console.file.getvalue()
    assert not +scheduler.ledger.left


def test_a_job_that_leaves_nothing_has_failed(job, scheduler):
    run(scheduler, job("nothing", "a"))
    (failure,) = scheduler.ledger.failures
    assert "returned without leaving" in failure.error


def test_a_full_disk_ends_the_study_in_one_line(job, scheduler, tmp_path):
    with pytest.raises(InputError, match=r"the disk is full .*free some and run the same again"):
        run(scheduler, job("write", "a"), job("fill", "b"), job("write", "c"))
    assert set(done(tmp_path)) == {"a"}


def test_jobs_that_need_each_other_in_a_circle_are_refused(job, scheduler):
    with pytest.raises(ValueError, match="in a circle"):
        run(scheduler, job("write", "a", ["b"]), job("write", "b", ["a"]))


def test_done_again_on_demand_and_only_once_in_one_start(job, tmp_path):
    with LocalExecutor(workers=0) as executor:
        quiet = Console(file=io.StringIO())
        run(Scheduler(executor, Ledger(tmp_path, ["stage"]), console=quiet), job("write", "a"), job("write", "b"))
        (tmp_path / "results/a/done").write_text("old")
        again = Scheduler(executor, Ledger(tmp_path, ["stage"]), redo=True, console=quiet)
        run(again, job("write", "a"))
        run(again, job("write", "a"))
    assert done(tmp_path) == {"a": "done", "b": "done"}


def test_a_done_file_without_its_weights_is_one_line(job, scheduler, tmp_path):
    weights = tmp_path / "results/a/weights.safetensors"
    one = replace(job("write", "a"), files=(weights,))
    run(scheduler, job("write", "a"))
    with pytest.raises(InputError, match=r"write a is marked as done by .*weights.safetensors is missing; remove"):
        run(scheduler, one)
    weights.write_bytes(b"")
    run(scheduler, one)


def test_costs_are_counted_per_kind_and_tell_the_expected_end(tmp_path):
    ledger = Ledger(tmp_path, ["stage"])
    ledger.start("stage", {"fit": 3}, {}, workers=2)
    assert ledger.remaining is None
    ledger.costs = {"fit": {"runs": 2, "seconds": 20.0}, "encode": {"runs": 2, "seconds": 2.0}}
    ledger.start("stage", {"fit": 3}, {"encode": 2}, workers=2)
    assert ledger.remaining == pytest.approx((3 * 10 + 2 * 1) / 2)
    ledger.start("stage", {"other": 2}, {}, workers=2)
    assert ledger.remaining == pytest.approx(5.5)  # the mean of all


# one driver


def drive(folder, seconds):
    with driving(folder):
        time.sleep(seconds)


def test_two_processes_do_not_share_a_folder(tmp_path):
    with driving(tmp_path), pytest.raises(InputError, match=rf"process {os.getpid()} on .* runs a study"):
        drive(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
    drive(tmp_path, 0)


@pytest.mark.parametrize("locks", [True, False])
def test_a_killed_driver_leaves_nothing_that_holds_the_folder(tmp_path, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr("lightning_taskonomy.studies.lock.fcntl.flock", no_locks)
    child = multiprocessing.get_context("fork").Process(target=drive, args=(tmp_path, 60))
    child.start()
    while (driver := driver_at_work(tmp_path)) is None or not driver.host:
        time.sleep(0.01)
    with pytest.raises(InputError, match=f"process {child.pid} on"):
        drive(tmp_path, 0)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    drive(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def no_locks(*_):
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("locks", [True, False])
def test_a_driver_on_another_machine_is_known_by_its_heartbeat(tmp_path, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr("lightning_taskonomy.studies.lock.fcntl.flock", no_locks)
    file = tmp_path / ".driver"
    file.write_text(json.dumps({"host": f"not-{socket.gethostname()}", "pid": 1, "born": 5}))
    with pytest.raises(InputError, match=r"process 1 on not-.*wait 30 s"):
        drive(tmp_path, 0)
    old = time.time() - STALE - 5
    os.utime(file, (old, old))
    drive(tmp_path, 0)


# a study of one's own


@pytest.fixture
def learning_curve(monkeypatch, tmp_path):
    """Words that run the user's study of the documentation, small, from its recipe."""
    pytest.importorskip("lightning")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    out = tmp_path / "curve"
    yield (
        ["study", "--config", str(EXAMPLES / "my_study.yaml"), "--out", str(out), "--study.sizes=[4, 8]",
         "--study.epochs=1", "--study.data.init_args.train_buildings=2", "--study.data.init_args.test_buildings=1",
         "--execution=LocalExecutor", "--execution.workers=0"],
        out,
    )  # fmt: skip
    sys.modules.pop("my_study", None)


def test_a_study_whose_jobs_failed_reports_the_rest_and_exits_with_1(learning_curve, capsys, monkeypatch):
    from lightning_taskonomy.models.heads import DenseHead

    (words, out), forward, calls = learning_curve, DenseHead.forward, itertools.count()

    def fail_at_first(head, features, size):
        if next(calls) == 0:
            raise ValueError("no such luck")
        return forward(head, features, size)

    monkeypatch.setattr(DenseHead, "forward", fail_at_first)
    assert main(words) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"error: failed jobs: 1; see {out / 'failures.json'}; the same command tries them again"
    assert "no such luck" in (out / "report/index.html").read_text()
    assert main(words) == 0
    assert json.loads((out / "failures.json").read_text()) == []


def test_a_users_study_of_one_file_runs_resumes_and_reports(learning_curve, capsys):
    words, out = learning_curve
    assert main([*words, "--dry-run"]) == 0
    assert {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}["fit"] == "4"
    assert not (out / "runs").exists()
    assert main(words) == 0
    with (out / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["images"], row["seed"]) for row in rows] == [("4", "0"), ("4", "1"), ("8", "0"), ("8", "1")]
    runs = read_runs(out)
    for row, entry in zip(rows, runs, strict=True):
        metrics = json.loads((out / entry.folder / "metrics.json").read_text())
        assert float(row["mae"]) == metrics["test/depth_z/mae"]
        assert (entry.kind, entry.tasks, str(entry.seed)) == ("fit", ("depth_z",), row["seed"])
    assert (out / "report/index.html").is_file() and "curve" in (out / "report/index.html").read_text()
    before = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    assert main([*words, "--study.seeds=[0, 1, 2]"]) == 0
    after = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    assert len(after) == 6 and before.items() <= after.items()


def test_status_tells_what_is_done_and_left(learning_curve, capsys):
    words, out = learning_curve
    assert main(words) == 0
    capsys.readouterr()
    assert main(["status", str(out), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["finished"] and plain["done"] == plain["planned"] == 4 and plain["left"] == 0 and plain["seconds"] > 0
    assert plain["driver"] is None and plain["failed"] == [] and plain["running"] == []
    runs = read_runs(out)
    (out / runs[0].folder / "metrics.json").unlink()
    now = status(out)
    assert (now.done, now.planned) == (3, 4)
    each = now.seconds / 4
    assert now.left == pytest.approx(each)  # one job of one kind, one worker
    assert "3       4" in str(now)


def test_workers_and_caches_do_not_name_a_run_what_is_trained_does(learning_curve, monkeypatch):
    import my_study

    def folders(**changes):
        data = {"class_path": "RoomsDataModule", "init_args": {"size": 32, **changes}}
        study = my_study.LearningCurve("depth_z", "mae", data, {"class_path": "TimmBackbone"}, [4])
        return [run.folder for run in study.fits(Path("x")).values()]

    assert folders() == folders(num_workers=4, cache="elsewhere")
    assert folders() != folders(batch_size=3)


class Nothing(Study):
    """Plans nothing."""

    tables: ClassVar[dict[str, str]] = {}

    def __init__(self, stages: list[Stage]) -> None:
        self.planned = stages

    def stages(self, folder: Path) -> list[Stage]:
        """As given."""
        return self.planned

    def analyse(self, folder: Path) -> Iterator[tuple[str, Any]]:
        """Nothing."""
        yield from ()


class Other(Nothing):
    """Another class."""


@pytest.mark.parametrize("stages", [[], [Stage(name="fits", jobs=list)]])
def test_a_study_without_jobs_is_one_line(tmp_path, stages):
    with pytest.raises(InputError, match="Nothing plans no jobs"):
        Nothing(stages).run(tmp_path, execution=HERE)


def test_a_folder_of_another_class_or_a_newer_release_is_one_line(tmp_path, job):
    stages = [Stage(name="fits", jobs=lambda: [job("write", "a")])]
    Nothing(stages).run(tmp_path / "s", execution=HERE, stages=["fits"])
    with pytest.raises(InputError, match=r"is the folder of a Nothing, not of Other; give another --out"):
        Other(stages).run(tmp_path / "s", execution=HERE)
    manifest = Manifest.read(tmp_path / "s")
    replace(manifest, version=9).write(tmp_path / "s")
    with pytest.raises(InputError, match=r"was written by version 9 of Nothing, this is version 1"):
        Nothing(stages).run(tmp_path / "s", execution=HERE)
    replace(manifest, schema=9).write(tmp_path / "s")
    for read in (lambda: Nothing(stages).run(tmp_path / "s", execution=HERE), lambda: status(tmp_path / "s")):
        with pytest.raises(InputError, match=r"has schema 9, this release reads up to 1; install a newer release"):
            read()
    for content in ("{", "[]", '{"settings": []}'):
        (tmp_path / "s" / MANIFEST).write_text(content)
        with pytest.raises(InputError, match="is damaged"):
            status(tmp_path / "s")


def test_a_folder_without_a_study_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"holds no study.json"):
        status(tmp_path)


# folders of an earlier release


def test_what_an_earlier_release_named_is_taken_over(finished, tiny_settings, tmp_path):
    """Its folders are named as that release did: by the hash of the whole configuration."""
    import hashlib

    from lightning_taskonomy.studies.taxonomy import TaxonomyStudy

    whole, _ = finished
    out = tmp_path / "s"
    shutil.copytree(whole, out)
    (out / MANIFEST).unlink()
    study = TaxonomyStudy(**tiny_settings)
    names = {}

    def former(content):
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
        for now, before in names.items():
            text = text.replace(now, before)
        return hashlib.sha256(text.replace(str(out), "$STUDY").encode()).hexdigest()[:10]

    for stage in study.stages(out):
        for job in stage.jobs():
            for named in job.hashed_folders:
                before = named.folder.with_name(f"{named.stem}-{former(named.content)}")
                names[str(named.folder)] = str(before)
    moved = 0
    for now, before in names.items():
        assert now != before
        if Path(now).exists():
            os.rename(now, before)
            moved += 1
    for file in out.glob("runs/*/config.yaml"):
        text = file.read_text()
        for now, before in names.items():
            text = text.replace(now.replace(str(out), str(whole)), before)
        file.write_text(text)
    content = {name: (out / name).read_bytes() for name in ("affinity.csv", "losses.csv", "sanity.csv")}
    trained = {file.parent.name.rpartition("-")[0]: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    assert moved > 15
    study.run(out, execution=HERE, stages=["networks"])  # the rest is taken over too, or in a later start
    study.run(out, execution=HERE, stages=["networks", "transfers", "analysis"])
    again = {file.parent.name.rpartition("-")[0]: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    assert again == trained, "something was trained again"
    assert {name: (out / name).read_bytes() for name in content} == content
    assert not any(before in file.read_text() for file in out.glob("runs/*/config.yaml") for before in names.values())


def test_what_cannot_change_a_number_leaves_a_finished_study_finished(learning_curve):
    words, out = learning_curve
    assert main(words) == 0
    for more in (["--study.data.init_args.num_workers=1", "--stages=[analysis, report]"], ["--stages=[fits]"]):
        assert main([*words, *more]) == 0
        assert status(out).finished and len(read_runs(out)) == 4
    (out / "costs.json").write_text("{bad")
    assert main([*words, "--study.seeds=[0, 1, 2]", "--stages=[fits]"]) == 0
    assert not status(out).finished and len(read_runs(out)) == 6


def test_two_stages_of_one_title_are_refused(tmp_path, job):
    stage = Stage(name="fits", jobs=lambda: [job("write", "a")])
    with pytest.raises(InputError, match="two stages called 'fits'"):
        Nothing([stage, stage]).run(tmp_path / "s", execution=HERE)


def test_a_folder_whose_name_is_a_letter_names_runs_alike(learning_curve):
    import my_study

    study = my_study.LearningCurve("depth_z", "mae", {"class_path": "A", "init_args": {}}, {"class_path": "B"}, [4])
    names = [{run.folder.name for run in study.fits(Path(out)).values()} for out in ("a", "e", "/some/where")]
    assert names[0] == names[1] == names[2]


def test_a_study_can_be_copied(learning_curve):
    from copy import copy, deepcopy

    import my_study

    study = my_study.LearningCurve("depth_z", "mae", {"class_path": "A"}, {"class_path": "B"}, [4])
    assert copy(study) == deepcopy(study) == study and deepcopy(study).arguments == study.arguments
