"""The contract of executors: one class of tests that each passes. Jobs and driver are in ``executor_jobs.py``."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.executors import Executor, LocalExecutor, RayExecutor, SlurmExecutor

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def jobs(monkeypatch):
    """The jobs' module, importable here and in other processes."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")]))
    import executor_jobs

    yield executor_jobs
    sys.modules.pop("executor_jobs", None)


class Contract:
    """What a study relies on, whatever runs its jobs."""

    kind: type[Executor]
    options: ClassVar[dict[str, object]] = {}
    outlives = False  # whether jobs go on when the driver is killed, as those of a batch system do
    span = 3.0  # seconds that a study of the contract takes, start-up included, and within which its driver is killed

    @pytest.fixture
    def make(self):
        """Makes an executor with further options."""
        return lambda **options: self.kind(**{**self.options, **options})

    @pytest.fixture
    def results(self, tmp_path):
        """The folders of jobs that left their file, with its text."""
        return lambda: {file.parent.name: file.read_text() for file in tmp_path.glob("results/*/done")}

    def left_behind(self, folder):
        """Locks, and what was done twice."""
        names = ("twice", "at_work", ".driver")
        return [file for file in folder.rglob("*") if file.name in names or file.suffix in (".claim", ".takeover")]

    def test_needs_come_before_jobs_and_nothing_is_done_twice(self, jobs, make, results, tmp_path):
        jobs.drive(tmp_path, make(), jobs.study(tmp_path, 0.02)[::-1])
        assert results() == {f"{layer}-{place}": f"{layer}{place}" for layer in range(3) for place in range(4)}
        for before, after in pairwise(range(3)):
            for place in range(4):
                done = (tmp_path / f"results/{after}-{place}/done").stat().st_mtime_ns
                for other in (place, (place + 1) % 4):
                    assert (tmp_path / f"results/{before}-{other}/done").stat().st_mtime_ns <= done
        assert self.left_behind(tmp_path) == []

    def test_a_job_that_raises_stops_only_what_needs_it(self, jobs, make, results, tmp_path):
        graph = [
            jobs.job(tmp_path, "fail", "b"), jobs.job(tmp_path, "work", "c", ("b",)), jobs.job(tmp_path, "work", "a"),
        ]  # fmt: skip
        (failure,) = jobs.drive(tmp_path, make(), graph).failures
        assert (failure.name, failure.error) == ("fail b", "ValueError: no such thing")
        assert "executor_jobs" in failure.trace and set(results()) == {"a"}

    def test_a_worker_that_is_killed_loses_its_job_alone_which_is_tried_again(self, jobs, make, results, tmp_path):
        graph = [jobs.job(tmp_path, "die", "a", times=1), *(jobs.job(tmp_path, "work", name) for name in "bcd")]
        assert jobs.drive(tmp_path, make(), graph).failures == []
        assert set(results()) == set("abcd") and self.left_behind(tmp_path) == []
        assert (tmp_path / "results/a/tries").read_text() == "2"

    def test_retries_are_bounded(self, jobs, make, results, tmp_path):
        graph = [jobs.job(tmp_path, "die", "a", times=9), jobs.job(tmp_path, "work", "b")]
        (failure,) = jobs.drive(tmp_path, make(retries=1), graph).failures
        assert failure.name == "die a" and failure.error and set(results()) == {"b"}
        assert (tmp_path / "results/a/tries").read_text() == "2"

    def test_a_job_that_hangs_is_stopped_at_its_time_limit(self, jobs, make, results, tmp_path):
        graph = [jobs.job(tmp_path, "hang", "a"), jobs.job(tmp_path, "work", "b")]
        (failure,) = jobs.drive(tmp_path, make(retries=0, time_limits={"hang": 4.0}), graph).failures
        assert failure.name == "hang a" and "limit" in failure.error and set(results()) == {"b"}
        assert not jobs.lives(int((tmp_path / "results/a/pid").read_text()))

    def test_a_full_disk_ends_the_study_in_one_line(self, jobs, make, tmp_path):
        with pytest.raises(InputError, match=r"the disk is full .*free some and run the same again"):
            jobs.drive(tmp_path, make(), [jobs.job(tmp_path, "fill", "a")])
        assert self.left_behind(tmp_path) == []

    def test_a_job_that_owns_two_runs_keeps_the_finished_one(self, jobs, make, results, tmp_path):
        files = tuple(tmp_path / "results" / name / "done" for name in "ab")
        for file in files:
            file.parent.mkdir(parents=True)
        one = jobs.Job(
            kind="two", name="a and b", function="executor_jobs.two", arguments={"done": list(map(str, files))},
            done=files,
        )  # fmt: skip
        assert jobs.drive(tmp_path, make(), [one]).failures == []
        assert set(results()) == {"a", "b"} and self.left_behind(tmp_path) == []

    def test_no_process_is_left(self, jobs, make, tmp_path):
        graph = [jobs.job(tmp_path, "tell", name, variables=["OMP_NUM_THREADS"]) for name in "abcd"]
        jobs.drive(tmp_path, make(), graph)
        workers = [json.loads(file.read_text()) for file in tmp_path.glob("results/*/done")]
        assert len(workers) == 4 and not any(worker["torch"] for worker in workers), "jobs without torch load none"
        assert {worker["OMP_NUM_THREADS"] for worker in workers} == {"1"}
        end = time.monotonic() + 20
        while any(jobs.lives(worker["pid"]) for worker in workers if worker["pid"] != os.getpid()):
            assert time.monotonic() < end, "a worker is left"
            time.sleep(0.1)

    def driver(self, folder, pace):
        """A process that does the study; its options are plain data."""
        path = f"{self.kind.__module__}.{self.kind.__qualname__}"
        command = [sys.executable, str(FOLDER / "executor_jobs.py"), str(folder), path, json.dumps(self.options), pace]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill_after(self, process, folder, count, patience=120):
        """Kills a driver as soon as so many jobs are done."""
        end = time.monotonic() + patience
        while len(list(folder.glob("results/*/done"))) < count:
            assert process.poll() is None, "it ended before"
            assert time.monotonic() < end
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def test_a_driver_that_is_killed_is_started_again_and_goes_on(self, jobs, make, results, tmp_path):
        self.kill_after(self.driver(tmp_path, "0.2"), tmp_path, 3)
        before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("results/*/done")}
        if not self.outlives:
            time.sleep(1.5)
            after = set(tmp_path.glob("results/*/done"))
            time.sleep(0.5)
            assert set(tmp_path.glob("results/*/done")) == after, "a worker outlived its driver"
        jobs.drive(tmp_path, make(), jobs.study(tmp_path, 0.02))
        assert len(results()) == 12 and self.left_behind(tmp_path) == []
        assert before.items() <= {file: file.stat().st_mtime_ns for file in tmp_path.glob("results/*/done")}.items()

    def kill_node(self, request, jobs, workers):
        """Kills the node of one of some workers: here the machine's workers, at once."""
        for worker in workers:
            os.kill(worker, signal.SIGKILL)

    def at_work(self, jobs, folder):
        """Processes that do a job."""
        processes = set()
        for mark in folder.glob("results/*/at_work"):
            with suppress(FileNotFoundError, ValueError):  # the job has ended or begins
                processes.add(int(mark.read_text()))
        return sorted(filter(jobs.lives, processes))

    @pytest.mark.slow
    @pytest.mark.parametrize("what", ["worker", "driver", "node"])
    def test_killed_at_ten_random_moments_it_ends_as_an_unbroken_one(self, request, jobs, make, tmp_path, what):
        moments, kills, folders, process = random.Random(what), 0, [tmp_path / "0"], None
        expected = {f"{layer}-{place}": f"{layer}{place}" for layer in range(3) for place in range(4)}
        while kills < 10:  # all meet a study that is not done; one that ends between two is followed by another
            if len(list(folders[-1].glob("results/*/done"))) == len(expected):
                process.wait()
                folders.append(tmp_path / str(len(folders)))
            if process is None or process.poll() is not None:
                process = self.driver(folders[-1], "0.3")
            time.sleep(moments.uniform(0, self.span if what == "driver" else 0.6))
            workers = self.at_work(jobs, folders[-1])
            if what == "driver" and process.poll() is None:
                unfinished = len(list(folders[-1].glob("results/*/done"))) < len(expected)
                process.kill()
                process.wait()
                kills += unfinished
            elif what != "driver" and workers:
                try:
                    if what == "worker":
                        os.kill(moments.choice(workers), signal.SIGKILL)
                    else:
                        self.kill_node(request, jobs, workers)
                except ProcessLookupError:
                    continue  # it has ended meanwhile
                kills += 1
        process.wait()
        for folder in folders:
            assert jobs.drive(folder, make(), jobs.study(folder, 0.02)).failures == []
            assert {file.parent.name: file.read_text() for file in folder.glob("results/*/done")} == expected
            assert [file for file in self.left_behind(folder) if file.name != "at_work"] == []  # that is the job's own


