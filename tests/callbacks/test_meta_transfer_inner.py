"""The virtual step of TaskMetaTransfer under the Trainer, against double backward through the optimizer's own step."""

import copy
import logging

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.func import functional_call

from lightning_taskonomy.callbacks import TaskMetaTransfer

OPTIMIZERS = {
    "adamw": lambda params, **more: torch.optim.AdamW(params, lr=0.02, weight_decay=0.1, **more),
    "sgd": lambda params, **more: torch.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True, **more),
}

ALONE = {
    torch.optim.AdamW: ("lr", "betas", "eps", "weight_decay"),
    torch.optim.SGD: ("lr", "momentum", "dampening", "weight_decay", "nesterov"),
}


def still(parameters):
    """An optimizer of the projections that moves nothing but keeps their gradients."""
    parameters = list(parameters)
    optimizer = torch.optim.SGD(parameters, 0.0)
    optimizer.seen = []
    optimizer.register_step_pre_hook(lambda *ignored: optimizer.seen.append([p.grad.clone() for p in parameters]))
    return optimizer


def callback(**options):
    return TaskMetaTransfer("few", ["many"], **{"rank": 2, "optimizer": still, **options})


def with_optimizer(module, make, groups=False, **more):
    """The module under another optimizer, which keeps what the last batch began with."""

    def configure():
        backbone = [*module.backbone.parameters()]
        parts = [{"params": backbone[:2], "lr": 0.01}, {"params": [*backbone[2:], *module.heads.parameters()]}]
        module.optimizer = make(parts if groups else module.parameters(), **more)
        return module.optimizer

    def keep(*ignored):
        module.before = copy.deepcopy(module.state_dict()), copy.deepcopy(module.optimizer.state_dict())

    module.configure_optimizers, module.on_train_batch_start = configure, keep
    return module


def by_hand(module, phi, batch, rng, step, *, joint=False, normalize=False, current=False, held_out=None):
    """Eqs. 1 to 4 by double backward through ``step``, from parameters and their gradients to Θ⁺."""
    torch.set_rng_state(rng)
    features = module.backbone(batch["image"])
    leaf = features.detach().requires_grad_()
    loss = module.task_loss("many", module.heads["many"](leaf), batch)
    gradient, *of_head = torch.autograd.grad(loss, [leaf, *module.heads["many"].parameters()])
    matrix = (torch.diag(phi.diagonal) + phi.factor @ phi.factor.T).to(gradient)
    projected = torch.einsum("cd,bdhw->bchw", matrix, gradient)
    if normalize:
        projected = projected * gradient.norm() / projected.norm()
    parameters = dict(module.backbone.named_parameters())
    pulled = torch.autograd.grad((features * projected).sum(), list(parameters.values()), create_graph=True)
    ahead = dict(zip(parameters, step(list(parameters.values()), pulled), strict=True))
    labels = batch if held_out is None else held_out
    torch.set_rng_state(rng)
    there = functional_call(module.backbone, ahead, (labels["image"],))
    outer = module.task_loss("few", module.heads["few"](there), labels)
    heads = list(module.heads["few"].parameters())
    if current:
        torch.set_rng_state(rng)
        here = module.task_loss("few", module.heads["few"](module.backbone(batch["image"])), batch)
        network = torch.autograd.grad(here, [*parameters.values(), *heads])
    else:
        network = torch.autograd.grad(outer, [*ahead.values(), *heads], retain_graph=True)
    names = [*(f"backbone.{name}" for name in parameters), *named(module, "few")]
    seen = dict(zip(names, network, strict=True))
    if joint:
        seen |= {f"backbone.{n}": seen[f"backbone.{n}"] + d.detach() for n, d in zip(parameters, pulled, strict=True)}
        seen |= dict(zip(named(module, "many"), of_head, strict=True))
    return seen, torch.autograd.grad(outer, list(phi.parameters()))


def named(module, head):
    return [f"heads.{head}.{name}" for name, _ in module.heads[head].named_parameters()]


