"""A backbone that learns from images without labels, as the first link of a chain: SimCLR.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020; "Factors of Influence
for Transfer Learning", appendix B. The views of an image are made by the data: ``image_views`` of ``data.pretext``.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules.base import BaseModule, adamw
from lightning_taskonomy.optim import LateFlags

__all__ = ["SimCLRModule", "nt_xent"]

_VIEWS = "image_views"
_ROWS = 1024
"""Images whose similarities to all others are held at once in a validation."""


def nt_xent(views: Tensor, temperature: float, candidates: Tensor | None = None, first: int = 0) -> Tensor:
    """The normalised temperature-scaled cross-entropy (SimCLR, Eq. 1): which of all other views is of the same image?

    Computed in float32 or wider.

    Args:
        views: Projected views of n images, (2, n, d); their lengths do not matter.
        temperature: What cosines are divided by.
        candidates: Views of all N images among which the other one is looked for, (2, N, d), those of ``views`` among
            them; ``views`` where not given.
        first: Which of the N the first of the n is; the others follow it.

    Returns:
        The mean over the 2 n views.
    """
    logits, pairs = _logits(views, views if candidates is None else candidates, first, temperature)
    return functional.cross_entropy(logits, pairs)


def _logits(views: Tensor, candidates: Tensor, first: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Similarities (2 n, 2 N) of views to all others, and where the other view of the same image is (2 n,)."""
    with torch.autocast(views.device.type, enabled=False):
        ours, all_views = (
            functional.normalize(some.to(torch.promote_types(some.dtype, torch.float32)).flatten(0, 1), dim=1)
            for some in (views, candidates)
        )
        logits = ours @ all_views.T / temperature
    count, rows = candidates.shape[1], torch.arange(views.shape[1], device=views.device) + first
    itself, pairs = torch.cat([rows, rows + count]), torch.cat([rows + count, rows])
    return logits.scatter(1, itself[:, None], -torch.inf), pairs


