"""NYUv2: the official file and the MTAN arrays, the halves of the test set, normals from depth, real samples."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lightning_taskonomy.data.doctor import check
from lightning_taskonomy.data.geometry import normals_from_depth
from lightning_taskonomy.data.nyuv2 import OF_40, NYUv2DataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TaskonomyResNet
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.modules.objectives import target_of
from lightning_taskonomy.optim.aggregation import AGGREGATORS
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.meta_transfer import MetaTransferStudy
from lightning_taskonomy.tasks import find

torch.set_num_threads(1)
REAL = Path(__file__).parents[2].parent / "shared" / "realdata" / "nyuv2"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no NYUv2 at {REAL}")
KEYS = ["image", "semantic", "depth_z", "normals"]
HEIGHT, WIDTH = 24, 32


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Three training images and four others; number n has depth n + 1, a hole and an unlabelled pixel."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 4)):
        for number in range(count):
            label = rng.integers(0, 13, (8, 12)).astype(np.float32)
            label[0, 0] = -1
            depth = np.full((8, 12, 1), number + 1, np.float32)
            depth[0, 0] = 0
            normal = np.zeros((8, 12, 3), np.float32)
            normal[1:, :, 1] = -1  # against "forward"
            contents = {"image": rng.random((8, 12, 3)), "label": label, "depth": depth, "normal": normal}
            for kind, content in contents.items():
                (tmp_path / part / kind).mkdir(parents=True, exist_ok=True)
                np.save(tmp_path / part / kind / f"{number}.npy", content)
    return tmp_path


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """The official file with eight images: 3, 4 and 7 to train on, the others to test on."""
    h5py = pytest.importorskip("h5py", reason="the official file is HDF5: needs h5py")
    from scipy.io import savemat

    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = rng.integers(0, 256, (8, 3, WIDTH, HEIGHT), np.uint8)
        file["depths"] = np.full((8, WIDTH, HEIGHT), 2, np.float32) + np.arange(8, dtype=np.float32)[:, None, None]
        raw = file["depths"][:]
        raw[:, 5, 4] = 0
        file["rawDepths"] = raw
        file["labels"] = rng.integers(0, 895, (8, WIDTH, HEIGHT), np.uint16)
    splits = {"trainNdxs": np.array([[3], [4], [7]]), "testNdxs": np.array([[1], [2], [5], [6], [8]])}
    savemat(tmp_path / "splits.mat", splits)
    savemat(tmp_path / "classMapping40.mat", {"mapClass": rng.integers(1, 41, (1, 894), np.uint8)})
    return tmp_path


def test_arrays(arrays: Path) -> None:
    samples = NYUv2DataModule(str(arrays)).build("train", KEYS)
    assert len(samples) == 3
    sample = samples[1]
    stored = np.load(arrays / "train" / "label" / "1.npy")
    assert torch.equal(sample["semantic"], torch.tensor(np.where(stored < 0, -100, stored)).long())
    np.testing.assert_allclose(sample["image"].permute(1, 2, 0), np.load(arrays / "train/image/1.npy"), rtol=1e-6)
    assert sample["depth_z"][0, 0, 0].isnan() and (sample["depth_z"][0, 1:] == 2).all()
    assert sample["normals"][:, 0].isnan().all()
    assert sample["normals"][:, 1:].flatten(1).T.unique(dim=0).tolist() == [[0, 0, -1]]


@pytest.mark.parametrize("layout", ["arrays", "official"])
def test_the_test_images_are_halved(layout: str, request: pytest.FixtureRequest) -> None:
    data = NYUv2DataModule(str(request.getfixturevalue(layout)))
    ids = {}
    for split in ("train", "validation", "test", "official_test"):
        samples = data.build(split, ["image"])
        ids[split] = [int(samples[i]["id"]) for i in range(len(samples))]
    assert ids["validation"] == ids["official_test"][::2] and ids["test"] == ids["official_test"][1::2]
    assert len(ids["train"]) == 3 and not {*ids["train"]} & {*ids["official_test"]}


def test_a_missing_number_does_not_move_the_halves(arrays: Path) -> None:
    data = NYUv2DataModule(str(arrays))
    before = [int(data.build("test", ["image"])[i]["id"]) for i in range(2)]
    (arrays / "val" / "image" / "0.npy").unlink()
    assert [int(data.build("test", ["image"])[i]["id"]) for i in range(2)] == before
    assert len(data.build("validation", ["image"])) == 1


def test_two_files_of_one_number_are_refused(arrays: Path) -> None:
    (arrays / "train" / "image" / "01.npy").write_bytes((arrays / "train" / "image" / "0.npy").read_bytes())
    with pytest.raises(InputError, match=r"01\.npy and .*/1\.npy would both be number 1; remove or rename one"):
        NYUv2DataModule(str(arrays)).build("train", ["image"])


def test_the_official_file(official: Path) -> None:
    import h5py
    from scipy.io import loadmat

    sample = NYUv2DataModule(str(official)).build("train", KEYS)[2]  # number 7
    with h5py.File(official / "nyu_depth_v2_labeled.mat") as file:
        assert torch.equal(sample["image"], torch.tensor(file["images"][6].swapaxes(1, 2)).float() / 255)
        labels = file["labels"][6].T.astype(int)
    forty = loadmat(official / "classMapping40.mat")["mapClass"][0].astype(int)
    expected = [[OF_40[forty[number - 1] - 1] - 1 if number else -100 for number in row] for row in labels]
    assert sample["semantic"].tolist() == expected
    assert sample["depth_z"].shape == (1, HEIGHT, WIDTH) and (sample["depth_z"] == 8).all()
    middle = sample["normals"][:, 10, 15]
    torch.testing.assert_close(middle, torch.tensor([0.0, 0.0, -1.0]))
    raw = NYUv2DataModule(str(official), raw_depth=True, size=(12, 16)).build("test", ["image", "depth_z"])
    assert raw[0]["depth_z"].shape == (1, 12, 16) and len(raw) == 2


def test_damaged_files_are_counted(arrays: Path, caplog: pytest.LogCaptureFixture) -> None:
    (arrays / "train" / "image" / "0.npy").write_bytes(b"\x93NUMPY")
    (arrays / "train" / "depth" / "1.npy").unlink()
    np.save(arrays / "train" / "label" / "1.npy", np.zeros((8, 12, 2)))
    np.save(arrays / "train" / "normal" / "1.npy", np.zeros((8, 12)))
    data = NYUv2DataModule(str(arrays), keys=KEYS, batch_size=3)
    samples = data.dataset("train")
    assert samples[0] == {}
    assert samples[1]["depth_z"].isnan().all() and (samples[1]["semantic"] == -100).all()
    assert samples[1]["normals"].isnan().all()
    report = check(NYUv2DataModule(str(arrays)))
    assert len(report.problems) == 4 and report.splits["train"].read == 2
    assert "1.npy: missing" in caplog.text and "one class per pixel" in caplog.text


def test_classes_that_there_are_not(arrays: Path) -> None:
    labels = np.zeros((8, 12))
    labels[2, :5] = 13
    np.save(arrays / "train" / "label" / "1.npy", labels)
    with pytest.raises(InputError, match=r"label/1\.npy holds class 13 at 5 of 96 pixels, but there are 0 to 12"):
        NYUv2DataModule(str(arrays)).build("train", ["image", "semantic"])[1]


def test_damaged_official_file(official: Path) -> None:
    whole = (official / "nyu_depth_v2_labeled.mat").read_bytes()
    (official / "nyu_depth_v2_labeled.mat").write_bytes(whole[: len(whole) // 2])
    samples = NYUv2DataModule(str(official), keys=["image"]).dataset("train")
    assert samples[0] == {}


def test_bad_input_is_said_on_one_line(arrays: Path, official: Path, tmp_path: Path) -> None:
    cases: list[tuple[Any, str]] = [
        (lambda: NYUv2DataModule(str(tmp_path / "nowhere")).build("train", ["image"]), r"labeled\.mat is missing"),
        (lambda: NYUv2DataModule(str(arrays)).build("vall", ["image"]), "no split 'vall'"),
        (lambda: NYUv2DataModule(str(arrays), normal_axes=("right", "left", "up")), "normal_axes is"),
        (lambda: NYUv2DataModule(str(arrays), normal_axes=("right", "back", "up")).build("train", ["normals"])[0],
         "point away from the camera"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_official_files_that_are_not_there(official: Path) -> None:
    data = NYUv2DataModule(str(official))
    (official / "classMapping40.mat").unlink()
    assert len(data.build("train", ["image", "depth_z"])) == 3
    with pytest.raises(InputError, match=r"classMapping40\.mat is missing"):
        data.build("train", ["semantic"])
    (official / "splits.mat").write_bytes(b"no matrix")
    with pytest.raises(InputError, match=r"splits\.mat cannot be read"):
        data.build("train", ["image"])


def test_without_h5py(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"needs h5py: pip install 'lightning-taskonomy\[nyuv2\]'"):
        NYUv2DataModule(str(official)).build("train", ["image"])


def test_parts_of_the_arrays_that_are_not_there(arrays: Path) -> None:
    (arrays / "val").rename(arrays / "elsewhere")
    (arrays / "train" / "normal").rename(arrays / "normal")
    data = NYUv2DataModule(str(arrays))
    with pytest.raises(InputError, match=r"no image NUMBER\.npy of split 'validation'"):
        data.build("validation", ["image"])
    with pytest.raises(InputError, match="no folder 'normal', where 'normals' is"):
        data.build("train", KEYS)


def room_of_planes(root: Path, signs: tuple[int, int, int] = (1, 1, 1)) -> NYUv2DataModule:
    """A floor 0.6 m below, walls ahead and aside, seen by the toolbox's camera, as the MTAN authors wrote them.

    Their normals are right, forward, up; ``signs`` turns what is written round.
    """
    height, width = 72, 96
    x = ((np.arange(width) + 0.5) * 640 / width - 0.5 - (325.582 - 1)) / 518.858
    y = ((np.arange(height) + 0.5) * 480 / height - 0.5 - (253.736 - 1)) / 519.470
    rays = np.stack([*np.meshgrid(x, y), np.ones((height, width))], -1)
    planes = np.array([[0, -1, 0], [0.3, 0, -1], [-1, 0, -0.2]])
    planes /= np.linalg.norm(planes, axis=1)[:, None]
    along = -np.array([0.6, 3.0, 1.6]) / (rays @ planes.T)
    along[along <= 0] = np.inf
    depth, normal = along.min(-1), planes[along.argmin(-1)]
    contents = {
        "image": np.random.default_rng(0).random((height, width, 3)),
        "depth": depth[..., None],
        "normal": np.stack([normal[..., 0], normal[..., 2], -normal[..., 1]], -1) * signs,
    }
    for kind, content in contents.items():
        (root / "train" / kind).mkdir(parents=True, exist_ok=True)
        np.save(root / "train" / kind / "0.npy", content.astype(np.float32))
    return NYUv2DataModule(str(root), keys=["image", "depth_z", "normals"])


def test_axes_of_the_arrays_by_geometry(tmp_path: Path) -> None:
    """The axes read by default are those that fit the depth in the toolbox's camera; others are named."""
    assert check(room_of_planes(tmp_path / "right"), splits=["train"]).problems == []
    (problem,) = check(room_of_planes(tmp_path / "wrong", (1, 1, -1)), splits=["train"]).problems
    assert "normals look turned: y reversed fits at" in problem


