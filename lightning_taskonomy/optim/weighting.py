"""Weights of tasks: by uncertainty, by the cosine between gradients or their norms, by a meta-gradient."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from lightning_taskonomy.errors import InputError, hint

__all__ = ["UncertaintyWeighting", "cosine_weight", "grad_norm_slopes", "gradient_cosine", "meta_weight_gradients"]


class UncertaintyWeighting(nn.Module):
    """Homoscedastic uncertainty of each task (Kendall, Gal and Cipolla 2018, Eqs. 7 and 10).

    L = Σ_t c_t·exp(-s_t)·L_t + s_t/2 with s = log σ² learnt; c = 1/2 for regressions, 1 for classifications.

    Args:
        tasks: Names of the tasks.
        regressions: Which of them are regressions.

    Raises:
        InputError: No task, or a regression that is not one of them.
    """

    def __init__(self, tasks: Sequence[str], regressions: Collection[str] = ()) -> None:
        super().__init__()
        if not tasks:
            raise InputError("uncertainty weighting has no tasks; name at least one")
        for name in regressions:
            if name not in tasks:
                raise InputError(f"regression {name!r} is not one of the tasks{hint(name, tasks)}")
        self.tasks = list(tasks)
        self.factors = {name: 0.5 if name in regressions else 1.0 for name in tasks}
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the losses that are there.

        Args:
            losses: One loss per task; a task without labels in this batch is left out.

        Raises:
            InputError: A loss of an unknown task, or none.
        """
        if not losses:
            raise InputError("uncertainty weighting has no losses; leave out a batch without labels")
        terms = []
        for name, loss in losses.items():
            if name not in self.factors:
                raise InputError(f"the loss of task {name!r} has no weight{hint(name, self.factors)}")
            log_variance = self.log_variances[self.tasks.index(name)]
            terms.append(self.factors[name] * torch.exp(-log_variance) * loss + log_variance / 2)
        return torch.stack(terms).sum()

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """The present weight of each task's loss, a scalar."""
        variances = zip(self.tasks, self.log_variances.unbind(), strict=True)
        return {name: self.factors[name] * torch.exp(-value) for name, value in variances}


def gradient_cosine(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> Tensor:
    """Cosine between two gradients, each a list over the same tensors.

    Args:
        left: One gradient, in the shared parameters or in the maps at the bifurcation; None counts as zero.
        right: The other.

    Returns:
        A scalar in [-1, 1]; 0 where either gradient vanishes.
    """
    dots = [(a.float() * b.float()).sum() for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    if not dots:
        return torch.zeros(())
    lengths = [get_total_norm([g.float() for g in side if g is not None]) for side in (left, right)]
    size = lengths[0] * lengths[1]
    return torch.where(size > 0, torch.stack(dots).sum() / size, 0.0).clamp(-1, 1)


def cosine_weight(
    primary: Sequence[Tensor | None], auxiliary: Sequence[Tensor | None], hard: bool = False
) -> Tensor:  # fmt: skip
    """Weight of an auxiliary loss by its gradient's cosine to the primary one (Du et al. 2018, section 3).

    Args:
        primary: Gradient of the primary loss.
        auxiliary: Gradient of the auxiliary loss in the same tensors.
        hard: 1 or 0 by the cosine's sign ("unweighted" there) instead of max(0, cosine).

    Returns:
        A scalar in [0, 1].
    """
    cosine = gradient_cosine(primary, auxiliary)
    return (cosine > 0).to(cosine) if hard else cosine.clamp(min=0)


def grad_norm_slopes(lengths: Tensor, ratios: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """∂/∂w of Σ_t |G_t - mean(G)·r_t^α| with constant targets (GradNorm, Chen et al. 2018, Eqs. 1 and 2).

    G_t = |∇(w_t·L_t)| is w_t times a length that w does not change, so its derivative is G_t/w_t. The rate r_t is the
    ratio over its mean.

    Args:
        lengths: G, (T,).
        ratios: Each task's loss over its first one, (T,), positive.
        weights: w, (T,), positive.
        alpha: α.

    Returns:
        (T,).
    """
    targets = lengths.mean() * (ratios / ratios.mean()) ** alpha
    return torch.sign(lengths - targets) * lengths / weights


def meta_weight_gradients(
    primary: Sequence[Tensor | None], auxiliary: Mapping[str, Sequence[Tensor | None]], alpha: float
) -> dict[str, Tensor]:
    """∂L_P(Θ⁺)/∂w_t for Θ⁺ = Θ - α·Σ w_t·∇L_t: -α·⟨∇L_P(Θ⁺), ∇L_t⟩ (Lin et al. 2019, Eq. 5).

    It equals the meta-gradient of one scalar projection per task, without a tangent pass but with a pass back per task.

    Args:
        primary: ∇L_P at Θ⁺ in the shared parameters; None counts as zero.
        auxiliary: Per task ∇L_t at Θ in the same.
        alpha: Length α of the virtual step.

    Returns:
        One scalar per task.
    """
    weight_gradients = {}
    for name, gradients in auxiliary.items():
        pairs = [(a, b) for a, b in zip(primary, gradients, strict=True) if a is not None and b is not None]
        products = [(a * b).sum() for a, b in pairs]
        weight_gradients[name] = -alpha * torch.stack(products).sum() if products else torch.zeros(())
    return weight_gradients
