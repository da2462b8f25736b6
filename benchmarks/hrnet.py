"""A segmentation step of HRNetV2-W48 under the Trainer, with the same timm network in a plain PyTorch loop.

Both sides begin with the same weights and train on the same batch in one process, taking turns as in step_overhead.py.
The plain side knows nothing of this library: timm's branches, enlarged and put side by side, a 1 x 1 convolution,
probabilities enlarged bilinearly, their logarithm, SGD with momentum. That both lose the same at first is checked.
"""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from _timing import options, show
from step_overhead import TakingTurns, timed
from torch import nn

from lightning_taskonomy import MultiTaskModule
from lightning_taskonomy.batch import Batch, labelled_keys
from lightning_taskonomy.models.backbones import HRNetV2
from lightning_taskonomy.models.heads import LinearHead
from lightning_taskonomy.tasks import Task, TaskKind

SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=1e-4)


class PlainTimm:
    """What a person would write with timm alone."""

    def __init__(self, module: MultiTaskModule, batch: Batch) -> None:
        module = copy.deepcopy(module)
        backbone, head = module.backbone, module.heads["classes"]
        self.network, self.batch = backbone.model.train(), batch
        self.mean, self.std = backbone.mean, backbone.std
        (self.readout,) = (part for part in head.modules() if isinstance(part, nn.Conv2d))
        self.optimizer = SGD([*self.network.parameters(), *self.readout.parameters()])

    def step(self) -> float:
        """One optimizer step; its loss."""
        first, *others = self.network((self.batch["image"] - self.mean) / self.std)
        enlarged = [F.interpolate(one, size=first.shape[-2:], mode="bilinear", align_corners=False) for one in others]
        chances = self.readout(torch.cat([first, *enlarged], 1)).softmax(1)
        chances = F.interpolate(chances, size=self.batch["image"].shape[-2:], mode="bilinear", align_corners=False)
        loss = F.nll_loss(
            chances.clamp(min=torch.finfo(torch.float32).tiny).log(), self.batch["classes"], ignore_index=-100
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def compare(width: int, rounds: int, size: int, count: int) -> dict[str, object]:
    """Median seconds of a step on both sides and their ratio."""
    torch.manual_seed(0)
    task = Task("classes", TaskKind.SEGMENTATION, "classes", 20)
    module = MultiTaskModule([task], HRNetV2(width), {"segmentation": LinearHead}, optimizer=SGD)
    with torch.no_grad():
        for weight in module.heads.parameters():  # so that the two ways to enlarge would differ
            weight.mul_(5)
    labels = torch.randint(20, (count, size, size))
    entries = {"image": torch.rand(count, 3, size, size), "id": torch.arange(count), "classes": labels}
    batch = Batch(entries, labelled_keys(entries))
    first = copy.deepcopy(module).train().losses(batch)[0]["classes"]
    torch.testing.assert_close(float(first), PlainTimm(module, batch).step(), rtol=1e-4, atol=0)
    turns = TakingTurns(PlainTimm(module, batch), rounds)  # type: ignore[arg-type]  # it has a batch and a step
    return {"width": width, **timed(module, turns)}


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=4)
    parser.add_argument("--width", type=int, default=48, help="channels of the finest branch; 48 by default")
    parser.add_argument("--size", type=int, default=128, help="pixels along each side; 128 by default")
    parser.add_argument("--batch", type=int, default=2, help="images per batch; 2 by default")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    row = compare(args.width, args.rounds, args.size, args.batch)
    show([row], args.json, threads=args.threads, size=args.size, batch=args.batch, torch=torch.__version__)


if __name__ == "__main__":
    main()
