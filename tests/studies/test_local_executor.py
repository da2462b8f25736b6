"""What local workers cost the machine: memory that is theirs, processes that their jobs start, a disk that is full."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.executors import LocalExecutor

FOLDER = Path(__file__).parent

JOBS = """
import os, subprocess, time
from pathlib import Path
import numpy as np

kept = []

def read_map(done, file):
    pages = np.memmap(file, mode="r")
    assert pages.sum() == 0
    kept.append(pages)
    Path(done).write_text(str(os.getpid()))

def read_whole(done, file):
    kept.append(np.fromfile(file, dtype=np.uint8) + 1)
    Path(done).write_text(str(os.getpid()))

def start_another(done):
    command = ["sh", "-c", "sleep 600 & echo $! > " + done + ".child; wait"]
    subprocess.run(command)

def write_much(done):
    with open(done + ".much", "wb") as file:
        file.write(bytes(2**22))
    Path(done).touch()
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """The driver of the contract, with the jobs above."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "jobs_of_a_machine.py").write_text(JOBS)
    for folder in (FOLDER, tmp_path / "jobs"):
        monkeypatch.syspath_prepend(str(folder))
    import executor_jobs

    def job(folder, function, name, **arguments):
        file = folder / "results" / name / "done"
        return executor_jobs.Job(
            kind=function, name=name, function=f"jobs_of_a_machine.{function}",
            arguments={"done": str(file), **arguments}, done=(file,),
        )  # fmt: skip

    monkeypatch.setattr(executor_jobs, "job", job)
    yield executor_jobs
    sys.modules.pop("executor_jobs", None)


@pytest.mark.parametrize(("function", "processes"), [("read_map", 1), ("read_whole", 3)])
def test_a_worker_is_replaced_for_memory_of_its_own_not_for_files_that_it_maps(jobs, tmp_path, function, processes):
    file = tmp_path / "cache.bin"
    np.zeros(300 * 10**6, np.uint8).tofile(file)
    graph = [jobs.job(tmp_path, function, name, file=str(file)) for name in "abc"]
    assert jobs.drive(tmp_path, LocalExecutor(workers=1, memory_gb=0.2), graph).failures == []
    assert len({path.read_text() for path in tmp_path.glob("results/*/done")}) == processes


@pytest.mark.parametrize("limit", [True, False], ids=["at its time limit", "when the study ends with an error"])
def test_what_a_job_has_started_is_stopped_with_it(jobs, tmp_path, limit):
    graph = [jobs.job(tmp_path, "start_another", "a")]
    if limit:
        executor = LocalExecutor(workers=1, retries=0, time_limits={"start_another": 1.0})
        (failure,) = jobs.drive(tmp_path, executor, graph).failures
        assert "time limit" in failure.error
    else:
        executor = LocalExecutor(workers=1).__enter__()
        executor.submit(graph[0])
        while not (tmp_path / "results/a/done.child").exists():
            executor.wait()
        executor.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    child = int((tmp_path / "results/a/done.child").read_text())
    end = time.monotonic() + 5
    while jobs.lives(child):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_ends_the_study_in_one_line_and_goes_on_once_there_is_room(jobs, small_disk):
    graph = [jobs.job(small_disk, "write_much", "a")]
    with pytest.raises(InputError, match=r"the disk is full .*free some and run the same again"):
        jobs.drive(small_disk, LocalExecutor(workers=1), graph)
    assert not [file for file in small_disk.rglob(".*") if file.is_file()], "no lock, no half a file"
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert jobs.drive(small_disk, LocalExecutor(workers=1), graph).failures == []
    assert graph[0].is_done
