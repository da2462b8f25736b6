"""Jobs: done once, alone in their failure, whatever becomes of their process."""

import io
import json
import os
import sys

import pytest
from rich.console import Console

from lightning_taskonomy.studies.engine import Engine, Job

JOBS = """
import os
from pathlib import Path

def write(file, text="done"):
    with open(file, "a") as opened:
        opened.write(text)

def fail(file):
    raise ValueError("no such thing")

def die(file):
    os._exit(9)

def tell(file):
    import torch
    Path(file).write_text(f"{os.getpid()} {torch.get_num_threads()} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Makes jobs of a module that workers can import."""
    (tmp_path / "jobs_of_a_test.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(function, name, **kwargs):
        file = tmp_path / "results" / name
        file.parent.mkdir(exist_ok=True)
        return Job(function, name, f"jobs_of_a_test.{function}", {"file": str(file), **kwargs}, file)

    yield make
    sys.modules.pop("jobs_of_a_test", None)


def quiet():
    return Console(file=io.StringIO())


def test_a_job_is_done_once(job, tmp_path):
    with Engine(0, console=quiet()) as engine:
        first, twin = job("write", "a"), job("write", "a")
        assert engine.run("stage", [first, twin, job("write", "b")]) == [first, job("write", "b")]
        engine.run("stage", [first])
    assert (tmp_path / "results/a").read_text() == "done"
    assert engine.failures == []


def test_a_failure_stops_only_itself(job):
    with Engine(0, console=quiet()) as engine:
        done = engine.run("stage", [job("write", "a"), job("fail", "b"), job("write", "c")])
    assert [each.name for each in done] == ["a", "c"]
    (failure,) = engine.failures
    assert (failure.name, failure.error) == ("fail b", "ValueError: no such thing")
    assert "Traceback" in failure.trace and "jobs_of_a_test" in failure.trace
    assert "failed: fail b: ValueError: no such thing" in engine.console.file.getvalue()


def test_costs_are_counted_per_kind_and_kept(job, tmp_path):
    with Engine(0, costs_file=tmp_path / "costs.json", console=quiet()) as engine:
        engine.run("stage", [job("write", "a"), job("write", "b"), job("fail", "c")])
    assert engine.costs["write"]["runs"] == 2 and "fail" not in engine.costs
    assert json.loads((tmp_path / "costs.json").read_text()) == engine.costs


def test_the_expected_end_is_what_each_kind_took_so_far():
    engine = Engine(2, console=quiet())
    assert engine._remaining({"fit": 3}) is None
    engine.costs = {"fit": {"runs": 2, "seconds": 20.0}, "encode": {"runs": 2, "seconds": 2.0}}
    assert engine._remaining({"fit": 3, "encode": 2}) == pytest.approx((3 * 10 + 2 * 1) / 2)
    assert engine._remaining({"other": 2}) == pytest.approx(5.5)  # the mean of all


def test_every_stage_says_what_is_left(job):
    with Engine(0, console=quiet()) as engine:
        engine.run("networks", [job("write", "a")])
        engine.run("networks", [job("write", "a"), job("write", "b")])
    lines = engine.console.file.getvalue().splitlines()
    assert lines[0] == "networks: 1 to run, 0 done before"
    assert "networks: 1 to run, 1 done before" in lines


def test_workers_stay_warm_and_a_dead_one_is_replaced(job, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with Engine(1, threads=1, console=quiet()) as engine:
        jobs = [job("tell", "a"), job("fail", "b"), job("tell", "c"), job("die", "d"), job("tell", "e")]
        done = engine.run("stage", jobs)
        assert [each.name for each in done] == ["a", "c", "e"]
        assert [failure.name for failure in engine.failures] == ["fail b", "die d"]
        assert "its process died (exit code 9)" in engine.failures[1].error
        pid, again, other = ((tmp_path / "results" / name).read_text().split()[0] for name in "ace")
        assert pid == again != other and str(os.getpid()) not in (pid, other)
        assert (tmp_path / "results/a").read_text().split()[1] == "1"
        process = engine._slots[0].process
    assert not process.is_alive()
