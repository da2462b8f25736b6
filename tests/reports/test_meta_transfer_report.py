"""The report of a Task Meta-Transfer study against numbers that are counted by hand: the paper's own tables."""

import csv
import math

import pytest
from scipy import stats

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports import figures, report
from lightning_taskonomy.reports.comparison import read_comparison
from lightning_taskonomy.studies.meta_transfer.evidence import COLUMNS, SELECTION

METHODS = ("primary_only", "transfer", "mtl", "kendall", "du", "lin", "tmt", "oracle")
TABLE_2 = {
    ("semantic_7", "inverse_depth"): (37.42, 38.00, 39.21, 39.25, 38.53, 39.08, 39.48, 45.90),
    ("semantic_19", "inverse_depth"): (18.30, 19.11, 21.52, 20.90, 20.87, 20.96, 21.28, 24.83),
    ("inverse_depth", "semantic_7"): (2.31, 2.02, 1.83, 2.25, 1.82, 1.85, 1.80, 1.74),
    ("inverse_depth", "semantic_19"): (2.31, 2.01, 1.83, 2.23, 1.82, 1.86, 1.78, 1.74),
}
"""The paper's CityScapes; the error of inverse depth in hundredths."""


def write(folder, table, spread=(0.0,), study="main", at=""):
    """A study's files from a table of means, one seed per shift from them."""
    folder.mkdir(parents=True, exist_ok=True)
    results, selection = [], {}
    for (primary, auxiliary), values in table.items():
        higher = int(primary.startswith("semantic"))
        for method, value in zip(METHODS, values, strict=True):
            shared = "" if method in ("primary_only", "oracle") else auxiliary
            selection[primary, shared, method] = ["SplitVGG-3", primary, shared, method, "", value / 100, 1]
            results += [
                [study, at, "SplitVGG-3", primary, shared, method, "", seed, "miou" if higher else "mae", higher, 0.0,
                 (value + shift) / 100, 1.0]
                for seed, shift in enumerate(spread)
            ]  # fmt: skip
    unique = list({tuple(row[:8]): row for row in results}.values())
    for name, header, rows in (("results", COLUMNS, unique), ("selection", SELECTION, selection.values())):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_papers_cityscapes_is_won_in_three_of_four_cases_and_second_in_one(tmp_path):
    write(tmp_path, TABLE_2)
    found = read_comparison(tmp_path)
    wins = found.wins()
    assert (wins.cases, wins.best, wins.second, wins.clear) == (4, 3, 1, None)
    ((own, ahead),) = wins.beaten
    assert own.primary == "semantic_19" and [cell.method for cell in ahead] == ["mtl"]
    assert found.rank("SplitVGG-3", "semantic_7", "inverse_depth", "oracle") is None
    assert [cell.method for cell in found.ranked("SplitVGG-3", "semantic_7", "inverse_depth")][:3] == [
        "tmt", "kendall", "mtl",
    ]  # fmt: skip


def test_reductions_are_of_the_error_and_of_one_minus_miou(tmp_path):
    write(tmp_path, TABLE_2)
    found = read_comparison(tmp_path)
    depth = found.cell("SplitVGG-3", "inverse_depth", "semantic_7", "tmt")
    classes = found.cell("SplitVGG-3", "semantic_7", "inverse_depth", "tmt")
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
    held = rows(tmp_path / "results.csv")
    for row in held:  # one case is still won on average, by a lead of +2.2, +0.2 and -0.8
        if (row["primary"], row["method"]) == ("semantic_7", "tmt"):
            row["test"] = float(row["test"]) + {"0": 0.02, "1": 0.0, "2": -0.01}[row["seed"]]
    with (tmp_path / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(held[0]), *(list(row.values()) for row in held)])
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
        "37.42", "38.00", "39.21", "39.25 △", "38.53", "39.08", "39.48 ▲", "45.90",
    ]  # fmt: skip
    assert (tmp_path / "report/reductions.png").stat().st_size > 10_000


def test_several_auxiliary_tasks_have_a_table_of_their_own(tmp_path):
    both = {("inverse_depth", "semantic_7+semantic_19"): TABLE_2["inverse_depth", "semantic_7"]}
    write(tmp_path, {**TABLE_2, **both}, (-0.01, 0.01))
    report(tmp_path)
    (column,) = [name for name in rows(tmp_path / "report/several_auxiliaries.csv")[0] if name != "method"]
    assert column == "inverse depth ← semantic 7 + semantic 19, SplitVGG-3 (10² × absolute error ↓)"
    assert len(rows(tmp_path / "report/one_auxiliary.csv")[0]) == 5


def test_curves_and_bars_stand_where_the_numbers_are():
    points = [(0.1, [1.0, 3.0]), (0.5, [1.0])]
    for bars in (False, True):
        figure = figures.variation_panels({"a case": {"TMT": points, "MTL": points[:1]}}, "share", bars=bars)
        (axis,) = (axis for axis in figure.axes if axis.get_visible())
        assert [label.get_text() for label in axis.get_xticklabels()] == ["0.1", "0.5"]
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
    ("change", "told"),
    [(lambda text: text.replace(",test,", ",tset,"), "column 'test'"),
     (lambda text: text.replace("0.3742", "a lot"), "a lot")],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, change, told):
    write(tmp_path, TABLE_2)
    file = tmp_path / "results.csv"
    file.write_text(change(file.read_text()))
    with pytest.raises(InputError, match=rf"results.csv.*{told}"):
        read_comparison(tmp_path)
    (tmp_path / "selection.csv").unlink()
    with pytest.raises(InputError, match=r"is missing|results.csv"):
        read_comparison(tmp_path)
