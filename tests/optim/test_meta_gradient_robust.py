"""What forward mode cannot do, half precision, plain multi-task learning as a special case, bad input."""

import re

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import (
    Branch,
    Identity,
    LowRank,
    MetaBatch,
    MetaOptions,
    MetaStep,
    meta_gradient,
    project,
)
from lightning_taskonomy.optim.tangents import length

ALPHA = 0.1


class NoForwardMode(torch.autograd.Function):
    """Twice differentiable backward, without jvp."""

    @staticmethod
    def forward(ctx, entry):
        ctx.save_for_backward(entry)
        return entry.sin()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()


class WrongForwardMode(NoForwardMode):
    """As torchvision's deform_conv2d and roi_align: no tangent, and no word about it."""

    @staticmethod
    def jvp(ctx, tangent):
        return torch.zeros_like(tangent)


class OnlyOnce(NoForwardMode):
    """Neither forward mode nor double backward, and no word about the latter."""

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()


class OnlyOnceAndSaysSo(NoForwardMode):
    @staticmethod
    def backward(ctx, gradient):
        if torch.is_grad_enabled():
            raise RuntimeError("no double backward here")
        return gradient * ctx.saved_tensors[0].cos()


class Own(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, entry):
        return entry.sin() if self.function is None else self.function.apply(entry)


def backbone(function=None):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), Own(function), nn.Dropout(0.2), nn.Conv2d(6, 4, 3)
    ).double()


def step(network, dtype=torch.float64, phi=None, auxiliary=None, **options):
    torch.manual_seed(1)
    phi = phi or LowRank(4, 2, 1.0).to(torch.promote_types(dtype, torch.float32))
    image = torch.randn(2, 3, 10, 10, dtype=dtype)
    target = torch.randn(2, 4, 6, 6, dtype=dtype)
    branches = {"other": Branch(lambda o: (o.float().to(o) - target).abs().mean())} if auxiliary is None else auxiliary
    batch = MetaBatch((image,), branches, Branch(lambda o: (o.to(target) - target.flip(1)).square().mean()))
    return meta_gradient(network, [batch], {"other": [phi]}, ALPHA, MetaOptions(**options))


@pytest.mark.parametrize(
    ("function", "reason"),
    [(NoForwardMode, "no forward mode"), (WrongForwardMode, r"disagrees with reverse mode by .* in 2 \(Own\)")],
)
def test_what_forward_mode_cannot_do_falls_back_exactly(function, reason):
    expected = step(backbone())
    result = step(backbone(function))
    assert expected.method == "forward" and result.method == "double_vjp" and result.consistent
    assert re.search(reason, result.reason)
    for ours, theirs in zip(result.projections.values(), expected.projections.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    again = step(backbone(function), method=result.method)  # remembered: not tried again
    assert again.method == "double_vjp" and again.reason == ""


class Attention(nn.Module):
    """Pixels attend to each other, by torch's fused kernel or by its formula."""

    def __init__(self, fused):
        super().__init__()
        self.fused = fused

    def forward(self, entry):
        rows = entry.flatten(2).mT[:, None]
        if self.fused:
            mixed = functional.scaled_dot_product_attention(rows, rows, rows)
        else:
            mixed = (rows @ rows.mT / rows.shape[-1] ** 0.5).softmax(-1) @ rows
        return mixed[:, 0].mT.reshape(entry.shape)


def test_fused_attention_has_its_forward_mode():
    result, expected = step(among(Attention(True), torch.float64)), step(among(Attention(False), torch.float64))
    assert result.method == "forward" and result.consistent
    for ours, theirs in zip(result.projections.values(), expected.projections.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


class Beside(nn.Module):
    """A map with a share of another function of it, far below what the consistency check sees in float32."""

    share = 1e-6

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, entry):
        return entry + self.share * self.function(entry)


def among(layer, dtype=torch.float32):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), layer, nn.Dropout(0.2), nn.Conv2d(6, 4, 3)
    return nn.Sequential(*layers).to(dtype)


def under_no_grad(entry):
    with torch.no_grad():
        return entry.sin()


