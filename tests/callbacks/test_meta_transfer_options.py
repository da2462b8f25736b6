"""What TaskMetaTransfer offers beyond the paper: bounds on the projections, separate moments, other images."""

import copy
import logging

import pytest
import torch
from torch import nn

from lightning_taskonomy.callbacks import MetaWeighting, ResumeCheckpoint, TaskMetaTransfer
from lightning_taskonomy.errors import InputError

RATE = 0.5


class Recorder:
    """Plain descent for the projections, which keeps their gradients and rates."""

    def __init__(self, lr=RATE):
        self.lr, self.gradients, self.rates = lr, [], []

    def __call__(self, parameters):
        parameters = list(parameters)
        self.parameters, optimizer = parameters, torch.optim.SGD(parameters, self.lr)
        optimizer.register_step_pre_hook(lambda *ignored: self.keep(optimizer))
        return optimizer

    def keep(self, optimizer):
        self.gradients.append([parameter.grad.clone() for parameter in self.parameters])
        self.rates.append(optimizer.param_groups[0]["lr"])


def callback(**options):
    return TaskMetaTransfer("few", ["many"], **{"rank": 2, "inner_lr": 0.3, **options})


def adamw(module, **options):
    module.configure_optimizers = lambda: torch.optim.AdamW(module.parameters(), **{"lr": 0.02, **options})
    return module


def close(actual, expected, **tolerance):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, **tolerance)


def test_the_projections_step_with_the_mean_of_several_meta_steps(two_headed, batches_of, fit):
    """The network does not move, so that each gradient is that of a fit of its own."""
    record, alone = Recorder(), []
    batches = batches_of("mamam")
    fit(two_headed(lr=0.0), [callback(optimizer=record, phi_batches=2)], batches)
    for batch in batches[:3:2]:
        single = Recorder(0.0)
        fit(two_headed(lr=0.0), [callback(optimizer=single)], [batch])
        alone.append(single.gradients[0])
    assert len(record.gradients) == 1  # the third waits for a fourth
    for ours, one, other in zip(record.gradients[0], *alone, strict=True):
        torch.testing.assert_close(ours, (one + other) / 2)


def test_an_anchor_draws_the_projections_towards_their_start(two_headed, batches_of, fit):
    ends = []
    for anchor in (0.0, 0.25):
        record = Recorder()
        fit(two_headed(lr=0.0), [callback(optimizer=record, anchor=anchor)], batches_of("mam"))
        ends.append((record.parameters, record.gradients))
    (_, _), (parameters, gradients) = ends
    before = Recorder(0.0)
    fit(two_headed(lr=0.0), [callback(optimizer=before)], batches_of("m"))
    for start, end, first, second in zip(before.parameters, parameters, *gradients, strict=True):
        moved = 0.75 * -RATE * first  # from the start, after the first step
        torch.testing.assert_close(end, start + 0.75 * (moved - RATE * second))


def test_a_scheduler_steps_once_an_epoch(two_headed, batches_of, fit):
    record = Recorder()
    transfer = callback(
        optimizer=record, scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1)
    )
    fit(two_headed(), [transfer], batches_of("mam"), max_epochs=3)
    torch.testing.assert_close(torch.tensor(record.rates), RATE * torch.tensor([1, 1, 0.1, 0.1, 0.01, 0.01]))
    fit(two_headed(), [transfer], batches_of("m"))  # a second fit goes on
    assert record.rates[-1] == pytest.approx(RATE * 1e-3)


@pytest.mark.filterwarnings("error:Detected call")
def test_a_scheduler_counts_epochs_in_which_the_projections_do_not_step(two_headed, batches_of, fit):
    record = Recorder()
    transfer = callback(
        optimizer=record, phi_batches=2,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1),
    )  # fmt: skip
    fit(two_headed(), [transfer], batches_of("ma"), max_epochs=4)
    assert record.rates == pytest.approx([RATE * 1e-1, RATE * 1e-3])


def same(one, other):
    """Two callbacks have the same state, bit by bit."""
    (mine, texts), (theirs, others) = (flat(each.state_dict()) for each in (one, other))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert texts == others


