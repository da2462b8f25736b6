"""The report of a study of transfer chains: its numbers against those of the affinity package and counted by hand."""

import csv
import html
import re
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Polygon, Rectangle
from scipy import stats

from lightning_taskonomy.affinity.chains import (
    Chain,
    ChainsTable,
    Distances,
    Factors,
    relative_transfer_gains,
    write_factors,
)
from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_csv, write_json
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports import report
from lightning_taskonomy.reports.influence import InfluenceReport, figures
from lightning_taskonomy.reports.influence.words import first_link, images, short

SOURCES = ("source", "setting", "rate", "metric", "validation", "seconds")
SETTINGS = {"sets": {}, "small": 150, "source_limit": 1500, "backbone": {"class_path": "x.TimmBackbone"}}


def write(folder, chains, factors, distances=None, settings=SETTINGS, finished=True):
    """A study's files.

    Args:
        folder: Where they go.
        chains: Rows (target, source, setting, values per seed); the source ``""`` is scratch. Targets of depth have
            errors, others mIoU.
        factors: By name.
        distances: By (target, source), one number for all assignments.
        settings: Of the study.
        finished: Whether it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"imagenet": "pretrained", "": "scratch"}
    table = [
        Chain(target, source, kinds.get(source, "chain"), setting, seed, "mae" if "depth" in target else "miou",
              "depth" not in target, float(value))
        for target, source, setting, values in chains for seed, value in enumerate(values)
    ]  # fmt: skip
    Manifest(
        study="lightning_taskonomy.studies.influence.study.InfluenceStudy", version=1, finished=finished,
        report="lightning_taskonomy.reports.influence.InfluenceReport", settings=settings,
        tables={name: f"{name}.csv" for name in ("gains", "distances", "chains", "factors", "sources")},
    ).write(folder)  # fmt: skip
    ChainsTable(tuple(table)).write(folder / "chains.csv")
    write_factors(folder / "factors.csv", factors)
    if distances is not None:
        names = ("one_to_one", "target_to_source", "source_to_target", "symmetric")
        Distances({pair: dict.fromkeys(names, value) for pair, value in distances.items()}).write(
            folder / "distances.csv"
        )
    return folder


def many(folder, domains=4, types=3, per_domain=1, seeds=3, settings=("small", "full", "small_source"), several=True):
    """A made-up study: near images and equal types help, and larger sources do more."""
    generator = np.random.default_rng(0)
    domain_names = ("consumer", "driving", "indoor", "aerial", "underwater", "close-up", "synthetic")[:domains]
    type_names = ("segmentation", "depth", "detection", "keypoints")[:types]
    places = {f"{domain}{copy or ''}": generator.normal((3 * np.cos(i), 3 * np.sin(i)), 0.3)
              for i, domain in enumerate(domain_names) for copy in range(per_domain)}  # fmt: skip
    factors = {
        f"{pool}/{kind}": Factors(kind, (pool.rstrip("0123456789"),), (pool,), int(generator.integers(100, 100_000)))
        for kind in type_names for pool in places
    }  # fmt: skip
    if several:
        parts = [f"{pool}/segmentation" for pool in list(places)[:3]]
        words = (tuple(dict.fromkeys(word for part in parts for word in getattr(factors[part], field)))
                 for field in ("domains", "images"))  # fmt: skip
        factors["multi"] = Factors("segmentation", *words, sum(factors[part].size for part in parts))
    chains = []
    for setting in settings:
        for target, goal in factors.items():
            if goal.multi_source:
                continue
            sources = [name for name, one in factors.items()
                       if name != target and not (one.multi_source and target in parts)]  # fmt: skip
            starts = sources if setting == "small_source" and "small" in settings else ["imagenet", "", *sources]
            for source in starts:
                gain = {"": -30.0, "imagenet": 0.0}.get(source)
                if gain is None:
                    one = factors[source]
                    apart = min(np.linalg.norm(places[goal.images[0]] - places[pool]) for pool in one.images)
                    gain = 12 - 5 * apart - 8 * (one.task_type != goal.task_type) + 3 * np.log10(one.size / goal.size)
                    gain *= 0.4 if setting == "full" else 1
                sign = -1 if goal.task_type == "depth" else 1
                base = 0.5 * (1 + sign * gain / 100)
                chains.append((target, source, setting, base * (1 + generator.normal(0, 0.01, seeds))))
    pools = [*places, *(["+".join(factors["multi"].images)] if several else [])]
    apart = {
        (a, b): float(np.mean([np.linalg.norm(places[x] - places[y]) for x in a.split("+") for y in b.split("+")]))
        for a in pools for b in pools if a != b
    }  # fmt: skip
    sets = {pool: {"images": None, "small": None} for pool in places}
    write(folder, chains, factors, apart, {**SETTINGS, "sets": sets, "features": 60})
    arrays = {pool: generator.normal(0, 0.4, (60, 8)) + np.r_[place, np.zeros(6)] for pool, place in places.items()}
    features(folder, {f"features/{pool}/features.npz": array for pool, array in arrays.items()})
    runs = [[name, "full", 0.001, "miou", 0.4, 12.5] for name in factors]
    write_csv(folder / "sources.csv", SOURCES, runs)
    return folder


def rows(folder, name):
    with (folder / "report" / f"{name}.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))


def text(folder):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", report(folder).read_text())))


FOUR = {
    "a/segmentation": Factors("segmentation", ("indoor",), ("a",), 100),
    "b/segmentation": Factors("segmentation", ("indoor",), ("b",), 200),
    "c/segmentation": Factors("segmentation", ("driving",), ("c",), 50),
    "a/depth": Factors("depth", ("indoor",), ("a",), 100),
}
BY_HAND = {  # the first link alone, and per source what it reaches
    "a/segmentation": (0.40, {"": 0.30, "b/segmentation": 0.50, "c/segmentation": 0.39, "a/depth": 0.42}),
    "a/depth": (0.20, {"a/segmentation": 0.17, "b/segmentation": 0.199, "c/segmentation": 0.30}),
    "b/segmentation": (0.50, {"a/segmentation": 0.505}),
    "c/segmentation": (0.50, {"a/segmentation": 0.45}),
}
DISTANCES = {
    pair: distance
    for a, b, distance in (("a", "b", 1.0), ("a", "c", 3.0), ("b", "c", 2.0))
    for pair in ((a, b), (b, a))
}


def by_hand(setting="small", shifts=(1.0,), of=BY_HAND):
    """Rows of chains, the values of all seeds multiplied by each of the shifts."""
    return [
        (target, source, setting, [value * shift for shift in shifts])
        for target, (reference, reached) in of.items() for source, value in {"imagenet": reference, **reached}.items()
    ]  # fmt: skip


@pytest.fixture(scope="module")
def hand(tmp_path_factory):
    """The study that is counted by hand, and the text of its page."""
    folder = write(tmp_path_factory.mktemp("hand"), by_hand(), FOUR, DISTANCES)
    return folder, text(folder)


def test_the_answer_counts_targets_by_their_best_source(hand):
    folder, page = hand
    assert "for 2 of 4 targets (50 %; paper: 85 %), by more than 10 % for 2 (50 %; paper: 67 %)." in page
    assert "b/segmentation for a/segmentation (+25.0 %) and a/segmentation for a/depth (+15.0 %)." in page
    assert "With one seed no interval is known" in page and "nothing stands in for ILSVRC'12" in page
    assert "2 of 8 chains and 1 of 4 best sources (small targets)" in page
    best = rows(folder, "best-small")
    assert [[row[name] for name in ("target", "gain, %", "level", "take", "saw its images")] for row in best] == [
        ["a/segmentation", "+25.0", "VP", "this source", ""], ["b/segmentation", "+1.0", "I", "first link alone", ""],
        ["c/segmentation", "-10.0", "N", "first link alone", ""], ["a/depth", "+15.0", "VP", "this source", "◥"],
    ]  # fmt: skip


def test_shares_of_tables_7_and_8_stand_beside_the_papers(hand):
    folder, page = hand
    columns = ("P", "VP", "N", "chains", "P, paper", "N, paper")
    assert [[row[name] for name in columns] for row in rows(folder, "shares")] == [
        ["38", "25", "38", "8", "21", "56"], ["50", "50", "0", "2", "69", "17"], ["67", "33", "0", "3", "43", "37"],
        ["0", "0", "100", "2", "14", "55"], ["0", "0", "100", "1", "5", "79"],
    ]  # fmt: skip
    best = rows(folder, "best-shares")[0]
    assert [best[name] for name in ("P", "VP", "N", "targets")] == ["50", "50", "25", "4"]
    assert "of 3 chains within the domain, across task types, 67 % help and 0 % harm" in page
    assert "A source of the target's domain is worth more than one of its task type. With so few chains" in page


def test_task_types_sizes_and_scratch_are_counted(hand):
    folder, page = hand
    pairs = {(row["from"], row["to"], row["images"]): row for row in rows(folder, "task-types-small")}
    assert {pair: [row[name] for name in ("P", "N", "chains", "P, paper")] for pair, row in pairs.items()} == {
        ("segmentation", "depth", "same images"): ["100", "0", "1", "33"],
        ("segmentation", "depth", "same domain"): ["0", "0", "1", "33"],
        ("segmentation", "depth", "other domain"): ["0", "100", "1", ""],
        ("depth", "segmentation", "same images"): ["100", "0", "1", "100"],
    }
    sizes = {row["the source is"]: (row["P"], row["P, paper"], row["chains"]) for row in rows(folder, "sizes")}
    assert sizes == {"the larger one": ("100", "60", "1"), "the smaller one": ("0", "5", "1")}
    assert "worse than the first link alone for 1 of 1 target, with gains of -25.0 to -25.0 %" in page


def test_taus_are_those_of_scipy(hand):
    folder, _ = hand
    gains = {("a", "b"): 25, ("a", "c"): -2.5, ("a", "a"): 5, ("d", "a"): 15, ("d", "b"): 0.5, ("d", "c"): -50,
             ("b", "a"): 1, ("c", "a"): -10}  # fmt: skip
    apart = [DISTANCES.get((target.replace("d", "a"), source), 0.0) for target, source in gains]
    sizes = [{"a": 100, "b": 200, "c": 50}[source] for _, source in gains]
    table = {(row["which"], row["gains against"]): row for row in rows(folder, "correlations")}
    line = table["all chains", "distance, target to source"]
    tau = stats.kendalltau(list(gains.values()), np.negative(apart)).statistic
    assert line["tau"].startswith(f"{tau:.2f} (") and line["chains"] == "8"
    assert line["tau, paper"] == "0.4" and table["all chains", "distance, symmetric"]["tau, paper"] == ""
    tau = stats.kendalltau(list(gains.values()), sizes).statistic
    assert table["all chains", "size of the source"]["tau"].startswith(f"{tau:.2f} (")
    within = [place for place, chain in enumerate(gains) if chain in (("a", "b"), ("a", "c"), ("b", "a"), ("c", "a"))]
    tau = stats.kendalltau(np.array(list(gains.values()))[within], np.negative(apart)[within]).statistic
    for scope in ("within task types", "within segmentation"):  # no chain is within depth
        line = table[scope, "distance, target to source"]
        assert line["tau"].startswith(f"{tau:.2f} (") and (line["chains"], line["tau, paper"]) == ("4", "")


def test_gains_and_intervals_of_several_seeds_are_those_of_the_affinity_package(tmp_path):
    chains = by_hand(of={"a/segmentation": (0.40, {"b/segmentation": 0.50})}, shifts=(1, 1.1, 0.9))
    chains += [("a/segmentation", "c/segmentation", "small", (0.6, 0.3, 0.4))]
    folder = write(tmp_path, chains, FOUR)
    page = text(folder)
    measured = {row["start"]: row for row in rows(folder, "measurements-small")}
    for gain in relative_transfer_gains(ChainsTable.read(folder), "small"):
        assert float(measured[gain.source]["gain, %"]) == gain.value
        assert float(measured[gain.source]["half interval, %"]) == gain.half_width
    values = [0.6, 0.3, 0.4]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert float(measured["c/segmentation"]["half interval"]) == pytest.approx((high - low) / 2)
    assert float(measured["first link alone"]["mean"]) == pytest.approx(0.4)
    assert [row["take"] for row in rows(folder, "best-small")] == ["this source"]  # seeds agree: 25 % each
    assert "+25.0▲ ±0.0" in page and "lies above 0 for 1 of these 1" in page
    folder = write(tmp_path / "noisy", [*chains[:1], chains[-1]], FOUR)
    assert "lies above 0 for 0 of these 1" in text(folder)
    assert [row["take"] for row in rows(folder, "best-small")] == ["unclear"]


def test_the_quick_test_compares_signs(tmp_path):
    full = {"a/segmentation": (0.4, {"b/segmentation": 0.44, "c/segmentation": 0.401, "a/depth": 0.40}),
            "a/depth": (0.20, {"a/segmentation": 0.199, "c/segmentation": 0.17})}  # fmt: skip
    folder = write(tmp_path, [*by_hand(), *by_hand("full", of=full)], FOUR)
    page = text(folder)
    shares = [(row["percent"], row["percent, paper"]) for row in rows(folder, "quick-test")]
    # small 25, -2.5, 5, 15, -50; full 10, 0.25, 0, 0.5, 15
    assert shares == [("50", "80"), ("33", "43"), ("50", "100"), ("40", "")]
    assert "5 chains measured with small and with full targets" in page
    tau = stats.kendalltau([25, -2.5, 5, 15, -50], [10, 0.25, 0, 0.5, 15]).statistic
    assert f"Kendall's tau of the two gains is {tau:.2f} over all chains" in page
    assert (folder / "report/small-and-full.png").stat().st_size > 10_000


def test_a_multi_source_model_meets_the_largest_source_where_it_was_not_trained(tmp_path):
    several = {**FOUR, "two": Factors("segmentation", ("indoor", "driving"), ("b", "c"), 250)}
    folder = write(tmp_path, [*by_hand(), ("a/segmentation", "two", "small", [0.48])], several)
    assert "better by more than 2 points for small targets 1 of 1 (paper: 7 of 10)" in text(folder)
    (row,) = rows(folder, "multi-source")
    assert (row["largest source"], row["multi-source model"], row["better by > 2"]) == (
        "b/segmentation",
        "two",
        "largest",
    )
    assert (row["gain of the largest, %"], row["gain of the model, %"]) == ("+25.0", "+20.0")
    results = InfluenceReport(folder).results
    assert results.was_trained_on("two", "b/segmentation") and not results.was_trained_on("two", "a/segmentation")
    assert not results.was_trained_on("two", "a/depth")
    assert results.ordered(several) == ["a/segmentation", "b/segmentation", "c/segmentation", "two", "a/depth"]


def test_matrices_leave_blank_what_is_not_measured_by_design_and_hatch_the_rest():
    lines = [figures.Line(name, ("depth", "indoor")) for name in ("a", "b")]
    gains = [[np.nan, np.nan], [12.34, np.nan]]
    figure = figures.gain_matrix(gains, targets=lines, sources=lines, blank={(0, 0), (1, 1)}, marked={(1, 0)})
    axis = figure.axes[0]
    hatched = [patch.get_xy() for patch in axis.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    frames = [patch for patch in axis.patches if isinstance(patch, Rectangle) and not patch.get_hatch()]
    assert hatched == [(0.5, -0.5)]
    assert [round(frame.get_x() + frame.get_width() / 2) for frame in frames] == [0]
    assert [patch for patch in axis.patches if isinstance(patch, Polygon) and not isinstance(patch, Rectangle)]
    assert "+12.3" in [label.get_text() for label in axis.texts]
    with pytest.raises(InputError, match="2 targets and 1 sources"):
        figures.gain_matrix(gains, targets=lines, sources=lines[:1])
    with pytest.raises(InputError, match="no point"):
        figures.gain_scatters({}, kinds=[], x="", y="")


def test_a_matrix_of_27_targets_and_30_sources_keeps_its_labels_apart():
    blocks = [(kind, domain) for kind in ("segmentation", "depth", "detection") for domain in "abcdefghij"]
    lines = [figures.Line(f"{domain * 8}/{kind}", (kind, domain * 8)) for kind, domain in blocks]
    gains = np.random.default_rng(0).normal(0, 15, (27, 30))
    figure = figures.gain_matrix(gains, targets=lines[:27], sources=lines, title="Small targets")
    FigureCanvasAgg(figure).draw()
    axis = figure.axes[0]
    for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y0 >= figure.bbox.y0 for box in boxes)
    numbers = [label.get_window_extent() for label in axis.texts[-27 * 30 :]]
    assert not any(one.overlaps(other) for one, other in pairwise(numbers))


@pytest.mark.parametrize(
    ("of", "lacking"),
    [
        (["a/segmentation", "b/segmentation"], "no chain lies within the domain, across task types"),
        (["a/segmentation", "a/depth"], "no chain lies across domains, within the task type"),
        (["a/segmentation", "c/segmentation"], "no chain lies within the domain, across task types"),
    ],
)
def test_one_task_type_or_one_domain_is_enough(tmp_path, of, lacking):
    chains = [row for row in by_hand() if row[0] in of and row[1] in (*of, "imagenet")]
    folder = write(tmp_path, chains, {name: FOUR[name] for name in of})
    page = text(folder)
    assert lacking in page
    assert "From scratch (A1): not measured here" in page and "no distance of images is measured" in page
    assert ("there is nothing across task types" in page) == ("a/depth" not in of)
    counts = [row["chains"] for row in rows(folder, "shares")]
    assert counts[0] == "2" and counts.count("0") == 3
    assert all(row["P"] == "" for row in rows(folder, "shares") if row["chains"] == "0")


def test_an_unfinished_study_shows_what_it_has_and_says_what_waits(tmp_path):
    chains = [row for row in by_hand() if row[:2] != ("a/depth", "imagenet")]
    folder = write(tmp_path, chains, FOUR, finished=False)
    page = text(folder)
    assert "This InfluenceStudy is not finished" in page
    assert "Left out are 3 chains without a test of the first link alone with the same seed, of a/depth" in page
    assert rows(folder, "shares")[0]["chains"] == "5"
    assert "no source is trained" in page and "has not written features of images" in page
    folder = write(tmp_path / "first", [row for row in chains if row[1] == "imagenet"], FOUR, finished=False)
    assert "No chain can be compared with the first link alone yet" in text(folder)


def test_targets_where_the_first_link_reaches_nothing_are_named(tmp_path):
    folder = write(tmp_path, [*by_hand(), ("c/segmentation", "b/segmentation", "full", [0.1]),
                              ("c/segmentation", "imagenet", "full", [0.0])], FOUR)  # fmt: skip
    assert "No gain is known of c/segmentation: the first link alone reaches 0 there" in text(folder)


def test_small_sources_alone_have_their_references_and_no_column_of_the_paper(tmp_path):
    folder = write(tmp_path, by_hand("small_source"), FOUR, DISTANCES)
    page = text(folder)
    assert "Small sources and targets: a source beats" in page and "at most 1500 of a source" in page
    assert all(row["P, paper"] == "" for row in rows(folder, "shares"))
    table = rows(folder, "correlations")
    papers = [row["tau, paper"] for row in table if row["which"] == "within segmentation"]
    assert papers == ["0.42", "0.06", "0.27", "0.2", ""]
    assert not any(row["tau, paper"] for row in table if row["which"] != "within segmentation")


def test_taus_within_segmentation_stand_beside_table_10(tmp_path):
    """Of small sources; depth alone would give another tau, and with one task type all chains are within it."""
    factors = {f"{name}/{kind}": Factors(kind, ("indoor",), (name,), 10) for kind in ("segmentation", "depth")
               for name in "abc"}  # fmt: skip
    gains = {("a", "b"): 0.44, ("a", "c"): 0.38, ("b", "a"): 0.41, ("b", "c"): 0.5, ("c", "a"): 0.36, ("c", "b"): 0.45}
    apart = {pair: 1.0 + place for place, pair in enumerate(gains)}
    chains = [
        (f"{name}/{kind}", "imagenet", "small_source", [0.4]) for kind in ("segmentation", "depth") for name in "abc"
    ]
    for kind in ("segmentation", "depth"):
        chains += [(f"{t}/{kind}", f"{s}/{kind}", "small_source", [value]) for (t, s), value in gains.items()]
    folder = write(tmp_path / "two", chains, factors, apart)
    report(folder)
    lines = {row["which"]: row for row in rows(folder, "correlations")[::-1]}  # of each the first, by Eq. 1
    tau = stats.kendalltau(list(gains.values()), np.negative(list(apart.values()))).statistic
    assert lines["within segmentation"]["tau"].startswith(f"{tau:.2f} (")
    assert lines["within task types"]["tau"].startswith("0.00 (")
    assert (lines["within segmentation"]["chains"], lines["within task types"]["chains"]) == ("6", "12")
    alone = {name: one for name, one in factors.items() if one.task_type == "segmentation"}
    folder = write(tmp_path / "one", [row for row in chains if row[0] in alone], alone, apart)
    report(folder)
    line = rows(folder, "correlations")[0]
    assert line["tau"].startswith(f"{tau:.2f} (") and (line["which"], line["tau, paper"]) == ("all chains", "0.42")
    assert {row["which"] for row in rows(folder, "correlations")} == {"all chains"}
    depths = {name: one for name, one in factors.items() if one.task_type == "depth"}
    folder = write(tmp_path / "depth", [row for row in chains if row[0] in depths], depths, apart)
    report(folder)
    assert not any(row["tau, paper"] for row in rows(folder, "correlations"))


def test_the_same_chains_under_another_protocol_are_compared(tmp_path, capsys):
    """Appendix B, by hand; gains here: 25, -2.5, 5 of a/segmentation, 15, 0.5, -50 of a/depth, 1 of b, -10 of c."""
    folder = write(tmp_path / "main", by_hand(), FOUR)
    other = {  # gains 50, 5, 1 of a/segmentation, 20, 5 of a/depth, -20 of c/segmentation
        "a/segmentation": (0.40, {"b/segmentation": 0.60, "c/segmentation": 0.42, "a/depth": 0.404}),
        "a/depth": (0.20, {"a/segmentation": 0.16, "b/segmentation": 0.19}),
        "c/segmentation": (0.50, {"a/segmentation": 0.40}),
    }
    variant = write(tmp_path / "fixed", by_hand(of=other), FOUR)
    assert main(["report", str(folder), "--variant", str(variant)]) == 0
    table = {row["chains"]: row for row in rows(folder, "other-protocol")}
    columns = [name for name in table["all chains"] if name not in ("setting", "chains")]
    assert {name: [row[column] for column in columns] for name, row in table.items()} == {
        # of 25, -2.5, 5, 15, -10 those with 50, 20, -20; of all six 50, 20, 5, -20; of two losses one turned; both best
        "all chains": ["60", "67", "50", "100", "6"],
        "within task types": ["67", "67", "50", "100", "3"],
        "within segmentation": ["67", "67", "50", "100", "3"],
        "paper, within segmentation, fixed resolution": ["88", "", "", "", ""],
        "paper, within segmentation, ResNet-50": ["81", "69", "13", "", ""],
    }
    assert "measured in this study and in fixed" in (folder / "report/index.html").read_text()
    full = write(tmp_path / "full", by_hand("full"), FOUR)
    assert main(["report", str(folder), "--variant", str(full)]) == 0
    assert "no chain is measured here and in full" in (folder / "report/index.html").read_text()
    capsys.readouterr()
    assert main(["report", str(folder), "--variant", str(tmp_path)]) == 1
    assert main(["report", str(folder / "chains.csv"), "--variant", str(folder)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and "holds no study.json" in lines[0] and "stands beside a study's folder" in lines[1]
    plain = Manifest(study="x.OtherStudy", version=1, report="lightning_taskonomy.reports.base.Report", tables={})
    plain.write(tmp_path)
    for first, second, said in (
        (tmp_path, folder, "compared with no other"),
        (folder, tmp_path, "holds OtherStudy"),
    ):
        with pytest.raises(InputError, match=said):
            report(first, variant=second)


def test_captions_say_how_many_images_are_trained_on(tmp_path):
    settings = {**SETTINGS, "validation_share": 0.1, "sets": {"b": {"small": 60}}}
    but_some = " but the 10 % on which learning rates are selected"
    assert images("full", settings) == f"all training images of target and source{but_some}"
    assert images("small", settings).endswith(f"all of a source{but_some}")
    assert images("small_source", settings).endswith("at most 1500 of a source")
    assert short(["a/x", "b/x", "c/x"], {"a/x": 167, "b/x": 67, "c/x": 150}, settings) == (
        " Fewer images than asked had c/x (135)."  # KITTI: of 150, 17 in 167 select the learning rate
    )
    folder = write(tmp_path, by_hand(), FOUR, settings=settings)
    page = text(folder)  # of 100, 200 and 50 images 90, 150 and 45; of b 60 were asked
    assert "Fewer images than asked had a/segmentation (90), c/segmentation (45) and a/depth (90)." in page


def test_what_stands_in_for_ilsvrc_is_said():
    data = {"class_path": "lightning_taskonomy.RoomsDataModule"}
    first = {"data": data, "tasks": {"normals": "surface_normals"}, "domain": "indoor"}
    assert first_link({"first": first}) == (
        "In place of ILSVRC'12 the first link of all chains is surface normals on RoomsDataModule (indoor images), "
        "trained by this study."
    )
    timm = {"class_path": "lightning_taskonomy.TimmBackbone", "init_args": {"name": "hrnet_w48", "pretrained": True}}
    assert "hrnet_w48 with its published pretrained weights" in first_link({"backbone": timm})
    timm["init_args"]["weights"] = "simclr.safetensors"
    assert "hrnet_w48 with the weights of simclr.safetensors" in first_link({"backbone": timm})
    assert "does not say" in first_link({})


def test_names_are_escaped_on_the_page_and_are_no_mathematics_in_figures(tmp_path):
    odd = {"<b>/$x^$": Factors("$d$", ("<i>",), ("<b>",), 10), "y_&/$x^$": Factors("$d$", ("<i>",), ("y_&",), 20)}
    first, second = odd
    chains = [(first, "imagenet", "small", [0.4]), (first, second, "small", [0.5])]
    folder = write(tmp_path, chains, odd, {("<b>", "y_&"): 1.0, ("y_&", "<b>"): 1.0})
    page = report(folder).read_text()
    assert "<b>" not in page and "&lt;b&gt;/$x^$" in page and "y &amp;/$x^$" in page
    assert not re.search(r"(?:src|href)=\"https?:", page)


def damage(folder, name, old, new):
    file = folder / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("chains.csv", "miou,1,0.4", "miou,1,none", r"chains.csv line 2: value 'none' is not a finite number"),
        ("chains.csv", "value", "values", r"chains.csv line 1: column 'values' is unknown"),
        ("factors.csv", "a/depth,", "a/depht,", r"factors.csv has no row of 'a/depth'.*did you mean 'a/depht'"),
        ("factors.csv", "indoor,a,100", "indoor,a,many", r"factors.csv line 2: size 'many' is not a finite number"),
        ("distances.csv", "1.0", "-1.0", r"distances.csv line 2: one_to_one -1 is below 0"),
        ("sources.csv", "seconds", "minutes", r"sources.csv: column 'seconds' is missing"),
        ("sources.csv", "12.5", "long", r"sources.csv: seconds 'long' is not a number"),
        ("sources.csv", ",mae,0.4,12.5", ",mae", r"sources.csv, line 2: 4 cells under 6 headings"),
        ("jobs.json", "{", "[", r"jobs.json cannot be read"),
        ("jobs.json", "[]", "[1]", r"jobs.json: 'features' is no list of jobs"),
        ("jobs.json", "[]", "5", r"jobs.json: 'features' is no list of jobs"),
        (
            "jobs.json",
            "[]",
            '[{"kind": "type_features", "name": "a", "done": ["chains.csv"]}]',
            r"is no list of jobs; run the",
        ),
        ("features.json", "images", "image", r"features.json: 'images' is None, must be a number of images"),
    ],
)
def test_damaged_files_are_named_with_the_reason(tmp_path, name, old, new, message):
    folder = write(tmp_path, by_hand(), FOUR, DISTANCES)
    write_csv(folder / "sources.csv", SOURCES, [["a/depth", "full", 0.001, "mae", 0.4, 12.5]])
    features(folder, {})
    damage(folder, name, old, new)
    with pytest.raises(InputError, match=message) as caught:
        report(folder)
    assert "\n" not in str(caught.value)


def test_a_study_without_chains_says_how_to_go_on(tmp_path):
    folder = write(tmp_path, by_hand(), FOUR)
    (folder / "chains.csv").unlink()
    with pytest.raises(InputError, match=r"has not written chains.csv yet; run its study again"):
        report(folder)


def features(folder, jobs):
    """Files parts features, and the jobs that wrote them."""
    for name, array in jobs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(folder / name, features=array, id=np.arange(len(array)))
    entries, files = [], {}
    for name in jobs:
        kind, *parts = name.split("/")[:-1]
        entries.append({"kind": kind, "name": "/".join(parts), "done": [name], "runs": []})
        if kind == "features":
            files["/".join(parts)] = name
    write_json(folder / "jobs.json", {"features": entries})
    write_json(folder / "features.json", {"encoder": "runs/x", "images": 60, "normalised": True, "files": files})


def test_images_in_the_plane_are_those_of_the_last_plan_by_collection(tmp_path):
    pytest.importorskip("sklearn")
    folder = write(tmp_path, by_hand(), FOUR)
    generator = np.random.default_rng(0)
    arrays = {"features/a/new.npz": generator.normal(0, 1, (6, 3)), "features/b/new.npz": np.ones((4, 3)) * 9}
    features(folder, arrays)
    (folder / "features/a/old.npz").write_bytes(b"an earlier choice")
    assert set(InfluenceReport(folder).results.features) == {"a", "b"}
    assert "Images of a and b as points in the plane" in html.unescape(report(folder).read_text())
    features(folder, {**arrays, "features/c/new.npz": np.ones((4, 5))})
    with pytest.raises(InputError, match=r"features of a \(3\), b \(3\) and c \(5\) are of different backbones"):
        report(folder)
    (folder / "features/a/new.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"features/a/new.npz cannot be read"):
        report(folder)
    np.savez(folder / "features/a/new.npz", id=np.arange(3))
    with pytest.raises(InputError, match=r"has no array 'features'"):
        report(folder)


def test_without_scikit_learn_a_sentence_stands_for_the_picture(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_taskonomy.reports.influence.planes.find_spec", lambda name: None)
    assert "t-SNE needs scikit-learn: pip install" in text(write(tmp_path, by_hand(), FOUR))


def test_a_made_up_study_of_several_settings_and_seeds_has_all_its_sections(tmp_path):
    folder = many(tmp_path / "many", domains=2, types=1, per_domain=2, seeds=2, settings=("small", "small_source"))
    page = report(folder)
    headings = re.findall("<h2[^>]*>([^<]+)", page.read_text())
    assert headings[:3] == ["Answer", "Gains", "Within and across domains and task types"]
    assert headings[-4:] == ["Sources", "Costs", "Configuration", "Failures"]
    pictures = {file.stem for file in page.parent.glob("*.png")}
    assert pictures >= {"gains-small", "gains-small_source", "distances", "distance-and-gain"}
    assert len(rows(folder, "multi-source")) == 2 and len(rows(folder, "source-runs")) == 5


def test_the_same_images_are_pictured_by_the_networks_of_each_task_type(tmp_path):
    """Cosine distances: what one network sees is larger by 1024, which moves no point (Fig. 3b and c)."""
    pytest.importorskip("sklearn")
    generator = np.random.default_rng(0)
    arrays = {f"type_features/a/{kind}/x.npz": generator.normal(1, 1, (6, 3)) for kind in ("segmentation", "depth")}
    arrays["type_features/a/depth/x.npz"][2] = 0  # an image without a direction is left out
    pages = []
    for scale in (1, 1024):
        folder = write(tmp_path / str(scale), by_hand(), FOUR)
        features(folder, {name: array * (scale if "depth" in name else 1) for name, array in arrays.items()})
        assert {*InfluenceReport(folder).results.type_features["a"]} == {"segmentation", "depth"}
        assert "Images of a in the features of networks of several task types" in report(folder).read_text()
        pages.append((folder / "report" / "plane-of-task-types.png").read_bytes())
    assert pages[0] == pages[1]