def test_the_task() -> None:
    task = find("nyuv2.semantic_segmentation")
    assert task.target == "semantic" and task.channels == 13 and max(OF_40) == 13 and len(OF_40) == 40
    assert task.class_names is not None and task.class_names[0] == "bed" and task.class_names[12] == "window"


@real
def test_real_mapping_of_classes() -> None:
    from scipy.io import loadmat

    mapping = loadmat(REAL / "class13Mapping.mat")["classMapping13"]
    assert tuple(mapping["labels13"][0, 0][0]) == OF_40
    names = [str(name[0]) for name in mapping["classNames"][0, 0][0]]
    assert tuple(names) == find("nyuv2.semantic_segmentation").class_names
    forty = np.asarray(Image.open(REAL / "seg40/test/000433.png")).astype(int)
    thirteen = np.asarray(Image.open(REAL / "seg13/test/000433.png")).astype(int)
    assert np.array_equal(np.array([*OF_40])[np.minimum(forty, 39)] * (forty != 255), thirteen)


@real
def test_real_splits(official: Path) -> None:
    import shutil

    shutil.copy(REAL / "splits.mat", official)
    data = NYUv2DataModule(str(official))
    sizes = {split: len(data.build(split, ["image"])) for split in ("train", "validation", "test", "official_test")}
    assert sizes == {"train": 795, "validation": 327, "test": 327, "official_test": 654}


