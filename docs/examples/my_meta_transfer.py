"""Task Meta-Transfer in a LightningModule of one's own: few pictures with masks of their disk, many with edges only.

python my_meta_transfer.py
"""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from lightning_taskonomy import InTurns, TaskMetaTransfer

Batch = dict[str, Tensor]


class Disks(LightningModule):
    """What the callback asks for: a backbone, heads by task, and the loss of a task from its head's predictions."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        )
        self.heads = nn.ModuleDict({name: nn.Conv2d(16, 1, 3, padding=1) for name in ("mask", "edge")})

    def task_loss(self, name: str, predictions: Tensor, batch: Batch) -> Tensor:
        """Binary cross-entropy of either task."""
        return functional.binary_cross_entropy_with_logits(predictions, batch[name])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The losses of the tasks that have labels in this batch."""
        features = self.backbone(batch["image"])
        losses = [self.task_loss(name, head(features), batch) for name, head in self.heads.items() if name in batch]
        return torch.stack(losses).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Intersection over union of the masks."""
        head = self.heads["mask"]
        preds, true = head(self.backbone(batch["image"])) > 0, batch["mask"] > 0
        self.log("iou", (preds & true).sum() / (preds | true).sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Any optimizer will do."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Pictures(Dataset[Batch]):
    """Noisy pictures of one disk each, with its edge and perhaps its mask."""

    def __init__(self, count: int, seed: int, masks: bool = True, size: int = 16) -> None:
        random = torch.Generator().manual_seed(seed)
        center = 4 + (size - 8) * torch.rand(count, 2, 1, 1, generator=random)
        radius = 2 + 3 * torch.rand(count, 1, 1, generator=random)
        axis = torch.arange(size)
        distance = ((axis[:, None] - center[:, 0]) ** 2 + (axis - center[:, 1]) ** 2).sqrt() - radius
        distance = distance[:, None]  # (count, 1, size, size)
        mask, edge = (distance < 0).float(), (distance.abs() < 1).float()
        self.labels = {"image": mask + 0.5 * torch.randn(mask.shape, generator=random), "edge": edge}
        if masks:
            self.labels["mask"] = mask

    def __len__(self) -> int:
        return len(self.labels["image"])

    def __getitem__(self, index: int) -> Batch:
        return {name: values[index] for name, values in self.labels.items()}


def main() -> float:
    """Trains and returns the intersection over union on new pictures."""
    torch.manual_seed(0)
    few, many = Pictures(8, seed=0), Pictures(200, seed=1, masks=False)
    batches = InTurns(
        DataLoader(few, batch_size=8, shuffle=True), DataLoader(many, batch_size=8, shuffle=True), auxiliary_steps=3
    )
    held_out = DataLoader(Pictures(100, seed=2), batch_size=100)
    transfer = TaskMetaTransfer(primary="mask", auxiliary=["edge"], rank=4, auxiliary_steps=3)
    trainer = Trainer(max_epochs=20, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[transfer])
    trainer.fit(Disks(), batches, held_out)
    return float(trainer.callback_metrics["iou"])


if __name__ == "__main__":
    print(f"intersection over union {main():.2f}")
