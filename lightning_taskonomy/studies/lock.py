"""One driver per study's folder and one process per job, on file systems without locks too.

A file names its owner: machine, process, and a heartbeat. On the owner's machine its process is looked for; elsewhere
the heartbeat decides. A dead owner's file is replaced by one process alone, however many come at once.
"""

import fcntl
import functools
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_text

__all__ = ["STALE", "Owner", "claimed", "driver_at_work", "driving", "drop_claim"]

_BEAT = 5.0
"""Seconds between two heartbeats."""

STALE = 30.0
"""Seconds without a heartbeat after which a driver on another machine counts as dead."""

_LOST = 60.0
"""Seconds for which a process watches a job's claim of another machine before it takes it over. More than a driver's,
since a library may keep Python from beating; watched rather than computed, so that neither clocks nor a file server
that was away can make a job run twice."""


@dataclass(frozen=True)
class Owner:
    """The process that drives a study or does a job.

    Args:
        host: Its machine; empty where the file does not say, as while it is being written.
        pid: Its process id there.
        born: When the process started, in the kernel's own count, so that a reused id is told apart; 0 if unknown.
        boot: The start of its machine and its space of process ids, since containers may share a host's name.
        token: Names this claim among all.
        beat: When its heart last beat, in nanoseconds of the file system's clock.
    """

    host: str
    pid: int
    born: int
    boot: str = ""
    token: str = ""
    beat: int = field(default=0, compare=False)

    @property
    def is_here(self) -> bool:
        """Whether its process would be seen from here."""
        return self.host == socket.gethostname() and self.boot in ("", _boot())

    @property
    def runs(self) -> bool:
        """Whether its process runs; only if it is here."""
        return _born(self.pid) == self.born != -1


@contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Holds a study's folder for one process, which may be killed at any time.

    The folder itself is locked, which the kernel undoes when the process ends. Where the file system has no locks, or
    has them for one machine alone, a file ``.driver`` with a heartbeat serves.

    Args:
        folder: The study's folder; it is made if it is missing.

    Raises:
        InputError: Another process is at work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refusal(folder, driver_at_work(folder)) from None
        except OSError:
            pass  # a file system without locks: the heartbeat below serves
        file = folder / ".driver"
        token = _take(file, lambda owner: not _drives(owner, file))
        if token is None:
            raise _refusal(folder, driver_at_work(folder))
        with _kept(file, token):
            yield
    finally:
        os.close(handle)


def driver_at_work(folder: Path) -> Owner | None:
    """The process that runs the study of a folder; None if none does."""
    file = folder / ".driver"
    owner = _owner(file)
    return owner if owner is not None and _drives(owner, file) else None


@contextmanager
def claimed(file: Path) -> Iterator[None]:
    """Lets one process at a time make a file; the others wait. A process that was killed is not waited for.

    A claim lies beside the file while it is being made.

    Args:
        file: What is made; missing parent folders are made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    claim = _claim(file)
    watch, pause = _Watch(), 0.01
    while (token := _take(claim, watch.is_dead)) is None:
        time.sleep(pause)
        pause = min(2 * pause, 1.0)
    with _kept(claim, token):
        yield


def drop_claim(file: Path) -> None:
    """Removes the claim of a process that was killed just after it had made a file; nobody claims that file again."""
    claim = _claim(file)
    owner = _owner(claim)
    if owner is not None and not (owner.runs if owner.is_here else _age(claim) < _LOST):
        claim.unlink(missing_ok=True)


def _claim(file: Path) -> Path:
    return file.with_name(f".{file.name}.claim")


class _Watch:
    """Tells whether the owner of a job is dead, by watching its heart."""

    def __init__(self) -> None:
        self._beat, self._since = -1, 0.0

    def is_dead(self, owner: Owner) -> bool:
        if owner.is_here:
            return not owner.runs
        if owner.beat != self._beat:
            self._beat, self._since = owner.beat, time.monotonic()
        return time.monotonic() - self._since > _LOST


def _drives(owner: Owner, file: Path) -> bool:
    return owner.runs if owner.is_here else _age(file) < STALE


def _take(file: Path, is_dead: Callable[[Owner], bool]) -> str | None:
    """One attempt to own a file: the claim's token, or None if another process owns it.

    Args:
        file: The file that names the owner.
        is_dead: Whether an owner has left it behind.
    """
    token = uuid.uuid4().hex
    process = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "boot": _boot()}
    content = json.dumps({**process, "token": token})
    if _made(file, content):
        return token
    owner = _owner(file)
    if owner is None or not is_dead(owner):
        return None
    # Only who makes a second file may replace the dead owner's, and only while that is there: of several that saw it
    # dead, those who come later see another owner.
    mutex = file.with_name(f"{file.name}.takeover")
    if not _made(mutex):
        if _age(mutex) > STALE:  # who made it was killed in that moment
            mutex.unlink(missing_ok=True)
        return None
    try:
        if _owner(file) != owner:
            return None
        write_text(file, content)
        return token
    finally:
        mutex.unlink(missing_ok=True)


def _made(file: Path, content: str = "") -> bool:
    """Makes a file; False if there is one. Of several processes that try, one makes it."""
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(content)
    except OSError:  # the disk is full
        file.unlink(missing_ok=True)
        raise
    return True


@contextmanager
def _kept(file: Path, token: str) -> Iterator[None]:
    """Lets the heart beat; removes the file in the end, unless another process has taken it over."""
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(file, stop), daemon=True)
    beating.start()
    try:
        yield
    finally:
        stop.set()
        beating.join()
        owner = _owner(file)
        if owner is not None and owner.token == token:
            file.unlink(missing_ok=True)


def _owner(file: Path) -> Owner | None:
    """Whom a file names; None if there is none."""
    try:
        with file.open(encoding="utf-8") as opened:  # to open it is to ask a file server anew
            beat, text = os.fstat(opened.fileno()).st_mtime_ns, opened.read()
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
        names = {name: str(content.get(name, "")) for name in ("host", "boot", "token")}
        return Owner(pid=int(content["pid"]), born=int(content["born"]), beat=beat, **names)
    except (ValueError, KeyError, TypeError, AttributeError):  # being written, or by a process killed meanwhile
        return Owner("", 0, -1, beat=beat)


def _refusal(folder: Path, driver: Owner | None) -> InputError:
    who = f"process {driver.pid} on {driver.host}" if driver is not None and driver.host else "another process"
    return InputError(
        f"{who} runs a study in {folder}; wait for it or give another --out (if it was killed on another machine, wait "
        f"{STALE:.0f} s)"
    )


def _beat(file: Path, stop: threading.Event) -> None:
    while not stop.wait(_BEAT):
        try:
            os.utime(file)
        except OSError:
            continue  # a moment without the file system; the next beat may reach it


def _age(file: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system."""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".clock.") as now:
            return os.stat(now.name).st_mtime - file.stat().st_mtime
    except OSError:  # read-only for us, or gone
        return STALE + 1.0


@functools.cache
def _boot() -> str:
    """The start of this machine and this space of process ids; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _born(pid: int) -> int:
    """When a process of this machine started, in clock ticks since boot; 0 where unknown.

    -1 if there is none, or if it is dead and only its parent has not asked for it, which some containers never do.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return -1
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return -1
        except PermissionError:
            return 0
        return 0
    fields = text.rpartition(")")[2].split()
    return -1 if fields[0] in "ZX" else int(fields[19])
