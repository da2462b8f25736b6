"""Look-ahead affinities against a copy of the network that takes the step, and a fit that they leave as it is."""

import copy

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.nn import functional

from lightning_taskonomy.affinity.groupings import Affinities
from lightning_taskonomy.callbacks import KendallWeighting, ResumeCheckpoint, TaskAffinity
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

NAMES = ("few", "many")


def watched(module):
    """Keeps what is needed to repeat each training step: the network before it, its random state, its batch."""
    step, module.snapshots = module.training_step, []

    def training_step(batch, batch_idx):
        network = copy.deepcopy((module.backbone, module.heads))
        for part in [*network[0].modules(), *network[1].modules()]:  # a copy without the callback's hooks
            part._forward_hooks.clear()
            part._forward_pre_hooks.clear()
        module.snapshots.append((network, torch.get_rng_state(), batch))
        return step(batch, batch_idx)

    module.training_step = training_step
    return module


def losses_of(network, batch, names):
    backbone, heads = network
    features = backbone(batch["image"])
    return {name: functional.mse_loss(heads[name](features), batch[name]) for name in names}


def literally(snapshot, lr, tasks=NAMES):
    """Copy the network, step, measure: (3, T, T), NaN where a label is missing."""
    network, state, batch = snapshot
    names = [name for name in tasks if name in batch]
    before, gradients = torch.get_rng_state(), {}
    values = np.full((3, len(tasks), len(tasks)), np.nan)
    for partner in names:
        copied = copy.deepcopy(network)
        torch.set_rng_state(state)
        losses = losses_of(copied, batch, names)
        losses[partner].backward()
        gradients[partner] = torch.cat([parameter.grad.flatten() for parameter in copied[0].parameters()])
        with torch.no_grad():
            for parameter in copied[0].parameters():
                parameter -= lr * parameter.grad
        torch.set_rng_state(state)
        ahead = losses_of(copied, batch, names)
        for name in names:
            values[0, tasks.index(partner), tasks.index(name)] = 1 - ahead[name].item() / losses[name].item()
    for partner in names:
        for name in names:
            product, place = gradients[partner] @ gradients[name], (tasks.index(partner), tasks.index(name))
            values[1][place] = lr * product.item() / losses[name].item()
            values[2][place] = (product / gradients[partner].norm() / gradients[name].norm()).item()
    torch.set_rng_state(before)
    return values


def means(values):
    stacked = np.stack(values)
    counts = (~np.isnan(stacked)).sum(0)
    return np.where(counts > 0, np.nansum(stacked, 0) / np.maximum(counts, 1), np.nan)


def stacked(affinities):
    return np.stack([affinities.of(name) for name in ("lookahead", "lookahead_first_order", "gradient_cosine")])


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(("pattern", "interval"), [("mmm", 1), ("mamam", 2), ("mam", 1), ("aa", 1)])
def test_agrees_with_a_copy_that_takes_the_step(two_headed, batches_of, fit, tmp_path, pattern, interval, dropout):
    module = watched(two_headed(dropout=dropout, lr=0.3, momentum=0.9).double())
    affinity = TaskAffinity(interval, folder=tmp_path)
    fit(module, [affinity], batches_of(pattern, dtype=torch.float64))
    expected = means([literally(snapshot, 0.3) for snapshot in module.snapshots[::interval]])
    np.testing.assert_allclose(stacked(affinity.affinities), expected, rtol=1e-9, atol=1e-12)
    read = Affinities.read(tmp_path / "affinities.csv")
    assert read.tasks == NAMES
    np.testing.assert_array_equal(stacked(read), stacked(affinity.affinities))


def test_a_learning_rate_of_its_own(two_headed, batches_of, fit, tmp_path):
    module, affinity = watched(two_headed(lr=0.3).double()), TaskAffinity(1, learning_rate=0.01, folder=tmp_path)
    fit(module, [affinity], batches_of("m", dtype=torch.float64))
    np.testing.assert_allclose(stacked(affinity.affinities), literally(module.snapshots[0], 0.01), rtol=1e-9)


