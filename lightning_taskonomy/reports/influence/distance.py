"""How far images of data sets are apart, and whether that says which source helps: Tables 9 and 10."""

from collections.abc import Mapping, Sequence

import numpy as np

from lightning_taskonomy.affinity.chains import (
    PUBLISHED,
    Assignment,
    Gain,
    RankCorrelation,
    Setting,
    by_chain,
    chain_distances,
    rank_correlation,
)
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.influence.figures import (
    Line,
    Points,
    distance_matrix,
    gain_scatters,
)
from lightning_taskonomy.reports.influence.files import ALL, SEGMENTATION, InfluenceResults
from lightning_taskonomy.reports.influence.words import RELATIONS, backbone_of_features, relation, title
from lightning_taskonomy.reports.words import readable

__all__ = ["distances"]

_ASSIGNMENTS: dict[Assignment, str] = {
    "target_to_source": "distance, target to source",
    "source_to_target": "distance, source to target",
    "symmetric": "distance, symmetric",
    "one_to_one": "distance, one to one",
}
_SIZE = "size of the source"


def distances(page: Page, results: InfluenceResults) -> None:
    """The matrix of distances, gains against them, and rank correlations, with those of source sizes."""
    measured = results.distances.values
    if measured:
        _matrix(page, results)
        _scatter(page, results)
    else:
        page.text("Not here yet: no distance of images is measured. It takes the features of two data sets.")
    if results.gains:
        _correlations(page, results)


def _matrix(page: Page, results: InfluenceResults) -> None:
    """Table 9, of collections of one data set."""
    measured = {name for pair in results.distances.values for name in pair}
    of_tasks = [
        one for name in results.ordered(results.factors) if (one := results.factors[name]).collection in measured
    ]
    names = list(dict.fromkeys(one.collection for one in of_tasks if not one.multi_source))
    domains = list(dict.fromkeys(domain for one in results.factors.values() for domain in one.domains))
    names.sort(key=lambda name: domains.index(results.domain_of(name)))
    if len(names) < 2:
        return
    values = np.full((len(names), len(names)), np.nan)
    for row, target in enumerate(names):
        for column, source in enumerate(names):
            if target == source or (target, source) in results.distances.values:
                values[row, column] = results.distances.of(target, source)
    shown = [Line(name, ("", results.domain_of(name))) for name in names]
    count = results.settings.get("features")
    page.figure(
        distance_matrix(values, targets=shown, sources=shown),
        "distances",
        alt=f"Distances between the images of {len(names)} data sets; the numbers are in distances.csv",
        caption="Domain distance (Eq. 1): the mean distance of a target's images to the nearest image of the source, "
        "small where the source includes the target's domain; as Table 9. Features: "
        f"{backbone_of_features(results.settings)}, averaged over the image"
        + (f", of up to {count} training images of each data set." if count else "."),
    )
    with page.details("All distances"):
        rows: list[list[Cell]] = [
            [*pair, *(row[name] for name in _ASSIGNMENTS)] for pair, row in results.distances.values.items()
        ]
        page.table("distances-table", ["target", "source", *map(readable, _ASSIGNMENTS)], rows)


def _scatter(page: Page, results: InfluenceResults) -> None:
    panels: dict[str, list[Points]] = {}
    notes: dict[str, str] = {}
    for setting, gains in results.gains.items():
        values = by_chain(gains)
        apart = chain_distances(values, results.distances, results.factors)
        if not apart:
            continue
        groups: dict[str, list[tuple[float, float]]] = {}
        for chain, distance in apart.items():
            target, source = (results.factors[name] for name in chain)
            kind = relation(source.same_domain(target), source.same_type(target))
            groups.setdefault(kind, []).append((distance, values[chain]))
        name = title(setting).capitalize()
        panels[name] = [Points(kind, *map(list, zip(*of, strict=True))) for kind, of in groups.items()]
        notes[name] = "Kendall's tau " + _tau(rank_correlation(values, apart, lower_is_better=True))
    if panels:
        text = "; ".join(f"{name}: {note}" for name, note in notes.items())
        page.figure(
            gain_scatters(panels, kinds=RELATIONS, x="domain distance, target to source", y="gain, %", notes=notes),
            "distance-and-gain",
            alt=f"Gains against domain distances. {text}",
            caption="Each point is a chain. Tau is over all chains of a panel, positive where nearer sources bring "
            "more, in brackets its 95 % bootstrap interval over targets. Dotted: gains of 2 and -2 %.",
        )


def _correlations(page: Page, results: InfluenceResults) -> None:
    """Tau of the four assignments and of the size of the source (A3, A4, Table 10)."""
    rows: list[list[Cell]] = []
    against = (*_ASSIGNMENTS.items(), ("size", _SIZE)) if results.distances.values else (("size", _SIZE),)
    kinds = {one.task_type for one in results.factors.values()}
    for setting, gains in results.gains.items():
        scopes = results.scopes(gains)
        paper_scope = SEGMENTATION if setting == "small_source" and kinds != {"segmentation"} else ALL
        for scope, part in scopes.items():
            for name, words in against:
                one = _correlation(results, part, None if name == "size" else name)  # type: ignore[arg-type]
                paper = _paper(setting, name) if scope == paper_scope else None
                rows.append([title(setting), scope, words, _tau(one), paper, _tau(one, per_target=True), one.count])
    page.table(
        "correlations", ["setting", "which", "gains against", "tau", "tau, paper", "tau per target", "chains"], rows,
        caption="Kendall's tau-b with 95 % bootstrap intervals over targets; for distances positive where nearer "
        "sources bring more; per target: the mean of the tau of each target's sources. Target to source: each target "
        "image to its nearest source image (Eq. 1); source to target the reverse; symmetric the mean of both; one to "
        "one the best pairs. Size: training images in the full setting. The paper prints one number per line and does "
        "not say whether it is over all chains or a mean over targets; with small sources its chains are within "
        "segmentation (Table 10), so that its number stands beside that of these.",
    )  # fmt: skip


def _correlation(results: InfluenceResults, gains: Sequence[Gain], assignment: Assignment | None) -> RankCorrelation:
    """Of gains with distances by an assignment, or with the source's size."""
    values = by_chain(gains)
    if assignment is None:
        sizes = {chain: float(results.factors[chain[1]].size) for chain in values}
        return rank_correlation(values, sizes)
    apart: Mapping[tuple[str, str], float] = chain_distances(values, results.distances, results.factors, assignment)
    return rank_correlation(values, apart, lower_is_better=True)


def _paper(setting: Setting, name: str) -> float | None:
    """The paper's tau of an assignment or of the source size in a setting."""
    if setting == "small":
        name = {"target_to_source": "distance", "size": "source size"}.get(name, name)
    return PUBLISHED.get(f"tau {name} {setting}")


def _tau(correlation: RankCorrelation, *, per_target: bool = False) -> str:
    """``0.42 (0.11, 0.63)``; a dash where it is not defined."""
    value = correlation.per_target if per_target else correlation.pooled
    interval = correlation.per_target_interval if per_target else correlation.pooled_interval
    if value is None:
        return "–"
    shown = [f"{round(number, 2) + 0.0:.2f}" for number in (value, *(interval or ()))]  # 0.00, not -0.00
    return shown[0] + (f" ({shown[1]}, {shown[2]})" if interval else "")