def stepped(optimizer, inner):
    """From parameters and gradients to Θ⁺: by torch's own differentiable step, or by P from the optimizer's state."""
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}

    def whole(parameter, gradient):
        place = parameter.detach().clone()
        options = {key: value for key, value in groups[parameter].items() if key in ALONE[type(optimizer)]}
        alone = type(optimizer)([place], **options, differentiable=True)
        entries = optimizer.state.get(parameter, {})
        if isinstance(optimizer, torch.optim.SGD) and not entries:  # torch detaches its first buffer
            entries = {"momentum_buffer": torch.zeros_like(parameter)}
        alone.state[place] = {k: v.double().clone() if isinstance(v, torch.Tensor) else v for k, v in entries.items()}
        place.grad = gradient
        torch.set_default_dtype(torch.float64)  # in float32 a differentiable step rounds its bias correction
        alone.step()
        torch.set_default_dtype(torch.float32)
        return place

    def scaled(parameter, gradient):
        group, entries = groups[parameter], optimizer.state.get(parameter, {})
        if isinstance(optimizer, torch.optim.SGD):
            return parameter.detach() - group["lr"] * gradient
        count, beta = float(entries.get("step", 0)) + 1, group["betas"][1]
        second = beta * entries.get("exp_avg_sq", 0.0) + (1 - beta) * gradient.detach() ** 2
        return parameter.detach() - group["lr"] * gradient / ((second / (1 - beta**count)).sqrt() + group["eps"])

    step = whole if inner == "full" else scaled
    return lambda parameters, gradients: [step(p, d) for p, d in zip(parameters, gradients, strict=True)]


def close(actual, expected, **tolerance):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def check(module, transfer, batch, name, inner, held_out=None, groups=False, state=None, **options):
    """The last meta step of a fit in float64 is that of double backward."""
    weights, kept = module.before
    norm = isinstance(module.backbone[1], torch.nn.BatchNorm2d)
    twin = type(module)(norm=norm, dropout=module.backbone[3].p).double()
    twin.load_state_dict(weights)
    optimizer = with_optimizer(twin, OPTIMIZERS[name], groups).configure_optimizers()
    optimizer.load_state_dict(state or kept)
    (phi,) = transfer.projections["many"]
    step = stepped(optimizer, inner)
    network, projections = by_hand(twin, phi, batch, module.states[-1], step, held_out=held_out, **options)
    close(module.seen[-1], network, rtol=1e-8, atol=1e-12)
    for actual, expected in zip(transfer.learner.optimizer.seen[-1], projections, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-13)
    assert all(value.abs().max() > 0 for value in projections)