class TestLocal(Contract):
    kind = LocalExecutor
    options: ClassVar = {"workers": 2}

    def test_a_worker_that_holds_too_much_is_replaced_and_others_stay_warm(self, jobs, make, tmp_path):
        for limit, processes in ((0, 1), (1e-6, 3)):
            folder = tmp_path / str(limit)
            graph = [jobs.job(folder, "tell", name, variables=[]) for name in "abc"]
            jobs.drive(folder, make(workers=1, memory_gb=limit), graph)
            pids = {json.loads(file.read_text())["pid"] for file in folder.glob("results/*/done")}
            assert len(pids) == processes and os.getpid() not in pids

    def test_a_worker_that_died_idle_costs_a_try_and_no_more(self, jobs, make, results, tmp_path, monkeypatch):
        """It is dead when its job is sent, and nobody has noticed yet."""
        with make(workers=1).at(tmp_path) as executor:
            first, second = (jobs.job(tmp_path, "work", name) for name in "ab")
            executor.submit(first)
            while not executor.wait():
                continue
            (slot,) = executor._slots
            slot.process.kill()
            slot.process.join()
            with monkeypatch.context() as patch:
                patch.setattr(slot.process, "is_alive", lambda: True)
                executor.submit(second)
            (outcome,) = executor.wait()
            assert outcome.job is second and outcome.lost and "process died" in outcome.error
            executor.submit(second)
            while not executor.wait():
                continue
        assert set(results()) == {"a", "b"}

    def test_several_workers_share_a_device(self, jobs, make, tmp_path, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
        with make(workers=5, slots_per_device=2) as executor:
            devices = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in executor._slots]
            assert devices == ["3", "3", "5", "5", "3"] and {slot.devices for slot in executor._slots} == {0.5}
        graph = [jobs.job(tmp_path, "tell", "a", variables=["CUDA_VISIBLE_DEVICES"])]
        ledger = jobs.drive(tmp_path, make(workers=1, slots_per_device=2), graph)
        assert json.loads((tmp_path / "results/a/done").read_text())["CUDA_VISIBLE_DEVICES"] == "3"
        assert ledger.costs["tell"]["gpu_seconds"] == pytest.approx(ledger.costs["tell"]["seconds"] / 2, abs=2e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers is -1, must be at least 0"),
        ({"threads": 0}, "threads is 0"),
        ({"slots_per_device": 0}, "slots_per_device is 0"),
        ({"memory_gb": -1.0}, "memory_gb is -1.0"),
        ({"retries": -1}, "retries is -1"),
        ({"time_limits": {"fit": 0.0}}, "the time limit of 'fit' is 0.0"),
    ],
)
def test_settings_out_of_range_are_one_line(options, message):
    with pytest.raises(InputError, match=message):
        LocalExecutor(**options)


