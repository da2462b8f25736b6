"""The optimizer's virtual step against torch's own optimizers, and its meta-gradient against double backward."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from meta_setting import NETWORKS, Setting, assert_same, relative_error
from torch import nn, optim

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import (
    Branch,
    GradientStep,
    Identity,
    MetaBatch,
    MetaOptions,
    MetaStep,
    Normalized,
    OptimizerStep,
    Scalar,
    meta_gradient,
)

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "sgd-momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.2, weight_decay=0.1),
    "sgd-nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.8, nesterov=True, maximize=True, foreach=True),
    "adam": lambda p: optim.Adam(p, 0.1, weight_decay=0.1),
    "adam-amsgrad": lambda p: optim.Adam(p, 0.1, betas=(0.8, 0.9), amsgrad=True, foreach=True),
    "adam-maximize": lambda p: optim.Adam(p, 0.1, maximize=True, weight_decay=0.1, fused=True),
    "adamw": lambda p: optim.AdamW(p, 0.1, weight_decay=0.1),
    "adamw-amsgrad": lambda p: optim.AdamW(p, 0.1, amsgrad=True, fused=True),
    "adamw-beta-0": lambda p: optim.AdamW(p, 0.1, betas=(0.9, 0.0)),
    "nadam": lambda p: optim.NAdam(p, 0.1, weight_decay=0.1, foreach=True),
    "nadam-decoupled": lambda p: optim.NAdam(p, 0.1, weight_decay=0.1, decoupled_weight_decay=True),
    "rmsprop": lambda p: optim.RMSprop(p, 0.1, weight_decay=0.1),
    "rmsprop-centred": lambda p: optim.RMSprop(p, 0.1, momentum=0.9, centered=True, foreach=True),
    "adagrad": lambda p: optim.Adagrad(p, 0.1, lr_decay=0.3, weight_decay=0.1),
    "adagrad-start": lambda p: optim.Adagrad(p, 0.1, initial_accumulator_value=0.2, maximize=True, foreach=True),
}


@pytest.fixture(autouse=True)
def double():
    """An optimizer's own numbers are then in double precision too."""
    torch.set_default_dtype(torch.float64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)


def trained(name, parameters, steps):
    """An optimizer of two groups with rates of their own after some steps with random gradients."""
    parameters = list(parameters)
    optimizer = OPTIMIZERS[name]([{"params": parameters[::2]}, {"params": parameters[1::2], "lr": 0.03, "eps": 1e-3}])
    for _ in range(steps):
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.grad = 0.1 * torch.randn_like(p)
        optimizer.step()
        for p, value in zip(parameters, before, strict=True):
            p.grad = None
            p.data.copy_(value)  # the network stays where its gradients are of a size
    return optimizer


def after_step(optimizer, parameter, d, **choices):
    """Θ⁺ of a real step of torch's, the state after it, and the settings."""
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    moved = parameter.detach().clone()
    other = type(optimizer)([moved], **choices)
    other.param_groups[0].update({**group, "params": [moved], "foreach": False, "fused": False, **choices})
    state = optimizer.state.get(parameter, {})
    if state:
        other.state[moved] = {k: v.double().clone() if v is not None else v for k, v in state.items()}
    elif isinstance(optimizer, optim.SGD):  # the same, but torch cuts the first gradient in the buffer off the graph
        other.param_groups[0]["dampening"] = 0.0
        other.state[moved]["momentum_buffer"] = torch.zeros_like(moved)
    moved.grad = d
    other.step()
    return moved, other.state[moved], group


def full(optimizer):
    """Θ⁺ by torch's own optimizer, which autograd can differentiate."""
    return lambda p, d: after_step(optimizer, p, d, differentiable=True)[0]


