"""A set-valued task all the way: files, flip, crop, batch, loss, average precision, scores, predictions, cache.

The pictures are disks of known centre and radius, so that every number has its right value from geometry.
"""

import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lightning_taskonomy import FolderDataModule, TaxonomyStudy
from lightning_taskonomy.cli import main
from lightning_taskonomy.data.batch import SkipSample, collate
from lightning_taskonomy.data.shards import ShardCache
from lightning_taskonomy.data.streams import Required
from lightning_taskonomy.data.transforms import Joint
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.metrics import ObjectAveragePrecision
from lightning_taskonomy.modules.objectives import objective, target_of
from lightning_taskonomy.pictures import caption, colorize, hatch
from lightning_taskonomy.tasks import IGNORE_INDEX, Label, LabelKind, Task, TaskKind, presence

SIZE = 64


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs" / "examples"))
    import my_objects

    yield my_objects
    sys.modules.pop("my_objects", None)


def disks(random, count, size=SIZE):
    """Centres and radii of disks that do not touch, in pixels from the corner of the picture."""
    made = []
    while len(made) < count:
        radius = random.uniform(5, 9)
        x, y = random.uniform(radius + 1, size - radius - 1, 2)
        if all(np.hypot(x - a, y - b) > radius + r + 2 for a, b, r in made):
            made.append((x, y, radius))
    return np.array(made).reshape(-1, 3)


def picture(circles, random, size=SIZE):
    y, x = np.mgrid[:size, :size] + 0.5
    image = random.uniform(0, 60, (size, size, 3))
    for a, b, r in circles:
        image[np.hypot(x - a, y - b) <= r] = (220, 200, 60)
    return image.astype(np.uint8)


def boxes_of(circles):
    x, y, r = circles.T
    return np.stack([x - r, y - r, x + r, y + r], 1)


