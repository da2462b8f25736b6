"""Jobs on a Ray cluster: actors that stay warm between jobs, on whatever nodes the cluster has at the time."""

import importlib.util
import itertools
import logging
import math
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lightning_taskonomy.arguments import show_log
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.executors import worker
from lightning_taskonomy.studies.executors.base import Executor, Outcome, check_least
from lightning_taskonomy.studies.graph import Job

__all__ = ["RayExecutor"]

_CONNECT = 20
"""Seconds within which a cluster must answer."""

_LOOK, _PATIENCE = 1.0, 5.0
"""Seconds between two looks at the nodes, and before idle actors with another share make room for one that waits."""

_STORE = 100 * 2**20
"""Bytes of shared memory of a cluster that is started here: jobs leave files, so that hardly anything is in it."""


class _Worker:
    """What runs in an actor's process."""

    def __init__(self, folder: str, threads: int) -> None:
        os.chdir(folder)
        show_log()
        self._threads, self._count = threads, itertools.count(1)

    def node(self) -> str:
        """The node it runs on; its answer says that it has started."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def perform(self, function: str, arguments: Mapping[str, Any], done: Sequence[Path]) -> worker.Failed | None:
        """Does a job."""
        failed = worker.attempt(function, arguments, done, self._threads)
        if next(self._count) % worker.TIDY == 0:
            worker.tidy()
        return failed


@dataclass(eq=False)
class _Actor:
    """An actor as the driver sees it: starting (no node yet), idle (no answer awaited) or at a job."""

    handle: Any
    share: float
    answer: Any
    started: float
    node: str = ""
    job: Job | None = None

    @property
    def is_starting(self) -> bool:
        return not self.node

    @property
    def is_idle(self) -> bool:
        return bool(self.node) and self.job is None


class RayExecutor(Executor):
    """Actors on a Ray cluster (extra ``ray``); all nodes see the study's folder under the same path.

    A node that joins is used, one that leaves costs only the jobs that ran there, and with the driver its actors end.

    Args:
        address: The cluster: ``auto`` (the one that this machine belongs to, or ``RAY_ADDRESS``), ``host:port`` of its
            head, seen from one of its nodes, or ``ray://host:port`` from elsewhere. Where not given, one is started on
            this machine, reachable from nowhere else, and stopped at the end.
        workers: Actors at most; as many as the cluster's nodes have room for at the time where not given.
        cpus: CPUs that each reserves.
        gpus: GPUs that a job of a kind reserves: a share of one, or a whole number. Kinds that are not named take a
            whole one if the cluster has any when the study starts, else none. Actors serve jobs with the same share.
        threads: Torch threads of each.
        variables: Environment variables of the actors beside their threads and ``PYTHONPATH``, such as ``HF_HOME``.
        retries: How often a job is tried again whose actor or node was lost.
        time_limits: Seconds after which a job of a kind is stopped; no limit for kinds that are not named.

    Raises:
        InputError: A setting is out of range, or Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        cpus: int = 1,
        gpus: dict[str, float] | None = None,
        threads: int = 1,
        variables: dict[str, str] | None = None,
        retries: int = 2,
        time_limits: dict[str, float] | None = None,
    ) -> None:
        super().__init__(retries, time_limits)
        numbers = {"cpus": (cpus, 1), "threads": (threads, 1)}
        check_least(numbers if workers is None else {"workers": (workers, 1), **numbers})
        for kind, share in (gpus or {}).items():
            if not (0 <= share <= 1 or (share > 1 and float(share).is_integer())):
                raise InputError(
                    f"execution: gpus of {kind!r} is {share}, must be a share between 0 and 1 or a whole number"
                )
        if address is not None and address != "auto" and not re.fullmatch(r"(ray://)?[^/:\s]+:\d{1,5}", address):
            raise InputError(f"execution: address is {address!r}, must be auto, host:port or ray://host:port")
        if importlib.util.find_spec("ray") is None:
            raise InputError('the Ray executor needs an extra: pip install "lightning-taskonomy[ray]"')
        self.address, self.cpus, self.gpus, self.threads = address, cpus, dict(gpus or {}), threads
        self.variables = dict(variables or {})
        self._limit = workers
        self._ray: Any = None
        self._connected = False
        self._unnamed, self._slots, self._looked = 0.0, 0, -math.inf
        self._actors: list[_Actor] = []
        self._queue: list[Job] = []

    def __enter__(self) -> Self:
        """Connects to the cluster, or starts one.

        Raises:
            InputError: It does not answer, runs another release of Ray or Python, or has no node for such actors.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.address is not None:
            _check(self.address)
        import ray

        self._ray = ray
        if not ray.is_initialized():
            self._connect()
            self._connected = True
        try:
            self._unnamed = float(any(node["Resources"].get("GPU", 0) for node in self._nodes()))
            self._look()
            if (most := max(self.gpus.values(), default=0)) and not self._unnamed:
                raise InputError(
                    f"execution: gpus asks for {most:g}, but no node of the Ray cluster has a GPU; leave it out, or "
                    "start a node that has"
                )
            if not self._slots and (self.address is None or self._limit is None):
                raise InputError(
                    f"execution: no node of the Ray cluster has {self.cpus} CPUs and what gpus asks for; reserve less, "
                    "start nodes, or set workers if nodes are started on demand"
                )
        except InputError:
            self._disconnect()
            raise
        return self

    def _connect(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self.address is None:
                with _loopback():
                    self._ray.init(
                        address="local", include_dashboard=False, object_store_memory=_STORE, **quiet,
                        num_cpus=None if self._limit is None else self._limit * self.cpus,
                    )  # fmt: skip
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a client that finds no server says so twice
                    self._ray.init(address=self.address, **quiet)
        except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            self._ray.shutdown()
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            where = "could not be started here" if self.address is None else f"at {self.address} cannot be used"
            raise InputError(f"execution: the Ray cluster {where}: {reason}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the actors, even those that are busy, and the cluster if it was started here."""
        for actor in self._actors.copy():
            self._end(actor)
        self._queue = []
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connected:
            self._ray.shutdown()
            self._connected = False

    @property
    def workers(self) -> int:
        """Actors that the cluster has room for, at least one; before the start the limit, or one per CPU here."""
        if self._ray is None:
            here = (os.cpu_count() or 1) // self.cpus if self.address is None else 1
            return self._limit or max(here, 1)
        return max(min(self._slots, self._limit or self._slots), 1)

    @property
    def free(self) -> int:
        """Room for actors without a job, those not started yet included."""
        return max(
            (self._limit or self._slots) - len(self._queue) - sum(actor.job is not None for actor in self._actors), 0
        )

    def submit(self, job: Job) -> None:
        """Gives a job to an idle actor, or keeps it until one is up."""
        self._queue.append(job)
        self._place()

    def wait(self) -> Sequence[Outcome]:
        """Waits for an actor's answer or end, or a time limit."""
        if time.monotonic() - self._looked > _LOOK:
            self._look()
            self._place()
        awaited = {actor.answer: actor for actor in self._actors if actor.answer is not None}
        if not awaited:  # no node has room
            time.sleep(0.5)
            return []
        answers, _ = self._ray.wait(list(awaited), num_returns=1, timeout=0.5)
        if answers:
            answers, _ = self._ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        outcomes = [outcome for answer in answers for outcome in self._take(awaited[answer])]
        for actor in self._actors.copy():
            limit = None if actor.job is None else self.time_limits.get(actor.job.kind)
            if limit is not None and time.monotonic() - actor.started > limit:
                outcomes.append(self._lose(actor, f"it was stopped at its time limit of {limit:g} s"))
        if self._queue:
            self._place()
        return outcomes

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _look(self) -> None:
        """Counts what there is room for, and forgets idle actors of nodes that are gone."""
        self._looked = time.monotonic()
        nodes = self._nodes()
        least = min([*self.gpus.values(), self._unnamed])
        self._slots = sum(_slots(node["Resources"], self.cpus, least) for node in nodes)
        alive = {node["NodeID"] for node in nodes}
        for actor in self._actors.copy():
            if actor.is_idle and actor.node not in alive:
                self._end(actor)

    def _share(self, job: Job) -> float:
        return self.gpus.get(job.kind, self._unnamed)

    def _place(self) -> None:
        """Gives waiting jobs to idle actors, and starts actors for the rest."""
        for job in self._queue.copy():
            share = self._share(job)
            idle = next((actor for actor in self._actors if actor.is_idle and actor.share == share), None)
            if idle is not None:
                self._queue.remove(job)
                idle.job, idle.started = job, time.monotonic()
                idle.answer = idle.handle.perform.remote(job.function, job.arguments, job.done)
        wanted = Counter(self._share(job) for job in self._queue)
        wanted.subtract(actor.share for actor in self._actors if actor.is_starting)
        for share, count in wanted.items():
            for _ in range(count):
                if len(self._actors) >= (self._limit or self._slots):
                    spare = next(self._spare(wanted), None)
                    if spare is None:
                        return
                    self._end(spare)
                self._start(share)
        since = time.monotonic() - _PATIENCE
        if self._queue and any(actor.is_starting and actor.started < since for actor in self._actors):
            for actor in list(self._spare(wanted)):
                self._end(actor)

    def _spare(self, wanted: Mapping[float, int]) -> Iterator[_Actor]:
        """Actors that no waiting job can use: idle ones, and those of a share of which too many are starting."""
        for actor in self._actors:
            if actor.is_idle or (actor.is_starting and wanted.get(actor.share, 0) < 0):
                yield actor

    def _start(self, share: float) -> None:
        """Starts an actor; Ray places it as soon as a node has room."""
        variables = worker.thread_variables(self.threads)
        if not share:
            variables["CUDA_VISIBLE_DEVICES"] = ""
        variables |= {"PYTHONPATH": os.pathsep.join(_paths(sys.path)), **self.variables}
        handle = (
            self._ray.remote(_Worker)
            .options(num_cpus=self.cpus, num_gpus=share, runtime_env={"env_vars": variables})
            .remote(os.getcwd(), self.threads)
        )
        self._actors.append(_Actor(handle, share, handle.node.remote(), time.monotonic()))

    def _take(self, actor: _Actor) -> list[Outcome]:
        """An actor's answer: it has started, its job has ended, or it is lost."""
        try:
            answer = self._ray.get(actor.answer)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip() or type(error).__name__
            if actor.is_starting:
                actor.job = next((job for job in self._queue if self._share(job) == actor.share), None)
                if actor.job is None:
                    self._end(actor)
                    return []
                self._queue.remove(actor.job)
                return [self._lose(actor, f"no actor could be started for it: {reason.splitlines()[-1]}", reason)]
            return [self._lose(actor, f"its process or node was lost ({type(error).__name__})", reason)]
        actor.answer = None
        if actor.is_starting:
            actor.node = answer
            return []
        return [self._outcome(actor, *(answer or ("", "")))]

    def _lose(self, actor: _Actor, error: str, trace: str = "") -> Outcome:
        """The outcome of a job whose actor is gone or has to go."""
        self._end(actor)
        return self._outcome(actor, error, trace or error, lost=True)

    def _outcome(self, actor: _Actor, error: str, trace: str, lost: bool = False) -> Outcome:
        assert actor.job is not None
        job, actor.job = actor.job, None
        seconds = time.monotonic() - actor.started
        return Outcome(job=job, seconds=seconds, error=error, trace=trace, lost=lost, devices=actor.share)

    def _end(self, actor: _Actor) -> None:
        """Kills an actor; what it does is not waited for."""
        self._actors.remove(actor)
        self._ray.kill(actor.handle)


