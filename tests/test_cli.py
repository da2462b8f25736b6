"""The program: its commands, options, exit statuses and messages of one line."""

import errno
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from lightning_taskonomy import cli
from lightning_taskonomy.cli import main
from lightning_taskonomy.commands import commands, solve

RECIPES = Path(__file__).parents[1] / "recipes"
PUBLISHED = Path(__file__).parents[2] / "shared/published/taskonomy/transfers_16k.csv"
TABLE = """target,order,sources,kind,affinity,win_rate_vs_task_specific,win_rate_vs_scratch
depth,1,depth,task_specific,0.5,,0.9
depth,1,normals,transfer,0.3,0.4,0.8
depth,1,edges,transfer,0.1,0.2,0.6
depth,2,edges;normals,transfer,0.4,0.45,0.85
normals,1,normals,task_specific,0.6,,0.95
normals,1,depth,transfer,0.2,0.3,0.7
normals,1,edges,transfer,,0.1,0.5
"""


@pytest.fixture
def table(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    return str(tmp_path / "table.csv")


@pytest.fixture
def recipe(tmp_path, tiny_fit):
    """Writes a fit's recipe; the runs go to a folder beside it."""

    def make(*tasks, **options):
        config = {**tiny_fit(*tasks, **options), "out": str(tmp_path / "out")}
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
        return str(tmp_path / "fit.yaml")

    return make


def status(*words):
    """The exit status, whether returned or raised."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code


def one_line(capsys):
    """What was written to stderr: one line."""
    text = capsys.readouterr().err.strip()
    assert "Traceback" not in text
    assert len(text.splitlines()) == 1, text
    return text


# commands


def test_without_a_command_it_lists_them(capsys):
    assert status() == 2
    assert status("--help") == 0
    text = capsys.readouterr().out
    for name in (
        "fit",
        "validate",
        "test",
        "predict",
        "study",
        "solve taxonomy",
        "report",
        "data render",
        "data check",
    ):
        assert f"  {name} " in text


def test_version(capsys):
    from lightning_taskonomy import __version__

    assert status("--version") == 0
    assert capsys.readouterr().out.strip() == __version__


def test_an_unknown_command_is_one_line_with_a_hint(capsys):
    assert status("studi") == 1
    assert one_line(capsys) == "error: no command 'studi'; did you mean 'study' or 'status'?"
    assert status("solve", "taxonomi") == 1
    assert one_line(capsys).startswith("error: no command 'solve taxonomi'; did you mean 'solve taxonomy'")


@pytest.mark.parametrize("words", [["solve", "taxonomy"], ["report"], ["data", "render"], ["data", "check"]])
def test_help_tells_every_option(words, capsys):
    import inspect

    assert status(*words, "--help") == 0
    text = capsys.readouterr().out
    for name in inspect.signature(commands()[" ".join(words)]).parameters:
        assert f"--{name}" in text


# solve


def test_solve_prints_exactly_one_json_object(table, capsys):
    assert status("solve", "taxonomy", "--transfers", table, "--budget", "1", "--max-order", "1", "--json") == 0
    captured = capsys.readouterr()
    solution = json.loads(captured.out)
    assert set(solution) >= {
        "objective", "proven", "gap", "sources", "policy", "mean_quality", "mean_gain", "seconds",
    }  # fmt: skip
    assert solution["sources"] == ["normals"] and solution["proven"]
    assert solution["objective"] == pytest.approx(0.3 + 0.6)
    assert "unmeasured" in captured.err and "edges" in captured.err


def test_solve_by_recipe_gives_the_same(table, tmp_path, capsys):
    solver = {"class_path": "lightning_taskonomy.solvers.TaxonomySolver", "init_args": {"budget": 1, "max_order": 1}}
    plain = {"transfers": table, "solver": solver["init_args"], "json": True}
    (tmp_path / "solve.yaml").write_text(yaml.safe_dump(plain))
    (tmp_path / "solve_class.yaml").write_text(yaml.safe_dump({**plain, "solver": solver}))
    solutions = []
    for name in ("solve.yaml", "solve_class.yaml"):
        assert status("solve", "taxonomy", "--config", tmp_path / name) == 0
        solutions.append(json.loads(capsys.readouterr().out))
    assert all(entry["sources"] == ["normals"] for entry in solutions)


def test_solve_takes_environment_variables_and_options_beat_recipes(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LT_BUDGET", "2")
    assert status("solve", "taxonomy", "--transfers", table, "--json") == 0
    assert json.loads(capsys.readouterr().out)["sources"] == ["depth", "normals"]
    (tmp_path / "solve.yaml").write_text(yaml.safe_dump({"transfers": table, "budget": 2, "json": True}))
    assert status("solve", "taxonomy", "--config", tmp_path / "solve.yaml", "--budget=1") == 0
    assert len(json.loads(capsys.readouterr().out)["sources"]) == 1


def test_solve_without_json_is_for_people_and_writes_a_file(table, tmp_path, capsys):
    assert status("solve", "taxonomy", f"--transfers={table}", "--budget=2", f"--out={tmp_path / 's.json'}") == 0
    text = capsys.readouterr().out
    assert "train: depth, normals" in text and "proven optimal" in text
    assert json.loads((tmp_path / "s.json").read_text())["sources"] == ["depth", "normals"]


def test_solve_logs_to_the_logger_it_is_given(table, tmp_path):
    assert status(
        "solve", "taxonomy", "--transfers", table, "--budget", "2", "--logger", "lightning.pytorch.loggers.CSVLogger",
        "--logger.save_dir", tmp_path, "--logger.name", "solved",
    ) == 0  # fmt: skip
    (log,) = tmp_path.glob("solved/*/metrics.csv")
    header, row = log.read_text().splitlines()
    assert float(dict(zip(header.split(","), row.split(","), strict=True))["objective"]) == pytest.approx(1.1)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published transfers lie beside the repository")
@pytest.mark.parametrize(("order", "objective"), [(1, 2.247202), (4, 2.279443)])
def test_solve_gives_the_published_optimum(order, objective, capsys):
    words = ["--transfers", PUBLISHED, "--budget", 8, "--max-order", order, "--json"]
    assert status("solve", "taxonomy", *words) == 0
    solution = json.loads(capsys.readouterr().out)
    assert solution["objective"] == pytest.approx(objective, abs=5e-7) and solution["proven"] and solution["gap"] == 0
    if order == 1:
        assert solution["mean_quality"] == pytest.approx(0.389474, abs=5e-7)
        assert solution["mean_gain"] == pytest.approx(0.826205, abs=5e-7)


def test_a_budget_that_nothing_meets_is_one_line(table, capsys):
    assert status("solve", "taxonomy", "--transfers", table, "--budget", "0", "--json") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "budget" in line


@pytest.mark.parametrize("option", ["--out", "--report"])
@pytest.mark.parametrize("kind", ["taxonomy", "grouping"])
def test_a_place_that_cannot_be_written_is_one_line_before_solving(table, tmp_path, capsys, option, kind):
    (tmp_path / "losses.tsv").write_text("cost\ta\tb\n1\t0.1\t0.2\n")
    table_words = {"taxonomy": ["--transfers", table], "grouping": ["--validation", tmp_path / "losses.tsv"]}[kind]
    place = {"--out": tmp_path, "--report": tmp_path / "losses.tsv"}[option]
    assert status("solve", kind, *table_words, "--json", option, place) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(rf"error: {place}\S* cannot be written \(.*\); give another place\n", captured.err)
    assert not captured.out


def test_a_task_that_may_not_be_named_is_one_line(table, capsys):
    assert status("solve", "taxonomy", "--transfers", table, "--tasks=[depth, normals]") == 1
    assert "task 'edges' is unknown" in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "abc"], 'Parser key "budget" must be a number, not abc'),
        (["--solver", "GroupingSolver"], 'Parser key "solver": GroupingSolver does not fit; give a TaxonomySolver'),
    ],
)
def test_a_wrong_value_exits_with_2_and_one_line(table, capsys, words, message):
    assert status("solve", "taxonomy", "--transfers", table, *words) == 2
    assert one_line(capsys) == f"error: {message}"


def test_a_table_that_is_not_there_is_one_line(tmp_path, capsys):
    assert status("solve", "taxonomy", "--transfers", tmp_path / "no.csv") == 1
    assert "no.csv" in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "hinted"),
    [
        (["--max-ordr", "2"], "max_order"),
        (["--solver.budgt", "2"], "budget"),
        (["--jsn"], "json"),
        (["--bud", "2"], "budget"),  # no abbreviations
    ],
)
def test_an_unknown_option_exits_with_2_and_a_hint(table, capsys, words, hinted):
    assert status("solve", "taxonomy", "--transfers", table, *words) == 2
    line = one_line(capsys)
    assert hinted in line.split("did you mean")[1]


def test_a_recipe_that_is_not_there_exits_with_2(capsys):
    assert status("solve", "taxonomy", "--config", "no_such.yaml") == 2
    assert "no_such.yaml" in one_line(capsys)


# data and report


def test_rooms_are_rendered_into_one_picture(tmp_path, capsys):
    assert status("data", "render", "--out", tmp_path / "r.png", "--size=32", "--buildings=1", "--labels=false") == 0
    with Image.open(tmp_path / "r.png") as sheet:
        assert sheet.width >= 32 and np.asarray(sheet.convert("RGB")).std() > 10


def test_the_cache_of_rooms_is_filled_and_removed(tmp_path, rooms, capsys):
    cache = tmp_path / "cache"
    init_args = {**rooms["init_args"], "cache": str(cache), "views": 1, "train_buildings": 1, "validation_buildings": 1,
                 "test_buildings": 1}  # fmt: skip
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": {**rooms, "init_args": init_args}}))
    words = ["data", "cache", "--config", tmp_path / "data.yaml", "--keys=[image, depth_z]"]
    assert status(*words) == 0
    assert sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) > 1000
    assert status(*words, "--remove") == 0
    assert not any(file.is_file() for file in cache.rglob("*"))


def test_a_report_of_no_study_is_one_line(tmp_path, capsys):
    assert status("report", tmp_path) == 1
    one_line(capsys)


# fit


def test_fit_then_test_leave_one_run(recipe, tmp_path, capsys):
    file = recipe("depth_z", "scene_classification")
    assert status("fit", "--config", file) == 0
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {"config.yaml", "weights.safetensors", "metrics.json"}
    fitted = json.loads((out / "metrics.json").read_text())
    config = (out / "config.yaml").read_text()
    assert status("test", "--config", out / "config.yaml", "--weights", out) == 0
    tested = json.loads((out / "metrics.json").read_text())
    assert fitted.items() <= tested.items() and "test/depth_z/mae" in tested
    assert (out / "config.yaml").read_text() == config
    with np.load(out / "scores.npz") as scores:
        assert len(scores["id"]) == 8 and np.isfinite(scores["depth_z"]).all()


def test_csv_logs_by_one_override_on_the_shared_trainer(recipe, tmp_path):
    file = recipe("depth_z")
    config = yaml.safe_load(Path(file).read_text())
    del config["trainer"]["logger"]
    Path(file).write_text(yaml.safe_dump(config))
    words = ["--trainer.logger", "CSVLogger", "--trainer.callbacks", "null", "--trainer.log_every_n_steps", "1"]
    assert status("fit", "-c", RECIPES / "base/trainer.yaml", "-c", file, *words) == 0
    (log,) = (tmp_path / "out").rglob("metrics.csv")
    assert "train/loss" in log.read_text().splitlines()[0]


def records(file):
    """The records of an offline W&B run: a LevelDB log of protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    content, at, parts = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def offline_run(folder):
    """Configuration and last value of every key in the only offline run below a folder."""
    (file,) = folder.rglob("*.wandb")
    config, summary = {}, {}
    for record in records(file):
        kind = record.WhichOneof("record_type")
        updates = {"run": record.run.config.update, "config": record.config.update}.get(kind, ())
        config |= {update.key or "/".join(update.nested_key): json.loads(update.value_json) for update in updates}
        if kind == "summary":
            summary |= {u.key or "/".join(u.nested_key): json.loads(u.value_json) for u in record.summary.update}
        if kind == "history":
            summary |= {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
    return config, summary


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_wandb_works_offline_without_an_account(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    shared = yaml.safe_load((RECIPES / "base/trainer.yaml").read_text())["trainer"]
    content = yaml.safe_load(Path(recipe("depth_z")).read_text())
    content["trainer"] |= {"logger": shared["logger"], "log_every_n_steps": 1}
    (tmp_path / "wandb.yaml").write_text(yaml.safe_dump(content))
    try:
        assert status("fit", "--config", tmp_path / "wandb.yaml") == 0
    finally:
        import wandb

        wandb.finish()
        wandb.teardown()
    config, summary = offline_run(tmp_path / "out")
    assert config["model"]["init_args"]["tasks"] == ["depth_z"] and config["seed_everything"] == 3
    assert summary["train/loss"] > 0
    assert not list(tmp_path.glob("wandb"))  # everything lies in the run's folder


def test_a_fit_keeps_its_last_checkpoint_when_the_loss_is_no_number(recipe, tmp_path, monkeypatch, capsys):
    import torch

    from lightning_taskonomy.modules import MultiTaskModule

    plain = MultiTaskModule.task_loss
    monkeypatch.setattr(
        MultiTaskModule,
        "task_loss",
        lambda self, *batch: plain(self, *batch) * (torch.nan if self.current_epoch == 1 else 1),
    )
    words = ["--trainer.enable_checkpointing", "true", "--trainer.limit_val_batches", "1", "--trainer.callbacks",
             "{class_path: ModelCheckpoint, init_args: {save_last: true}}"]  # fmt: skip
    assert status("fit", "--config", recipe("depth_z", epochs=3), *words) == 1
    assert "the loss of depth_z is NaN or infinite at step 2" in capsys.readouterr().err.splitlines()[-1]
    kept = torch.load(tmp_path / "out/checkpoints/last.ckpt", weights_only=True)
    assert kept["global_step"] == 2 and all(v.isfinite().all() for v in kept["state_dict"].values())
    assert not (tmp_path / "out/metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--trainer.max_epoch", "2"], "max_epochs"),
        (["--model.init_args.task", "[normals]"], "tasks"),
        (["--data.init_args.batchsize", "2"], "batch_size"),
        (["--model.init_args.backbone.init_args.nam", "x"], "name"),
        (["--weigths", "x"], "weights"),
    ],
)
def test_an_unknown_key_of_a_fit_exits_with_2_and_a_hint(recipe, capsys, words, expected):
    assert status("fit", "--config", recipe("depth_z"), *words) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and expected in error.split("did you mean")[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.init_args.tasks", "[normls]"], "no task 'normls'; did you mean 'normals'?"),
        (["--model.init_args.backbone.init_args.name", "resnet81"], "no timm model 'resnet81'; did you mean"),
        (
            ["--model.init_args.heads", "{depth_z: {class_path: lightning_taskonomy.models.heads.VectorHead}}"],
            "VectorHead does not fit task 'depth_z' of kind dense",
        ),
        (["--weights", "no_such_run"], "no weights at no_such_run"),
        (["--data.init_args.batch_size", "0"], "batch_size is 0, must be at least 1"),
        (["--data.init_args.keys", "[image, detph_z]"], "RoomsDataModule has no 'detph_z'; did you mean 'depth_z'"),
    ],
)
def test_bad_input_of_a_fit_is_one_line(recipe, capsys, words, expected):
    assert status("fit", "--config", recipe("depth_z"), *words) in (1, 2)
    line = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(line) == 1 and expected in line[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trainer.max_epochs", "two"], 'Parser key "trainer.max_epochs" must be a whole number, not two'),
        (["--data.init_args.batch_size", "two"], 'Parser key "batch_size" must be a whole number, not two'),
        (["--model.init_args.tasks", "depth"], 'Parser key "tasks" must be a list, not depth'),
        (
            ["--data.init_args.test_part", "third"],
            "Parser key \"test_part\" must be one of 'all', 'first', 'second', not third",
        ),
        (["--model.init_args.backbone", "RoomsDataModule"], 'Parser key "backbone": RoomsDataModule does not fit'),
        (["--trainer.callbacks", "Checkpont"], "no class 'Checkpont'; give its dotted path"),
        (["--model.init_args.optimizer", "torch.optim.Adm"], "module 'torch.optim' has no attribute 'Adm'"),
    ],
)
def test_a_value_that_does_not_fit_says_what_would(recipe, capsys, words, message):
    assert status("fit", "--config", recipe("depth_z"), *words) == 2
    line = one_line(capsys)
    assert line.endswith(message) and line.startswith('error: Parser key "')


