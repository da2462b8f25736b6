"""ParallelLabels: which images are X, what each batch holds, in which order, on how many processes."""

from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numbered import AUXILIARY, PRIMARY, Numbered, epoch_of, parallel
from torch import Tensor

from lightning_taskonomy.batch import is_parallel
from lightning_taskonomy.callbacks import ResumeCheckpoint
from lightning_taskonomy.data.parallel import ParallelLabels
from lightning_taskonomy.errors import InputError


def test_one_batch_of_x_then_k_without_primary_labels() -> None:
    batches = epoch_of(parallel(auxiliary_steps=2))
    assert [is_parallel(batch) for batch in batches] == [True, False, False] * 3  # 6 images of X, two at a time
    for batch in batches:
        assert ("semantic" in batch) == is_parallel(batch)
        assert "depth_z" in batch and batch["parallel"].shape == (2,)
    numbers = sorted(int(i) for batch in batches[::3] for i in batch["id"])
    assert len(set(numbers)) == 6 and [i - 1000 for i in numbers] == parallel().parallel_set(20)
    assert [batch.is_parallel for batch in batches] == [is_parallel(dict(batch)) for batch in batches]
    assert is_parallel({"image": torch.zeros(1)}) is None and is_parallel(torch.zeros(1)) is None


def test_what_learns_from_the_streams_says_its_tasks() -> None:
    data = parallel(auxiliary_steps=2)
    data.check_tasks(PRIMARY, {*AUXILIARY}, reader="Reader", auxiliary_steps=2)
    data.data.check_tasks("any", ["other"], reader="Reader")
    with pytest.raises(
        InputError, match="and auxiliary \\['depth_z'\\], Reader 'semantic_segmentation' and \\['normals'\\]"
    ):
        data.check_tasks(PRIMARY, ["normals"], reader="Reader")
    with pytest.raises(InputError, match="gives auxiliary_steps=2, and Reader has auxiliary_steps=3"):
        data.check_tasks(PRIMARY, AUXILIARY, reader="Reader", auxiliary_steps=3)
    with pytest.raises(InputError, match="streams='oracle'; Reader needs 'both'"):
        parallel(streams="oracle").check_tasks(PRIMARY, AUXILIARY, reader="Reader")
    with pytest.raises(InputError, match="Reader has meta_batch 'held_out', and ParallelLabels no other images"):
        data.check_tasks(PRIMARY, AUXILIARY, reader="Reader", held_out=True)
    parallel(held_out=True).check_tasks(PRIMARY, AUXILIARY, reader="Reader", held_out=True)


def test_every_image_comes_once_before_any_comes_again() -> None:
    """Five epochs of 3 x 2 batches of two are three passes over the twenty images."""
    data = parallel(auxiliary_steps=2)
    batches = [batch for epoch in range(5) for batch in epoch_of(data, epoch) if not is_parallel(batch)]
    ids = [int(i) for batch in batches for i in batch["id"]]
    passes = [ids[start : start + 20] for start in range(0, 60, 20)]
    assert all(sorted(p) == list(range(1000, 1020)) for p in passes)
    assert passes[0] != passes[1]


def test_neither_stream_trains_on_the_validation_share() -> None:
    data = ParallelLabels(
        Numbered(batch_size=2, keys=["image", "semantic", "depth_z"], validation_share=0.2), PRIMARY, AUXILIARY,
        parallel=0.5,
    )  # fmt: skip
    validated = {int(i) for batch in data.val_dataloader() for i in batch["id"]}
    trained = {int(i) for epoch in range(3) for batch in epoch_of(data, epoch) for i in batch["id"]}
    assert len(validated) == 4 and len(trained) == 16 and not trained & validated


