"""Forward hooks that cut a network at its bifurcation, or put projections there, while ``training_step`` runs once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from lightning_taskonomy.callbacks.bifurcation.split import Bifurcation
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import PassState
from lightning_taskonomy.optim.features import Features, cut, entries, graft, learnable

__all__ = ["BatchKind", "Cuts", "MetaPass"]

BatchKind = Literal["meta", "auxiliary"]


class MetaPass:
    """One pass of the backbone over a meta batch.

    Args:
        args: Positional inputs.
        kwargs: Keyword inputs.
        state: Random state and buffers before the pass.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], state: PassState) -> None:
        self.args, self.kwargs, self.state = args, kwargs, state
        self.features: Features = None
        self.detached_ran = False
        self.shared: list[Tensor] = []
        self.leaves: dict[str, list[Tensor]] = {}

    def gradients(self, factor: float) -> dict[str, list[Tensor | None]]:
        """Each auxiliary task's gradient at the learnable maps, after the loss's backward.

        Args:
            factor: What to multiply by.

        Raises:
            InputError: The loss reached the features past the heads, or through no auxiliary head.
        """
        if any(leaf.grad is not None for leaf in self.shared):
            raise InputError(
                "the loss depends on the backbone's features past the heads; a term on the features, or a head that is "
                "not called as a module, cannot be part of a meta step"
            )
        gradients = {
            name: [None if leaf.grad is None else factor * leaf.grad for leaf in leaves]
            for name, leaves in self.leaves.items()
        }
        if all(gradient is None for maps in gradients.values() for gradient in maps):
            raise InputError("the loss of a meta batch depends on no auxiliary head; does it have auxiliary labels?")
        return gradients


class Cuts:
    """Acts at the bifurcation during one ``training_step``; does nothing in any other pass.

    On a meta batch the loss's backward ends at the bifurcation, on leaves that belong to one task each. On an auxiliary
    batch it goes on, through what is inserted there. The output of a head that is detached is a constant on both.

    Args:
        split: The module's parts.
        insert: From a task and the learnable maps, the maps that its head reads on an auxiliary batch.
        detached: The task whose head is detached, if any.
    """

    def __init__(
        self,
        split: Bifurcation,
        insert: Callable[[str, Sequence[Tensor]], list[Tensor]],
        detached: str | None = None,
    ) -> None:
        self._kind: BatchKind | None = None
        self._insert = insert
        self._pass: MetaPass | None = None
        self._maps: list[Tensor] = []
        self._handles = [
            split.backbone.register_forward_pre_hook(self._before_backbone, with_kwargs=True),
            split.backbone.register_forward_hook(self._after_backbone),
        ]
        for name, head in split.heads.items():
            self._handles.append(
                head.register_forward_hook(self._after_detached)
                if name == detached
                else head.register_forward_pre_hook(self._before_head(name), with_kwargs=True)
            )

    @property
    def are_active(self) -> bool:
        """Whether a ``training_step`` runs."""
        return self._kind is not None

    def begin(self, kind: BatchKind) -> None:
        """Before a ``training_step`` on such a batch."""
        self._kind, self._pass, self._maps = kind, None, []

    def end(self) -> MetaPass | None:
        """After it: what a meta batch left behind."""
        meta_pass, self._pass = self._pass, None
        self._kind, self._maps = None, []
        return meta_pass

    def remove(self) -> None:
        """Takes the hooks off."""
        self.end()
        for handle in self._handles:
            handle.remove()

    def _before_backbone(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._kind is None:
            return
        if self._maps:
            raise InputError(
                "the backbone ran twice in one training_step; what acts at the bifurcation needs tasks that share one "
                "input and one pass"
            )
        if self._kind == "meta":
            self._pass = MetaPass(args, kwargs, PassState.of(module))

    def _after_backbone(self, module: nn.Module, args: tuple[Any, ...], output: Features) -> Features | None:
        if self._kind is None:
            return None
        severed, leaves = cut(output)
        if self._pass is None:
            self._maps = [entry for entry in entries(output) if learnable(entry)]
            return None
        self._pass.features, self._pass.shared, self._maps = output, leaves, leaves
        return severed

    def _before_head(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._kind is None:
                return None
            read = {id(entry) for entry in entries((args, kwargs))}
            if not any(id(entry) in read for entry in self._maps):
                raise InputError(
                    f"the head of task {name!r} does not read the backbone's features as they are; move what lies "
                    "between into the backbone or the head"
                )
            stand_ins = dict(zip(map(id, self._maps), self._maps_of(name), strict=True))
            return graft((args, kwargs), lambda entry: stand_ins.get(id(entry), entry))

        return hook

    def _maps_of(self, name: str) -> list[Tensor]:
        if self._pass is None:
            return self._insert(name, self._maps)
        if name not in self._pass.leaves:
            self._pass.leaves[name] = [entry.detach().requires_grad_() for entry in self._maps]
        return self._pass.leaves[name]

    def _after_detached(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self._kind is None:
            return None
        if self._pass is not None:
            self._pass.detached_ran = True
        return graft(output, lambda entry: entry.detach() if isinstance(entry, Tensor) else entry)
