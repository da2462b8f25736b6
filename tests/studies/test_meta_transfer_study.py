"""The Task Meta-Transfer study: real runs end to end, and its protocol with runs that only pretend to train."""

import csv
import json
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml

from lightning_taskonomy import training
from lightning_taskonomy.callbacks.meta_transfer import instruments as warned
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json
from lightning_taskonomy.reports.meta_transfer import instruments as written
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.meta_transfer import MetaTransferStudy
from lightning_taskonomy.studies.meta_transfer.methods import METHODS

HERE = LocalExecutor(workers=0)


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_tables_hold_every_cell_once(measured):
    out, results, _ = measured
    assert json.loads((out / "failures.json").read_text()) == []
    cells = rows(out / "results.csv")
    assert [(row["primary"], row["auxiliary"], row["method"]) for row in cells] == [
        ("depth_z", "", "primary_only"), ("depth_z", "normals", "mtl"), ("depth_z", "normals", "tmt"),
        ("normals", "", "primary_only"), ("normals", "depth_z", "mtl"), ("normals", "depth_z", "tmt"),
    ]  # fmt: skip
    assert all(float(row["test"]) > 0 for row in cells)
    assert {(row["primary"], row["metric"]) for row in cells} == {("depth_z", "mae"), ("normals", "mean_angle")}
    assert results.scalars["cases"] == 2 and results.scalars["tmt/best"] + results.scalars["tmt/second"] <= 2
    assert results.report == out / "report/index.html" and {"reductions"} <= set(results.figures)
    table = rows(out / "report/one_auxiliary.csv")
    assert [list(row) for row in table[:1]] == [["method", *list(table[0])[1:]]] and len(table) == 3


def test_the_settings_are_the_best_on_validation(measured):
    out, _, _ = measured
    candidates = [row for row in rows(out / "selection.csv") if row["method"] == "mtl"]
    assert len(candidates) == 4
    for primary in ("depth_z", "normals"):
        trials = [row for row in candidates if row["primary"] == primary]
        (best,) = [row for row in trials if row["chosen"] == "1"]
        assert float(best["validation"]) == min(float(row["validation"]) for row in trials)
        (tested,) = [row for row in rows(out / "results.csv") if (row["primary"], row["method"]) == (primary, "mtl")]
        assert tested["settings"] == best["settings"] and tested["validation"] == best["validation"]


def test_the_test_images_are_read_once_by_what_was_chosen(measured):
    out, _, seen = measured
    prepared, *fits = [place for place, split in enumerate(seen) if split == "test"]
    assert prepared == 2  # while the data is prepared: labels are rendered, nothing is measured
    assert len(fits) == 6 and fits[0] > max(place for place, split in enumerate(seen) if split != "test")
    tested = {file.parent for file in out.glob("runs/*/test.json")}
    assert len(tested) == 6 and len(list(out.glob("runs/*/metrics.json"))) == 8
    assert all(not any(name.startswith("test/") for name in json.loads(file.read_text()))
               for file in out.glob("runs/*/metrics.json"))  # fmt: skip


def test_every_run_has_the_same_images_and_steps(measured):
    out, _, _ = measured
    configs = [yaml.safe_load(file.read_text()) for file in out.glob("runs/*/config.yaml")]
    data = [config["data"]["init_args"] for config in configs]
    assert {(one["parallel"], one["seed"], one["data"]["init_args"]["seed"]) for one in data} == {(0.5, 0, 0)}
    assert {one["steps"] * config["trainer"]["max_epochs"] for one, config in zip(data, configs, strict=True)} == {8}


