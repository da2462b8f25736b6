"""A joint step with ``TaskAffinity`` every tenth step against the same step without it; the target is 1.5 at T = 5.

Both sides train the same ``MultiTaskModule`` on the same batch, each in a fit of its own, in two threads of which one
runs at a time: they take turns, ten steps each.
"""

import tempfile
import threading
import time
import warnings
from statistics import median
from typing import Any

import torch
from _timing import options, show
from lightning import Callback, LightningModule, Trainer
from step_overhead import TASKS, synthetic_batch
from torch.utils.data import DataLoader

from lightning_taskonomy import MultiTaskModule, TaskAffinity, TimmBackbone
from lightning_taskonomy.batch import Batch
from lightning_taskonomy.tasks import resolve

EVERY = 10


class Clock(Callback):
    """Times the steps, and lets the other side run after each ``EVERY`` of them.

    Args:
        turn: Released when this side may go on.
        other: Released when the other side may.
    """

    def __init__(self, turn: threading.Semaphore, other: threading.Semaphore) -> None:
        self.turn, self.other = turn, other
        self.times: list[float] = []
        self.start = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begins a step."""
        if batch_idx % EVERY == 0:
            self.turn.acquire()
        self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends a step."""
        self.times.append(time.perf_counter() - self.start)
        if batch_idx % EVERY == EVERY - 1:
            self.other.release()


def fit(
    module: MultiTaskModule, batch: Batch, steps: int, callbacks: list[Callback], folder: str, threads: int
) -> None:
    """One side's fit."""
    torch.set_num_threads(threads)  # of this thread
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=folder, callbacks=callbacks, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader([batch] * steps, batch_size=None))


def compare(backbone: str, rounds: int, size: int, count: int, threads: int) -> dict[str, object]:
    """Median milliseconds of steps on both sides and their ratios."""
    batch, turns = synthetic_batch(resolve(TASKS), count, size), [threading.Semaphore(1), threading.Semaphore(0)]
    clocks = [Clock(turns[side], turns[1 - side]) for side in range(2)]
    running = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for clock, callbacks in zip(clocks, ([], [TaskAffinity(EVERY)]), strict=True):
            torch.manual_seed(0)
            arguments = (
                MultiTaskModule(TASKS, TimmBackbone(backbone)), batch, (rounds + 1) * EVERY, [clock, *callbacks],
                folder, threads,
            )  # fmt: skip
            running.append(threading.Thread(target=fit, args=arguments))
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    plain, watched = (clock.times[EVERY:] for clock in clocks)  # the first round warms up
    step, measured = median(plain), median(watched[::EVERY])
    between = median(seconds for place, seconds in enumerate(watched) if place % EVERY)
    return {
        "backbone": backbone, "plain ms": 1e3 * step, "measured ms": 1e3 * measured, "between ms": 1e3 * between,
        "measured / plain": measured / step, "ratio": (measured + (EVERY - 1) * between) / EVERY / step,
    }  # fmt: skip


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=10)
    parser.add_argument("--size", type=int, default=64, help="pixels along each side; 64 by default")
    parser.add_argument("--batch", type=int, default=8, help="images per batch; 8 by default")
    parser.add_argument("--backbones", nargs="+", default=["resnet10t", "resnet18"], help="names of timm")
    args = parser.parse_args()
    rows = [compare(name, args.rounds, args.size, args.batch, args.threads) for name in args.backbones]
    show(rows, args.json, threads=args.threads, tasks=len(TASKS), every=EVERY, size=args.size, batch=args.batch,
         torch=torch.__version__)  # fmt: skip


if __name__ == "__main__":
    main()
