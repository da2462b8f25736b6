"""Detection and keypoints learn 20 real images by heart: COCO's files through maps, loss, decoding and metric."""

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_taskonomy import MultiTaskModule
from lightning_taskonomy.data.batch import collate
from lightning_taskonomy.models.backbones import HRNetV2
from lightning_taskonomy.models.heads import CenterHead, KeypointHead
from lightning_taskonomy.modules.objectives import target_of
from lightning_taskonomy.tasks.catalog.objects import detection

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_object_metrics import PEOPLE, samples_of

REAL = Path(__file__).parents[2].parent / "shared" / "realdata" / "coco_tiny"
SIZE = 192


def twenty(kind):
    """Images with 1 to 8 of what is looked for, squeezed to a square, with their labels; and the classes' names.

    In images with more, objects are so small and close that some share a cell.
    """
    file = REAL / "annotations" / f"{kind}_train2017.json"
    if not file.exists():
        pytest.skip(f"the real COCO sample {REAL.name} is not on this machine")
    content = json.loads(file.read_text())
    wanted = Counter(a["image_id"] for a in content["annotations"] if a.get("num_keypoints", 1))
    images = [image for image in content["images"] if 1 <= wanted[image["id"]] <= 8]
    content["images"] = sorted(images, key=lambda image: image["id"])[:20]
    samples = samples_of(content, points=kind == "person_keypoints")
    for image, sample in zip(content["images"], samples, strict=True):
        picture = Image.open(REAL / "train2017" / image["file_name"]).convert("RGB")
        factor = torch.tensor([SIZE / picture.width, SIZE / picture.height])
        for key in {"boxes", "crowd_boxes", "points"} & sample.keys():
            sample[key] = sample[key] * (factor if key == "points" else factor.repeat(2))
        sample["image"] = torch.tensor(np.array(picture.resize((SIZE, SIZE)))).movedim(-1, 0) / 255
    return samples, [category["name"] for category in content["categories"]]


def model_for(task):
    torch.manual_seed(0)
    head = partial(KeypointHead, hidden=64) if task is PEOPLE else partial(CenterHead, neck=64, hidden=64)
    return MultiTaskModule([task], HRNetV2(10), {"set": head})


def trained(task, samples, steps):
    """The losses of steps of Adam on batches of five of the images, and the average precision on all of them."""
    model, batch = model_for(task), collate(samples, task.targets)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        few = torch.randperm(len(samples), generator=generator)[:5]
        total = sum(model.losses({key: entry[few] for key, entry in batch.items()})[0].values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        losses.append(float(total.detach()))
    model.eval()
    objective = model.objectives[task.name]
    (metric,) = objective.metrics(task).values()
    with torch.no_grad():
        preds = model(batch)[task.name]
    metric.update(objective.decode(preds, task), target_of(task, batch, preds))
    return losses, float(metric.compute()["map_50"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["instances", "person_keypoints"])
def test_twenty_real_images_are_learnt_by_heart(kind):
    samples, names = twenty(kind)
    task = PEOPLE if kind == "person_keypoints" else detection("things", names, crowds=True)
    losses, precision = trained(task, samples, 500)
    assert np.mean(losses[-20:]) < 0.1 * np.mean(losses[:20])
    assert precision > 0.9
