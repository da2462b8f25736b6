"""What other libraries refuse of a recipe is one line and leaves an earlier run as it was; bugs stay tracebacks."""

import json

import pytest
import yaml

from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.refusals import refusal, refusing

T, M, D = "--trainer.", "--model.init_args.", "--data.init_args."


TASK = {"name": "d", "kind": "DENSE", "target": "depth_z", "channels": 1}


def raised_in(module, code):
    """The error of code that runs as if it stood in that module."""
    try:
        exec(compile(code, f"{module}.py", "exec"), {"__name__": module})
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "module", ["torch.optim.adam", "lightning.pytorch.trainer.trainer", "torchvision.transforms.v2"]
)
def test_what_a_library_raises_is_the_recipes_and_what_happens_to_it_is_not(module):
    assert str(refusal(raised_in(module, "raise ValueError('no such\\n thing')"))).endswith("no such thing")
    for bug in ("[][1]", "int('x')", "None.x", "{}['x']"):
        assert refusal(raised_in(module, bug)) is None


@pytest.mark.parametrize(
    "module", ["lightning_taskonomy.models.heads", "numpy", "lightning_fast", "torch.nn.modules.conv"]
)
def test_errors_of_ours_and_of_libraries_that_no_recipe_speaks_to_stay(module):
    error = raised_in(module, "raise RuntimeError('a bug')")
    assert refusal(error) is None
    with pytest.raises(RuntimeError, match="a bug"), refusing():
        raise error


def test_bad_input_of_ours_is_given_on_as_it_is():
    with pytest.raises(InputError, match=r"^one line$") as caught, refusing():
        raise InputError("one line")
    assert caught.value.__cause__ is None


def test_bad_input_of_another_process_is_found_in_its_traceback():
    from torch.multiprocessing import ProcessRaisedException

    trace = "Traceback:\n  File x\nlightning_taskonomy.errors.InputError: the loss is NaN\n"
    assert str(refusal(ProcessRaisedException(f"-- Process 1 terminated with:\n{trace}", 1, 2))) == "the loss is NaN"
    assert refusal(ProcessRaisedException("-- Process 1 terminated with:\nKeyError: 'x'\n", 1, 2)) is None


# the command line


@pytest.fixture
def fit(tmp_path, tiny_fit, capsys):
    """Runs ``fit`` with further words; gives the exit status and the lines of the error."""

    def run(*words, tasks=("depth_z",), command="fit"):
        config = {**tiny_fit(*tasks), "out": str(tmp_path / "out")}
        config["trainer"] |= {"limit_val_batches": 1}
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
        capsys.readouterr()
        options = [json.dumps(word) if isinstance(word, dict | list) else str(word) for word in words]
        try:
            code = main([command, "--config", str(tmp_path / "fit.yaml"), *options])
        except SystemExit as stop:
            code = stop.code
        return code, [line for line in capsys.readouterr().err.splitlines() if "error:" in line]

    return run


def made(name, /, **init_args):
    return {"class_path": name, "init_args": init_args}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((M + "optimizer", made("torch.optim.AdamW", lr=-1)), "AdamW: Invalid learning rate: -1"),
        (
            (M + "optimizer", made("torch.optim.SGD", lr=0.1, nesterov=True)),
            "SGD: Nesterov momentum requires a momentum",
        ),
        ((M + "optimizer", made("torch.optim.SparseAdam")), "SparseAdam does not support dense gradients"),
        (
            (M + "scheduler", made("torch.optim.lr_scheduler.OneCycleLR", max_lr=1)),
            "OneCycleLR: You must define either",
        ),
        (
            (M + "scheduler", made("torch.optim.lr_scheduler.CosineAnnealingLR", T_max=0)),
            "CosineAnnealingLR divides by",
        ),
        (
            (D + "transforms", [made("torchvision.transforms.v2.RandomCrop", size=64)]),
            "RandomCrop: Required crop size",
        ),
        ((D + "transforms", [made("torchvision.transforms.v2.ColorJitter", brightness=-3)]), "non negative"),
        (
            (T + "callbacks", [made("LearningRateMonitor")]),
            "Cannot use `LearningRateMonitor` callback with `Trainer` that",
        ),
        ((T + "callbacks", [made("EarlyStopping", monitor="val/loss", mode="up")]), "EarlyStopping: `mode` can be"),
        ((T + "logger", "CometLogger"), "comet"),
        ((T + "accelerator", "tpu"), "torch_xla"),
        ((T + "accelerator", "xpu"), "invalid accelerator name"),
        ((T + "strategy", "dpp"), "invalid strategy name"),
        ((T + "devices", "-1"), "`devices` selected with `CPUAccelerator` should be an int > 0"),
        ((T + "precision", "transformer-engine"), "transformer_engine"),
        ((T + "accumulate_grad_batches", "0"), "accumulate_grad_batches is 0, must be at least 1"),
        ((T + "check_val_every_n_epoch", "0"), "check_val_every_n_epoch is 0, must be at least 1"),
        (
            (M + "tasks", [{**TASK, "metric": "torchmetrics.Accuracy"}]),
            "its metric 'torchmetrics.Accuracy' cannot be built",
        ),
        ((M + "tasks", [{**TASK, "channels": 0}]), "task 'd': channels is 0, must be positive"),
        ((T + "val_check_interval", "100"), "`val_check_interval` (100) must be less than or equal"),
        ((D + "batch_size", "1", M + "backbone.init_args.output_stride", "32"), "give a larger data.batch_size"),
        (("--seed_everything", "-5"), "seed_everything: -5 is not in bounds"),
    ],
)
def test_what_a_library_refuses_of_a_recipe_is_one_line_and_nothing_is_written(fit, tmp_path, words, message):
    code, lines = fit(*words)
    assert code == 1 and len(lines) == 1 and message in lines[0], lines
    late = ("SparseAdam", "CosineAnnealingLR", "batch_size")  # of the first step
    assert (tmp_path / "out").exists() == (message.startswith(late) or "batch_size" in message)


