from collections import Counter

import matplotlib
import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.patches import FancyArrowPatch, PathPatch
from scipy.cluster.hierarchy import linkage

from lightning_taskonomy.affinity.table import Transfer
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports import figures
from lightning_taskonomy.reports.figures import Ranking
from lightning_taskonomy.reports.figures.style import FAMILY_COLORS, GREY, INK, text_on
from lightning_taskonomy.solvers.taxonomy import Band, Chance, TaxonomySolution

FAMILIES = {"depth": "3D", "normals": "3D", "edges": "2D", "jigsaw": "2D", "scene": "semantic"}


POLICY = (
    Transfer("depth", 1, ("depth",), "task_specific", 0.5, 0.5, 0.9),
    Transfer("edges", 1, ("edges",), "task_specific", 0.5, 0.5, 0.8),
    Transfer("normals", 1, ("depth",), "transfer", 0.3, 0.4, 0.7),
    Transfer("scene", 2, ("depth", "edges"), "transfer", 0.2, 0.1, 0.6),
)


def taxonomy(budget=2, order=2, rows=POLICY, sources=("depth", "edges"), **changes):
    policy = {row.target: row for row in rows}
    shared = {"objective": 1.5, "values": {}, "proven": True, "gap": 0.0, "seconds": 0.0, "label_cost": 0.0}
    means = {"mean_gain": 0.75, "mean_quality": 0.375}
    values = {"budget": budget, "max_order": order, "sources": sources, "policy": policy, **shared, **means, **changes}
    return TaxonomySolution(**values)


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_affinity_matrix_shows_both_matrices_with_the_paper_s_distance():
    before = np.array([[1.0, 3.0, np.nan], [20.0, 10.0, 40.0]])
    after = np.array([[0.7, 0.3, np.nan], [0.1, 0.6, 0.3]])
    figure = figures.affinity_matrix(
        before, after, targets=["depth", "normals"], sources=["edges", "depth", "task-specific"], families=FAMILIES
    )
    left, right = (axis.images[0].get_array() for axis in figure.axes[:2])
    np.testing.assert_allclose(left.filled(np.nan), [[0, 1, np.nan], [1 / 3, 0, 1]])
    np.testing.assert_allclose(right.filled(np.nan), np.exp(-20 * after))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["depth", "normals"]
    assert [t.get_text() for t in figure.axes[1].get_xticklabels()] == ["edges", "depth", "task-specific"]
    assert {"1–3", "10–40"} <= set(texts(figure))
    marks = [line for line in figure.axes[0].lines if not line.get_clip_on()]
    assert [line.get_color() for line in marks] == [FAMILY_COLORS[f] for f in ("3D", "3D", "2D", "3D")]


def test_affinity_matrix_without_losses_has_one_panel_and_large_ones_are_stacked():
    one = figures.affinity_matrix(None, np.eye(2), targets=["a", "b"], sources=["a", "b"])
    assert sum(bool(axis.images) for axis in one.axes) == 1
    names = [f"t{i}" for i in range(26)]
    table = np.random.default_rng(0).random((26, 26))
    large = figures.affinity_matrix(table, table, targets=names, sources=names)
    top, bottom = (axis.get_position() for axis in large.axes[:2])
    assert top.y0 > bottom.y1 - 0.01
    with pytest.raises(InputError, match="shape"):
        figures.affinity_matrix(None, np.eye(3), targets=["a"], sources=["b"])


def test_gain_quality_runs_from_red_to_blue_and_leaves_gaps():
    table = np.array([[0.0, 0.5, 1.0], [np.nan, 0.2, 0.3]])
    figure = figures.gain_quality({1: table}, {1: table, 4: table}, tasks=["a", "b"], budgets=[2, 4, 8])
    panels = [axis for axis in figure.axes if axis.get_xlabel() == "budget"]
    assert [axis.get_title(loc="left") for axis in panels] == [
        "Gain, order ≤ 1",
        "Quality, order ≤ 1",
        "Quality, order ≤ 4",
    ]
    image = panels[0].images[0]
    red, white, blue = image.to_rgba(table)[0]
    assert red[0] > 2 * red[2] and blue[2] > 2 * blue[0] and white[:3].min() > 0.95
    assert image.get_array().mask.sum() == 1
    assert Counter(t.get_text() for t in panels[0].texts) == Counter([".00", ".50", "1.00", ".20", ".30"])


