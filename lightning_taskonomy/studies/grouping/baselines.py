"""Other ways to train one network on all tasks, which a grouping is compared with (section 4.3 of the paper)."""

from dataclasses import dataclass, field

from lightning_taskonomy.studies.specs import Spec

__all__ = ["BASELINES", "Baseline"]

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
