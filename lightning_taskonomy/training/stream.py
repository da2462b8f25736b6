"""One stream for many networks: runs side by side in one process, for which each batch is loaded once.

Each run goes its own way through the code of :func:`~lightning_taskonomy.training.execute`, with a Trainer and a thread
of its own. Only one thread runs at a time: after a few batches a run waits until the run that is furthest behind has
got its own. So all is in a fixed order, and each run has its own random numbers. Threads, and not
coroutines, because torch keeps modes (no gradients, autocast) by thread.
"""

import gc
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from lightning_taskonomy.batch import Batch
from lightning_taskonomy.data import TaskDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json
from lightning_taskonomy.training.identity import identity
from lightning_taskonomy.training.run import FAILED, METRICS, is_finished
from lightning_taskonomy.training.shared import LOADERS, WINDOW, Kind, SharedLoader, Sources, is_shareable
from lightning_taskonomy.training.warm import execute_anew, quiet

__all__ = ["execute_together"]

_OF_THE_PROCESS = ("benchmark", "detect_anomaly", "deterministic")
"""Arguments of the Trainer that change the whole process."""

_ROOM = 0.9
"""The share of a device's memory that is planned with."""


def execute_together(
    runs: Sequence[Mapping[str, Any]],
    *,
    checkpoint_seconds: float = 60.0,
    test: bool = True,
    together: int | None = None,
) -> list[dict[str, float]]:
    """Fits and tests several runs side by side in this process, from one stream of batches.

    Each ends with the weights, metrics, scores and files that it leaves by itself, through
    :func:`~lightning_taskonomy.training.execute`. Runs whose data are described alike, but for the keys, share batches,
    which are loaded once; others load their own. Finished runs are left as they are, others resume from their own
    ``resume.ckpt``. One that fails leaves the others to end, and ``failed.json`` in its folder.

    Args:
        runs: ``config`` and ``folder`` of each, as ``execute`` takes them.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
        test: Whether each ends with a test; else with a validation.
        together: At most so many at once, the others after them; None: all, or on a GPU as many as its memory holds
            by the first one's. Where a GPU's memory does not suffice, half of them wait.

    Returns:
        The metrics of each, and ``seconds``: what it took itself, and its share of loading.

    Raises:
        InputError: Two runs have one folder, or differ in what the whole process has; or once all have ended, some of
            them failed: their folders and reasons.
    """
    if together is not None and together < 1:
        raise InputError(f"together is {together}, must be at least 1")
    folders = [Path(run["folder"]) for run in runs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise InputError(f"two runs of one stream have the folder {folder}; give each its own")
    waiting = [(dict(run["config"]), Path(run["folder"])) for run in runs if not is_finished(run["folder"])]
    for _, folder in waiting:
        (folder / FAILED).unlink(missing_ok=True)
    _check_process([config for config, _ in waiting])
    metrics: dict[Path, dict[str, float]] = {}
    failures: dict[Path, BaseException] = {}
    work = partial(execute_anew, checkpoint_seconds=checkpoint_seconds, test=test)
    while waiting:
        stream = _Stream(work, together)
        with quiet(), isolate_rng(torch.cuda.is_initialized()):
            waiting = stream.run(waiting)
        metrics |= stream.metrics
        failures |= stream.failures
        for folder, error in stream.failures.items():
            write_json(folder / FAILED, {"error": _line(error)})
        together = stream.together
    if failures:
        reasons = "; ".join(f"{folder}: {_line(error)}" for folder, error in failures.items())
        raise InputError(f"{len(failures)} of {len(runs)} runs failed: {reasons}") from next(iter(failures.values()))
    return [metrics.get(folder) or dict(json.loads((folder / METRICS).read_text())) for folder in folders]


def _check_process(configs: Sequence[Mapping[str, Any]]) -> None:
    for name in _OF_THE_PROCESS:
        values = [config.get("trainer", {}).get(name) for config in configs]
        if any(value != values[0] for value in values):
            raise InputError(
                f"trainer.{name} holds for a whole process, but the runs of this stream have "
                f"{' and '.join(sorted({str(value) for value in values}))}; give them one value, or a stream each"
            )


Work = Callable[..., dict[str, float]]
_Run = tuple[dict[str, Any], Path]


class _Stopped(BaseException):
    """Ends a run from within, at its next batch."""


class _Member:
    """A run in a thread of its own, which goes on only when it is told to.

    Args:
        config: Its configuration.
        folder: Its folder.
        work: What does the run.
        sources: Where its batches are from.
        goes_on: Whether it may go on at its place before any other.
    """

    def __init__(
        self, config: dict[str, Any], folder: Path, work: Work, sources: Sources, goes_on: Callable[["_Member"], bool]
    ) -> None:
        self._thread = threading.Thread(target=self._run, name=str(folder), daemon=True)
        self.config, self.folder, self.sources = config, folder, sources
        self.place: tuple[int, ...] = (-1,)
        self.wants: tuple[SharedLoader, int] | None = None
        self.device: torch.device | None = None
        self.steps = 0
        self.metrics: dict[str, float] = {}
        self.error: BaseException | None = None
        self.is_over = False
        self._work, self._goes_on = work, goes_on
        self._threads = torch.get_num_threads()
        self._go, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._answer: Batch | Exception | None = None
        self._is_stopped = False
        self._epoch, self._batches, self._stage, self._passes = 0, 0, (0, 0), 0
        self._seconds, self._since = 0.0, 0.0

    # called by the thread that is in charge of all

    def proceed(self, answer: Batch | Exception | None) -> None:
        """Lets the run go on until it asks for another batch, or ends.

        Args:
            answer: The batch that it asked for, None where there is none any more, or why there is none.
        """
        self._answer = answer
        if not self._thread.is_alive():
            self._thread.start()
        self._since = time.monotonic()
        self._go.release()
        self._waits.acquire()
        self._seconds, self._since = self._seconds + time.monotonic() - self._since, 0.0

    def stop(self) -> None:
        """Ends the run where it waits, or where it next asks for a batch."""
        self._is_stopped = True
        self._go.release()
        if self._thread.is_alive():
            self._thread.join()

    def charge(self, seconds: float) -> None:
        """Adds seconds that others have worked for it."""
        self._seconds += seconds

    # called within the run

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._is_stopped:
                torch.set_num_threads(self._threads)
                self.metrics = self._work(self.config, self.folder, share=self._share, clock=self._clock)
        except _Stopped:
            pass
        except BaseException as error:  # kept for whoever is in charge
            self.error = error
        finally:
            self.is_over = True
            self._waits.release()

    def _clock(self) -> float:
        return self._seconds + time.monotonic() - self._since

    def _share(self, data: LightningDataModule) -> None:
        if isinstance(data, TaskDataModule):
            for kind in LOADERS:
                again = getattr(data, f"{kind}_dataloader")
                setattr(data, f"{kind}_dataloader", partial(self._loader, kind, again, data))

    def _loader(self, kind: Kind, again: Callable[[], Any], data: TaskDataModule) -> Any:
        """What stands for a loader, unless it is one that only Lightning knows how to change."""
        loader, trainer = again(), data.trainer
        assert isinstance(trainer, Trainer)
        if trainer.world_size > 1:
            raise InputError(
                f"a stream trains on one device, and the trainer of {self.folder} has {trainer.world_size} processes; "
                "set trainer.devices to 1, or train it by itself"
            )
        self.device = trainer.strategy.root_device
        overfits = trainer.overfit_batches  # type: ignore[attr-defined]  # set by the trainer's connectors
        if overfits or not is_shareable(loader):
            return loader
        reader = SharedLoader(kind, loader, again, self._ask, self.device, fits=trainer.state.fn == "fit")
        self.sources.join(self, data, _description(self.config), reader)
        return reader

    def _ask(self, reader: SharedLoader, index: int) -> Batch | None:
        """Waits for a batch, while other runs go on, unless it is at hand and the run's turn is not over."""
        self.place, self.wants = self._place(reader, index), (reader, index)
        if not self._is_stopped and self._goes_on(self):
            batch = self.sources.at_hand(reader, index)
            if batch is not None:
                return batch
        with isolate_rng(torch.cuda.is_initialized()):  # what the others draw is theirs
            self._waits.release()
            self._go.acquire()
        if self._is_stopped:
            raise _Stopped
        answer, self._answer, self.wants = self._answer, None, None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _place(self, reader: SharedLoader, index: int) -> tuple[int, ...]:
        """How far the run is: batches trained on; validation, test or training; passes and windows of that.

        Once its fit is over it waits for the next validation of those that go on, and shares its images.
        """
        if reader.kind == "train":
            number = reader.epoch * len(reader) + index
            self._epoch, self._batches, self.steps = len(reader), number + 1, self.steps + 1
            return number - index % WINDOW, 2, 0, 0
        stage = self._batches + (0 if reader.fits else self._epoch), 0 if reader.kind == "val" else 1
        if stage != self._stage:
            self._stage, self._passes = stage, 0
        self._passes += index == 0
        return *stage, self._passes, index // WINDOW


class _Stream:
    """Runs that go on in turns.

    Args:
        work: What does a run.
        together: At most so many at once; None finds out.
    """

    def __init__(self, work: Work, together: int | None) -> None:
        self.work, self.together = work, together
        self.sources = Sources()
        self.metrics: dict[Path, dict[str, float]] = {}
        self.failures: dict[Path, BaseException] = {}
        self.live: list[_Member] = []

    def run(self, runs: Sequence[_Run]) -> list[_Run]:
        """Does runs, those at once that there is room for.

        Args:
            runs: Configuration and folder of each.

        Returns:
            Those that are left to be done.
        """
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()  # those of earlier runs of this process
        count = 1 if self.together is None else self.together
        self._admit(runs[:count])
        left, member = list(runs[count:]), self.live[0]
        try:
            while self.live:
                member = min(self.live, key=lambda one: (one.place, one is not member))
                member.proceed(self._batch(member))
                if member.is_over:
                    left += self._end(member)
                if left and self.together is None and (count := self._room(member)):
                    self._admit(left[: count - 1])
                    left = left[count - 1 :]
                    self.together = count
        except BaseException:
            for member in self.live:
                member.stop()
            raise
        return left

    def _admit(self, runs: Sequence[_Run]) -> None:
        self.live += [_Member(config, folder, self.work, self.sources, self._is_first) for config, folder in runs]

    def _is_first(self, member: _Member) -> bool:
        return all(member.place <= other.place for other in self.live)

    def _batch(self, member: _Member) -> Batch | Exception | None:
        """What a run asks for, or why it cannot be had."""
        if member.wants is None:
            return None
        reader, index = member.wants
        start, readers = time.monotonic(), self.sources.sharers(reader)
        try:
            return self.sources.take(reader, index)
        except Exception as error:  # raised again within the run
            return error
        finally:
            for one in readers:
                one.charge((time.monotonic() - start) / len(readers))

    def _end(self, member: _Member) -> list[_Run]:
        """Takes a run out; where the device's memory was too small for so many, the later half with it.

        Returns:
            Those that are to be done once more.
        """
        count, error = len(self.live), member.error
        self._leave(member)
        if error is None:
            self.metrics[member.folder] = member.metrics
            return []
        _clear(error)
        if count == 1 or not _is_out_of_memory(error):
            self.failures[member.folder] = error
            return []
        member.error = None
        self.together = count // 2
        again = [member, *self.live[self.together :]]
        for other in self.live[self.together :]:
            other.stop()
            self._leave(other)
        return [(one.config, one.folder) for one in again]

    def _leave(self, member: _Member) -> None:
        self.live.remove(member)
        self.sources.leave(member)
        if member.device is not None and member.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def _room(self, first: _Member) -> int:
        """How many runs like the first one there is room for; 0 while it is not known yet."""
        if first.device is not None and first.device.type != "cuda":
            return sys.maxsize
        if first.device is None or first.is_over or first.steps < 2:  # the first step makes what an optimizer keeps
            return 0
        free, _ = torch.cuda.mem_get_info(first.device)
        room = _ROOM * (free + torch.cuda.memory_reserved(first.device))
        each = max(1, torch.cuda.memory_allocated(first.device))
        return 1 + max(0, int((room - torch.cuda.max_memory_allocated(first.device)) / each))


def _description(config: Mapping[str, Any]) -> str:
    """What a run's data are made from, but for the keys and what cannot change a number."""
    data = deepcopy(identity({"data": config["data"]})["data"])
    if isinstance(data, dict) and isinstance(data.get("init_args"), dict):
        data["init_args"].pop("keys", None)
    return json.dumps(data, sort_keys=True, default=str)


def _is_out_of_memory(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, torch.OutOfMemoryError) or _is_out_of_memory(error.__cause__))


def _clear(error: BaseException | None) -> None:
    """Lets go of what the frames of an error hold: a network, an optimizer, a batch."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) and text else f"{type(error).__name__}: {text}"
