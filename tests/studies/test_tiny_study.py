"""A study end to end, what it leaves, and that a killed one ends as an unbroken one."""

import csv
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
import yaml

from lightning_taskonomy.affinity import TransfersTable
from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.taxonomy import TaxonomyStudy

HERE = LocalExecutor(workers=0)


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def finished_runs(out):
    """When each run, representation and guess was finished."""
    files = [*out.glob("runs/*/metrics.json"), *out.glob("runs/*/scores.npz"), *out.glob("representations/*/*.done")]
    return {file.relative_to(out): file.stat().st_mtime_ns for file in files}


def test_it_leaves_every_file(finished):
    out, results = finished
    assert json.loads((out / "failures.json").read_text()) == []
    for name in ("affinity.csv", "losses.csv", "sanity.csv", "control.json", "solutions.json", "tasks.json",
                 "examples.npz", "costs.json", "report/index.html"):  # fmt: skip
        assert (out / name).is_file(), name
    assert results.report == out / "report/index.html"
    assert "affinity" in results.tables and results.figures


def test_it_trains_what_the_paper_says(finished):
    out, _ = finished
    kinds = [folder.name.split("-")[0] for folder in (out / "runs").iterdir()]
    expected = {"task_specific": 3, "scratch": 2, "random_encoder": 1, "average": 3, "transfer": 2 * 3 + 2 * 1}
    assert {kind: kinds.count(kind) for kind in set(kinds)} == expected
    assert len(list((out / "representations").iterdir())) == 4  # a source each, however many transfers


def test_affinities_are_a_distribution_per_target(finished):
    out, _ = finished
    table = TransfersTable.read(out / "affinity.csv")
    assert list(table.targets) == ["depth_z", "normals"]
    for target in table.targets:
        of_target = [row for row in table.transfers if row.target == target]
        values = [row.affinity for row in of_target if row.affinity is not None]
        assert sum(values) == pytest.approx(1, abs=1e-6) and min(values) > 0
        assert {row.order for row in of_target if row.kind == "transfer"} == {1, 2}