def patiently(holds, seconds=60):
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def descendants(pid):
    """Processes below one."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return below - {pid}


@pytest.fixture(scope="class")
def cluster(request):
    """Two nodes with a CPU each, for a class of tests."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    request.cls.options = {"address": cluster.address}
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestRay(Contract):
    kind = RayExecutor
    span = 12.0

    def test_a_node_that_is_lost_costs_only_what_ran_there(self, jobs, make, results, cluster, tmp_path):
        node = cluster.add_node(num_cpus=1)
        (raylet,) = node.all_processes["raylet"]
        graph = [jobs.job(tmp_path, "work", name, seconds=15) for name in "abc"]
        executor, tries = make(), Counter()
        submit = executor.submit
        executor.submit = lambda job: (tries.update([job.name]), submit(job))
        with ThreadPoolExecutor() as threads:
            study = threads.submit(jobs.drive, tmp_path, executor, graph)
            patiently(lambda: [bool(mark.read_text()) for mark in tmp_path.glob("results/*/at_work")] == [True] * 3)
            below = descendants(raylet.process.pid)
            there = [m.parent.name for m in tmp_path.glob("results/*/at_work") if int(m.read_text()) in below]
            cluster.remove_node(node, allow_graceful=False)
            ledger = study.result()
        assert len(there) == 1 and tries == {name: 1 + (name in there) for name in "abc"}
        assert ledger.failures == [] and set(results()) == set("abc") and self.left_behind(tmp_path) == []

    def test_a_node_that_joins_is_used(self, jobs, make, results, cluster, tmp_path):
        graph = [jobs.job(tmp_path, "work", name, seconds=12) for name in "ab"]
        graph.append(jobs.job(tmp_path, "tell", "c", variables=["RAY_RAYLET_PID"]))
        with ThreadPoolExecutor() as threads:  # Ray starts nodes in the main thread alone
            study = threads.submit(jobs.drive, tmp_path, make(), graph)
            patiently(lambda: len(list(tmp_path.glob("results/*/at_work"))) == 2)
            node = cluster.add_node(num_cpus=1)
            (raylet,) = node.all_processes["raylet"]
            assert study.result().failures == []
        cluster.remove_node(node)
        assert json.loads(results()["c"])["RAY_RAYLET_PID"] == str(raylet.process.pid)
        times = [(tmp_path / f"results/{name}/done").stat().st_mtime_ns for name in "cab"]
        assert times[0] < min(times[1:]), "it did not wait for the others"

    def test_jobs_reserve_shares_of_a_gpu_by_kind(self, jobs, make, results, cluster, tmp_path):
        node = cluster.add_node(num_cpus=3, num_gpus=1)
        variables = ["CUDA_VISIBLE_DEVICES", "OPENBLAS_NUM_THREADS", "HERE"]
        graph = [jobs.job(tmp_path, "work", name, seconds=1.5) for name in "abc"]
        graph.append(jobs.job(tmp_path, "tell", "d", ("a", "b", "c"), variables=variables))
        options = {"gpus": {"work": 0.5, "tell": 0}, "threads": 2, "variables": {"HERE": "there"}}
        try:
            ledger = jobs.drive(tmp_path, make(**options), graph)
            with make() as executor:
                assert executor.workers == 1, "kinds that are not named take a GPU"
        finally:
            cluster.remove_node(node)
        assert ledger.failures == [] and set(results()) == set("abcd")
        assert ledger.costs["work"]["gpu_seconds"] == pytest.approx(ledger.costs["work"]["seconds"] / 2, abs=2e-3)
        assert "gpu_seconds" not in ledger.costs["tell"]
        assert [json.loads(results()["d"])[name] for name in variables] == ["", "2", "there"]

    def test_what_the_cluster_cannot_do_is_one_line(self, make):
        with (
            pytest.raises(InputError, match=r"gpus asks for 0\.5, but no node of the Ray cluster has a GPU"),
            make(gpus={"fit": 0.5}),
        ):
            pass
        with pytest.raises(InputError, match="no node of the Ray cluster has 64 CPUs"), make(cpus=64):
            pass

    def kill_node(self, request, jobs, workers):
        """Kills the node that is not the head's, and starts another."""
        cluster = request.getfixturevalue("cluster")
        cluster.remove_node(sorted(cluster.worker_nodes, key=lambda node: node.node_id)[0], allow_graceful=False)
        cluster.add_node(num_cpus=1)


