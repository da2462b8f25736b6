"""What a module offers so that callbacks can act where its backbone ends and its heads begin."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lightning_taskonomy.optim.features import Features

__all__ = ["Bifurcated", "LossHook"]

LossHook = Callable[[str, Tensor], Tensor]
"""From a task's name and its loss, the loss that takes its place."""


@runtime_checkable
class Bifurcated(Protocol):
    """A LightningModule that can be cut at its bifurcation, where its backbone ends and its heads begin.

    Task Meta-Transfer and the weightings of tasks ask these methods of a module; :class:`MultiTaskModule` has them. Two
    parts are found by their paths (``backbone`` and ``heads``, unless a callback names others): a backbone, which
    ``training_step`` runs once per batch, and a ``torch.nn.ModuleDict`` of heads by task, each of which reads the
    backbone's features as they are. The loss of ``training_step`` is the sum of the tasks' weighted losses.

    A module without these methods serves too, if it has ``task_loss(name, predictions, batch)`` for ``predictions =
    heads[name](features)``, or ``head_loss`` alone: callbacks then replace its ``log`` and ``task_loss`` as they act.
    """

    def head_loss(self, name: str, features: Features, batch: Any) -> Tensor:
        """A task's loss, weighted as in ``training_step``, from the features alone.

        It is taken again, beside ``training_step``, and so logs nothing. Buffers, torchmetrics and attributes that it
        changes outside the backbone are put back by the callback.

        Args:
            name: The task.
            features: What the backbone returns: a map (B, C, ...), or lists, tuples and mappings of maps.
            batch: The batch, with the task's labels.

        Returns:
            A scalar.
        """

    def label_key(self, name: str) -> str:
        """The key of a batch under which a task's labels are.

        Args:
            name: The task.
        """

    def register_loss_hook(self, hook: LossHook) -> RemovableHandle:
        """Lets a hook replace each task's loss in ``training_step``, before the losses are weighted and summed.

        Args:
            hook: Called with the task's name and its loss.

        Returns:
            Its ``remove()`` takes the hook off.
        """