@real
def test_real_arrays() -> None:
    data = NYUv2DataModule(str(REAL / "mtan_npy_derived"), keys=KEYS, batch_size=1)
    (batch,) = list(data.val_dataloader())
    assert batch["image"].shape == (1, 3, 288, 384)
    assert {*batch["semantic"].unique().tolist()} <= {*range(13), -100}
    depth = batch["depth_z"][~batch["depth_z"].isnan()]
    assert depth.min() > 0.5 and depth.max() < 10
    normals = batch["normals"][0]
    torch.testing.assert_close(normals.norm(dim=0)[~normals[0].isnan()].mean(), torch.tensor(1.0))


@real
def test_normals_from_real_depth_are_those_published_for_it() -> None:
    stored = torch.from_numpy(np.asarray(Image.open(REAL / "depth/test/000433.png")).astype(np.float32))[None] / 5000
    normals = normals_from_depth(torch.where(stored > 0, stored, torch.nan), (518.858, 519.470), (324.582, 252.736))
    published = np.asarray(Image.open(REAL / "normal/test/000433.png")).astype(np.float32) / 255 * 2 - 1
    x, forward, up = torch.from_numpy(published).unbind(-1)
    expected = torch.stack([x, -up, forward])
    cosine = torch.nn.functional.cosine_similarity(normals, expected, dim=0)[expected.norm(dim=0) > 0.5]
    cosine = cosine[~cosine.isnan()]
    assert len(cosine) > 100_000
    assert torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).median() < 6


