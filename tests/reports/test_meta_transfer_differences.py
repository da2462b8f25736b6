"""Paired differences of a Task Meta-Transfer study against t tests of SciPy on arrays."""

import numpy as np
import pytest
from scipy import stats

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports import report
from lightning_taskonomy.reports.meta_transfer.comparison import read_comparison
from lightning_taskonomy.reports.meta_transfer.differences import paired, pooled

NET = "a network"
DEPTH, CLASSES = ("depth_z", "normals"), ("semantic_segmentation", "normals")
SEEDS = range(5)
TMT = {DEPTH: (0.480, 0.485, 0.470, 0.490, 0.478), CLASSES: (0.141, 0.139, 0.140, 0.136, 0.144)}
MTL = {DEPTH: (0.492, 0.493, 0.488, 0.496, 0.491), CLASSES: (0.140, 0.141, 0.137, 0.139, 0.140)}
LIN = {DEPTH: (0.470, 0.474, 0.462, 0.481, 0.467), CLASSES: (0.139, 0.137, 0.139, 0.135, 0.141)}
ONE = {DEPTH: (0.481, 0.486, 0.469, 0.489, 0.480), CLASSES: (0.141, 0.139, 0.140, 0.136, 0.144)}
MEASURED = {"mtl": MTL, "lin": LIN, "tmt": TMT, "tmt_identity": ONE}


def test_a_difference_is_that_of_a_paired_t_test():
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(1.0, 0.1, 6), generator.normal(1.1, 0.1, 6)
    difference = paired(dict(enumerate(ours)), dict(enumerate(theirs)))
    test = stats.ttest_rel(theirs, ours)
    low, high = test.confidence_interval(0.95)
    assert difference.mean == pytest.approx((theirs - ours).mean())
    assert (difference.mean - difference.half, difference.mean + difference.half) == pytest.approx((low, high))
    assert (difference.seeds, difference.better) == (6, (theirs > ours).sum())


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.1, 0.5])
def test_a_verdict_is_the_sign_of_what_is_significant_at_five_percent(shift):
    generator = np.random.default_rng(3)
    for _ in range(20):
        ours, theirs = generator.normal(0, 0.2, 5), generator.normal(shift, 0.2, 5)
        verdict = paired(dict(enumerate(ours)), dict(enumerate(theirs))).verdict
        test = stats.ttest_rel(theirs, ours)
        assert verdict == (np.sign(test.statistic) if test.pvalue < 0.05 else 0)


def test_only_seeds_that_both_have_are_paired_and_one_has_no_interval():
    difference = paired({0: 1.0, 2: 3.0}, {1: 5.0, 2: 4.0})
    assert (dict(difference.leads), difference.half, difference.verdict) == ({2: 1.0}, None, 0)
    assert paired({0: 1.0}, {1: 1.0}) is None
    assert paired({0: 3.0}, {0: 4.0}, relative=True).mean == 0.25
    assert paired({0: 3.0}, {0: 0.0}, relative=True) is None


def test_over_cases_seeds_are_what_is_independent():
    generator = np.random.default_rng(1)
    ours, theirs = generator.uniform(1, 2, (3, 5)), generator.uniform(1, 2, (3, 5))
    cases = [(dict(enumerate(one)), dict(enumerate(other))) for one, other in zip(ours, theirs, strict=True)]
    difference = pooled(cases)
    of_seeds = (1 - ours / theirs).mean(axis=0)
    low, high = stats.t.interval(0.95, 4, loc=of_seeds.mean(), scale=stats.sem(of_seeds))
    assert (difference.cases, difference.seeds) == (3, 5)
    assert difference.mean == pytest.approx(of_seeds.mean()) and difference.half == pytest.approx((high - low) / 2)
    del cases[0][0][4], cases[1][1][3]
    assert pooled(cases).mean == pytest.approx(of_seeds[:3].mean()) and pooled(cases).seeds == 3
    assert pooled([]) is None and pooled([({0: 1.0}, {0: 1.0}), ({1: 1.0}, {1: 1.0})]) is None


