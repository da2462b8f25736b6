import matplotlib
import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch

from lightning_taskonomy.affinity.groupings import Network
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.grouping import figures
from lightning_taskonomy.solvers.taxonomy import Band


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_grouping_curves_have_a_line_per_way_a_band_and_what_needs_no_search():
    figure = figures.grouping_curves(
        {"optimal": [(2, 0.4), (1, 0.5)], "pessimal": [(1, 0.5), (2, 0.48)]},
        random=[(1, Band(0.45, 0.47, 0.5)), (2, Band(0.41, 0.44, 0.46))],
        points={"all tasks in one network": (1, 0.5)},
        measure="total test loss",
    )
    axis = figure.axes[0]
    assert axis.get_ylabel() == "total test loss"
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert lines["optimal"] == [[1, 0.5], [2, 0.4]] and lines["pessimal"] == [[1, 0.5], [2, 0.48]]
    assert lines["their mean"] == [[1, 0.47], [2, 0.44]] and lines["all tasks in one network"] == [[1, 0.5]]
    filled = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (filled.min(), filled.max()) == (0.41, 0.5)
    shown = [line for line in axis.lines if line.get_label() in ("optimal", "pessimal")]
    assert shown[0].get_marker() != shown[1].get_marker() and shown[0].get_linestyle() != shown[1].get_linestyle()
    assert {"optimal", "pessimal", "all tasks in one network", "random groupings (5–95 %)"} <= set(texts(figure))
    with pytest.raises(InputError, match="no grouping"):
        figures.grouping_curves({"optimal": []})


def test_kept_networks_are_boxes_whose_unused_outputs_are_hollow():
    pair, alone = Network(("depth", "edges"), 1.0, (0.2, 0.1)), Network(("depth",), 0.5, (0.15,))
    figure = figures.kept_networks(
        [
            figures.KeptNetworks(budget=1, networks=(pair,), serves=(("depth", "edges"),), loss=0.3),
            figures.KeptNetworks(budget=1.5, networks=(pair, alone), serves=(("edges",), ("depth",)), loss=0.25),
        ],
        ("depth", "edges"),
    )
    axis = figure.axes[0]
    boxes = [patch.get_gid() for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
    assert boxes == ["network:1:depth+edges", "network:1.5:depth+edges", "network:1.5:depth"]
    hollow = {line.get_gid(): line.get_markerfacecolor() == "none" for line in axis.lines if line.get_gid()}
    assert hollow == {
        "output:1:0:depth": False,
        "output:1:0:edges": False,
        "output:1.5:0:depth": True,
        "output:1.5:0:edges": False,
        "output:1.5:1:depth": False,
    }
    colors = {line.get_gid(): line.get_color() for line in axis.lines if line.get_gid()}
    assert colors["output:1:0:depth"] == colors["output:1.5:1:depth"] != colors["output:1:0:edges"]
    assert {"budget 1", "budget 1.5", "loss 0.25", "cost 0.5", "read from this network"} <= set(texts(figure))
    with pytest.raises(InputError, match="no grouping"):
        figures.kept_networks([], ("depth",))


def test_labels_of_chosen_networks_stay_within_their_boxes():
    names = tuple(f"a_rather_long_name_{i}" for i in range(6))
    network = Network(names, 1.0, (0.1,) * 6)
    figure = figures.kept_networks(
        [figures.KeptNetworks(budget=2, networks=(network, network), serves=(names, ()), loss=0.6)], names
    )
    figure.canvas.draw()
    boxes = [patch.get_window_extent() for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    labels = [t.get_window_extent() for t in figure.axes[0].texts if t.get_text().startswith("a rather")]
    assert len(labels) == 12 and len(boxes) == 2
    assert all(any(b.x0 <= x.x0 and x.x1 <= b.x1 and b.y0 <= x.y0 and x.y1 <= b.y1 for b in boxes) for x in labels)
    assert not any(a.overlaps(b) for i, a in enumerate(labels) for b in labels[:i])


def test_relationship_matrices_are_blue_where_a_partner_helps():
    change = np.array([[np.nan, 4.0, -4.0], [2.0, np.nan, -0.04], [1.0, -30.0, np.nan]])
    figure = figures.relationship_matrices(
        {"Change": change, "Affinity": (change + change.T) / 2}, ("depth", "edges_2d", "normals")
    )
    left, right = figure.axes[:2]
    assert [t.get_text() for t in left.texts] == ["+4.0", "−4.0", "+2.0", "−0.0", "+1.0", "−30.0"]
    assert [t.get_text() for t in left.get_yticklabels()] == ["depth", "edges 2d", "normals"]
    helps, hurts = left.images[0].to_rgba(change)[0, 1:]
    assert helps[2] > helps[0] and hurts[0] > hurts[2]
    assert left.images[0].get_array().mask.diagonal().all() and right.get_title(loc="left") == "Affinity"
    with pytest.raises(InputError, match="shape"):
        figures.relationship_matrices({"Change": np.eye(2)}, ("a",))
    with pytest.raises(InputError, match="no matrix"):
        figures.relationship_matrices({}, ("a",))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_titles_of_matrices_stay_within_the_picture_and_small_numbers_keep_their_digits(count):
    small = np.array([[np.nan, 0.00123], [-0.0004, np.nan]])
    values = np.full((count, count), np.nan)
    values[:2, :2] = small
    names = ["Trained together", "Look-ahead", "Look-ahead, first order", "Gradient cosine"]
    figure = figures.relationship_matrices(
        dict.fromkeys(names[:1], 1e3 * values) | dict.fromkeys(names[1:], values), tuple("abcde"[:count])
    )
    figure.canvas.draw()
    whole = figure.bbox
    axes = figure.axes[:4]
    titles = [axis._left_title.get_window_extent() for axis in axes]
    assert all(whole.x0 <= t.x0 and t.x1 <= whole.x1 and t.y1 <= whole.y1 for t in titles)
    assert not any(a.overlaps(b) for i, a in enumerate(titles) for b in titles[:i])
    assert " ".join(axes[2].get_title(loc="left").split()) == "Look-ahead, first order (× 10⁻³)"
    assert [t.get_text() for t in axes[2].texts] == ["+1.2", "−0.4"]
    assert axes[0].get_title(loc="left").replace("\n", " ") == "Trained together"


def test_approximation_scatter_compares_on_one_scale_only():
    figure = figures.approximation_scatter(
        {"higher order": ([0.1, 0.2], [0.11, 0.19], "error 5 %"), "early": ([0.5, 0.9], [0.1, 0.2], "r = 1")}
    )
    same, other = figure.axes
    np.testing.assert_array_equal(same.lines[0].get_xydata(), [[0.1, 0.11], [0.2, 0.19]])
    assert len(same.lines) == 2 and len(other.lines) == 1
    assert {"error 5 %", "r = 1", "higher order"} <= set(texts(figure))
    with pytest.raises(InputError, match="no approximation"):
        figures.approximation_scatter({})