@real
def test_real_labels_compared() -> None:
    """The published normals were made otherwise than from this depth; even so no other axes fit them as well."""
    root = str(REAL / "mtan_npy_derived")
    report = check(NYUv2DataModule(root), splits=["validation"])
    (line,) = report.splits["validation"].compared
    assert report.problems == [] and line.startswith("normals and depth_z differ by 4.")
    (problem,) = check(NYUv2DataModule(root, normal_axes=("left", "forward", "up")), splits=["validation"]).problems
    assert "normals look turned: x reversed fits at 6." in problem


@real
def test_labels_of_the_real_image_as_predictions_are_without_error() -> None:
    """Reader, losses and metrics mean the same by classes, metres, axes and what is missing."""
    tasks = ["nyuv2.semantic_segmentation", "depth_z", "normals"]
    (batch,) = list(NYUv2DataModule(str(REAL / "mtan_npy_derived"), keys=KEYS, batch_size=1).val_dataloader())
    module = MultiTaskModule([*tasks], TaskonomyResNet("test_resnet"))
    classes = batch["semantic"].clamp(min=0)
    predictions = {
        "semantic_segmentation": 100 * torch.nn.functional.one_hot(classes, 13).movedim(-1, 1).float(),
        "depth_z": batch["depth_z"].nan_to_num(1.0),
        "normals": batch["normals"].nan_to_num(1.0),
    }
    for name, task in module.tasks.items():
        target = target_of(task, batch, predictions[name])
        module.val_metrics.update(name, predictions[name], target, torch.tensor(0.0))
    values = module.val_metrics.finish()
    assert values["val/depth_z/mae"] == 0 and values["val/normals/mean_angle"] < 0.1
    present = (batch["semantic"] >= 0).float().mean()
    assert values["val/semantic_segmentation/miou"] == pytest.approx(1) and 0.5 < present <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "network"), [("arrays", "SplitVGG-3"), ("official", "SplitRes-3")])
def test_the_recipe_in_miniature(layout: str, network: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The study of ``recipes/meta_transfer/nyuv2.yaml`` from scratch, with a few steps of narrow networks."""
    root = request.getfixturevalue(layout)
    recipe = Path(__file__).parents[2] / "recipes" / "meta_transfer" / "nyuv2.yaml"
    settings = yaml.safe_load(recipe.read_text())["study"]["init_args"]
    networks = settings["networks"]
    assert [one["backbone"]["init_args"] for one in networks.values()] == [{"split": 3, "pretrained": False}] * 2
    backbone = {**networks[network]["backbone"], "init_args": {"split": 3, "width": 2, "pretrained": False}}
    data = {**settings["data"], "init_args": {"root": str(root), "size": [32, 48], "batch_size": 2}}
    methods = {name: first_of(knobs) for name, knobs in settings["methods"].items() if name not in AGGREGATORS}
    small = {
        "networks": {network: {**networks[network], "backbone": backbone}}, "data": data, "parallel": 2, "steps": 4,
        "evaluations": 2, "seeds": None, "ranks": None, "splits": [4], "amounts": None, "trials": 1,
        "methods": {name: {**knobs, "rank": 2} if "rank" in knobs else knobs for name, knobs in methods.items()},
        "cases": [settings["cases"][0], settings["cases"][-1]], "trainer": {"accelerator": "cpu"},
    }  # fmt: skip
    MetaTransferStudy(**{**settings, **small}).run(tmp_path / "study", execution=LocalExecutor(workers=0))
    assert json.loads((tmp_path / "study/failures.json").read_text()) == []
    with (tmp_path / "study/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tested = {(row["study"], row["primary"], row["auxiliary"], row["method"]) for row in rows}
    directed = [*(name for name in methods if name not in ("primary_only", "oracle"))]
    one, several = ("semantic_segmentation", "depth_z"), ("normals", "semantic_segmentation+depth_z")
    assert {(*case, name) for case in (one, several) for name in directed if name != "tmt_mean" or case is several} == {
        (primary, auxiliary, method) for study, primary, auxiliary, method in tested if study == "main" and auxiliary
    }
    assert {method for study, _, _, method in tested if study == "split"} == {
        "transfer",
        "mtl",
        "lin",
        "tmt",
        "tmt_identity",
    }
    assert all(np.isfinite(float(row["test"])) for row in rows)


def first_of(knobs: dict[str, Any] | None) -> dict[str, Any]:
    """The first setting of each grid; of Transfer Learning one that leaves both halves a step."""
    plain = {name: value[0] if isinstance(value, list) else value for name, value in (knobs or {}).items()}
    return {**plain, "pretrain": 0.5} if "pretrain" in plain else plain
