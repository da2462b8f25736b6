"""What a study's scheduler costs: jobs that do nothing, beside a bare pool; and ``status`` of many runs.

Both sides do the same jobs on as many warm processes, in turns. The pool only calls the function; the scheduler plans
jobs with needs, schedules them, keeps its ledger in files and checks that every job left its file.
"""

import io
import itertools
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from _timing import interleaved, options, show
from rich.console import Console

from lightning_taskonomy.manifest import Manifest, RunEntry
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.ledger import Ledger
from lightning_taskonomy.studies.lock import driving
from lightning_taskonomy.studies.scheduler import Scheduler
from lightning_taskonomy.studies.status import status


def nothing(done: str, seconds: float = 0.0) -> None:
    """Leaves its file."""
    file = Path(done)
    file.parent.mkdir(parents=True, exist_ok=True)
    time.sleep(seconds)
    file.touch()


def jobs(folder: Path, count: int, seconds: float = 0.0) -> list[Job]:
    """Half of them need one of the other half."""
    files = [folder / "runs" / f"{number:05d}" / "metrics.json" for number in range(count)]
    return [
        Job(
            kind="nothing", name=str(number), function=f"{__name__}.nothing",
            arguments={"done": str(file), "seconds": seconds}, done=(file,),
            needs=(files[number - count // 2],) if number >= count // 2 else (),
            runs=(RunEntry(run=str(number), folder=f"runs/{number:05d}", kind="nothing", tasks=("a",), seed=0),),
        )
        for number, file in enumerate(files)
    ]  # fmt: skip


def scheduled(folder: Path, count: int, workers: int, seconds: float = 0.0) -> float:
    """Seconds for all jobs through the scheduler, start-up included."""
    start = time.perf_counter()
    with driving(folder), LocalExecutor(workers=workers).at(folder) as executor:
        ledger = Ledger(folder, ["stage"])
        scheduler = Scheduler(executor, ledger, console=Console(file=io.StringIO()))
        scheduler.run(Stage(name="stage", jobs=lambda: jobs(folder, count, seconds)), {})
        ledger.close()
    assert ledger.is_complete
    return time.perf_counter() - start


def pool(folder: Path, count: int, workers: int, seconds: float = 0.0) -> float:
    """Seconds for the same calls by a bare pool."""
    start = time.perf_counter()
    with ProcessPoolExecutor(workers) as executor:
        list(executor.map(nothing, [str(job.done[0]) for job in jobs(folder, count)], [seconds] * count))
    return time.perf_counter() - start


def read_status(folder: Path, count: int) -> float:
    """Seconds that the status of a half-done study of so many runs takes."""
    ledger = Ledger(folder, ["stage"])
    planned = jobs(folder, count)
    ledger.plan("stage", planned)
    Manifest(study="a.Study", version=1, report="", tables={}).write(folder)
    for job in planned[::2]:
        nothing(str(job.done[0]))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        done = status(folder).done
        times.append(time.perf_counter() - start)
    assert done == count // 2
    return median(times)


def main() -> None:
    """Prints both sides, the driver's memory, the overhead per job, and the time that a status takes."""
    parser = options(__doc__, 3)
    parser.add_argument("--jobs", type=int, default=3000, help="jobs that do nothing")
    parser.add_argument("--workers", type=int, default=2, help="processes of each side")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of the jobs that overhead is measured with")
    parser.add_argument("--runs", type=int, default=10_000, help="runs whose status is read")
    arguments = parser.parse_args()
    memory = []
    with tempfile.TemporaryDirectory() as name:
        turns = (Path(name) / str(number) for number in itertools.count())

        def ours() -> None:
            scheduled(next(turns), arguments.jobs, arguments.workers)
            memory.append(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))

        sides = {"scheduler": ours, "pool": lambda: pool(next(turns), arguments.jobs, arguments.workers)}
        seconds = interleaved(sides, arguments.rounds, warmup=1)
        count = 20 * arguments.workers
        whole = scheduled(next(turns), count, arguments.workers, arguments.seconds)
        each = whole * arguments.workers / count - arguments.seconds
        folder = next(turns)
        folder.mkdir()
        seconds_of_status = read_status(folder, arguments.runs)
        row = {
            "scheduler s": seconds["scheduler"], "pool s": seconds["pool"],
            "ratio": seconds["scheduler"] / seconds["pool"],
            "driver MiB, first and last round": f"{memory[0]} {memory[-1]}", "overhead per job s": each,
            "% of ten-second jobs": 10 * each, f"status of {arguments.runs} runs s": seconds_of_status,
        }  # fmt: skip
    show([row], arguments.json, jobs=arguments.jobs, workers=arguments.workers)


if __name__ == "__main__":
    import scheduler as module  # by this name the workers import it

    module.main()
