"""What a meta step may be asked for: micro-batches, joint and held-out batches, normalized φ, approximation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from meta_setting import NETWORKS, Setting, assert_same, relative_error, virtual
from torch import nn, optim

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import (
    Branch,
    Identity,
    MetaBatch,
    MetaOptions,
    MetaStep,
    Normalized,
    OptimizerStep,
    Scalar,
    meta_gradient,
)

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.mark.parametrize("options", [{}, {"loss_scale": 1024.0}, {"primary_at": "current"}, {"method": "double_vjp"}])
def test_micro_batches_and_the_loss_scale_leave_the_size_of_d_alone(options):
    def setting():
        return virtual(Setting(*NETWORKS["unpooling"], tasks=2, train=False), "adamw", "full")

    whole = setting().ours(primary_at=options.get("primary_at", "virtual"))
    parts = setting().ours(slice(0, 2), slice(2, 4), **options)
    for name in ("projections", "network", "auxiliary"):
        assert relative_error(getattr(parts, name).values(), getattr(whole, name).values()) <= 1e-10
    assert float(parts.step_length) == pytest.approx(float(whole.step_length), rel=1e-10)


def test_processes_with_half_the_batch_each(in_two_processes):
    settings = [virtual(Setting(*NETWORKS["unpooling"], train=False), "adamw", "optimizer") for _ in range(3)]
    results = in_two_processes(
        lambda rank, reduce: settings[rank].ours(slice(2 * rank, 2 * rank + 2), reduce=reduce, on_meta="joint")
    )
    whole = settings[2].ours(on_meta="joint")
    for result in results:
        assert result.consistent and float(result.step_length) == pytest.approx(float(whole.step_length), rel=1e-10)
        for name in ("projections", "network", "auxiliary"):
            assert relative_error(getattr(result, name).values(), getattr(whole, name).values()) <= 1e-10


def test_a_process_may_lack_the_task_whose_projection_learns(in_two_processes):
    """The other one's gradient counts half, as a loss does that is a mean over both."""
    phis, network, image = [Scalar(2) for _ in range(2)], nn.Linear(2, 2), torch.randn(3, 2)
    networks = [copy.deepcopy(network) for _ in phis]
    tasks = {"one": Branch(lambda features: features.square().sum()), "two": Branch(lambda features: features.sum())}
    primary = Branch(lambda features: features.tanh().sum())

    def work(rank, reduce, names=("one", "two")):
        batch = MetaBatch((image,), {name: tasks[name] for name in names[rank:]}, primary)
        return meta_gradient(networks[rank], [batch], {"one": [phis[rank]], "two": [Identity(2)]}, 0.1, reduce=reduce)

    results = in_two_processes(work)

    def ahead(weight):
        pulled = []
        for share, names in ((weight, "one"), (1.0, "two"), (1.0, "two")):
            loss = share * tasks[names].loss(network(image)) / 2
            pulled.append(torch.autograd.grad(loss, list(network.parameters())))
        moved = [p.detach() - 0.1 * sum(parts) for p, *parts in zip(network.parameters(), *pulled, strict=True)]
        return float(primary.loss(nn.functional.linear(image, *moved)))

    expected = (ahead(1 + 1e-5) - ahead(1 - 1e-5)) / 2e-5
    slopes = [float(result.projections[phi.weight]) for result, phi in zip(results, phis, strict=True)]
    assert slopes == pytest.approx([expected] * 2, rel=1e-6)


def test_a_share_of_the_gradient():
    """As at the end of an epoch, where fewer micro-batches come than the optimizer divides by."""
    setting = virtual(Setting(*NETWORKS["own"]), "adamw", "full")
    step = MetaStep(setting.backbone, setting.projections, setting.step)
    torch.manual_seed(1)
    step.add(setting.batch())
    advance = setting.advance
    setting.advance = lambda p, d: advance(p, 0.25 * d)
    assert_same(step.finish(share=0.25), setting.reference())