def _slots(resources: Mapping[str, float], cpus: int, share: float) -> int:
    """How many actors a node has room for."""
    slots, devices = int(resources.get("CPU", 0) // cpus), int(resources.get("GPU", 0))
    if not share:
        return slots
    return min(slots, devices * math.floor(1 / share + 1e-9) if share <= 1 else devices // int(share))


def _paths(paths: Iterable[str]) -> list[str]:
    """Folders that modules are imported from, apart from those of the Python installation, which each node has."""
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    return [
        str(folder)
        for folder in dict.fromkeys(Path(path or os.getcwd()).resolve() for path in paths)
        if folder.is_dir()
        and not folder.is_relative_to(standard)
        and not {"site-packages", "dist-packages"} & set(folder.parts)
    ]


def _check(address: str) -> None:
    """Refuses an address where no Ray cluster answers: Ray would try for minutes, and then end this process.

    Raises:
        InputError: There is none.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    refused = f"execution: no Ray cluster answers at {address}; is it running there, and the port open?"
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError, ValueError) as error:
            raise InputError(f"{refused} ({error})") from None
        command += ["--address", address]
    if address.startswith("ray://"):
        return  # a client's connection has a limit of its own
    try:
        health = subprocess.run(command, timeout=_CONNECT, capture_output=True, check=False, text=True)
    except subprocess.TimeoutExpired:
        raise InputError(refused) from None
    if health.returncode:
        token = " It asks for a token: set RAY_AUTH_MODE=token" if "Unauthenticated" in health.stderr else ""
        raise InputError(refused + token)


@contextmanager
def _loopback() -> Iterator[None]:
    """What Ray starts meanwhile listens on the loopback device alone, its default on other systems than Linux."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with worker.environment({ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
