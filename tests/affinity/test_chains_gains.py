"""Relative transfer gains, their levels and the aggregated tables of the paper's section 6."""

import itertools

import numpy as np
import pytest
from scipy import stats

from lightning_taskonomy.affinity.chains import (
    PUBLISHED,
    PUBLISHED_SHARES,
    PUBLISHED_TASK_TYPES,
    Chain,
    ChainsTable,
    Factors,
    Gain,
    best_sources,
    by_factors,
    by_size,
    by_task_types,
    compare_variant,
    level,
    multi_against_largest,
    quick_test,
    relative_transfer_gain,
    relative_transfer_gains,
    scratch_gains,
    shared_images,
    shares,
    without_gain,
)
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks.catalog.domains import COLLECTIONS

SHORT = {
    "pascal_context": "Context", "voc": "VOC", "mpii": "MPII", "ade20k": "ADE20K", "coco": "COCO", "kitti": "KITTI",
    "camvid": "CamVid", "cityscapes": "CityScapes", "idd": "IDD", "bdd": "BDD", "mapillary": "Mapillary",
    "isprs": "ISPRS", "isaid": "iSAID", "sunrgbd": "SUN", "scannet": "ScanNet", "suim": "SUIM", "uwt": "UWT",
    "stanford_dogs": "Dogs", "vkitti2": "vKITTI2", "vgallery": "vGallery",
}  # fmt: skip
TABLE_1 = {short: COLLECTIONS[name] for name, short in SHORT.items()}
TYPES = {"s": "segmentation", "o": "detection", "k": "keypoints", "d": "depth"}
MULTI = {
    "s": ("iSAID", "COCO", "Mapillary", "ScanNet", "SUIM", "vGallery", "vKITTI2"),
    "d": ("SUN", "vGallery", "vKITTI2"),
    "o": ("COCO", "BDD", "VOC", "UWT"),
}


def paper_factors():
    """The sources and targets of the paper by their names, such as COCO.s and multi.s; VOC.o has images of its own."""
    other = {"VOC.o": "VOC2007"}
    factors = {
        f"{name}.{kind}": Factors(TYPES[kind], (one.domain,), (other.get(f"{name}.{kind}", name),), one.train)
        for name, one in TABLE_1.items() for kind in TYPES if TYPES[kind] in one.kinds
    }  # fmt: skip
    for kind, names in MULTI.items():
        parts = [factors[f"{name}.{kind}"] for name in names]
        domains, images = (tuple(dict.fromkeys(word for one in parts for word in getattr(one, field)))
                           for field in ("domains", "images"))  # fmt: skip
        factors[f"multi.{kind}"] = Factors(TYPES[kind], domains, images, sum(one.size for one in parts))
    return factors


def within_type(multi_on_its_targets, value=lambda target, source: 0.0):
    """All chains within a task type, as the paper ran them."""
    factors = paper_factors()
    targets = [name for name in factors if not name.startswith("multi")]
    for target, source in itertools.product(targets, factors):
        ours, theirs = factors[target], factors[source]
        seen = theirs.multi_source and ours.shares_images(theirs)
        if target != source and ours.same_type(theirs) and (multi_on_its_targets or not seen):
            yield Gain(target, source, "small", "m", value(target, source))


def test_gains_of_equation_2():
    assert relative_transfer_gain(0.6, 0.5) == pytest.approx(20)
    assert relative_transfer_gain(0.6, 0.5, higher_is_better=False) == pytest.approx(-20)
    with pytest.raises(InputError, match="reference of 0"):
        relative_transfer_gain(0.6, 0.0)


def test_levels_of_section_6():
    names = {10.01: "VP", 10: "P", 2.01: "P", 2: "I", 0: "I", -2: "I", -2.01: "N"}
    assert {gain: level(gain) for gain in names} == names
    both = shares(names)
    assert (both.positive, both.very_positive, both.negative, both.count) == (3, 1, 1, 7)
    assert both.percent("positive") == pytest.approx(300 / 7)
    assert shares([]).percent("negative") is None