def scaled(optimizer):
    """Θ⁺ = Θ - α·P·d with P from torch's state after a step, held fixed."""

    def advance(p, d):
        _, state, group = after_step(optimizer, p, d.detach())
        rate, second = group["lr"] * (-1 if group["maximize"] else 1), None
        if isinstance(optimizer, (optim.Adam, optim.NAdam)):
            second = state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
            second = second / (1 - group["betas"][1] ** float(state["step"]))
        if isinstance(optimizer, optim.RMSprop):
            second = state["square_avg"] - (state["grad_avg"] ** 2 if group["centered"] else 0)
        if isinstance(optimizer, optim.Adagrad):
            rate, second = rate / (1 + (float(state["step"]) - 1) * group["lr_decay"]), state["sum"]
        return p.detach() - rate * d / (1 if second is None else second.sqrt() + group["eps"])

    return advance


REFERENCES = {"optimizer": scaled, "full": full}


def virtual(setting, name, inner, steps=2):
    """The setting with an optimizer's step, ours and the reference."""
    torch.manual_seed(2)
    optimizer = trained(name, setting.learning().values(), steps)
    setting.step, setting.advance = OptimizerStep(optimizer, full=inner == "full"), REFERENCES[inner](optimizer)
    return setting


def weights():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in [(3, 2), (4,), (2, 2, 3), (), (5,), (70_000,)]]


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("inner", ["optimizer", "full"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_step_and_its_derivative_are_torchs(name, inner, steps):
    parameters = weights()
    optimizer = trained(name, parameters, steps)
    state = copy.deepcopy(optimizer.state_dict())
    step = OptimizerStep(optimizer, full=inner == "full")
    step.prepare(parameters)
    gradients = {p: torch.randn_like(p) for p in parameters}
    vectors = {p: torch.randn_like(p) for p in parameters}
    together, pulled = (
        {p: entry for some, entries in moved for p, entry in zip(some, entries, strict=True)}
        for moved in (step.displacements(gradients, 0.5), step.pulls(gradients, 0.5, vectors))
    )
    assert set(together) == set(pulled) == set(parameters)
    for p in parameters:
        d = (0.5 * gradients[p]).requires_grad_()
        ahead = REFERENCES[inner](optimizer)(p, d)
        (derivative,) = torch.autograd.grad(ahead, d, -vectors[p])
        for ours in (step.displacement(p, d.detach()), together[p]):
            torch.testing.assert_close(p.detach() - ours, ahead.detach(), rtol=1e-11, atol=1e-13)
        for ours in (step.pull(p, d.detach(), vectors[p]), pulled[p]):
            torch.testing.assert_close(ours, derivative, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(optimizer.state_dict(), state, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_full_step_is_what_the_optimizer_does_next(name, steps):
    parameters = weights()
    optimizer = trained(name, parameters, steps)
    gradients = {p: torch.randn_like(p) for p in parameters}
    step = OptimizerStep(optimizer, full=True)
    expected = [p.detach() - step.displacement(p, d) for p, d in gradients.items()]
    for p, d in gradients.items():
        p.grad = d
    optimizer.step()
    for p, value in zip(parameters, expected, strict=True):
        torch.testing.assert_close(value, p.detach(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if "sgd" not in name])
def test_a_weight_whose_second_moment_is_zero_is_not_moved(name, steps):
    dead = nn.Parameter(torch.zeros(3))  # zero, that coupled weight decay has nothing to say either
    optimizer = OPTIMIZERS[name]([dead])
    for group in optimizer.param_groups:
        group["initial_accumulator_value"] = 0.0
    for state in optimizer.state.values():
        state["sum"] = torch.zeros(3)
    for _ in range(steps):
        dead.grad = torch.tensor([0.0, 1.0, 0.0])
        optimizer.step()
    dead.data.zero_()
    d = torch.tensor([0.0, 1.0, 0.0])
    for whole in (False, True):
        step = OptimizerStep(optimizer, whole)
        displacement, pulled = step.displacement(dead, d), step.pull(dead, d, torch.ones(3))
        assert displacement.isfinite().all() and pulled.isfinite().all()
        assert pulled[0] == pulled[2] == displacement[0] == displacement[2] == 0 and displacement[1] != 0


def test_rates_of_groups_and_an_inner_rate():
    one, two, outside = (nn.Parameter(torch.randn(3)) for _ in range(3))
    d = torch.randn(3)
    optimizer = optim.SGD([{"params": [one], "lr": 0.2}, {"params": [two], "lr": 0.05}], lr=1.0)

    def displaced(step, *parameters):
        step.prepare(parameters)
        return [float((step.displacement(p, d) / d).mean()) for p in parameters]

    assert displaced(OptimizerStep(optimizer), one, two, outside) == pytest.approx([0.2, 0.05, 0])
    assert displaced(OptimizerStep(optimizer, inner_lr=1.0), one, two) == pytest.approx([1, 0.25])
    assert displaced(OptimizerStep(optimizer, inner_lr=1.0), two) == pytest.approx([1])  # the head's rate is no matter
    assert displaced(GradientStep({one: 0.3}), one, two) == pytest.approx([0.3, 0])
    step = OptimizerStep(optimizer)
    step.prepare([one])
    assert step.uniform == 0.2 and not step.needs_gradient
    step.prepare([one, two])
    assert step.uniform is None
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.0  # a warm-up's first step
    assert displaced(OptimizerStep(optimizer, inner_lr=0.5), one, two) == pytest.approx([0.5, 0.5])
    optimizer.param_groups[0]["lr"] = torch.tensor(0.7)
    assert displaced(OptimizerStep(optimizer), one, two) == pytest.approx([0.7, 0])


def test_another_state_in_place_of_the_optimizers():
    parameter, d = nn.Parameter(torch.randn(4)), torch.randn(4)
    optimizer = trained("adamw", [parameter], 3)
    other = trained("adamw", [parameter], 2)
    expected = OptimizerStep(other).displacement(parameter, d)
    assert torch.equal(OptimizerStep(optimizer, state=other.state).displacement(parameter, d), expected)


def test_an_optimizer_whose_step_is_not_known_is_refused():
    class Mine(optim.SGD):
        """Steps as it likes."""

    parameter = nn.Parameter(torch.zeros(2))
    for optimizer in (Mine([parameter], 0.1), optim.Adamax([parameter])):
        assert not OptimizerStep.is_known(optimizer)
        with pytest.raises(InputError, match=re.escape(f"no virtual step of {type(optimizer).__name__}; take one of")):
            OptimizerStep(optimizer)


@pytest.mark.parametrize("inner", ["optimizer", "full"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_double_backward_gives_the_same_with_each_optimizer(name, inner):
    setting = virtual(Setting(*NETWORKS["own"]), name, inner)
    result = setting.ours()
    assert result.method == "forward" and result.consistent and result.consistency < 1e-11
    assert_same(result, setting.reference())


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("inner", ["optimizer", "full"])
@pytest.mark.parametrize("network", NETWORKS)
def test_double_backward_gives_the_same_on_each_network(network, inner, train):
    setting = virtual(Setting(*NETWORKS[network], tasks=2, train=train), "adamw", inner)
    result = setting.ours()
    assert result.method == "forward" and result.consistent and result.finite
    assert_same(result, setting.reference())


@pytest.mark.parametrize("inner", ["optimizer", "full"])
def test_the_first_step_without_any_state(inner):
    setting = virtual(Setting(*NETWORKS["own"]), "adam", inner, steps=0)
    assert_same(setting.ours(), setting.reference())


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


def test_a_gradient_that_overflows_is_not_finite():
    """Of a weight that φ's gradient does not show: 1/(√∞ + ε) = 0."""
    network, phi = nn.Linear(2, 2, bias=False), Identity(2)
    optimizer = optim.Adam(network.parameters())
    image = torch.tensor([[1e200, 1.0]])
    branch = Branch(lambda features: (features[:, :1] * 1e200).sum())
    batch = MetaBatch((image,), {"other": branch}, Branch(lambda features: features[:, 1].tanh().sum()))
    options = MetaOptions(approximate=True, method="double_vjp")
    assert not meta_gradient(network, [batch], {"other": [phi]}, OptimizerStep(optimizer), options).finite