def test_win_rates_are_counted_from_the_scores_of_held_out_images(finished):
    out, _ = finished
    scores = next(out.glob("runs/transfer-normals-from-depth_z-*/scores.npz"))
    rival = next(out.glob("runs/scratch-normals-*/scores.npz"))
    with np.load(scores) as a, np.load(rival) as b:
        ids, ours, theirs = a["id"], a["normals"], b["normals"]
    first = np.zeros(len(ids), bool)
    first[np.random.default_rng(0).permutation(len(ids))[: (len(ids) + 1) // 2]] = True
    better = (ours < theirs)[~first] + 0.5 * (ours == theirs)[~first]
    row = next(
        r for r in TransfersTable.read(out / "affinity.csv").transfers if r.key == ("normals", "transfer", ("depth_z",))
    )
    assert row.win_rate_vs_scratch == pytest.approx(better.mean(), abs=1e-3)


def test_larger_budgets_and_orders_are_never_worse(finished):
    out, _ = finished
    solutions = json.loads((out / "solutions.json").read_text())
    for order in (1, 2):
        objectives = [s["objective"] for s in solutions if s["max_order"] == order]
        assert len(objectives) == 3 and all(a <= b + 1e-9 for a, b in pairwise(objectives))
    for solution in solutions:
        assert len(solution["sources"]) <= solution["budget"] and solution["proven"]
        assert sorted(solution["policy"]) == ["depth_z", "normals"]
        assert all(set(edge["sources"]) <= set(solution["sources"]) for edge in solution["policy"].values())


def test_a_random_encoders_weights_are_not_those_of_a_network(finished):
    out, _ = finished
    assert {row["task"] for row in rows(out / "sanity.csv")} == {"depth_z", "normals", "colorization"}
    (control,) = json.loads((out / "control.json").read_text())
    assert (control["source"], control["target"]) == ("depth_z", "normals")
    assert 0 <= control["win_rate_vs_random_encoder"][0] <= 1


def test_source_only_tasks_are_compared_with_the_average_guess_alone(finished):
    """Table 1: nothing is transferred to them, so there is no readout of a random encoder to beat."""
    out, _ = finished
    for row in rows(out / "sanity.csv"):
        task = row["task"]
        loaded = [next(out.glob(f"runs/{kind}-{task}-*/scores.npz")) for kind in ("task_specific", "average")]
        ours, guess = (np.load(file)[task] for file in loaded)
        wins = np.mean((ours < guess) + 0.5 * (ours == guess))
        assert float(row["win_rate_vs_average"]) == pytest.approx(wins, abs=1e-6)
        assert np.isnan(float(row["win_rate_vs_random_encoder"])) == (task == "colorization")


@pytest.mark.parametrize("task", ["jigsaw", "inpainting", "random_projection"])
def test_the_average_guess_of_source_only_tasks(task, rooms, tmp_path):
    from lightning_taskonomy.studies.jobs import average_guess
    from lightning_taskonomy.tasks import find
    from lightning_taskonomy.training import instantiate_data

    average_guess(task, rooms, str(tmp_path))
    with np.load(tmp_path / "scores.npz") as content:
        scores = dict(zip(content["id"].tolist(), content[task].tolist(), strict=True))
    module, key = instantiate_data(rooms), find(task).target
    train, test = (module.dataset(split, keys=[key]) for split in ("train", "test"))
    labels = np.stack([train[index][key].numpy() for index in range(len(train))])
    for sample in (test[index] for index in range(len(test))):
        label = sample[key].numpy()
        if task == "jigsaw":
            counts = np.bincount(labels, minlength=72) + 1
            expected = -np.log(counts[label] / counts.sum())
        else:
            expected = np.abs(labels.mean(0) - label).mean()
        assert scores[int(sample["id"])] == pytest.approx(expected, rel=1e-4)


def test_cached_transfers_predict_as_live_ones_would(finished):
    import torch

    from lightning_taskonomy.checkpoints import load_weights
    from lightning_taskonomy.data import RoomsDataModule
    from lightning_taskonomy.modules import TransferModule

    out, _ = finished
    folder = next(out.glob("runs/transfer-normals-from-depth_z-*"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    source = next(out.glob("runs/task_specific-depth_z-*"))
    live = TransferModule("normals", [str(source)], width=8, head=_light)
    load_weights(live, folder)
    labels = config["data"]["init_args"]["labels"]["init_args"]
    options = {name: labels[name] for name in ("size", "samples", "views", "test_buildings", "cache", "seed")}
    data = RoomsDataModule(**options, keys=["image", "normals"])
    batch = data.dataset("test").batch(range(8))
    with torch.no_grad():
        scores = live.eval().test_step(batch, 0)
    with np.load(folder / "scores.npz") as content:
        assert content["id"].tolist() == batch["id"].tolist()
        np.testing.assert_allclose(content["normals"], scores["normals"].numpy(), rtol=1e-3)


def _light(channels, reductions, task):
    from lightning_taskonomy.models.heads import DenseHead

    return DenseHead(channels, reductions, task, layers=2, width=8)


def test_a_finished_study_is_not_repeated_and_stages_run_alone(finished, tiny_settings, tmp_path):
    whole, _ = finished
    out = tmp_path / "moved"
    shutil.copytree(whole, out)
    before = finished_runs(out)
    (out / "solutions.json").unlink()
    content = (out / "affinity.csv").read_bytes()
    TaxonomyStudy(**tiny_settings).run(out, stages=["analysis"])
    assert (out / "solutions.json").is_file()
    TaxonomyStudy(**tiny_settings).run(out, execution=HERE, stages=["networks", "transfers", "analysis"])
    assert (out / "affinity.csv").read_bytes() == content
    assert finished_runs(out) == before


def test_a_run_that_failed_stops_only_what_needs_it(finished, tiny_settings, tmp_path, monkeypatch):
    from lightning_taskonomy.modules import MultiTaskModule

    whole, _ = finished
    shutil.copytree(whole, tmp_path / "s")
    for folder in [*(tmp_path / "s/runs").glob("*colorization*"), *(tmp_path / "s/representations").glob("color*")]:
        shutil.rmtree(folder)
    (tmp_path / "s/affinity.csv").unlink()
    plain = MultiTaskModule.task_loss
    monkeypatch.setattr(
        MultiTaskModule, "task_loss",
        lambda self, task, *given: plain(self, task, *given) * (float("nan") if task.name == "colorization" else 1),
    )  # fmt: skip
    TaxonomyStudy(**tiny_settings).run(tmp_path / "s", execution=HERE, stages=["networks", "transfers", "analysis"])
    (failure,) = json.loads((tmp_path / "s/failures.json").read_text())
    assert failure["name"] == "task_specific colorization" and "NaN" in failure["error"]
    sources = {name for row in TransfersTable.read(tmp_path / "s/affinity.csv").transfers for name in row.sources}
    assert "colorization" not in sources and {"depth_z", "normals"} <= sources


def test_where_everything_failed_the_reasons_are_kept(tiny_settings, tmp_path, monkeypatch):
    from lightning_taskonomy.modules import MultiTaskModule

    def broken(self, task, *given):
        raise InputError("nothing works today")

    monkeypatch.setattr(MultiTaskModule, "task_loss", broken)
    study = TaxonomyStudy(**{**tiny_settings, "max_order": 1})
    with pytest.raises(InputError, match=r"holds no finished network.*failures.json"):
        study.run(tmp_path, execution=HERE, stages=["networks", "transfers", "analysis"])
    failures = json.loads((tmp_path / "failures.json").read_text())
    assert len(failures) >= 5 and all("nothing works today" in failure["error"] for failure in failures)


def test_damaged_scores_are_one_line(finished, tiny_settings, tmp_path):
    whole, _ = finished
    shutil.copytree(whole, tmp_path / "s")
    file = next((tmp_path / "s").glob("runs/scratch-normals-*/scores.npz"))
    content = file.read_bytes()
    for damaged in (content[:40], content[:-9], b"", b"text"):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"scores.npz holds no scores of 'normals'.*remove its run folder"):
            TaxonomyStudy(**tiny_settings).run(tmp_path / "s", stages=["analysis"])


@pytest.fixture
def recipe(tiny_settings, tmp_path):
    settings = {**tiny_settings, "controls": [list(pair) for pair in tiny_settings["controls"]]}
    execution = {"class_path": "LocalExecutor", "init_args": {"workers": 0}}
    study = {"class_path": "TaxonomyStudy", "init_args": settings}
    content = {"study": study, "execution": execution, "out": str(tmp_path / "out")}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "study.yaml"


def test_a_dry_run_counts_and_trains_nothing(recipe, tmp_path, capsys):
    assert main(["study", "--config", str(recipe), "--dry-run"]) == 0
    text = capsys.readouterr().out
    counts = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:] if line.split()[1].isdigit()}
    assert counts["task_specific"] == 3 and counts["scratch"] == 2 and counts["transfer"] == 8
    assert "min" in text and "disk:" in text and "MB" in text
    assert not (tmp_path / "out/runs").exists()


def test_the_command_line_gives_the_same_study(recipe, finished, tmp_path):
    whole, _ = finished
    assert main(["study", "--config", str(recipe), "--stages", "[networks, transfers, analysis]"]) == 0
    assert (tmp_path / "out/affinity.csv").read_bytes() == (whole / "affinity.csv").read_bytes()
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text())["study"]["init_args"]["epochs"] == 3


