"""The dictionary of 26 tasks, how tasks are found, and what a task checks."""

from collections import Counter

import pytest

from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.rooms import RoomsDataset
from lightning_taskonomy.data.rooms.render import KEYS
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Family, Task, TaskKind, catalog, find, resolve

PAPER = [
    "autoencoding",
    "denoising",
    "colorization",
    "inpainting",
    "jigsaw",
    "random_projection",
    "depth_z",
    "depth_euclidean",
    "normals",
    "curvature",
    "reshading",
    "edges_2d",
    "edges_occlusion",
    "keypoints_2d",
    "keypoints_3d",
    "segmentation_2d",
    "segmentation_25d",
    "semantic_segmentation",
    "object_classification",
    "scene_classification",
    "room_layout",
    "vanishing_points",
    "pose_fixated",
    "pose_nonfixated",
    "egomotion",
    "point_matching",
]
DEFAULT = {name: task for name, task in catalog().items() if "." not in name}


def test_the_dictionary_is_the_papers():
    assert sorted(DEFAULT) == sorted(PAPER) and len(PAPER) == 26


def test_the_papers_source_only_tasks():
    assert {name for name, task in DEFAULT.items() if task.source_only} == {
        "colorization", "inpainting", "jigsaw", "random_projection",
    }  # fmt: skip


def test_every_family_is_there():
    assert set(Counter(task.family for task in DEFAULT.values())) == set(Family)


@pytest.mark.parametrize(
    ("name", "views"),
    [
        ("normals", 1),
        ("jigsaw", 9),
        ("pose_fixated", 2),
        ("pose_nonfixated", 2),
        ("point_matching", 2),
        ("egomotion", 3),
    ],
)
def test_views_of_an_input(name, views):
    assert find(name).views == views


@pytest.fixture(scope="module")
def sample():
    keys = {key for task in DEFAULT.values() for key in (task.input, task.target)} & set(KEYS)
    return RoomsDataset([0], 2, 32, sorted(keys), samples=1)[0]


@pytest.mark.parametrize("task", DEFAULT.values(), ids=lambda task: task.name)
def test_rooms_has_every_task_in_the_shape_it_asks_for(task, sample):
    assert {task.input, task.target} <= set(KEYS) | set(pretext.KEYS)
    if task.target in pretext.KEYS:
        sample = dict(sample)
        pretext.derive(sample, {task.target}, 0)
    target = sample[task.target]
    assert tuple(target.shape) == task.label.shape((32, 32))
    assert target.is_floating_point() != task.is_classes
    if task.is_classes and task.kind is not TaskKind.GROUPING:
        assert ((target >= 0) & (target < task.channels) | (target == IGNORE_INDEX)).all()


def test_tasks_of_another_data_set_carry_its_name():
    assert find("camvid.semantic_segmentation").channels == 11
    assert find("semantic_segmentation").channels != 11


def test_a_task_is_found_by_dotted_path():
    assert find("lightning_taskonomy.tasks.catalog.camvid.SEMANTIC_SEGMENTATION").channels == 11


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("normls", "no task 'normls'; did you mean 'normals'"),
        ("not_a_package.tasks.WALLS", "no task 'not_a_package.tasks.WALLS'"),
        ("lightning_taskonomy.tasks.TaskKind", "no task"),
    ],
)
def test_an_unknown_task_is_one_line(name, message):
    with pytest.raises(InputError, match=message) as caught:
        find(name)
    assert "\n" not in str(caught.value)


def test_an_error_inside_a_users_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "tasks_with_a_broken_import.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        find("tasks_with_a_broken_import.TASK")


def test_resolve_keeps_order_and_takes_both():
    walls = Task("walls", TaskKind.SEGMENTATION, "walls", 2)
    assert list(resolve(["normals", walls, "depth_z"])) == ["normals", "walls", "depth_z"]


@pytest.mark.parametrize(("tasks", "message"), [([], "no task given"), (["normals", "normals"], "listed twice")])
def test_resolve_refuses(tasks, message):
    with pytest.raises(InputError, match=message):
        resolve(tasks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "two words"}, "use letters"),
        ({"channels": 0}, "channels is 0"),
        ({"scale": -1.0}, "scale is -1.0"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"kind": TaskKind.NORMALS, "channels": 2}, "3 channels"),
        ({"class_names": ("a", "b")}, "2 class names for 1 channels"),
    ],
)
def test_a_task_is_checked_when_made(changes, message):
    with pytest.raises(InputError, match=message):
        Task("x", TaskKind.DENSE, "x").but(**changes)


def test_kind_and_family_may_be_written_as_text():
    task = Task("x", "segmentation", "x", 2, family="2D", class_names=["a", "b"])
    assert task.kind is TaskKind.SEGMENTATION and task.family is Family.TWO_D and task.class_names == ("a", "b")
    assert hash(task) == hash(task.but())


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="dens"):
        Task("x", "dens", "x")
