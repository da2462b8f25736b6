"""Where a network splits into its tasks, and what every callback that acts there shares."""

from lightning_taskonomy.callbacks.bifurcation.base import BifurcationCallback
from lightning_taskonomy.callbacks.bifurcation.cutting_callback import CuttingCallback
from lightning_taskonomy.callbacks.bifurcation.hooks import BatchKind, MetaPass
from lightning_taskonomy.callbacks.bifurcation.losses import StepLosses, hook_losses
from lightning_taskonomy.callbacks.bifurcation.split import Bifurcation, primary_and_auxiliary
from lightning_taskonomy.callbacks.bifurcation.trainer import adam, loss_scale, mean_over_processes

__all__ = [
    "BatchKind",
    "Bifurcation",
    "BifurcationCallback",
    "CuttingCallback",
    "MetaPass",
    "StepLosses",
    "adam",
    "hook_losses",
    "loss_scale",
    "mean_over_processes",
    "primary_and_auxiliary",
]