def test_a_lead_is_positive_where_the_method_is_better_whatever_the_metric(tmp_path, meta_study):
    meta_study.write(tmp_path, meta_study.rows(MEASURED))
    comparison = read_comparison(tmp_path)
    assert comparison.lead((NET, *DEPTH), "mtl").mean == pytest.approx(np.mean(np.subtract(MTL[DEPTH], TMT[DEPTH])))
    assert comparison.lead((NET, *CLASSES), "mtl").mean == pytest.approx(
        np.mean(np.subtract(TMT[CLASSES], MTL[CLASSES]))
    )
    assert [comparison.lead((NET, *case), "mtl").verdict for case in (DEPTH, CLASSES)] == [1, 0]
    assert comparison.lead((NET, *DEPTH), "lin").verdict == -1
    errors = [[np.array(one[DEPTH]), 1 - np.array(one[CLASSES])] for one in (TMT, MTL)]
    assert comparison.pooled("mtl").mean == pytest.approx(np.mean(1 - np.divide(*errors)))


def test_its_own_variants_are_no_other_methods_in_the_papers_count(tmp_path, meta_study):
    full = {DEPTH: (0.4,) * 5, CLASSES: (0.5,) * 5}
    meta_study.write(tmp_path, meta_study.rows({"mtl": MTL, "tmt": TMT, "tmt_full": full}))
    comparison = read_comparison(tmp_path)
    assert comparison.variants == ("tmt_full",)
    paper, all_methods = comparison.wins(), comparison.wins(variants=True)
    assert (paper.best, paper.second, all_methods.best, all_methods.second) == (2, 0, 0, 2)
    assert comparison.wins([(NET, *DEPTH)]).cases == 1


def test_labels_of_a_factor_are_text_in_the_order_of_the_settings(tmp_path, meta_study):
    factors = [row for at in ("1000", "200", "long") for row in meta_study.rows({"tmt": TMT, "mtl": MTL}, "steps", at)]
    meta_study.write(tmp_path, [*meta_study.rows(MEASURED), *factors, *meta_study.rows({"tmt": TMT}, "amount", "0.5")])
    comparison = read_comparison(tmp_path)
    assert comparison.factors({"steps": {"long": {}, "200": {}}, "never run": {"a": {}}}) == {
        "steps": ["long", "200", "1000"]
    }
    assert comparison.lead((NET, *DEPTH), "mtl", "steps", "200").seeds == 5
    assert comparison.lead((NET, *DEPTH), "lin", "steps", "200") is None
    assert comparison.varied("amount")[NET, *DEPTH]["tmt"][0][0] == 0.5


def test_a_value_of_a_figure_that_is_no_number_is_named(tmp_path, meta_study):
    meta_study.write(tmp_path, [*meta_study.rows(MEASURED), *meta_study.rows({"tmt": TMT}, "amount", "much")])
    with pytest.raises(InputError, match=r"results.csv.*much"):
        read_comparison(tmp_path)


def test_the_answer_says_what_is_beyond_chance(tmp_path, meta_study):
    meta_study.write(tmp_path, meta_study.rows(MEASURED))
    text = meta_study.text(tmp_path)
    assert (
        "TMT is the best in 1 of 2 cases and second best in 1, among all methods but the oracle and its own "
        "variants (TMT φ = 1). With these it is the best in 1 and second best in 1."
    ) in text
    assert "paper:" not in text
    left = [np.divide(TMT[DEPTH], MTL[DEPTH]), (1 - np.array(TMT[CLASSES])) / (1 - np.array(MTL[CLASSES]))]
    seeds = 100 * (1 - np.mean(left, axis=0))
    half = stats.t.ppf(0.975, 4) * stats.sem(seeds)
    assert (
        "TMT's lead over MTL, paired by seed, excludes zero in 1 of 2 cases, MTL's lead over TMT in 0 (95 % t "
        f"intervals); over all of them TMT removes {seeds.mean():.1f} ±{half:.1f} % of MTL's error (5 seeds)."
    ) in text
    assert (
        "TMT's lead over Lin et al., paired by seed, excludes zero in 1 of 2 cases, Lin et al.'s lead over TMT in 1"
        in text
    )
    assert "TMT's lead over TMT φ = 1, paired by seed, excludes zero in 0 of 2 cases" in text


