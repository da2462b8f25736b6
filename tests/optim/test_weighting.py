"""Task weightings against their formulas, autograd and the meta-gradient."""

import math

import pytest
import torch
from torch import nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import (
    Aggregation,
    Branch,
    MetaBatch,
    Scalar,
    UncertaintyWeighting,
    cosine_weight,
    gradient_cosine,
    meta_gradient,
    meta_weight_gradients,
)


def test_uncertainty_weighting_is_the_formula():
    weighting = UncertaintyWeighting(["depth", "semantic"], ["depth"])
    with torch.no_grad():
        weighting.log_variances.copy_(torch.tensor([0.5, -1.0]))
    losses = {"depth": torch.tensor(2.0), "semantic": torch.tensor(3.0)}
    expected = 0.5 * math.exp(-0.5) * 2 + 0.25 + math.exp(1.0) * 3 - 0.5
    assert float(weighting(losses).detach()) == pytest.approx(expected, rel=1e-6)
    assert weighting.weights() == pytest.approx({"depth": 0.5 * math.exp(-0.5), "semantic": math.e})
    weighting({"depth": losses["depth"]}).backward()  # d/ds (½e^{-s}·L + s/2) = ½ - ½e^{-s}·L; the other task is absent
    assert weighting.log_variances.grad.tolist() == pytest.approx([0.5 - math.exp(-0.5), 0.0])


def test_uncertainty_weighting_refuses_what_it_does_not_know():
    with pytest.raises(InputError, match="did you mean 'depth'"):
        UncertaintyWeighting(["depth"], ["dept"])
    with pytest.raises(InputError, match="no weight"):
        UncertaintyWeighting(["depth"])({"normals": torch.tensor(1.0)})
    with pytest.raises(InputError, match="no loss"):
        UncertaintyWeighting(["depth"])({})


def test_cosine_weights():
    left = [torch.tensor([1.0, 0.0]), torch.tensor([[1.0]]), None]
    right = [torch.tensor([1.0, 1.0]), torch.tensor([[1.0]]), torch.tensor([1.0])]
    assert float(gradient_cosine(left, right)) == pytest.approx(2 / math.sqrt(2 * 4))
    opposite = [None if entry is None else -entry for entry in right]
    assert float(cosine_weight(left, opposite)) == 0 and float(cosine_weight(left, opposite, hard=True)) == 0
    assert float(cosine_weight(left, right)) == pytest.approx(2 / math.sqrt(8))
    assert float(cosine_weight(left, right, hard=True)) == 1
    assert float(cosine_weight(left, [None, None, None])) == 0


def test_lins_weights_are_the_scalar_projections_meta_gradient():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Conv2d(5, 4, 3)).double()
    inputs = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    losses = {"one": lambda o: o.square().mean(), "two": lambda o: o.sin().mean()}
    projections = {name: [Scalar(4).double()] for name in losses}
    for index, (phi,) in enumerate(projections.values()):
        nn.init.constant_(phi.weight, 0.5 + index)
    batch = MetaBatch(
        (inputs,), {name: Branch(loss) for name, loss in losses.items()}, Branch(lambda o: o.cos().mean())
    )
    result = meta_gradient(backbone, [batch], projections, 0.1)
    learned = list(backbone.parameters())
    per_task = {name: torch.autograd.grad(loss(backbone(inputs)), learned) for name, loss in losses.items()}
    weight_gradients = meta_weight_gradients([result.network[p] for p in learned], per_task, 0.1)
    for name, (phi,) in projections.items():
        assert float(weight_gradients[name]) == pytest.approx(float(result.projections[phi.weight]), rel=1e-10)


@pytest.fixture
def conflicting():
    return [[torch.tensor([1.0, 0.0]), None, torch.tensor([[2.0]])], [torch.tensor([-1.0, 1.0]), None, None]]


def pcgrad(first, second):
    """The sum of both, each projected onto the other one's normal plane where they conflict (Algorithm 1)."""
    dot = first @ second
    return first - dot / second.square().sum() * second + second - dot / first.square().sum() * first


def hull(first, second):
    share = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:, None]
    return share * first + (1 - share) * second


def mgda(first, second):
    """The shortest vector of the convex hull."""
    return hull(first, second)[hull(first, second).norm(dim=1).argmin()]


def cagrad(first, second):
    """g0 + c·‖g0‖·g_w/‖g_w‖ where w minimises g_w·g0 + c·‖g0‖·‖g_w‖ (section 3.2), c = 0.4."""
    mean = (first + second) / 2
    reach, inner = 0.4 * mean.norm(), hull(first, second)
    farthest = inner[(inner @ mean + reach * inner.norm(dim=1)).argmin()]
    return mean + reach * farthest / farthest.norm()


def imtl_g(first, second):
    """The combination, of weights that add up to 1, with the same projection onto each gradient's direction (Eq. 5)."""
    directions = first / first.norm() - second / second.norm()
    share = -(second @ directions) / ((first - second) @ directions)
    return share * first + (1 - share) * second


def aligned_mtl(first, second):
    """The mean of the gradients whose matrix has all its singular values set to the least (section 4.2)."""
    left, values, right = torch.linalg.svd(torch.stack([first, second]), full_matrices=False)
    return (values.min() * left @ right).mean(0)


def nash_mtl(first, second):
    """Where G·Gᵀ·a = 1/a (Eq. 3), of two tasks a ∝ 1/‖g‖; of length 1 at most, as torchjd's ``max_norm`` has it."""
    both = first / first.norm() + second / second.norm()  # times 1/√(1 + cosine) its length is √2
    return both / both.norm()


@pytest.mark.parametrize(
    ("expected", "bound"),
    [
        (pcgrad, 1e-6), (mgda, 1e-2), (cagrad, 1e-3), (imtl_g, 1e-5), (aligned_mtl, 1e-5),
        pytest.param(nash_mtl, 1e-2, marks=pytest.mark.filterwarnings(  # cvxpy's advice on torchjd's problem
            "ignore:You are solving a parameterized problem that is not DPP:UserWarning",
            "ignore:Solution may be inaccurate:UserWarning",
        )),
    ],
)  # fmt: skip
def test_an_aggregation_is_its_formula_in_the_tensors_shapes(expected, bound, conflicting):
    """The bounds are those of torchjd's iterative solvers and of the grid here."""
    pytest.importorskip("torchjd")
    name = expected.__name__
    if name in ("cagrad", "nash_mtl"):
        pytest.importorskip("cvxpy")
    if name == "nash_mtl":
        pytest.importorskip("ecos")
    combined = Aggregation(name, 2)(conflicting)
    assert [None if entry is None else entry.shape for entry in combined] == [(2,), None, (1, 1)]
    ours = torch.cat([combined[0], combined[2].flatten()]).double()
    theirs = expected(*torch.tensor([[1.0, 0.0, 2.0], [-1.0, 1.0, 0.0]], dtype=torch.float64))
    assert float((ours - theirs).norm() / theirs.norm()) < bound, (ours, theirs)
    assert Aggregation(name, 2)([[None], [None]]) == [None]


def test_unknown_aggregations_and_options_are_refused():
    with pytest.raises(InputError, match="did you mean 'pcgrad'"):
        Aggregation("pcgrd", 2)
    pytest.importorskip("torchjd")
    with pytest.raises(InputError, match="options"):
        Aggregation("pcgrad", 2, colour=1)


def test_a_missing_torchjd_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchjd.aggregation", None)
    with pytest.raises(InputError, match=r"pip install 'torchjd\[cagrad\]'"):
        Aggregation("cagrad", 2)