def rows(target, source, values, kind="chain", setting="small", metric="miou", higher=True):
    return [Chain(target, source, kind, setting, seed, metric, higher, v) for seed, v in enumerate(values)]


def test_seeds_are_averaged_over_those_of_both():
    table = ChainsTable(
        (
            *rows("a", "imagenet", [0.40, 0.50, 0.45], "pretrained"),
            *rows("a", "b", [0.50, 0.60]),
            *rows("a", "", [0.2, 0.2, 0.2], "scratch"),
            *rows("z", "imagenet", [2.0], "pretrained", metric="rmse", higher=False),
            *rows("z", "b", [1.5], metric="rmse", higher=False),
        )
    )
    gain, error = relative_transfer_gains(table, "small")
    assert gain.value == pytest.approx((1.1 / 0.9 - 1) * 100) and gain.seeds == 2
    residual = 100 * (0.50 - 0.40 * 1.1 / 0.9) / 0.45  # the other seed's is its opposite
    spread = np.std([residual, -residual], ddof=1) / np.sqrt(2)
    assert gain.half_width == pytest.approx(stats.t.ppf(0.975, 1) * spread)
    assert (error.value, error.half_width, error.seeds) == (pytest.approx(25), None, 1)
    assert [one.value for one in scratch_gains(table, "small")] == [pytest.approx((0.6 / 1.35 - 1) * 100)]


def test_the_interval_of_a_gain_covers_the_true_one():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        reference = generator.normal(0.5, 0.02, 5)
        values = 1.1 * 0.5 + 0.7 * (reference - 0.5) + generator.normal(0, 0.02, 5)
        table = ChainsTable((*rows("a", "imagenet", reference, "pretrained"), *rows("a", "b", values)))
        (gain,) = relative_transfer_gains(table, "small")
        covered.append(abs(gain.value - 10) < gain.half_width)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)


def test_a_chain_without_its_reference_is_refused_and_a_reference_of_0_is_named():
    chain = rows("a", "b", [0.5])
    with pytest.raises(InputError, match=r"b -> a .* has no reference: add a row imagenet -> a"):
        relative_transfer_gains(ChainsTable((*chain, *rows("a", "imagenet", [0.4], "pretrained", "full"))), "small")
    zero = ChainsTable((*chain, *rows("a", "imagenet", [0.0], "pretrained")))
    assert relative_transfer_gains(zero, "small") == () and without_gain(zero, "small") == ("a",)


def test_small_sources_take_the_references_of_small_targets():
    table = ChainsTable((*rows("a", "imagenet", [0.5], "pretrained"), *rows("a", "b", [0.6], setting="small_source")))
    assert [gain.value for gain in relative_transfer_gains(table, "small_source")] == [pytest.approx(20)]


def test_one_metric_counts_per_target():
    table = ChainsTable(
        tuple(
            row
            for metric, higher in (("rmse", False), ("delta", True))
            for row in (
                *rows("a", "imagenet", [0.5], "pretrained", metric=metric, higher=higher),
                *rows("a", "b", [0.4], metric=metric, higher=higher),
            )
        )
    )
    with pytest.raises(InputError, match="metrics rmse and delta"):
        relative_transfer_gains(table, "small")
    assert [gain.value for gain in relative_transfer_gains(table, "small", ["rmse"])] == [pytest.approx(20)]


@pytest.mark.parametrize(("setting", "multi"), [("small", False), ("full", True)])
def test_experiments_are_counted_as_in_tables_7_and_8(setting, multi):
    chains, factors = list(within_type(multi)), paper_factors()
    for best in (False, True):
        counts = by_factors(chains, factors, best=best)
        published = PUBLISHED_SHARES["best" if best else "all", setting]
        for group in (("within", "within"), ("cross", "within")):
            assert counts[group].count == published[group].count
    assert len(best_sources(chains)) == PUBLISHED_SHARES["best", setting]["all", "all"].count


def test_printed_shares_add_up():
    for setting in ("small", "full"):
        rows = PUBLISHED_SHARES["all", setting]
        total = rows["all", "all"]
        parts = [row for group, row in rows.items() if group != ("all", "all")]
        assert sum(row.count for row in parts) == total.count
        for part in ("positive", "very_positive", "negative"):
            mean = sum(getattr(row, part) * row.count for row in parts) / total.count
            assert mean == pytest.approx(getattr(total, part), abs=1)