def test_the_learning_rates_of_groups(two_headed, batches_of, fit, tmp_path):
    """What does not step does not help: with one layer at rate 0 the others alone take the step."""
    module, reference = two_headed(norm=False).double(), two_headed(norm=False).double()
    module.configure_optimizers = lambda: torch.optim.SGD(
        [{"params": module.backbone[0].parameters(), "lr": 0.0},
         {"params": [*module.backbone[4].parameters(), *module.heads.parameters()], "lr": 0.2}]
    )  # fmt: skip
    affinity, (batch,) = TaskAffinity(folder=tmp_path), batches_of("m", dtype=torch.float64)
    fit(module, [affinity], [batch])
    losses = losses_of((reference.backbone, reference.heads), batch, NAMES)
    few, many = (
        torch.autograd.grad(losses[name], [*reference.backbone[4].parameters()], retain_graph=True) for name in NAMES
    )
    product = sum((a * b).sum() for a, b in zip(few, many, strict=True))
    expected = (0.2 * product / losses["many"]).item()
    assert affinity.affinities.of("lookahead_first_order")[0, 1] == pytest.approx(expected, rel=1e-9)
    with torch.no_grad():
        for weight, gradient in zip(reference.backbone[4].parameters(), few, strict=True):
            weight -= 0.2 * gradient
        ahead = losses_of((reference.backbone, reference.heads), batch, NAMES)["many"]
    assert affinity.affinities.of("lookahead")[0, 1] == pytest.approx(1 - (ahead / losses["many"]).item(), rel=1e-9)


def labelled(count=4):
    """Batches for a dense and a classification head; the second lacks labels of classes."""
    random = torch.Generator().manual_seed(3)
    batches = []
    for number in range(count):
        batch = {"image": torch.rand(2, 3, 32, 32, generator=random)}
        batch["depth"] = torch.rand(2, 1, 32, 32, generator=random)
        batch["vector"] = torch.randn(2, 4, generator=random)
        classes = torch.randint(3, (2,), generator=random)
        batches.append(batch if number == 1 else {**batch, "classes": classes})
    return batches


def multi_task(optimizer="sgd"):
    torch.manual_seed(0)
    tasks = [
        Task("depth", TaskKind.DENSE, "depth", 1),
        Task("vector", TaskKind.VECTOR, "vector", 4, weight=0.25),
        Task("classes", TaskKind.CLASSIFICATION, "classes", 3),
    ]
    make = {
        "sgd": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=1e-4),
        "adam": lambda params: torch.optim.AdamW(params, lr=1e-3),
    }
    return MultiTaskModule(
        tasks, TimmBackbone("test_resnet", options={"drop_path_rate": 0.2}), optimizer=make[optimizer]
    )


OPTIONS = {
    "plain": {},
    "accumulated": {"accumulate_grad_batches": 3},
    "bf16": {"precision": "bf16-mixed", "gradient_clip_val": 0.1},
}


@pytest.mark.parametrize(("options", "optimizer"), [*((options, "sgd") for options in OPTIONS), ("plain", "adam")])
def test_the_fit_ends_bit_by_bit_as_without(fit, tmp_path, options, optimizer):
    ends = []
    for callbacks in ([TaskAffinity(2, folder=tmp_path)], []):
        module = multi_task(optimizer)
        trainer = fit(module, callbacks, labelled(), **OPTIONS[options])
        ends.append((module.state_dict(), trainer.optimizers[0].state_dict(), torch.get_rng_state(),
                     trainer.callback_metrics))  # fmt: skip
    torch.testing.assert_close(*ends, rtol=0, atol=0)


