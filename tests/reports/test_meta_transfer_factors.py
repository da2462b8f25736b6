"""Factors and instruments of a Task Meta-Transfer report against numbers that NumPy and SciPy give."""

import csv

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.meta_transfer import figures
from lightning_taskonomy.reports.meta_transfer.comparison import INSTRUMENTS, read_comparison
from lightning_taskonomy.reports.meta_transfer.instrument_figures import Curve, Panel, instrument_panels
from lightning_taskonomy.reports.meta_transfer.instruments import read_instruments

NET = "a network"
DEPTH, CLASSES = ("depth_z", "normals"), ("semantic_segmentation", "normals")
TMT = {DEPTH: (0.480, 0.485, 0.470, 0.490, 0.478), CLASSES: (0.141, 0.139, 0.140, 0.136, 0.144)}
MTL = {DEPTH: (0.492, 0.493, 0.488, 0.496, 0.491), CLASSES: (0.140, 0.141, 0.137, 0.139, 0.140)}
LIN = {DEPTH: (0.470, 0.474, 0.462, 0.481, 0.467), CLASSES: (0.139, 0.137, 0.139, 0.135, 0.141)}
ONE = {DEPTH: (0.481, 0.486, 0.469, 0.489, 0.480), CLASSES: (0.141, 0.139, 0.140, 0.136, 0.144)}
MEASURED = {"mtl": MTL, "lin": LIN, "tmt": TMT, "tmt_identity": ONE}
BETTER = {DEPTH: tuple(value - 0.05 - 0.001 * seed for seed, value in enumerate(TMT[DEPTH]))}
FACTORS = {"steps": {"1600": {}, "800": {}}, "task": {"helps": {}, "it conflicts": {}}}


def of_depth(measured):
    return {method: {DEPTH: cases[DEPTH]} for method, cases in measured.items()}


def with_factors(meta_study, folder):
    """Steps of 800 are the base setting; the factor of the task has no label that is."""
    conflict = {"mtl": MTL, "lin": LIN, "tmt": BETTER, "tmt_identity": ONE}
    rows = [
        *meta_study.rows(MEASURED), *meta_study.rows(of_depth(MEASURED), "steps", "800"),
        *meta_study.rows({"mtl": {DEPTH: TMT[DEPTH]}, "tmt": {DEPTH: MTL[DEPTH]}}, "steps", "1600"),
        *meta_study.rows(of_depth(conflict), "task", "it conflicts"),
        *meta_study.rows(of_depth({**conflict, "tmt": LIN}), "task", "helps"),
    ]  # fmt: skip
    meta_study.write(folder, rows, settings={"factors": FACTORS})


def test_a_factor_has_a_row_per_label_and_the_base_setting_once(tmp_path, meta_study):
    with_factors(meta_study, tmp_path)
    meta_study.text(tmp_path)
    steps, task = (meta_study.read(tmp_path / f"report/factor_{number}.csv") for number in (1, 2))
    assert [row["steps"] for row in steps] == ["1600", "800 (base)"]
    assert [row["task"] for row in task] == ["base setting", "helps", "it conflicts"]
    lead = 100 * np.subtract(MTL[DEPTH], BETTER[DEPTH])
    half = stats.t.ppf(0.975, 4) * stats.sem(lead)
    assert task[2]["lead over MTL"] == f"{lead.mean():+.2f}▲ ±{half:.2f}" and task[2]["seeds"] == "5"
    mean, spread = 100 * np.mean(BETTER[DEPTH]), 100 * stats.t.ppf(0.975, 4) * stats.sem(BETTER[DEPTH])
    assert task[2]["TMT"] == f"{mean:.2f} ±{spread:.2f}"
    assert steps[0]["lead over MTL"].startswith("-") and steps[0]["lead over Lin et al."] == "–"


def test_the_overview_has_the_share_of_the_error_that_is_removed(tmp_path, meta_study):
    with_factors(meta_study, tmp_path)
    text = meta_study.text(tmp_path)
    assert (tmp_path / "report/factors.png").stat().st_size > 10_000
    rows = meta_study.read(tmp_path / "report/factors_pooled.csv")
    (row,) = [row for row in rows if (row["label"], row["against"]) == ("it conflicts", "TMT φ = 1")]
    removed = 100 * (1 - np.divide(BETTER[DEPTH], ONE[DEPTH]))
    assert float(row["error removed, %"]) == pytest.approx(removed.mean())
    assert float(row["half interval"]) == pytest.approx(stats.t.ppf(0.975, 4) * stats.sem(removed))
    assert (row["seeds"], row["better in"], row["cases"]) == ("5", "5", "1")
    assert f"on depth z ← normals, {NET}" in text


