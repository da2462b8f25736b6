"""Every recipe is understood by its command; a wrong key is not; the small ones run."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from lightning_taskonomy.cli import main

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
FILES = sorted(RECIPES.rglob("*.yaml"))
SWEEPS = sorted(RECIPES.rglob("sweep*.yaml"))
COMMANDS = [file for file in FILES if file not in SWEEPS]
STUDIES = [file for file in COMMANDS if "study" in yaml.safe_load(file.read_text())]
TAXONOMIES = [file for file in STUDIES if "TaxonomyStudy" in file.read_text()]
CHAINS = [file for file in STUDIES if "InfluenceStudy" in file.read_text()]
PAPERS = [file for file in CHAINS if file.stem in ("paper", "paper_fixed_resolution")]
MARKED_BACKGROUND = {"voc", "pascal_context", "suim", "isaid", "isprs", "vkitti2", "vgallery"}  # docs/data.md
FITS = [file for file in COMMANDS if "model" in yaml.safe_load(file.read_text())]
OF_TASKS = [
    file
    for file in [*FITS, *STUDIES]
    if "tasks"
    in next(part for key, part in yaml.safe_load(file.read_text()).items() if key in ("model", "study"))["init_args"]
]
HERE = {"class_path": "LocalExecutor", "init_args": {"workers": 0}}
SMALL = {
    "epochs": 1, "transfer_epochs": 1, "transfer_size": 4, "test_images": 4, "max_order": 1, "seeds": None,
    "controls": None, "random_taxonomies": 5, "examples": 1, "scratch_epochs": 1, "beam": 2,
}  # fmt: skip


def named(file):
    return file.relative_to(RECIPES).as_posix()


def slow_but_quickstarts(files):
    """Those that are no quickstart are for the slow tests: each takes seconds."""
    return [pytest.param(one, marks=() if one.stem == "quickstart" else pytest.mark.slow) for one in files]


def words(file):
    """The first command that a recipe's head names."""
    for line in file.read_text().splitlines():
        if line.startswith("#") and "lightning-taskonomy " in line:
            command = shlex.split(line.split("lightning-taskonomy ", 1)[1].split("   ")[0])
            return [word for word in command if word != "--dry-run"]
    raise AssertionError(f"{named(file)} names no command")


@pytest.fixture(autouse=True)
def _at_home(monkeypatch):
    monkeypatch.chdir(ROOT)


def status(*given):
    try:
        return main(list(given))
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize("file", COMMANDS, ids=named)
def test_the_command_of_a_recipe_is_understood(file, capsys):
    assert f"recipes/{named(file)}" in words(file)
    assert status(*words(file), "--print_config") in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert set(yaml.safe_load(file.read_text())) <= set(printed)


@pytest.mark.parametrize("file", slow_but_quickstarts(TAXONOMIES), ids=named)
def test_the_runs_of_a_taxonomy_recipe_are_understood(file, capsys, tmp_path):
    """Those of the study and of each variant: a network, one from scratch, a transfer, each way to fine-tune."""
    from lightning_taskonomy.studies.taxonomy import TaxonomyStudy
    from lightning_taskonomy.studies.taxonomy.fine_tune import fine_tune_jobs
    from lightning_taskonomy.training import check

    status(*words(file), "--print_config")
    study = TaxonomyStudy(**yaml.safe_load(capsys.readouterr().out)["study"]["init_args"])
    recipe = yaml.safe_load(file.read_text())["study"]["init_args"].get("variants") or {}
    assert {name: set(changes) for name, changes in (study.variants or {}).items()} == {
        name: set(changes) for name, changes in recipe.items()
    }
    plan = study.plan(tmp_path)
    runs = []
    for name in {task.kind: name for name, task in plan.tasks.items() if not task.source_only}.values():
        runs += [plan.task_specific(name), plan.transfer(name, [name])]
    for changed in (plan, *study.others(plan).values()):
        first = changed.targets[0]
        runs += [changed.task_specific(first), changed.scratch(first), changed.transfer(first, [first])]
    runs += [run for run in [study.fixed(plan)] if run is not None]
    configs = {run.folder: run.config for run in runs}
    configs |= {
        job.done[0]: job.arguments["config"]
        for other in study.fine_tune or []
        for job in fine_tune_jobs(plan, other)[:1]
    }
    for config in configs.values():
        check(config)
        assert "weight_decay" in config["model"]["init_args"]["optimizer"]["init_args"]


@pytest.mark.parametrize("file", slow_but_quickstarts(CHAINS), ids=named)
def test_the_runs_of_a_recipe_of_chains_are_understood(file, capsys, tmp_path):
    """A network of each task, its optimizer with a rate of its own, and each model of several sources."""
    from lightning_taskonomy.studies.influence import InfluenceStudy
    from lightning_taskonomy.training import check

    status(*words(file), "--print_config")
    study = InfluenceStudy(**yaml.safe_load(capsys.readouterr().out)["study"]["init_args"])
    plan = study.but(normalise=False).plan(tmp_path)  # colours are not measured yet
    runs = [*plan.firsts().values(), *map(plan.from_scratch, plan.tasks.values())]
    runs += [next(iter(plan.source_runs(name, "full").values())) for name in plan.settings.multi_source or {}]
    for run in runs:
        check({**run.config, "weights": None})


@pytest.mark.parametrize("file", PAPERS, ids=named)
def test_a_recipe_of_the_papers_chains_agrees_with_its_table_of_data_sets(file):
    """Splits that are there, domains, sizes of small targets, batches, ignored background (Table 1, appendix A)."""
    import lightning_taskonomy.data.formats  # noqa: F401 - the classes below are those that it defines
    from lightning_taskonomy.data import TaskDataModule
    from lightning_taskonomy.tasks import find
    from lightning_taskonomy.tasks.catalog.domains import COLLECTIONS

    modules, waiting = {}, [TaskDataModule]
    while waiting:
        waiting += (classes := waiting.pop().__subclasses__())
        modules |= {one.__name__: one for one in classes}
    study = yaml.safe_load(file.read_text())["study"]["init_args"]
    batches = {"segmentation": 32, "detection": 128, "keypoints": 128, "depth": 64}
    beside = {"voc2007": "voc", "coco_objects": "coco", "coco_people": "coco", "bdd100k": "bdd"}
    used = {}
    for name, images in study["sets"].items():
        collection = COLLECTIONS[beside.get(name, name)]
        module, options = modules[images["data"]["class_path"]], images["data"]["init_args"]
        assert collection.domain == images["domain"]
        large = collection in (COLLECTIONS["coco"], COLLECTIONS["ade20k"])
        assert images.get("small", study.get("small", 150)) == (1000 if large else 150)
        splits = getattr(module, "splits", {"train", "official_test"})  # Cityscapes' names are checked by its own tests
        assert {options.get("fit_split", "train"), options["test_split"]} <= set(splits)
        for kind, reference in images["tasks"].items():
            task = find(reference)
            training = {**study["training"][kind], **(images.get("training") or {}).get(kind, {})}
            assert training["batch_size"] == batches[kind] and len(training["rates"]) == 3
            if kind == "segmentation" and task.class_names[0] == "background" and name in MARKED_BACKGROUND:
                assert options["background"] is False
            used.setdefault(beside.get(name, name), set()).add(kind)
    if file.stem == "paper":
        assert used == {name: set(one.kinds) for name, one in COLLECTIONS.items() if name != "imagenet"}


def test_depth_has_the_papers_loss_in_all_recipes_of_chains():
    """Appendix A.5, in studies and in the fit of depth alone."""
    from lightning_taskonomy.tasks import find

    references = yaml.safe_load((RECIPES / "influence/depth.yaml").read_text())["model"]["init_args"]["tasks"]
    for file in CHAINS:
        sets = yaml.safe_load(file.read_text())["study"]["init_args"].get("sets") or {}
        references += [images["tasks"]["depth"] for images in sets.values() if "depth" in images["tasks"]]
    assert {"rooms.depth", "sunrgbd.depth_z", "vgallery.depth_z", "vkitti2.depth_z"} == set(references)
    assert {find(name).loss for name in references} == {"lightning_taskonomy.losses.l1_and_gradients"}


@pytest.mark.parametrize("file", FILES, ids=named)
def test_a_recipe_opens_with_what_it_is_and_its_command(file):
    head = [line for line in file.read_text().splitlines()[:12] if line.startswith("#")]
    assert len(head) >= 3
    assert any(f"recipes/{named(file)}" in line for line in head)
    if file in [*FITS, *STUDIES]:
        assert any("  --" in line and "--config" not in line for line in head), "an override"


@pytest.mark.parametrize("file", SWEEPS, ids=named)
def test_what_a_sweep_runs_is_understood(file, capsys):
    recipe = yaml.safe_load(file.read_text())
    assert recipe["method"] in ("grid", "random", "bayes") and recipe["program"] == "lightning-taskonomy"
    sampled = {}
    for name, given in recipe["parameters"].items():
        sampled[name] = given.get("value", given.get("values", [given.get("min")])[0])
    given = [f"--{name}={value}" for name, value in sampled.items()]  # as the agent writes ${args}
    command = [word for part in recipe["command"] for word in (given if part == "${args}" else [part])]
    assert command[0] == "${program}"
    assert status(*command[1:], "--print_config") in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    for name, value in sampled.items():
        setting = printed
        for part in name.split("."):
            setting = setting[part]
        assert setting == pytest.approx(value) if isinstance(value, float) else setting == value


@pytest.mark.parametrize("file", OF_TASKS, ids=named)
def test_a_wrong_key_exits_with_2_and_a_hint(file, tmp_path, capsys):
    recipe = yaml.safe_load(file.read_text())
    part = recipe["study"] if "study" in recipe else recipe["model"]
    part["init_args"]["taks"] = ["normals"]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(recipe))
    assert status(words(file)[0], "--config", str(tmp_path / "wrong.yaml")) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and "'taks'" in error and "did you mean tasks" in error


def test_a_later_recipe_adds_to_an_earlier_one(capsys):
    assert status(*words(FITS[0]), "--print_config") in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"]["logger"]["class_path"].endswith("WandbLogger")
    assert printed["trainer"]["logger"]["init_args"]["offline"] is True
    assert printed["model"]["init_args"]["tasks"]


@pytest.mark.parametrize("logger", ["CSVLogger", "TensorBoardLogger"])
def test_another_logger_is_one_override(logger, capsys):
    assert status(*words(FITS[0]), "--trainer.logger", logger, "--print_config") in (0, None)
    made = yaml.safe_load(capsys.readouterr().out)["trainer"]["logger"]
    assert made["class_path"].endswith(logger) and made["init_args"]["save_dir"] == "."


@pytest.mark.recipe
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("file", [RECIPES / "quickstart.yaml"], ids=named)
def test_a_small_version_of_the_quickstart_runs(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = yaml.safe_load(file.read_text())
    study = recipe["study"]["init_args"]
    study |= {name: value for name, value in SMALL.items() if name in study}
    study["tasks"] = [*study["tasks"][:2], "depth_z"]
    study["data"]["init_args"] |= {
        "size": 32, "views": 2, "train_buildings": 2, "validation_buildings": 2, "test_buildings": 2, "batch_size": 4,
        "cache": str(tmp_path / "cache"),
    }  # fmt: skip
    recipe |= {"out": str(tmp_path / "out"), "logger": None, "execution": HERE}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    assert status("study", "--config", str(tmp_path / "small.yaml")) == 0
    assert (tmp_path / "out/affinity.csv").is_file()
    assert json.loads((tmp_path / "out/failures.json").read_text()) == []


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.filterwarnings("default")
def test_a_small_version_of_the_paper_and_its_stability_runs(tmp_path, rooms, tiny_backbone):
    """Sections 3, 4 and 5.2 on rooms: fewer tasks, variants and epochs, everything else as the recipes have it."""
    tasks = ["depth_euclidean", "room_layout", "scene_classification"]
    recipe = yaml.safe_load((RECIPES / "taxonomy/paper.yaml").read_text())
    study = recipe["study"]["init_args"]
    variants = yaml.safe_load((RECIPES / "taxonomy/paper_stability.yaml").read_text())["study"]["init_args"]["variants"]
    kept = {"VI every other task": {**variants["VI every other task"], "tasks": tasks[:2]}}
    study |= SMALL | {
        "tasks": tasks, "data": rooms, "backbone": tiny_backbone, "imagenet": tiny_backbone, "transfer_size": 8,
        "max_order": 2, "transitive": [["scene_classification", "room_layout", "depth_euclidean"]],
        "transitive_sizes": [4], "trainer": {"accelerator": "cpu"}, "scratch_epochs": 2, "variants": kept,
    }  # fmt: skip
    recipe |= {"out": str(tmp_path / "out"), "execution": HERE}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    assert status("study", "--config", str(tmp_path / "small.yaml")) == 0
    assert json.loads((tmp_path / "out/failures.json").read_text()) == []
    for name in ("novel", "transitive", "stability"):
        assert len((tmp_path / f"out/{name}.csv").read_text().splitlines()) > 1


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.filterwarnings("default")
def test_a_small_version_of_the_meta_transfer_quickstart_runs(tmp_path):
    recipe = yaml.safe_load((RECIPES / "meta_transfer/quickstart.yaml").read_text())
    study = recipe["study"]["init_args"]
    study |= {"steps": 8, "evaluations": 2, "seeds": None, "cases": [{"primary": "depth_z", "auxiliary": ["normals"]}]}
    study["data"]["init_args"] |= {
        "size": 32, "views": 2, "train_buildings": 4, "validation_buildings": 2, "test_buildings": 2, "batch_size": 2,
        "cache": str(tmp_path / "cache"),
    }  # fmt: skip
    study["parallel"] = 0.5
    recipe |= {"out": str(tmp_path / "out"), "logger": None, "execution": HERE}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    assert status("study", "--config", str(tmp_path / "small.yaml")) == 0
    assert json.loads((tmp_path / "out/failures.json").read_text()) == []
    assert len((tmp_path / "out/results.csv").read_text().splitlines()) == 1 + len(study["methods"])
