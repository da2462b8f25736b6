"""One process per job and one driver per folder, where the file system has locks and where it has none."""

import errno
import json
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies import lock
from lightning_taskonomy.studies.executors.base import perform
from lightning_taskonomy.studies.lock import claimed, driving, drop_claim

FORK = multiprocessing.get_context("fork")


def no_locks(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.fixture(params=[True, False], ids=["locks", "no locks"])
def locks(request, monkeypatch):
    """A file system with locks, and one without."""
    if not request.param:
        monkeypatch.setattr("lightning_taskonomy.studies.lock.fcntl.flock", no_locks)


def elsewhere(**changes):
    """What a process of another machine would write."""
    return json.dumps({"host": f"not-{socket.gethostname()}", "pid": 1, "born": 5, "boot": "b", "token": "t"} | changes)


def nap(file, seconds):
    """A job: it appends to a log when it ends, and says so if another one is at it."""
    mark = Path(f"{file}.at_work")
    with mark.open("x"):
        time.sleep(seconds)
    with Path(f"{file}.log").open("a") as log:
        log.write(f"{os.getpid()}\n")
    Path(file).touch()
    mark.unlink()


def start(function, *arguments):
    process = FORK.Process(target=function, args=arguments)
    process.start()
    return process


def do(file, seconds):
    perform(f"{__name__}.nap", {"file": str(file), "seconds": seconds}, [Path(file)])


@pytest.fixture(autouse=True)
def job(monkeypatch):
    """The job by its dotted path, without importing this module once more."""
    monkeypatch.setattr("lightning_taskonomy.studies.executors.base.pkgutil.resolve_name", lambda _: nap)


def test_of_processes_with_one_job_one_does_it_and_the_others_find_it_done(tmp_path, locks):
    processes = [start(do, tmp_path / "a" / "done", 0.2) for _ in range(4)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len((tmp_path / "a" / "done.log").read_text().split()) == 1
    assert {file.name for file in (tmp_path / "a").iterdir()} == {"done", "done.log"}


def test_jobs_whose_files_share_a_folder_do_not_wait_for_each_other(tmp_path):
    before = time.monotonic()
    processes = [start(do, tmp_path / name, 0.5) for name in "abcd"]
    for process in processes:
        process.join()
    assert time.monotonic() - before < 1.5, "in turns they would take two seconds"


def test_a_job_may_leave_its_file_in_the_folder_of_the_study_itself(tmp_path, locks):
    with driving(tmp_path):
        process = start(do, tmp_path / "done", 0)
        process.join(20)
        process.kill()
    assert (tmp_path / "done").exists()


def test_a_job_whose_process_was_killed_is_done_by_the_next(tmp_path, locks):
    file = tmp_path / "done"
    process = start(do, file, 60)
    while not (tmp_path / "done.at_work").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)  # not asked for yet: the kernel still lists it
    (tmp_path / "done.at_work").unlink()
    before = time.monotonic()
    do(file, 0)
    assert time.monotonic() - before < 2
    process.join()
    assert {path.name for path in tmp_path.iterdir()} == {"done", "done.log"}


def test_a_job_that_raises_leaves_no_claim(tmp_path, monkeypatch):
    def fail(**_):
        raise RuntimeError("no such thing")

    monkeypatch.setattr("lightning_taskonomy.studies.executors.base.pkgutil.resolve_name", lambda _: fail)
    with pytest.raises(RuntimeError, match="no such thing"):
        do(tmp_path / "done", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_job_of_another_machine_is_waited_for_while_its_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_LOST", 0.6)
    claim = tmp_path / ".done.claim"
    claim.write_text(elsewhere())
    process = start(do, tmp_path / "done", 0)
    for _ in range(10):  # longer than it takes to count as lost
        time.sleep(0.15)
        os.utime(claim)
        assert not (tmp_path / "done").exists()
    beat = time.monotonic()
    process.join()
    assert 0.5 < time.monotonic() - beat < 5
    assert {path.name for path in tmp_path.iterdir()} == {"done", "done.log"}


@pytest.mark.parametrize("changes", [{"host": socket.gethostname()}, {"pid": os.getpid()}])
def test_a_container_of_the_same_name_is_another_machine(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(lock, "_LOST", 0.4)
    (tmp_path / ".done.claim").write_text(elsewhere(**changes))
    before = time.monotonic()
    with claimed(tmp_path / "done"):
        assert time.monotonic() - before > 0.4
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_was_taken_over_is_not_removed_by_its_earlier_owner(tmp_path):
    claim = tmp_path / ".done.claim"
    with claimed(tmp_path / "done"):
        claim.write_text(elsewhere())
    assert claim.read_text() == elsewhere()


def test_a_full_disk_leaves_no_empty_claim(tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock.os, "fdopen", full)
    with pytest.raises(OSError, match="No space left"), claimed(tmp_path / "done"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", '{"host": "', "[]"])
def test_a_claim_cut_short_by_a_kill_is_taken_over_in_the_end(tmp_path, monkeypatch, content):
    monkeypatch.setattr(lock, "_LOST", 0.3)
    (tmp_path / ".done.claim").write_text(content)
    do(tmp_path / "done", 0)
    assert {path.name for path in tmp_path.iterdir()} == {"done", "done.log"}


@pytest.mark.parametrize(
    ("owner", "age", "stays"),
    [
        ({"host": socket.gethostname(), "boot": "", "pid": 2**22 + 1}, 0, False),
        ({"host": socket.gethostname(), "boot": "", "pid": os.getpid(), "born": lock._born(os.getpid())}, 999, True),
        ({}, lock._LOST - 20, True),
        ({}, lock._LOST + 20, False),
    ],
)
def test_a_claim_beside_a_file_that_is_made_goes_with_the_process_that_left_it(tmp_path, owner, age, stays):
    claim = tmp_path / ".done.claim"
    claim.write_text(elsewhere(**owner))
    os.utime(claim, (time.time() - age,) * 2)
    drop_claim(tmp_path / "done")
    assert claim.exists() is stays


def compete(folder, barrier, queue):
    barrier.wait()
    try:
        with driving(folder):
            mark = folder / f"inside.{os.getpid()}"
            mark.touch()
            barrier.wait()  # all have tried
            queue.put(len(list(folder.glob("inside.*"))))
    except InputError:
        barrier.wait()
        queue.put(0)


def test_of_drivers_that_come_at_once_over_a_dead_one_one_enters(tmp_path, locks):
    for turn in range(8):
        folder = tmp_path / str(turn)
        folder.mkdir()
        (folder / ".driver").write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "born": 5}))
        barrier, queue = FORK.Barrier(4), FORK.Queue()
        processes = [start(compete, folder, barrier, queue) for _ in range(4)]
        assert sorted(queue.get() for _ in processes) == [0, 0, 0, 1]
        for process in processes:
            process.join()
