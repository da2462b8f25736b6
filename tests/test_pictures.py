import colorsys
import sys

import matplotlib
import numpy as np
import pytest

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.pictures import caption, colorize, hatch, lab_colors, palette, value_range
from lightning_taskonomy.tasks import Task, TaskKind, resolve

TASKS = resolve(
    ["autoencoding", "depth_z", "normals", "curvature", "reshading", "edges_2d", "semantic_segmentation",
     "segmentation_25d", "scene_classification", "vanishing_points", "colorization"]
)  # fmt: skip


def test_images_stay_as_they_are():
    image = np.random.default_rng(0).random((3, 5, 7))
    assert (colorize(TASKS["autoencoding"], image) == np.round(image.transpose(1, 2, 0) * 255)).all()


@pytest.mark.parametrize(
    ("normal", "color"),
    [
        ((0, 0, -1), (128, 128, 255)),
        ((1, 0, 0), (255, 128, 128)),
        ((0, -1, 0), (128, 255, 128)),
        ((0, 1, 0), (128, 0, 128)),
    ],
)
def test_normals_show_right_red_up_green_and_towards_the_camera_blue(normal, color):
    label = np.tile(np.array(normal, float)[:, None, None], (1, 2, 2))
    assert np.abs(colorize(TASKS["normals"], label)[0, 0].astype(int) - color).max() <= 1
    assert (colorize(TASKS["normals"], 3 * label) == colorize(TASKS["normals"], label)).all()


def test_depth_is_monotone_in_lightness_between_its_limits():
    depth = np.linspace(1, 5, 64)[None, None]
    picture = colorize(TASKS["depth_z"], depth, (1, 5))[0] / 255
    lightness = picture @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) > -1e-3).all() and lightness[-1] - lightness[0] > 0.5
    assert (colorize(TASKS["depth_z"], depth + 100, (1, 5)) == colorize(TASKS["depth_z"], depth * 0 + 5, (1, 5))).all()


def test_value_range():
    depth = np.r_[np.linspace(0, 100, 1001), np.nan]
    assert value_range(TASKS["depth_z"], depth) == pytest.approx((2, 98))
    assert value_range(TASKS["reshading"], depth) == (0, 1)
    assert value_range(TASKS["edges_2d"], depth / 100) == pytest.approx((0, 0.995))
    assert value_range(TASKS["depth_z"], np.full(3, np.nan)) == (0, 1)


def test_flat_surfaces_have_neutral_curvature_and_the_two_curvatures_differ():
    label = np.zeros((2, 1, 3))
    label[0, 0, 1] = label[1, 0, 2] = 4.0
    flat, first, second = colorize(TASKS["curvature"], label)[0].astype(int)
    assert np.ptp(flat) == 0
    assert np.abs(first - second).max() > 60 and np.ptp(first) > 60 and np.ptp(second) > 60


def test_reshading_is_grey_and_edges_are_not():
    label = np.array([[[0.2, 0.7]]])
    assert np.ptp(colorize(TASKS["reshading"], label), axis=-1).max() == 0
    assert np.ptp(colorize(TASKS["edges_2d"], label), axis=-1).max() > 30


@pytest.mark.parametrize("name", ["autoencoding", "depth_z", "normals", "curvature", "reshading", "edges_2d"])
def test_missing_regression_labels_are_striped(name):
    label = np.full((TASKS[name].channels, 16, 16), 0.5)
    label[0, 4:12, :] = np.nan
    picture = colorize(TASKS[name], label)
    assert (picture[4:12] == hatch(16, 16)[4:12]).all()
    assert len(np.unique(picture[4:12].reshape(-1, 3), axis=0)) == 2
    assert np.isfinite(picture[:4]).all() and (picture[0, 0] == picture[3, 15]).all()


@pytest.mark.parametrize("name", ["semantic_segmentation", "segmentation_25d"])
def test_ids_have_their_own_colors_and_missing_ones_stripes(name):
    label = np.arange(16).reshape(4, 4)
    label[3, 3] = -100
    picture = colorize(TASKS[name], label)
    assert (picture[3, 3] == hatch(4, 4)[3, 3]).all()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 16
    assert (colorize(TASKS[name], label[None]) == picture).all()


def test_logits_look_like_their_best_class():
    ids = np.random.default_rng(0).integers(0, 21, (6, 6))
    logits = np.moveaxis(np.eye(21)[ids], -1, 0)
    task = TASKS["semantic_segmentation"]
    assert (colorize(task, logits) == colorize(task, ids)).all()