def test_shares_and_best_sources():
    factors = {
        "a.s": Factors("segmentation", ("indoor",), ("A",), 10),
        "b.s": Factors("segmentation", ("indoor",), ("B",), 20),
        "c.d": Factors("depth", ("driving",), ("C",), 30),
        "a.d": Factors("depth", ("indoor",), ("A",), 10),
    }
    gains = [
        Gain("a.s", "b.s", "small", "m", 3.0),
        Gain("a.s", "c.d", "small", "m", -5.0),
        Gain("a.s", "a.d", "small", "m", 12.0),
        Gain("b.s", "a.s", "small", "m", -3.0),
        Gain("b.s", "a.d", "small", "m", 0.0),
    ]
    everything, best = by_factors(gains, factors), by_factors(gains, factors, best=True)
    assert everything["all", "all"] == shares([3, -5, 12, -3, 0])
    assert everything["within", "cross"] == shares([12, 0]) and everything["cross", "cross"] == shares([-5])
    assert best["all", "all"] == shares([12, 0]) and best["within", "within"] == shares([3, -3])
    assert {target: gain.source for target, gain in best_sources(gains).items()} == {"a.s": "a.d", "b.s": "a.d"}
    types = by_task_types(gains, factors)
    assert types["depth", "segmentation"] == {
        "other_domain": shares([-5]), "same_images": shares([12]), "same_domain": shares([0])
    }  # fmt: skip
    assert by_size(gains, factors) == {"larger": shares([3]), "smaller": shares([-3])}
    assert shared_images(gains, factors) == {("a.s", "a.d"): ("A",)}
    with pytest.raises(InputError, match="'x' has no factors"):
        by_factors([Gain("a.s", "x", "small", "m", 1.0)], factors)


def pairs_across_types():
    """All chains across task types that Table 1 allows, by pair of types and relation of their images."""
    factors = paper_factors()
    targets = [name for name in factors if not name.startswith("multi")]
    across = [
        Gain(target, source, "small", "m", 0.0)
        for target, source in itertools.product(targets, factors) if not factors[source].same_type(factors[target])
    ]  # fmt: skip
    return across, factors, by_task_types(across, factors)


def test_chains_on_the_same_images_are_those_of_table_11():
    """COCO, SUN RGB-D, vKITTI2, vGallery and, by section 5.2, BDD; VOC is two data sets (note a of Table 1)."""
    across, factors, counts = pairs_across_types()
    ours = {pair: row["same_images"].count for pair, row in counts.items() if "same_images" in row}
    theirs = {pair: row["same_images"][2] for pair, row in PUBLISHED_TASK_TYPES.items()}
    to_segmentation = {("detection", "segmentation"): 2, ("depth", "segmentation"): 3}  # the paper ran 1 of each
    assert ours == {**theirs, **to_segmentation}
    alone = [gain for gain in across if not factors[gain.source].multi_source]
    marked = shared_images(alone, factors)
    assert (
        len(marked) == sum(ours.values()) and marked["BDD.o", "BDD.s"] == ("BDD",) and ("VOC.o", "VOC.s") not in marked
    )


def test_chains_of_the_same_domain_are_those_of_table_11():
    """Where the paper ran all of a pair, and UWT, of which its caption says that SUIM was the source twice."""
    across, factors, counts = pairs_across_types()
    pair = "keypoints", "detection"
    assert counts[pair]["same_domain"].count == PUBLISHED_TASK_TYPES[pair]["same_domain"][2]
    alone = by_task_types([gain for gain in across if not factors[gain.source].multi_source], factors)
    pair = "segmentation", "depth"
    assert alone[pair]["same_domain"].count == PUBLISHED_TASK_TYPES[pair]["same_domain"][2]
    trash = [gain for gain in across if gain.target == "UWT.o" and factors[gain.source].task_type == "segmentation"]
    assert by_task_types(trash, factors)["segmentation", "detection"]["same_domain"].count == 2
    broad = ("COCO.s", "COCO.o", "multi.s", "multi.o")  # two sources of each type leave the paper's two chains each
    people = by_task_types([g for g in across if g.source in broad and g.target in ("COCO.k", "MPII.k")], factors)
    for kind in ("segmentation", "detection"):
        counted = [people[kind, "keypoints"][name].count for name in ("same_images", "same_domain", "among_others")]
        assert counted == [*(PUBLISHED_TASK_TYPES[kind, "keypoints"][n][2] for n in ("same_images", "same_domain")), 1]


