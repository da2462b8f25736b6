"""Where a multi-headed module splits into its tasks: what a callback needs of any LightningModule to act there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lightning_taskonomy.batch import is_labelled
from lightning_taskonomy.callbacks.bifurcation.no_trace import leaving_no_trace
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.modules.bifurcation import Bifurcated
from lightning_taskonomy.optim.features import Features

__all__ = ["Bifurcation", "primary_and_auxiliary"]


@dataclass(frozen=True)
class Bifurcation:
    """The parts of a multi-headed module on both sides of its split.

    Attributes:
        backbone: What all tasks share, run once per batch.
        heads: One head per task, which reads the backbone's features as they are.
        label_keys: Each task's key in a batch.
        losses: The losses of several tasks, weighted as in ``training_step``, by name, from their names, the features
            and the batch. They are taken again, beside ``training_step``: what the module logs, counts or moves
            meanwhile is lost.
    """

    backbone: nn.Module
    heads: Mapping[str, nn.Module]
    label_keys: Mapping[str, str]
    losses: Callable[[Sequence[str], Features, Any], dict[str, Tensor]]

    @classmethod
    def of(cls, module: LightningModule, backbone: str = "backbone", heads: str = "heads") -> Self:
        """Finds the parts in a module.

        Args:
            module: A :class:`~lightning_taskonomy.modules.Bifurcated` module, or what may take its place there.
            backbone: Path of the backbone in the module.
            heads: Path of the heads.

        Raises:
            InputError: The module lacks one of them, or the backbone has nothing to learn.
        """
        parts = dict(module.named_modules())
        for path, role, kind in ((backbone, "backbone", nn.Module), (heads, "heads", nn.ModuleDict)):
            if path not in parts or not path:
                candidates = [name for name, child in module.named_children() if isinstance(child, kind)]
                raise InputError(
                    f"{type(module).__name__} has no {role} {path!r}{hint(path, candidates)}; name it by {role}=..."
                )
        trunk, branches = parts[backbone], parts[heads]
        if hasattr(trunk, "_orig_mod"):
            raise InputError(
                f"the backbone {backbone!r} is wrapped by torch.compile, where hooks do not act; compile it in place: "
                f"self.{backbone}.compile()"
            )
        if not isinstance(branches, nn.ModuleDict):
            raise InputError(
                f"the heads {heads!r} of {type(module).__name__} are a {type(branches).__name__} without names; keep "
                "them in a torch.nn.ModuleDict by task"
            )
        if not any(p.requires_grad for p in trunk.parameters()):
            raise InputError(f"the backbone {backbone!r} has no parameter that learns; unfreeze it")
        head_loss = _head_loss(module, branches)

        def losses(names: Sequence[str], features: Features, batch: Any) -> dict[str, Tensor]:
            with leaving_no_trace(module, trunk):
                return {name: head_loss(name, features, batch) for name in names}

        return cls(
            backbone=trunk,
            heads=dict(branches.items()),
            label_keys={name: _label_key(module, name) for name in branches},
            losses=losses,
        )

    def loss(self, name: str, features: Features, batch: Any) -> Tensor:
        """One of :attr:`losses`.

        Args:
            name: The task.
            features: What the backbone gave.
            batch: The batch.
        """
        return self.losses([name], features, batch)[name]

    def has_label(self, name: str, batch: Any) -> bool:
        """Whether a batch, a mapping, has any valid label of a task; a ``Batch`` says so without a wait.

        Args:
            name: The task.
            batch: The batch.
        """
        return isinstance(batch, Mapping) and is_labelled(batch, self.label_keys[name])


def primary_and_auxiliary(primary: str, auxiliary: Sequence[str]) -> list[str]:
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


def _head_loss(module: LightningModule, heads: nn.ModuleDict) -> Callable[[str, Features, Any], Tensor]:
    """The module's ``head_loss``, or one by its ``task_loss``."""
    head_loss: Callable[[str, Features, Any], Tensor] | None = getattr(module, "head_loss", None)
    if head_loss is not None:
        return head_loss
    task_loss: Callable[[str, Any, Any], Tensor] | None = getattr(module, "task_loss", None)
    if task_loss is None:
        raise InputError(
            f"{type(module).__name__} has no task_loss(name, predictions, batch); define it, or head_loss(name, "
            "features, batch) where more lies between head and loss"
        )
    return lambda name, features, batch: task_loss(name, heads[name](features), batch)


def _label_key(module: LightningModule, name: str) -> str:
    """The module's word; else the ``target`` of its task, where it has tasks; else the task's name."""
    if isinstance(module, Bifurcated):
        return module.label_key(name)
    tasks = getattr(module, "tasks", None)
    key: str = getattr(tasks.get(name), "target", name) if isinstance(tasks, Mapping) else name
    return key