@pytest.mark.slow
def test_a_ray_cluster_started_here_is_seen_from_nowhere_else_and_ends_with_the_driver(jobs, tmp_path):
    pytest.importorskip("ray")
    command = [sys.executable, str(FOLDER / "executor_jobs.py"), str(tmp_path)]
    command += ["lightning_taskonomy.studies.executors.RayExecutor", '{"workers": 2}', "0.3"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    patiently(lambda: driver.poll() is not None or len(list(tmp_path.glob("results/*/done"))) >= 3, 120)
    assert driver.poll() is None
    below = descendants(driver.pid)
    assert len(below) > 4
    sockets = {os.readlink(fd) for pid in below for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    listening = [
        fields[1].rpartition(":")[0]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
    ]
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert listening and set(listening) <= loopback
    agents = {pid for pid in below if "Agent" in Path(f"/proc/{pid}/cmdline").read_text()}
    driver.kill()
    driver.wait()
    patiently(lambda: not any(map(jobs.lives, below - agents)), 20)
    patiently(lambda: not any(map(jobs.lives, agents)), 120)  # Ray's agents, which do no jobs, try to report it first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0, must be at least 1"),
        ({"cpus": 0}, "cpus is 0, must be at least 1"),
        ({"threads": 0}, "threads is 0, must be at least 1"),
        ({"gpus": {"fit": 1.5}}, "gpus of 'fit' is 1.5, must be a share between 0 and 1 or a whole number"),
        ({"gpus": {"fit": -0.5}}, "gpus of 'fit' is -0.5"),
        ({"address": "cluster"}, "address is 'cluster', must be auto, host:port or ray://host:port"),
        ({"retries": -1}, "retries is -1"),
    ],
)
def test_settings_of_ray_out_of_range_are_one_line(options, message):
    with pytest.raises(InputError, match=message):
        RayExecutor(**options)


