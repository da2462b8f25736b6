"""The user project of docs/extending.md: one file and one recipe, run by the command line as the page says."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lightning_taskonomy.cli import main

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for file in EXAMPLES.glob("my_project.*"):
        shutil.copy(file, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        assert main(["fit", "--config", "my_project.yaml", "--trainer.max_epochs", "3"]) == 0
        yield folder
        sys.modules.pop("my_project", None)


def test_the_project_learns_both_tasks(fitted):
    metrics = json.loads((fitted / "runs/disks/metrics.json").read_text())
    assert metrics["val/disk/miou"] > 0.8  # all background: below 0.5
    assert metrics["val/radius/mae"] < 2.0


def test_its_backbone_and_head_are_what_was_trained(fitted):
    shapes = {name: value.shape for name, value in load_file(fitted / "runs/disks/weights.safetensors").items()}
    assert shapes["backbone.coarse.0.weight"] == (32, 16, 3, 3)
    assert shapes["heads.disk.layers.2.weight"] == (2, 8, 1, 1)


def test_the_run_is_tested_from_its_own_configuration(fitted):
    run = str(fitted / "runs/disks")
    assert main(["test", "--config", f"{run}/config.yaml", "--weights", run]) == 0
    scores = np.load(fitted / "runs/disks/scores.npz")
    assert len(scores["id"]) == 128 and np.isfinite(scores["disk"]).all()
    assert np.isnan(scores["radius"]).sum() == 64  # every second picture has no label of it


def test_a_head_that_does_not_fit_is_one_line(fitted, capsys):
    status = main(
        [
            "fit",
            "--overwrite",
            "--config",
            "my_project.yaml",
            "--model.init_args.heads",
            "{radius: {class_path: my_project.PixelHead}}",
        ]
    )
    assert status != 0
    assert "PixelHead does not fit task 'radius'" in capsys.readouterr().err


def test_the_page_shows_the_file():
    page = (EXAMPLES.parent / "extending.md").read_text()
    assert (EXAMPLES / "my_project.py").read_text().strip() in page
    assert (EXAMPLES / "my_project.yaml").read_text().strip() in page