def test_an_unknown_class_of_backbone_exits_with_2(recipe, capsys):
    assert status("fit", "--config", recipe("depth_z"), "--model.init_args.backbone", "TimBackbone") == 2
    assert "no class 'TimBackbone'; did you mean 'TimmBackbone'" in one_line(capsys)


@pytest.fixture
def folder(tmp_path):
    """A user's folder of four images with depth."""
    random = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for name in "ab":
            for key in ("image", "depth_z"):
                (tmp_path / "own" / split / key).mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / split / "image" / f"{name}.png")
            np.save(tmp_path / "own" / split / "depth_z" / f"{name}.npy", random.random((32, 32), np.float32) + 1)
    return tmp_path / "own"


def of(folder):
    return ["--data", f"{{class_path: FolderDataModule, init_args: {{root: {folder}, batch_size: 2}}}}"]


def test_a_label_of_another_size_is_one_line(recipe, folder, capsys):
    np.save(folder / "train/depth_z/a.npy", np.ones((32, 24), np.float32))
    assert status("fit", "--config", recipe("depth_z"), *of(folder)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "32" in line and "24" in line and "a.npy" in line


@pytest.mark.parametrize("case", ["jpg", "misspelt", "damaged"])
def test_nothing_to_learn_from_is_refused_at_the_start(recipe, folder, tmp_path, capsys, case):
    labels = folder / "train/depth_z"
    for file in list(labels.iterdir()):
        if case == "jpg":
            file.rename(file.with_suffix(".jpg"))
        elif case == "damaged":
            file.write_bytes(b"")
    said = {"jpg": ".jpg; labels end in .npy", "misspelt": "did you mean 'dept_z'", "damaged": "can be read"}[case]
    if case == "misspelt":
        labels.rename(labels.with_name("dept_z"))
    assert status("fit", "--config", recipe("depth_z"), *of(folder)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "task 'depth_z' has nothing to learn from in split 'train'" in line and said in line
    assert not (tmp_path / "out/metrics.json").exists()
    tasks = f"{{class_path: FolderDataModule, init_args: {{root: {folder}, tasks: [depth_z]}}}}"
    assert status("data", "check", "--data", tasks) == 1
    assert "problem: train: no image has a label depth_z" in capsys.readouterr().out


def test_a_rare_label_is_enough(recipe, folder, tmp_path):
    files = sorted((folder / "train/depth_z").iterdir())
    for file in files[:-1]:
        file.unlink()
    assert status("fit", "--config", recipe("depth_z"), *of(folder)) == 0
    assert (tmp_path / "out/metrics.json").is_file()


def test_a_truncated_picture_is_left_out_and_said(recipe, folder, tmp_path, caplog):
    file = folder / "train/image/a.png"
    file.write_bytes(file.read_bytes()[:200])
    assert status("fit", "--config", recipe("depth_z"), *of(folder)) == 0
    assert "a.png" in caplog.text
    assert (tmp_path / "out/metrics.json").is_file()


def test_a_folder_without_files_is_one_line(recipe, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert status("fit", "--config", recipe("depth_z"), *of(tmp_path / "empty")) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "empty" in line


@pytest.mark.parametrize("words", [["report"], ["solve", "taxonomy"], ["study"]])
def test_a_command_without_its_arguments_names_them(words, capsys):
    assert status(*words) == 2
    assert "required" in one_line(capsys)


def test_a_check_of_nothing_says_what_to_give(capsys):
    assert status("data", "check") == 1
    assert "give --format NAME --root FOLDER, or --data MODULE" in one_line(capsys)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line(table, tmp_path, monkeypatch, capsys, code):
    def full(path, content):
        raise OSError(code, "full", str(path))

    monkeypatch.setattr(solve, "write_json", full)
    assert status("solve", "taxonomy", "--transfers", table, "--budget=1", "--out", tmp_path / "s.json") == 1
    assert "the disk is full" in capsys.readouterr().err


def test_an_error_of_ours_is_not_dressed_as_bad_input(monkeypatch):
    def broken():
        """Breaks."""
        raise ValueError("a bug")

    monkeypatch.setattr(cli, "commands", lambda: {"broken": broken})
    with pytest.raises(ValueError, match="a bug"):
        main(["broken"])