@pytest.mark.parametrize("pattern", ["m", "amaam"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("inner", ["optimizer", "full"])
def test_the_meta_gradient_is_that_through_the_optimizers_step(pattern, name, inner, two_headed, batches_of, fit):
    """Also before the optimizer has any state, where torch cannot differentiate a step on 0."""
    module = with_optimizer(two_headed(norm=pattern != "m", dropout=0.3), OPTIMIZERS[name])
    transfer, batches = callback(inner=inner), batches_of(pattern, dtype=torch.float64)
    fit(module, [transfer], batches, precision="64-true")
    check(module, transfer, batches[-1], name, inner)


@pytest.mark.parametrize("inner", ["optimizer", "full"])
def test_groups_have_rates_of_their_own(inner, two_headed, batches_of, fit):
    module = with_optimizer(two_headed(), OPTIMIZERS["adamw"], groups=True)
    transfer, batches = callback(inner=inner), batches_of("amam", dtype=torch.float64)
    fit(module, [transfer], batches, precision="64-true")
    check(module, transfer, batches[-1], "adamw", inner, groups=True)


@pytest.mark.parametrize(
    "options",
    [
        {"on_meta": "joint"},
        {"on_meta": "joint", "primary_at": "current"},
        {"normalize": True},
        {"meta_batch": "held_out"},
        {"meta_batch": "held_out", "primary_at": "current", "on_meta": "joint", "normalize": True},
    ],
)
def test_what_a_meta_batch_teaches(options, two_headed, batches_of, fit):
    module = with_optimizer(two_headed(), OPTIMIZERS["adamw"])
    transfer, batches = callback(**options), batches_of("amam", dtype=torch.float64)
    others = batches_of("mmmmm", dtype=torch.float64)[-1]
    if "meta_batch" in options:
        batches = [{**batch, "held_out": others} if "few" in batch else batch for batch in batches]
    fit(module, [transfer], batches, precision="64-true")
    check(
        module, transfer, batches[-1], "adamw", "optimizer", others if "meta_batch" in options else None,
        joint="on_meta" in options, normalize="normalize" in options, current="primary_at" in options,
    )  # fmt: skip


def test_gradient_descent_is_the_papers_whatever_the_optimizer(two_headed, batches_of, fit):
    module = with_optimizer(two_headed(), OPTIMIZERS["adamw"], groups=True)
    transfer, batches = callback(inner="gradient", inner_lr=0.4), batches_of("amam", dtype=torch.float64)
    fit(module, [transfer], batches, precision="64-true")
    twin = two_headed().double()
    twin.load_state_dict(module.before[0])
    rates = [0.2, 0.2, *[0.4] * 4]  # the others keep their proportion to the largest, 0.01 : 0.02
    (phi,) = transfer.projections["many"]
    network, projections = by_hand(
        twin, phi, batches[-1], module.states[-1],
        lambda parameters, pulled: [p - r * d for p, r, d in zip(parameters, rates, pulled, strict=True)],
    )  # fmt: skip
    close(module.seen[-1], network, rtol=1e-8, atol=1e-12)
    for actual, expected in zip(transfer.learner.optimizer.seen[-1], projections, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-13)


def test_an_optimizer_that_is_not_known_falls_back_and_says_so_once(two_headed, batches_of, fit, caplog):
    seen = []
    for inner in ("optimizer", "gradient"):
        module = with_optimizer(two_headed(), lambda params: torch.optim.Adamax(params, lr=0.02))
        transfer = callback(inner=inner)
        with caplog.at_level(logging.WARNING):
            fit(module, [transfer], batches_of("amaam"))
        seen.append({**module.seen[-1], **dict(enumerate(transfer.learner.optimizer.seen[-1]))})
    close(*seen, rtol=0, atol=0)
    assert caplog.text.count("the step of Adamax is not known") == 1
    assert "take one of SGD, Adam, AdamW, NAdam, RMSprop, Adagrad, or an inner_lr with which" in caplog.text


@pytest.mark.parametrize("inner", ["optimizer", "full"])
def test_gradient_clipping_stays_outside_the_virtual_step(inner, two_headed, batches_of, fit):
    """It shortens the real step, neither the virtual one nor what φ learns from it."""
    seen = []
    for clip in (None, 1e-3):
        module, transfer, lengths = two_headed(norm=False), callback(inner=inner), []
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.02, eps=1e-2)
        for parameter in module.parameters():  # moments to begin with, without which a step hardly depends on length
            parameter.grad = 0.1 * parameter.detach().sign()
        optimizer.step()
        optimizer.zero_grad()
        module.configure_optimizers = lambda optimizer=optimizer: optimizer
        log = transfer.instruments.log_meta_step
        transfer.instruments.log_meta_step = lambda trainer, module, result, lengths=lengths, log=log: (
            lengths.append(result.step_length), log(trainer, module, result)
        )  # fmt: skip
        fit(module, [transfer], batches_of("m"), gradient_clip_val=clip)
        seen.append((transfer.learner.optimizer.seen[-1], lengths, module.state_dict()))
    (gradients, lengths, weights), (clipped, clipped_lengths, clipped_weights) = seen
    torch.testing.assert_close((clipped, clipped_lengths), (gradients, lengths), rtol=0, atol=0)
    assert any(not torch.equal(weights[name], value) for name, value in clipped_weights.items())


@pytest.mark.parametrize("inner", ["optimizer", "full"])
@pytest.mark.parametrize("flag", ["fused", "foreach"])
def test_the_state_of_fused_and_foreach_steps_reads_the_same(flag, inner, two_headed, batches_of, fit):
    ends = []
    for on in (False, True):
        module = with_optimizer(two_headed(), OPTIMIZERS["adamw"], **{flag: on})
        transfer = callback(inner=inner)
        fit(module, [transfer], batches_of("amaam", dtype=torch.float64), precision="64-true")
        ends.append({**module.state_dict(), **dict(enumerate(transfer.learner.optimizer.seen[-1]))})
    close(*ends, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("options", [{}, {"inner": "full"}, {"on_meta": "joint", "normalize": True}])
def test_an_accumulated_step_is_that_of_its_whole(parts, options, two_headed, batches_of, fit):
    """Of three parts the epoch has two: Lightning's divisor makes each loss two thirds of what it is."""
    whole, halves = batches_of("am", count=4, dtype=torch.float64), []
    for batch in whole:
        halves += [{name: value[at : at + 2] for name, value in batch.items()} for at in (0, 2)]
    if parts == 3:
        whole, halves = whole[1:], halves[2:]
    ends = []
    for batches, factor, accumulate in ((whole, 2 / parts, 1), (halves, 1.0, parts)):
        module = with_optimizer(two_headed(norm=False), OPTIMIZERS["adamw"], eps=1e-3)
        plain = module.task_loss
        module.task_loss = lambda *args, plain=plain, factor=factor: factor * plain(*args)
        # a map's length is that of its micro-batch: a projection that is a number is the same in both
        transfer = callback(**options, **({"projection": "identity"} if "normalize" in options else {}))
        fit(module, [transfer], batches, precision="64-true", accumulate_grad_batches=accumulate)
        record = getattr(transfer.learner.optimizer, "seen", [[]])[-1]
        ends.append({**module.state_dict(), **module.seen[-1], **dict(enumerate(record))})
    close(*ends, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}])
