"""What a study asks for: jobs that leave files, and stages of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import RunEntry

__all__ = ["HashedFolder", "Job", "Stage"]


@dataclass(frozen=True, kw_only=True)
class HashedFolder:
    """A folder that is named by what is in it.

    Args:
        folder: The folder.
        stem: Its name without the hash.
        content: What was hashed, plain data and whole: how an earlier release named it can be told from that.
    """

    folder: Path
    stem: str
    content: Any


@dataclass(frozen=True, kw_only=True)
class Job:
    """A call that leaves files.

    Args:
        kind: What kind of job; costs, time limits and resources are counted per kind.
        name: What a person calls it.
        function: Dotted path of what is called.
        arguments: Its keyword arguments; plain data.
        done: The files that exist once it is done, the last of everything it writes. A job that trains several networks
            side by side has one per network, so that what is finished stays when the rest dies.
        needs: Files that must be there before, done-files of other jobs as a rule.
        files: Further files that a done job has left, such as weights; a done-file without them is refused.
        runs: The runs it owns, as they stand in ``runs.csv``.
        hashed_folders: The folders it writes that are named by their content.
    """

    kind: str
    name: str
    function: str
    arguments: dict[str, Any]
    done: tuple[Path, ...]
    needs: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    runs: tuple[RunEntry, ...] = ()
    hashed_folders: tuple[HashedFolder, ...] = ()

    def __post_init__(self) -> None:
        if not self.done:
            raise ValueError(f"job {self.title} has no done-file")
        if len(set(self.done)) < len(self.done):
            raise ValueError(f"job {self.title} has a done-file twice: {', '.join(map(str, self.done))}")

    @property
    def title(self) -> str:
        """Kind and name."""
        return f"{self.kind} {self.name}"

    @property
    def progress(self) -> str:
        """How far it is while it runs: of a job that owns several runs, how many of them are done."""
        if len(self.done) == 1:
            return self.title
        return f"{self.kind} {sum(file.is_file() for file in self.done)} of {len(self.done)} done"

    @property
    def is_done(self) -> bool:
        """Whether its results are there.

        Raises:
            InputError: Its done-files are, but other files of it are not.
        """
        if not all(file.is_file() for file in self.done):
            return False
        for file in self.files:
            if not file.is_file():
                raise InputError(
                    f"{self.title} is marked as done by {self.done[0]}, but {file.name} is missing; remove "
                    f"{self.done[0].name} to run it again, or put the file back"
                )
        return True

    def forget(self) -> None:
        """Removes its done-files, so that it is done again."""
        for file in self.done:
            file.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Jobs that can be planned at one time.

    Args:
        name: What ``--stages`` calls it; several stages may share a name.
        jobs: Makes the jobs when the stage begins, once those before it are done. Jobs may need each other.
        title: What progress calls it; ``name`` where empty.
        expected: About how many jobs of each kind there will be, where they depend on results of earlier stages: such a
            stage is planned late. Without it the jobs are also made beforehand, to be counted.
    """

    name: str
    jobs: Callable[[], Iterable[Job]]
    title: str = ""
    expected: Mapping[str, int] | None = None

    def count(self) -> Counter[str]:
        """Jobs of each kind that are not done, as far as that is known beforehand."""
        if self.expected is not None:
            return Counter(self.expected)
        jobs = {job.done: job for job in self.jobs()}
        return Counter(job.kind for job in jobs.values() if not all(file.is_file() for file in job.done))
