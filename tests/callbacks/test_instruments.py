"""The instruments of a Task Meta-Transfer fit, each against a direct computation; and that they leave no trace."""

import copy
import csv
import logging
import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from lightning_taskonomy.callbacks import History, MetaWeighting, TaskMetaTransfer
from lightning_taskonomy.callbacks.meta_transfer.instruments import Instruments
from lightning_taskonomy.callbacks.meta_transfer.learner import Bounds, Learner
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import LowRank

PATTERN = "maamaamaa"


def sgd(params):
    return torch.optim.SGD(params, 0.1)


def callback(**options):
    return TaskMetaTransfer("few", ["many"], **{"rank": 2, "optimizer": sgd, **options})


class Log(Callback):
    """What is logged after each step, the weights before and after it, and what meta steps gave."""

    def __init__(self):
        self.logged, self.weights, self.results, self.modules = [], [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.weights.append([copy.deepcopy(list(pl_module.backbone.parameters()))])
        self.modules.append(copy.deepcopy({"state": pl_module.state_dict()}))
        transfer = trainer.callbacks[0]
        if not hasattr(transfer, "watched"):
            plain = transfer.instruments.log_meta_step
            transfer.watched = lambda t, m, result: (self.results.append(result), plain(t, m, result))
            transfer.instruments.log_meta_step = transfer.watched

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights[-1].append(copy.deepcopy(list(pl_module.backbone.parameters())))
        names = trainer.callback_metrics
        self.logged.append({name: float(value) for name, value in names.items() if name.startswith("meta/")})


def length(tensors):
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))


def cosine(left, right):
    dot = sum(float((a.double() * b.double()).sum()) for a, b in zip(left, right, strict=True))
    return dot / (length(left) * length(right))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_meta_step_is_measured_against_the_step_that_the_optimizer_makes(two_headed, batches_of, fit, optimizer):
    module, log, transfer = two_headed(), Log(), callback(inner="optimizer")
    if optimizer == "adam":
        module.configure_optimizers = lambda: torch.optim.Adam(module.parameters(), 1e-3)
    fit(module, [transfer, log], batches_of(PATTERN))
    steps = log.logged[::3]
    gradients = [list(result.projections.values()) for result in log.results]
    for number, (logged, result, (before, after)) in enumerate(zip(steps, log.results, log.weights[::3], strict=True)):
        real = length([b - a for a, b in zip(before, after, strict=True)])
        assert logged["meta/step_ratio"] == pytest.approx(float(result.step_length) / real, rel=1e-4)
        assert logged["meta/many/stretch"] == pytest.approx(float(result.stretch["many"]))
        assert number == 0 or logged["meta/successive_cosine"] == pytest.approx(
            cosine(gradients[number - 1], gradients[number]), abs=1e-5
        )
    assert "meta/successive_cosine" not in steps[0] and {logged["meta/step_ratio"] for logged in steps} != {1.0}


def test_sgd_steps_as_long_virtually_as_really_if_both_learn_the_same(two_headed, batches_of, fit):
    """One head with both tasks' weights and labels, φ = 1, primary gradient at Θ: the two steps are one."""
    module, log = two_headed(), Log()
    module.heads["few"].load_state_dict(module.heads["many"].state_dict())
    (batch,) = batches_of("m")
    batch["few"] = batch["many"].clone()
    fit(module, [callback(projection="identity", primary_at="current"), log], [batch])
    assert log.logged[0]["meta/step_ratio"] == pytest.approx(1, rel=1e-4)
    assert log.logged[0]["meta/many/stretch"] == pytest.approx(1) and log.logged[0]["meta/alignment"] > 0.9999


class Scaled(nn.Module):
    """φ = 3."""

    def forward(self, gradient):
        return 3 * gradient


def test_a_projection_that_triples_stretches_by_three(two_headed, batches_of, fit):
    log = Log()
    fit(two_headed(), [callback(projection=lambda channels: Scaled()), log], batches_of("ma"))
    assert log.logged[0]["meta/many/stretch"] == pytest.approx(3)
    assert "meta/successive_cosine" not in log.logged[1]


