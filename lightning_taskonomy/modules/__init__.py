"""LightningModules: many tasks on one backbone, networks side by side, transfers from frozen sources, SimCLR."""

from lightning_taskonomy.modules.base import BaseModule
from lightning_taskonomy.modules.bifurcation import Bifurcated
from lightning_taskonomy.modules.grouped import GroupedModule
from lightning_taskonomy.modules.multi_source import MultiSourceModule
from lightning_taskonomy.modules.multitask import MultiTaskModule
from lightning_taskonomy.modules.self_supervised import SimCLRModule
from lightning_taskonomy.modules.soft_sharing import SoftSharingModule, StandardisedSoftSharingModule
from lightning_taskonomy.modules.standardised import StandardisedModule
from lightning_taskonomy.modules.transfer import TransferModule

__all__ = [
    "BaseModule",
    "Bifurcated",
    "GroupedModule",
    "MultiSourceModule",
    "MultiTaskModule",
    "SimCLRModule",
    "SoftSharingModule",
    "StandardisedModule",
    "StandardisedSoftSharingModule",
    "TransferModule",
]
