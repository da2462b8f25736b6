"""Jobs of the executors' contract, and a driver that can be killed. Run in other processes; no test is in here."""

import importlib
import io
import json
import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.ledger import Ledger
from lightning_taskonomy.studies.lock import driving
from lightning_taskonomy.studies.scheduler import Scheduler


def lives(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def work(done: str, seconds: float = 0.0, text: str = "done") -> None:
    """Leaves a file, and ``twice`` beside it if it was done before or is done by somebody else meanwhile."""
    file = Path(done)
    mark, twice = file.parent / "at_work", file.parent / "twice"
    if mark.exists() and (pid := mark.read_text()) and pid != str(os.getpid()) and lives(int(pid)):
        twice.touch()
    mark.write_text(str(os.getpid()))
    time.sleep(seconds)
    try:
        with file.open("x") as opened:
            opened.write(text)
    except FileExistsError:
        twice.touch()
    mark.unlink(missing_ok=True)


def tell(done: str, variables: list[str]) -> None:
    """Writes down its process and some environment variables."""
    environment = {
        "pid": os.getpid(),
        "torch": "torch" in sys.modules,
        **{name: os.environ.get(name) for name in variables},
    }
    Path(done).write_text(json.dumps(environment))


def fail(done: str) -> None:
    """Raises."""
    raise ValueError("no such thing")


def fill(done: str) -> None:
    """Meets a full disk."""
    raise OSError(28, "No space left on device", done)


def die(done: str, times: int) -> None:
    """Is killed so many times, then leaves its file."""
    tries = Path(done).parent / "tries"
    count = int(tries.read_text()) if tries.exists() else 0
    tries.write_text(str(count + 1))
    if count < times:
        os.kill(os.getpid(), signal.SIGKILL)
    work(done)


def hang(done: str) -> None:
    """Never ends."""
    (Path(done).parent / "pid").write_text(str(os.getpid()))
    time.sleep(1000)


def two(done: list[str]) -> None:
    """Owns two runs, and is killed between them the first time."""
    first, second = done
    if not Path(first).exists():
        work(first)
        os.kill(os.getpid(), signal.SIGKILL)
    work(second)


def job(folder: Path, function: str, name: str, needs: tuple[str, ...] = (), **arguments: object) -> Job:
    """A job of this module."""
    file = folder / "results" / name / "done"
    return Job(
        kind=function, name=name, function=f"executor_jobs.{function}", arguments={"done": str(file), **arguments},
        done=(file,), needs=tuple(folder / "results" / other / "done" for other in needs),
    )  # fmt: skip


def study(folder: Path, seconds: float) -> list[Job]:
    """Three layers of four jobs; each needs two of the layer before."""
    jobs = []
    for layer, place in ((layer, place) for layer in range(3) for place in range(4)):
        needs = (f"{layer - 1}-{place}", f"{layer - 1}-{(place + 1) % 4}") if layer else ()
        jobs.append(job(folder, "work", f"{layer}-{place}", needs, seconds=seconds, text=f"{layer}{place}"))
    return jobs


def drive(folder: Path, executor: object, jobs: list[Job]) -> Ledger:
    """Does jobs as a study does."""
    with driving(folder), executor.at(folder):
        ledger = Ledger(folder, ["stage"])
        try:
            console = Console(file=io.StringIO())
            Scheduler(executor, ledger, console=console).run(Stage(name="stage", jobs=lambda: jobs), {})
        finally:
            ledger.close()
    return ledger


if __name__ == "__main__":
    directory, path, options, pace = sys.argv[1:]
    module, _, name = path.rpartition(".")
    made = getattr(importlib.import_module(module), name)(**json.loads(options))
    sys.modules["executor_jobs"] = sys.modules["__main__"]
    drive(Path(directory), made, study(Path(directory), float(pace)))
