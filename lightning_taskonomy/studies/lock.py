"""One driver per study's folder, on file systems without locks too."""

import fcntl
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightning_taskonomy.errors import InputError

__all__ = ["STALE", "Driver", "driver_at_work", "driving"]

_BEAT = 5.0
"""Seconds between two heartbeats."""

STALE = 30.0
"""Seconds without a heartbeat after which a driver on another machine counts as dead."""


@dataclass(frozen=True)
class Driver:
    """The process that runs a study.

    Args:
        host: Its machine.
        pid: Its process id there.
        born: When the process started, in the kernel's own count, so that a reused id is told apart; 0 if unknown.
        age: Seconds since its last heartbeat.
    """

    host: str
    pid: int
    born: int
    age: float

    @property
    def lives(self) -> bool:
        """Whether it is at work: on this machine its process is looked for, elsewhere its heartbeat decides."""
        if self.host != socket.gethostname():
            return self.age < STALE
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
        driver = driver_at_work(folder)
        if driver is not None:
            raise _refusal(folder, driver)
        file = folder / ".driver"
        file.unlink(missing_ok=True)
        content = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}
        try:
            with file.open("x", encoding="utf-8") as opened:  # of two that come at once, one makes it
                opened.write(json.dumps(content))
        except FileExistsError:
            raise _refusal(folder, driver_at_work(folder)) from None
        stop = threading.Event()
        beating = threading.Thread(target=_beat, args=(file, stop), daemon=True)
        beating.start()
        try:
            yield
        finally:
            stop.set()
            beating.join()
            file.unlink(missing_ok=True)
    finally:
        os.close(handle)


def driver_at_work(folder: Path) -> Driver | None:
    """The process that runs the study of a folder; None if none does."""
    file = folder / ".driver"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        driver = Driver(str(content["host"]), int(content["pid"]), int(content["born"]), _age(file))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # being written just now, or by a process that was killed doing so
        return None if _age(file) > STALE else Driver("", 0, -1, 0.0)
    return driver if driver.lives else None


def _refusal(folder: Path, driver: Driver | None) -> InputError:
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


def _born(pid: int) -> int:
    """When a process of this machine started, in clock ticks since boot; -1 if there is none, 0 where unknown."""
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
    return int(text.rpartition(")")[2].split()[19])
