"""A primary task's labels once more, as an auxiliary task has them."""

from types import SimpleNamespace

import torch

from lightning_taskonomy.data import ParallelLabels
from lightning_taskonomy.data.rooms import RoomsDataModule
from lightning_taskonomy.tasks import keys_of, stored_keys_of
from lightning_taskonomy.tasks.catalog.rooms import DEPTH_Z
from lightning_taskonomy.tasks.controls import DEPTH_AGAIN

TASKS = {task.name: task for task in (DEPTH_Z, DEPTH_AGAIN)}


def test_depth_again_is_depth_where_that_is_withheld():
    module = SimpleNamespace(tasks=TASKS, batch_keys=keys_of(TASKS.values()))
    rooms = RoomsDataModule(size=32, samples=1, views=4, train_buildings=2, batch_size=2)
    data = ParallelLabels(rooms, "depth_z", [DEPTH_AGAIN], parallel=4, auxiliary_steps=1)
    data.trainer = SimpleNamespace(lightning_module=module, world_size=1, global_rank=0, accumulate_grad_batches=1)
    with_primary, without = list(data.train_dataloader())[:2]
    assert torch.equal(with_primary["depth_again"], with_primary["depth_z"]) and "depth_z" not in without
    assert without["depth_again"].shape == (2, 1, 32, 32) and without["depth_again"].isfinite().any()
    assert stored_keys_of([DEPTH_AGAIN]) == ["depth_z", "image"]
