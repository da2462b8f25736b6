"""Task Meta-Transfer through its callback and the Trainer, against multi-task learning of the same network.

Steps: a meta step against a multi-task step, an auxiliary step against the same without projection; time and
peak memory. Cycles: one meta and k auxiliary steps against MTL's cycle. Sides take turns, fit after short fit; a step
is timed from one batch asked for to the next. Networks, heads and batches are those of meta_gradient.py.
"""

import logging
import multiprocessing
import warnings
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
from _device import exact_memory, peak_bytes, restart_peak, seconds
from _timing import options, show
from lightning.pytorch import LightningModule, Trainer
from meta_gradient import NETWORKS, Case
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_taskonomy import TaskMetaTransfer

Batch = dict[str, Tensor]
CYCLES = (1, 3, 10)


class TwoTasks(LightningModule):
    """The network of a case as a LightningModule."""

    def __init__(self, network: str, device: str) -> None:
        super().__init__()
        self.case, self.accelerator = Case(network, device), device
        self.backbone = self.case.backbone
        self.heads = nn.ModuleDict({"primary": self.case.primary, "auxiliary": self.case.auxiliary})

    def task_loss(self, name: str, predictions: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the primary, L1 of the auxiliary task."""
        if name == "primary":
            return nn.functional.cross_entropy(predictions, batch[name])
        return nn.functional.l1_loss(predictions, batch[name])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of the losses of what has labels."""
        features = self.backbone(batch["image"])
        losses = [self.task_loss(name, head(features), batch) for name, head in self.heads.items() if name in batch]
        return torch.stack(losses).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As in most of the library's recipes."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


class Timed(IterableDataset[Batch]):
    """Batches by pattern, m with both labels and a with the auxiliary one; keeps each step's seconds."""

    def __init__(self, case: Case, pattern: str, warmup: int, device: str) -> None:
        self.case, self.pattern, self.warmup, self.device = case, pattern, warmup, device
        self.seconds: list[float] = []

    def __iter__(self) -> Iterator[Batch]:
        both = {"image": self.case.image, "auxiliary": self.case.target, "primary": self.case.classes}
        one = {"image": self.case.image, "auxiliary": self.case.target}
        taken = []
        for place, letter in enumerate(self.pattern):
            if place == self.warmup:
                restart_peak(self.device)
            start = seconds(self.device)
            yield both if letter == "m" else one
            taken.append(seconds(self.device) - start)
        self.seconds = taken[self.warmup :]


def fit(module: TwoTasks, pattern: str, warmup: int, callback: TaskMetaTransfer | None) -> list[float]:
    """Seconds of each step after the warm-up.

    Args:
        module: The network.
        pattern: The batches.
        warmup: Steps that are not counted.
        callback: None trains plainly.
    """
    timed = Timed(module.case, pattern, warmup, module.accelerator)
    trainer = Trainer(
        accelerator=module.accelerator, devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[] if callback is None else [callback],
    )  # fmt: skip
    trainer.fit(module, DataLoader(timed, batch_size=None))
    return timed.seconds


def sides(network: str, device: str) -> dict[str, tuple[TwoTasks, TaskMetaTransfer | None]]:
    """Multi-task learning, ours and the approximation, each with a network of its own."""
    callbacks = {
        "mtl": None,
        "ours": TaskMetaTransfer("primary", ["auxiliary"]),
        "approximate": TaskMetaTransfer("primary", ["auxiliary"], approximate=True),
    }
    return {name: (TwoTasks(network, device), callback) for name, callback in callbacks.items()}


def peak(network: str, side: str, letter: str, threads: int, device: str) -> float:
    """Peak memory of such steps in a fresh process, network and data included, the libraries not."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_peak, args=(network, side, letter, threads, device, sender))
    process.start()
    sender.close()  # the child has its own; without it nothing can come any more
    memory: float = receiver.recv()
    process.join()
    return memory


def _peak(network: str, side: str, letter: str, threads: int, device: str, sender: Any) -> None:
    quiet()
    torch.set_num_threads(threads)
    before = peak_bytes(device, now=True)
    module, callback = sides(network, device)[side]
    fit(module, 4 * letter, 3, callback)
    sender.send(peak_bytes(device) - before)


def quiet() -> None:
    """Nothing of Lightning's own but errors."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def step_rows(network: str, rounds: int, threads: int, device: str) -> list[dict[str, Any]]:
    """Both kinds of steps on all sides."""
    kinds = {"meta": "m", "auxiliary": "a"}
    by_side = sides(network, device)
    peaks = {(kind, side): peak(network, side, kinds[kind], threads, device) for kind in kinds for side in by_side}
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in peaks}
    for _ in range(rounds):
        for kind, side in peaks:
            taken[kind, side] += fit(by_side[side][0], 5 * kinds[kind], 2, by_side[side][1])
    return [
        {
            "network": network, "step": kind, "side": side, "s": median(seconds),
            "x mtl": median(seconds) / median(taken[kind, "mtl"]), "peak MB": peaks[kind, side] / 1e6,
            "memory x mtl": peaks[kind, side] / peaks[kind, "mtl"],
        }
        for (kind, side), seconds in taken.items()
    ]  # fmt: skip


def cycle_rows(network: str, rounds: int, device: str) -> list[dict[str, Any]]:
    """One meta and k auxiliary steps against one multi-task and k auxiliary steps."""
    by_side = sides(network, device)
    taken: dict[tuple[int, str], list[float]] = {(k, side): [] for k in CYCLES for side in by_side}
    for _ in range(rounds):
        for k, side in taken:
            taken[k, side].append(sum(fit(by_side[side][0], 2 * ("m" + k * "a"), 1 + k, by_side[side][1])))
    return [
        {"network": network, "k": k, "side": side, "s": median(seconds),
         "x mtl": median(seconds) / median(taken[k, "mtl"])}
        for (k, side), seconds in taken.items()
    ]  # fmt: skip


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--cycles", action="store_true", help="measure whole cycles instead of steps")
    parser.add_argument("--device", default="cpu", help="cpu by default; cuda measures wall time and device memory")
    args = parser.parse_args()
    quiet()
    exact_memory()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    for network in args.networks:
        rows += (
            cycle_rows(network, args.rounds, args.device)
            if args.cycles
            else step_rows(network, args.rounds, args.threads, args.device)
        )
    show(rows, args.json, device=args.device, threads=args.threads, rounds=args.rounds, torch=torch.__version__)


if __name__ == "__main__":
    main()