class SimCLRModule(BaseModule):
    """A backbone that learns to tell two views of one image from those of all other images in the batch.

    What the coarsest feature map is on average goes through the projection head, a perceptron with batch normalisation,
    which is thrown away afterwards: as ``weights`` of another fit, with ``weights_of: backbone.``, its run gives the
    backbone alone. Under several processes the views of all of them are compared, with gradients; batch normalisation
    sees those of its own process unless the Trainer has ``sync_batchnorm``.

    ``val/loss`` and ``val/accuracy`` (how often the nearest view is of the same image) compare all validation images
    with one another, so that they do not depend on the size of batches; they do on the number of images.

    Args:
        backbone: Any backbone.
        hidden: Features within the projection head.
        features: Features that views are compared by.
        layers: Fully connected layers of the projection head, 2 in SimCLR and 3 in SimCLRv2.
        temperature: What cosines are divided by: 0.1 (SimCLR, Table 5).
        optimizer: Called with the parameters.
        scheduler: Called with the optimizer.
        scheduler_interval: Whether the schedule counts epochs or steps.

    Raises:
        InputError: A size or the temperature is not positive.
    """

    def __init__(
        self,
        backbone: Backbone,
        hidden: int = 2048,
        features: int = 128,
        layers: int = 2,
        temperature: float = 0.1,
        optimizer: OptimizerCallable = adamw,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__(optimizer, scheduler, scheduler_interval)
        if min(hidden, features, layers) < 1 or not temperature > 0:
            raise InputError(
                f"SimCLRModule with hidden={hidden}, features={features}, layers={layers}, temperature={temperature}: "
                "sizes are at least 1, and the temperature is above 0"
            )
        self.backbone, self.temperature = backbone, temperature
        self._coarsest = max(range(len(backbone.reductions)), key=list(backbone.reductions).__getitem__)
        self.projection = _projection([backbone.out_channels[self._coarsest], *[hidden] * (layers - 1), features])
        self._projected: list[tuple[Tensor, Tensor]] = []
        self._broken = LateFlags(["SimCLR"])

    @property
    def batch_keys(self) -> list[str]:
        """The entry of a batch that it reads."""
        return [_VIEWS]

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Projected views (2, B, features)."""
        views = batch[_VIEWS].transpose(0, 1)
        pooled = self.backbone(views.flatten(0, 1))[self._coarsest].mean((2, 3))
        projected: Tensor = self.projection(pooled)
        return projected.reshape(*views.shape[:2], -1)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of the images of this process among those of all.

        Raises:
            InputError: There is but one image.
        """
        views, world = self(batch), self.trainer.world_size
        count, candidates = views.shape[1], views
        if world > 1:
            candidates = cast(Tensor, self.all_gather(views, sync_grads=True)).movedim(0, 1).flatten(1, 2)
        if candidates.shape[1] < 2:
            raise InputError("SimCLR compares images of one batch with each other, and this one has 1; give it more")
        loss = nt_xent(views, self.temperature, candidates, count * self.global_rank)
        mean = loss.detach() if world == 1 else cast(Tensor, self.all_gather(loss.detach())).mean()
        self.log_loss(mean, count)
        self._broken.add((~mean.isfinite())[None], self.global_step)
        return loss

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Keeps the projected views."""
        self._projected.append((batch["id"], self(batch)))

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/loss`` and ``val/accuracy``."""
        self.log_dict({f"val/{name}": value for name, value in self._compared().items()})

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Keeps the projected views."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Logs ``test/loss`` and ``test/accuracy``."""
        self.log_dict({f"test/{name}": value for name, value in self._compared().items()})

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Any:
        """Refused.

        Raises:
            InputError: It has no task.
        """
        raise InputError("SimCLRModule has no task to predict; start a module of a task from its backbone")

    def _compared(self) -> dict[str, Tensor]:
        """Loss and accuracy over all views that were kept, which are forgotten."""
        ids, views = torch.cat([one for one, _ in self._projected]), torch.cat([two for _, two in self._projected], 1)
        self._projected = []
        if self.trainer.world_size > 1:
            ids = cast(Tensor, self.all_gather(ids)).flatten()
            views = cast(Tensor, self.all_gather(views)).movedim(0, 1).flatten(1, 2)
        views = views[:, _first_of_each(ids)]  # a sampler may have repeated some
        count = views.shape[1]
        if count < 2:
            raise InputError(
                "SimCLR compares images with each other, and there is 1 to validate or test on; give more, as by a "
                "larger validation_share"
            )
        loss = accuracy = views.new_zeros((), dtype=torch.float64)
        for first in range(0, count, _ROWS):
            logits, pairs = _logits(views[:, first : first + _ROWS], views, first, self.temperature)
            loss = loss + functional.cross_entropy(logits, pairs, reduction="sum")
            accuracy = accuracy + (logits.argmax(1) == pairs).sum()
        return {"loss": (loss / (2 * count)).float(), "accuracy": (accuracy / (2 * count)).float()}

    def on_train_epoch_end(self) -> None:
        """Waits for what the device has to say of the losses."""
        self._refuse()

    def on_train_end(self) -> None:
        """Waits for what the device has to say of the losses."""
        self._refuse()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """No checkpoint is written of a network that a loss has broken."""
        self._refuse()

    def _refuse(self) -> None:
        if broken := self._broken.all():
            raise InputError(
                f"the loss of SimCLR is NaN or infinite at step {min(broken.values())}; the last checkpoint is kept; "
                "lower the learning rate or clip gradients"
            )


def _projection(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def _first_of_each(ids: Tensor) -> Tensor:
    """The place of the first of each number, in the order of the numbers."""
    values, inverse = ids.unique(return_inverse=True)
    places = torch.full((len(values),), len(ids), device=ids.device)
    return places.scatter_reduce(0, inverse, torch.arange(len(ids), device=ids.device), "amin")
