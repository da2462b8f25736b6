"""TaskMetaTransfer under the Trainer, against autograd by hand and against plain multi-task learning."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torchmetrics import MeanAbsoluteError, MeanMetric, MeanSquaredError, MetricCollection

from lightning_taskonomy.callbacks import ResumeCheckpoint, TaskMetaTransfer
from lightning_taskonomy.callbacks.bifurcation import Bifurcation
from lightning_taskonomy.callbacks.meta_transfer.outer import OuterStep
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

ALPHA = 0.3


class Recorder:
    """An optimizer for the projections that remembers what it was given and moves nothing unless told."""

    def __init__(self, lr=0.0):
        self.lr, self.gradients = lr, []

    def __call__(self, parameters):
        parameters = list(parameters)
        optimizer = torch.optim.SGD(parameters, self.lr)
        optimizer.register_step_pre_hook(
            lambda *ignored: self.gradients.append([parameter.grad.clone() for parameter in parameters])
        )
        return optimizer


def callback(**options):
    return TaskMetaTransfer("few", ["many"], **{"rank": 2, "inner_lr": ALPHA, **options})


def by_hand(module, projections, batch, state, alpha=ALPHA, mean=False):
    """Eqs. 1 to 4 by double backward: the primary gradient at Θ⁺ and the projections' gradient."""
    (phi,) = projections["many"]
    torch.set_rng_state(state)
    features = module.backbone(batch["image"])
    leaf = features.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module.task_loss("many", module.heads["many"](leaf), batch), leaf)
    matrix = torch.diag(phi.diagonal) + phi.factor @ phi.factor.T
    projected = torch.einsum("cd,bdhw->bchw", matrix.to(gradient), gradient)
    parameters = dict(module.backbone.named_parameters())
    pulled = torch.autograd.grad((features * projected).sum(), list(parameters.values()), create_graph=True)
    ahead = {name: p - alpha * d for (name, p), d in zip(parameters.items(), pulled, strict=True)}
    torch.set_rng_state(state)
    there = functional_call(module.backbone, ahead, (batch["image"],))
    loss = module.task_loss("few", module.heads["few"](there), batch)
    heads = {f"heads.few.{name}": p for name, p in module.heads["few"].named_parameters()}
    gradients = torch.autograd.grad(loss, [*ahead.values(), *heads.values(), *phi.parameters()])
    names = [*(f"backbone.{name}" for name in parameters), *heads]
    return dict(zip(names, gradients, strict=False)), gradients[len(names) :]


def close(actual, expected, **tolerance):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, **tolerance)