def test_tables_hold_the_paired_differences_in_the_metrics_unit(tmp_path, meta_study):
    meta_study.write(tmp_path, meta_study.rows(MEASURED))
    report(tmp_path)
    leads = {
        row["method"]: list(row.values())[1:] for row in meta_study.read(tmp_path / "report/leads_one_auxiliary.csv")
    }
    assert list(leads) == ["MTL", "Lin et al.", "TMT φ = 1"]
    for column, case in enumerate((DEPTH, CLASSES)):
        lead = 100 * (np.subtract(MTL[case], TMT[case]) if case == DEPTH else np.subtract(TMT[case], MTL[case]))
        half = stats.t.ppf(0.975, 4) * stats.sem(lead)
        mark = "▲" if lead.mean() > half else ""
        assert leads["MTL"][column] == f"{lead.mean():+.2f}{mark} ±{half:.2f} ({(lead > 0).sum()}/5)"
    assert "▼" in leads["Lin et al."][0]
    numbers = meta_study.read(tmp_path / "report/leads.csv")
    (row,) = [row for row in numbers if row["primary"] == "depth_z" and row["against"] == "MTL"]
    difference = np.subtract(MTL[DEPTH], TMT[DEPTH])
    assert float(row["lead of TMT"]) == pytest.approx(difference.mean())
    assert float(row["half interval"]) == pytest.approx(stats.t.ppf(0.975, 4) * stats.sem(difference))
    assert (row["seeds"], row["better in"]) == ("5", "5")
    pooled_rows = {row["against"]: row for row in meta_study.read(tmp_path / "report/pooled.csv")}
    assert [pooled_rows["Lin et al."][name] for name in ("cases", "seeds", "cases with ▲", "cases with ▼")] == [
        "2", "5", "1", "1",
    ]  # fmt: skip


def test_one_seed_has_no_interval_anywhere(tmp_path, meta_study):
    one = {method: {case: values[:1] for case, values in cases.items()} for method, cases in MEASURED.items()}
    meta_study.write(tmp_path, meta_study.rows(one))
    text = meta_study.text(tmp_path)
    assert "±" not in text and "With one seed no interval is known" in text
    assert (
        "TMT is better than MTL in 2 of 2 cases; over all of them TMT removes" in text
        and "(1 seed, no interval)" in text
    )


def test_a_second_network_of_one_seed_leaves_the_interval_of_the_first(tmp_path, meta_study):
    one = {method: {case: values[:1] for case, values in cases.items()} for method, cases in MEASURED.items()}
    meta_study.write(tmp_path, [*meta_study.rows(MEASURED), *meta_study.rows(one, network="another")])
    text = meta_study.text(tmp_path)
    assert (
        "excludes zero in 1 of 2 cases, MTL's lead over TMT in 0 (95 % t intervals); 2 further cases of one seed; "
        in text
    )
    assert f"with {NET} TMT removes" in text and "over all of them" not in text


def test_a_turned_gradient_is_named_with_its_networks(tmp_path, meta_study):
    turned = {"class_path": "lightning_taskonomy.models.heads.ConflictingHead", "init_args": {"rank": 8}}
    plain = {"class_path": "lightning_taskonomy.models.heads.DenseHead"}
    line = (
        "The gradient of normals is turned on purpose (ConflictingHead), for all methods alike: the backbone gets it "
    )
    line += "with its sign reversed in all but 8 directions of the features"
    for heads, ending in (((turned, turned), "."), ((turned, plain), f", with {NET}.")):
        networks = {name: {"heads": {"normals": head}} for name, head in zip((NET, "another"), heads, strict=True)}
        meta_study.write(tmp_path, meta_study.rows(MEASURED), settings={"networks": networks})
        assert line + ending in meta_study.text(tmp_path)
    meta_study.write(tmp_path, meta_study.rows(MEASURED), settings={"networks": {NET: {"heads": None}}})
    assert "on purpose" not in meta_study.text(tmp_path)


def papers(meta_study, folder, several=False, settings=None, **changed):
    """The paper's 12 cases with made-up numbers, in which the first method is always better by the same amount."""
    tasks = ("semantic_segmentation", "depth_z", "normals")
    networks = {
        name: {"backbone": {"class_path": f"some.{name[:-2]}", "init_args": {"split": 3, **changed}}}
        for name in ("SplitVGG-3", "SplitRes-3")
    }
    rows = [
        ["main", "", network, primary, auxiliary, method, "", 0, "mae", 0, 0, value, 1]
        for network in networks for primary in tasks
        for auxiliary in [*(other for other in tasks if other != primary),
                          *(["+".join(other for other in tasks if other != primary)] if several else [])]
        for method, value in (("mtl", 2.0), ("tmt", 1.0))
    ]  # fmt: skip
    papers_settings = {
        "data": {"class_path": "lightning_taskonomy.data.NYUv2DataModule"}, "networks": networks, "parallel": 0.1,
        "methods": dict.fromkeys(("primary_only", "transfer", "mtl", "kendall", "du", "lin", "tmt")),
    }  # fmt: skip
    meta_study.write(folder, rows, settings={**papers_settings, **(settings or {})})


