"""The meta-gradient against double backward, written here with autograd alone."""

import pytest
import torch
from meta_setting import ALPHA, NETWORKS, Own, Setting, assert_same, relative_error
from torch import nn

from lightning_taskonomy.optim import MetaStep, PassState


class Growing(Own):
    """A buffer that moves with every pass and is felt in the output."""

    def __init__(self):
        super().__init__()
        self.register_buffer("gain", torch.ones(()))

    def forward(self, image):
        self.gain.mul_(1.5)
        return self.layers(image) * self.gain.clone()


class Spectral(Own):
    """Spectral normalization, whose power iteration runs under no_grad and moves with every pass."""

    def __init__(self):
        super().__init__()
        nn.utils.parametrizations.spectral_norm(self.layers[0])


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_double_backward_gives_the_same(network, tasks, train):
    setting = Setting(*NETWORKS[network], tasks=tasks, train=train)
    result = setting.ours(inspect=True)  # and no operation is accused
    assert result.method == "forward" and result.reason == "" and result.consistent and result.finite
    assert result.consistency < 1e-11
    assert_same(result, setting.reference())


@pytest.mark.parametrize("network", [NETWORKS["unpooling"], NETWORKS["separable"], NETWORKS["own"]])
@pytest.mark.parametrize("method", ["double_vjp", "finite_difference"])
def test_the_other_methods_give_the_same(network, method):
    setting = Setting(*network, tasks=2)
    result = setting.ours(method=method)
    assert result.method == method
    assert_same(result, setting.reference(), 1e-9 if method == "double_vjp" else 1e-4)


@pytest.mark.parametrize("network", ["vgg-unpooling", "separable"])
def test_losses_alignment_and_the_auxiliary_heads_gradients(network):
    setting = Setting(*NETWORKS[network], tasks=2)
    ahead, loss = setting.virtual()
    heads = [list(head.parameters()) for head in setting.heads]
    torch.manual_seed(1)
    features = setting.backbone(setting.image)
    losses = [setting.auxiliary_loss(index, features) for index in range(2)]
    expected = [torch.autograd.grad(e, head, retain_graph=True) for e, head in zip(losses, heads, strict=True)]
    setting = Setting(*NETWORKS[network], tasks=2)
    result = setting.ours()
    assert float(result.primary_loss) == pytest.approx(float(loss.detach()), rel=1e-12)
    assert [float(e) for e in result.auxiliary_losses.values()] == pytest.approx([float(e.detach()) for e in losses])
    assert set(result.auxiliary) == {p for head in setting.heads for p in head.parameters()}
    for head, gradients in zip(setting.heads, expected, strict=True):
        assert relative_error([result.auxiliary[p] for p in head.parameters()], gradients) <= 1e-12
    learning = setting.learning()
    steps = [(p.detach() - ahead[name].detach()).flatten() for name, p in learning.items() if p in result.network]
    primary = [result.network[p].flatten() for p in learning.values() if p in result.network]
    cosine = float(torch.cosine_similarity(torch.cat(steps), torch.cat(primary), 0))
    assert result.alignment == pytest.approx(cosine, rel=1e-9) and result.alignment != 0


@pytest.mark.parametrize("options", [{}, {"inspect": True}, {"method": "double_vjp"}], ids=str)
@pytest.mark.parametrize("network", [Growing, Spectral])
def test_buffers_that_the_output_depends_on_are_as_in_the_first_pass(network, options):
    setting = Setting(network, 16, tasks=2)
    reference = setting.reference()  # it leaves the buffers alone
    assert_same(setting.ours(**options), reference)


def test_averaged_projected_gradients():
    setting = Setting(*NETWORKS["unpooling"], tasks=3)
    assert_same(setting.ours(combine="mean"), setting.reference(factor=1 / 3))


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("network", ["vgg", "vgg-unpooling", "unpooling", "bilinear", "separable", "own"])
def test_finite_differences_in_the_projection_agree(network, train):
    """Of L_P(Θ⁺(φ)), which takes first derivatives alone; exact to about 1e-10, the rounding of L_P over the step."""
    setting = Setting(*NETWORKS[network], tasks=2, train=train)
    for parameter, gradient in setting.ours().projections.items():
        direction = torch.randn_like(parameter)
        sides = []
        for step in (1e-6, -1e-6):
            parameter.data += step * direction
            sides.append(float(setting.virtual()[1].detach()))
            parameter.data -= step * direction
        expected = (sides[0] - sides[1]) / 2e-6
        assert expected != 0 and float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_channels_last_gives_the_same_in_its_own_format():
    contiguous = Setting(*NETWORKS["unpooling"]).ours()
    setting = Setting(*NETWORKS["unpooling"], memory_format=torch.channels_last)
    assert setting.image.is_contiguous(memory_format=torch.channels_last)
    seen = []
    setting.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    result = setting.ours()
    assert len(seen) == 3 and all(entry.is_contiguous(memory_format=torch.channels_last) for entry in seen)
    for name in ("projections", "network"):
        assert relative_error(getattr(result, name).values(), getattr(contiguous, name).values()) <= 1e-9