# killed

MOMENTS = {
    "preparing": lambda out: list(out.glob("data/train-*/prepared.json")),
    "inside a network": lambda out: list(out.glob("runs/task_specific-normals-*/resume.ckpt")),
    "encoding": lambda out: list(out.glob("representations/normals-*/validation-*.safetensors")),
    "inside a transfer": lambda out: list(out.glob("runs/transfer-*/resume.ckpt")),
    "second order": lambda out: list(out.glob("runs/transfer-*-from-*+*/metrics.json")),
    "affinity": lambda out: (out / "affinity.csv").is_file(),
    "taxonomies": lambda out: (out / "solutions.json").is_file(),
}


def wait_and_kill(process, out, moment, patience):
    """Kills a process as soon as the moment has come."""
    end = time.monotonic() + patience
    while not MOMENTS[moment](out):
        assert process_lives(process), f"it ended before {moment}"
        assert time.monotonic() < end, f"{moment} never came"
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)


def process_lives(process):
    return process.poll() is None if isinstance(process, subprocess.Popen) else process.is_alive()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_killed_in_every_stage_it_ends_as_an_unbroken_one(finished, tiny_settings, tmp_path):
    whole, _ = finished
    out, seen = tmp_path / "s", {}
    context = multiprocessing.get_context("fork")
    for moment in MOMENTS:
        child = context.Process(target=TaxonomyStudy(**tiny_settings).run, args=(out,), kwargs={"execution": HERE})
        child.start()
        wait_and_kill(child, out, moment, patience=120)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        now = finished_runs(out)
        assert seen.items() <= now.items(), "something was trained twice"
        seen = now
    TaxonomyStudy(**tiny_settings).run(out, execution=HERE)
    assert seen.items() <= finished_runs(out).items()
    assert set(map(str, finished_runs(out))) == set(map(str, finished_runs(whole)))
    for name in ("affinity.csv", "losses.csv", "sanity.csv", "control.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    strip = [[{**s, "seconds": 0} for s in json.loads((f / "solutions.json").read_text())] for f in (out, whole)]
    assert strip[0] == strip[1]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["inside a network", "encoding", "second order"])
