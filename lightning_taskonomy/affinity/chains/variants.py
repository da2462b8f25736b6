"""Do the same chains show the same under another protocol: a fixed resolution, another backbone or first link?

"Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2021), section 7 and appendix B.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_taskonomy.affinity.chains.gains import Gain, by_chain, level
from lightning_taskonomy.affinity.chains.shares import best_sources

__all__ = ["Variant", "compare_variant"]


@dataclass(frozen=True)
class Variant:
    """Gains under another protocol beside the main ones, over the chains measured in both; None where there is none.

    Args:
        similar: Of the chains whose main gain is positive or negative, the percentage that is so in the variant, too,
            with the same sign (paper: 88 at a fixed resolution, 81 with ResNet-50).
        stronger: The percentage of all chains whose gain has the same sign and is larger (69 with ResNet-50; the paper
            does not say how it counts a sign that turned, which does not count here).
        turned_positive: Of the chains whose main gain is negative, the percentage that is positive in the variant (13
            with ResNet-50).
        same_best: Of the targets whose best main source is positive, the percentage with the same best source.
        count: How many chains.
    """

    similar: float | None
    stronger: float | None
    turned_positive: float | None
    same_best: float | None
    count: int


def compare_variant(main: Sequence[Gain], variant: Sequence[Gain]) -> Variant:
    """Compares the gains of the same chains under two protocols.

    Args:
        main: Gains under the main protocol, of one setting.
        variant: Gains under the other one.
    """
    first, second = by_chain(main), by_chain(variant)
    common = first.keys() & second.keys()
    pairs = [(first[chain], second[chain]) for chain in common]
    signs = [(_sign(ours), _sign(theirs)) for ours, theirs in pairs]
    best, other = (
        best_sources(gain for gain in gains if (gain.target, gain.source) in common) for gains in (main, variant)
    )
    return Variant(
        _percent([ours == theirs for ours, theirs in signs if ours]),
        _percent([ours * theirs > 0 and abs(theirs) > abs(ours) for ours, theirs in pairs]),
        _percent([theirs > 0 for ours, theirs in signs if ours < 0]),
        _percent([other[target].source == gain.source for target, gain in best.items() if _sign(gain.value) > 0]),
        len(pairs),
    )


def _sign(gain: float) -> int:
    """1, 0 or -1 for positive, insignificant and negative gains."""
    return {"VP": 1, "P": 1, "I": 0, "N": -1}[level(gain)]


def _percent(flags: Sequence[bool]) -> float | None:
    return 100 * sum(flags) / len(flags) if flags else None
