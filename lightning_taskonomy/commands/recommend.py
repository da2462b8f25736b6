"""``recommend``: which source to take for a target, how sure that is, and which chain to measure next."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_taskonomy.affinity.chains import (
    MARK,
    ChainsTable,
    Distances,
    Factors,
    Recommendation,
    Setting,
    by_chain,
    by_inclusion,
    by_rule,
    chain_distances,
    nearest,
    read_factors,
    relative_transfer_gains,
)
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import check_writable
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports.features import ImageFeatures, read_features
from lightning_taskonomy.results import Results

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lightning_taskonomy.studies.specs import DataSpec

__all__ = ["recommend"]


def recommend(
    folder: Path,
    target: str,
    sources: list[str] | None = None,
    data: DataSpec | None = None,
    task_type: str | None = None,
    domain: str | None = None,
    setting: Setting = "small",
    by: str = "rule",
    json: bool = False,
    out: Path | None = None,
    seed: int = 0,
) -> Results:
    """Recommend a source for a target: by its images alone, or by a rule fitted to the chains that were measured.

    Args:
        folder: The folder of a study of chains, with its tables and the features of its data sets.
        target: A target of the study, or with data the name of a new one.
        sources: The candidates; where not given all sources of the study that were not trained on the target (with
            small sources none of several).
        data: The images of a new target: a data module. Nothing is trained.
        task_type: The task type of a new target, such as segmentation; needed for the rule.
        domain: The image domain of a new target, such as driving; needed for the rule.
        setting: Which gains the rule is fitted to: small, full or small_source.
        by: The rule, which needs measured chains, or inclusion: how near the target's images are to those of a source.
        json: Print one JSON object instead of a table.
        out: Also write the candidates there, as CSV.
        seed: Of the bootstrap.
    """
    factors, features = read_factors(folder), _Features(folder)
    settings = Manifest.read(folder).settings
    if by not in ("rule", "inclusion"):
        raise InputError(f"by is {by!r}; allowed: 'rule' and 'inclusion'")
    if data is not None:
        if target in factors:
            raise InputError(f"target {target!r} is in {folder} already; give the new one another name")
        if by == "rule" and (task_type is None or domain is None):
            raise InputError("a new target needs its task_type and domain for the rule; give both, or --by inclusion")
        images = features.measure(target, data)
        factors = {**factors, target: Factors(task_type or "unknown", (domain or "unknown",), (target,), images)}
    if target not in factors:
        raise InputError(f"target {target!r} is not in {folder}{hint(target, factors)}; for a new one give its data")
    goal, trained = factors[target], _trained(settings, factors)
    known = [name for name in trained if name != target and not factors[name].was_trained_on(goal)]
    for name in sources or ():
        if name not in known:
            what = "was trained on the target itself" if name in trained else f"is not a source of {folder}"
            raise InputError(f"sources names {name!r}, which {what}{hint(name, known)}")
    if not known:
        raise InputError(f"{folder} has no source for {target!r} but what was trained on it; take another target")
    candidates = sources or known
    if sources is None and by == "rule" and setting == "small_source":
        candidates = [name for name in known if not factors[name].multi_source]  # the study trains none of these
    check_writable(out)
    ours = features.of(goal)
    near = {name: nearest(ours, features.of(factors[name])).target_to_source for name in candidates}
    if by == "inclusion":
        answer = by_inclusion(near, seed=seed)
    else:
        measured = relative_transfer_gains(ChainsTable.read(folder).comparable()[0], setting)
        gains = by_chain(measured)
        errors = {(one.target, one.source): error for one in measured if (error := one.standard_error) is not None}
        distances = chain_distances(gains, Distances.read(folder), factors)
        distances |= {(target, name): float(values.mean()) for name, values in near.items()}
        answer = by_rule(target, candidates, gains, factors, distances, deviations=errors, seed=seed)
    answer = answer.marked([name for name in candidates if factors[name].saw_images_of(goal)])
    if out is not None:
        answer.write(out)
    print(dumps(_plain(answer), allow_nan=False) if json else _table(answer, target))
    first = answer.candidates[0]
    rows = [
        [c.source, c.distance, c.best, c.gain, int(c.measured), c.teaches, int(c.saw_images)] for c in answer.candidates
    ]
    columns = ["source", "distance", "best", "gain", "measured", "teaches", "saw_images"]
    return Results(
        {"best": first.best}, {"recommendation": (columns, rows)}, artifacts={"recommendation": _plain(answer)}
    )


class _Features:
    """The features of the images of a study, by collection, and the network that they are of."""

    def __init__(self, study: Path) -> None:
        described = ImageFeatures.read(study)
        if described is None:
            raise InputError(f"{study} has no features.json; run its stages 'features' and 'analysis' first")
        self.described = described
        self.measured: dict[str, NDArray[np.floating]] = {}

    def of(self, factors: Factors) -> NDArray[np.floating]:
        """The features of the images of a source or target, of several collections together."""
        parts = []
        for name in factors.images:
            if name not in self.measured:
                files = self.described.files
                if name not in files:
                    raise InputError(f"the features of {name!r} were not measured{hint(name, files)}")
                self.measured[name] = read_features(files[name])
            parts.append(self.measured[name])
        return np.concatenate(parts)

    def measure(self, name: str, data: DataSpec) -> int:
        """Takes the features of the training images of new data, and returns how many training images there are.

        Where the study normalised its data sets, the new one is normalised by its own colours too (section 4.1).
        """
        from lightning_taskonomy.data.normalisation import measure_colours
        from lightning_taskonomy.models.sources import load_backbone
        from lightning_taskonomy.studies.influence.features import pooled

        module: Any = data
        if self.described.normalised and module.normalise is None:
            colours = measure_colours(module)
            module.normalise = {"mean": list(colours.mean), "deviation": list(colours.deviation)}
        self.measured[name], _ = pooled(load_backbone(self.described.encoder), module, self.described.images)
        return len(module.dataset(module.fit_split, keys=["image"]))


def _trained(settings: Mapping[str, Any], factors: Mapping[str, Factors]) -> list[str]:
    """The sources that a study trains: those that its settings name, or all tasks; and models of several sources."""
    named = settings.get("sources")
    return [name for name, one in factors.items() if named is None or name in named or one.multi_source]


def _plain(answer: Recommendation) -> dict[str, Any]:
    """As JSON has it."""
    following, rule = answer.measure_next, answer.rule
    return {
        "candidates": [asdict(candidate) for candidate in answer.candidates],
        "measure_next": None if following is None else following.source,
        "regret": answer.regret,
        "rule": None if rule is None else {"intercept": rule.intercept, **rule.weights, "error": rule.error,
                                           "error_of_mean": rule.error_of_mean},
    }  # fmt: skip


def _table(answer: Recommendation, target: str) -> str:
    """As a person reads it."""
    width = max(len(candidate.source) for candidate in answer.candidates)
    lines = [f"sources for {target}, the best first:"]
    for one in answer.candidates:
        line = f"  {one.source:{width}}  distance {one.distance:.3f}  best with probability {one.best:.2f}"
        if one.gain is not None:
            line += f"  gain {one.gain:+.1f} % {'(measured) ' if one.measured else ''}"
        if one.interval is not None:
            line += f"({one.interval[0]:+.1f} to {one.interval[1]:+.1f})"
        lines.append(line.rstrip() + (f" {MARK}" if one.saw_images else ""))
    if any(one.saw_images for one in answer.candidates):
        lines.append(f"{MARK}: saw the target's images for another task")
    if answer.rule is None:
        lines.append("by distance alone: probabilities are those of being the nearest, not of helping most")
    else:
        lines.append(
            f"the rule misses gains that it has not seen by {answer.rule.error:.1f} points (their mean: "
            f"{answer.rule.error_of_mean:.1f}); the first is {answer.regret:.1f} points short of the best on average"
        )
    if any(candidate.measured and candidate.interval is None for candidate in answer.candidates):
        lines.append("gains measured at one seed count as exact in the probabilities, which they are not")
    following = answer.measure_next
    if following is not None:
        teaches = "" if following.teaches is None else f", which is worth {following.teaches:.2f} points"
        lines.append(f"measure next: {following.source}{teaches}")
    return "\n".join(lines)
