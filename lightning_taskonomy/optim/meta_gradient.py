"""The exact meta-gradient of Task Meta-Transfer (paper section 3.3, Eqs. 1-4 and 6) by one forward-mode product.

With features o = f(Θ), J = ∂o/∂Θ, auxiliary gradients g_t at the bifurcation and G = Σ φ_t(g_t), the projected gradient
of the backbone is d = JᵀG and the virtual step Θ⁺ = Θ - Δ(d), where Δ is elementwise: α·d in Eq. 1, else what the
network's optimizer makes of d (see :mod:`~lightning_taskonomy.optim.virtual_step`). As g_t does not depend on φ, with
v = ∇L_P(Θ⁺) and w = Δ′(d) ⊙ v

    ∂L_P/∂G = -J·w,

so that one tangent pass at Θ replaces the second derivative. Every step checks itself by ⟨J·w, G⟩ = ⟨w, d⟩.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim.features import Features, cut, entries, learnable
from lightning_taskonomy.optim.meta_batch import Branch, HeldOut, MetaBatch, MetaOptions
from lightning_taskonomy.optim.state import PassState, spare_buffers
from lightning_taskonomy.optim.sums import Gradients, GradientSum, Reduce
from lightning_taskonomy.optim.tangents import Method, Overlap, Product, Recorded, length, product, rerun
from lightning_taskonomy.optim.virtual_step import GradientStep, VirtualStep

__all__ = ["MetaGradient", "MetaStep", "meta_gradient"]


@dataclass(frozen=True)
class MetaGradient:
    """The gradients of one meta step.

    Attributes:
        projections: ∂L_P/∂φ per parameter of the projections (Eq. 4).
        network: What backbone and primary head learn from: the primary gradient, jointly with the projected auxiliary
            gradient where ``on_meta`` says so; parameters that play no part are missing.
        auxiliary: Gradients of the auxiliary heads whose branch names its module.
        primary_loss: L_P at Θ⁺; at Θ where the network's gradient is taken there.
        auxiliary_losses: L_A at Θ by task.
        method: What gave J·w; hand it to the next step's options, so that what failed is not tried again.
        reason: Why the first choice was not taken, else empty.
        consistency: |⟨J·w, G⟩ - ⟨w, JᵀG⟩| over the product of norms, a scalar: rounding, if all is well.
        consistent: Whether that is rounding, a boolean scalar.
        finite: Whether all gradients are finite, a boolean scalar; if not, a step in fp16 is to be left out.
        alignment: Cosine between projected auxiliary and primary gradient in the backbone's parameters, a scalar; None
            where the former was not needed.
        exactness: Cosine to the exact meta-gradient, a scalar, where ``compare`` asked for it.
        step_length: ‖Θ - Θ⁺‖ of the backbone, a scalar; None where d was not needed or ``measure`` is off.
        stretch: ‖φ·g‖/‖g‖ over the maps of each auxiliary task that this process had, scalars, mean over its
            micro-batches; 1 for a micro-batch whose g vanishes. Empty where ``measure`` is off.
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
    step_length: Tensor | None
    stretch: dict[str, Tensor]


def meta_gradient(
    backbone: nn.Module,
    batches: Sequence[MetaBatch],
    projections: Mapping[str, Sequence[nn.Module]],
    step: float | VirtualStep,
    options: MetaOptions | None = None,
    reduce: Reduce = list,
) -> MetaGradient:
    """One meta step's gradients; nothing but running statistics changes.

    Args:
        backbone: The network up to the bifurcation, Θ.
        batches: Micro-batches of equal weight; the result is that of their whole, whose loss is the mean of theirs.
        projections: Per auxiliary task one φ for each learnable feature map.
        step: The virtual step; a number is the rate α of plain descent.
        options: How; None: exactly.
        reduce: The mean over processes of a list of tensors, the same list on each.

    Raises:
        InputError: No batch, or one that the step cannot take; see :class:`MetaStep`.
    """
    whole = MetaStep(backbone, projections, step, options)
    for batch in batches:
        whole.add(batch)
    return whole.finish(reduce)


@dataclass(frozen=True)
class _Direction:
    """w, or v and the rate that makes w of it, and w's overlap with what its product must agree with."""

    vectors: list[Tensor]
    rate: float
    reverse: Overlap


@dataclass(frozen=True)
class _Descended:
    """What the virtual step leaves when its gradient is gone; see MetaGradient."""

    network: Gradients
    directions: list[_Direction]
    alignment: Tensor | None