@pytest.fixture
def folder(tmp_path):
    """Pictures of 0 to 3 disks; every fifth has no label."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("validation", 10), ("test", 10)):
        for number in range(count):
            circles = disks(random, number % 4)
            for key in ("image", "boxes", "centres"):
                (tmp_path / split / key).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(circles, random)).save(tmp_path / split / "image" / f"{number:02}.png")
            if number % 5 < 4:
                np.savetxt(tmp_path / split / "boxes" / f"{number:02}.txt", boxes_of(circles), "%.6f")
                np.savetxt(tmp_path / split / "centres" / f"{number:02}.txt", circles[:, :2], "%.6f")
    return tmp_path


def module_of(folder, example, **options):
    return FolderDataModule(str(folder), [example.DISKS], keys=["image", "boxes", "centres", "middles"], **options)


def test_no_object_and_not_labelled_are_two_things(folder, example):
    samples = module_of(folder, example).dataset("train")
    batch = samples.batch(range(10))
    assert batch[presence("boxes")].tolist() == 2 * [True, True, True, True, False]
    counts = batch["boxes"].isfinite().all(-1).sum(1).tolist()
    assert counts == [0, 1, 2, 3, 0, 1, 2, 3, 0, 0] and batch["boxes"].shape == (10, 3, 4)
    assert batch["centres"].shape == (10, 3, 1, 2) and batch["middles"].shape == (10, 1, 16, 16)
    assert (batch["middles"][0] == 0).all() and batch["middles"][4].isnan().all(), "empty, and unknown"
    assert batch["middles"][3].sum() == 3 and batch.labelled == {"image", "id", "boxes", "centres", "middles",
                                                                presence("boxes"), presence("centres")}  # fmt: skip
    assert collate([samples[4]], samples.targets).labelled.isdisjoint({"boxes", "centres", "middles"})
    assert "boxes" in collate([samples[0]], samples.targets).labelled, "nothing to see is a label"


def test_labels_of_the_same_objects_have_as_many_rows_where_one_of_them_is_not_there(folder, example):
    """One picture with boxes alone, one with both: box n and point n are of one object, whatever is labelled."""
    samples = module_of(folder, example).dataset("train")
    boxes_alone = {key: entry for key, entry in samples[3].items() if not key.startswith("centres")}
    batch = collate([boxes_alone, samples[1]], samples.targets)
    assert batch["boxes"].shape == (2, 3, 4) and batch["centres"].shape == (2, 3, 1, 2)
    assert batch[presence("boxes")].all() and batch[presence("centres")].tolist() == [False, True]
    assert batch["centres"][0].isnan().all() and batch["centres"].isfinite().sum() == 2
    others = {**samples.targets, "centres": Label("centres", LabelKind.POINTS, 1, objects="others")}
    assert collate([boxes_alone, samples[1]], others)["centres"].shape == (2, 1, 1, 2)


def test_a_task_one_of_whose_labels_is_nowhere_is_refused_and_named(folder, example, tmp_path, capsys):
    for split in ("train", "validation", "test"):
        shutil.rmtree(folder / split / "centres")
    recipe = ["--data.init_args.root", str(folder), "--config", str(Path(example.__file__).with_suffix(".yaml"))]
    words = ["--model.init_args.backbone.init_args.name", "test_resnet", "--out", str(tmp_path / "run")]
    assert main(["fit", *recipe[2:], *recipe[:2], *words, "--trainer.enable_progress_bar", "false"]) == 1
    assert "task 'disks' has nothing to learn from in split 'train': there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    tasks = "--data.init_args.tasks=[my_objects.DISKS]"
    assert main(["data", "check", "--data=FolderDataModule", f"--data.init_args.root={folder}", tasks]) == 1
    assert "problem: train: no image has a label centres: there is no folder" in capsys.readouterr().out


TRANSFORMS = {
    "flip": v2.RandomHorizontalFlip(1), "upend": v2.RandomVerticalFlip(1), "crop": v2.RandomCrop(48),
    "resize": v2.Resize((96, 32)), "resized crop": v2.RandomResizedCrop(40, (0.3, 0.9)), "pad": v2.Pad(7),
    "turn": v2.RandomRotation((90, 90)),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_objects_move_with_their_pixels(name):
    """The mask of a disk is part of the picture: where it is, its box and its centre must be."""
    random, targets = np.random.default_rng(1), {
        "boxes": Label("boxes", LabelKind.BOXES, 4), "centres": Label("centres", LabelKind.POINTS, 1),
        "masks": Label("masks", LabelKind.MASKS), "kinds": Label("kinds", LabelKind.OBJECT_CLASSES),
    }  # fmt: skip
    y, x = np.mgrid[:256, :256] + 0.5
    for seed in range(4):
        circles = disks(random, 4, 64) * 4
        masks = torch.tensor(np.stack([np.hypot(x - a, y - b) <= r for a, b, r in circles]))
        sample = {
            "image": torch.zeros(3, 256, 256), "masks": masks, "kinds": torch.arange(4),
            "boxes": torch.tensor(boxes_of(circles)).float(), "centres": torch.tensor(circles[:, None, :2]).float(),
        }  # fmt: skip
        transform = TRANSFORMS[name] if name != "crop" else v2.RandomCrop(160)
        transform = v2.RandomResizedCrop(160, (0.3, 0.9)) if name == "resized crop" else transform
        torch.manual_seed(seed)
        moved = Joint([transform], targets)(sample)
        height, width = moved["image"].shape[-2:]
        kept = moved["kinds"].tolist()
        assert moved["masks"].shape[1:] == (height, width) and len(kept) == len(moved["boxes"]) == len(moved["centres"])
        rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        for mask, box, (point,) in zip(moved["masks"], moved["boxes"], moved["centres"], strict=True):
            seen = torch.stack([columns[mask].min() - 0.5, rows[mask].min() - 0.5, columns[mask].max() + 0.5,
                                rows[mask].max() + 0.5])  # fmt: skip
            assert ((box - seen) * torch.tensor([1, 1, -1, -1])).max() <= 1.5, (name, box, seen)
            touches = (box < 1).any() or box[2] > width - 1 or box[3] > height - 1
            if not touches:
                assert (box - seen).abs().max() <= 1.5, (name, box, seen)
                centroid = torch.stack([columns[mask].mean(), rows[mask].mean()])
                assert (point - centroid).abs().max() < 0.35, (name, point, centroid)
                assert (point - (box[:2] + box[2:]) / 2).abs().max() < 1e-3
            elif point.isfinite().all():
                assert (point >= 0).all() and point[0] <= width and point[1] <= height
        gone = {0, 1, 2, 3} - set(kept)
        assert gone == set() or "crop" in name


@pytest.mark.parametrize(
    "transform",
    [
        v2.Pad(5, fill=1.0), v2.RandomRotation((30, 30), fill=1.0), v2.RandomAffine(0, (0.2, 0.2), fill=1.0),
        v2.RandomPerspective(0.4, 1.0, fill=1.0), v2.ElasticTransform(20.0, fill=1.0),
    ],
    ids=lambda transform: type(transform).__name__,
)  # fmt: skip
def test_what_comes_into_view_is_of_no_object(transform):
    """The picture is filled with white there, a mask is not."""
    masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    masks[0, 12:20, 12:20] = True
    sample = {"image": torch.zeros(3, 32, 32), "masks": masks}
    moved = Joint([transform], {"masks": Label("masks", LabelKind.MASKS)})(sample)
    assert (moved["image"] == 1).any() or isinstance(transform, v2.ElasticTransform)
    assert 32 < moved["masks"].sum() < 96 and moved["masks"].dtype == torch.bool


def test_sets_of_other_objects_have_another_name():
    sample = {"image": torch.zeros(3, 32, 32), "cars": torch.tensor([[1.0, 2, 8, 9]]), "people": torch.zeros(0, 4)}
    cars, people = (Label(key, LabelKind.BOXES, 4) for key in ("cars", "people"))
    with pytest.raises(InputError, match=r"differ in number: {'cars': 1, 'people': 0}"):
        Joint([v2.RandomHorizontalFlip(1)], {"cars": cars, "people": people})(sample)
    others = Label("people", LabelKind.BOXES, 4, objects="people")
    moved = Joint([v2.RandomHorizontalFlip(1)], {"cars": cars, "people": others})(sample)
    assert moved["cars"].tolist() == [[24, 2, 31, 9]] and moved["people"].shape == (0, 4)


def test_points_that_a_mirror_exchanges(example):
    ears = torch.tensor([[[10.0, 5.0], [20.0, 6.0]]])
    sample = {"image": torch.zeros(3, 32, 32), "ears": ears}
    exchanged = Label("ears", LabelKind.POINTS, 2, mirror=(1, 0))
    moved = Joint([v2.RandomHorizontalFlip(1), v2.Resize(64)], {"ears": exchanged})(sample)["ears"]
    assert moved.tolist() == [[[24.0, 12.0], [44.0, 10.0]]], "the left ear of the mirrored face was the right one"
    with pytest.raises(InputError, match=r"2 points per object cannot be flipped.*give it mirror"):
        Joint([v2.RandomHorizontalFlip(1)], {"ears": Label("ears", LabelKind.POINTS, 2)})(sample)


def test_the_loss_is_divided_by_the_objects_and_unlabelled_pictures_teach_nothing(folder, example):
    batch = module_of(folder, example).dataset("train").batch(range(5))
    goal, preds = objective(example.DISKS), torch.zeros(5, 7, 16, 16)
    target = target_of(example.DISKS, batch, preds)
    total, count = goal.total_and_count(preds, target)
    assert count == 6
    hits = 4 * 16 * 16 * np.log(2)  # four labelled pictures, chance one half in every cell
    sides = 0.0
    for image in range(4):
        for box, (point,) in zip(batch["boxes"][image], batch["centres"][image], strict=True):
            if box.isfinite().all():
                middle = (box[:2] + box[2:]) / 2
                cell = (middle / 4).floor() * 4 + 2
                sides += float(((box - cell.repeat(2)).abs().sum() + (point - cell).abs().sum()) / 4)
    assert float(total) == pytest.approx(hits + sides, rel=1e-5)
    scores = goal.score_errors(preds, target)
    assert scores[1].tolist() == [True, True, True, True, False]
    absent = target_of(example.DISKS, {"image": batch["image"]}, preds)
    assert not absent[presence("boxes")].any() and absent["boxes"].shape == (5, 0, 4)
    assert absent["middles"].shape == (5, 1, 16, 16) and absent["middles"].isnan().all()


def brute_force_precision(preds, truth, threshold):
    """Area under the precision envelope at COCO's 101 recalls, one class."""
    guesses = [
        (float(chance), image, box)
        for image, (boxes, scores) in enumerate(preds)
        for box, chance in zip(boxes, scores, strict=True)
    ]
    ranked = sorted(guesses, key=lambda guess: -guess[0])
    taken, hits = set(), []
    for _, image, box in ranked:
        best, which = threshold, None
        for number, other in enumerate(truth[image]):
            low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
            inter = np.prod(np.clip(high - low, 0, None))
            area = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - inter
            if inter / area >= best and (image, number) not in taken:
                best, which = inter / area, number
        hits.append(which is not None)
        if which is not None:
            taken.add((image, which))
    total = sum(map(len, truth))
    true = np.cumsum(hits)
    recall, precision = true / total, true / np.arange(1, len(hits) + 1)
    return np.mean([max(precision[recall >= r], default=0.0) for r in np.linspace(0, 1, 101)])


