"""LightningModules: many tasks on one backbone, and transfers from frozen sources."""

from lightning_taskonomy.modules.base import BaseModule
from lightning_taskonomy.modules.bifurcation import Bifurcated
from lightning_taskonomy.modules.grouped import GroupedModule
from lightning_taskonomy.modules.multitask import MultiTaskModule
from lightning_taskonomy.modules.transfer import TransferModule

__all__ = ["BaseModule", "Bifurcated", "GroupedModule", "MultiTaskModule", "TransferModule"]