def test_joint_with_the_identity_is_multi_task_learning(options, two_headed, batches_of, fit):
    """Fifty steps, meta and auxiliary ones mixed, with batch normalization in backbone and heads."""
    ends = []
    for callbacks in ([callback(projection="identity", primary_at="current", on_meta="joint")], []):
        module = with_optimizer(two_headed(), OPTIMIZERS["adamw"])
        batches = batches_of(("mmaaaammaa" * 10) if options else "maamaaaama" * 5, dtype=torch.float64)
        trainer = fit(module, callbacks, batches, precision="64-true", **options)
        assert trainer.global_step == 50
        ends.append(module.state_dict())
    close(*ends, rtol=1e-7, atol=1e-7)  # a bias before batch normalization moves by rounding alone, which Adam enlarges
    assert (ends[0]["backbone.0.weight"] - two_headed().backbone[0].weight).abs().max() > 0.1


@pytest.mark.parametrize("on_meta", ["primary", "joint"])
@pytest.mark.parametrize("where", ["virtual", "current"])
@pytest.mark.parametrize("meta_batch", ["same", "held_out"])
def test_running_statistics_move_once_a_step(on_meta, where, meta_batch, two_headed, batches_of, fit):
    """Those of backbone and both heads, by the batch's own images."""
    module, plain = two_headed(lr=0.0), two_headed(lr=0.0)
    batches = batches_of("mm")
    others = [{**batch, "held_out": other} for batch, other in zip(batches, batches_of("mmmm")[2:], strict=True)]
    fit(module, [callback(on_meta=on_meta, primary_at=where, meta_batch=meta_batch)], others)
    fit(plain, [], batches)
    close(dict(module.named_buffers()), dict(plain.named_buffers()))


def fp16(two_headed, batches_of, fit, scale, pattern, **options):
    module = with_optimizer(two_headed(norm=False), OPTIMIZERS["adamw"], eps=1e-2)
    plugins = (
        [] if scale is None else [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))]
    )
    transfer = callback(**options)
    fit(module, [transfer], batches_of(pattern), plugins=plugins)
    return module, transfer