def test_taxonomy_graph_draws_every_transfer_once_per_source():
    figure = figures.taxonomy_graph(taxonomy(), families=FAMILIES, source_only=["jigsaw"], tasks=list(FAMILIES))
    edges = {p.get_gid(): p for p in figure.findobj(PathPatch) if (p.get_gid() or "").startswith("edge:")}
    assert set(edges) == {"edge:depth:normals", "edge:depth:scene", "edge:edges:scene"}
    assert matplotlib.colors.same_color(edges["edge:edges:scene"].get_edgecolor()[:3], FAMILY_COLORS["2D"])
    assert edges["edge:depth:normals"].get_linewidth() > edges["edge:depth:scene"].get_linewidth()
    words = texts(figure)
    assert {"trained with all labels (2)", "solved by transfer (2)", "not used (1)", "jigsaw", "0.70", "0.10"} <= set(
        words
    )
    assert {"order 1", "order 2", "trained fully", "2D", "3D", "semantic"} <= set(words)
    rings = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert len(rings) == 2


def test_taxonomy_graph_of_26_tasks_has_no_overlapping_labels():
    names = [f"some_task_{i}" for i in range(26)]
    policy = [Transfer(n, 1, (n,), "task_specific") for n in names[:5]]
    policy += [
        Transfer(n, 2, tuple(names[i % 5 : i % 5 + 2]), "transfer", 0.1, 0.5, 0.5) for i, n in enumerate(names[5:22])
    ]
    figure = figures.taxonomy_graph(taxonomy(5, 2, policy, tuple(names[:5])), source_only=names[22:], tasks=names)
    figure.canvas.draw()
    labels = [t for t in figure.axes[0].texts if t.get_text().startswith("some task")]
    boxes = [t.get_window_extent() for t in labels]
    assert len(boxes) == 26
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    width, height = figure.canvas.get_width_height()
    assert all(b.x0 >= 0 and b.x1 <= width and b.y0 >= 0 and b.y1 <= height for b in boxes)


def test_taxonomy_graph_has_room_for_long_names():
    long = "a_task_with_a_name_that_is_longer_than_any_other_one"
    policy = (
        Transfer("short", 1, ("short",), "task_specific", win_rate_vs_scratch=0.9),
        Transfer(long, 1, ("short",), "transfer"),
    )
    for sources in (("short",), (f"{long}_too",)):
        figure = figures.taxonomy_graph(taxonomy(1, 1, policy, sources))
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert all(box.x0 >= 0 and box.x1 <= figure.canvas.get_width_height()[0] for box in boxes)


def test_taxonomy_graph_of_few_targets_counts_what_is_not_used():
    tasks = [*FAMILIES, *(f"other_{i}" for i in range(20))]
    words = texts(figures.taxonomy_graph(taxonomy(), families=FAMILIES, tasks=tasks))
    assert "not used (21)" in words and "other 3" not in words


def test_taxonomy_grid_has_a_place_per_budget_and_order():
    figure = figures.taxonomy_grid(
        [taxonomy(2, 1), taxonomy(2, 2), taxonomy(4, 2)],
        tasks=list(FAMILIES),
        families=FAMILIES,
        source_only=["jigsaw"],
    )
    words = texts(figure)
    assert {"budget 2, order ≤ 1", "budget 2, order ≤ 2", "budget 4, order ≤ 2"} <= set(words)
    assert "budget 4, order ≤ 1" not in words
    assert len(figure.findobj(FancyArrowPatch)) == 3 * 3
    assert [w for w in words if w[:2] in ("1 ", "2 ", "3 ", "4 ", "5 ")] == [
        "1 edges",
        "2 jigsaw",
        "3 depth",
        "4 normals",
        "5 scene",
    ]
    with pytest.raises(InputError, match="no taxonomy"):
        figures.taxonomy_grid([], tasks=["a"])


def test_budget_curves_follow_the_budgets_and_show_the_random_band():
    chance = Chance(gain=Band(0.2, 0.3, 0.4), quality=None, p_value=0.01)
    solved = [taxonomy(4, 1, mean_gain=0.9), taxonomy(2, 1, mean_gain=0.6)]
    solved += [taxonomy(2, 2), taxonomy(4, 2)]
    figure = figures.budget_curves(solved, {(2, 2): chance, (2, 4): chance})
    curve = next(line for line in figure.axes[0].lines if line.get_label() == "taxonomy, order ≤ 1")
    np.testing.assert_array_equal(curve.get_xydata(), [[2, 0.6], [4, 0.9]])
    filled = figure.axes[0].collections[0].get_paths()[0].vertices
    assert filled[:, 1].min() == 0.2 and filled[:, 1].max() == 0.4 and not figure.axes[1].collections
    assert "random taxonomies, order ≤ 2 (5–95 %)" in texts(figure)