def test_only_the_papers_cases_stand_beside_its_count(tmp_path, meta_study):
    papers(meta_study, tmp_path / "paper")
    assert "best in 12 of 12 cases and second best in 0, among all methods but the oracle (paper: 8 of 12, and 2)" in (
        meta_study.text(tmp_path / "paper")
    )
    papers(meta_study, tmp_path / "more", several=True)
    text = meta_study.text(tmp_path / "more")
    assert "best in 18 of 18 cases and second best in 0, among all methods but the oracle." in text
    assert (
        "In the 12 cases with one auxiliary task it is the best in 12 and second best in 0 (paper: 8 of 12, and 2)."
        in text
    )
    for name, changed in (("small", {"width": 8}), ("split", {"split": 2})):
        papers(meta_study, tmp_path / name, **changed)
        assert "paper:" not in meta_study.text(tmp_path / name)
    for name, settings in (("amount", {"parallel": 0.2}), ("rivals", {"methods": {"mtl": None, "tmt": None}})):
        papers(meta_study, tmp_path / name, settings=settings)
        assert "paper:" not in meta_study.text(tmp_path / name)


def test_several_auxiliary_tasks_are_summed_and_averaged_side_by_side(tmp_path, meta_study):
    both = ("depth_z", "normals+semantic_segmentation")
    summed = {method: {both: cases[DEPTH]} for method, cases in MEASURED.items() if method in ("mtl", "tmt")}
    mean = {"tmt_mean": {both: LIN[DEPTH]}}
    meta_study.write(tmp_path, [*meta_study.rows({**summed, **mean}), *meta_study.rows(MEASURED)])
    text = meta_study.text(tmp_path)
    assert [row["method"] for row in meta_study.read(tmp_path / "report/several_auxiliaries.csv")] == [
        "MTL",
        "TMT",
        "TMT mean",
    ]
    assert "TMT mean" not in {row["method"] for row in meta_study.read(tmp_path / "report/one_auxiliary.csv")}
    assert "no finished run" not in text  # what was never planned is not missing


def test_different_numbers_of_trials_are_said(tmp_path, meta_study):
    meta_study.write(tmp_path / "same", meta_study.rows(MEASURED), trials=4)
    assert "differ in the number" not in meta_study.text(tmp_path / "same")
    meta_study.write(
        tmp_path / "more", meta_study.rows(MEASURED), trials={"mtl": 2, "lin": 4, "tmt": 8, "tmt_identity": 2}
    )
    text = meta_study.text(tmp_path / "more")
    assert "The methods differ in the number of their trials (MTL 2, Lin et al. 4, TMT 8 and TMT φ = 1 2)" in text
    table = {row["method"]: row["candidates per case"] for row in meta_study.read(tmp_path / "more/report/trials.csv")}
    assert table == {"MTL": "2", "Lin et al.": "4", "TMT": "8", "TMT φ = 1": "2"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "k and r are frozen"), ({"reselect": True}, "k and r, where they were grids, were selected again")],
)
def test_figures_say_whether_settings_were_selected_again(tmp_path, settings, said, meta_study):
    varied = [row for at in ("0.1", "0.5") for row in meta_study.rows({"tmt": TMT, "mtl": MTL}, "amount", at)]
    meta_study.write(tmp_path, [*meta_study.rows(MEASURED), *varied], settings=settings)
    assert said in meta_study.text(tmp_path)


def test_the_figure_of_ranks_has_the_controls_of_the_main_study(meta_study, tmp_path):
    alone = {"primary_only": {("depth_z", ""): (0.55,) * 5}}
    measured = alone | {name: {DEPTH: cases[DEPTH]} for name, cases in MEASURED.items()}
    ranks = [row for at in "24" for row in meta_study.rows({"tmt": {DEPTH: TMT[DEPTH]}}, "rank", at)]
    meta_study.write(tmp_path, meta_study.rows(measured) + ranks)
    assert "Methods without a rank are level, as the main study measured them." in meta_study.text(tmp_path)
    table = [
        (row["method"], row["rank r"], float(row["mean"])) for row in meta_study.read(tmp_path / "report/ranks.csv")
    ]
    controls = [(words, "any", pytest.approx(100 * np.mean(MEASURED[name][DEPTH]))) for name, words in
                {"mtl": "MTL", "lin": "Lin et al.", "tmt_identity": "TMT φ = 1"}.items()]  # fmt: skip
    assert table == [*(("TMT", at, pytest.approx(100 * np.mean(TMT[DEPTH]))) for at in ("2.0", "4.0")), *controls]