def test_the_weights_are_those_of_the_best_validation(toy, tmp_path):
    """A run's validation metric is the best of its evaluations, which another callback notes."""
    study = MetaTransferStudy(**{**toy, "methods": {"mtl": {"auxiliary_steps": 1}}})
    selection = study.selection(tmp_path)
    (point, *_) = (selection.candidates(cell)[0] for cell in selection.cells())
    noted = []

    from lightning_taskonomy.callbacks.best import BestWeights

    plain = BestWeights.on_validation_end

    def note(self, trainer, module):
        if trainer.state.fn == "fit":
            noted.append(float(trainer.callback_metrics["val/depth_z/mae"]))
        plain(self, trainer, module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestWeights, "on_validation_end", note)
        metrics = training.execute(point.fit.run.config, point.fit.run.folder, test=False)
    assert len(noted) == 4 and metrics["val/depth_z/mae"] == pytest.approx(min(noted), rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_killed_within_a_run_it_ends_as_an_unbroken_one(measured, toy, tmp_path):
    whole, _, _ = measured
    out = tmp_path / "s"
    child = multiprocessing.get_context("fork").Process(
        target=MetaTransferStudy(**toy).run, args=(out,), kwargs={"execution": HERE}
    )
    child.start()
    end = time.monotonic() + 120
    while not list(out.glob("runs/tmt-depth_z*/resume.ckpt")):
        assert child.is_alive() and time.monotonic() < end
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    before = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    assert before
    MetaTransferStudy(**toy).run(out, execution=HERE)
    assert before.items() <= {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}.items()
    cells = [[{**row, "seconds": ""} for row in rows(folder / "results.csv")] for folder in (out, whole)]
    assert cells[0] == cells[1]


def test_grids_are_chosen_at_the_first_seed_and_kept_at_the_others(pretended):
    methods = {"tmt": {"auxiliary_steps": [1, 3, 10], "rank": [2, 4, 8]}, "primary_only": None}
    study, out, order, _ = pretended(methods=methods, seeds=[7, 8], tasks=["depth_z", "normals"])
    study.run(out, execution=HERE)
    cells = rows(out / "results.csv")
    assert {row["settings"] for row in cells if row["method"] == "tmt"} == {"auxiliary_steps=3 rank=4"}
    assert sorted(row["seed"] for row in cells if row["primary"] == "depth_z" and row["method"] == "tmt") == list("078")
    assert len(list(out.glob("runs/tmt-*/metrics.json"))) == 2 * (9 + 2)
    assert len(order) == len(set(order)) == 2 * 3 * 2


def test_a_method_without_auxiliary_labels_runs_once_per_primary_task(pretended):
    tasks = ["depth_z", "normals", "semantic_segmentation"]
    study, out, order, _ = pretended(tasks=tasks, methods={"primary_only": {}, "oracle": {}, "kendall": {}})
    study.run(out, execution=HERE)
    kinds = [name.split("-")[0] for name in order]
    assert {kind: kinds.count(kind) for kind in kinds} == {"primary_only": 3, "oracle": 3, "kendall": 6}
    table = rows(out / "report/one_auxiliary.csv")
    assert len(table) == 6 and [row["Oracle"] == "″" for row in table] == [False, True] * 3


def test_ranks_splits_and_amounts_take_the_chosen_settings(pretended, rooms):
    head = {"class_path": "lightning_taskonomy.models.heads.SplitResHead"}
    backbone = {"class_path": "lightning_taskonomy.models.backbones.SplitRes", "init_args": {"width": 8}}
    methods = {"primary_only": {}, "transfer": {}, "mtl": {}, "tmt": {"auxiliary_steps": [1, 3], "rank": 4}}
    study, out, _, _ = pretended(
        methods=methods, ranks=[2, 4], splits=[2, 4], amounts=[0.5, 2],
        networks={"SplitRes-3": {"backbone": backbone, "heads": {"dense": head, "normals": head}}},
    )  # fmt: skip
    results = study.run(out, execution=HERE)
    cells = [(row["study"], row["at"], row["method"], row["settings"]) for row in rows(out / "results.csv")
             if row["study"] != "main" and row["primary"] == "normals"]  # fmt: skip
    assert [one for one in cells if one[0] == "rank"] == [
        ("rank", str(at), "tmt", f"auxiliary_steps=3 rank={at}") for at in (2, 4)
    ]
    assert {(study, at, method) for study, at, method, _ in cells} == {
        *(("rank", at, "tmt") for at in "24"),
        *(("split", at, method) for at in "24" for method in ("transfer", "mtl", "tmt")),
        *(("amount", at, method) for at in ("0.5", "2") for method in ("mtl", "tmt")),
    }
    assert {"rank", "split", "amount"} <= set(results.figures)


def test_choices_of_the_main_study_are_kept_where_asked(pretended):
    methods = {"tmt": {"auxiliary_steps": [1, 3], "rank": 4}}
    study, out, order, _ = pretended(methods=methods, amounts=[0.25, 0.5], reselect=False, seeds=[7])
    study.run(out, execution=HERE)
    varied = [row for row in rows(out / "results.csv") if row["study"] == "amount"]
    assert {(row["at"], row["seed"], row["settings"]) for row in varied} == {
        (at, seed, "auxiliary_steps=3 rank=4") for at in ("0.25", "0.5") for seed in "07"
    }
    assert len(list(out.glob("runs/tmt-*/metrics.json"))) == 2 * (2 + 1 + 2), "0.5 is the main study's amount"
    assert len(order) == 2 * 4


def test_settings_are_chosen_again_at_each_amount(pretended):
    methods = {"tmt": {"auxiliary_steps": [1, 3], "rank": 4}, "mtl": {"auxiliary_steps": 1}}
    study, out, *_ = pretended(methods=methods, amounts=[0.25], seeds=[7])
    study.run(out, execution=HERE)
    assert len(list(out.glob("runs/tmt-*/metrics.json"))) == 2 * 2 * (2 + 1)


FACTORS = {
    "length": {8: None, 16: {"steps": 16}},
    "k": {"1": {"methods.*.auxiliary_steps": 1}, "1 or 3": {"methods.*.auxiliary_steps": [1, 3]}},
    "rank of phi": {"4": {"methods.tmt.rank": 4}},
    "network": {"wide": {"networks.tiny.heads.dense.init_args.width": 16}},
}


def test_factors_are_the_study_again_with_changes(pretended):
    methods = {"primary_only": {}, "mtl": {}, "tmt": {"auxiliary_steps": 1, "rank": 2}}
    study, out, order, _ = pretended(methods=methods, factors=FACTORS, factor_methods=["mtl", "tmt"], seeds=[7])
    study.run(out, execution=HERE)
    cells = [row for row in rows(out / "results.csv") if row["primary"] == "normals" and row["seed"] == "7"]
    settings = {(row["study"], row["at"], row["method"]): row["settings"] for row in cells}
    assert settings == {
        ("main", "", "primary_only"): "", ("main", "", "mtl"): "", ("main", "", "tmt"): "auxiliary_steps=1 rank=2",
        ("length", "8", "mtl"): "", ("length", "8", "tmt"): "auxiliary_steps=1 rank=2",
        ("length", "16", "mtl"): "", ("length", "16", "tmt"): "auxiliary_steps=1 rank=2",
        ("k", "1", "mtl"): "auxiliary_steps=1", ("k", "1", "tmt"): "auxiliary_steps=1 rank=2",
        ("k", "1 or 3", "mtl"): "auxiliary_steps=3", ("k", "1 or 3", "tmt"): "auxiliary_steps=3 rank=2",
        ("rank of phi", "4", "mtl"): "", ("rank of phi", "4", "tmt"): "auxiliary_steps=1 rank=4",
        ("network", "wide", "mtl"): "", ("network", "wide", "tmt"): "auxiliary_steps=1 rank=2",
    }  # fmt: skip
    configs = [json.loads(file.read_text()) for file in out.glob("runs/tmt-normals*/config.json")]
    assert len(order) == len(set(order)), "what is the same in several factors is trained and tested once"
    steps = [config["data"]["init_args"]["steps"] for config in configs]
    assert sorted(steps) == [2] * (len(steps) - 2) + [4] * 2
    widths = [config["model"]["init_args"]["heads"]["dense"]["init_args"]["width"] for config in configs]
    assert sorted(widths) == [8] * (len(widths) - 2) + [16] * 2
    before = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    more = {**FACTORS, "amount of X": {"0.25": {"parallel": 0.25}}}
    MetaTransferStudy(**{**study.arguments, "factors": more}).run(out, execution=HERE)
    after = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    assert before.items() <= after.items() and len(after) == len(before) + 2 * 2 * 2, "2 cases, methods and seeds"


def test_other_tasks_at_a_label_have_their_pairs(toy, tmp_path):
    """Where cases are not named they follow from the tasks; where they are, they stay."""

    def pairs(at, **changes):
        study = MetaTransferStudy(**{**toy, "methods": {"mtl": {}}, "factors": {"tasks": {"other": at}}, **changes})
        (one,) = study.selections(tmp_path)["factors"]
        return [(cell.case.primary, *cell.case.auxiliary) for cell in one.cells()]

    normals, classes = ("depth_z", "normals"), ("depth_z", "semantic_segmentation")
    assert pairs({"steps": 16}) == [normals, normals[::-1]]
    assert pairs({"tasks": list(classes)}) == [classes, classes[::-1]]
    cases = [{"primary": "depth_z", "auxiliary": ["normals"]}]
    assert pairs({"tasks": [*normals, classes[1]]}, cases=cases) == [normals]
    with pytest.raises(InputError, match="factor 'tasks' at 'other': a case names 'normals', which is not a task"):
        pairs({"tasks": list(classes)}, cases=cases)


def test_a_dry_run_counts_the_runs_of_factors_once(pretended, capsys):
    same = {name: labels for name, labels in FACTORS.items() if name != "rank of phi"}
    study, out, *_ = pretended(methods={"mtl": {"auxiliary_steps": 1}}, factors=same, seeds=[7, 8])
    stages = {stage.title or stage.name: stage.count() for stage in study.stages(out)}
    # of the factors only length 16, k 3 and the wide network differ from the main study
    assert stages["fits"]["mtl"] == 2 and stages["further seeds"]["mtl"] == 4
    study.run(out, execution=HERE)
    assert not any(stage.count().total() for stage in study.stages(out) if stage.name in ("fits", "factors", "test"))


WRONG_FACTORS = {
    "factor 'rank' is a name": {"rank": {"1": {}}},
    "factor 'k' needs a label": {"k": {}},
    "factor 'k' at '1': there is no setting 'stps'; did you mean 'steps'?": {"k": {"1": {"stps": 1}}},
    "there is no setting 'networks.tinny.heads'": {"k": {"1": {"networks.tinny.heads": None}}},
    "Option 'head' is not accepted; did you mean heads?": {"k": {"1": {"networks.tiny.head": None}}},
    '"steps" must be a whole number, not abc': {"k": {"1": {"steps": "abc"}}},
    '"shuffled" must be bool, not yess': {"k": {"1": {"shuffled": "yess"}}},
    "Option 'primari' is not accepted; did you mean primary?": {"k": {"1": {"cases": [{"primari": "depth_z"}]}}},
    "there is no setting 'methods.mtll.auxiliary_steps'": {"k": {"1": {"methods.mtll.auxiliary_steps": 1}}},
    "no method has the setting 'anchor'": {"k": {"1": {"methods.*.anchor": 1}}},
    "a label runs at the seeds of the study; give it further ones as 'seeds'": {"k": {"1": {"seed": 1}}},
    "k 0: method 'mtl': auxiliary_steps is 0": {"k": {"0": {"methods.*.auxiliary_steps": 0}}},
    "factor 'k' at '1': 7 steps and 4 evaluations": {"k": {"1": {"steps": 7}}},
}


@pytest.mark.parametrize("message", WRONG_FACTORS)
def test_a_factor_that_changes_nothing_there_is_is_refused(toy, message):
    with pytest.raises(InputError, match=re.escape(message)):
        MetaTransferStudy(**{**toy, "factors": WRONG_FACTORS[message]})


def test_the_mean_of_several_auxiliary_tasks_is_a_method_where_there_are_several(pretended):
    tasks = ["depth_z", "normals", "semantic_segmentation"]
    cases = [{"primary": "depth_z", "auxiliary": ["normals"]}, {"primary": "depth_z", "auxiliary": tasks[1:]}]
    methods = {"tmt": {}, "tmt_mean": {}, "tmt_identity": {}, "tmt_full": {}}
    study, out, order, _ = pretended(tasks=tasks, cases=cases, methods=methods)
    study.run(out, execution=HERE)
    kinds = [name.split("-")[0] for name in order]
    assert {kind: kinds.count(kind) for kind in kinds} == {"tmt": 2, "tmt_mean": 1, "tmt_identity": 2, "tmt_full": 2}
    with pytest.raises(InputError, match="'tmt_mean' needs a case with several auxiliary tasks"):
        MetaTransferStudy(**{**study.arguments, "cases": cases[:1]})


def test_a_failure_stops_only_what_needs_it(pretended):
    study, out, _, broken = pretended(methods={"transfer": {}, "mtl": {}, "tmt": {}})
    broken.update(["pretraining-depth_z", "tmt-normals"])
    study.run(out, execution=HERE)
    assert {(row["primary"], row["method"]) for row in rows(out / "results.csv")} == {
        ("depth_z", "mtl"), ("depth_z", "tmt"), ("normals", "transfer"), ("normals", "mtl"),
    }  # fmt: skip
    assert len(json.loads((out / "failures.json").read_text())) == 2
    table = rows(out / "report/one_auxiliary.csv")
    shown = {row["method"]: list(row.values())[1:] for row in table}
    assert [cells.count("–") for cells in shown.values()] == [1, 0, 1]
    broken.clear()
    before = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    study.run(out, execution=HERE)
    assert before.items() <= {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}.items()
    assert len(rows(out / "results.csv")) == 6


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_that_cannot_be_prepared_end_the_study_before_its_first_run(pretended, monkeypatch, split):
    def prepare(done, **options):
        if options["split"] == split:
            raise InputError("/nowhere has no image")
        write_json(done, {})

    monkeypatch.setattr("lightning_taskonomy.studies.jobs.prepare", prepare)
    study, out, _, _ = pretended()
    with pytest.raises(InputError, match="/nowhere has no image"):
        study.run(out, execution=HERE)
    assert not (out / "runs").exists()


def test_instruments_are_those_of_what_was_tested(measured):
    out, _, _ = measured
    cells = rows(out / "instruments.csv")
    assert {row["method"] for row in cells} == {"tmt"} and {row["seed"] for row in cells} == {"0"}
    steps = {(row["primary"], row["step"]) for row in cells}
    assert steps == {(primary, step) for primary in ("depth_z", "normals") for step in "2468"}
    for row in cells:
        (run,) = out.glob(f"runs/tmt-{row['primary']}-from-*")
        (entry,) = [one for one in json.loads((run / "history.json").read_text()) if one["step"] == int(row["step"])]
        assert float(row["value"]) == entry[f"meta/{row['instrument']}"]
    assert {"normals/projected_cosine", "depth_z/projected_cosine"} <= {row["instrument"] for row in cells}


def test_the_report_flags_what_the_callback_warns_of():
    assert (written.SHORT_STEP, written.DOMINANCE) == (warned.SHORT_STEP, warned.DOMINANCE)


def test_the_page_names_the_methods_and_stages_of_the_code(toy):
    text = (Path(__file__).parents[2] / "docs/meta_transfer.md").read_text().split("## The study")[1]
    methods, stages = text.split("| method |")[1].split("\n\n")[0], text.split("| stage |")[1].split("\n\n")[0]
    named = [re.findall(r"`(\w+)`", line.split(" | ")[0]) for line in methods.splitlines()]
    assert [name for names in named for name in names] == list(METHODS)
    study = MetaTransferStudy(**toy, ranks=[2], factors={"k": {"1": None}}, seeds=[1])
    names = dict.fromkeys(stage.name for stage in study.stages(Path("x")))
    assert re.findall(r"^\| `(\w+)`", stages, re.M) == [*names, "analysis", "report"]


@pytest.mark.slow
def test_every_label_of_the_search_for_the_regime_trains(rooms, tmp_path):
    """The recipe with one seed, few images and few steps."""
    recipe = Path(__file__).parents[2] / "recipes/meta_transfer/regime.yaml"
    settings = yaml.safe_load(recipe.read_text())["study"]["init_args"]
    factors = {
        name: {label: {**(change or {}), **({"steps": 20} if "steps" in (change or {}) else {})}
               | ({"parallel": 6} if "parallel" in (change or {}) else {}) for label, change in labels.items()}
        for name, labels in settings["factors"].items()
    }  # fmt: skip
    data = {**rooms, "init_args": {**rooms["init_args"], "batch_size": 2}}
    small = {"data": data, "steps": 10, "parallel": 4, "seeds": None, "trainer": {"accelerator": "cpu"}}
    study = MetaTransferStudy(**{**settings, **small, "factors": factors})
    study.run(tmp_path / "s", execution=HERE)
    assert json.loads((tmp_path / "s/failures.json").read_text()) == []
    labels = {(row["study"], row["at"]) for row in rows(tmp_path / "s/results.csv")}
    assert labels == {("main", "")} | {(name, str(label)) for name in factors for label in factors[name]}