def test_a_model_of_several_sources_that_saw_the_targets_images_is_counted_apart():
    across, _, counts = pairs_across_types()
    assert {pair: row["among_others"].count for pair, row in counts.items() if "among_others" in row} == {
        ("segmentation", "detection"): 1,  # COCO
        ("segmentation", "keypoints"): 1,  # COCO
        ("segmentation", "depth"): 2,  # vKITTI2 and vGallery
        ("detection", "segmentation"): 2,  # COCO and BDD
        ("detection", "keypoints"): 1,  # COCO
        ("depth", "segmentation"): 3,  # SUN RGB-D, vKITTI2, vGallery
    }
    assert sum(shares.count for row in counts.values() for shares in row.values()) == len(across)
    in_columns = sum(column[2] for row in PUBLISHED_TASK_TYPES.values() for column in row.values())
    assert PUBLISHED_SHARES["all", "small"]["within", "cross"].count - in_columns == 6


def test_multi_source_models_are_compared_on_the_ten_targets_of_a5():
    largest = {"consumer": "COCO.s", "driving": "Mapillary.s", "aerial": "iSAID.s", "indoor": "ScanNet.s"}

    def value(target, source):
        if source == "multi.s":
            return 5.0
        return 7.5 if source == largest[TABLE_1[target[:-2]].domain] and target != "SUN.s" else 4.0

    ten = [gain.target for gain in within_type(False) if gain.source == "multi.s"]
    chains = list(within_type(False, lambda target, source: value(target, source) if target in ten else 0.0))
    rows = multi_against_largest(chains, paper_factors())
    assert len(rows) == PUBLISHED["targets compared with the multi-source model"]
    assert {row.target for row in rows if not row.largest_wins} == {"SUN.s"}
    assert {row.largest for row in rows} == set(largest.values())


def test_quick_test_by_hand():
    small = {"a": 20.0, "b": 5.0, "c": -5.0, "d": -3.0, "e": 1.0, "f": 9.0}
    full = {"a": 4.0, "b": 0.0, "c": -4.0, "d": 1.0, "e": 3.0}
    ours, theirs = ([Gain("t", s, "small", "m", v) for s, v in gains.items()] for gains in (small, full))
    result = quick_test(ours, theirs)
    assert result.full_positive_small_positive == 50  # a and e are positive on full targets, a on small ones
    assert result.small_positive_full_positive == 50  # a and b
    assert result.small_negative_full_not_positive == 100
    assert result.same_sign == 60  # a, c, e
    assert result.count == 5 and result.pairs[1] == (5.0, 0.0)
    assert quick_test(ours, []).same_sign is None


def test_a_variant_by_hand():
    main = {("t", "a"): 20.0, ("t", "b"): 5.0, ("t", "c"): -5.0, ("u", "a"): -3.0, ("u", "b"): 1.0, ("v", "a"): 9.0}
    other = {("t", "a"): 30.0, ("t", "b"): 1.0, ("t", "c"): -9.0, ("u", "a"): 4.0, ("u", "b"): 2.0}
    result = compare_variant(
        *([Gain(*chain, "small", "m", value) for chain, value in gains.items()] for gains in (main, other))
    )
    assert result.similar == 50  # a and c of t; b became insignificant, a of u turned
    assert result.stronger == 60  # a and c of t, b of u
    assert result.turned_positive == 50
    assert result.same_best == 100  # t alone: the best source of u is not positive, v has no chain in both
    assert result.count == 5
    assert compare_variant([], []).similar is None
