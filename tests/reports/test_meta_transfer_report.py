"""The report of a Task Meta-Transfer study against numbers that are counted by hand: the paper's own tables."""

import csv
import math

import numpy as np
import pytest
from scipy import stats

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports import report
from lightning_taskonomy.reports.meta_transfer import figures
from lightning_taskonomy.reports.meta_transfer.comparison import COLUMNS, SELECTION, read_comparison

METHODS = ("primary_only", "transfer", "mtl", "kendall", "du", "lin", "tmt", "oracle")
TABLE_2 = {
    ("semantic_7", "inverse_depth"): (37.42, 38.00, 39.21, 39.25, 38.53, 39.08, 39.48, 45.90),
    ("semantic_19", "inverse_depth"): (18.30, 19.11, 21.52, 20.90, 20.87, 20.96, 21.28, 24.83),
    ("inverse_depth", "semantic_7"): (2.31, 2.02, 1.83, 2.25, 1.82, 1.85, 1.80, 1.74),
    ("inverse_depth", "semantic_19"): (2.31, 2.01, 1.83, 2.23, 1.82, 1.86, 1.78, 1.74),
}
"""The paper's CityScapes; the error of inverse depth in hundredths."""


def write(folder, table, spread=(0.0,), methods=METHODS, networks=("SplitVGG-3",), varied=()):
    """A study's files from a table of means, one seed per shift from them."""
    folder.mkdir(parents=True, exist_ok=True)
    results, selection = [], {}
    for network in networks:
        for (primary, auxiliary), values in table.items():
            higher = int(primary.startswith("semantic"))
            for method, value in zip(methods, values, strict=True):
                shared = "" if method in ("primary_only", "oracle") else auxiliary
                selection[network, primary, shared, method] = [network, primary, shared, method, "", value / 100, 1]
                results += [
                    [study, at, network, primary, shared, method, "", seed, "miou" if higher else "mae", higher, 0.0,
                     (value + shift) / 100, 1.0]
                    for study, at in (("main", ""), *(varied if method in ("mtl", "tmt") else ()))
                    for seed, shift in enumerate(spread)
                ]  # fmt: skip
    unique = list({tuple(row[:8]): row for row in results}.values())
    Manifest(
        study="lightning_taskonomy.studies.meta_transfer.MetaTransferStudy", version=1, finished=True,
        report="lightning_taskonomy.reports.meta_transfer.MetaTransferReport",
        tables={"results": "results.csv", "selection": "selection.csv"},
    ).write(folder)  # fmt: skip
    for name, header, rows in (("results", COLUMNS, unique), ("selection", SELECTION, selection.values())):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_papers_cityscapes_is_won_in_three_of_four_cases_and_second_in_one(tmp_path):
    write(tmp_path, TABLE_2)
    comparison = read_comparison(tmp_path)
    wins = comparison.wins()
    assert (wins.cases, wins.best, wins.second, wins.clear) == (4, 3, 1, None)
    ((cell, ahead),) = wins.beaten
    assert cell.primary == "semantic_19" and [other.method for other in ahead] == ["mtl"]
    assert comparison.rank("SplitVGG-3", "semantic_7", "inverse_depth", "oracle") is None
    assert [other.method for other in comparison.ranked("SplitVGG-3", "semantic_7", "inverse_depth")][:3] == [
        "tmt", "kendall", "mtl",
    ]  # fmt: skip


def test_reductions_are_of_the_error_and_of_one_minus_miou(tmp_path):
    write(tmp_path, TABLE_2)
    comparison = read_comparison(tmp_path)
    depth = comparison.cell("SplitVGG-3", "inverse_depth", "semantic_7", "tmt")
    classes = comparison.cell("SplitVGG-3", "semantic_7", "inverse_depth", "tmt")
    assert depth.reductions == [pytest.approx((2.31 - 1.80) / 2.31)]
    assert classes.reductions == [pytest.approx((39.48 - 37.42) / (100 - 37.42))]


def test_intervals_are_students(tmp_path):
    shifts = (-0.3, 0.1, 0.2)
    write(tmp_path, TABLE_2, shifts)
    cell = read_comparison(tmp_path).cell("SplitVGG-3", "semantic_7", "inverse_depth", "tmt")
    low, high = stats.t.interval(0.95, 2, loc=cell.mean, scale=stats.sem([run.value for run in cell.runs]))
    assert cell.spread == pytest.approx((high - low) / 2) and cell.mean == pytest.approx(0.3948)


def test_a_lead_is_clear_where_the_seeds_agree_on_it(tmp_path):
    write(tmp_path, TABLE_2, (-0.3, 0.1, 0.2))  # the same shift of both: every seed has the same lead
    assert read_comparison(tmp_path).wins().clear == 3
    results = rows(tmp_path / "results.csv")
    for row in results:  # one case is still won on average, by a lead of +2.2, +0.2 and -0.8
        if (row["primary"], row["method"]) == ("semantic_7", "tmt"):
            row["test"] = float(row["test"]) + {"0": 0.02, "1": 0.0, "2": -0.01}[row["seed"]]
    with (tmp_path / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(results[0]), *(list(row.values()) for row in results)])
    wins = read_comparison(tmp_path).wins()
    assert (wins.best, wins.clear) == (3, 2)


