"""The exact meta-gradient of Task Meta-Transfer (paper section 3.3, Eqs. 1-4 and 6) by one forward-mode product.

With features o = f(Θ), auxiliary gradients g_t at the bifurcation, G = Σ φ_t(g_t), the virtual step of Eq. 1 is
Θ⁺ = Θ - α·JᵀG, J = ∂o/∂Θ. As g_t does not depend on φ, with v = ∇L_P(Θ⁺)

    ∂L_P/∂G = -α·J·v,

so that one tangent pass at Θ replaces the second derivative. Every step checks itself by ⟨J·v, G⟩ = ⟨v, JᵀG⟩.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim.features import Features, cut, entries, learnable
from lightning_taskonomy.optim.state import PassState, spare_buffers
from lightning_taskonomy.optim.sums import Gradients, GradientSum, Reduce
from lightning_taskonomy.optim.tangents import Method, Overlap, Product, Recorded, product, rerun

__all__ = ["Branch", "MetaBatch", "MetaGradient", "MetaOptions", "MetaStep", "meta_gradient"]


@dataclass(frozen=True)
class Branch:
    """What follows the bifurcation for one task.

    Attributes:
        loss: The task's loss from the features, through the task's head.
        module: The head. Its parameters get gradients and its running statistics move once; None where neither is
            wanted.
    """

    loss: Callable[[Features], Tensor]
    module: nn.Module | None = None

    def parameters(self) -> list[nn.Parameter]:
        """The head's parameters that learn."""
        return [] if self.module is None else [p for p in self.module.parameters() if p.requires_grad]


@dataclass(frozen=True)
class MetaBatch:
    """A batch, or a micro-batch, with parallel labels.

    Attributes:
        args: Positional inputs of the backbone.
        auxiliary: A branch per auxiliary task.
        primary: The primary task's branch.
        kwargs: Keyword inputs of the backbone.
    """

    args: tuple[Any, ...]
    auxiliary: Mapping[str, Branch]
    primary: Branch
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MetaOptions:
    """How a meta-gradient is taken.

    Attributes:
        method: ``auto`` tries the forward mode and falls back to the double VJP; the others force one way;
            ``finite_difference`` is not exact.
        approximate: Takes v at Θ instead of Θ⁺, the limit of small α, without the virtual pass: not exact.
        compare: With ``approximate``: the exact meta-gradient too, for their cosine.
        primary_at: Whether the network's primary gradient is taken at Θ⁺ (Eq. 2) or at Θ.
        combine: Whether projected gradients of several auxiliary tasks are summed (Eq. 6) or averaged (section 4.4).
        loss_scale: Factor on all losses against underflow in fp16; taken out of all results.
        wait: With ``auto``: whether each step's check decides at once if its product is taken, for which it waits
            for the device; else ``consistent`` of the result is the caller's to read.
        inspect: With ``auto``: one more pass, which finds an operation whose forward mode is silently wrong even where
            its share is too small for the consistency check; for the first step of many.

    Raises:
        InputError: Unknown ``method``, ``primary_at`` or ``combine``.
    """

    method: Literal["auto", "forward", "double_vjp", "finite_difference"] = "auto"
    approximate: bool = False
    compare: bool = False
    primary_at: Literal["virtual", "current"] = "virtual"
    combine: Literal["sum", "mean"] = "sum"
    loss_scale: float = 1.0
    wait: bool = True
    inspect: bool = False

    def __post_init__(self) -> None:
        """Refuses words that are not allowed."""
        for entry in fields(self):
            value, allowed = getattr(self, entry.name), get_args(entry.type)  # the words of a Literal
            if allowed and value not in allowed:
                raise InputError(f"a meta-gradient has no {entry.name} {value!r}{hint(str(value), allowed)}")


