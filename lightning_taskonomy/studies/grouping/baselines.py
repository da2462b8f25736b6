"""Other ways to train one network on all tasks, which a grouping is compared with (section 4.3 of the paper)."""

from dataclasses import dataclass, field

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.studies.specs import Spec
from lightning_taskonomy.tasks import imported

__all__ = ["BASELINES", "Baseline", "baseline_of", "check_baseline"]

_AGGREGATION = "lightning_taskonomy.callbacks.GradientAggregation"


@dataclass(frozen=True)
class Baseline:
    """How a network of all tasks is trained.

    Args:
        callback: Dotted path of the callback that makes it more than the mean of the losses; empty for none.
        arguments: Of the callback.
        shares: Whether it has a network for each task instead, tied to the others.
        averages: Whether it gives a mean of the tasks' gradients, which are those of a mean of losses already; then it
            is lengthened by the number of tasks, so that its steps are as long as those of the other networks.
    """

    callback: str = ""
    arguments: Spec = field(default_factory=dict)
    shares: bool = False
    averages: bool = False


BASELINES = {
    "mtl": Baseline(),
    "mgda_ub": Baseline("lightning_taskonomy.callbacks.MGDAUpperBound", averages=True),
    "gradnorm": Baseline("lightning_taskonomy.callbacks.GradNormWeighting"),
    "soft_sharing": Baseline(shares=True),
    **{
        name: Baseline(_AGGREGATION, {"aggregator": name}, averages=name not in ("pcgrad", "nash_mtl"))
        for name in ("pcgrad", "cagrad", "mgda", "nash_mtl", "imtl_g", "aligned_mtl")
    },
}
"""The baselines by name."""


def baseline_of(kind: str) -> Baseline | None:
    """How the networks of a kind are trained; None where they are no baseline.

    Args:
        kind: A name of ``BASELINES``, or the dotted path of a callback of one's own.
    """
    return BASELINES.get(kind) or (Baseline(kind) if "." in kind else None)


def check_baseline(name: str) -> None:
    """Refuses what is neither a baseline nor a class that can be imported.

    Raises:
        InputError: It is neither.
    """
    if "." in name:
        imported(name, "baseline")
    elif name not in BASELINES:
        raise InputError(f"no baseline {name!r}{hint(name, BASELINES)}, or give the dotted path of a callback")
