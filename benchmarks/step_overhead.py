"""A ``MultiTaskModule`` step under the Trainer with its default logging, with the same step as a plain PyTorch loop.

Both train the same network on the same batch in one process. The Trainer's loader hands out a block of batches and then
runs a block of plain steps itself, so that the sides take turns; a step is timed from one batch asked for to the next.
"""

import copy
import tempfile
import time
import warnings
from collections.abc import Iterator
from statistics import median

import torch
from _timing import options, show
from lightning import Trainer
from torch.nn.functional import normalize
from torch.utils.data import IterableDataset

from lightning_taskonomy import MultiTaskModule, TimmBackbone
from lightning_taskonomy.batch import Batch, labelled_keys
from lightning_taskonomy.tasks import Task, resolve

TASKS = ["depth_z", "normals", "semantic_segmentation", "edges_occlusion", "reshading"]
BLOCK, DROPPED = 6, 2


def synthetic_batch(tasks: dict[str, Task], count: int, size: int) -> Batch:
    """A batch of noise of the right shapes; depth is positive, normals are unit, classes in range."""
    batch = {"image": torch.rand(count, 3, size, size), "id": torch.arange(count)}
    for task in tasks.values():
        if task.is_classes:
            batch[task.target] = torch.randint(task.channels, (count, size, size))
        else:
            values = torch.randn(count, task.channels, size, size)
            batch[task.target] = normalize(values, dim=1) if task.name == "normals" else values.abs()
    return Batch(batch, labelled_keys(batch))


class PlainLoop:
    """What a person would write without a Trainer: forward, masked losses, backward, step."""

    def __init__(self, module: MultiTaskModule, batch: Batch) -> None:
        module = copy.deepcopy(module)
        self.tasks, self.objectives, self.batch = module.tasks, module.objectives, batch
        self.backbone, self.heads = module.backbone.train(), module.heads.train()
        self.optimizer = torch.optim.AdamW([*self.backbone.parameters(), *self.heads.parameters()], lr=1e-3)

    def step(self) -> None:
        """One optimizer step."""
        features = self.backbone(self.batch["image"])
        size, total = self.batch["image"].shape[-2:], torch.zeros(())
        for name, task in self.tasks.items():
            preds = task.shift + task.scale * self.heads[name](features, size)
            error, valid = self.objectives[name].errors(preds, self.batch[task.target])
            total = total + error.sum() / valid.sum()
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()


class TakingTurns(IterableDataset[Batch]):
    """Hands a block of batches to the Trainer, then runs a block of plain steps, and so on; keeps both sides' times."""

    def __init__(self, plain: PlainLoop, rounds: int) -> None:
        self.plain, self.rounds = plain, rounds
        self.trainer_times: list[float] = []
        self.plain_times: list[float] = []

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.rounds + 1):
            times: list[float] = []
            for _ in range(BLOCK):
                start = time.perf_counter()
                yield self.plain.batch
                times.append(time.perf_counter() - start)
            self.trainer_times += times[DROPPED:]
            times = []
            for _ in range(BLOCK):
                start = time.perf_counter()
                self.plain.step()
                times.append(time.perf_counter() - start)
            self.plain_times += times[DROPPED:]


def compare(names: list[str], rounds: int, size: int, count: int) -> dict[str, object]:
    """Median seconds of a step on both sides and their ratio."""
    torch.manual_seed(0)
    module = MultiTaskModule(names, TimmBackbone("resnet18"))
    batch = synthetic_batch(resolve(names), count, size)
    return {"tasks": len(names), **timed(module, TakingTurns(PlainLoop(module, batch), rounds))}


def timed(module: MultiTaskModule, turns: TakingTurns) -> dict[str, float]:
    """Median seconds of a module's step under the Trainer and of the plain one, and their ratio."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, enable_model_summary=False)
        trainer.fit(module, torch.utils.data.DataLoader(turns, batch_size=None))
    skip = BLOCK - DROPPED  # the first round warms up
    under_trainer, plain = median(turns.trainer_times[skip:]), median(turns.plain_times[skip:])
    return {"Trainer s": under_trainer, "plain s": plain, "ratio": under_trainer / plain}


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=8)
    parser.add_argument("--size", type=int, default=128, help="pixels along each side; 128 by default")
    parser.add_argument("--batch", type=int, default=8, help="images per batch; 8 by default")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [compare(TASKS[:count], args.rounds, args.size, args.batch) for count in (1, len(TASKS))]
    show(rows, args.json, threads=args.threads, size=args.size, batch=args.batch, torch=torch.__version__)


if __name__ == "__main__":
    main()