@pytest.mark.parametrize("options", [{}, {"inner": "full", "on_meta": "joint"}, {"normalize": True}])
def test_fp16_steps_in_true_units(options, two_headed, batches_of, fit):
    """The optimizer's state is in them, while gradients are scaled."""
    ours, transfer = fp16(two_headed, batches_of, fit, 1024.0, "amam", **options)
    exact, other = fp16(two_headed, batches_of, fit, None, "amam", **options)
    close(ours.seen[-1], exact.seen[-1], rtol=0.03, atol=3e-3)
    for actual, expected in zip(transfer.learner.optimizer.seen[-1], other.learner.optimizer.seen[-1], strict=True):
        torch.testing.assert_close(actual, expected, rtol=0.03, atol=0.02 * float(expected.abs().max()))


def test_a_step_that_fp16_skips_leaves_all_as_it_was(two_headed, batches_of, fit):
    options = {"phi_batches": 2, "anchor": 0.5, "separate_moments": True, "on_meta": "joint"}
    module, transfer = fp16(two_headed, batches_of, fit, 2.0**40, "m", **options)
    close(dict(module.named_parameters()), dict(two_headed(norm=False).named_parameters()), rtol=0, atol=0)
    assert not transfer.learner.optimizer.seen and transfer.learner.state_dict()["count"] == 0
    assert all(not state for state in module.optimizer.state.values())


def test_the_projections_skip_what_the_scaler_skips(two_headed, batches_of, fit):
    """Of a joint step an auxiliary head's gradient alone overflows."""
    module, transfer = with_optimizer(two_headed(norm=False), OPTIMIZERS["adamw"]), callback(on_meta="joint")
    module.heads["many"][2].bias.register_hook(lambda gradient: gradient / 0)
    before = copy.deepcopy(dict(module.named_parameters()))
    scaler = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0))
    fit(module, [transfer], batches_of("m"), plugins=[scaler])
    assert [name for name, gradient in module.seen[-1].items() if not gradient.isfinite().all()] == [
        "heads.many.2.bias"
    ]
    close(dict(module.named_parameters()), before, rtol=0, atol=0)
    assert not transfer.learner.optimizer.seen


def test_bf16_within_its_rounding(two_headed, batches_of, fit):
    seen = []
    for precision in ("32-true", "bf16-mixed"):
        module = with_optimizer(two_headed(norm=False), OPTIMIZERS["adamw"], eps=1e-2)
        transfer = callback(on_meta="joint")
        fit(module, [transfer], batches_of("amam"), precision=precision)
        seen.append([torch.cat([value.flatten() for value in values]) for values in
                     (module.seen[-1].values(), transfer.learner.optimizer.seen[-1])])  # fmt: skip
    for exact, ours in zip(*seen, strict=True):
        assert torch.cosine_similarity(ours, exact, dim=0) > 0.98


@pytest.mark.parametrize("missing", ["states", "weights alone"])
def test_a_fit_goes_on_without_the_optimizers_state(missing, two_headed, batches_of, fit, tmp_path):
    """As at a first step: one whose checkpoint lost it, one that starts from weights."""
    batches = batches_of("amam", dtype=torch.float64)
    first = with_optimizer(two_headed(), OPTIMIZERS["adamw"])
    fit(first, [callback()], batches[:2], precision="64-true").save_checkpoint(tmp_path / "whole.ckpt")
    checkpoint = torch.load(tmp_path / "whole.ckpt", weights_only=True)
    module, transfer = with_optimizer(two_headed(), OPTIMIZERS["adamw"]), callback(inner="full")
    if missing == "states":
        for state in checkpoint["optimizer_states"]:
            state["state"] = {}
        torch.save(checkpoint, tmp_path / "stripped.ckpt")
        fit(module, [transfer], batches[1:2], tmp_path / "stripped.ckpt", precision="64-true", max_epochs=2)
    else:
        module.double().load_state_dict(checkpoint["state_dict"])
        fit(module, [transfer], batches[1:2], precision="64-true")
    assert not module.before[1]["state"]
    check(module, transfer, batches[1], "adamw", "full")