def test_the_page_says_where_it_wins_and_where_not(tmp_path):
    write(tmp_path, TABLE_2)
    text = report(tmp_path).read_text()
    assert "TMT is the best in 3 of 4 cases and second best in 1" in text
    assert "Not the best: semantic 19 ← inverse depth, SplitVGG-3 (21.28); better: MTL (21.52)." in text
    assert "With one seed no interval is known" in text
    table = rows(tmp_path / "report/one_auxiliary.csv")
    assert [row["method"] for row in table][-2:] == ["TMT", "Oracle"]
    column = next(name for name in table[0] if name.startswith("semantic 7"))
    assert [row[column] for row in table] == [
        "37.42", "38.00", "39.21", "39.25△", "38.53", "39.08", "39.48▲", "45.90",
    ]  # fmt: skip
    assert (tmp_path / "report/reductions.png").stat().st_size > 10_000


def test_several_auxiliary_tasks_have_a_table_of_their_own(tmp_path):
    both = {("inverse_depth", "semantic_7+semantic_19"): TABLE_2["inverse_depth", "semantic_7"]}
    write(tmp_path, {**TABLE_2, **both}, (-0.01, 0.01))
    report(tmp_path)
    (column,) = [name for name in rows(tmp_path / "report/several_auxiliaries.csv")[0] if name != "method"]
    assert column == "inverse depth ← semantic 7 + semantic 19, SplitVGG-3 (10² × absolute error ↓)"
    assert len(rows(tmp_path / "report/one_auxiliary.csv")[0]) == 5


def measured_independently(folder):
    """What the rows of ``results.csv`` say, counted without the package: t tests of SciPy on arrays over the seeds."""
    results = [row for row in rows(folder / "results.csv") if row["study"] == "main"]
    cases = {(row["primary"], row["auxiliary"]) for row in results if row["auxiliary"]}
    counts = {"best": 0, "second": 0, "clear": 0}
    for primary, auxiliary in cases:
        errors = {}
        for method in METHODS[:-1]:
            pairs = sorted(
                (int(row["seed"]), float(row["test"]) * (-1 if row["higher_is_better"] == "1" else 1))
                for row in results if (row["primary"], row["method"]) == (primary, method)
                and row["auxiliary"] in ("", auxiliary)
            )  # fmt: skip
            errors[method] = np.array([error for _, error in pairs])
        means = {method: values.mean() for method, values in errors.items() if method != "tmt"}
        place = sum(mean < errors["tmt"].mean() for mean in means.values())
        counts["best"] += place == 0
        counts["second"] += place == 1
        if place == 0:
            test = stats.ttest_rel(errors[min(means, key=means.get)], errors["tmt"])
            counts["clear"] += test.confidence_interval(0.95).low > 0
    return counts


def test_wins_are_those_of_an_independent_count(tmp_path):
    random = np.random.default_rng(5)
    seen = set()
    for number in range(6):
        table = {case: tuple(random.normal(20, 0.2, len(METHODS))) for case in TABLE_2}
        folder = tmp_path / str(number)
        write(folder, table, (0.0, 0.0, 0.0))
        results = rows(folder / "results.csv")
        for row in results:
            row["test"] = float(row["test"]) + random.normal(0, 0.001)
        with (folder / "results.csv").open("w", newline="") as file:
            csv.writer(file).writerows([list(results[0]), *(list(row.values()) for row in results)])
        wins, expected = read_comparison(folder).wins(), measured_independently(folder)
        assert {name: getattr(wins, name) for name in expected} == expected
        assert wins.cases == 4 == wins.best + len(wins.beaten)
        seen.add((wins.best, wins.second, wins.clear))
    assert len(seen) > 2 and any(best and clear < best for best, _, clear in seen)


def test_equals_share_the_first_place_and_no_lead_is_clear(tmp_path):
    write(tmp_path, {("depth", "normals"): (5, 4, 3, 4, 4, 4, 3, 1)}, (-0.1, 0.0, 0.1))
    comparison = read_comparison(tmp_path)
    wins = comparison.wins()
    assert (wins.best, wins.second, wins.clear) == (1, 0, 0)
    assert [comparison.rank("SplitVGG-3", "depth", "normals", name) for name in METHODS[:-1]] == [7, 3, 1, 3, 3, 3, 1]