def test_a_meta_step_is_the_papers(two_headed, batches_of, fit):
    module, record = two_headed(dropout=0.3), Recorder()
    batches = batches_of("m", dtype=torch.float64)
    before = copy.deepcopy(module).double()
    transfer = callback(optimizer=record)
    trainer = fit(module, [transfer], batches, precision="64-true")
    (batch,) = batches
    network, projections = by_hand(before.train(), transfer.projections, batch, module.states[0])
    close(module.seen[0], network, rtol=1e-8, atol=1e-12)
    for actual, expected in zip(record.gradients[0], projections, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    assert module.steps == 1 == trainer.global_step
    close(dict(module.heads["many"].named_parameters()), dict(before.heads["many"].named_parameters()))


@pytest.mark.parametrize("where", ["virtual", "current"])
def test_running_statistics_move_once(two_headed, batches_of, fit, where):
    module, plain = two_headed(), two_headed()
    fit(module, [callback(primary_at=where)], batches_of("m"))
    fit(plain, [], batches_of("m"))
    close(dict(module.named_buffers()), dict(plain.named_buffers()))


def test_the_primary_gradient_at_theta_is_that_of_its_loss(two_headed, batches_of, fit):
    module, plain = two_headed(), two_headed()
    batches = batches_of("m")
    fit(module, [callback(primary_at="current")], batches)
    loss = plain.task_loss("few", plain.heads["few"](plain.backbone(batches[0]["image"])), batches[0])
    loss.backward()
    close(module.seen[0], {name: p.grad for name, p in plain.named_parameters() if p.grad is not None})


def test_auxiliary_steps_with_the_identity_are_plain_multi_task_learning(two_headed, batches_of, fit):
    module, plain = (two_headed(dropout=0.3, momentum=0.9, weight_decay=0.1) for _ in range(2))
    torch.manual_seed(5)
    fit(module, [callback(projection="identity")], batches_of("aaaa"))
    torch.manual_seed(5)
    fit(plain, [], batches_of("aaaa"))
    close(module.state_dict(), plain.state_dict(), rtol=1e-6, atol=1e-7)


def test_an_auxiliary_step_projects_the_gradient_of_the_backbone_alone(two_headed, batches_of, fit):
    module, before = two_headed(), two_headed()
    transfer, (batch,) = callback(), batches_of("a")
    fit(module, [transfer], [batch])
    features = before.backbone(batch["image"])
    leaf = features.detach().requires_grad_()
    before.task_loss("many", before.heads["many"](leaf), batch).backward()
    (phi,) = transfer.projections["many"]
    matrix = torch.diag(phi.diagonal) + phi.factor @ phi.factor.T
    features.backward(torch.einsum("cd,bdhw->bchw", matrix, leaf.grad).detach())
    close(module.seen[0], {name: p.grad for name, p in before.named_parameters() if p.grad is not None})


@pytest.mark.parametrize("parts", [2, 3])
def test_accumulated_micro_batches_are_one_batch(two_headed, batches_of, fit, parts):
    """Without batch statistics; with an epoch that ends early Lightning's own divisor stays."""
    whole, halves = batches_of("m", count=4)[0], []
    for at in (0, 2):
        halves.append({name: value[at : at + 2] for name, value in whole.items()})
    one, many = two_headed(norm=False), two_headed(norm=False)
    records = Recorder(), Recorder()
    fit(one, [callback(optimizer=records[0], inner_lr=ALPHA * 2 / parts)], [whole])
    fit(many, [callback(optimizer=records[1])], halves, accumulate_grad_batches=parts)
    assert len(many.seen) == 1 == len(records[1].gradients)
    close(many.seen[0], {name: 2 / parts * value for name, value in one.seen[0].items()}, rtol=1e-4, atol=1e-6)
    for actual, expected in zip(records[1].gradients[0], records[0].gradients[0], strict=True):
        torch.testing.assert_close(actual, 2 / parts * expected, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`:UserWarning")
def test_a_micro_batch_without_a_loss_counts_as_none(two_headed, batches_of, fit):
    """Though it is the last one; Lightning's divisor stays."""
    modules, records = [two_headed(norm=False) for _ in range(2)], [Recorder() for _ in range(2)]
    plain = modules[1].training_step
    modules[1].training_step = lambda batch, batch_idx: None if batch_idx else plain(batch, batch_idx)
    fit(modules[0], [callback(optimizer=records[0], inner_lr=ALPHA / 2)], batches_of("m"))
    fit(modules[1], [callback(optimizer=records[1])], batches_of("mm"), accumulate_grad_batches=2)
    close(modules[1].seen[0], {name: value / 2 for name, value in modules[0].seen[0].items()})
    for actual, expected in zip(records[1].gradients[0], records[0].gradients[0], strict=True):
        torch.testing.assert_close(actual, expected / 2)


def test_bf16_within_its_rounding(two_headed, batches_of, fit):
    seen = {}
    for precision in ("32-true", "bf16-mixed"):
        module, record = two_headed(norm=False), Recorder()
        fit(module, [callback(optimizer=record)], batches_of("ma"), precision=precision)
        seen[precision] = module.seen, record.gradients
    for ours, exact in zip(*(steps for steps, _ in seen.values()), strict=True):
        for name, value in exact.items():
            torch.testing.assert_close(ours[name], value, rtol=0.05, atol=0.02 * float(value.abs().max() + 0.1))
    for ours, exact in zip(*(gradients[0] for _, gradients in seen.values()), strict=True):
        assert torch.cosine_similarity(ours.flatten(), exact.flatten(), dim=0) > 0.98


def scaled(two_headed, batches_of, fit, scale, pattern="ma", **options):
    module, record = two_headed(norm=False), Recorder(0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    transfer = callback(optimizer=record)
    fit(module, [transfer], batches_of(pattern), plugins=[MixedPrecision("16-mixed", "cpu", scaler)], **options)
    return module, record, scaler


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`:UserWarning")
def test_the_projections_stay_where_the_scaler_takes_no_step(two_headed, batches_of, fit):
    """Lightning leaves out the step of a scaled loss whose last micro-batch has none."""

    def without_last(**options):
        module = two_headed(**options)
        plain = module.training_step
        module.training_step = lambda batch, batch_idx: None if batch_idx else plain(batch, batch_idx)
        return module

    module, record, _ = scaled(without_last, batches_of, fit, 256.0, "mm", accumulate_grad_batches=2)
    close(dict(module.named_parameters()), dict(two_headed(norm=False).named_parameters()), rtol=0, atol=0)
    assert not record.gradients


@pytest.mark.parametrize(
    ("pattern", "options"), [("ma", {}), ("mm", {"accumulate_grad_batches": 2}), ("mm", {"accumulate_grad_batches": 3})]
)
def test_fp16_takes_its_loss_scale_out_again(pattern, options, two_headed, batches_of, fit):
    """Even where an epoch ends before as many batches as are accumulated."""
    module, record, _ = scaled(two_headed, batches_of, fit, 256.0, pattern, **options)
    plain, exact = two_headed(norm=False), Recorder(0.1)
    fit(plain, [callback(optimizer=exact)], batches_of(pattern), **options)
    for ours, value in zip(module.seen, plain.seen, strict=True):
        close(ours, value, rtol=0.02, atol=2e-3)
    for ours, value in zip(record.gradients[0], exact.gradients[0], strict=True):
        torch.testing.assert_close(ours, value, rtol=0.02, atol=1e-3)


def test_an_overflow_in_fp16_skips_both_optimizers(two_headed, batches_of, fit):
    before = dict(two_headed(norm=False).named_parameters())
    module, record, scaler = scaled(two_headed, batches_of, fit, 2.0**40)
    assert record.gradients == [] and scaler.get_scale() < 2.0**40
    close(dict(module.named_parameters()), before)


class Overflowing(nn.Module):
    """A scalar whose gradient is not a number."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.weight.register_hook(lambda gradient: gradient / 0)

    def forward(self, gradient):
        return self.weight * gradient


def test_an_overflow_of_the_projections_alone_skips_their_step_alone(two_headed, batches_of, fit, caplog):
    seen = []
    for projection in (Overflowing, "scalar"):
        module, record = two_headed(norm=False), Recorder(0.1 if projection is Overflowing else 0.0)
        transfer, scaler = (
            callback(projection=projection, optimizer=record),
            torch.amp.GradScaler("cpu", init_scale=256.0),
        )
        with caplog.at_level(logging.WARNING):
            fit(module, [transfer], batches_of("mam"), plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
        seen.append((module.state_dict(), transfer.projections["many"][0].weight.detach(), scaler.get_scale()))
        assert len(record.gradients) == (0 if projection is Overflowing else 2)
    assert caplog.text.count("overflowed in fp16") == 1
    torch.testing.assert_close(*seen, rtol=0, atol=0)
    assert seen[0][1:] == (1.0, 256.0)


def test_clipping_bounds_the_networks_step(two_headed, batches_of, fit):
    module, before = two_headed(), two_headed()
    fit(module, [callback()], batches_of("m"), gradient_clip_val=1e-3)
    moved = [(p - q).norm() for p, q in zip(module.parameters(), before.parameters(), strict=True)]
    torch.testing.assert_close(torch.stack(moved).norm(), torch.tensor(0.05 * 1e-3), rtol=1e-2, atol=0)


def test_the_virtual_step_is_as_long_as_the_networks_learning_rate(two_headed, batches_of, fit):
    seen = []
    for inner_lr in (None, 0.05):
        module = two_headed(lr=0.05)
        fit(module, [callback(inner_lr=inner_lr)], batches_of("m"))
        seen.append(module.seen[0])
    close(*seen)


@pytest.mark.parametrize("until", [1, 2])
def test_a_resumed_fit_ends_as_the_unbroken_one(two_headed, batches_of, fit, tmp_path, until):
    def pieces():
        module = two_headed(dropout=0.3, momentum=0.9)
        resume = ResumeCheckpoint(tmp_path, seconds=0)
        transfer = callback(optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1))
        return module, transfer, [resume, transfer]

    batches = batches_of("maam")
    unbroken, first, callbacks = pieces()
    fit(unbroken, callbacks, batches, max_epochs=3)
    callbacks[0].remove()
    module, _, callbacks = pieces()
    fit(module, callbacks, batches, max_epochs=until)
    module, second, callbacks = pieces()
    trainer = fit(module, callbacks, batches, str(callbacks[0].path), max_epochs=3)
    assert trainer.global_step == 12 and second.taken == first.taken == {"meta": 6, "auxiliary": 6}
    close(module.state_dict(), unbroken.state_dict(), rtol=0, atol=0)
    for one, other in zip(first.projections["many"], second.projections["many"], strict=True):
        close(one.state_dict(), other.state_dict(), rtol=0, atol=0)
    torch.load(tmp_path / "resume.ckpt", weights_only=True)


def test_the_trainers_own_ways_stay(two_headed, batches_of, fit, tmp_path):
    module = two_headed()
    checkpoint = ModelCheckpoint(tmp_path, monitor="meta/primary_loss", filename="best")
    stopping = EarlyStopping("meta/primary_loss", min_delta=1e9, patience=1)
    trainer = fit(
        module, [callback(auxiliary_steps=2), checkpoint, stopping], batches_of("maamaa"), max_epochs=9,
        enable_checkpointing=True,
    )  # fmt: skip
    assert trainer.current_epoch == 2 and trainer.global_step == 12 == module.steps
    assert (tmp_path / "best.ckpt").is_file()
    assert not module.backbone._forward_hooks and not module.heads["few"]._forward_hooks


def test_the_runs_seed_decides_how_projections_start(two_headed, batches_of, fit):
    drawn = []
    for seed in (1, 1, 2):
        module, transfer = two_headed(), callback(optimizer=Recorder())
        torch.manual_seed(seed)
        fit(module, [transfer], batches_of("m"))
        drawn.append(transfer.projections["many"][0].factor)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_an_epoch_may_end_within_a_cycle(two_headed, batches_of, fit):
    transfer = callback(auxiliary_steps=2)
    fit(two_headed(), [transfer], batches_of("maama"), max_epochs=2)
    assert transfer.taken == {"meta": 4, "auxiliary": 6}


def test_what_it_logs(two_headed, batches_of, fit):
    metrics = fit(two_headed(), [callback(approximate=True)], batches_of("maa")).callback_metrics
    assert {"meta/primary_loss", "meta/auxiliary_loss", "meta/alignment", "meta/consistency", "meta/exactness",
            "meta/many/lambda_mean", "meta/many/eigenvalue_1", "meta/many/eigenvalue_2"} <= metrics.keys()  # fmt: skip
    assert metrics["meta/exactness"] > 0.5 and metrics["meta/consistency"] < 1e-5
    assert metrics["meta/many/lambda_mean"] != 1.0


def test_primary_labels_of_an_auxiliary_batch_are_ignored_and_said_once(two_headed, batches_of, fit, caplog):
    module, plain = two_headed(), two_headed()
    with caplog.at_level(logging.WARNING):
        fit(module, [callback(is_meta=lambda batch: False)], batches_of("mm"))
    fit(plain, [callback()], [{k: v for k, v in b.items() if k != "few"} for b in batches_of("mm")])
    close(dict(module.named_parameters()), dict(plain.named_parameters()))
    assert caplog.text.count("nothing learns from them") == 1


class NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Wrapped(nn.Module):
    def forward(self, x):
        return NoForwardMode.apply(x)


@pytest.mark.parametrize(
    ("options", "weight", "count"), [({}, 1, 0), ({}, 3, 1), ({"accumulate_grad_batches": 2}, 1, 0)]
)
def test_weights_that_a_meta_step_would_miss_are_said_once(options, weight, count, two_headed, batches_of, fit, caplog):
    module = two_headed()
    plain = module.training_step
    module.training_step = lambda batch, batch_idx: weight * plain(batch, batch_idx)
    with caplog.at_level(logging.WARNING):
        fit(module, [TaskMetaTransfer("few", ["many"], rank=2)], batches_of("mmaamm"), **options)
    assert caplog.text.count("apply the weights in task_loss") == count


def test_heads_with_dropout_cannot_be_compared_and_are_not_warned_of(two_headed, batches_of, fit, caplog):
    module = two_headed()
    for head in module.heads.values():
        head.insert(1, nn.Dropout(0.5))
    with caplog.at_level(logging.WARNING):
        fit(module, [callback()], batches_of("mam"))
    assert "training_step's loss" not in caplog.text


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("aaa", "no batch had labels of 'few'"), ("mmm", "every batch had parallel labels"), ("mam", None)],
)
def test_an_epoch_of_one_kind_of_batches_is_said_once(pattern, message, two_headed, batches_of, fit, caplog):
    with caplog.at_level(logging.WARNING):
        fit(two_headed(), [TaskMetaTransfer("few", ["many"], rank=2)], batches_of(pattern), max_epochs=2)
    assert caplog.text.count("batch had") == (message is not None) == caplog.text.count(message or "batch had")


@pytest.mark.parametrize(("asked", "taken"), [("auto", "double_vjp"), ("finite_difference", "finite_difference")])
def test_a_method_that_was_asked_for_survives_a_resume(asked, taken):
    before = TaskMetaTransfer("few", ["many"])
    before.method = "double_vjp"  # what it had to fall back on
    transfer = TaskMetaTransfer("few", ["many"], method=asked)
    transfer.load_state_dict(before.state_dict())
    assert transfer.method == taken


def test_processes_that_disagree_on_a_batch_stop_together(monkeypatch):
    transfer = TaskMetaTransfer("few", ["many"], is_meta=lambda batch: True)
    other = [False, True]  # another process says no: the flag, and its opposite
    either = lambda flags: [a or b for a, b in zip(flags, other, strict=True)]  # noqa: E731 (a stand-in)
    monkeypatch.setattr("lightning_taskonomy.callbacks.bifurcation.base.any_process", either)
    with pytest.raises(InputError, match="one kind at a time"):
        transfer.has_parallel(SimpleNamespace(), {})


def test_labels_of_negative_classes_are_none(two_headed):
    split = Bifurcation.of(two_headed())
    flags = [split.has_label("few", {"few": torch.tensor(label)}) for label in ([-100, -1], [-100, -100], [0, -1])]
    assert flags == [False, False, True]
    assert not split.has_label("few", {"few": torch.tensor([torch.inf, torch.nan])})


def test_the_comparison_of_losses_leaves_no_trace(two_headed, batches_of, fit, monkeypatch):
    ends = []
    for compared in (True, False):
        module, transfer = two_headed(dropout=0.5), callback()
        module.heads["few"].insert(1, nn.Dropout(0.5))
        if not compared:
            monkeypatch.setattr(f"{TaskMetaTransfer.__module__}.lost_weights", lambda *ignored: None)
        fit(module, [transfer], batches_of("mama"))
        ends.append(module.state_dict())
    torch.testing.assert_close(*ends, rtol=0, atol=0)


class Talkative(nn.Module):
    """Moves a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("moved", torch.zeros(()))

    def forward(self, predictions, target):
        self.moved += 1
        return functional.mse_loss(predictions, target)


@pytest.mark.parametrize("options", [{}, {"primary_at": "current"}, {"approximate": True}])
def test_what_a_loss_logs_counts_and_moves_it_does_once(options, two_headed, batches_of, fit):
    ends = []
    for callbacks in ([callback(**options)], []):
        module = two_headed(norm=False, lr=0.0)
        module.criterion, module.mean, module.calls, module.lines = Talkative(), MeanMetric(), 0, []
        module.both = MetricCollection([MeanSquaredError(), MeanAbsoluteError()])

        def task_loss(name, predictions, batch, module=module):
            loss = module.criterion(predictions, batch[name])
            module.calls += 1
            module.mean.update(loss.detach())
            module.both.update(predictions.detach(), batch[name])
            module.log(f"{name}/loss", loss.detach(), on_step=False, on_epoch=True)
            module.log_dict({"mean": module.mean}, on_step=False, on_epoch=True)
            return loss

        module.task_loss = task_loss
        metrics = fit(module, callbacks, batches_of("mam")).callback_metrics
        counts = [module.calls, module.mean.update_count, float(module.criterion.moved)]
        ends.append(({key: value for key, value in metrics.items() if not key.startswith("meta/")}, counts,
                     module.both.compute()))  # fmt: skip
    assert ends[0] == ends[1] and ends[0][0].keys() == {"few/loss", "many/loss", "mean"}


def test_a_backbone_without_forward_mode_falls_back_and_says_so_once(two_headed, batches_of, fit, caplog):
    module, plain = two_headed(), two_headed()
    module.backbone.append(Wrapped())
    transfer = callback()
    with caplog.at_level(logging.WARNING):
        fit(module, [transfer], batches_of("mam"))
    fit(plain, [callback()], batches_of("mam"))
    assert transfer.method == "double_vjp" and caplog.text.count("meta-gradient by double_vjp") == 1
    resumed = callback()
    resumed.load_state_dict(transfer.state_dict())
    assert resumed.method == "double_vjp"  # what failed is not tried again
    close(dict(module.named_parameters()), dict(plain.named_parameters()), rtol=1e-4, atol=1e-6)


def test_the_first_meta_step_of_a_fit_inspects_the_backbone(two_headed, batches_of, fit, monkeypatch):
    asked, plain = [], OuterStep.__init__
    monkeypatch.setattr(OuterStep, "__init__", lambda *args: asked.append(args[-1].inspect) or plain(*args))
    transfer = callback()
    fit(two_headed(), [transfer], batches_of("mamm"))
    fit(two_headed(), [transfer], batches_of("amm"))
    assert asked == [True, False, False, True, False]


def test_a_method_that_was_asked_for_is_not_chosen_again(two_headed, batches_of, fit, caplog):
    module = two_headed()
    module.backbone.append(Wrapped())
    with caplog.at_level(logging.WARNING):
        fit(module, [callback(method="double_vjp")], batches_of("mam"))
    assert "meta-gradient by" not in caplog.text


def test_the_mean_of_two_tasks_is_half_their_sum(two_headed, batches_of, fit):
    """So a meta step is one at half of α, and an auxiliary step gives the backbone half the gradient."""
    seen = []
    for combine, alpha in (("mean", ALPHA), ("sum", ALPHA / 2)):
        module, record = two_headed(lr=0.0), Recorder()
        torch.manual_seed(2)
        module.heads["more"] = module.head(True)
        batches = [{**batch, "more": batch["many"].cos()} for batch in batches_of("ma")]
        transfer = TaskMetaTransfer("few", ["many", "more"], rank=2, combine=combine, inner_lr=alpha, optimizer=record)
        fit(module, [transfer], batches)
        seen.append([module.seen[0], dict(enumerate(record.gradients[0])), module.seen[1]])
    (meta, projections, auxiliary), expected = seen
    close(meta, expected[0])
    close(projections, expected[1])
    close(auxiliary, {n: g / 2 if n.startswith("backbone") else g for n, g in expected[2].items()})


@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_a_module_of_the_library_with_two_auxiliary_tasks_and_several_maps(fit, combine, caplog):
    torch.manual_seed(0)
    tasks = [Task("few", TaskKind.SEGMENTATION, "few", 4), Task("one", TaskKind.DENSE, "one", weight=0.5),
             Task("two", TaskKind.DENSE, "two")]  # fmt: skip
    random = torch.Generator().manual_seed(1)
    batches = []
    for index in range(2):
        batch = {name: torch.rand(2, 1, 32, 32, generator=random) for name in ("one", "two")}
        batch["image"] = torch.rand(2, 3, 32, 32, generator=random)
        few = torch.randint(0, 4, (2, 32, 32), generator=random)
        batches.append({**batch, "few": few if index == 0 else torch.full_like(few, -100)})
    module = MultiTaskModule(tasks, TimmBackbone("test_resnet"))
    transfer = TaskMetaTransfer("few", ["one", "two"], rank=3, combine=combine, auxiliary_steps=1)
    trainer = fit(module, [transfer], batches, max_epochs=2)
    assert transfer.taken == {"meta": 2, "auxiliary": 2} and trainer.global_step == 4
    assert {name: len(made) for name, made in transfer.projections.items()} == {"one": 5, "two": 5}
    assert trainer.callback_metrics["meta/consistency"] < 1e-4
    assert all(not p.data.isnan().any() for p in module.parameters())
    assert "training_step's loss" not in caplog.text  # head_loss has the tasks' weights too
