"""The projections of a Task Meta-Transfer callback: made when features are first seen, learned, saved, reported."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim import Diagonal, Full, Identity, LowRank, Scalar, project

__all__ = ["Learner", "ProjectionKind", "projection_factory"]

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


class Learner:
    """A projection per auxiliary task and feature map, and the optimizer that trains them all.

    Args:
        tasks: The auxiliary tasks.
        make: Makes a projection from a number of channels.
        optimizer: Called with the projections' parameters.
        mean: Whether projected gradients are averaged over the tasks, not summed.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        make: Callable[[int], nn.Module],
        optimizer: OptimizerCallable,
        mean: bool,
    ) -> None:
        self.tasks, self.make, self.make_optimizer, self.mean = tasks, make, optimizer, mean
        self.projections: dict[str, list[nn.Module]] = {}
        self.optimizer: torch.optim.Optimizer | None = None
        self.seed = 0
        self._restored: Mapping[str, Any] = {}

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
        modules = [projection for made in projections.values() for projection in made]
        parameters = [p for projection in modules for p in projection.parameters() if p.requires_grad]
        optimizer = self.make_optimizer(parameters) if parameters else None
        if self._restored:
            try:
                for name, made in projections.items():
                    for projection, state in zip(made, self._restored["projections"][name], strict=True):
                        projection.load_state_dict(state)
                if optimizer is not None:
                    optimizer.load_state_dict(self._restored["optimizer"])
            except (KeyError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"the checkpoint has other projections ({' '.join(str(error).split())}); resume with the rank, "
                    "projection and optimizer that it was made with"
                ) from error
        self.projections, self.optimizer = projections, optimizer

    def insert(self, name: str, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps themselves, whose gradients are projected on their way back.

        Args:
            name: The auxiliary task that reads them.
            maps: The learnable feature maps.
        """
        self.build(maps)
        projections = self.projections[name]
        if self.mean and len(self.tasks) > 1:
            projections = [_Share(projection, len(self.tasks)) for projection in projections]
        return [project(entry, projection) for entry, projection in zip(maps, projections, strict=True)]

    def step(self, gradients: Mapping[nn.Parameter, Tensor]) -> None:
        """One step of the projections' optimizer (Eq. 3).

        Args:
            gradients: By parameter.
        """
        if self.optimizer is None:
            return
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers only."""
        if not self.projections:
            return dict(self._restored)
        return {
            "projections": {
                name: [dict(projection.state_dict()) for projection in made] for name, made in self.projections.items()
            },
            "optimizer": {} if self.optimizer is None else self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a state, which takes effect when features are next seen.

        Args:
            state: What :meth:`state_dict` gave.
        """
        self.projections, self.optimizer, self._restored = {}, None, state

    @torch.no_grad()
    def figures(self) -> dict[str, Tensor]:
        """λ's mean and range and the largest eigenvalues of U·Uᵀ, by ``<task>/...``; several maps are numbered."""
        figures: dict[str, Tensor] = {}
        for name, made in self.projections.items():
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
                if isinstance(projection, Scalar):
                    figures[f"{prefix}/weight"] = projection.weight.clone()
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
