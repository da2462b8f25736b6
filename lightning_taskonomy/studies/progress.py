"""A stage's progress on the terminal."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["StageProgress", "stage_progress"]


class StageProgress:
    """A live bar on a terminal.

    Args:
        bar: The bar.
        title: The stage.
        total: Its jobs.
        done: How many of them are done.
    """

    def __init__(self, bar: Progress, title: str, total: int, done: int) -> None:
        self._bar, self.ran = bar, 0
        self._row = bar.add_task(title, total=total, completed=done, note="")

    def advance(self, ran: bool = True) -> None:
        """One more job has ended, or is left out."""
        self.ran += ran
        self._bar.advance(self._row)

    def note(self, remaining: float | None, running: Sequence[str]) -> None:
        """Shows the expected end and what is at work."""
        end = "" if remaining is None else time.strftime("end about %H:%M:%S", time.localtime(time.time() + remaining))
        self._bar.update(self._row, note=f"{end}  {', '.join(running)}"[:100])


@contextmanager
def stage_progress(console: Console, title: str, total: int, done: int) -> Iterator[StageProgress]:
    """A live bar on a terminal; elsewhere one line when a stage starts and one when it ends.

    Args:
        console: Where it is shown.
        title: The stage.
        total: Its jobs.
        done: How many of them were done before.
    """
    start = time.monotonic()
    console.print(f"{title}: {total - done} to run, {done} done before", highlight=False)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        progress = StageProgress(bar, title, total, done)
        yield progress
    if not console.is_terminal and total > done:
        console.print(f"{title}: {progress.ran} ran in {time.monotonic() - start:.0f} s", highlight=False)
