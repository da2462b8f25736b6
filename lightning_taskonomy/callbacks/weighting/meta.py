"""Task weights by a meta-gradient: Lin et al. 2019, "Adaptive Auxiliary Task Weighting for Reinforcement Learning"."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lightning_taskonomy.callbacks.meta_transfer import TaskMetaTransfer
from lightning_taskonomy.callbacks.meta_transfer.learner import Learner
from lightning_taskonomy.errors import InputError

__all__ = ["MetaWeighting"]


class _OneWeight(Learner):
    """Scalars of all maps of a task that start as one, get one gradient, and so stay one."""

    def step(self, gradients: Mapping[nn.Parameter, Tensor], epoch: int) -> None:
        """One step with each task's gradient summed over its maps."""
        shared: dict[nn.Parameter, Tensor] = {}
        for made in self.projections.values():
            weights = [weight for projection in made for weight in projection.parameters()]
            if of_task := [gradients[weight] for weight in weights if weight in gradients]:
                shared |= {weight: sum(of_task[1:], of_task[0]) for weight in weights}
        super().step(shared, epoch)


class MetaWeighting(TaskMetaTransfer):
    """One learnt scalar weight per auxiliary task: :class:`TaskMetaTransfer` with ``projection="scalar"``.

    Where the backbone returns several maps, a task's weight is the same in all of them.

    Args:
        primary: The task with few labels, by the name of its head.
        auxiliary: The tasks with many labels; the module has no other heads.
        **options: Those of :class:`TaskMetaTransfer` but ``projection``, ``rank`` and ``normalize``.

    Raises:
        InputError: As :class:`TaskMetaTransfer`.
    """

    learner_class = _OneWeight

    def __init__(self, primary: str, auxiliary: list[str], **options: Any) -> None:
        for name in options.keys() & {"projection", "rank"}:
            raise InputError(
                f"MetaWeighting has no {name}: its projection is one scalar per task; see TaskMetaTransfer"
            )
        if options.get("normalize"):
            raise InputError(
                "MetaWeighting with normalize: a weight that is normalized is no more than a sign; leave out normalize"
            )
        super().__init__(primary, auxiliary, projection="scalar", rank=1, **options)
