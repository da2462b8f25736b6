"""The recipes of a solution: the parser takes every one, and those of a study train for real."""

import shlex

import pytest

from lightning_taskonomy.affinity.groupings import Network
from lightning_taskonomy.affinity.table import Transfer
from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.page.recipes import archive, grouping_recipes, taxonomy_recipes
from lightning_taskonomy.solvers import TaxonomySolution

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
    import yaml

    files = grouping_recipes(GROUPS)
    full, half = (
        yaml.safe_load(files[name])["model"]["init_args"]["backbone"]["init_args"]["options"]["channels"]
        for name in ("network_1_SemSeg_Depth.yaml", "network_2_Normals.yaml")
    )
    assert full == [64, 128, 256, 512]
    assert [h * h / (f * f) for h, f in zip(half, full, strict=True)] == pytest.approx([0.5] * 4, rel=0.02)


def test_an_unknown_task_is_named():
    with pytest.raises(InputError, match="'walls' is not in the catalog"):
        grouping_recipes([Network(("walls",), 1.0, (0.1,))])


def test_the_same_files_make_the_same_archive():
    assert archive({"a": "1", "b": "2"}) == archive({"a": "1", "b": "2"})