def test_average_precision_equals_brute_force_and_heeds_presence(example):
    random = np.random.default_rng(3)
    truth = [boxes_of(disks(random, count)) for count in (3, 0, 2, 1)]
    preds = []
    for boxes in truth:
        guess = np.concatenate([boxes + random.normal(0, 1.2, boxes.shape), boxes_of(disks(random, 1))])
        preds.append((guess, random.uniform(0, 1, len(guess))))
    metric = ObjectAveragePrecision(example.DISKS)
    samples = [{"boxes": torch.tensor(boxes).float(), "id": torch.tensor(i)} for i, boxes in enumerate(truth)]
    batch = collate([*samples, {"id": torch.tensor(9)}], {"boxes": example.DISKS.targets["boxes"]})
    decoded = [{"boxes": torch.tensor(b).float(), "scores": torch.tensor(s).float()} for b, s in preds]
    target = {"boxes": batch["boxes"], presence("boxes"): batch[presence("boxes")]}
    metric.update([*decoded, decoded[0]], target)  # the last picture is not labelled: what is seen there is no mistake
    figures = metric.compute()
    thresholds = np.linspace(0.5, 0.95, 10)
    by_hand = [brute_force_precision(preds, truth, threshold) for threshold in thresholds]
    assert float(figures["map_50"]) == pytest.approx(by_hand[0], abs=1e-4)
    assert float(figures["map"]) == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert 0 < by_hand[-1] < by_hand[0] < 1 or by_hand[-1] == 0