@dataclass(frozen=True)
class MetaGradient:
    """The gradients of one meta step.

    Attributes:
        projections: ∂L_P/∂φ per parameter of the projections (Eq. 4).
        network: The primary gradient of backbone and primary head; parameters that play no part are missing.
        auxiliary: Gradients of the auxiliary heads whose branch names its module.
        primary_loss: L_P at Θ⁺; at Θ where the network's gradient is taken there.
        auxiliary_losses: L_A at Θ by task.
        method: What gave J·v; hand it to the next step's options, so that what failed is not tried again.
        reason: Why the first choice was not taken, else empty.
        consistency: |⟨J·v, G⟩ - ⟨v, JᵀG⟩| over the product of norms, a scalar: rounding, if all is well.
        consistent: Whether that is rounding, a boolean scalar.
        finite: Whether all gradients are finite, a boolean scalar; if not, a step in fp16 is to be left out.
        alignment: Cosine between projected auxiliary and primary gradient in the backbone's parameters, a scalar; None
            where the former was not needed.
        exactness: Cosine to the exact meta-gradient, a scalar, where ``compare`` asked for it.
    """

    projections: Gradients
    network: Gradients
    auxiliary: Gradients
    primary_loss: Tensor
    auxiliary_losses: dict[str, Tensor]
    method: Method
    reason: str
    consistency: Tensor
    consistent: Tensor
    finite: Tensor
    alignment: Tensor | None
    exactness: Tensor | None


def meta_gradient(
    backbone: nn.Module,
    batches: Sequence[MetaBatch],
    projections: Mapping[str, Sequence[nn.Module]],
    alpha: float,
    options: MetaOptions | None = None,
    reduce: Reduce = list,
) -> MetaGradient:
    """One meta step's gradients; nothing but running statistics changes.

    Args:
        backbone: The network up to the bifurcation, Θ.
        batches: Micro-batches of equal weight; the result is that of their whole, whose loss is the mean of theirs.
        projections: Per auxiliary task one φ for each learnable feature map.
        alpha: Length α of the virtual step.
        options: How; None: exactly.
        reduce: The mean over processes of a list of tensors, the same list on each.

    Raises:
        InputError: No batch, or one that the step cannot take; see :class:`MetaStep`.
    """
    step = MetaStep(backbone, projections, alpha, options)
    for batch in batches:
        step.add(batch)
    return step.finish(reduce)


