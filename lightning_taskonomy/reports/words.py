"""Results in words."""

from collections.abc import Mapping, Sequence

from lightning_taskonomy.reports.figures.style import readable
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution

__all__ = ["WEIGHTINGS", "join", "label_share", "labels_line", "percent", "policy_line", "readable", "whole"]

WEIGHTINGS = {
    "mtl": "MTL", "kendall": "Kendall et al.", "du": "Du et al.", "lin": "Lin et al.", "pcgrad": "PCGrad",
    "cagrad": "CAGrad", "mgda": "MGDA", "mgda_ub": "MGDA-UB (Sener et al.)", "gradnorm": "GradNorm",
    "nash_mtl": "Nash-MTL", "imtl_g": "IMTL-G", "aligned_mtl": "Aligned-MTL", "soft_sharing": "soft sharing",
}  # fmt: skip
"""Ways to train one network on several tasks, as the literature calls them."""


def join(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``; ``none`` if empty."""
    if len(names) < 2:
        return "".join(names) or "none"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def percent(share: float) -> str:
    """A share of 0 to 1 as a percentage."""
    return f"{100 * share:.0f} %"


def whole(number: float) -> float | int:
    """A whole number as one."""
    return number if number % 1 else int(number)


def policy_line(taxonomy: TaxonomySolution) -> str:
    """Which targets are solved from which sources, in one sentence."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for transfer in taxonomy.transfers:
        groups.setdefault(transfer.sources, []).append(readable(transfer.target))
    if not groups:
        return "Nothing is left to transfer."
    parts = [f"{join(targets)} from {' + '.join(map(readable, sources))}" for sources, targets in groups.items()]
    return f"Solve {len(taxonomy.transfers)} by transfer: {'; '.join(parts)}."


def label_share(taxonomy: TaxonomySolution, labels: Mapping[str, float]) -> float | None:
    """Labels that a taxonomy uses, as a share of those of training every target fully.

    Args:
        taxonomy: What is trained and transferred.
        labels: ``labels_per_source`` and ``labels_per_transfer``.

    Returns:
        The share, or None where the numbers of labels are not known.
    """
    if not labels.get("labels_per_source") or not taxonomy.policy:
        return None
    full, small = labels["labels_per_source"], labels.get("labels_per_transfer", 0)
    return (len(taxonomy.sources) * full + len(taxonomy.transfers) * small) / (len(taxonomy.policy) * full)


def labels_line(taxonomy: TaxonomySolution, share: float) -> str:
    """What a taxonomy costs in labels, in one sentence."""
    return (
        f"{len(taxonomy.sources)} tasks trained fully and {len(taxonomy.transfers)} transfers use {percent(share)} of "
        f"the labels that training all {len(taxonomy.policy)} targets fully takes"
        + (f", {percent(1 - share)} fewer." if share < 1 else ".")
    )