def test_pictures_show_objects_over_the_image(example):
    circles = np.array([[20.0, 30.0, 8.0]])
    label = {"boxes": boxes_of(circles), "centres": circles[:, None, :2], presence("boxes"): np.array(True)}
    image = np.full((3, SIZE, SIZE), 0.5)
    drawn = colorize(example.DISKS, label, image=image, size=(SIZE, SIZE))
    changed = np.argwhere((drawn != 128).any(-1))
    assert changed.min(0).tolist() == [22, 12] and changed.max(0).tolist() == [37, 27], "the box, corner to corner"
    assert (drawn[29:31, 19:21] != 128).any(), "the point"
    assert caption(example.DISKS, label) == "1 object"
    unknown = {**label, presence("boxes"): np.array(False)}
    assert (colorize(example.DISKS, unknown, size=(8, 8)) == hatch(8, 8)).all()
    assert caption(example.DISKS, unknown) == "no label"


def test_a_cache_keeps_sets_of_every_size(tmp_path):
    random, counts = np.random.default_rng(0), [0, 3, 1, 0, 2] * 60  # more than a shard
    boxes = [random.uniform(0, 64, (count, 4)).astype(np.float32) for count in counts]
    known = [np.array(number % 3 > 0) for number in range(len(counts))]
    cache = ShardCache(tmp_path, {"data": "disks"}, len(counts))
    layout = {"boxes": boxes[1], presence("boxes"): known[0]}
    cache.fill(layout, lambda part: ({"boxes": boxes[i], presence("boxes"): known[i]} for i in part), ["boxes"])
    again = ShardCache(tmp_path, {"data": "disks"}, len(counts))
    assert again.missing(["boxes", presence("boxes")]) == []
    for index in itertools.chain(range(8), range(250, 300)):
        assert np.array_equal(again.read("boxes", index), boxes[index])
        assert bool(again.read(presence("boxes"), index)) == bool(known[index])
    record = again.folder / "cache.json"
    content = json.loads(record.read_text())
    del content["convention"]  # as the release wrote it that had 255 for a missing class
    record.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"labels by convention 1, this release reads 2; remove that folder"):
        ShardCache(tmp_path, {"data": "disks"}, len(counts))


