"""Whether the same chains show the same under another protocol: appendix B of the paper."""

from lightning_taskonomy.affinity.chains import PUBLISHED, Variant, compare_variant
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.influence.files import SEGMENTATION, InfluenceResults
from lightning_taskonomy.reports.influence.words import title

__all__ = ["other_protocol"]

_PAPER = {
    "fixed resolution": ("similar fixed resolution",),
    "ResNet-50": ("similar ResNet-50", "stronger ResNet-50", "negative turned positive ResNet-50"),
}
"""What the paper prints, by protocol, in the order of the table's columns."""


def other_protocol(page: Page, results: InfluenceResults, variant: InfluenceResults, name: str) -> None:
    """A table of the chains that are measured under both protocols.

    Args:
        page: The page.
        results: The study.
        variant: The same chains under another protocol.
        name: What that study is called.
    """
    rows: list[list[Cell]] = []
    for setting in (setting for setting in results.gains if setting in variant.gains):
        scopes = results.scopes(results.gains[setting])
        for scope, gains in scopes.items():
            one = compare_variant(gains, variant.gains[setting])
            if one.count:
                rows.append([title(setting), scope, *_percents(one), one.count])
    if not rows:
        page.text(f"Nothing to compare: no chain is measured here and in {name}; name tasks alike in both recipes.")
        return
    for protocol, names in _PAPER.items() if rows[0][0] == title("small") else ():
        numbers: list[Cell] = [round(PUBLISHED[one]) for one in names]
        rows.append([title("small"), f"paper, {SEGMENTATION}, {protocol}", *numbers, *[None] * (5 - len(numbers))])
    page.table(
        "other-protocol",
        ["setting", "chains", "same sign, %", "stronger, %", "turned positive, %", "same best, %", "count"],
        rows,
        caption=f"Chains measured in this study and in {name}, in whole percent. Same sign: of those above 2 or below "
        "-2 % here, those that are so there with the same sign. Stronger: of all, those of the same sign with a larger "
        "gain or loss there. Turned positive: of those below -2 % here, those above 2 % there. Same best: of the "
        "targets whose best source is above 2 % here, those with the same best source; in the paper all but one at a "
        "fixed resolution. The paper's main study is with HRNetV2 at resolutions for each data set; with a "
        "self-supervised first link it prints no such number.",
    )  # fmt: skip


def _percents(one: Variant) -> list[Cell]:
    shares = (one.similar, one.stronger, one.turned_positive, one.same_best)
    return [None if share is None else round(share) for share in shares]