def test_x_depends_on_its_seed_alone_and_is_nested() -> None:
    methods = [
        parallel(), parallel(auxiliary_steps=5, steps=7), parallel(streams="parallel"), parallel(order=9, batch_size=4),
        parallel("depth_z", ["normals"]),
    ]  # fmt: skip
    assert len({tuple(data.parallel_set(20)) for data in methods}) == 1
    sets = [set(parallel(parallel=size).parallel_set(20)) for size in (2, 0.2, 0.33, 10, 1.0)]
    assert [len(x) for x in sets] == [2, 4, 7, 10, 20]
    assert all(small < large for small, large in pairwise(sets))
    assert len({tuple(parallel(seed=seed).parallel_set(20)) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("streams", "images", "flag"), [("parallel", 6, True), ("auxiliary", 20, False), ("oracle", 20, True)]
)
def test_single_streams(streams: Any, images: int, flag: bool) -> None:
    batches = epoch_of(parallel(streams=streams))
    assert len(batches) == images // 2 and {is_parallel(batch) for batch in batches} == {flag}
    assert len({int(i) for batch in batches for i in batch["id"]}) == images
    assert all(("semantic" in batch) == flag for batch in batches)


def test_steps_make_epochs_of_one_length_and_go_on_where_the_last_ended() -> None:
    whole = epoch_of(parallel(auxiliary_steps=2, steps=12))
    data = parallel(auxiliary_steps=2, steps=4)
    parts = [batch for epoch in range(3) for batch in epoch_of(data, epoch)]
    assert [batch["id"].tolist() for batch in parts] == [batch["id"].tolist() for batch in whole]
    assert [is_parallel(batch) for batch in parts] == [is_parallel(batch) for batch in whole]


def test_a_batch_larger_than_x_repeats_its_images() -> None:
    batches = epoch_of(parallel(parallel=1, batch_size=3))
    assert [is_parallel(batch) for batch in batches] == [True, False]
    assert len(set(batches[0]["id"].tolist())) == 1 and len(set(batches[1]["id"].tolist())) == 3


def test_processes_share_the_batches_of_one() -> None:
    def ids(world: int, rank: int, batch_size: int) -> list[list[int]]:
        data = parallel(auxiliary_steps=1, batch_size=batch_size, steps=6)
        data.trainer = SimpleNamespace(world_size=world, global_rank=rank, accumulate_grad_batches=1)  # type: ignore[assignment]
        return [batch["id"].tolist() for batch in epoch_of(data)]

    together = ids(1, 0, 4)
    shards = zip(ids(2, 0, 2), ids(2, 1, 2), strict=True)
    assert [first + second for first, second in shards] == together


def test_under_accumulation_an_optimizer_step_has_batches_of_one_stream() -> None:
    data = parallel(auxiliary_steps=2)
    data.trainer = SimpleNamespace(world_size=1, global_rank=0, accumulate_grad_batches=3)  # type: ignore[assignment]
    batches = epoch_of(data)
    assert [is_parallel(batch) for batch in batches] == [True] * 3 + [False] * 6  # all six images of X in one step
    assert len({int(i) for batch in batches[:3] for i in batch["id"]}) == 6


def test_steps_that_end_within_an_optimizer_step_are_refused() -> None:
    data = parallel(steps=4)
    data.trainer = SimpleNamespace(world_size=1, global_rank=0, accumulate_grad_batches=3)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"steps is 4, not a multiple of accumulate_grad_batches=3; give 6"):
        data.train_dataloader()
    data.steps = 6
    assert [is_parallel(batch) for batch in epoch_of(data, 1)] == [True] * 3 + [False] * 3


def test_workers_and_other_loaders() -> None:
    data = parallel()
    alone = [batch["id"].tolist() for batch in epoch_of(data)]
    data.num_workers = 1
    assert [batch["id"].tolist() for batch in epoch_of(data)] == alone
    (batch, _) = list(data.val_dataloader())
    assert batch["semantic"].shape == (2, 2, 2) and is_parallel(batch) is None


class Watch(Callback):
    def __init__(self, stop: int | None = None) -> None:
        self.seen: list[tuple[int, list[int]]] = []
        self.stop = stop

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen.append((trainer.current_epoch, batch["id"].tolist()))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.stop:
            raise KeyboardInterrupt


class Tiny(LightningModule):
    batch_keys = ("image", "semantic", "depth_z")

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch["depth_z"].mean().view(1)).square().sum()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        assert is_parallel(batch) is None

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-6)


def test_a_resumed_fit_sees_the_batches_of_the_unbroken_one(tmp_path: Any) -> None:
    def fit(stop: int | None, resume: bool) -> list[tuple[int, list[int]]]:
        keeper, watch = ResumeCheckpoint(tmp_path, seconds=0), Watch(stop)
        trainer = Trainer(
            max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[keeper, watch], num_sanity_val_steps=0, limit_val_batches=0,
        )  # fmt: skip
        data = parallel(keys=None)
        with suppress(SystemExit):  # what Lightning makes of the interrupt
            trainer.fit(Tiny(), data, ckpt_path=keeper.checkpoint if resume else None, weights_only=True)
        return watch.seen

    unbroken = fit(None, resume=False)
    (tmp_path / "resume.ckpt").unlink()
    assert len(unbroken) == 4 * 6 and unbroken[:6] != unbroken[6:12]
    first = fit(2, resume=False)
    assert first + fit(None, resume=True) == unbroken


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auxiliary": ["normals", PRIMARY]}, "is auxiliary too"),
        ({"primary": "autoencoding"}, "cannot be withheld"),
        ({"parallel": 0}, "parallel set is empty"),
        ({"parallel": 1.5}, "not a share"),
        ({"auxiliary": []}, "no task given"),
        ({"primary": "semantic"}, "no task 'semantic'"),
        ({"auxiliary_steps": 0}, "auxiliary_steps is 0, must be at least 1"),
        ({"streams": "paralel"}, "did you mean 'parallel'"),
    ],
)
def test_bad_settings_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parallel(**options)
    assert "\n" not in str(caught.value)


def test_sets_that_cannot_be_are_refused() -> None:
    for size, message in ((21, "would have 21 of 20"), (0.01, "would have 0 of 20")):
        with pytest.raises(InputError, match=message):
            parallel(parallel=size).train_dataloader()
    with pytest.raises(InputError, match=r"needs the labels \['depth_z', 'semantic'\]"):
        parallel(keys=["image", "semantic"]).train_dataloader()


def test_images_without_auxiliary_labels(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Numbered, "bare", (3, 4))
    with pytest.raises(InputError, match=r"training image [34] \(id 100[34]\) has no label depth_z"):
        epoch_of(parallel(streams="auxiliary"))
    batches = epoch_of(parallel(streams="auxiliary", unlabelled="skip"))
    assert not {1003, 1004} & {int(i) for batch in batches for i in batch["id"]}
    assert "passed over training image 3" in caplog.text
    monkeypatch.setattr(Numbered, "bare", range(20))
    with pytest.raises(InputError, match="no image can be read"):
        epoch_of(parallel(streams="auxiliary", unlabelled="skip"))