@pytest.mark.parametrize("inner", ["gradient", "optimizer"])
@pytest.mark.parametrize("options", [{}, {"primary_at": "current"}, {"approximate": True}], ids=str)
def test_joint_adds_the_projected_gradient(inner, options):
    settings = [Setting(*NETWORKS["bilinear"], tasks=2) for _ in range(2)]
    settings = settings if inner == "gradient" else [virtual(setting, "adam", inner) for setting in settings]
    alone, joint = settings[0].ours(**options), settings[1].ours(**options, on_meta="joint")
    assert relative_error(joint.projections.values(), alone.projections.values()) <= 1e-12
    descended = Setting(*NETWORKS["bilinear"], tasks=2)
    descended.advance = lambda p, d: p.detach() - d
    ahead, _ = descended.virtual()
    expected = [p.detach() - ahead[name].detach() for name, p in descended.learning().items()]
    sides = [
        [result.network[p] for p in setting.learning().values()]
        for result, setting in zip((joint, alone), settings[::-1], strict=True)
    ]
    assert relative_error([a - b for a, b in zip(*sides, strict=True)], expected) <= 1e-10
    assert set(joint.auxiliary) == {p for head in settings[1].heads for p in head.parameters()}


def test_joint_with_the_identity_is_plain_multi_task_learning():
    setting, plain = (Setting(*NETWORKS["unpooling"], tasks=2) for _ in range(2))
    setting.projections = {name: [Identity(c) for c in setting.backbone.channels] for name in setting.projections}
    result = setting.ours(on_meta="joint", primary_at="current")
    features = plain.backbone(plain.image)
    loss = plain.primary_loss(features) + plain.auxiliary_loss(0, features) + plain.auxiliary_loss(1, features)
    modules = [[s.backbone, s.primary_head, *s.heads] for s in (setting, plain)]
    ours, theirs = ([p for module in side for p in module.parameters()] for side in modules)
    gradients = {**result.network, **result.auxiliary}
    assert relative_error([gradients[p] for p in ours], torch.autograd.grad(loss, theirs)) <= 1e-12


@pytest.mark.parametrize("inner", ["gradient", "optimizer", "full"])
@pytest.mark.parametrize("network", ["separable", "unpooling"])
def test_the_primary_loss_on_held_out_images(network, inner):
    setting = Setting(*NETWORKS[network])
    setting = setting if inner == "gradient" else virtual(setting, "adamw", inner)
    setting.held_out = torch.randn_like(setting.image[:3]), torch.randint(4, (3,))
    reference, loss = setting.reference(), setting.virtual()[1]
    plain = Setting(*NETWORKS[network])
    plain.backbone(plain.image)
    result = setting.ours()
    assert_same(result, reference)
    assert float(result.primary_loss) == pytest.approx(float(loss.detach()), rel=1e-10)
    for ours, theirs in zip(setting.backbone.buffers(), plain.backbone.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)  # running statistics are the batch's


def test_held_out_images_with_the_primary_gradient_at_theta():
    setting = virtual(Setting(*NETWORKS["unpooling"]), "adamw", "optimizer")
    setting.held_out = torch.randn_like(setting.image), torch.randint(4, (4,))
    result = setting.ours(primary_at="current")
    assert relative_error(result.projections.values(), setting.reference()[0]) <= 1e-9
    learned = [*setting.backbone.parameters(), *setting.primary_head.parameters()]
    expected = torch.autograd.grad(setting.primary_loss(setting.backbone(setting.image)), learned)
    assert relative_error([result.network[p] for p in learned], expected) <= 1e-12
    with pytest.raises(InputError, match="approximate=True makes no pass at Θ⁺, and a held-out batch is for that pass"):
        setting.ours(approximate=True)


