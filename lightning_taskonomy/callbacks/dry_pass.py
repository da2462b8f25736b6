"""What would end a fit later is tried before its first step: the images' sizes, a resumed optimizer."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn

from lightning_taskonomy.data.pipeline import Pipeline
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.models.backbones.sizes import dry_pass
from lightning_taskonomy.modules import GroupedModule, MultiTaskModule

__all__ = ["DryPass"]


class DryPass(Callback):
    """Shows the backbone one image of the training's and of the validation's size when a fit starts.

    A size that the backbone refuses then ends the fit before its first step, not at the end of its first epoch. It
    costs a forward pass per distinct size and leaves weights, statistics and random numbers as they are. An optimizer
    that took up the state of one of another class is refused too.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the optimizers, and at the first sample of each data set.

        Raises:
            InputError: A checkpoint of another optimizer was resumed; or data and backbone would both normalise images.
        """
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                if absent := sorted(optimizer.defaults.keys() - group.keys()):
                    raise InputError(
                        f"the checkpoint's optimizer has no {absent[0]!r} and is not {type(optimizer).__name__}; "
                        "resume with the optimizer of that run, or start from its weights by --weights"
                    )
        datasets = list(_datasets([trainer.train_dataloader, trainer.val_dataloaders]))
        if any(dataset.normalisation is not None for dataset in datasets):
            _refuse_normalising(pl_module)
        networks = pl_module.networks if isinstance(pl_module, GroupedModule) else [pl_module]
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            return
        samples = None
        for network in networks:
            if not isinstance(network, MultiTaskModule) or getattr(network.backbone, "are_cached", False):
                continue  # a cached source sees no image
            if samples is None:
                samples = [dict(dataset[0]) for dataset in datasets]
            inputs = {task.input for task in network.tasks.values()}
            shapes = {tuple(sample[key].shape[-3:]) for sample in samples for key in inputs & sample.keys()}
            for channels, height, width in sorted(shapes):
                with trainer.precision_plugin.forward_context():
                    dry_pass(network.backbone, channels, (height, width))


def _refuse_normalising(module: nn.Module) -> None:
    for part in module.modules():
        if not isinstance(part, Backbone) or type(part).forward is not Backbone.forward:
            continue  # it leaves that to those within it
        if part.mean.any() or not torch.equal(part.std, torch.ones_like(part.std)):
            raise InputError(
                f"images come normalised, and {type(part).__name__} would normalise them again; give the backbone "
                "normalises: false, or leave out the data's normalise"
            )


def _datasets(loaders: Any) -> Iterator[Pipeline]:
    """The library's data sets behind some loaders, however these are put together."""
    loaders = getattr(loaders, "loaders", loaders)  # of several sources
    if isinstance(dataset := getattr(loaders, "dataset", None), Pipeline):
        yield from getattr(dataset, "streams", [dataset])
    elif isinstance(loaders, dict | list | tuple):
        for part in loaders.values() if isinstance(loaders, dict) else loaders:
            yield from _datasets(part)
