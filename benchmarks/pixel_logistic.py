"""The floor for CamVid: a per-pixel logistic regression on colour and position, fitted on the same images.

    python benchmarks/pixel_logistic.py DIR

Prints its test mIoU beside nothing else; `lightning-taskonomy test` prints the network's on the same pixels.
"""

import argparse
import json

import torch
from torchmetrics.classification import MulticlassJaccardIndex

from lightning_taskonomy.data import CamVidDataModule
from lightning_taskonomy.tasks import IGNORE_INDEX, find


def pixels(module: CamVidDataModule, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardisable features (N, 5): red, green, blue, row, column; and classes (N,)."""
    features, classes = [], []
    for batch in module.loader(module.dataset(split, keys=["image", "semantic"])):
        image = batch["image"]
        height, width = image.shape[-2:]
        grid = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        place = torch.stack(grid).expand(len(image), 2, height, width)
        features.append(torch.cat([image, place], 1).movedim(1, -1).reshape(-1, 5))
        classes.append(batch["semantic"].reshape(-1))
    return torch.cat(features), torch.cat(classes)


def main() -> None:
    """Fits on the training images, measures on the test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    module = CamVidDataModule(given.root, size=tuple(given.size), batch_size=8)
    task = find("camvid.semantic_segmentation")
    features, classes = pixels(module, "train")
    mean, std = features.mean(0), features.std(0)
    valid = classes != IGNORE_INDEX
    x, y = ((features - mean) / std)[valid], classes[valid]
    keep = torch.randperm(len(x))[:400_000]
    x, y = x[keep], y[keep]
    model = torch.nn.Linear(5, task.channels)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y) + 1e-6 * model.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    features, classes = pixels(module, "test")
    metric = MulticlassJaccardIndex(task.channels, ignore_index=IGNORE_INDEX)
    with torch.no_grad():
        metric.update(model((features - mean) / std).argmax(1), classes)
    print(json.dumps({"test_miou": round(float(metric.compute()), 4), "train_loss": round(float(closure()), 4)}))


if __name__ == "__main__":
    main()