def test_collating_pads_each_kind_with_what_is_missing():
    targets = {
        "kinds": Label("kinds", LabelKind.OBJECT_CLASSES), "masks": Label("masks", LabelKind.MASKS),
        "boxes": Label("boxes", LabelKind.BOXES, 4),
    }  # fmt: skip
    one = {"kinds": torch.tensor([7, 255]), "masks": torch.ones(2, 4, 4, dtype=torch.bool), "boxes": torch.ones(2, 4)}
    none = {"kinds": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, 4, 4, dtype=torch.bool),
            "boxes": torch.zeros(0, 4)}  # fmt: skip
    batch = collate([one, none, {"id": torch.tensor(3)}], targets)
    assert batch["kinds"].tolist() == [[7, 255], 2 * [IGNORE_INDEX], 2 * [IGNORE_INDEX]]
    assert batch["masks"].sum((1, 2, 3)).tolist() == [32, 0, 0] and batch["boxes"][1:].isnan().all()
    assert batch[presence("masks")].tolist() == [True, True, False]


def test_a_set_brings_its_own_parts():
    with pytest.raises(InputError, match="task 'things': a set has no head by default; give one by its dotted path"):
        Task("things", TaskKind.SET, "boxes", labels=(Label("boxes", LabelKind.BOXES, 4),))
    with pytest.raises(InputError, match="labels says nothing of its target 'boxes'"):
        Task("things", TaskKind.SET, "boxes")
    with pytest.raises(InputError, match="kind is 'dense'; sets of objects, and they alone, need 'set'"):
        Task("things", TaskKind.DENSE, "boxes", labels=(Label("boxes", LabelKind.BOXES, 4),))


@pytest.mark.slow
def test_disks_are_learnt_measured_scored_and_shown(folder, example, tmp_path, monkeypatch):
    """The command line on a folder of files: fit with flips, test, predict."""
    run = tmp_path / "run"
    common = [
        "--config", str(Path(example.__file__).with_suffix(".yaml")), "--data.init_args.root", str(folder),
        "--out", str(run), "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
        "--trainer.enable_checkpointing", "false", "--trainer.log_every_n_steps", "1",
        "--trainer.limit_val_batches", "0", "--model.init_args.backbone", "my_project.SmallBackbone",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *common]) == 0
    assert main(["test", *common, "--weights", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/disks/map_50"] > 0.6 and metrics["test/disks/map"] < metrics["test/disks/map_50"]
    scores = np.load(run / "scores.npz")["disks"]
    assert np.isnan(scores).sum() == 2 and len(scores) == 10, "pictures that nobody looked at"
    assert main(["predict", *common, "--weights", str(run)]) == 0
    lines = [json.loads(line) for line in (run / "predictions/predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 10 and {"boxes", "centres", "scores"} == set(lines[0]["values"])
    data = module_of(folder, example).dataset("test")
    truth = {int(sample["id"]): sample for sample in (data[i] for i in range(10))}
    distances = []
    for line in lines:
        sample, values = truth[int(line["image"])], line["values"]
        assert line["prediction"].split()[0] == str(len(values["scores"])) == str(len(values["boxes"]))
        for point in sample["centres"][:, 0] if sample.get(presence("boxes"), True) else ():
            distances.append(min((np.hypot(*(np.array(p[0]) - point.numpy())) for p in values["centres"]), default=99))
    assert len(distances) == 12 and np.median(distances) < 3, "centres were seen, in pixels"
    assert len(list((run / "predictions").glob("*-disks.png"))) == 10


def test_a_study_of_transfers_refuses_sets(example, rooms, tiny_backbone):
    with pytest.raises(InputError, match=r"task .disks. predicts sets of objects, for which there is no average guess"):
        TaxonomyStudy(tasks=["my_objects.DISKS", "normals"], data=rooms, backbone=tiny_backbone)


def test_a_picture_without_objects_is_no_picture_without_a_label(folder, example):
    """What "Task Meta-Transfer" needs of each image of the parallel set: number 0 has no disk, nobody looked at 4."""
    samples = module_of(folder, example).build("train", ["image", "boxes"])
    required = Required(samples, [{"boxes"}], skip=True)
    assert [len(required[index]["boxes"]) for index in range(4)] == [0, 1, 2, 3]
    with pytest.raises(SkipSample, match=r"training image 4 .* has no label boxes"):
        required[4]