def flat(state):
    """Numbers and tensors of nested containers, and what else they have."""
    numbers, others, rest = [], [], [state]
    while rest:
        entry = rest.pop()
        if isinstance(entry, (dict, list, tuple)):
            rest += list(entry.values()) if isinstance(entry, dict) else entry
        else:
            (numbers if isinstance(entry, (torch.Tensor, float, int)) else others).append(entry)
    return numbers, others


def everything():
    return callback(
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1), on_meta="joint", inner="full",
        normalize=True, anchor=0.1, phi_batches=2, separate_moments=True,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
    )  # fmt: skip


@pytest.mark.parametrize("until", [1, 2])
def test_a_resumed_fit_ends_as_the_unbroken_one(until, two_headed, batches_of, fit, tmp_path):
    """An epoch of three meta steps ends between two steps of the projections."""
    batches = batches_of("maamam")
    unbroken, first, resume = adamw(two_headed(dropout=0.3)), everything(), ResumeCheckpoint(tmp_path, seconds=0)
    fit(unbroken, [resume, first], batches, max_epochs=3)
    resume.remove()
    fit(adamw(two_headed(dropout=0.3)), [resume, everything()], batches, max_epochs=until)
    module, second = adamw(two_headed(dropout=0.3)), everything()
    fit(module, [resume, second], batches, str(resume.path), max_epochs=3)
    close(module.state_dict(), unbroken.state_dict(), rtol=0, atol=0)
    same(second, first)
    torch.load(tmp_path / "resume.ckpt", weights_only=True)


class Resumable:
    """A loader that a checkpoint finds its place in."""

    def __init__(self, batches):
        self.batches, self.place = batches, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches[self.place % len(self.batches) :]:
            self.place += 1
            yield batch

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7])
def test_a_fit_resumed_within_an_epoch_ends_as_the_unbroken_one(steps, two_headed, batches_of, fit, tmp_path):
    batches = batches_of("maamam")
    unbroken, first = adamw(two_headed()), everything()

    def save(*ignored):
        if unbroken.trainer.global_step == steps:
            unbroken.trainer.save_checkpoint(tmp_path / "there.ckpt")

    unbroken.on_train_batch_end = save
    fit(unbroken, [first], Resumable(batches), max_epochs=2)
    module, second = adamw(two_headed()), everything()
    fit(module, [second], Resumable(batches), tmp_path / "there.ckpt", max_epochs=2)
    close(module.state_dict(), unbroken.state_dict(), rtol=0, atol=0)
    same(second, first)


@pytest.mark.parametrize("name", ["AdamW", "Adagrad", "RMSprop"])
@pytest.mark.parametrize("on_meta", ["primary", "joint"])
def test_separate_moments_are_those_of_two_optimizers(name, on_meta, two_headed, batches_of, fit):
    """One per kind of step for the backbone, one for all heads, by hand from the gradients that the fit had."""
    module, transfer = two_headed(), callback(separate_moments=True, on_meta=on_meta)
    make = lambda params: getattr(torch.optim, name)(params, lr=0.02)  # noqa: E731 (short)
    module.configure_optimizers = lambda: make(module.parameters())
    twin = copy.deepcopy(module)
    fit(module, [transfer], batches_of("maamama"))
    by_kind = {kind: make(twin.backbone.parameters()) for kind in "ma"}
    heads = make(twin.heads.parameters())
    for kind, seen in zip("maamama", module.seen, strict=True):
        for parameter_name, parameter in twin.named_parameters():
            parameter.grad = seen.get(parameter_name)
        by_kind[kind].step()
        heads.step()
    close(dict(module.named_parameters()), dict(twin.named_parameters()), rtol=1e-6, atol=1e-7)