@pytest.mark.parametrize(("interval", "measured"), [(1, [0, 3, 6]), (2, [3, 6]), (4, [3, 6]), (6, [3]), (100, [])])
def test_the_last_meta_step_before_a_logged_step_is_measured(two_headed, batches_of, fit, tmp_path, interval, measured):
    """Steps interval - 1, 2·interval - 1, ... are logged; of the first cycle the length is not known when it begins."""
    transfer, log, at = callback(), Log(), []
    plain = transfer.instruments.before_optimizer_step

    def watched(backbone):
        plain(backbone)
        if transfer.instruments._before:
            at.append(sum(transfer.taken.values()) - 1)

    transfer.instruments.before_optimizer_step = watched
    logger = CSVLogger(tmp_path)
    fit(two_headed(), [transfer, log], batches_of(PATTERN), log_every_n_steps=interval, logger=logger)
    assert at == measured
    rows = [row for file in tmp_path.rglob("metrics.csv") for row in csv.DictReader(file.read_text().splitlines())]
    assert len(rows) == len(PATTERN) // interval
    for row in rows:
        assert bool(row.get("meta/step_ratio")) == (int(row["step"]) >= measured[0])


def far_from_one(channels):
    """U·Uᵀ has the eigenvalues 9 and 1."""
    phi = LowRank(channels, 2)
    with torch.no_grad():
        phi.diagonal.copy_(torch.tensor([1.0, -1.0, 0.5, -0.5]))
        phi.factor.copy_(torch.tensor([[3.0, 0], [0, 1], [0, 0], [0, 0]]))
    return phi


def test_dominance_is_the_largest_eigenvalue_over_the_mean_size_of_lambda(two_headed, batches_of, fit, caplog):
    transfer, log = callback(optimizer=lambda params: torch.optim.SGD(params, 0.0)), Log()

    transfer.learner.make = far_from_one
    with caplog.at_level(logging.WARNING):
        fit(two_headed(), [transfer, log], batches_of("maam"))
    assert log.logged[-1]["meta/many/dominance"] == pytest.approx(9 / 0.75)
    assert caplog.text.count("the largest eigenvalue of U·Uᵀ of task 'many' is 12 times the mean of |λ|") == 1


@pytest.mark.parametrize(
    ("options", "warnings"),
    [
        ({}, 0),
        ({"inner_lr": 1e-5}, 1),
        ({"inner_lr": 1e-5, "projection": "identity"}, 0),
        ({"inner_lr": 1e-5, "normalize": True}, 0),
    ],
)
def test_a_virtual_step_that_is_too_short_is_said_once(two_headed, batches_of, fit, caplog, options, warnings):
    """Unless no length of φ is learnt."""
    with caplog.at_level(logging.WARNING):
        fit(two_headed(), [callback(**options)], batches_of(PATTERN))
    assert caplog.text.count("nothing bounds them; take a larger inner_lr") == warnings


@pytest.mark.parametrize(
    ("name", "inner", "remedy"),
    [
        ("Adam", "gradient", "take inner: optimizer, or a larger inner_lr"),
        ("Adamax", "gradient", "take a larger inner_lr"),
        ("Adamax", "optimizer", "take a larger inner_lr"),
    ],
)
def test_a_virtual_step_may_be_the_optimizers_where_that_is_known(
    two_headed, batches_of, fit, caplog, name, inner, remedy
):
    module = two_headed()
    module.configure_optimizers = lambda: getattr(torch.optim, name)(module.parameters(), lr=0.02)
    with caplog.at_level(logging.WARNING):
        fit(module, [callback(inner=inner, inner_lr=1e-6)], batches_of("ma"))
    assert f"nothing bounds them; {remedy}\n" in caplog.text


# the probe


class Shown:
    """A validation loader that counts how often it is read."""

    def __init__(self, batches):
        self.batches, self.reads = batches, 0

    def __iter__(self):
        self.reads += 1
        torch.rand(3)  # as a loader that shuffles draws
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def validated(module, loader):
    """Gives a module a validation that looks at nothing."""
    module.val_dataloader = lambda: loader
    module.validation_step = lambda batch, batch_idx: None
    return module


def by_hand(module, state, phi, batch):
    """The two cosines in the backbone's parameters, in training mode."""
    module.load_state_dict(state)
    module.train()
    parameters = list(module.backbone.parameters())

    def gradient(name, matrix):
        features = module.backbone(batch["image"])
        leaf = features.detach().requires_grad_()
        (at_map,) = torch.autograd.grad(module.task_loss(name, module.heads[name](leaf), batch), leaf)
        at_map = torch.einsum("cd,bdhw->bchw", matrix, at_map)
        return torch.autograd.grad(features, parameters, at_map)

    one = torch.eye(4)
    primary = gradient("few", one)
    return cosine(gradient("many", one), primary), cosine(gradient("many", phi), primary)


