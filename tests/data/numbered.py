"""Numbered images, of which a few have primary labels: a data set in which each batch says whose labels it has."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.parallel import ParallelLabels

KEYS = ["image", "semantic", "depth_z", "normals"]
PRIMARY, AUXILIARY = "semantic_segmentation", ["depth_z"]


class Numbered(TaskDataModule):
    """Twenty training images and three others; image number n is all n, images in `bare` have no depth."""

    bare: Collection[int] = ()

    @property
    def keys_offered(self) -> Collection[str]:
        return KEYS

    def build(self, split: str, keys: Collection[str]) -> Any:
        def sample(number: int) -> dict[str, Tensor]:
            depth = torch.full((1, 2, 2), float("nan") if number in self.bare else float(number))
            entries = {
                "image": torch.full((3, 2, 2), number / 100), "semantic": torch.full((2, 2), number % 21),
                "depth_z": depth, "normals": torch.full((3, 2, 2), 3**-0.5),
            }  # fmt: skip
            return {key: entries[key] for key in keys} | {"id": torch.tensor(1000 + number)}

        return [sample(number) for number in range(20 if split == "train" else 3)]


def parallel(primary: str = PRIMARY, auxiliary: list[Any] = AUXILIARY, **options: Any) -> ParallelLabels:
    data = Numbered(batch_size=options.pop("batch_size", 2), seed=options.pop("order", 0),
                    keys=options.pop("keys", ["image", "semantic", "depth_z"]))  # fmt: skip
    return ParallelLabels(data, primary, auxiliary, **{"parallel": 0.3, **options})


def epoch_of(data: ParallelLabels, epoch: int = 0) -> list[dict[str, Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # as Lightning does
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches
