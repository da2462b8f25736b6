"""The recipes of a solution: the parser takes every one, and those of a study train for real."""

import json
import shlex

import pytest
import torch
import yaml

from lightning_taskonomy.affinity.groupings import Network
from lightning_taskonomy.affinity.table import Transfer
from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_csv
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports.page.recipes import archive, grouping_recipes, taxonomy_recipes
from lightning_taskonomy.solvers import TaxonomySolution
from lightning_taskonomy.training import load_run

pytestmark = pytest.mark.recipe


def solution(sources, policy):
    rows = {
        target: Transfer(target, len(names), names, "task_specific" if names == (target,) else "transfer", 0.5)
        for target, names in policy.items()
    }
    return TaxonomySolution(
        objective=1.0, values={}, proven=True, gap=0.0, seconds=0.0, budget=2, max_order=2, sources=sources,
        label_cost=2, policy=rows, mean_quality=None, mean_gain=None,
    )  # fmt: skip


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes files where commands then run; gives back the words of each command in train.sh."""
    monkeypatch.chdir(tmp_path)

    def write(files):
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        lines = files["train.sh"].splitlines()
        return [shlex.split(line)[1:] for line in lines if line.startswith("lightning-taskonomy ")]

    return write


PUBLISHED = solution(
    ("rgb2sfnorm", "segmentsemantic_rb", "ego_motion"),
    {
        "rgb2sfnorm": ("rgb2sfnorm",),
        "reshade": ("rgb2sfnorm", "segmentsemantic_rb"),
        "class_1000": ("segmentsemantic_rb",),
        "point_match": ("ego_motion",),
    },
)
GROUPS = (Network(("SemSeg", "Depth"), 1.0, (0.1, 0.2)), Network(("Normals",), 0.5, (0.1,)))


@pytest.mark.parametrize(
    "files",
    [taxonomy_recipes(PUBLISHED, {}), grouping_recipes(GROUPS)],
    ids=["published taxonomy", "published grouping"],
)
def test_the_parser_takes_every_recipe(files, written, capsys):
    commands = written(files)
    assert len(commands) == len(files) - 1
    for words in commands:
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--print_config"])
        assert stopped.value.code in (0, None), words
        assert "class_path" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # the frozen sources, on purpose
def test_the_recipes_of_a_study_train(written, rooms, tiny_backbone, tmp_path):
    light = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 4, "width": 8}}
    shallow = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
    study = {
        "tasks": ["depth_z", "normals"], "data": rooms, "backbone": tiny_backbone, "heads": {"normals": light},
        "transfer_heads": {"normals": shallow}, "transfer_width": 8, "epochs": 1, "transfer_epochs": 1,
        "transfer_size": 4, "scheduler": None,
        "trainer": {
            "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 0,
        },
    }  # fmt: skip
    files = taxonomy_recipes(solution(("depth_z",), {"depth_z": ("depth_z",), "normals": ("depth_z",)}), study)
    assert list(files) == ["source_depth_z.yaml", "target_normals.yaml", "train.sh"]
    assert "layers: 2" in files["target_normals.yaml"], "the head behind a readout, not the network's"
    for words in written(files):
        assert main(words) == 0
    for run in ("source_depth_z", "target_normals"):
        assert (tmp_path / "runs/taxonomy" / run / "weights.safetensors").is_file()


def test_half_a_network_has_half_the_cost():
    (choice,) = (yaml.safe_load(text) for name, text in grouping_recipes(GROUPS).items() if name == "choice.yaml")
    full, half = (
        network["init_args"]["backbone"]["init_args"]["options"]["channels"]
        for network in choice["model"]["init_args"]["networks"]
    )
    assert full == [64, 128, 256, 512]
    assert [h * h / (f * f) for h, f in zip(half, full, strict=True)] == pytest.approx([0.5] * 4, rel=0.02)


@pytest.fixture
def grouping_study(tmp_path, rooms, tiny_backbone):
    """The folder of a finished study of groupings, as far as a choice needs it."""
    smaller = {**tiny_backbone, "init_args": {**tiny_backbone["init_args"], "channels": 4}}
    light = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
    folder = tmp_path / "study"
    folder.mkdir()
    heads = {"normals": light, "dense": light, "depth_z": {**light, "init_args": {"layers": 3, "width": 8}}}
    settings = {
        "tasks": ["depth_z", "normals", "edges_2d"], "data": rooms, "backbone": tiny_backbone, "heads": heads,
        "optimizer": None, "scheduler": None, "seed": 5,
        "trainer": {"accelerator": "cpu", "logger": False, "enable_checkpointing": False},
    }  # fmt: skip
    Manifest(
        study="lightning_taskonomy.studies.grouping.GroupingStudy", version=1, settings=settings, finished=True,
        report="lightning_taskonomy.reports.grouping.GroupingReport",
        tables={"groupings": "validation.csv", "groupings_test": "test.csv"},
    ).write(folder)  # fmt: skip
    (folder / "backbones.json").write_text(json.dumps({"1.0": tiny_backbone, "0.5": smaller}))
    statistics = {"depth_z": {"mean": 4.0, "std": 2.0}, "normals": {"mean": 0.1, "std": 0.6}}
    (folder / "statistics.json").write_text(json.dumps({**statistics, "edges_2d": {"mean": 0.2, "std": 0.1}}))
    for name, unit in (("validation", 0.1), ("test", 0.01)):
        rows = [(1, 2, 3, None), (1, 9, 8, 7), (0.5, 6, None, None), (0.5, None, 5, None), (0.5, None, None, 4)]
        lines = [[cost, *("" if loss is None else loss * unit for loss in losses)] for cost, *losses in rows]
        write_csv(folder / f"{name}.csv", ["cost", "depth_z", "normals", "edges_2d"], lines)
    return folder


def change_settings(folder, **changes):
    content = json.loads((folder / "study.json").read_text())
    content["settings"] |= changes
    (folder / "study.json").write_text(json.dumps(content))


def test_a_choice_is_trained_as_its_study_trained_the_candidates(grouping_study, tmp_path, tiny_backbone, capsys):
    change_settings(grouping_study, passes=3, parts=5, patience=4)
    file = tmp_path / "choice.yaml"
    assert main(["solve", "grouping", str(grouping_study), "--budget", "1.5", "--recipe", str(file)]) == 0
    assert "test loss" in capsys.readouterr().out, "the study has test losses"
    text = file.read_text()
    assert "# depth_z+normals (size 1) answers depth_z, normals\n" in text and "(size 0.5) answers edges_2d" in text
    recipe = yaml.safe_load(text)
    model = recipe["model"]["init_args"]
    first, second = (network["init_args"] for network in model["networks"])
    assert (first["tasks"], second["tasks"]) == (["depth_z", "normals"], ["edges_2d"])
    assert model["serves"] == [["depth_z", "normals"], ["edges_2d"]]
    assert first["backbone"] == tiny_backbone and second["backbone"]["init_args"]["channels"] == 4
    assert first["statistics"] == {"depth_z": [4.0, 2.0], "normals": [0.1, 0.6]}
    assert set(first["heads"]) == {"normals", "dense", "depth_z"} and set(second["heads"]) == {"dense"}
    assert model["optimizer"]["init_args"] == {"lr": 0.2} and model["scheduler"]["init_args"]["factor"] == 0.5
    assert recipe["trainer"]["max_epochs"] == 15 and recipe["data"]["init_args"]["parts"] == 5
    assert recipe["data"]["init_args"]["seed"] == recipe["seed_everything"] == 5
    best, stop = recipe["trainer"]["callbacks"]
    assert best["init_args"]["monitor"] == {"networks.0.": "val/network_0/loss", "networks.1.": "val/network_1/loss"}
    assert stop["init_args"] == {"monitor": "val/loss", "patience": 4}


def test_several_budgets_have_a_recipe_each(grouping_study, tmp_path, capsys):
    words = ["solve", "grouping", str(grouping_study), "--budget", "[1, 1.5]", "--recipe"]
    assert main([*words, str(tmp_path / "recipes")]) == 0
    assert sorted(file.name for file in (tmp_path / "recipes").iterdir()) == ["budget_1.5.yaml", "budget_1.yaml"]
    assert main([*words, str(tmp_path / "one.yaml")]) == 1
    assert "one.yaml is one file for 2 budgets; give a folder, or one budget" in capsys.readouterr().err


def test_a_size_that_the_study_has_no_encoder_of_is_named(grouping_study, tmp_path, capsys):
    (grouping_study / "backbones.json").write_text(json.dumps({"1.0": {}}))
    words = ["solve", "grouping", str(grouping_study), "--budget", "1.5", "--recipe", str(tmp_path / "choice.yaml")]
    assert main(words) == 1
    assert "no encoder of size 0.5 for edges_2d (cost 0.5), only 1" in capsys.readouterr().err


def test_the_page_shows_a_study_of_groupings_and_writes_the_same_recipe(grouping_study, tmp_path):
    pytest.importorskip("dash", reason="the extra 'page' is not installed")
    from lightning_taskonomy.reports.page.grouping import GroupingTab
    from lightning_taskonomy.reports.page.server import HOSTS, make_app
    from lightning_taskonomy.reports.page.settings import GroupingSettings
    from lightning_taskonomy.reports.tables import read_tables

    tables = read_tables(grouping_study)
    tab = GroupingTab(tables)
    solution = GroupingSettings(1.5).solve(tab.table)
    assert tab.test_losses(solution) == pytest.approx({"depth_z": 0.02, "normals": 0.03, "edges_2d": 0.04})
    shown = str(tab.shown(GroupingSettings(1.5), solution))
    assert "Test loss" in shown and "0.09000" in shown
    file = tmp_path / "choice.yaml"
    assert main(["solve", "grouping", str(grouping_study), "--budget", "1.5", "--recipe", str(file)]) == 0
    assert tab.recipes(solution)["choice.yaml"] == file.read_text()
    page = (
        make_app(tables).server.test_client().get("/_dash-layout", base_url=f"http://{HOSTS[0]}").get_data(as_text=True)
    )
    assert "grouping-budget" in page


@pytest.mark.slow
def test_a_choice_is_trained_and_deployed_in_three_commands(grouping_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change_settings(grouping_study, passes=1, parts=2, patience=2)
    assert main(["solve", "grouping", "study", "--budget", "1.5", "--recipe", "choice.yaml"]) == 0
    assert main(["fit", "--config", "choice.yaml"]) == 0
    assert main(["export", "runs/choice", "--format", "torch", "--out", "choice.pt2", "--size", "32"]) == 0
    model, _ = load_run(tmp_path / "runs/choice")
    image = torch.rand(3, 3, 32, 32)
    answers = model.eval()(image)
    assert list(answers) == ["depth_z", "normals", "edges_2d"]
    for output, answer in zip(torch.export.load("choice.pt2").module()(image), answers.values(), strict=True):
        torch.testing.assert_close(output, answer)


def test_an_unknown_task_is_named():
    with pytest.raises(InputError, match="'walls' is not in the catalog"):
        grouping_recipes([Network(("walls",), 1.0, (0.1,))])


def test_the_same_files_make_the_same_archive():
    assert archive({"a": "1", "b": "2"}) == archive({"a": "1", "b": "2"})
