"""What tells whether Task Meta-Transfer is working: measured where a step is logged, and at no cost elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lightning_taskonomy.callbacks.bifurcation import BatchKind, Bifurcation, StepLosses
from lightning_taskonomy.callbacks.meta_transfer.learner import Learner
from lightning_taskonomy.callbacks.meta_transfer.probe import Probe
from lightning_taskonomy.optim import MetaGradient
from lightning_taskonomy.optim.tangents import Overlap

__all__ = ["Instruments", "is_due"]

SHORT_STEP, DOMINANCE = 0.01, 10.0
"""Below the first the virtual over the real step is warned of, above the second the eigenvalue over the mean of |λ|."""


class Instruments:
    """Logs ``meta/...`` of a fit.

    A meta step is measured if it is the last one before a step that the trainer logs, so that the log has values of
    its own cycle. What must be known of earlier steps travels in checkpoints: a resumed fit logs what the unbroken one
    would have.

    Args:
        primary: The primary task.
        auxiliary: The auxiliary tasks.
        probe_every_n_steps: Steps between probes on a batch of the validation loader; None: no probe.
        warn: Says something once, by its subject.
    """

    def __init__(
        self,
        primary: str,
        auxiliary: Sequence[str],
        probe_every_n_steps: int | None,
        warn: Callable[[str, str], None],
    ) -> None:
        self.probe_every_n_steps, self.warn = probe_every_n_steps, warn
        self.auxiliary = list(auxiliary)
        self._probe = Probe(primary, auxiliary)
        self._remedy = ""
        self._cycle = 1  # steps from one meta step to the next, as the last two had it
        self._since = 0  # steps begun since the last meta step, that one included; 0 before the first
        self._previous: list[Tensor] = []  # the last meta-gradient of the projections
        self._virtual: Tensor | None = None  # length of the virtual step, if the real one is to be measured
        self._before: list[tuple[nn.Parameter, Tensor]] = []

    def begin_fit(self, resumed: bool, remedy: str) -> None:
        """At the start of a fit.

        Args:
            resumed: Whether it goes on where a checkpoint was made.
            remedy: What makes a virtual step longer that is too short.
        """
        self.end_fit()
        self._remedy = remedy
        if not resumed:
            self._cycle, self._since, self._previous = 1, 0, []

    def end_fit(self) -> None:
        """Lets go of the network and of what was measured on it."""
        self._virtual, self._before = None, []
        self._probe.forget()

    def state_dict(self) -> dict[str, Any]:
        """What later steps are compared with."""
        return {"cycle": self._cycle, "since": self._since, "previous": list(self._previous)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it up again.

        Args:
            state: What :meth:`state_dict` gave.
        """
        self._cycle, self._since, self._previous = state["cycle"], state["since"], list(state["previous"])

    def begin_step(self, kind: BatchKind) -> None:
        """Counts the steps of a cycle.

        Args:
            kind: That of the step that begins.
        """
        self._virtual, self._before = None, []
        if kind == "meta":
            self._cycle, self._since = max(self._since, 1), 1
        elif self._since:
            self._since += 1

    def log_projections(self, trainer: Trainer, module: LightningModule, learner: Learner) -> None:
        """What the projections have become, as a step begins that is logged.

        Args:
            trainer: The trainer.
            module: What logs.
            learner: Has the projections.
        """
        if not is_due(trainer.global_step + 1, trainer):
            return
        figures = learner.figures()
        module.log_dict({f"meta/{name}": value for name, value in figures.items()})
        for name in self.auxiliary:
            value = figures.get(f"{name}/dominance")
            if value is not None and float(value) > DOMINANCE:
                self.warn(
                    "dominance",
                    f"the largest eigenvalue of U·Uᵀ of task {name!r} is {float(value):.3g} times the mean of |λ|: one "
                    "direction of the auxiliary gradient outweighs the others; lower the learning rate of the "
                    "projections' optimizer, or set anchor or normalize",
                )

    def is_measured(self, trainer: Trainer) -> bool:
        """Whether the meta step that has begun is measured: a logged step is in its cycle.

        Args:
            trainer: The trainer.
        """
        interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by the logger connector
        step = trainer.global_step
        return interval > 0 and (step + self._cycle) // interval > step // interval

    def log_meta_step(self, trainer: Trainer, module: LightningModule, result: MetaGradient) -> None:
        """A meta step, before the projections and the network step.

        Args:
            trainer: The trainer.
            module: What logs.
            result: Its gradients.
        """
        figures: dict[str, Tensor | None] = {
            "primary_loss": result.primary_loss, "consistency": result.consistency, "exactness": result.exactness,
            "alignment": result.alignment,
        }  # fmt: skip
        gradients, previous = list(result.projections.values()), self._previous
        self._previous = gradients
        if self.is_measured(trainer):
            self._virtual = result.step_length
            if gradients and len(previous) == len(gradients):
                pair = [before.to(now) for before, now in zip(previous, gradients, strict=True)], gradients
                figures["successive_cosine"] = Overlap.of(*pair).cosine()
            figures |= self._stretches(trainer, result)
        module.log_dict({f"meta/{name}": value for name, value in figures.items() if value is not None})

    def _stretches(self, trainer: Trainer, result: MetaGradient) -> dict[str, Tensor | None]:
        """The mean over the processes whose batch had the task; without tasks that none had."""
        means = StepLosses(self.auxiliary)
        for name, value in result.stretch.items():
            means.add(name, value)
        of_tasks = zip(self.auxiliary, means.means(trainer, result.consistency.float()).unbind(), strict=True)
        return {f"{name}/stretch": mean for name, mean in of_tasks if bool(mean.isfinite())}

    def before_optimizer_step(self, backbone: nn.Module) -> None:
        """Notes where the backbone is, if its step is to be measured.

        Args:
            backbone: The backbone.
        """
        if self._virtual is not None:
            self._before = [(p, p.detach().clone()) for p in backbone.parameters() if p.requires_grad]

    def after_step(self, trainer: Trainer, module: LightningModule, split: Bifurcation, learner: Learner) -> None:
        """After a step of the network's optimizer.

        Args:
            trainer: The trainer.
            module: The module.
            split: Its parts.
            learner: Has the projections.
        """
        if self._before and self._virtual is not None:
            lengths = [torch.linalg.vector_norm(p.detach() - before).float() for p, before in self._before]
            virtual, real = float(self._virtual), float(torch.linalg.vector_norm(torch.stack(lengths)))
            self._virtual, self._before = None, []
            if real > 0:  # else fp16's scaler has skipped the step, or the learning rate is 0
                module.log("meta/step_ratio", virtual / real)
            unbounded = learner.optimizer is not None and not learner.bounds.normalize  # φ learns, and of any length
            if unbounded and 0 < virtual < SHORT_STEP * real:
                self.warn(
                    "step_ratio",
                    f"the virtual step is {virtual / real:.2g} times as long as the optimizer's: over so short a step "
                    f"the primary loss is linear in the projections, so that nothing bounds them; {self._remedy}",
                )
        if self.probe_every_n_steps is None or trainer.global_step % self.probe_every_n_steps:
            return
        if not self._probe.load(trainer, module):
            self.warn("probe", "there is no validation loader yet whose first batch the projections could be probed on")
            return
        cosines = self._probe.cosines(trainer, module, split, learner.acting)
        module.log_dict({f"meta/{name}": value for name, value in cosines.items() if bool(value.isfinite())})


def is_due(count: int, trainer: Trainer) -> bool:
    """Whether this is one of every ``log_every_n_steps``.

    Args:
        count: Its number.
        trainer: The trainer.
    """
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by the trainer's logger connector
    return interval > 0 and count % interval == 0
