"""Soft parameter sharing: a network per task, whose weights are drawn together (Duong et al. 2015)."""

from collections.abc import Mapping
from copy import deepcopy
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules.multitask import Features, MultiTaskModule
from lightning_taskonomy.modules.standardised import StandardisedModule
from lightning_taskonomy.tasks import Task

__all__ = ["BackboneCopies", "SoftSharingModule", "StandardisedSoftSharingModule"]


class BackboneCopies(Backbone):
    """A copy of a backbone for each task; its feature maps are those of all copies, task after task.

    Args:
        backbone: The backbone; its weights are those with which all copies begin.
        tasks: Names of the tasks.
    """

    def __init__(self, backbone: Backbone, tasks: list[str]) -> None:
        super().__init__(backbone.mean.flatten().tolist(), backbone.std.flatten().tolist())
        self.networks = nn.ModuleDict({name: deepcopy(backbone) for name in tasks})
        self.out_channels = list(backbone.out_channels) * len(tasks)
        self.reductions = list(backbone.reductions) * len(tasks)
        self.multiple = backbone.multiple

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images (B, 3, H, W) in [0, 1] by all copies, each of which normalises them itself."""
        return [feature_map for network in self.networks.values() for feature_map in network(image)]

    def maps_of(self, task: str, features: Features) -> Features:
        """The feature maps of a task's copy.

        Args:
            task: The task.
            features: What all copies gave.
        """
        place, count = list(self.networks).index(task), len(features) // len(self.networks)
        return features[place * count : (place + 1) * count]

    def size_options(self, size: tuple[int, int]) -> list[str]:
        """Those of the backbone."""
        network = next(iter(self.networks.values()))
        assert isinstance(network, Backbone)  # a copy of one
        return network.size_options(size)

    def distance(self) -> Tensor:
        """Σ |θ_s - θ_t|² over all pairs of tasks s, t, a scalar; θ are the copies' parameters, without their buffers.

        It is T·Σ_t |θ_t - mean θ|²: in Σ_s Σ_t |θ_s - θ_t|² = 2·T·Σ|θ_t|² - 2·|Σ θ_t|² each pair counts twice, and
        Σ|θ_t - mean θ|² = Σ|θ_t|² - |Σ θ_t|²/T. So it takes T terms, not T·(T - 1)/2.
        """
        terms = []
        for copies in zip(*(network.parameters() for network in self.networks.values()), strict=True):
            stacked = torch.stack(copies)
            apart = stacked - stacked[0]  # exact where they are near one another, and zero where they are the same
            terms.append((apart - apart.mean(0)).square().sum())
        return len(self.networks) * torch.stack(terms).sum()


class SoftSharingModule(MultiTaskModule):
    """A network per task, trained side by side; a penalty draws their corresponding weights together.

    "Low Resource Dependency Parsing: Cross-lingual Parameter Sharing in a Neural Network Parser" (Duong et al., ACL
    2015) has the penalty for two networks; here it is the sum over all pairs of tasks. All networks begin with the same
    weights: what a weight does in one network it then does in the others, which of networks that begin apart would not
    be so. To the combined loss of the tasks ``training_step`` adds strength·Σ |θ_s - θ_t|²; ``train/loss`` is without
    it, and ``train/distance`` is the sum at the end of an epoch.

    The penalty holds in every step that has a loss, for networks whose task has no label in it too. The images pass
    through all networks, so that training and inference cost as much as one network per task.

    Args:
        tasks: Names of the catalog, dotted paths, or tasks.
        backbone: The backbone that each task gets a copy of.
        strength: What the sum of the squared distances is multiplied by; at a learning rate η plain gradient descent
            shortens distances by 2·η·strength·T in each step, which must stay below 1. 0 trains the networks apart.
        **options: Those of :class:`MultiTaskModule`.

    Raises:
        InputError: As :class:`MultiTaskModule`; or a strength that is negative or not finite.
    """

    backbone: BackboneCopies

    def __init__(self, tasks: list[str | Task], backbone: Backbone, strength: float = 0.01, **options: Any) -> None:
        if not (isfinite(strength) and strength >= 0):
            raise InputError(f"strength of soft sharing is {strength}; give a number from 0 on, such as 0.01")
        super().__init__(tasks, backbone, **options)
        self.strength = strength
        self.backbone = BackboneCopies(backbone, list(self.tasks))

    def predict_task(self, task: Task, features: Features, size: tuple[int, int]) -> Tensor:
        """A task's prediction from the features of its network.

        Args:
            task: The task.
            features: Those of all networks.
            size: Height and width of the input image.
        """
        return super().predict_task(task, self.backbone.maps_of(task.name, features), size)

    def training_losses(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]] | None:
        """As ever, but the loss to descend has the penalty.

        Args:
            batch: The batch.
        """
        trained = super().training_losses(batch)
        if trained is None:
            return None
        loss, mean, task_means = trained
        return loss + self.strength * self.backbone.distance(), mean, task_means

    def on_train_epoch_end(self) -> None:
        """Logs how far the networks are apart."""
        super().on_train_epoch_end()
        self.log("train/distance", self.backbone.distance().detach())


class StandardisedSoftSharingModule(SoftSharingModule, StandardisedModule):
    """Soft parameter sharing with the losses of :class:`StandardisedModule`: their mean, of standardised labels.

    The penalty is added to the mean as it is. Its arguments are those of both.
    """