class MetaStep:
    """A meta step whose micro-batches come one at a time.

    Args:
        backbone: The network up to the bifurcation, Θ.
        projections: Per auxiliary task one φ for each learnable feature map.
        step: The virtual step; a number is the rate α of plain descent. The attribute may be set until ``finish`` to
            another one that needs the gradient just as this one does.
        options: How; None: exactly.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projections: Mapping[str, Sequence[nn.Module]],
        step: float | VirtualStep,
        options: MetaOptions | None = None,
    ) -> None:
        self.backbone, self.projections = backbone, projections
        self.step = step if isinstance(step, VirtualStep) else GradientStep(step)
        self.options = options or MetaOptions()
        self._parameters = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
        self._recorded: list[Recorded] = []
        self._ahead: list[HeldOut] = []
        self._descent, self._network, self._auxiliary = GradientSum(), GradientSum(), GradientSum()
        self._primary_losses: list[Tensor] = []
        self._auxiliary_losses: dict[str, list[Tensor]] = {}
        self._stretches: dict[str, list[Tensor]] = {}
        self._lengths: list[Tensor] = []
        self._at_theta = self.options.approximate or self.options.primary_at == "current"
        self._virtual = not self.options.approximate or self.options.compare
        self._pulls = self._virtual or self.step.needs_gradient or self.options.on_meta == "joint"

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
            InputError: Features without a gradient, projections that do not fit the tasks and maps, or a held-out batch
                for which no virtual pass is made.
        """
        if self.options.approximate and batch.held_out is not None:
            raise InputError(
                "approximate=True makes no pass at Θ⁺, and a held-out batch is for that pass; leave out one of the two"
            )
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
        if self._pulls:
            pulled = torch.autograd.grad(outputs, parameters, cotangents, self._at_theta, allow_unused=True)
            self._descent.add(parameters, pulled)
        if self._at_theta:
            gradient = self._branch(batch.primary, features, self._network, self._primary_losses)
            primary = [torch.zeros_like(o) if g is None else g for o, g in zip(outputs, gradient, strict=True)]
            self._network.add(parameters, torch.autograd.grad(outputs, parameters, primary, allow_unused=True))
            cotangents = cotangents if self._pulls else primary
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
        self._ahead.append(batch.held_out or HeldOut(batch.args, batch.kwargs, batch.primary))

    def finish(self, reduce: Reduce = list, share: float = 1.0) -> MetaGradient:
        """Everything that needs the whole batch.

        Args:
            reduce: The mean over processes of a list of tensors, the same list on each.
            share: What the virtual step's d is of the mean over micro-batches: below 1 where the optimizer divides
                their sum by a larger number. The gradients that are returned are those of the mean loss all the same.

        Raises:
            InputError: No batch was added, or neither forward mode nor double VJP can differentiate the backbone.
        """
        if not self._recorded:
            raise InputError("a meta step without a batch; give at least one with parallel labels")
        mean = 1 / (len(self._recorded) * self.options.loss_scale)
        descended = self._descend(mean, mean * share, reduce)
        (jvp, gradients), *exact = [self._differentiate(way, mean * share, reduce) for way in descended.directions]
        exactness, alignment = None, descended.alignment
        vectors = [*descended.network.values(), *gradients.values()]
        vectors += [] if alignment is None else [alignment]  # which shows a d that overflowed where P·v does not
        for _, others in exact:
            pair = list(gradients.values()), list(others.values())
            exactness = Overlap.of(*pair).cosine() if others else jvp.stretch.new_zeros(())
        return MetaGradient(
            projections=gradients,
            network=descended.network,
            auxiliary=self._auxiliary.reduced(mean, reduce),
            primary_loss=torch.stack(self._primary_losses).mean(),
            auxiliary_losses={name: torch.stack(losses).mean() for name, losses in self._auxiliary_losses.items()},
            method=jvp.method,
            reason=jvp.reason,
            consistency=jvp.consistency,
            consistent=jvp.consistent,
            finite=get_total_norm(vectors).isfinite(),
            alignment=alignment,
            exactness=exactness,
            step_length=torch.linalg.vector_norm(torch.stack(self._lengths)) if self._lengths else None,
            stretch={name: torch.stack(ratios).mean() for name, ratios in self._stretches.items()},
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
            pairs = []
            for index, (projection, gradient) in enumerate(zip(projections, of_task, strict=True)):
                if gradient is not None:
                    projected = projection(gradient.detach())
                    pairs.append((projected.detach(), gradient.detach()))
                    sums[index] = sums[index] + factor * projected
            if self.options.measure:
                self._stretches.setdefault(name, []).append(_ratio(pairs, sums[0]))
        return sums

    def _descend(self, mean: float, scale: float, reduce: Reduce) -> "_Descended":
        """Everything for which the virtual step's gradient d is needed, which is kept no longer than this takes.

        Args:
            mean: Factor that turns sums over micro-batches into gradients of the mean loss.
            scale: Factor that turns them into what the optimizer would be given.
            reduce: The mean over processes.
        """
        parameters = list(self._parameters.values())
        self.step.prepare(parameters)
        network = self._network.reduced(mean, reduce) if self._at_theta else {}
        pulled = (self._descent if self._pulls else self._network).values(parameters, 1.0)
        if not self._pulls:
            return _Descended(network, [self._direction(network, None, scale, pulled)], None)
        present = self._descent.present(parameters) if self.options.on_meta == "joint" else []
        self._descent = GradientSum()
        descent = dict(zip(parameters, reduce(pulled), strict=True))
        ahead: Gradients = {}
        if self._virtual:
            ahead = self._virtual_pass(descent, scale).reduced(mean, reduce)
        elif self.options.measure:
            deque(self._moved(descent, scale), maxlen=0)  # for the lengths
        network = network or ahead
        aligned = Overlap.of(_values(network, parameters), list(descent.values()))
        gradients = [network, ahead] if self._virtual and self.options.approximate else [ahead or network]
        directions = [self._direction(gradient, descent, scale, pulled) for gradient in gradients]
        if present:
            sums = zip(descent.items(), present, strict=True)
            network = network | {p: network.get(p, 0) + mean * d for (p, d), there in sums if there}
        return _Descended(network, directions, aligned.cosine())

    def _moved(self, descent: Gradients, scale: float) -> Iterator[tuple[nn.Parameter, Tensor, float]]:
        """Each parameter with its Δ over the rate, and the rate; puts down the lengths of the steps to be measured."""
        self._lengths, rate = [], self.step.uniform
        if rate is not None:
            if self.options.measure:
                self._lengths.append(abs(rate * scale) * length(list(descent.values())))
            yield from ((parameter, d, rate * scale) for parameter, d in descent.items())
            return
        for parameters, steps in self.step.displacements(descent, scale):
            if self.options.measure:
                self._lengths.append(length(steps))
            yield from ((parameter, step, 1.0) for parameter, step in zip(parameters, steps, strict=True))

    def _direction(
        self, gradient: Gradients, descent: Gradients | None, scale: float, pulled: list[Tensor]
    ) -> "_Direction":
        """Of Δ′(d) ⊙ v, or v with its factor where Δ′ is one number."""
        parameters, rate = list(self._parameters.values()), self.step.uniform
        vectors = _values(gradient, parameters)
        if rate is None:
            ways: Gradients = {}
            for some, pulls in self.step.pulls(descent, scale, dict(zip(parameters, vectors, strict=True))):
                ways |= zip(some, pulls, strict=True)
            vectors = [ways[parameter] for parameter in parameters]
        return _Direction(vectors, 1.0 if rate is None else rate, Overlap.of(vectors, pulled))

    def _virtual_pass(self, descent: Gradients, scale: float) -> GradientSum:
        """The sum of ∇L_P at Θ⁺ over the micro-batches, by the parameters at Θ.

        The tape alone holds Θ⁺, and lets go of each parameter as its gradient comes.
        """
        total = GradientSum()
        for recorded, ahead in zip(self._recorded, self._ahead, strict=True):
            leaves = {p: p.detach().requires_grad_() for p in self._parameters.values()}
            moved = {p: leaves[p].sub(step, alpha=rate) for p, step, rate in self._moved(descent, scale)}
            there = replace(recorded, args=ahead.args, kwargs=ahead.kwargs)
            features = rerun(self.backbone, there, {name: moved.pop(p) for name, p in self._parameters.items()})
            heads = [] if self._at_theta else ahead.primary.parameters()
            with spare_buffers(ahead.primary.module if self._at_theta else None):
                loss = ahead.primary.loss(features)
            gradients = torch.autograd.grad(
                loss * self.options.loss_scale, [*leaves.values(), *heads], allow_unused=True
            )  # fmt: skip
            total.add([*self._parameters.values(), *heads], gradients)
            if not self._at_theta:
                self._primary_losses.append(loss.detach())
        return total

    def _differentiate(self, along: "_Direction", scale: float, reduce: Reduce) -> tuple[Product, Gradients]:
        """∂L_P/∂φ along w: -J·w contracted with φ."""
        by_name = dict(zip(self._parameters, along.vectors, strict=True))
        method, inspect, wait = self.options.method, self.options.inspect, self.options.wait
        jvp = product(self.backbone, self._recorded, by_name, along.reverse, method, inspect, wait)
        modules = [projection for projections in self.projections.values() for projection in projections]
        phi = [p for projection in modules for p in projection.parameters() if p.requires_grad]
        outputs = [entry for recorded in self._recorded for entry in recorded.projected]
        pairs = [(o, t) for o, t in zip(outputs, jvp.tangents, strict=True) if o.requires_grad]
        if not phi:
            return jvp, {}
        gradients: Sequence[Tensor] = [torch.zeros_like(p) for p in phi]  # another process may have pairs
        if pairs:
            gradients = torch.autograd.grad(
                [o for o, _ in pairs], phi, [t.to(o.dtype) for o, t in pairs], self.options.compare,
                materialize_grads=True,
            )  # fmt: skip
        factor = -along.rate * scale / jvp.stretch
        return jvp, dict(zip(phi, reduce([factor.to(g) * g for g in gradients]), strict=True))


def _values(gradients: Gradients, parameters: list[nn.Parameter]) -> list[Tensor]:
    return [gradients[p] if p in gradients else torch.zeros_like(p) for p in parameters]


def _ratio(pairs: Sequence[tuple[Tensor, Tensor]], like: Tensor) -> Tensor:
    """Length of the first ones over that of the second ones; 1 where those vanish."""
    if not pairs:
        return torch.ones((), device=like.device)
    first, second = (length(side) for side in zip(*pairs, strict=True))
    return torch.where(second != 0, first / second, 1.0)