def test_ray_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        InputError, match=r'^the Ray executor needs an extra: pip install "lightning-taskonomy\[ray\]"$'
    ):
        RayExecutor()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_without_ray_is_refused_at_once(scheme):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(InputError, match=f"no Ray cluster answers at {address}; .*refused") as caught:
            RayExecutor(address).__enter__()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_something_else_at_the_address_is_refused_within_bounds(scheme):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(InputError, match="Ray cluster"):
            RayExecutor(f"{scheme}127.0.0.1:{server.getsockname()[1]}").__enter__()
    assert time.monotonic() - start < 45


class TestSubmitit(Contract):
    """Chunks by submitit's local executor: the same code as under SLURM but for sbatch and squeue."""

    kind = SlurmExecutor
    options: ClassVar = {"cluster": "local", "workers": 2, "chunk": 3}
    outlives = True
    span = 6.0

    def kill_node(self, request, jobs, workers):
        """Kills the process of a chunk; its worker goes with it."""
        stat = Path(f"/proc/{workers[0]}/stat")
        os.kill(int(stat.read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)

    def later(self, jobs, folder, what):
        """Does something to the first job's process and its chunk's as soon as the job is at work."""

        def act():
            mark = folder / "results/a/at_work"
            end = time.monotonic() + 60
            while not (mark.exists() and mark.read_text()):
                assert time.monotonic() < end
                time.sleep(0.01)
            worker = int(mark.read_text())
            parent = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
            what(worker, parent)

        thread = threading.Thread(target=act)
        thread.start()
        return thread

    def test_a_chunk_whose_node_is_lost_loses_what_it_was_doing_and_no_more(self, jobs, make, results, tmp_path):
        thread = self.later(jobs, tmp_path, lambda worker, parent: os.kill(parent, signal.SIGKILL))
        graph = [jobs.job(tmp_path, "work", name, seconds=1.0) for name in "abc"]
        (failure,) = jobs.drive(tmp_path, make(workers=1, retries=0), graph).failures
        thread.join()
        assert failure.name == "work a" and "is gone" in failure.error and set(results()) == {"b", "c"}

    def test_a_chunk_that_is_preempted_goes_on_and_no_try_is_counted(self, jobs, make, results, tmp_path):
        def preempt(worker, parent):  # as SLURM does: each process of the chunk is signalled
            for number in (signal.SIGTERM, signal.SIGUSR2):
                for process in (worker, parent):
                    os.kill(process, number)
                time.sleep(0.3)
                assert number == signal.SIGUSR2 or jobs.lives(worker)

        thread = self.later(jobs, tmp_path, preempt)
        graph = [jobs.job(tmp_path, "work", name, seconds=1.0) for name in "abc"]
        assert jobs.drive(tmp_path, make(workers=1, retries=0), graph).failures == []
        thread.join()
        assert set(results()) == set("abc") and not list(tmp_path.rglob("twice"))
        assert len(list(tmp_path.glob("slurm/logs/*_submitted.pkl"))) == 1, "it was submitted again"
        assert any("equeued" in file.read_text() for file in tmp_path.glob("slurm/logs/*_log.*"))

    def test_a_driver_that_comes_again_takes_up_what_runs(self, jobs, make, results, tmp_path):
        graph = [jobs.job(tmp_path, "work", name, seconds=0.7) for name in "abc"]
        executor = make(workers=1).at(tmp_path).__enter__()
        for job in graph:
            executor.submit(job)
        assert executor.wait() == []
        executor.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert jobs.drive(tmp_path, make(workers=1), graph).failures == []
        assert set(results()) == set("abc") and self.left_behind(tmp_path) == []
        assert len(list(tmp_path.glob("slurm/logs/*_submitted.pkl"))) == 1, "it was submitted again"
        assert not list(tmp_path.glob("slurm/*/chunk.json")), "a record is left"

    def test_jobs_are_spread_over_array_tasks_and_startup_is_paid_per_chunk(self, jobs, make, tmp_path):
        for count, processes in ((2, 2), (6, 2)):
            folder = tmp_path / str(count)
            graph = [jobs.job(folder, "tell", str(name), variables=[]) for name in range(count)]
            jobs.drive(folder, make(), graph)
            assert len(list(folder.glob("results/*/done"))) == count
            pids = {json.loads(file.read_text())["pid"] for file in folder.glob("results/*/done")}
            assert len(pids) == processes

    @pytest.mark.slow
    def test_a_study_has_the_same_tables(self, make, finished, tiny_settings, tmp_path):
        from lightning_taskonomy.studies.taxonomy import TaxonomyStudy

        TaxonomyStudy(**tiny_settings).run(tmp_path / "study", execution=make(chunk=20))
        assert json.loads((tmp_path / "study/failures.json").read_text()) == []
        for name in ("affinity.csv", "losses.csv", "sanity.csv", "control.json"):
            assert (tmp_path / "study" / name).read_bytes() == (finished[0] / name).read_bytes(), name


def _slurm_works():
    return bool(shutil.which("sinfo")) and not subprocess.run(["sinfo"], capture_output=True, check=False).returncode


@pytest.mark.cluster
class TestSlurm(TestSubmitit):
    options: ClassVar = {"workers": 2, "chunk": 3}

    @pytest.fixture(autouse=True)
    def slurm(self):
        if not _slurm_works():
            pytest.skip("sinfo does not work here: no SLURM")

    def test_a_refused_partition_is_one_line_with_what_sbatch_says(self, jobs, make, tmp_path):
        with pytest.raises(InputError, match=r"sbatch refuses: .*[Ii]nvalid partition.*") as error:
            jobs.drive(tmp_path, make(partition="nowhere"), [jobs.job(tmp_path, "work", "a")])
        assert "\n" not in str(error.value) and not list(tmp_path.glob("slurm/*/chunk.json"))

    def test_further_parameters_reach_sbatch(self, jobs, make, tmp_path):
        graph = [jobs.job(tmp_path, "tell", "a", variables=["SLURM_JOB_QOS", "SLURM_CPUS_ON_NODE", "OMP_NUM_THREADS"])]
        jobs.drive(tmp_path, make(partition="debug", cpus=2, threads=2, further={"comment": "a study"}), graph)
        (script,) = tmp_path.glob("slurm/logs/*_submission.sh")
        assert "#SBATCH --comment='a study'" in script.read_text()
        environment = json.loads((tmp_path / "results/a/done").read_text())
        assert (environment["SLURM_CPUS_ON_NODE"], environment["OMP_NUM_THREADS"]) == ("2", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0, must be at least 1"),
        ({"chunk": 0}, "chunk is 0"),
        ({"hours": 0.0}, "hours is 0.0, must be above 0"),
        ({"gpus": -1}, "gpus is -1"),
        ({"cpus": 0}, "cpus is 0"),
        ({"memory_gb": -1.0}, "memory_gb is -1.0"),
        ({"cluster": "pbs"}, "cluster is 'pbs', must be slurm or local"),
    ],
)
def test_slurm_settings_out_of_range_are_one_line(options, message):
    with pytest.raises(InputError, match=message):
        SlurmExecutor(**options)


def test_what_slurm_needs_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sbatch is not found: run this where SLURM's commands are, or cluster: local"):
        SlurmExecutor().at(tmp_path).__enter__()
    (tmp_path / "bin").mkdir()
    for name, code in (("sbatch", 0), ("srun", 0), ("squeue", 1)):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    with pytest.raises(InputError, match="squeue fails: SLURM's controller cannot be reached"):
        SlurmExecutor().at(tmp_path).__enter__()
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        InputError, match=r'the SLURM executor needs an extra: pip install "lightning-taskonomy\[slurm\]"'
    ):
        SlurmExecutor().at(tmp_path).__enter__()
