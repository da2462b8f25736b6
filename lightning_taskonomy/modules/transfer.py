"""A transfer: what a small readout learns of a target from frozen sources (Taskonomy, section 3.2)."""

from collections.abc import Mapping
from typing import Any, Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.models.readouts import TransferReadout
from lightning_taskonomy.models.sources import FrozenSources, representation_key
from lightning_taskonomy.modules.base import adamw
from lightning_taskonomy.modules.multitask import Features, MultiTaskModule
from lightning_taskonomy.modules.objectives import HeadFactory
from lightning_taskonomy.tasks import Task

__all__ = ["TransferModule"]


class TransferModule(MultiTaskModule):
    """The readout of one target from frozen sources; every source reads the target's images.

    Args:
        target: The target task.
        sources: Backbones, run folders, or folders of cached representations (then the batch brings them).
        head: Builds the target's kind of head on the readout's channels; None: the kind's default.
        width: Channels of the readout's two convolutions.
        optimizer: Called with the readout's parameters.
        scheduler: Called with the optimizer.
        scheduler_interval: Whether the schedule counts epochs or steps.
    """

    def __init__(
        self,
        target: str | Task,
        sources: list[str | Backbone],
        head: HeadFactory | None = None,
        width: int = 32,
        optimizer: OptimizerCallable = adamw,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        self._head, self._width = head, width
        super().__init__([target], FrozenSources(sources), None, optimizer, scheduler, scheduler_interval)

    def configure_heads(self, heads: Any) -> nn.ModuleDict:
        """The transfer readout with the target's kind of head."""
        built = {}
        for name, task in self.tasks.items():
            channels = [task.views * c for c in self.backbone.out_channels]
            head = self._head or self.objectives[name].head
            built[name] = TransferReadout(channels, list(self.backbone.reductions), task, width=self._width, head=head)
        return nn.ModuleDict(built)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # torch overloads it
        """Everything but the frozen sources, which are in their runs' folders."""
        prefix = kwargs.get("prefix", "") + "backbone."
        return {
            name: value for name, value in super().state_dict(*args, **kwargs).items() if not name.startswith(prefix)
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ever, but sources that the state lacks stay as their runs left them."""
        sources = {f"backbone.{name}": value for name, value in self.backbone.state_dict().items()}
        return super().load_state_dict({**sources, **state_dict}, strict, assign)

    @property
    def batch_keys(self) -> list[str]:
        """Input and target; the representations alone where every source is cached."""
        (task,) = self.tasks.values()
        return [task.target] if self.backbone.are_cached else super().batch_keys

    def has_input(self, task: Task, batch: Mapping[str, Tensor]) -> bool:
        """Whether the batch holds the target's input or the representations of it."""
        return representation_key(0) in batch or super().has_input(task, batch)

    def image_size(self, task: Task, batch: Mapping[str, Tensor]) -> tuple[int, int]:
        """Height and width of the input; from a dense target where only representations came."""
        if task.input in batch:
            return super().image_size(task, batch)
        if task.is_dense:
            height, width = (side * task.stride for side in batch[task.target].shape[-2:])
        else:
            height, width = (side * self.backbone.reductions[0] for side in batch[representation_key(0)].shape[-2:])
        return height, width

    def encode(self, batch: Mapping[str, Tensor], key: str) -> Features:
        """The sources' representations: from the batch where cached, else computed."""
        if representation_key(0) in batch:
            return [batch[representation_key(i)] for i in range(len(self.backbone.out_channels))]
        return super().encode(batch, key)