def test_several_cases_of_a_factor_stand_below_each_other(tmp_path, meta_study):
    meta_study.write(tmp_path, [*meta_study.rows(MEASURED), *meta_study.rows({"tmt": TMT, "mtl": LIN}, "k", "10")])
    meta_study.text(tmp_path)
    rows = meta_study.read(tmp_path / "report/factor_1.csv")
    assert [(row["case"].split(" ←")[0], row["k"]) for row in rows] == [
        ("depth z", "base setting"), ("depth z", "10"),
        ("semantic segmentation", "base setting"), ("semantic segmentation", "10"),
    ]  # fmt: skip
    (row,) = [row for row in meta_study.read(tmp_path / "report/factors_pooled.csv") if row["label"] == "10"]
    both = [np.divide(TMT[DEPTH], LIN[DEPTH]), (1 - np.array(TMT[CLASSES])) / (1 - np.array(LIN[CLASSES]))]
    assert float(row["error removed, %"]) == pytest.approx(100 * (1 - np.mean(both)))


def boxes(figure):
    """Those in pixels of all text."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    parts = [text for legend in figure.legends for text in legend.get_texts()]
    for axis in (axis for axis in figure.axes if axis.get_visible()):
        parts += [axis.xaxis.label, axis.yaxis.label, axis._left_title, *axis.texts]
        low, high = sorted(axis.get_ylim())
        ticks = zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
        parts += [label for place, label in ticks if low <= place <= high]
    return [part.get_window_extent(renderer) for part in parts if part.get_text()]


@pytest.mark.parametrize("labels", [1, 12])
def test_no_text_of_the_overview_overlaps_or_leaves_the_figure(labels):
    row = {"MTL": (1.0, 0.5), "Lin et al.": (-3.0, None), "TMT φ = 1": (2.0, 90.0)}
    groups = {f"factor {i}": {f"a label of many letters ({n})": row for n in range(labels)} for i in range(3)}
    figure = figures.lead_overview(groups)
    spots, page = boxes(figure), figure.bbox
    assert len(spots) == 3 * (labels + 1) + 3 + 1
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.width and box.y1 <= page.height for box in spots)
    assert not any(one.overlaps(other) for i, one in enumerate(spots) for other in spots[:i])


def test_dots_stand_at_the_leads_and_lines_span_the_intervals():
    groups = {
        "k": {"3": {"MTL": (2.0, 1.0), "Lin": (1.0, 1.5)}, "10": {"MTL": (-0.5, None)}, "1": {"MTL": (1.0, 50.0)}}
    }
    (axis,) = figures.lead_overview(groups).axes
    dots = [line for line in axis.lines if len(line.get_xdata()) == 1 and line.get_marker() in "os"]
    spans = [
        list(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.4
    ]
    assert [line.get_xdata()[0] for line in dots] == [2.0, 1.0, -0.5, 1.0]
    assert [to_hex(line.get_markerfacecolor()) != "#ffffff" for line in dots] == [True, False, False, False]
    assert spans[:2] == [[1.0, 3.0], [-0.5, 2.5]]
    assert sorted(line.get_marker() for line in axis.lines if line.get_marker() in ("<", ">")) == ["<", ">"]
    low, high = axis.get_xlim()
    assert low <= spans[2][0] < 0 and 3.0 < spans[2][1] <= high < 10
    with pytest.raises(InputError, match="no lead to draw"):
        figures.lead_overview({"k": {"3": {}}})


def write_instruments(folder, rows):
    with (folder / "instruments.csv").open("w", newline="") as file:
        csv.writer(file).writerows([INSTRUMENTS, *rows])


def logged(values, method="tmt", settings="k=3", case=DEPTH, study="main"):
    """Rows from instrument, seed and step to value."""
    return [[study, "", NET, *case, method, settings, *key, name, value] for (name, *key), value in values.items()]


def test_instruments_are_read_of_chosen_settings_only(tmp_path, meta_study):
    meta_study.write(tmp_path, meta_study.rows(MEASURED))
    comparison = read_comparison(tmp_path)
    assert read_instruments(tmp_path, comparison) == {}
    one = {("step_ratio", 0, 10): 0.5, ("normals/stretch", 1, 10): 1.1, ("alignment", 0, 10): 0.3}
    write_instruments(tmp_path, [*logged(one), *logged({("step_ratio", 0, 10): 9.0}, settings="k=10"),
                                 *logged({("step_ratio", 0, 10): 8.0}, study="k"),
                                 *logged({("step_ratio", 2, 10): "nan", ("step_ratio", 2, 20): 0.7})])  # fmt: skip
    assert read_instruments(tmp_path, comparison) == {
        (NET, *DEPTH): {
            "tmt": {("step_ratio", ""): {0: {10: 0.5}, 2: {20: 0.7}}, ("stretch", "normals"): {1: {10: 1.1}}}
        }
    }
    write_instruments(tmp_path, logged({("step_ratio", 0, 10): "much"}))
    with pytest.raises(InputError, match=r"instruments.csv.*much"):
        read_instruments(tmp_path, comparison)


def test_what_is_out_of_range_is_flagged_and_cosines_are_compared_by_seed(tmp_path, meta_study):
    meta_study.write(tmp_path, meta_study.rows(MEASURED))
    generator = np.random.default_rng(0)
    plain, gain = generator.uniform(0, 0.3, (5, 4)), generator.uniform(0.0, 0.2, (5, 4))
    values = {}
    for seed in range(5):
        for number, step in enumerate((0, 10, 20, 30)):
            values["step_ratio", seed, step] = 0.004 + 0.001 * number
            values["normals/dominance", seed, step] = 4.0 * number
            values["normals/plain_cosine", seed, step] = plain[seed, number]
            values["normals/projected_cosine", seed, step] = plain[seed, number] + gain[seed, number]
    ratio = {("step_ratio", 0, 0): 0.001}
    fine = {("step_ratio", 0, 0): 0.02, ("normals/dominance", 0, 0): 10.0}
    write_instruments(
        tmp_path, [*logged(values), *logged(ratio, "tmt_identity"), *logged(fine, "lin"), *logged(fine, case=CLASSES)]
    )
    text = meta_study.text(tmp_path)
    name = f"TMT on depth z ← normals, {NET}"
    assert f"⚠ Step ratio below 0.01: {name} (down to 0.004). The" in text
    assert f"⚠ Dominance above 10: {name} (up to 12). One" in text
    assert "agrees better with the held-out primary gradient than the plain one in 1 of 1 case, worse in 0" in text
    row = meta_study.read(tmp_path / "report/instruments.csv")[0]
    seeds = gain.mean(axis=1)
    half = stats.t.ppf(0.975, 4) * stats.sem(seeds)
    assert row["projected less plain"] == f"{seeds.mean():+.3f}▲ ±{half:.3f} (5 seeds)"
    assert (row["step ratio"], row["dominance"]) == ("0.004 to 0.007", "0 to 12")
    assert (tmp_path / "report/instruments_1.png").is_file() and (tmp_path / "report/instruments_2.png").is_file()


def test_a_folder_without_instruments_makes_a_report(tmp_path, meta_study):
    meta_study.write(tmp_path, meta_study.rows(MEASURED))
    assert "Is it working?" not in meta_study.text(tmp_path)


def test_curves_stand_where_the_numbers_are_and_axes_are_logarithmic_over_a_decade():
    curve = Curve(label="TMT", steps=(0, 10), mean=(0.02, 0.5), low=(0.01, 0.4), high=(0.03, 0.6))
    flat = Curve(label="TMT full φ", steps=(0, 10), mean=(1.0, 1.1), low=(1.0, 1.0), high=(1.0, 1.2))
    plain = Curve(label="TMT", steps=(0,), mean=(0.1,), low=(0.0,), high=(0.2,), is_plain=True)
    figure = instrument_panels([
        Panel(title="one", curves=(curve,), log=True, line=0.01), Panel(title="two", curves=(flat, plain), log=True),
        Panel(title="three", curves=(flat,), log=True, line=1.0),
    ])  # fmt: skip
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_yscale() for axis in shown] == ["log", "linear", "linear"]
    assert list(shown[0].lines[0].get_ydata()) == [0.02, 0.5]
    assert shown[1].lines[1].get_linestyle() == ":"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["TMT", "TMT full φ"]
    with pytest.raises(InputError, match="no instrument"):
        instrument_panels([])
    spots, page = boxes(figure), figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.width and box.y1 <= page.height for box in spots)
    assert not any(one.overlaps(other) for i, one in enumerate(spots) for other in spots[:i])


def test_a_label_may_have_cases_that_the_main_study_has_not(tmp_path, meta_study):
    other = {"mtl": {("depth_z", "edges"): MTL[DEPTH]}, "tmt": {("depth_z", "edges"): TMT[DEPTH]}}
    meta_study.write(
        tmp_path, [*meta_study.rows(of_depth(MEASURED)), *meta_study.rows(other, "auxiliary", "an indifferent one")]
    )
    meta_study.text(tmp_path)
    (row,) = meta_study.read(tmp_path / "report/factor_1.csv")
    assert row["auxiliary"] == "an indifferent one" and row["lead over MTL"].startswith("+")