def test_the_first_order_is_the_limit_of_the_look_ahead(fit, tmp_path):
    """A tenth of the step leaves a hundredth of the difference."""
    differences = []
    for rate in (1e-5, 1e-6):
        module, affinity = multi_task().double(), TaskAffinity(learning_rate=rate, folder=tmp_path)
        batch = {name: entry.double() if entry.is_floating_point() else entry for name, entry in labelled(1)[0].items()}
        module.predict_task = lambda task, features, size, module=module: module.heads[task.name](features, size)
        fit(module, [affinity], [batch])
        ahead, first, cosine = stacked(affinity.affinities)
        differences.append(np.abs(ahead - first).max())
        np.testing.assert_allclose(cosine, cosine.T)
        np.testing.assert_allclose(np.diagonal(cosine), 1)
    assert differences[1] < 0.02 * differences[0]


def test_weights_of_tasks_weigh_the_step_and_not_the_ratio(fit, tmp_path):
    """A task of weight w takes a step w times as long, as it does in the network of that task alone."""
    values = {}
    for weight in (1.0, 0.25):
        module, affinity = multi_task(), TaskAffinity(learning_rate=1e-3, folder=tmp_path)
        module.tasks["vector"] = module.tasks["vector"].but(weight=weight)
        fit(module, [affinity], labelled(1))
        values[weight] = affinity.affinities.of("lookahead_first_order")
    scale = np.array([1, 4, 1])[:, None]
    np.testing.assert_allclose(values[1.0], values[0.25] * scale, rtol=1e-4)


def test_a_resumed_fit_ends_with_the_averages_of_an_unbroken_one(two_headed, batches_of, fit, tmp_path):
    def pieces(name):
        callbacks = [ResumeCheckpoint(tmp_path, seconds=0), TaskAffinity(2, folder=tmp_path / name)]
        return two_headed(dropout=0.3, momentum=0.9), callbacks

    batches = batches_of("amama")
    module, callbacks = pieces("whole")
    fit(module, callbacks, batches, max_epochs=3)
    unbroken = stacked(callbacks[1].affinities)
    callbacks[0].remove()
    module, callbacks = pieces("half")
    fit(module, callbacks, batches, max_epochs=1)
    module, callbacks = pieces("resumed")
    fit(module, callbacks, batches, str(callbacks[0].path), max_epochs=3)
    np.testing.assert_array_equal(stacked(callbacks[1].affinities), unbroken)
    np.testing.assert_array_equal(stacked(Affinities.read(tmp_path / "resumed/affinities.csv")), unbroken)


def test_what_cannot_work_is_refused_in_one_line(two_headed, batches_of, fit, tmp_path):
    for message, options in {"every_n_steps=0": {"every_n_steps": 0}, "learning_rate=0": {"learning_rate": 0}}.items():
        with pytest.raises(InputError, match=message):
            TaskAffinity(**options)
    scaler = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    cases = [
        ("bf16-mixed", [], {"plugins": [scaler]}),
        ("bf16-mixed", [], {"precision": "bf16-true"}),
        ("keep one", [KendallWeighting("few", ["many"])], {}),
    ]
    for message, others, options in cases:
        with pytest.raises(InputError, match=message):
            fit(two_headed(), [TaskAffinity(folder=tmp_path), *others], batches_of("m"), **options)
    module, affinity = two_headed(), TaskAffinity(folder=tmp_path)
    affinity.load_state_dict({"tasks": ["few", "more"], "sums": torch.zeros(3, 2, 2), "counts": torch.zeros(3, 2, 2)})
    with pytest.raises(InputError, match="few, more, but the tasks are few, many"):
        fit(module, [affinity], batches_of("m"))


def test_views_that_heads_read_side_by_side_are_refused(fit, tmp_path):
    torch.manual_seed(0)
    task = Task("pose", TaskKind.VECTOR, "pose", 6, input="pair_rgb")
    module = MultiTaskModule([task, task.but(name="other")], TimmBackbone("test_resnet"))
    batch = {"pair_rgb": torch.rand(2, 2, 3, 32, 32), "pose": torch.randn(2, 6)}
    with pytest.raises(InputError, match="does not read the backbone's features as they are"):
        fit(module, [TaskAffinity(folder=tmp_path)], [batch])
