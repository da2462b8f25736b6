"""A training step never waits for the device: only the logging of every n-th step asks a tensor for its value."""

import sys

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader

from lightning_taskonomy import MultiTaskModule, TimmBackbone
from lightning_taskonomy.batch import HELD_OUT, Batch, labelled_keys
from lightning_taskonomy.callbacks import (
    CosineWeighting,
    GradientAggregation,
    GradNormWeighting,
    KendallWeighting,
    MetaWeighting,
    MGDAUpperBound,
    TaskMetaTransfer,
)
from lightning_taskonomy.tasks import Task, TaskKind

WAITS = {"tolist", "item", "__bool__", "__float__", "__int__", "__index__", "cpu", "numpy", "nonzero"}
TASKS = [
    Task("few", TaskKind.SEGMENTATION, "few", 4),
    Task("many", TaskKind.DENSE, "many", scale=2.0),
    Task("some", TaskKind.VECTOR, "some", 3),
]
AUXILIARY = ["many", "some"]


class Waits(TorchFunctionMode):
    """Names what asks a tensor for its value, and who."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in WAITS:
            frame, who = sys._getframe(1), ""
            while frame is not None and not who:
                module = frame.f_globals.get("__name__", "")
                who = module if module.split(".")[0] in ("lightning_taskonomy", "torchjd", "lightning") else ""
                frame = frame.f_back
            self.asked.append((name, who))
        return function(*args, **(kwargs or {}))


class Counting(Callback):
    """Counts within the steps alone, from the first batch after those that warm up."""

    def __init__(self, warm):
        self.warm, self.steps, self.mode = warm, [], None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.mode = Waits()
        self.mode.__enter__()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.mode.__exit__(None, None, None)
        if batch_idx >= self.warm:
            self.steps.append(self.mode.asked)


def batches(on_host=True, count=8):
    random = torch.Generator().manual_seed(0)
    made = []
    for number in range(count):
        batch = {
            "image": torch.rand(2, 3, 32, 32, generator=random), "id": torch.arange(2),
            "many": torch.rand(2, 1, 32, 32, generator=random), "some": torch.rand(2, 3, generator=random),
            "few": torch.randint(4, (2, 32, 32), generator=random),
        }  # fmt: skip
        if number % 2:
            del batch["few"]
        made.append(Batch(batch, labelled_keys(batch)) if on_host else batch)
        if on_host and not number % 2:
            made[-1][HELD_OUT] = Batch(batch, labelled_keys(batch))
    return made


def waits(tmp_path, callbacks=(), on_host=True, warm=2):
    counting = Counting(warm)
    torch.manual_seed(0)
    module = MultiTaskModule(TASKS, TimmBackbone("test_resnet"), optimizer=lambda params: torch.optim.SGD(params, 1e-3))
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1000, limit_val_batches=0, default_root_dir=tmp_path,
        callbacks=[counting, *callbacks],
    )  # fmt: skip
    loader = DataLoader(batches(on_host), batch_size=None)
    trainer.fit(module, loader, loader)
    assert len(counting.steps) == 8 - warm
    return counting.steps


def test_a_step_of_the_module_waits_for_nothing(tmp_path):
    assert waits(tmp_path) == [[]] * 6


def test_of_a_plain_dictionary_the_labels_are_looked_at(tmp_path):
    """So that the count is known to count."""
    assert all({who for _, who in step} == {"lightning_taskonomy.batch"} for step in waits(tmp_path, on_host=False))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TaskMetaTransfer("few", AUXILIARY),
        lambda: TaskMetaTransfer("few", AUXILIARY, approximate=True, primary_at="current"),
        lambda: TaskMetaTransfer("few", AUXILIARY, method="double_vjp"),
        lambda: TaskMetaTransfer(
            "few",
            AUXILIARY,
            inner="full",
            on_meta="joint",
            normalize=True,
            anchor=0.1,
            phi_batches=2,
            separate_moments=True,
        ),
        lambda: MetaWeighting("few", AUXILIARY),
        lambda: KendallWeighting("few", AUXILIARY, optimizer=lambda params: torch.optim.SGD(params, 1e-3)),
        lambda: GradNormWeighting(optimizer=lambda params: torch.optim.SGD(params, 1e-3)),
        lambda: CosineWeighting("few", AUXILIARY),
        lambda: CosineWeighting("few", AUXILIARY, between="last"),
    ],
)
def test_a_step_under_a_callback_waits_for_nothing(tmp_path, make):
    callback = make()
    if hasattr(callback, "learner"):  # Adam asks its own step counter, a tensor on the host
        callback.learner.make_optimizer = lambda params: torch.optim.SGD(params, 1e-3)
    assert waits(tmp_path, [callback]) == [[]] * 6


def test_an_aggregation_waits_for_what_torchjd_decides_on_the_host(tmp_path):
    steps = waits(tmp_path, [GradientAggregation("mgda")])
    ours = {who for step in steps for _, who in step if not who.startswith("torchjd")}
    assert ours <= {"lightning_taskonomy.callbacks.weighting.aggregation"}


def test_the_shortest_sum_is_waited_for_once(tmp_path):
    steps = waits(tmp_path, [MGDAUpperBound()])
    assert all({who for _, who in step} == {"lightning_taskonomy.callbacks.weighting.mgda"} for step in steps)
