"""Pictures in, pictures out: image files, folders and a video through the command line."""

import json

import av
import numpy as np
import pytest
import torch
from PIL import Image

from lightning_taskonomy.cli import main
from lightning_taskonomy.data import ImageFiles
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.training import execute, load_run


def picture(size=(40, 30), seed=0):
    return np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)


def write_video(file, frames=3, size=(48, 32), rate=5):
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            pixels = np.full((size[1], size[0], 3), 40 + 60 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def frames_of(file):
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        return float(stream.average_rate), [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.fixture(scope="module")
def run(tiny_fit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "run"
    execute(tiny_fit("depth_z", "semantic_segmentation", "scene_classification", "denoising"), folder)
    return folder


@pytest.fixture
def inputs(tmp_path):
    """An image, a folder of two and a video."""
    Image.fromarray(picture()).save(tmp_path / "one.png")
    (tmp_path / "more").mkdir()
    Image.fromarray(picture((64, 64), 1)).save(tmp_path / "more/b.jpg")
    Image.fromarray(picture((64, 48), 2)[..., 0]).save(tmp_path / "more/a.png")  # grey
    (tmp_path / "more/notes.txt").write_text("no picture")
    write_video(tmp_path / "walk.mp4")
    return tmp_path


def predict(run, out, *paths, **options):
    data = {"class_path": "ImageFiles", "init_args": {"paths": [str(p) for p in paths], "size": 32, **options}}
    return main(["predict", "--config", str(run / "config.yaml"), "--weights", str(run), "--out", str(out),
                 "--data", json.dumps(data)])  # fmt: skip


def test_everything_is_predicted_and_named_after_its_file(run, inputs, tmp_path):
    out = tmp_path / "out"
    assert predict(run, out, inputs / "one.png", inputs / "more", inputs / "walk.mp4") == 0
    tasks = ("depth_z", "semantic_segmentation", "scene_classification", "denoising")
    expected = {f"{stem}-{task}.png" for stem in ("one", "a", "b") for task in tasks}
    expected |= {f"walk-{task}.mp4" for task in tasks} | {"predictions.jsonl"}
    assert {file.name for file in (out / "predictions").iterdir()} == expected
    lines = [json.loads(line) for line in (out / "predictions/predictions.jsonl").read_text().splitlines()]
    assert [(line["image"].rsplit("/", 1)[-1], line.get("frame")) for line in lines] == [
        ("one.png", None), ("a.png", None), ("b.jpg", None), ("walk.mp4", 0), ("walk.mp4", 1), ("walk.mp4", 2),
    ]  # fmt: skip
    assert all(line["task"] == "scene_classification" and len(line["values"]) == 6 for line in lines)
    with Image.open(out / "predictions/one-depth_z.png") as made:
        assert made.size == (32, 32)  # 40 x 30 at a shorter side of 32, in multiples of 32
    rate, frames = frames_of(out / "predictions/walk-depth_z.mp4")
    assert rate == 5 and [frame.shape for frame in frames] == 3 * [(32, 64, 3)]  # 48 x 32 likewise


def test_a_prediction_is_the_modules_own(run, inputs, tmp_path):
    assert predict(run, tmp_path / "out", inputs / "one.png") == 0
    line = json.loads((tmp_path / "out/predictions/predictions.jsonl").read_text())
    model, _ = load_run(run)
    module = ImageFiles([inputs / "one.png"], size=32)
    (batch,) = module.predict_dataloader()
    with torch.no_grad():
        (values,) = model.eval()({"image": batch["image"]}, ["scene_classification"])["scene_classification"]
    np.testing.assert_allclose(line["values"], values.log_softmax(0).numpy(), atol=2e-5)


def test_pictures_keep_their_proportions(inputs):
    module = ImageFiles([inputs / "one.png"], size=60, multiple=2)
    (batch,) = module.predict_dataloader()
    assert batch["image"].shape == (1, 3, 60, 80) and batch["image"].min() >= 0 and batch["image"].max() <= 1


def test_a_picture_that_needs_no_resize_is_read_exactly(tmp_path):
    Image.fromarray(picture((32, 32))).save(tmp_path / "x.png")
    (batch,) = ImageFiles([tmp_path / "x.png"], size=32).predict_dataloader()
    expected = torch.tensor(picture((32, 32))).permute(2, 0, 1) / 255
    torch.testing.assert_close(batch["image"][0], expected, atol=1e-6, rtol=0)


def test_frames_tell_where_they_came_from(inputs):
    module = ImageFiles([inputs / "walk.mp4", inputs / "one.png"], size=32)
    levels = [batch["image"].mean().item() for batch in module.predict_dataloader()]
    assert [(f.file.name, f.number, f.rate) for f in module.frames.values()] == [
        ("walk.mp4", 0, 5.0), ("walk.mp4", 1, 5.0), ("walk.mp4", 2, 5.0), ("one.png", None, 0.0),
    ]  # fmt: skip
    np.testing.assert_allclose(levels[:3], [40 / 255, 100 / 255, 160 / 255], atol=0.03)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.png", "does not exist"),
        ("more/notes.txt", "is neither image nor video; allowed"),
        ("empty", "holds no image or video"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(inputs, name, message):
    (inputs / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        ImageFiles([inputs / name])
    with pytest.raises(InputError, match="no path given"):
        ImageFiles([])


@pytest.mark.parametrize("name", ["one.png", "walk.mp4"])
def test_a_truncated_file_is_one_line(run, inputs, tmp_path, capsys, name):
    file = inputs / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    assert predict(run, tmp_path / "out", file) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and f"{name} cannot be read" in errors[0]


def test_two_files_of_one_name_do_not_overwrite_each_other(run, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture(seed=ord(folder))).save(tmp_path / folder / "same.png")
    assert predict(run, tmp_path / "out", tmp_path / "a", tmp_path / "b") == 0
    assert len(list((tmp_path / "out/predictions").glob("same*-depth_z.png"))) == 2


def test_what_was_predicted_before_a_file_that_cannot_be_read_is_kept(run, inputs, tmp_path):
    file = inputs / "one.png"
    file.write_bytes(file.read_bytes()[:100])
    assert predict(run, tmp_path / "out", inputs / "walk.mp4", file) == 1
    _, frames = frames_of(tmp_path / "out/predictions/walk-depth_z.mp4")
    lines = (tmp_path / "out/predictions/predictions.jsonl").read_text().splitlines()
    assert len(frames) == len(lines) == 2  # the Trainer fetches one picture ahead of the one it predicts