class MetaStep:
    """A meta step whose micro-batches come one at a time.

    Args:
        backbone: The network up to the bifurcation, Θ.
        projections: Per auxiliary task one φ for each learnable feature map.
        alpha: Length α of the virtual step.
        options: How; None: exactly.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projections: Mapping[str, Sequence[nn.Module]],
        alpha: float,
        options: MetaOptions | None = None,
    ) -> None:
        self.backbone, self.projections, self.alpha = backbone, projections, alpha
        self.options = options or MetaOptions()
        self._parameters = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
        self._recorded: list[Recorded] = []
        self._primaries: list[Branch] = []
        self._descent, self._network, self._auxiliary = GradientSum(), GradientSum(), GradientSum()
        self._primary_losses: list[Tensor] = []
        self._auxiliary_losses: dict[str, list[Tensor]] = {}
        self._at_theta = self.options.approximate or self.options.primary_at == "current"
        self._virtual = not self.options.approximate or self.options.compare

    def add(
        self,
        batch: MetaBatch,
        *,
        features: Features | None = None,
        state: PassState | None = None,
        gradients: Mapping[str, Sequence[Tensor | None]] | None = None,
    ) -> None:
        """The pass at Θ over one micro-batch; its tape is freed again.

        Args:
            batch: The micro-batch.
            features: The backbone's output on it, with its tape, if that pass was made already.
            state: The state before that pass; needed with ``features``.
            gradients: Per auxiliary task its loss's gradient in each learnable map, times the loss scale; the branches
                in ``batch.auxiliary`` are then not run.

        Raises:
            InputError: Features without a gradient, or projections that do not fit the tasks and maps.
        """
        if features is None:
            state = PassState.of(self.backbone)
            features = self.backbone(*batch.args, **batch.kwargs)
        if state is None:
            raise InputError(
                "features of an earlier pass came without its state; take PassState.of(backbone) before it"
            )
        leaves = entries(features)
        positions = [index for index, entry in enumerate(leaves) if learnable(entry)]
        outputs = [leaves[index] for index in positions]
        if gradients is None:
            gradients = {
                name: self._branch(branch, features, self._auxiliary, self._auxiliary_losses.setdefault(name, []))
                for name, branch in batch.auxiliary.items()
            }
        projected = self._project(gradients, outputs)
        cotangents = [entry.detach() for entry in projected]
        parameters = list(self._parameters.values())
        if self._virtual:
            pulled = torch.autograd.grad(outputs, parameters, cotangents, self._at_theta, allow_unused=True)
            self._descent.add(parameters, pulled)
        if self._at_theta:
            gradient = self._branch(batch.primary, features, self._network, self._primary_losses)
            primary = [torch.zeros_like(o) if g is None else g for o, g in zip(outputs, gradient, strict=True)]
            self._network.add(parameters, torch.autograd.grad(outputs, parameters, primary, allow_unused=True))
            cotangents = cotangents if self._virtual else primary
        self._recorded.append(
            Recorded(
                args=batch.args,
                kwargs=batch.kwargs,
                state=state,
                positions=positions,
                projected=projected,
                cotangents=cotangents,
            )
        )
        self._primaries.append(batch.primary)

    def finish(self, reduce: Reduce = list) -> MetaGradient:
        """Everything that needs the whole batch.

        Args:
            reduce: The mean over processes of a list of tensors, the same list on each.

        Raises:
            InputError: No batch was added, or neither forward mode nor double VJP can differentiate the backbone.
        """
        if not self._recorded:
            raise InputError("a meta step without a batch; give at least one with parallel labels")
        share = 1 / (len(self._recorded) * self.options.loss_scale)
        network, directions, alignment = self._descend(share, reduce)
        (jvp, gradients), *exact = [self._differentiate(v, reverse, share, reduce) for v, reverse in directions]
        exactness = None
        for _, others in exact:
            pair = list(gradients.values()), list(others.values())
            exactness = Overlap.of(*pair).cosine() if others else jvp.stretch.new_zeros(())
        return MetaGradient(
            projections=gradients,
            network=network,
            auxiliary=self._auxiliary.reduced(share, reduce),
            primary_loss=torch.stack(self._primary_losses).mean(),
            auxiliary_losses={name: torch.stack(losses).mean() for name, losses in self._auxiliary_losses.items()},
            method=jvp.method,
            reason=jvp.reason,
            consistency=jvp.consistency,
            consistent=jvp.consistent,
            finite=get_total_norm([*network.values(), *gradients.values()]).isfinite(),
            alignment=alignment,
            exactness=exactness,
        )

    def _branch(
        self, branch: Branch, features: Features, onto: GradientSum, record: list[Tensor]
    ) -> list[Tensor | None]:
        """The loss's gradient in each learnable map, cut off; those of the head's parameters go onto the sum."""
        severed, leaves = cut(features)
        loss = branch.loss(severed)
        record.append(loss.detach())
        head = branch.parameters()
        gradients = torch.autograd.grad(loss * self.options.loss_scale, [*leaves, *head], allow_unused=True)
        onto.add(head, gradients[len(leaves) :])
        return list(gradients[: len(leaves)])

    def _project(self, gradients: Mapping[str, Sequence[Tensor | None]], outputs: list[Tensor]) -> list[Tensor]:
        """G = Σ φ_t(g_t) of each map, with the graph of φ."""
        sums = [torch.zeros_like(output) for output in outputs]
        factor = 1 / len(self.projections) if self.options.combine == "mean" else 1.0
        for name, of_task in gradients.items():
            projections = self.projections.get(name, ())
            if len(projections) != len(outputs):
                raise InputError(
                    f"{len(projections)} projections of task {name!r} for {len(outputs)} feature maps; make one per map"
                )
            for index, (projection, gradient) in enumerate(zip(projections, of_task, strict=True)):
                if gradient is not None:
                    sums[index] = sums[index] + factor * projection(gradient.detach())
        return sums

    def _descend(
        self, share: float, reduce: Reduce
    ) -> tuple[Gradients, list[tuple[Gradients, Overlap]], Tensor | None]:  # fmt: skip
        """The network's primary gradient, each direction v with what its product must agree with, and the alignment.

        The virtual step's gradient d is kept no longer than this takes.
        """
        parameters = list(self._parameters.values())
        network = self._network.reduced(share, reduce) if self._at_theta else {}
        pulled = (self._descent if self._virtual else self._network).values(parameters, 1.0)
        self._descent = GradientSum()
        if not self._virtual:
            return network, [(network, Overlap.of(_values(network, parameters), pulled))], None
        descent = reduce(pulled)
        ahead = self._virtual_pass(descent, share).reduced(share, reduce)
        network = network or ahead
        aligned = Overlap.of(_values(network, parameters), descent)
        alone = all(a is b for a, b in zip(descent, pulled, strict=True))
        directions = [network, ahead] if self.options.approximate else [ahead]
        checks = [
            aligned if alone and direction is network else Overlap.of(_values(direction, parameters), pulled)
            for direction in directions
        ]
        return network, list(zip(directions, checks, strict=True)), aligned.cosine()

    def _virtual_pass(self, descent: list[Tensor], share: float) -> GradientSum:
        """The sum of ∇L_P at Θ⁺ = Θ - α·share·d over the micro-batches, by the parameters at Θ.

        The tape alone holds Θ⁺, and lets go of each parameter as its gradient comes.
        """
        total = GradientSum()
        for recorded, branch in zip(self._recorded, self._primaries, strict=True):
            leaves = {name: p.detach().requires_grad_() for name, p in self._parameters.items()}
            steps = zip(leaves.items(), descent, strict=True)
            features = rerun(
                self.backbone, recorded, {name: leaf.sub(d, alpha=self.alpha * share) for (name, leaf), d in steps}
            )
            heads = [] if self._at_theta else branch.parameters()
            with spare_buffers(branch.module if self._at_theta else None):
                loss = branch.loss(features)
            gradients = torch.autograd.grad(
                loss * self.options.loss_scale, [*leaves.values(), *heads], allow_unused=True
            )  # fmt: skip
            total.add([*self._parameters.values(), *heads], gradients)
            if not self._at_theta:
                self._primary_losses.append(loss.detach())
        return total

    def _differentiate(
        self, direction: Gradients, reverse: Overlap, share: float, reduce: Reduce
    ) -> tuple[Product, Gradients]:
        """∂L_P/∂φ along the primary gradient v: -α·J·v contracted with φ."""
        by_name = dict(zip(self._parameters, _values(direction, list(self._parameters.values())), strict=True))
        method, inspect, wait = self.options.method, self.options.inspect, self.options.wait
        jvp = product(self.backbone, self._recorded, by_name, reverse, method, inspect, wait)
        modules = [projection for projections in self.projections.values() for projection in projections]
        phi = [p for projection in modules for p in projection.parameters() if p.requires_grad]
        outputs = [entry for recorded in self._recorded for entry in recorded.projected]
        pairs = [(o, t) for o, t in zip(outputs, jvp.tangents, strict=True) if o.requires_grad]
        if not phi or not pairs:
            return jvp, {}
        gradients = torch.autograd.grad(
            [o for o, _ in pairs], phi, [t.to(o.dtype) for o, t in pairs], self.options.compare,
            materialize_grads=True,
        )  # fmt: skip
        factor = -self.alpha * share / jvp.stretch
        return jvp, dict(zip(phi, reduce([factor.to(g) * g for g in gradients]), strict=True))


def _values(gradients: Gradients, parameters: list[nn.Parameter]) -> list[Tensor]:
    return [gradients[p] if p in gradients else torch.zeros_like(p) for p in parameters]