def test_labels_saved_and_seed_spread():
    figure = figures.labels_saved([(0.5, 0.4, 4, "order ≤ 1"), (0.2, 0.3, 2, "order ≤ 1")], reference=0.5)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), [[0.2, 0.3], [0.5, 0.4]])
    assert {"2", "4", "every target trained fully"} <= set(texts(figure))
    spread = figures.seed_spread(
        {"a → b": {"affinity": [1.0, 2.0, 3.0], "random": [0.5, np.nan]}}, value="affinity", reference=None
    )
    assert [bar.get_width() for bar in spread.axes[0].patches] == [2.0, 0.5]
    dots = next(line for line in spread.axes[0].lines if line.get_marker() == ".")
    np.testing.assert_array_equal(dots.get_xdata(), [1, 2, 3])
    for function, nothing in ((figures.labels_saved, []), (figures.seed_spread, {}), (figures.budget_curves, [])):
        with pytest.raises(InputError):
            function(nothing)


def test_dendrogram_has_a_leaf_per_task_and_colours_pure_branches():
    names = ["depth", "normals", "edges", "jigsaw", "scene"]
    points = np.array([[0, 0], [0, 1], [9, 0], [9, 1.5], [5, 9]], float)
    figure = figures.dendrogram(linkage(points, "average"), names, families=FAMILIES)
    axis = figure.axes[0]
    assert sorted(t.get_text() for t in axis.texts) == sorted(names)
    heights = sorted(max(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 4)
    np.testing.assert_allclose(heights, linkage(points, "average")[:, 2])
    colors = Counter(line.get_color() for line in axis.lines if len(line.get_xdata()) == 4)
    assert colors[FAMILY_COLORS["3D"]] == 1 and colors[FAMILY_COLORS["2D"]] == 1
    with pytest.raises(InputError, match="linkage"):
        figures.dendrogram(np.zeros((2, 4)), names)


def test_qualitative_shows_every_picture_in_its_place():
    picture = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    figure = figures.qualitative(
        {"depth_z": {"input": picture, "target": picture, "transfer": picture[::-1]}, "edges": {"input": picture}},
        examples=2, notes={"depth_z": "from edges"},
    )  # fmt: skip
    images = figure.findobj(AxesImage)
    assert len(images) == 2 * 3 + 2
    assert {"input", "truth", "best transfer", "depth\nz", "from edges"} <= set(texts(figure))
    assert "from scratch" not in texts(figure)
    places = {tuple(round(v, 2) for v in image.get_extent()[::3]): np.asarray(image.get_array()) for image in images}
    np.testing.assert_array_equal(places[2.0, 1.0], picture[0])


def test_svg_has_the_page_s_ink_unique_ids_and_no_foreign_address():
    import re

    svg = figures.to_svg(figures.budget_curves([taxonomy()]), "curves")
    assert INK not in svg and "currentColor" in svg and svg.startswith("<svg")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids)) and all(i.startswith("curves-") for i in ids)
    assert set(re.findall(r'href="#([^"]+)"', svg)) <= set(ids) and set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(ids)
    assert svg == figures.to_svg(figures.budget_curves([taxonomy()]), "curves")


def test_figures_leave_the_user_s_settings_alone():
    before = dict(matplotlib.rcParams)
    matplotlib.rcParams["font.size"] = 30
    try:
        figures.budget_curves([taxonomy()])
        assert matplotlib.rcParams["font.size"] == 30
    finally:
        matplotlib.rcParams.update(before)


def test_text_is_black_on_light_and_white_on_dark():
    assert text_on(1, 1, 0.8) == "#000000" and text_on(0.1, 0, 0.2) == "#ffffff"


def test_dendrogram_writes_support_at_its_node_but_not_at_the_root():
    links = linkage(np.array([[0.0], [1.0], [5.0], [7.5]]), "average")
    figure = figures.dendrogram(links, ["a", "b", "c", "d"], support=[0.97, 0.4, 1.0])
    marks = {t.get_text(): t.xy for t in figure.axes[0].texts if hasattr(t, "xy")}
    places = {t.get_text(): t.get_position()[1] for t in figure.axes[0].texts if not hasattr(t, "xy")}
    assert set(marks) == {"97", "40"}
    assert marks["97"] == (links[0, 2], (places["a"] + places["b"]) / 2)
    assert marks["40"] == (links[1, 2], (places["c"] + places["d"]) / 2)
    with pytest.raises(InputError, match="support"):
        figures.dendrogram(links, ["a", "b", "c", "d"], support=[0.5])


