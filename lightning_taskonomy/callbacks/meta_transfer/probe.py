"""Does a projected auxiliary gradient point where the primary task on unseen images wants to go?"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_taskonomy.callbacks.bifurcation import Bifurcation, loss_scale, mean_over_processes
from lightning_taskonomy.callbacks.meta_transfer.held_out import backbone_inputs
from lightning_taskonomy.optim import any_process
from lightning_taskonomy.optim.features import cut, entries, learnable
from lightning_taskonomy.optim.state import spare_buffers
from lightning_taskonomy.optim.tangents import Overlap

__all__ = ["Probe"]


class Probe:
    """Compares gradients on the first batch of the validation loader, without a trace.

    Args:
        primary: The primary task.
        auxiliary: The auxiliary tasks.
    """

    def __init__(self, primary: str, auxiliary: Sequence[str]) -> None:
        self.primary, self.auxiliary = primary, list(auxiliary)
        self._batch: Any = None

    def forget(self) -> None:
        """Lets the batch go."""
        self._batch = None

    def load(self, trainer: Trainer, module: LightningModule) -> bool:
        """Loads the batch, the first time; the loader's random numbers are as before.

        Args:
            trainer: The trainer; each of its processes takes the first batch of its share.
            module: What moves the batch to the device.

        Returns:
            Whether there is one, on all processes.
        """
        if self._batch is None:
            loader: Any = trainer.val_dataloaders
            while isinstance(loader, Mapping | list | tuple):  # of several loaders the first
                loader = next(iter(loader.values() if isinstance(loader, Mapping) else loader), None)
            if loader is not None:
                self._batch = _first_batch(loader, trainer, module)
        return not any_process([self._batch is None])[0]

    def cosines(
        self,
        trainer: Trainer,
        module: LightningModule,
        split: Bifurcation,
        projections: Mapping[str, Sequence[nn.Module]],
    ) -> dict[str, Tensor]:
        """Cosines with the primary gradient in the backbone's parameters, of the mean loss over all processes.

        Statistics are those of training. Buffers, random numbers, metrics and gradients are as before.

        Args:
            trainer: The trainer.
            module: The module, in training mode.
            split: Its parts.
            projections: Per auxiliary task one φ for each learnable map.

        Returns:
            Scalars ``<task>/plain_cosine`` and ``<task>/projected_cosine`` of the auxiliary tasks that have labels in
            the batch, the same on all processes; none where the primary task has no labels.
        """
        batch, backbone = self._batch, split.backbone
        lacking = any_process([not self._has(split, name) for name in (self.primary, *self.auxiliary)])
        names = [name for name, lacks in zip(self.auxiliary, lacking[1:], strict=True) if not lacks]
        if lacking[0] or not names or not projections:
            return {}
        scale = loss_scale(trainer) or 1.0
        parameters = [p for p in backbone.parameters() if p.requires_grad]
        with (
            isolate_rng(torch.cuda.is_initialized()),
            spare_buffers(backbone),
            torch.enable_grad(),
            trainer.precision_plugin.forward_context(),
        ):
            args, kwargs = backbone_inputs(module, backbone, batch, 0)
            features = backbone(*args, **kwargs)
            severed, leaves = cut(features)
            outputs = [entry for entry in entries(features) if learnable(entry)]
            losses = split.losses([self.primary, *names], severed, batch)
            gradients = {
                name: torch.autograd.grad(loss * scale, leaves, retain_graph=True, materialize_grads=True)
                for name, loss in losses.items()
            }

            def pulled(at_maps: Sequence[Tensor]) -> list[Tensor]:
                of_process = torch.autograd.grad(
                    outputs, parameters, list(at_maps), retain_graph=True, materialize_grads=True
                )
                return mean_over_processes(trainer, list(of_process))

            primary, cosines = pulled(gradients[self.primary]), {}
            for name in names:
                with torch.no_grad():
                    projected = [phi(g) for phi, g in zip(projections[name], gradients[name], strict=True)]
                for word, at_maps in (("plain", gradients[name]), ("projected", projected)):
                    cosines[f"{name}/{word}_cosine"] = Overlap.of(primary, pulled(at_maps)).cosine()
        return cosines

    def _has(self, split: Bifurcation, name: str) -> bool:
        return not isinstance(self._batch, Mapping) or split.has_label(name, self._batch)


def _first_batch(loader: Any, trainer: Trainer, module: LightningModule) -> Any:
    """The first batch, on the device as a batch of training is; None where there is none."""
    parts: list[Any] = [loader, loader.sampler] if isinstance(loader, DataLoader) else []
    generators = [part.generator for part in parts if isinstance(getattr(part, "generator", None), torch.Generator)]
    states = [generator.get_state() for generator in generators]
    with isolate_rng(torch.cuda.is_initialized()):
        try:
            batch = next(iter(loader), None)
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
        if batch is None:
            return None
        batch = module.on_before_batch_transfer(trainer.precision_plugin.convert_input(batch), 0)
        return trainer.strategy.batch_to_device(batch)