@pytest.mark.parametrize("inner", ["gradient", "optimizer", "full"])
@pytest.mark.parametrize("network", ["separable", "own"])
def test_normalized_projections(network, inner):
    setting = Setting(*NETWORKS[network], tasks=2)
    setting = setting if inner == "gradient" else virtual(setting, "adam", inner)
    setting.projections = {name: [Normalized(phi) for phi in made] for name, made in setting.projections.items()}
    result = setting.ours()
    assert_same(result, setting.reference())
    assert [float(ratio) for ratio in result.stretch.values()] == pytest.approx([1, 1])


@pytest.mark.parametrize("inner", ["optimizer", "full"])
def test_the_approximate_mode_takes_the_primary_gradient_at_theta(inner):
    setting = virtual(Setting(*NETWORKS["bilinear"]), "adamw", inner)
    learning = setting.learning()
    gradients = torch.autograd.grad(setting.primary_loss(setting.backbone(setting.image)), list(learning.values()))
    ahead, _ = setting.virtual(create_graph=True)
    expected = torch.autograd.grad(list(ahead.values()), setting.phi(), gradients)
    exact = setting.reference()[0]
    for compare in (False, True):
        result = setting.ours(approximate=True, compare=compare)
        assert result.consistent and relative_error(result.projections.values(), expected) <= 1e-9
        length = sum((p - ahead[name]).square().sum() for name, p in learning.items()).sqrt()
        assert float(result.step_length) == pytest.approx(float(length.detach()), rel=1e-10)
    cosine = F.cosine_similarity(*(torch.cat([g.flatten() for g in side]) for side in (expected, exact)), 0)
    assert float(result.exactness) == pytest.approx(float(cosine), rel=1e-9) and cosine < 0.9999


def test_the_length_of_the_step_and_the_stretch():
    setting = Setting(*NETWORKS["separable"], tasks=2)
    setting.projections = {name: [Scalar(c) for c in setting.backbone.channels] for name in setting.projections}
    for weight, made in zip((-3.0, 0.5), setting.projections.values(), strict=True):
        for projection in made:
            nn.init.constant_(projection.weight, weight)
    result = setting.ours(slice(0, 2), slice(2, 4))
    assert {name: float(ratio) for name, ratio in result.stretch.items()} == pytest.approx({"task0": 3, "task1": 0.5})
    other = Setting(*NETWORKS["separable"])
    ahead, _ = other.virtual()
    length = sum((p - ahead[name]).square().sum() for name, p in other.learning().items()).sqrt()
    assert float(other.ours().step_length) == pytest.approx(float(length.detach()), rel=1e-12)
    assert other.ours(approximate=True).step_length is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_exact_within_its_rounding(dtype):
    """With a loss scale, which d must be free of before it is squared."""
    results = []
    for half in (False, True):
        setting = virtual(Setting(*NETWORKS["own"], train=False), "adamw", "optimizer")
        if half:
            with torch.autocast("cpu", dtype):
                results.append(setting.ours(loss_scale=256.0))
            assert results[1].method == "forward" and results[1].consistent and results[1].finite
        else:
            results.append(setting.ours())
    assert (
        relative_error(results[1].projections.values(), results[0].projections.values()) < 20 * torch.finfo(dtype).eps
    )
    assert float(results[1].step_length) == pytest.approx(
        float(results[0].step_length), rel=20 * torch.finfo(dtype).eps
    )


def test_a_gradient_that_overflows_is_not_finite():
    """Of a weight that φ's gradient does not show: 1/(√∞ + ε) = 0."""
    network, phi = nn.Linear(2, 2, bias=False), Identity(2)
    optimizer = optim.Adam(network.parameters())
    image = torch.tensor([[1e200, 1.0]])
    branch = Branch(lambda features: (features[:, :1] * 1e200).sum())
    batch = MetaBatch((image,), {"other": branch}, Branch(lambda features: features[:, 1].tanh().sum()))
    options = MetaOptions(approximate=True, method="double_vjp")
    assert not meta_gradient(network, [batch], {"other": [phi]}, OptimizerStep(optimizer), options).finite