def test_wheels_of_26_tasks_keep_rings_apart():
    names = [f"task{i}" for i in range(26)]
    everything = taxonomy(26, 1, [Transfer(n, 1, (n,), "task_specific") for n in names], tuple(names))
    figure = figures.taxonomy_grid([everything], tasks=names)
    figure.canvas.draw()
    axis = figure.axes[0]
    rings = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    places = axis.transData.transform([line.get_xydata()[0] for line in rings])
    gaps = np.linalg.norm(places[:, None] - places, axis=-1)[~np.eye(26, dtype=bool)]
    assert len(rings) == 26 and gaps.min() > (rings[0].get_markersize() + 1) * figure.dpi / 72


def test_budget_curves_that_coincide_show_their_marks_in_turns():
    solved = [taxonomy(budget, order) for budget in range(1, 20) for order in (1, 2)]
    lines = [line for line in figures.budget_curves(solved).axes[0].lines if line.get_label().startswith("taxonomy")]
    assert [line.get_markevery() for line in lines] == [(0, 2), (1, 2)]


def test_novel_tasks_have_win_rates_in_colour_and_losses_below():
    gain, quality = np.array([[0.6, 0.7], [0.8, np.nan]]), np.array([[0.2, 0.3], [0.4, 0.5]])
    rates = np.array([[0.7, 1.0, 0.3], [0.8, np.nan, 0.5]])
    losses = np.array([[0.111, 0.222, 0.333, 0.0444], [1.5, 2.5, np.nan, 3.5]])
    figure = figures.novel_tasks(
        gain, quality, rates, losses, targets=["depth", "normals"], orders=[1, 2],
        rivals=["scratch", "egomotion", "task_specific"], families=FAMILIES,
    )  # fmt: skip
    left, middle, right = figure.axes[:3]
    np.testing.assert_allclose(left.images[0].get_array().filled(np.nan), gain)
    np.testing.assert_allclose(middle.images[0].get_array().filled(np.nan), quality)
    names = ["this policy", "scratch", "egomotion (Agrawal)", "full supervision"]
    assert [label.get_text() for label in right.get_xticklabels()] == names
    placed = {}
    for text in sorted(right.texts, key=lambda text: text.get_position()[1]):
        placed.setdefault(tuple(map(round, text.get_position())), []).append(text.get_text())
    assert placed == {
        (0, 0): ["0.111"], (1, 0): ["70", "0.222"], (2, 0): ["100", "0.333"], (3, 0): ["30", "0.0444"],
        (0, 1): ["1.5"], (1, 1): ["80", "2.5"], (3, 1): ["50", "3.5"],
    }  # fmt: skip
    colours = {tuple(np.round(patch.get_xy(), 2)): patch.get_facecolor() for patch in right.patches}
    assert colours[0.53, -0.46] == matplotlib.colormaps["RdBu"](0.7)
    (missing,) = [patch for patch in right.patches if patch.get_hatch()]
    assert np.allclose(missing.get_xy(), (1.53, 0.54)), "no egomotion network for the second"
    with pytest.raises(InputError, match="2 targets and 1 rivals"):
        figures.novel_tasks(gain, quality, rates, losses, targets=["a", "b"], orders=[1, 2], rivals=["scratch"])


def test_rankings_elsewhere_stand_in_the_order_of_the_affinities():
    sources = {"edges": (0.1, 0.4), "depth": (0.5, 0.3), "x": (0.3, 0.2)}
    places = Ranking(name="Places", target="scene", metric="accuracy", sources=sources, spearman=-0.5)
    depth = Ranking(name="NYU", target="depth", metric="mae", sources={"normals": (0.5, 1.0)}, higher_is_better=False)
    figure = figures.rankings_elsewhere([places, depth], families=FAMILIES)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["depth", "x", "edges"]
    assert [bar.get_height() for bar in left.patches] == [0.3, 0.2, 0.4]
    wanted = [FAMILY_COLORS["3D"], GREY, FAMILY_COLORS["2D"]]
    assert [bar.get_facecolor() for bar in left.patches] == [matplotlib.colors.to_rgba(colour) for colour in wanted]
    assert left.get_title(loc="left") == "Transferring to Places\nSpearman's correlation -0.500"
    assert right.get_title(loc="left").endswith("undefined") and right.get_ylabel() == "mae, lower is better"
    assert [text.get_text() for text in figure.legends[0].texts] == ["2D", "3D", "other"]
    with pytest.raises(InputError, match="no ranking"):
        figures.rankings_elsewhere([])