def test_the_virtual_step_reads_the_auxiliary_moments(two_headed, batches_of, fit):
    """A meta step is that of a fit whose optimizer begins with them."""
    batches, record, kept = batches_of("maam"), Recorder(0.0), {}
    module, transfer = adamw(two_headed(norm=False)), callback(separate_moments=True, optimizer=record, inner_lr=None)

    def keep(batch, batch_idx):
        if batch_idx == 3:
            apart = [dict(transfer.moments.of("auxiliary")[p]) for p in module.backbone.parameters()]
            assert [float(entries["step"]) for entries in apart] == [2.0] * len(apart)
            state = module.optimizers().optimizer.state_dict()
            state["state"] |= dict(enumerate(apart))  # the backbone's parameters are the first
            kept.update(weights=copy.deepcopy(module.state_dict()), optimizer=state)

    def configure():
        optimizer = torch.optim.AdamW(single.parameters(), lr=0.02)
        optimizer.load_state_dict(kept["optimizer"])
        return optimizer

    module.on_train_batch_start = keep
    fit(module, [transfer], batches)
    single, again = two_headed(norm=False), Recorder(0.0)
    single.load_state_dict(kept["weights"])
    single.configure_optimizers = configure
    fit(single, [callback(optimizer=again, inner_lr=None)], batches[3:])
    torch.testing.assert_close(record.gradients[-1], again.gradients[-1])
    close(module.seen[-1], single.seen[-1])


