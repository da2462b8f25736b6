"""Projections: their products, their formats, what they refuse, and what passes back through them."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import Diagonal, Full, Identity, LowRank, Normalized, Projection, Scalar, project


def matrix(phi: Projection) -> torch.Tensor:
    if isinstance(phi, LowRank):
        return torch.diag(phi.diagonal) + phi.factor @ phi.factor.T
    if isinstance(phi, Diagonal):
        return torch.diag(phi.diagonal)
    return {Full: lambda: phi.matrix, Scalar: lambda: phi.weight * torch.eye(phi.channels).to(phi.weight)}.get(
        type(phi), lambda: torch.eye(phi.channels)
    )()


MAKE = [
    lambda: LowRank(6, 2, 1.0, "dense"), lambda: LowRank(6, 2, 1.0, "low_rank"), lambda: LowRank(6, 6, 1.0),
    lambda: Full(6), lambda: Diagonal(6), lambda: Scalar(6), lambda: Identity(6),
]  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 5), (3, 6, 4, 5), (1, 6, 2, 2), (2, 6, 2, 3, 2)])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("make", MAKE)
def test_every_projection_is_its_matrix(make, shape, last):
    torch.manual_seed(0)
    phi = make().double()
    for parameter in phi.parameters():
        torch.nn.init.normal_(parameter)
    gradient, weights = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    if last and len(shape) > 2:
        gradient = gradient.movedim(1, -1).contiguous().movedim(-1, 1)
    expected = torch.einsum("cd,bd...->bc...", matrix(phi).double(), gradient)
    projected = phi(gradient)
    torch.testing.assert_close(projected, expected, rtol=1e-12, atol=1e-12)
    if len(shape) == 4:
        assert projected.stride() == gradient.stride()
    learned = list(phi.parameters())
    if learned:
        ours = torch.autograd.grad((projected * weights).sum(), learned)
        theirs = torch.autograd.grad((expected * weights).sum(), learned)
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("make", MAKE)
def test_parameters_stay_float32_and_the_output_has_the_gradients_dtype(make, dtype, memory_format):
    torch.manual_seed(0)
    phi = make()
    for parameter in phi.parameters():
        torch.nn.init.normal_(parameter)
    gradient = torch.randn(2, 6, 3, 3).to(dtype).to(memory_format=memory_format)
    with torch.autocast("cpu", torch.bfloat16):
        projected = phi(gradient)
    assert projected.dtype == dtype and {p.dtype for p in phi.parameters()} <= {torch.float32}
    exact = torch.einsum("cd,bdhw->bchw", matrix(phi).double(), gradient.double())
    rounding = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)  # at least float32 is what it computes in
    torch.testing.assert_close(projected.double(), exact, rtol=rounding, atol=40 * torch.finfo(torch.float32).eps)
    learned = list(phi.parameters())
    if learned:
        weights = torch.randn(gradient.shape, dtype=torch.float64)
        ours = torch.autograd.grad((projected.double() * weights).sum(), learned)
        theirs = torch.autograd.grad((exact * weights).sum(), learned)
        torch.testing.assert_close(ours, theirs, rtol=40 * rounding, atol=40 * rounding)


def test_it_starts_next_to_the_identity_and_away_from_the_stationary_point():
    torch.manual_seed(0)
    phi = LowRank(128, 5)
    assert (phi.diagonal == 1).all() and (phi.factor != 0).all()
    assert 0 < phi.spectrum()[0] < 0.05
    torch.testing.assert_close(
        phi.spectrum(), torch.linalg.eigvalsh(phi.factor @ phi.factor.T).flip(0)[:5], rtol=1e-3, atol=1e-6
    )
    for other in (Full, Diagonal, Scalar, Identity):
        gradient = torch.randn(2, 4, 3)
        assert torch.equal(other(4)(gradient), gradient)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowRank(4, 5), "rank 5 for 4 channels; a rank is 1 to 4"),
        (lambda: LowRank(4, 0), "rank 0 for 4 channels"),
        (lambda: LowRank(4, 2, scale=0.0), "stationary point"),
        (lambda: Identity(0), "0 channels"),
        (lambda: Full(4)(torch.zeros(2, 3, 1)), r"4 channels got a gradient of shape \(2, 3, 1\)"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_head_sees_the_features_and_the_backbone_the_projected_gradient():
    torch.manual_seed(0)
    phi = LowRank(4, 2, 1.0).double()
    features = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    passed = project(features, phi)
    assert torch.equal(passed, features)
    weights = torch.randn_like(features)
    (passed * weights).sum().backward()
    torch.testing.assert_close(features.grad, torch.einsum("cd,bdhw->bchw", matrix(phi), weights).detach())
    assert all(parameter.grad is None for parameter in phi.parameters())


def test_tangents_pass_through_as_they_are():
    phi, features, tangent = LowRank(4, 2, 1.0), torch.randn(2, 4), torch.randn(2, 4)
    with forward_ad.dual_level():
        passed = forward_ad.unpack_dual(project(forward_ad.make_dual(features, tangent), phi))
        assert torch.equal(passed.primal, features) and torch.equal(passed.tangent, tangent)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_normalized_projection_turns_but_does_not_stretch(dtype):
    torch.manual_seed(0)
    phi, gradient = LowRank(4, 2, 3.0), (1e-3 * torch.randn(2, 4, 3, 3)).to(dtype, memory_format=torch.channels_last)
    plain, normalized = phi(gradient).detach(), Normalized(phi)(gradient).detach()
    assert normalized.dtype == dtype and normalized.is_contiguous(memory_format=torch.channels_last)
    assert float(normalized.float().norm()) == pytest.approx(float(gradient.float().norm()), rel=1e-3)
    assert float(plain.float().norm()) > 1.5 * float(gradient.float().norm())
    assert float(torch.cosine_similarity(plain.flatten().float(), normalized.flatten().float(), 0)) > 0.99999
    silent = Normalized(phi)(torch.zeros_like(gradient))
    assert (silent == 0).all()
    assert all((g == 0).all() for g in torch.autograd.grad(silent.sum(), list(phi.parameters())))


@pytest.mark.parametrize("size", [1.0, 1e38])
def test_where_a_projection_is_zero_normalization_is_finite(size):
    """There the result is φ·g, and so is what is differentiated: g pulled back."""
    phi, gradient, weights = Full(4), size * torch.ones(1, 4, 2), torch.randn(1, 4, 2)
    torch.nn.init.zeros_(phi.matrix)
    normalized = Normalized(phi)(gradient)
    assert (normalized == 0).all()
    (slope,) = torch.autograd.grad((normalized * weights).sum(), phi.matrix)
    torch.testing.assert_close(slope, torch.einsum("bcl,bdl->cd", weights, gradient))


def test_a_tiny_projection_is_scaled_without_half_precisions_limits():
    """φ·g is 0 in float16, and its ratio to g infinite."""
    torch.manual_seed(0)
    phi, gradient = Scalar(4), torch.randn(2, 4, 3).half()
    torch.nn.init.constant_(phi.weight, -1e-9)
    normalized = Normalized(phi)(gradient)
    assert normalized.dtype == torch.float16
    torch.testing.assert_close(normalized, -gradient, rtol=1e-3, atol=0)
