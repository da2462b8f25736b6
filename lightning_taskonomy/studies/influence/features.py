"""Features by which the images of data sets are compared. Run in worker processes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_taskonomy.files import atomic
from lightning_taskonomy.models.sources import load_backbone
from lightning_taskonomy.training import instantiate_data

__all__ = ["pooled_features"]


@torch.no_grad()
def pooled_features(run: str, data: dict[str, Any], count: int, file: str) -> None:
    """Writes the features of a seeded choice of training images, averaged over all pixels (section 3.2).

    Args:
        run: The run whose backbone is the encoder.
        data: The data module's class and arguments.
        count: How many images; all where there are fewer.
        file: The ``.npz`` that is written: ``features`` (n, C) float32 and ``id`` (n,).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone, module = load_backbone(run).to(device).eval(), instantiate_data(data)
    ids, rows = [], []
    for batch in module.loader(module.dataset(module.fit_split, keys=["image"], size=count)):
        maps = backbone(batch["image"].to(device))
        rows.append(torch.cat([features.float().mean((2, 3)) for features in maps], 1).cpu())
        ids.append(batch["id"])
    with atomic(Path(file)) as path, path.open("wb") as opened:
        np.savez(opened, features=torch.cat(rows).numpy(), id=torch.cat(ids).numpy())