def test_a_probe_compares_gradients_on_the_first_batch_of_validation(two_headed, batches_of, fit):
    (unseen,), loader = batches_of("m", count=3), Shown(batches_of("mm", count=3))
    log, matrices, states = Log(), [], []
    transfer = callback(probe_every_n_steps=2)
    transfer.learner.make = far_from_one
    module = validated(two_headed(), loader)

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            (phi,) = transfer.projections["many"]
            matrices.append((torch.diag(phi.diagonal) + phi.factor @ phi.factor.T).detach().clone())
            states.append(copy.deepcopy(pl_module.state_dict()))

    fit(module, [transfer, log, Watch()], batches_of(PATTERN), num_sanity_val_steps=0)
    assert "meta/many/plain_cosine" not in log.logged[0]
    fresh = two_headed()
    for step in (2, 4, 6, 8):
        plain, projected = by_hand(fresh, states[step - 1], matrices[step - 1], unseen)
        assert log.logged[step - 1]["meta/many/plain_cosine"] == pytest.approx(plain, abs=1e-5)
        assert log.logged[step - 1]["meta/many/projected_cosine"] == pytest.approx(projected, abs=1e-5)
        assert plain != pytest.approx(projected, abs=1e-4)
    other = Shown(batches_of("mm", count=3))
    fit(validated(two_headed(), other), [callback()], batches_of(PATTERN), num_sanity_val_steps=0)
    assert loader.reads == other.reads + 1


