"""Where a multi-headed module splits into its tasks: what a callback needs of any LightningModule to act there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lightning_taskonomy.batch import is_labelled
from lightning_taskonomy.callbacks.bifurcation.unseen import unseen
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim.features import Features

__all__ = ["Bifurcation", "named"]


@dataclass(frozen=True)
class Bifurcation:
    """The parts of a multi-headed module on both sides of its split.

    Attributes:
        backbone: What all tasks share, run once per batch.
        heads: One head per task, which reads the backbone's features as they are.
        targets: Each task's key in a batch.
        loss: A task's loss, weighted as in ``training_step``, from its name, the features and the batch. It is taken
            again, beside ``training_step``: what the module logs, counts or moves meanwhile is lost.
    """

    backbone: nn.Module
    heads: Mapping[str, nn.Module]
    targets: Mapping[str, str]
    loss: Callable[[str, Features, Any], Tensor]

    @classmethod
    def of(cls, module: LightningModule, backbone: str = "backbone", heads: str = "heads") -> Self:
        """Finds the parts in a module.

        Args:
            module: Has a backbone, a ``torch.nn.ModuleDict`` of heads by task, and ``task_loss(name, predictions,
                batch)`` for ``predictions = heads[name](features)``; or, where more lies between head and loss,
                ``head_loss(name, features, batch)``.
            backbone: Path of the backbone in the module.
            heads: Path of the heads.

        Raises:
            InputError: The module lacks one of them, or the backbone has nothing to learn.
        """
        parts = dict(module.named_modules())
        for name, role, kind in ((backbone, "backbone", nn.Module), (heads, "heads", nn.ModuleDict)):
            if name not in parts or not name:
                given = [child for child, found in module.named_children() if isinstance(found, kind)]
                raise InputError(
                    f"{type(module).__name__} has no {role} {name!r}{hint(name, given)}; name it by {role}=..."
                )
        if hasattr(parts[backbone], "_orig_mod"):
            raise InputError(
                f"the backbone {backbone!r} is wrapped by torch.compile, where hooks do not act; compile it in place: "
                f"self.{backbone}.compile()"
            )
        named = parts[heads]
        if not isinstance(named, nn.ModuleDict):
            raise InputError(
                f"the heads {heads!r} of {type(module).__name__} are a {type(named).__name__} without names; keep them "
                "in a torch.nn.ModuleDict by task"
            )
        if not any(p.requires_grad for p in parts[backbone].parameters()):
            raise InputError(f"the backbone {backbone!r} has no parameter that learns; unfreeze it")
        tasks = getattr(module, "tasks", None)
        known: Mapping[str, Any] = tasks if isinstance(tasks, Mapping) else {}
        targets = {name: getattr(known.get(name), "target", name) for name in named}
        plain = _loss(module, named)

        def loss(name: str, features: Features, batch: Any) -> Tensor:
            with unseen(module, parts[backbone]):
                return plain(name, features, batch)

        return cls(parts[backbone], dict(named.items()), targets, loss)

    def has_label(self, name: str, batch: Any) -> bool:
        """Whether a batch, a mapping, has any valid label of a task; a ``Batch`` says so without a wait.

        Args:
            name: The task.
            batch: The batch.
        """
        if not isinstance(batch, Mapping) or self.targets[name] not in batch:
            return False
        label = batch[self.targets[name]]
        return is_labelled(batch, self.targets[name]) if isinstance(label, Tensor) else label is not None


def named(primary: str, auxiliary: Sequence[str]) -> list[str]:
    """The primary task and the auxiliary ones.

    Args:
        primary: The task with few labels.
        auxiliary: The tasks with many labels.

    Raises:
        InputError: No auxiliary task, a task named twice, or a single name in place of a list.
    """
    if isinstance(auxiliary, str):
        raise InputError(f"auxiliary tasks {auxiliary!r} are a string; give a list of names")
    if not auxiliary or len({primary, *auxiliary}) <= len(auxiliary):
        raise InputError(
            f"primary task {primary!r} and auxiliary tasks {list(auxiliary)}: give at least one auxiliary task, none "
            "of them twice and none of them the primary one"
        )
    return [primary, *auxiliary]


def _loss(module: LightningModule, heads: nn.ModuleDict) -> Callable[[str, Features, Any], Tensor]:
    own: Callable[[str, Features, Any], Tensor] | None = getattr(module, "head_loss", None)
    if own is not None:
        return own
    task_loss: Callable[[str, Any, Any], Tensor] | None = getattr(module, "task_loss", None)
    if task_loss is None:
        raise InputError(
            f"{type(module).__name__} has no task_loss(name, predictions, batch); define it, or head_loss(name, "
            "features, batch) where more lies between head and loss"
        )
    return lambda name, features, batch: task_loss(name, heads[name](features), batch)