class Logging(nn.Module):
    """What lies before a backbone and changes as it runs."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, image):
        self.count += 1
        return image


def test_the_other_images_leave_no_trace_but_the_gradient(two_headed, batches_of, fit):
    """Neither in random numbers nor in what ``training_step`` logs, counts and keeps on its way to the backbone."""
    ends = []
    for meta_batch in ("same", "held_out"):
        module = two_headed(lr=0.0, dropout=0.3)
        module.before, module.lines, module.last = Logging(), [], None
        plain = module.training_step

        def step(batch, batch_idx, module=module, plain=plain):
            module.last = batch_idx
            module.log("seen", float(batch["image"].mean()), on_step=False, on_epoch=True)
            module.before(batch["image"])
            torch.rand(())
            return plain(batch, batch_idx)

        module.training_step = step
        batches = [{**batch, "held_out": other} if "few" in batch else batch
                   for batch, other in zip(batches_of("mam"), batches_of("mmmmmm")[3:], strict=True)]  # fmt: skip
        drawn = []
        module.on_train_batch_end = lambda *ignored, drawn=drawn: drawn.append(torch.rand(()))
        torch.manual_seed(0)
        trainer = fit(module, [callback(meta_batch=meta_batch)], batches)
        ends.append([module.before.count, module.last, trainer.callback_metrics["seen"], torch.stack(drawn)])
        assert not module.backbone._forward_pre_hooks
    torch.testing.assert_close(*ends, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [dict, list])
def test_a_meta_batch_without_other_images_is_refused(kind, two_headed, batches_of, fit):
    transfer, module = callback(meta_batch="held_out", is_meta=lambda batch: True), two_headed()
    (batch,) = batches_of("m")
    if kind is list:
        batch, plain, names = list(batch.values()), module.training_step, list(batch)
        module.training_step = lambda values, batch_idx: plain(dict(zip(names, values, strict=True)), batch_idx)
        module.task_loss = lambda name, predictions, values: predictions.square().mean()
    with pytest.raises(InputError, match="give ParallelLabels held_out: true") as raised:
        fit(module, [transfer], [batch])
    assert "\n" not in str(raised.value)


def test_other_images_on_which_the_backbone_does_not_run_are_refused(two_headed, batches_of, fit):
    module = two_headed()
    plain = module.training_step
    module.training_step = lambda batch, batch_idx: None if "off" in batch else plain(batch, batch_idx)
    (batch,) = batches_of("m")
    with pytest.raises(InputError, match="does not run the backbone on"):
        fit(module, [callback(meta_batch="held_out")], [{**batch, "held_out": {**batch, "off": batch["few"]}}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda others: others["image"], "'held_out' is not a dictionary"),
        (lambda others: {**others, "few": torch.full_like(others["few"], torch.nan)}, "no valid label of the primary"),
        (lambda others: {name: value for name, value in others.items() if name != "few"}, "labels under the key 'few'"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"is_meta": lambda batch: True}])
def test_other_images_need_primary_labels(options, change, message, two_headed, batches_of, fit):
    """Also where the module would pass over them in silence."""
    module = two_headed()
    module.task_loss = lambda name, predictions, batch: predictions.square().mean()
    batch, others = batches_of("mm")
    with pytest.raises(InputError, match=message) as raised:
        fit(module, [callback(meta_batch="held_out", **options)], [{**batch, "held_out": change(others)}])
    assert "\n" not in str(raised.value)


def test_labels_that_are_not_under_their_tasks_key_are_the_users_word(two_headed, batches_of, fit):
    """Neither batch has a label where it would be looked for."""
    module = two_headed()
    module.task_loss = lambda name, predictions, batch: (predictions - batch["labels"][name]).square().mean()

    def step(batch, batch_idx):
        features = module.backbone(batch["image"])
        return sum(module.task_loss(name, head(features), batch) for name, head in module.heads.items())

    module.training_step = step

    def keyed(batch):
        return {"image": batch["image"], "labels": {name: batch[name] for name in ("few", "many")}}

    batch, others = batches_of("mm")
    transfer = callback(meta_batch="held_out", is_meta=lambda batch: True)
    fit(module, [transfer], [{**keyed(batch), "held_out": keyed(others)}])
    assert transfer.taken == {"meta": 1, "auxiliary": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner": "adam"}, "no inner 'adam'; allowed: full, gradient, optimizer"),
        ({"on_meta": "both"}, "no on_meta 'both'"),
        ({"meta_batch": "heldout"}, "no meta_batch 'heldout'; did you mean 'held_out'"),
        ({"meta_batch": "held_out", "approximate": True}, "leave out either"),
        ({"anchor": 1.0}, "anchor is 1.0, must be at least 0 and below 1"),
        ({"anchor": -0.1}, "anchor is -0.1"),
        ({"anchor": "x"}, "anchor is 'x', must be at least 0"),
        ({"phi_batches": 0}, "TaskMetaTransfer: phi_batches is 0, must be at least 1"),
        ({"phi_batches": 1.5}, "phi_batches is 1.5, .* a whole number"),
        ({"phi_batches": True}, "phi_batches is True, .* a whole number"),
        ({"phi_batches": None}, "phi_batches is None, .* a whole number"),
        ({"auxiliary_steps": 2.0}, "auxiliary_steps is 2.0, .* a whole number"),
        ({"probe_every_n_steps": 0}, "TaskMetaTransfer: probe_every_n_steps is 0, must be at least 1"),
        ({"probe_every_n_steps": 2.5}, "probe_every_n_steps is 2.5, .* a whole number"),
        ({"scheduler": "cosine"}, "scheduler is 'cosine'; give what makes one of an optimizer"),
        ({"normalize": True, "projection": "scalar"}, "no more than a sign"),
    ],
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(InputError, match=message):
        callback(**options)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"projection": "identity", "normalize": True, "anchor": 0.1}, "normalize, anchor"),
        ({"projection": "identity", "phi_batches": 2}, "phi_batches"),
        ({"projection": "identity"}, None),
        ({"projection": "diagonal", "normalize": True, "anchor": 0.1, "phi_batches": 2}, None),
    ],
)
def test_options_that_do_nothing_are_named_once(options, names, two_headed, batches_of, fit, caplog):
    with caplog.at_level(logging.WARNING):
        fit(two_headed(), [callback(**options)], batches_of("mama"))
    assert caplog.text.count("learns nothing; without effect: ") == (names is not None)
    assert names is None or f"without effect: {names}\n" in caplog.text


def test_one_learnt_weight_cannot_be_normalized():
    with pytest.raises(InputError, match=r"MetaWeighting with normalize: .* no more than a sign; leave out normalize$"):
        MetaWeighting("few", ["many"], normalize=True)


def test_a_number_out_of_range_is_named_with_the_callback_that_has_it():
    with pytest.raises(InputError, match="MetaWeighting: phi_batches is 0"):
        MetaWeighting("few", ["many"], phi_batches=0)


def test_a_scheduler_that_needs_a_metric_is_refused(two_headed, batches_of, fit):
    transfer = callback(scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau)
    module = two_headed()
    with pytest.raises(InputError, match="ReduceLROnPlateau, which needs a metric"):
        fit(module, [transfer], batches_of("m"))
    assert not module.steps


def test_a_joint_step_needs_auxiliary_labels(two_headed, batches_of, fit):
    batches = [{name: value for name, value in batch.items() if name != "many"} for batch in batches_of("m")]
    with pytest.raises(InputError, match="head; a meta batch needs labels of many; check is_meta"):
        fit(two_headed(), [callback(on_meta="joint", is_meta=lambda batch: True)], batches)