class Watcher(Callback):
    """Random numbers, network, optimizer and which gradients there are, after each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        state = {
            "random": torch.get_rng_state(), "network": pl_module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict()["state"],
            "gradients": torch.tensor([p.grad is not None for p in pl_module.parameters()]),
        }  # fmt: skip
        self.seen.append(copy.deepcopy(state))


@pytest.mark.filterwarnings("ignore:.*sampler has shuffling enabled")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("generator", [None, 0])
def test_instruments_and_probes_leave_no_trace(two_headed, batches_of, fit, accumulate, generator):
    def seen(log_every_n_steps, **options):
        torch.manual_seed(3)
        module, watch, transfer = two_headed(dropout=0.3, momentum=0.9), Watcher(), callback(**options)
        drawn_by = None if generator is None else torch.Generator().manual_seed(generator)
        loader = DataLoader(batches_of("mmmm"), batch_size=None, shuffle=True, generator=drawn_by)
        order = []
        validated(module, loader).validation_step = lambda batch, batch_idx: order.append(batch["image"].sum())
        fit(module, [transfer, watch], batches_of("mmaammaa" if accumulate == 2 else PATTERN), max_epochs=2,
            log_every_n_steps=log_every_n_steps, accumulate_grad_batches=accumulate)  # fmt: skip
        phi = transfer.learner.state_dict()
        assert module.steps == len(watch.seen)
        return [*watch.seen, *order, phi["projections"], phi["optimizer"]["state"]]

    ours, theirs = seen(1, probe_every_n_steps=1), seen(1000)
    assert len(ours) > 24
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_probe_without_a_validation_loader_or_its_labels(two_headed, batches_of, fit, caplog):
    log = Log()
    with caplog.at_level(logging.WARNING):
        fit(two_headed(), [callback(probe_every_n_steps=1), log], batches_of("maa"))
    assert caplog.text.count("there is no validation loader yet") == 1
    caplog.clear()
    module = validated(two_headed(), DataLoader(batches_of("aa"), batch_size=None))
    fit(module, [callback(probe_every_n_steps=1), log], batches_of("maa"))
    assert not any("plain_cosine" in name for logged in log.logged for name in logged)
    with pytest.raises(InputError, match="probe_every_n_steps is 0, must be at least 1"):
        callback(probe_every_n_steps=0)


def test_a_learnt_weight_is_probed_too(two_headed, batches_of, fit):
    log, transfer = Log(), MetaWeighting("few", ["many"], optimizer=sgd, probe_every_n_steps=1)
    fit(validated(two_headed(), DataLoader(batches_of("m"), batch_size=None)), [transfer, log], batches_of("maam"))
    last = log.logged[-1]
    assert last["meta/many/plain_cosine"] == pytest.approx(last["meta/many/projected_cosine"], abs=1e-6)
    assert last["meta/many/stretch"] == pytest.approx(last["meta/many/weight"]) and "meta/many/dominance" not in last
    assert abs(last["meta/successive_cosine"]) == pytest.approx(1)  # of one number


def test_the_state_of_instruments_survives_a_checkpoint():
    made = [Instruments("few", ["many"], None, lambda *ignored: None) for _ in range(2)]
    for kind in ("meta", "auxiliary", "auxiliary", "meta", "auxiliary"):
        made[0].begin_step(kind)
    made[0]._previous = [torch.ones(2)]
    made[1].load_state_dict(made[0].state_dict())
    made[1].begin_fit(resumed=True, remedy="")
    assert made[1].state_dict() == {"cycle": 3, "since": 2, "previous": [pytest.approx(torch.ones(2))]}
    made[1].begin_fit(resumed=False, remedy="")
    assert made[1].state_dict() == {"cycle": 1, "since": 0, "previous": []}


def test_the_history_has_what_was_logged_last(two_headed, batches_of, fit, tmp_path):
    history, log = History(), Log()
    module = validated(two_headed(), DataLoader(batches_of("m"), batch_size=None))
    fit(module, [callback(probe_every_n_steps=2), log, history], batches_of("maamaa"), max_epochs=2,
        val_check_interval=3, default_root_dir=tmp_path)  # fmt: skip
    assert [entry["step"] for entry in history.entries] == [3, 6, 9, 12]
    for entry, logged in zip(history.entries, log.logged[2::3], strict=True):
        assert {name: value for name, value in entry.items() if name.startswith("meta/")} == pytest.approx(logged)
        assert {"meta/step_ratio", "meta/many/dominance", "meta/many/projected_cosine"} <= entry.keys()


def test_a_resumed_fit_has_the_history_of_the_unbroken_one(two_headed, batches_of, fit, tmp_path):
    def run(history, epochs, ckpt_path=None):
        module = validated(two_headed(momentum=0.9), DataLoader(batches_of("m"), batch_size=None))
        keep = {"default_root_dir": tmp_path, "max_epochs": epochs, "log_every_n_steps": 5, "ckpt_path": ckpt_path}
        return fit(module, [callback(probe_every_n_steps=4), history], batches_of("maamaaa"), **keep)

    whole, first, second = History(), History(), History()
    run(whole, 3)
    run(first, 2).save_checkpoint(tmp_path / "half.ckpt", weights_only=False)
    run(second, 3, ckpt_path=tmp_path / "half.ckpt")
    assert first.entries == whole.entries[:2] and second.entries == whole.entries
    names = {"meta/step_ratio", "meta/successive_cosine", "meta/many/stretch", "meta/many/projected_cosine"}
    assert len(whole.entries) == 3 and names <= whole.entries[-1].keys()
    assert whole.entries[1]["meta/successive_cosine"] != whole.entries[2]["meta/successive_cosine"]


def test_of_several_maps_the_largest_dominance_counts():
    learner = Learner(["many", "some"], far_from_one, sgd, False, Bounds())
    learner.projections = {"many": [LowRank(4, 1), far_from_one(4)], "some": [nn.Identity()]}
    logged, warned = {}, []
    instruments = Instruments("few", ["many", "some"], None, lambda *words: warned.append(words))
    trainer = SimpleNamespace(global_step=0, log_every_n_steps=1)
    instruments.log_projections(trainer, SimpleNamespace(log_dict=logged.update), learner)
    assert float(logged["meta/many/dominance"]) == pytest.approx(12) and "meta/some/dominance" not in logged
    assert [subject for subject, _ in warned] == ["dominance"]


@pytest.mark.parametrize(("interval", "expected"), [(1, [1] * 4), (2, [1, 0, 1, 0]), (100, [0] * 4)])
def test_what_is_read_on_logged_steps_is_taken_there_alone(
    two_headed, batches_of, fit, monkeypatch, interval, expected
):
    """One decomposition of U·Uᵀ before a logged step, however many micro-batches it has; stretch and length."""
    counts, transfer, log = [], callback(approximate=True, inner="full"), Log()
    plain = LowRank.spectrum
    monkeypatch.setattr(LowRank, "spectrum", lambda phi: (counts.append(transfer.taken["meta"]), plain(phi))[1])
    module = two_headed()
    module.configure_optimizers = lambda: torch.optim.AdamW(module.parameters())
    fit(module, [transfer, log], batches_of("mm" * 5), accumulate_grad_batches=2, log_every_n_steps=interval)
    assert [counts.count(steps) for steps in range(1, 5)] == expected  # with so many steps begun before
    measured = [step.step_length is not None and bool(step.stretch) for step in log.results]
    assert measured == [(number + 1) % interval == 0 for number in range(5)]
