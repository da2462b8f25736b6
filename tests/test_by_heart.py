"""A small HRNet learns a few real images by heart, each task type: files through loss, decoding and metric."""

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from lightning_taskonomy import MultiTaskModule
from lightning_taskonomy.data import CamVidDataModule, NYUv2DataModule
from lightning_taskonomy.data.batch import collate
from lightning_taskonomy.models.backbones import HRNetV2
from lightning_taskonomy.models.heads import CenterHead, DenseHead, KeypointHead, LinearDepthHead
from lightning_taskonomy.modules.objectives import target_of
from lightning_taskonomy.tasks import find, presence
from lightning_taskonomy.tasks.catalog.objects import detection

sys.path.insert(0, str(Path(__file__).parent))
from test_object_metrics import PEOPLE, samples_of

REAL = Path(__file__).parents[2] / "shared" / "realdata"


@pytest.fixture(autouse=True)
def _here():
    if not REAL.is_dir():
        pytest.skip(f"no real labelled images at {REAL}")


def learnt(task, head, batch, steps, few=5):
    """The mean losses of the first and of the last steps of Adam on some of the images, and the metrics on all."""
    torch.manual_seed(0)
    model = MultiTaskModule([task], HRNetV2(10), {task.kind.value: head})
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        rows = torch.randperm(len(batch["image"]), generator=generator)[:few]
        total = sum(model.losses({key: entry[rows] for key, entry in batch.items()})[0].values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        losses.append(float(total.detach()))
    model.eval()
    objective = model.objectives[task.name]
    with torch.no_grad():
        preds = model(batch)[task.name]
    values: dict[str, float] = {}
    for name, metric in objective.metrics(task).items():
        metric.update(objective.decode(preds, task), target_of(task, batch, preds))
        value = metric.compute()
        values |= {k: float(v) for k, v in value.items()} if isinstance(value, dict) else {name: float(value)}
    return np.mean(losses[:20]), np.mean(losses[-20:]), values


def objects(kind, size):
    """Twenty images of COCO with 1 to 8 of what is looked for, squeezed to a square, and the classes' names.

    Objects whose shorter side is below a twelfth of the image, about three cells, leave an image out.
    """
    content, folders = {"images": [], "annotations": []}, {}
    for split in ("train", "val"):
        of_split = json.loads((REAL / f"coco_tiny/annotations/{kind}_{split}2017.json").read_text())
        folders |= {image["id"]: f"coco_tiny/{split}2017" for image in of_split["images"]}
        both = {name: content[name] + of_split[name] for name in ("images", "annotations")}
        content = {**of_split, **both}
    sides = {image["id"]: np.array([image["width"], image["height"]]) for image in content["images"]}
    count, tiny = Counter(), set()
    for annotation in content["annotations"]:
        image = annotation["image_id"]
        count[image] += annotation.get("num_keypoints", 1) > 0
        if min(annotation["bbox"][2:] / sides[image]) < 1 / 12:
            tiny.add(image)
    images = [one for one in content["images"] if 1 <= count[one["id"]] <= 8 and one["id"] not in tiny]
    content["images"] = sorted(images, key=lambda image: image["id"])[:20]
    samples = samples_of(content, points=kind == "person_keypoints")
    for image, sample in zip(content["images"], samples, strict=True):
        picture = Image.open(REAL / folders[image["id"]] / image["file_name"]).convert("RGB")
        factor = torch.tensor([size / picture.width, size / picture.height])
        for key in {"boxes", "crowd_boxes", "points"} & sample.keys():
            sample[key] = sample[key] * (factor if key == "points" else factor.repeat(2))
        sample["image"] = torch.tensor(np.array(picture.resize((size, size)))).movedim(-1, 0) / 255
    return samples, [category["name"] for category in content["categories"]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["instances", "person_keypoints"])
def test_objects_and_points_of_coco(kind):
    samples, names = objects(kind, 128)
    task = PEOPLE if kind == "person_keypoints" else detection("things", names, crowds=True)
    head = partial(KeypointHead, hidden=32) if task is PEOPLE else partial(CenterHead, neck=32, hidden=32)
    first, last, metrics = learnt(task, head, collate(samples, task.targets), 700 if task is PEOPLE else 450)
    assert len(samples) == 20 and last < 0.1 * first
    assert metrics["map_50"] > 0.9


@pytest.mark.slow
def test_classes_of_camvid():
    """By a head that reaches full resolution: truth at a quarter of this one, enlarged, has a mIoU of 0.76 itself."""
    task = find("camvid.semantic_segmentation")
    data = CamVidDataModule(str(REAL / "camvid"), size=(96, 128), batch_size=4)
    (batch,) = data.loader(data.dataset("train", keys=["image", *task.targets], size=4))
    first, last, metrics = learnt(task, partial(DenseHead, layers=5, min_width=32), batch, 700, few=4)
    assert last < 0.1 * first
    assert metrics["miou"] > 0.9 and metrics["accuracy"] > 0.95


def depth_of(file: Path, unit: float, size: tuple[int, int]) -> Tensor:
    """Metres (1, H, W), NaN where nothing was measured."""
    depth = torch.from_numpy(np.asarray(Image.open(file)).astype(np.float32))[None] / unit
    return v2.functional.resize(depth.where(depth > 0, torch.nan), list(size), v2.InterpolationMode.NEAREST)


@pytest.mark.slow
def test_depths_of_nyuv2():
    """Five images: one from arrays by the reader, four from files."""
    size, root, task = (96, 128), REAL / "nyuv2", find("depth_z")
    data = NYUv2DataModule(str(root / "mtan_npy_derived"), size=size, batch_size=1)
    (batch,) = data.loader(data.dataset("validation", keys=["image", "depth_z"]))
    pairs = [(root / "image/test/000464.png", root / "depth/test/000464.png", 5000.0)]
    pairs += [(root / f"depth_only/rgb_{n}.jpg", root / f"depth_only/sync_depth_{n}.png", 1000.0)
              for n in ("00000", "00050", "00100")]  # fmt: skip
    depths = [batch["depth_z"][0], *(depth_of(depth, unit, size) for _, depth, unit in pairs)]
    images = [batch["image"][0]]
    for image, _, _ in pairs:
        picture = Image.open(image).convert("RGB").resize(size[::-1])
        images.append(torch.tensor(np.array(picture)).movedim(-1, 0) / 255)
    labels = torch.stack(depths)
    there = torch.ones(len(labels), dtype=torch.bool)
    whole = {"image": torch.stack(images), "depth_z": labels, presence("depth_z"): there}
    _, _, metrics = learnt(task, LinearDepthHead, whole, 400)
    spread = float(labels[~labels.isnan()].std())
    assert metrics["rmse"] < 0.2 * spread and metrics["delta1"] > 0.98
