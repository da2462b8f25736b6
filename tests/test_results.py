import base64
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from lightning_taskonomy.cli import main
from lightning_taskonomy.results import Results, log_results

SOLUTION = {"budget": 2, "sources": ["depth_z", "normals"], "objective": 1.5}


@pytest.fixture
def results(tmp_path):
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(tmp_path / "graph.png")
    (tmp_path / "measured.csv").write_text("target,sources\n")
    return Results(
        {"objective": 1.5},
        {"policy": (["target", "affinity"], [["depth_z", 0.25], ["normals", None]])},
        {"taxonomy": tmp_path / "graph.png"},
        artifacts={"taxonomy": SOLUTION, "measured": tmp_path / "measured.csv"},
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_wandb_keeps_tables_figures_and_artifacts_offline_in_the_run_s_folder(results, tmp_path, monkeypatch):
    import wandb

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "elsewhere"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "out").mkdir()
    try:
        log_results(results, [WandbLogger(save_dir=tmp_path / "out", offline=True)], {"solver": {"budget": 2}})
    finally:
        wandb.finish()
        wandb.teardown()
    (log,) = (tmp_path / "out").rglob("*.wandb")
    run, kept = log.parent / "files", log.read_bytes()
    (table,) = run.rglob("*.table.json")
    assert json.loads(table.read_text())["data"] == [["depth_z", 0.25], ["normals", None]]
    (figure,) = run.rglob("*.png")
    assert figure.read_bytes() == (tmp_path / "graph.png").read_bytes()
    assert json.loads((run / "taxonomy.json").read_text()) == SOLUTION
    for file in (run / "taxonomy.json", run / "measured.csv"):  # the log names what to upload, and its hash
        assert str(file).encode() in kept
        assert base64.b64encode(hashlib.md5(file.read_bytes()).digest()) in kept
    assert b"solver" in kept
    assert not list(tmp_path.glob("wandb"))


def test_a_page_is_drawn_only_for_loggers_that_show_pictures(results, tmp_path):
    drawn = []

    def page(folder):
        drawn.append(folder)
        Image.fromarray(np.full((2, 2, 3), 9, np.uint8)).save(folder / "curves.png")
        return folder / "index.html"

    results.page = page
    log_results(results, [CSVLogger(tmp_path / "csv")], {})
    assert not drawn
    board = TensorBoardLogger(tmp_path / "board")
    log_results(results, [board], {})
    assert len(drawn) == 1 and not drawn[0].exists()
    assert b"figures/curves" in b"".join(file.read_bytes() for file in Path(board.log_dir).glob("events*"))


def test_loggers_with_a_folder_keep_artifacts_there(results, tmp_path):
    loggers = [CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "board")]
    log_results(results, loggers, {"solver": {"budget": 2}})
    for logger in loggers:
        folder = Path(logger.log_dir)
        assert json.loads((folder / "taxonomy.json").read_text()) == SOLUTION
        assert (folder / "measured.csv").read_text() == "target,sources\n"
    assert "1.5" in (Path(loggers[0].log_dir) / "metrics.csv").read_text()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_solve_logs_tables_figures_and_the_solution_to_wandb_offline(tmp_path, monkeypatch, capsys):
    import wandb

    (tmp_path / "table.csv").write_text(
        "target,order,sources,kind,affinity,win_rate_vs_task_specific,win_rate_vs_scratch\n"
        "depth_z,1,depth_z,task_specific,0.9,0.5,0.9\ndepth_z,1,normals,transfer,0.4,0.3,0.8\n"
        "normals,1,normals,task_specific,0.9,0.5,0.9\nnormals,1,depth_z,transfer,0.5,0.2,0.7\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "elsewhere"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    words = ["solve", "taxonomy", "--transfers", "table.csv", "--budget", "1", "--json", "--report", "page"]
    words += ["--logger", "WandbLogger", "--logger.offline", "true", "--logger.save_dir", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    try:
        assert main(words) == 0
    finally:
        wandb.finish()
        wandb.teardown()
    printed = json.loads(capsys.readouterr().out.splitlines()[0])
    (log,) = (tmp_path / "out").rglob("*.wandb")
    run, kept = log.parent / "files", log.read_bytes()
    assert json.loads((run / "taxonomy.json").read_text()) == printed
    assert printed["sources"] == ["depth_z"] and (tmp_path / "page/index.html").is_file()
    assert base64.b64encode(hashlib.md5((run / "taxonomy.json").read_bytes()).digest()) in kept
    (table,) = run.rglob("policy*.table.json")
    assert ["normals", "transfer", "depth_z", 0.5] in json.loads(table.read_text())["data"]
    shown = {file.name.split("_")[0] for file in run.rglob("*.png")}
    assert {"answer-graph", "budget-curves", "affinity", "similarity"} <= shown