@pytest.mark.parametrize("primary_at", ["virtual", "current"])
@pytest.mark.parametrize("approximate", [False, True])
def test_running_statistics_move_once_and_nothing_else(primary_at, approximate):
    setting = Setting(*NETWORKS["unpooling"], tasks=2)
    plain = Setting(*NETWORKS["unpooling"], tasks=2)
    modules = [setting.backbone, setting.primary_head, *setting.heads]
    weights = [p.detach().clone() for module in modules for p in module.parameters()]
    setting.ours(primary_at=primary_at, approximate=approximate)
    plain.backbone(plain.image)
    for ours, theirs in zip(setting.backbone.buffers(), plain.backbone.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for head in (setting.primary_head, *setting.heads):
        assert all(int(m.num_batches_tracked) == 1 for m in head.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(
        torch.equal(before, after)
        for before, after in zip(weights, (p for m in modules for p in m.parameters()), strict=True)
    )
    assert all(p.grad is None for module in modules for p in module.parameters())


def test_random_numbers_go_on_as_after_one_pass():
    setting = Setting(*NETWORKS["own"])
    setting.ours()
    after = torch.rand(3)
    torch.manual_seed(1)
    setting.backbone(setting.image)
    assert torch.equal(after, torch.rand(3))


def test_the_primary_gradient_at_theta():
    setting = Setting(*NETWORKS["unpooling"])
    result = setting.ours(primary_at="current")
    assert relative_error(result.projections.values(), setting.reference()[0]) <= 1e-9
    learned = [*setting.backbone.parameters(), *setting.primary_head.parameters()]
    loss = setting.primary_loss(setting.backbone(setting.image))
    expected = torch.autograd.grad(loss, learned)
    assert float(result.primary_loss) == pytest.approx(float(loss.detach()))
    assert relative_error([result.network[p] for p in learned], expected) <= 1e-12


def test_the_approximate_mode_is_the_limit_of_small_steps_and_says_how_near_it_is():
    setting = Setting(*NETWORKS["bilinear"])
    result = setting.ours(approximate=True, compare=True)
    exact = Setting(*NETWORKS["bilinear"]).ours()
    ours, theirs = (torch.cat([g.flatten() for g in r.projections.values()]) for r in (result, exact))
    cosine = float(torch.cosine_similarity(ours, theirs, 0))
    assert result.exactness == pytest.approx(cosine, rel=1e-9) and 0.5 < cosine < 0.999999
    alone = Setting(*NETWORKS["bilinear"]).ours(approximate=True)
    assert alone.consistent and alone.exactness is None
    assert relative_error(alone.projections.values(), result.projections.values()) <= 1e-12


@pytest.mark.parametrize("options", [{}, {"primary_at": "current"}, {"approximate": True}, {"method": "double_vjp"}])
def test_micro_batches_give_the_whole_batchs_gradients(options):
    whole = Setting(*NETWORKS["unpooling"], tasks=2, train=False).ours(**options)
    parts = Setting(*NETWORKS["unpooling"], tasks=2, train=False).ours(slice(0, 2), slice(2, 4), **options)
    for name in ("projections", "network", "auxiliary"):
        assert relative_error(getattr(parts, name).values(), getattr(whole, name).values()) <= 1e-12
    assert float(parts.primary_loss) == pytest.approx(float(whole.primary_loss), rel=1e-12)
    assert parts.consistency < 1e-12


def test_processes_with_half_the_batch_each_give_the_whole_batchs_gradients(in_two_processes):
    """In eval mode, where random numbers play no part."""
    settings = [Setting(*NETWORKS["unpooling"], tasks=2, train=False) for _ in range(2)]
    results = in_two_processes(lambda rank, reduce: settings[rank].ours(slice(2 * rank, 2 * rank + 2), reduce=reduce))
    whole = Setting(*NETWORKS["unpooling"], tasks=2, train=False).ours()
    for result in results:
        assert result.consistent
        for name in ("projections", "network", "auxiliary"):
            assert relative_error(getattr(result, name).values(), getattr(whole, name).values()) <= 1e-12


def test_a_pass_that_was_made_already_is_taken_over():
    setting = Setting(*NETWORKS["separable"], tasks=2)
    torch.manual_seed(1)
    state = PassState.of(setting.backbone)
    step = MetaStep(setting.backbone, setting.projections, ALPHA)
    step.add(setting.batch(), features=setting.backbone(setting.image), state=state)
    assert_same(step.finish(), setting.reference())


def test_a_loss_scale_leaves_no_trace():
    plain = Setting(*NETWORKS["unpooling"], tasks=2).ours()
    for options in ({}, {"primary_at": "current"}, {"approximate": True}):
        plain = Setting(*NETWORKS["unpooling"], tasks=2).ours(**options)
        scaled = Setting(*NETWORKS["unpooling"], tasks=2).ours(**options, loss_scale=1024.0)
        for name in ("projections", "network", "auxiliary"):
            assert relative_error(getattr(scaled, name).values(), getattr(plain, name).values()) <= 1e-12
    assert scaled.consistent
