"""The projections of a Task Meta-Transfer callback: made when features are first seen, learned, saved, reported."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim import Diagonal, Full, Identity, LowRank, Normalized, Scalar, project

__all__ = ["Bounds", "Learner", "ProjectionKind", "projection_factory"]

ProjectionKind = Literal["low_rank", "full", "diagonal", "scalar", "identity"]
_KINDS: dict[str, Callable[[int], nn.Module]] = {
    "full": Full, "diagonal": Diagonal, "scalar": Scalar, "identity": Identity,
}  # fmt: skip
_SHOWN = 10  # eigenvalues of U·Uᵀ in the log


def projection_factory(kind: ProjectionKind | Callable[[int], nn.Module], rank: int) -> Callable[[int], nn.Module]:
    """What makes a projection from a map's number of channels.

    Args:
        kind: One of ours by name, or a callable that makes another.
        rank: Rank of ``low_rank``.

    Raises:
        InputError: Unknown kind, or a rank below 1.
    """
    if rank < 1:
        raise InputError(f"rank {rank}; a projection's rank is 1 to the channels of the bifurcation")
    if callable(kind):
        return kind
    if kind == "low_rank":
        return lambda channels: LowRank(channels, rank)
    if kind not in _KINDS:
        raise InputError(f"no projection {kind!r}{hint(kind, ['low_rank', *_KINDS])}")
    return _KINDS[kind]


@dataclass(frozen=True)
class Bounds:
    """What keeps the projections near their start, or their steps small: options beyond the paper.

    Attributes:
        normalize: Whether each projected map is scaled to the length that its gradient had.
        anchor: Share of the way back to their start that the parameters go after each step, 0 to below 1.
        scheduler: Called with the projections' optimizer, stepped at the end of each epoch.
        phi_batches: Meta steps whose mean gradient makes one step of the projections.

    Raises:
        InputError: An ``anchor`` outside [0, 1), or a ``scheduler`` that cannot be called.
    """

    normalize: bool = False
    anchor: float = 0.0
    scheduler: LRSchedulerCallable | None = None
    phi_batches: int = 1

    def __post_init__(self) -> None:
        """Refuses what does not fit."""
        anchor: Any = self.anchor
        if not isinstance(anchor, (int, float)) or not 0 <= anchor < 1:
            raise InputError(
                f"anchor is {anchor!r}, must be at least 0 and below 1: the share of the way back to their start "
                "that the projections go after each step"
            )
        if self.scheduler is not None and not callable(self.scheduler):
            raise InputError(
                f"the projections' scheduler is {self.scheduler!r}; give what makes one of an optimizer, such as a "
                "class of torch.optim.lr_scheduler or a lambda"
            )


class Learner:
    """A projection per auxiliary task and feature map, and the optimizer that trains them all.

    Args:
        tasks: The auxiliary tasks.
        make: Makes a projection from a number of channels.
        optimizer: Called with the projections' parameters.
        mean: Whether projected gradients are averaged over the tasks, not summed.
        bounds: What keeps the projections near their start.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        make: Callable[[int], nn.Module],
        optimizer: OptimizerCallable,
        mean: bool,
        bounds: Bounds,
    ) -> None:
        self.tasks, self.make, self.make_optimizer, self.mean, self.bounds = tasks, make, optimizer, mean, bounds
        self.projections: dict[str, list[nn.Module]] = {}
        self.acting: Mapping[str, Sequence[nn.Module]] = {}  # as they act on gradients: scaled, if they are to be
        self.optimizer: torch.optim.Optimizer | None = None
        self.scheduler: Any = None
        self.seed = 0
        self._start: list[Tensor] = []  # of the parameters, where they are anchored
        self._sums: list[Tensor] = []  # of the gradients of the meta steps since the last step
        self._count = 0  # of those meta steps
        self._epoch = 0  # that of the last step, up to which the scheduler has come
        self._restored: Mapping[str, Any] = {}

    def check_scheduler(self) -> None:
        """Makes a scheduler of an optimizer that trains nothing, before there are projections.

        Raises:
            InputError: It needs a metric.
        """
        if self.bounds.scheduler is None or self.projections:
            return
        trial = self.bounds.scheduler(self.make_optimizer([nn.Parameter(torch.zeros(1, 1))]))
        if isinstance(trial, ReduceLROnPlateau):
            raise InputError("the projections' scheduler is ReduceLROnPlateau, which needs a metric; take another")

    def build(self, maps: Sequence[Tensor]) -> None:
        """Makes the projections for these maps, if there are none yet; draws from the learner's seed alone.

        Args:
            maps: The learnable feature maps (B, C, ...).

        Raises:
            InputError: Those of the checkpoint do not fit.
        """
        if self.projections:
            return
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.default_generator.manual_seed(self.seed)
            projections = {
                name: [
                    self.make(entry.shape[1]).to(entry.device, torch.promote_types(entry.dtype, torch.float32))
                    for entry in maps
                ]
                for name in self.tasks
            }
        parameters = _parameters(projections)
        self._start = [p.detach().clone() for p in parameters] if self.bounds.anchor else []
        optimizer = self.make_optimizer(parameters) if parameters else None
        scheduler: Any = None
        if self.bounds.scheduler is not None and optimizer is not None:
            scheduler = self.bounds.scheduler(optimizer)
        if self._restored:
            try:
                self._restore(projections, optimizer, scheduler)
            except (KeyError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"the checkpoint has other projections ({' '.join(str(error).split())}); resume with the rank, "
                    "projection and optimizer that it was made with"
                ) from error
        self.projections, self.optimizer, self.scheduler = projections, optimizer, scheduler
        self.acting = projections
        if self.bounds.normalize:
            self.acting = {name: [Normalized(projection) for projection in made] for name, made in projections.items()}

    def insert(self, name: str, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps themselves, whose gradients are projected on their way back.

        Args:
            name: The auxiliary task that reads them.
            maps: The learnable feature maps.
        """
        self.build(maps)
        projections: Sequence[nn.Module] = self.acting[name]
        if self.mean and len(self.tasks) > 1:
            projections = [_Share(projection, len(self.tasks)) for projection in projections]
        return [project(entry, projection) for entry, projection in zip(maps, projections, strict=True)]

    @torch.no_grad()
    def step(self, gradients: Mapping[nn.Parameter, Tensor], epoch: int) -> None:
        """Takes the gradients of a meta step; one step of the projections' optimizer (Eq. 3) if it is due.

        Args:
            gradients: By parameter.
            epoch: Its number; the scheduler has made one step for each that has ended.
        """
        if self.optimizer is None:
            return
        parameters = _parameters(self.projections)
        if self.bounds.phi_batches > 1:
            new = [gradients[p] if p in gradients else torch.zeros_like(p) for p in parameters]
            self._sums = [total + g for total, g in zip(self._sums, new, strict=True)] if self._sums else new
            self._count += 1
            if self._count < self.bounds.phi_batches:
                return
            gradients = {p: total / self._count for p, total in zip(parameters, self._sums, strict=True)}
            self._sums, self._count = [], 0
        while self._epoch < epoch:
            self._epoch += 1
            if self.scheduler is not None:
                with warnings.catch_warnings():  # of an epoch, or a fit, in which no step was due
                    warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
                    self.scheduler.step()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.bounds.anchor:
            for parameter, start in zip(parameters, self._start, strict=True):
                parameter.lerp_(start, self.bounds.anchor)

    def begin_fit(self, epoch: int) -> None:
        """At the start of a fit that resumes none: where another came before it, that one's last epoch has ended.

        Args:
            epoch: The number of the first epoch.
        """
        if self.projections:
            self._epoch = epoch - 1

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers only."""
        if not self.projections:
            return dict(self._restored)
        return {
            "projections": {
                name: [dict(projection.state_dict()) for projection in made] for name, made in self.projections.items()
            },
            "optimizer": {} if self.optimizer is None else self.optimizer.state_dict(),
            "scheduler": {} if self.scheduler is None else self.scheduler.state_dict(),
            "start": list(self._start),
            "sums": list(self._sums),
            "count": self._count,
            "epoch": self._epoch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a state, which takes effect when features are next seen.

        Args:
            state: What :meth:`state_dict` gave.
        """
        self.projections, self.optimizer, self.scheduler, self._restored = {}, None, None, state
        self._epoch = state.get("epoch") or 0

    def _restore(
        self, projections: Mapping[str, Sequence[nn.Module]], optimizer: torch.optim.Optimizer | None, scheduler: Any
    ) -> None:
        """Puts the state that was taken up into what has been made."""
        state, parameters = self._restored, _parameters(projections)
        for name, made in projections.items():
            for projection, values in zip(made, state["projections"][name], strict=True):
                projection.load_state_dict(values)
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
        if scheduler is not None and state.get("scheduler"):
            scheduler.load_state_dict(state["scheduler"])
        if self._start and state.get("start"):
            self._start = [value.to(p) for value, p in zip(state["start"], parameters, strict=True)]
        self._sums, self._count = [], 0
        if state.get("sums") and self.bounds.phi_batches > 1:
            self._sums = [value.to(p) for value, p in zip(state["sums"], parameters, strict=True)]
            self._count = state["count"]

    @torch.no_grad()
    def figures(self) -> dict[str, Tensor]:
        """λ's mean and range and the largest eigenvalues of U·Uᵀ, by ``<task>/...``; several maps are numbered.

        ``<task>/dominance`` is the largest eigenvalue over the mean of |λ|, of the map where that is largest.
        """
        figures: dict[str, Tensor] = {}
        for name, made in self.projections.items():
            dominances = []
            for index, projection in enumerate(made):
                prefix = name if len(made) == 1 else f"{name}/{index}"
                if isinstance(projection, (LowRank, Diagonal)):
                    diagonal = projection.diagonal
                    figures |= {
                        f"{prefix}/lambda_mean": diagonal.mean(), f"{prefix}/lambda_min": diagonal.min(),
                        f"{prefix}/lambda_max": diagonal.max(),
                    }  # fmt: skip
                if isinstance(projection, LowRank):
                    largest = projection.spectrum()[:_SHOWN]
                    figures |= {f"{prefix}/eigenvalue_{place}": value for place, value in enumerate(largest, 1)}
                    dominances.append(largest[0] / projection.diagonal.abs().mean().clamp_min(1e-12))
                if isinstance(projection, Scalar):
                    figures[f"{prefix}/weight"] = projection.weight.clone()
            if dominances:
                figures[f"{name}/dominance"] = torch.stack(dominances).max()
        return figures


class _Share(nn.Module):
    """One of several projections whose outputs are averaged."""

    def __init__(self, projection: nn.Module, count: int) -> None:
        super().__init__()
        self.projection, self.count = projection, count

    def forward(self, gradient: Tensor) -> Tensor:
        """φ·g / T."""
        projected: Tensor = self.projection(gradient) / self.count
        return projected


def _parameters(projections: Mapping[str, Sequence[nn.Module]]) -> list[nn.Parameter]:
    """Those that learn, in order."""
    modules = [projection for made in projections.values() for projection in made]
    return [p for projection in modules for p in projection.parameters() if p.requires_grad]