def test_the_command_with_workers_killed_and_started_again(recipe, finished, tmp_path, moment):
    whole, _ = finished
    command = [sys.executable, "-m", "lightning_taskonomy", "study", "--config", str(recipe), "--execution.workers=2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_and_kill(process, tmp_path / "out", moment, patience=300)
    process.wait()
    seen = finished_runs(tmp_path / "out")
    time.sleep(1)
    assert finished_runs(tmp_path / "out") == seen, "a worker outlived its parent"
    subprocess.run(command, check=True, capture_output=True)
    assert seen.items() <= finished_runs(tmp_path / "out").items()
    assert (tmp_path / "out/affinity.csv").read_bytes() == (whole / "affinity.csv").read_bytes()


# elsewhere

ELSEWHERE = {
    "local": ("LocalExecutor", {"workers": 2}),
    "ray": ("RayExecutor", {"workers": 2}),
    "submitit": ("SlurmExecutor", {"cluster": "local", "workers": 2, "chunk": 4}),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", ELSEWHERE)
def test_the_same_study_elsewhere_leaves_the_same_tables(finished, tiny_settings, tmp_path, where):
    import lightning_taskonomy.studies.executors as executors

    whole, _ = finished
    name, options = ELSEWHERE[where]
    pytest.importorskip({"ray": "ray", "submitit": "submitit"}.get(where, "rich"))
    out = tmp_path / "s"
    TaxonomyStudy(**tiny_settings).run(out, execution=getattr(executors, name)(**options))
    assert json.loads((out / "failures.json").read_text()) == []
    assert set(map(str, finished_runs(out))) == set(map(str, finished_runs(whole)))
    for table in ("affinity.csv", "losses.csv", "sanity.csv", "control.json"):
        assert (out / table).read_bytes() == (whole / table).read_bytes(), table