@pytest.mark.parametrize(
    ("layer", "same", "culprit"),
    [
        (Beside(Own(WrongForwardMode)), Beside(torch.sin), r"2\.function \(Own\)"),
        (Beside(under_no_grad), Beside(lambda x: x.sin().detach()), r"mul of 2 \(Beside\), which reads .*no_grad"),
    ],
    ids=["dropped", "kept"],
)
def test_a_forward_mode_that_is_wrong_in_a_small_branch_is_found_on_inspection(layer, same, culprit):
    blind = step(among(layer), torch.float32)
    assert blind.method == "forward" and blind.consistent  # too small a share
    result = step(among(layer), torch.float32, inspect=True)
    assert result.method == "double_vjp" and result.consistent
    assert re.search("forward mode is wrong in " + culprit, result.reason)
    result, expected = step(among(layer, torch.float64), inspect=True), step(among(same, torch.float64))
    for ours, theirs in zip(result.projections.values(), expected.projections.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_a_custom_operator_without_a_forward_mode_is_found_within_a_module():
    """torchvision's deform_conv2d gives no tangent and no error; it has no double backward either."""
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    weight, offset = torch.randn(6, 6, 1, 1), torch.zeros(2, 2, 8, 8)
    network = among(Beside(lambda x: torchvision.ops.deform_conv2d(x, offset, weight)))
    assert step(network, torch.float32).consistent
    with pytest.raises(InputError, match=r"wrong in deform_conv2d of 2 \(Beside\)\) nor twice"):
        step(network, torch.float32, inspect=True)


class Harmless(nn.Module):
    """What has no tangent, or one that leads nowhere, and rightly so."""

    def __init__(self):
        super().__init__()
        self.dead = nn.Conv2d(6, 6, 1)
        nn.init.constant_(self.dead.bias, -100.0)
        self.silent = nn.BatchNorm2d(6)
        nn.init.zeros_(self.silent.weight)
        self.frozen = nn.Parameter(torch.zeros(6, 1, 1), requires_grad=False)
        self.register_buffer("average", torch.zeros(6))

    def forward(self, entry):
        with torch.no_grad():
            self.average.mul_(0.9).add_(0.1 * entry.mean((0, 2, 3)))
        pooled, indices = nn.functional.max_pool2d(entry, 2, return_indices=True)
        channel = nn.functional.one_hot(entry.argmax(1), 6).movedim(-1, 1)
        gate = (entry > 0).to(entry) * entry.detach().sigmoid() * torch.rand_like(entry) + entry.sign() + channel
        whole = nn.functional.max_unpool2d(pooled, indices, 2)
        dead = nn.functional.relu(self.dead(entry), inplace=True)
        half = nn.functional.relu(torch.cat([-entry.abs(), torch.ones_like(entry)], 1))[:, 6:]  # what moves is dead
        return entry * gate + whole + dead + half + self.silent(entry) + self.frozen * entry


def test_what_rightly_has_no_tangent_is_not_accused():
    result, expected = (
        step(among(Harmless(), torch.float64), inspect=True),
        step(among(Harmless(), torch.float64), method="double_vjp"),
    )
    assert result.method == "forward" and result.reason == "" and result.consistency < 1e-12
    for ours, theirs in zip(result.projections.values(), expected.projections.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_an_inspection_is_one_pass_more_and_leaves_no_trace():
    passes, results = [], []
    for inspect in (False, True):
        network = among(Harmless(), torch.float64)
        handle = network.register_forward_pre_hook(lambda *_, inspect=inspect: passes.append(inspect))
        results.append(step(network, inspect=inspect))
        handle.remove()
        results.append([*network.buffers(), torch.rand(3)])
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert passes.count(True) == passes.count(False) + 1 == 4
    torch.testing.assert_close(
        list(results[0].projections.values()), list(results[2].projections.values()), rtol=0, atol=0
    )
    torch.testing.assert_close(results[1], results[3], rtol=0, atol=0)


def test_a_silently_wrong_forward_mode_is_noticed_when_it_is_forced():
    assert not step(backbone(WrongForwardMode), method="forward").consistent


def test_what_neither_can_do_is_refused_with_a_way_out():
    with pytest.raises(InputError, match=r"twice \(no double backward here\).*finite_difference"):
        step(backbone(OnlyOnceAndSaysSo))
    silent = step(backbone(OnlyOnce))
    assert not silent.consistent and "double_vjp disagrees too" in silent.reason
    expected, result = step(backbone()), step(backbone(OnlyOnce), method="finite_difference")
    assert result.consistent or result.consistency < 1e-6
    for ours, theirs in zip(result.projections.values(), expected.projections.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 256.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_exact_within_its_rounding(dtype, scale):
    expected = step(backbone().float(), torch.float32)
    with torch.autocast("cpu", dtype):
        result = step(backbone().float(), torch.float32, loss_scale=scale, inspect=True)
    assert result.method == "forward" and result.consistent and result.finite
    ours, theirs = (torch.cat([g.flatten() for g in r.projections.values()]) for r in (result, expected))
    assert {g.dtype for g in result.projections.values()} == {torch.float32}
    assert float((ours - theirs).norm() / theirs.norm()) < 4 * torch.finfo(dtype).eps  # a few operations


def test_a_length_in_half_precision_exceeds_its_range():
    tensors = [torch.full((2, 2), 6e4, dtype=torch.float16), torch.tensor([5e4], dtype=torch.float32)]
    assert float(length(tensors)) == pytest.approx(13e4) and float(length(tensors[:1])) == pytest.approx(12e4)
    assert float(length([torch.full((1,), 1e100, dtype=torch.float64)])) == pytest.approx(1e100)


def test_float32_is_consistent():
    result = step(backbone().float(), torch.float32)
    assert result.consistent and result.consistency < 1e-5


def test_an_overflow_is_said_and_no_reason_to_fall_back():
    result = step(backbone().float(), torch.float32, loss_scale=1e39)
    assert not result.finite and result.method == "forward"


def test_the_identity_gives_plain_multi_task_learning():
    """Auxiliary steps through a frozen φ = 1 move the weights as MTL does."""
    ends = []
    for through in (lambda o: project(o, Identity(4)), lambda o: o):
        network = backbone()
        torch.manual_seed(2)
        head = nn.Conv2d(4, 2, 1).double()
        optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            head(through(network(torch.randn(2, 3, 8, 8, dtype=torch.float64)))).square().mean().backward()
            optimizer.step()
        ends.append([*network.parameters(), *head.parameters()])
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=0)


def test_the_identity_has_nothing_to_learn():
    result = step(backbone(), phi=Identity(4))
    assert result.projections == {} and result.network and result.finite


def test_a_users_projection_needs_only_forward():
    class Squashed(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, gradient):
            return torch.tanh(self.gain * gradient)

    phi = Squashed()
    result = step(backbone(), phi=phi)
    sides = []
    for move in (1e-5, -2e-5):
        phi.gain.data += move
        sides.append(float(step(backbone(), phi=phi).primary_loss))
    assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(float(result.projections[phi.gain]), rel=1e-5)


def test_an_unlabelled_auxiliary_task_leaves_the_backbone_where_it_is():
    result = step(backbone(), auxiliary={})
    assert all((gradient == 0).all() for gradient in result.projections.values()) and result.consistent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "foward"}, "no method 'foward'.*did you mean 'forward'"),
        ({"primary_at": "theta"}, "no primary_at 'theta'.*virtual"),
        ({"on_meta": "both"}, "no on_meta 'both'.*joint"),
        ({"combine": "men"}, "no combine 'men'.*did you mean 'mean'"),
    ],
)
def test_words_that_mean_nothing_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        MetaOptions(**options)


def test_bad_input_is_named():
    network = backbone()
    with pytest.raises(InputError, match="without a batch"):
        MetaStep(network, {}, ALPHA).finish()
    with torch.no_grad(), pytest.raises(InputError, match=r"torch\.no_grad"):
        step(network)
    with pytest.raises(InputError, match=r"torch\.no_grad"):
        step(network.requires_grad_(False))
    branch = Branch(lambda o: o.square().mean())
    batch = MetaBatch((torch.randn(2, 3, 10, 10, dtype=torch.float64),), {"depth": branch}, branch)
    with pytest.raises(InputError, match="0 projections of task 'depth' for 1 feature maps"):
        meta_gradient(backbone(), [batch], {}, ALPHA)
    with pytest.raises(InputError, match="without its state"):
        MetaStep(network, {}, ALPHA).add(batch, features=batch.args[0])