def test_a_logger_that_wants_a_key_says_how_to_do_without(fit, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    try:
        code, lines = fit(T + "logger", made("WandbLogger", save_dir=str(tmp_path)))
    finally:
        import wandb

        wandb.teardown()  # it keeps what the environment said
    assert (
        code == 1 and "No API key" in lines[-1] and "log offline: trainer.logger.init_args.offline: true" in lines[-1]
    )


@pytest.mark.parametrize(
    ("words", "who"),
    [
        (
            (
                T + "enable_checkpointing",
                "true",
                T + "callbacks",
                [made("ModelCheckpoint", dirpath=None, monitor="val/los")],
            ),
            "ModelCheckpoint",
        ),
        ((T + "callbacks", [made("EarlyStopping", monitor="val/los")]), "EarlyStopping"),
        ((M + "scheduler", made("lightning.pytorch.cli.ReduceLROnPlateau", monitor="val/los")), "ReduceLROnPlateau"),
    ],
)
def test_a_monitor_that_is_not_logged_is_answered_with_the_nearest(fit, words, who):
    code, lines = fit(*words)
    assert code == 1
    assert f"{who} monitors 'val/los', which is not logged; did you mean 'val/loss'" in lines[0]
    assert lines[0].endswith(
        "train/loss, val/depth_z/delta1, val/depth_z/loss, val/depth_z/mae, val/depth_z/rmse, val/loss"
    )


def test_a_recipe_that_is_not_text_is_one_line(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    for command in ("fit", "solve taxonomy"):
        assert main([*command.split(), "--config", str(tmp_path / "bad.yaml")]) == 1
        assert "bad.yaml is not text in UTF-8" in capsys.readouterr().err


# image sizes


VIT = made("TimmBackbone", name="test_vit", output_stride=None, options={"dynamic_img_size": False})


def test_a_size_that_a_transformer_refuses_names_options_that_help_before_anything_is_written(fit, tmp_path):
    code, lines = fit(M + "backbone", VIT)
    assert code == 1
    assert "TimmBackbone refuses images of 32x32 pixels (Input height (32) doesn't match model (160))" in lines[0]
    assert "add {img_size: [32, 32]} or {dynamic_img_size: true} to the backbone's options" in lines[0]
    assert not (tmp_path / "out").exists()
    for options in ({"img_size": [32, 32]}, {"dynamic_img_size": True}):
        helped = {**VIT, "init_args": {**VIT["init_args"], "options": options}}
        assert fit("--overwrite", M + "backbone", helped)[0] == 0


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_other_commands_say_so_too(fit, command):
    code, lines = fit(M + "backbone", VIT, command=command)
    assert code == 1 and "refuses images of 32x32 pixels" in lines[0]


# files


@pytest.mark.parametrize("logger", [None, "CSVLogger"])
@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_folder_that_cannot_be_made_is_one_line_before_the_work(fit, tmp_path, monkeypatch, logger, command):
    from lightning_taskonomy.modules import MultiTaskModule

    (tmp_path / "file").touch()
    monkeypatch.setattr(MultiTaskModule, "losses", None)  # no step is made
    words = (T + "logger", made(logger, save_dir=".")) if logger else ()
    code, lines = fit("--out", tmp_path / "file" / "run", T + "limit_val_batches", "0", *words, command=command)
    assert code == 1 and f"{tmp_path}/file/run" in lines[0] and lines[0].endswith("; give another place")


def test_a_run_whose_configuration_is_damaged_is_named(fit, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("a: [1\nb: {")
    (tmp_path / "run/weights.safetensors").touch()
    model = {"class_path": "TransferModule", "init_args": {"target": "normals", "sources": [str(tmp_path / "run")]}}
    code, lines = fit("--model", model)
    assert code == 1 and f"{tmp_path}/run/config.yaml is not valid YAML" in lines[0]