def test_what_is_not_measured_is_said(tmp_path):
    write(tmp_path, TABLE_2, (-0.1, 0.0, 0.1))
    results = rows(tmp_path / "results.csv")
    kept = [row for row in results
            if not (row["method"] == "mtl" and row["primary"] == "semantic_7" and row["seed"] == "1")
            and not (row["method"] == "du" and row["primary"] == "semantic_7")]  # fmt: skip
    with (tmp_path / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(results[0]), *(list(row.values()) for row in kept)])
    text = report(tmp_path).read_text()
    assert "1 of 32 cells have no finished run" in text
    shown = {row["method"]: list(row.values())[1] for row in rows(tmp_path / "report/one_auxiliary.csv")}
    assert shown["Du et al."] == "–" and shown["MTL"].endswith("(2 of 3 seeds)") and "seeds" not in shown["TMT"]


def test_a_study_without_a_win_speaks_of_no_lead(tmp_path):
    write(tmp_path, {("depth", "normals"): (5, 4, 3, 4, 4, 4, 6, 1)}, (-0.1, 0.1))
    text = report(tmp_path).read_text()
    assert "TMT is the best in 0 of 1 case and" in text and "its lead" not in text
    assert "On average it adds 20 % to the error of Primary Only." in text


def test_more_methods_than_the_papers_stand_below_each_other_a_table_per_network(tmp_path):
    methods = (*METHODS[:-1], "mine", "yours", "oracle")
    table = {case: (*values[:-1], 30.0, 31.0, values[-1]) for case, values in TABLE_2.items()}
    table["semantic_7", "semantic_19"] = table["semantic_7", "inverse_depth"]
    write(tmp_path, table, methods=methods, networks=("SplitVGG-3", "SplitRes-3"))
    report(tmp_path)
    for number, network in enumerate(("SplitVGG-3", "SplitRes-3"), 1):
        written = rows(tmp_path / f"report/one_auxiliary_{number}.csv")
        assert len(written) == len(methods) and len(written[0]) == 1 + len(table)
        assert all(network in name for name in written[0] if name != "method")


LONG = [f"a primary task of many letters ← auxiliary task {number} + one more" for number in range(9)]


def drawn(figure):
    """The boxes in pixels of what is drawn: all that is text."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    parts = [axis.title if side == "center" else getattr(axis, f"_{side}_title")
             for axis in figure.axes if axis.get_visible() for side in ("left", "center")]  # fmt: skip
    parts += [label for axis in figure.axes if axis.get_visible() for label in (axis.xaxis.label, axis.yaxis.label)]
    parts += [text for legend in figure.legends for text in legend.get_texts()]
    return [part.get_window_extent(renderer) for part in parts if part.get_text()]


@pytest.mark.parametrize("panels", [1, 2, 9])
@pytest.mark.parametrize("bars", [False, True])
def test_no_text_of_a_study_overlaps_or_leaves_the_figure(panels, bars):
    curves = {name: [(5, [1.0, 2.0]), (10, [2.0])] for name in LONG}
    few = dict.fromkeys(("Transfer Learning", "MTL", "TMT"), curves[LONG[0]])
    cases = {(title if panels > 1 else "", "10² × absolute error ↓"): curves if panels == 1 else few
            for title in LONG[:panels]}  # fmt: skip
    figure = figures.variation_panels(cases, "images with primary labels", bars=bars)
    boxes, page = drawn(figure), figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.width and box.y1 <= page.height for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_curves_and_bars_stand_where_the_numbers_are():
    points = [(0.1, [1.0, 3.0]), (20, [1.0])]
    for bars in (False, True):
        panels = {("a case", "mIoU %"): {"TMT": points, "MTL": points[:1]}}
        figure = figures.variation_panels(panels, "images", bars=bars, shares=True)
        (axis,) = (axis for axis in figure.axes if axis.get_visible())
        assert [label.get_text() for label in axis.get_xticklabels()] == ["10 %", "20"]
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("images", "mIoU %")
        if bars:
            assert [bar.get_height() for bar in axis.patches] == [2.0, 1.0, 2.0]
        else:
            assert list(axis.lines[0].get_ydata()) == [2.0, 1.0]
    with pytest.raises(InputError, match="nothing was varied"):
        figures.variation_panels({}, "share")


def test_a_mark_stands_at_the_mean_reduction():
    figure = figures.error_reductions({"a": {"MTL": [0.1, 0.3], "TMT": [0.4]}, "b": {"TMT": [math.nan]}}, "TMT")
    marks = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() not in ("None", None, "")
             and len(line.get_xdata()) == 1]  # fmt: skip
    assert marks[:2] == [pytest.approx(0.2), pytest.approx(0.4)]
    with pytest.raises(InputError, match="at least one"):
        figures.error_reductions({})


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda text: text.replace(",test,", ",tset,"), "column 'test'"),
     (lambda text: text.replace("0.3742", "a lot"), "a lot")],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, change, message):
    write(tmp_path, TABLE_2)
    file = tmp_path / "results.csv"
    file.write_text(change(file.read_text()))
    with pytest.raises(InputError, match=rf"results.csv.*{message}"):
        read_comparison(tmp_path)
    (tmp_path / "selection.csv").unlink()
    with pytest.raises(InputError, match=r"is missing|results.csv"):
        read_comparison(tmp_path)