def test_colors_of_classes_can_be_given():
    bins = np.random.default_rng(0).uniform(-80, 80, (313, 2))
    table = lab_colors(bins)
    picture = colorize(TASKS["colorization"], np.array([[0, 312]]), colors=table)
    assert (picture[0] == table[[0, 312]]).all()


def test_lab_colors_have_the_hues_of_cielab():
    red, yellow, green, blue = lab_colors([(60, 20), (0, 60), (-50, 20), (0, -50)])
    hues = [colorsys.rgb_to_hsv(*(c / 255 for c in color.tolist()))[0] * 360 for color in (red, yellow, green, blue)]
    assert (hues[0] < 20 or hues[0] > 330) and 40 < hues[1] < 65 and 80 < hues[2] < 170 and 190 < hues[3] < 240
    grey = lab_colors([(0, 0)], 53.585)[0]
    assert np.abs(grey.astype(int) - 128).max() <= 1  # sRGB 128 has L* = 53.585


def test_embeddings_show_segments_whatever_the_sign_and_the_rotation():
    generator = np.random.default_rng(0)
    segments = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 8, 0), 8, 1)
    centres = generator.normal(size=(4, 64))
    embedding = np.moveaxis(centres[segments] + 0.01 * generator.normal(size=(16, 16, 64)), -1, 0)
    picture = colorize(TASKS["segmentation_25d"], embedding).astype(int)
    means = np.array([picture[segments == s].mean(0) for s in range(4)])
    spread = max(picture[segments == s].std(0).max() for s in range(4))
    apart = min(np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i])
    assert apart > 10 * spread
    assert (colorize(TASKS["segmentation_25d"], embedding) == picture).all()


def test_palettes_nest_and_stay_apart_for_colour_blind_readers():
    assert (palette(8) == palette(21)[:8]).all()
    assert len(np.unique(palette(255), axis=0)) == 255
    # Independent of the palette's own measure: Vienot, Brettel and Mollon 1999, against matplotlib's 20 colours.
    deuteranopia = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    peer = np.array(matplotlib.colormaps["tab20"].colors)

    def least(rgb):
        seen = np.clip(rgb**2.2 @ deuteranopia.T, 0, 1) ** (1 / 2.2)
        pairs = np.triu_indices(len(rgb), 1)
        return [np.linalg.norm(view[:, None] - view[None], axis=-1)[pairs].min() for view in (rgb, seen)]

    (ours, ours_seen), (peers, peers_seen) = least(palette(20) / 255), least(peer)
    assert ours > 1.2 * peers and ours_seen > 2 * peers_seen
    with pytest.raises(InputError, match="palette of 0"):
        palette(0)


def test_captions():
    scene = TASKS["scene_classification"]
    assert caption(scene, 1) == "bedroom"
    assert caption(scene, np.array(-100)) == "no label"
    assert caption(scene, np.log([0.87, 0.05, 0.02, 0.02, 0.02, 0.02])) == "living room (87 %)"
    assert caption(TASKS["vanishing_points"], np.full(9, np.nan)) == "no label"
    pose = Task("pose", TaskKind.VECTOR, "pose", 2, units="m")
    assert caption(pose, [0.123, -4]) == "0.12, -4.00 m"
    assert caption(Task("thing", TaskKind.CLASSIFICATION, "thing", 4), 3) == "class 3"


def test_panels_of_classes_and_vectors():
    scene, vector = TASKS["scene_classification"], Task("v", TaskKind.VECTOR, "v", 2)
    sure = colorize(scene, np.array([9.0, 0, 0, 0, 0, 0]), size=(60, 90))
    assert sure.shape == (60, 90, 3) and sure.dtype == np.uint8
    assert (colorize(scene, -100, size=(60, 90)) == hatch(60, 90)).all()
    panel = colorize(vector, np.array([1.0, -1.0]), size=(40, 80))
    assert tuple(panel[10, 50]) == (0, 114, 178) and tuple(panel[30, 30]) == (213, 94, 0)
    assert tuple(panel[10, 30]) == tuple(panel[30, 50]) == (250, 250, 250)


@pytest.mark.parametrize(
    ("name", "shape"), [("normals", (2, 4, 4)), ("depth_z", (1, 3, 4, 4)), ("semantic_segmentation", (3,))]
)
def test_a_wrong_shape_names_the_task(name, shape):
    with pytest.raises(InputError, match=name):
        colorize(TASKS[name], np.zeros(shape))


def test_pictures_load_without_torch():
    import subprocess

    code = (
        "import sys, lightning_taskonomy.pictures, lightning_taskonomy.reports.taxonomy; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
