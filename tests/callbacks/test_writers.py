"""Scores per image and pictures of predictions, as a trainer hands them over."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from lightning_taskonomy.callbacks import PredictionWriter, ScoreWriter
from lightning_taskonomy.tasks import find


@dataclass
class Handed:
    """What the writers ask of a trainer."""

    default_root_dir: Path
    world_size: int = 1
    is_global_zero: bool = True
    datamodule: object = None


def scores(root, *outputs, folder=None):
    writer, trainer = ScoreWriter(folder), Handed(root)
    writer.on_test_start(trainer, None)
    for i, output in enumerate(outputs):
        writer.on_test_batch_end(trainer, None, output, {}, i)
    writer.on_test_end(trainer, None)
    return writer


def test_scores_are_ordered_by_image_and_counted_once(tmp_path):
    scores(
        tmp_path,
        {"id": torch.tensor([5, 1]), "depth": torch.tensor([0.5, 0.1], dtype=torch.float64)},
        {"id": torch.tensor([3, 5]), "depth": torch.tensor([float("nan"), 9.0])},
    )
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as saved:
        assert saved["id"].tolist() == [1, 3, 5]
        np.testing.assert_allclose(saved["depth"], [0.1, np.nan, 0.5], rtol=1e-6)
        assert saved["depth"].dtype == np.float32


def test_nothing_is_written_where_nothing_was_scored(tmp_path):
    scores(tmp_path, None, {"other": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_a_second_test_begins_anew(tmp_path):
    writer = scores(tmp_path, {"id": torch.tensor([1]), "depth": torch.tensor([1.0])})
    trainer = Handed(tmp_path)
    writer.on_test_start(trainer, None)
    writer.on_test_batch_end(trainer, None, {"id": torch.tensor([2]), "depth": torch.tensor([2.0])}, {}, 0)
    writer.on_test_end(trainer, None)
    with np.load(tmp_path / "scores.npz") as saved:
        assert saved["id"].tolist() == [2]


def test_scores_go_to_the_folder_that_is_given(tmp_path):
    scores(tmp_path / "a", {"id": torch.tensor([1]), "depth": torch.tensor([1.0])}, folder=tmp_path / "b")
    assert (tmp_path / "b" / "scores.npz").is_file() and not (tmp_path / "a").exists()


def test_pictures_are_named_by_image_where_no_file_is_known(tmp_path):
    tasks = {"depth_z": find("depth_z"), "scene_classification": find("scene_classification")}
    batch = {"id": torch.tensor([7, 12]), "image": torch.zeros(2, 3, 8, 10)}
    logits = torch.zeros(2, 6)
    logits[1, 2] = 5.0
    outputs = {"depth_z": torch.rand(2, 1, 8, 10), "scene_classification": logits}
    writer, trainer = PredictionWriter(), Handed(tmp_path)
    writer.on_predict_batch_end(trainer, SimpleNamespace(tasks=tasks), outputs, batch, 0)
    writer.on_predict_end(trainer, None)
    folder = tmp_path / "predictions"
    assert sorted(file.name for file in folder.iterdir()) == [
        "000007-depth_z.png", "000007-scene_classification.png", "000012-depth_z.png",
        "000012-scene_classification.png", "predictions.jsonl",
    ]  # fmt: skip
    with Image.open(folder / "000012-depth_z.png") as picture:
        assert picture.size == (10, 8)
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [7, 12] and lines[1]["values"] == logits[1].tolist()
    assert "kitchen" in lines[1]["prediction"]


def test_stems_are_numbered_where_files_share_a_name():
    writer = PredictionWriter()
    files = [Path("a/x.png"), Path("b/x.png"), Path("a/x.jpg"), Path("a/x.png"), Path("a/y.png")]
    assert [writer._stem(file) for file in files] == ["x", "x-2", "x-3", "x", "y"]
