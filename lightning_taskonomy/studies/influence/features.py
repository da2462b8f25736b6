"""Colours and features of data sets' images: how they are normalised and compared. Run in worker processes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_taskonomy.data import TaskDataModule
from lightning_taskonomy.data.normalisation import write_colours
from lightning_taskonomy.files import atomic
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.models.sources import load_backbone
from lightning_taskonomy.training import instantiate_data

__all__ = ["colours", "pooled", "pooled_features"]


def colours(data: dict[str, Any], file: str) -> None:
    """Measures the colours of all training images, by which they are normalised (section 4.1).

    Args:
        data: The data module's class and arguments.
        file: The JSON file that is written.
    """
    write_colours(instantiate_data(data), file)


def pooled_features(run: str, data: dict[str, Any], count: int, file: str) -> None:
    """Writes the features of a seeded choice of training images, averaged over all pixels (section 3.2).

    Args:
        run: The run whose backbone is the encoder.
        data: The data module's class and arguments.
        count: How many images; all where there are fewer.
        file: The ``.npz`` that is written: ``features`` (n, C) float32 and ``id`` (n,).
    """
    features, ids = pooled(load_backbone(run), instantiate_data(data), count)
    with atomic(Path(file)) as path, path.open("wb") as opened:
        np.savez(opened, features=features, id=ids)


@torch.no_grad()
def pooled(backbone: Backbone, data: TaskDataModule, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The features of a seeded choice of training images, averaged over all pixels.

    Args:
        backbone: The encoder.
        data: The data.
        count: How many images; all where there are fewer.

    Returns:
        (n, C) and the images' ids (n,).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = backbone.to(device).eval()
    ids, rows = [], []
    for batch in data.loader(data.dataset(data.fit_split, keys=["image"], size=count)):
        maps = backbone(batch["image"].to(device))
        rows.append(torch.cat([features.float().mean((2, 3)) for features in maps], 1).cpu())
        ids.append(batch["id"])
    return torch.cat(rows).numpy(), torch.cat(ids).numpy()
