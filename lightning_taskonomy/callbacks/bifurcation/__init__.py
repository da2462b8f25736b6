"""Where a network splits into its tasks, and what every callback that acts there shares."""

from lightning_taskonomy.callbacks.bifurcation.callback import BifurcationCallback
from lightning_taskonomy.callbacks.bifurcation.cuts import Kind, Passed
from lightning_taskonomy.callbacks.bifurcation.cutting import CuttingCallback
from lightning_taskonomy.callbacks.bifurcation.parts import Bifurcation, named
from lightning_taskonomy.callbacks.bifurcation.training import adam, loss_scale, mean_over_processes

__all__ = [
    "Bifurcation",
    "BifurcationCallback",
    "CuttingCallback",
    "Kind",
    "Passed",
    "adam",
    "loss_scale",
    "mean_over_processes",
    "named",
]
