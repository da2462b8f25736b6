"""ParallelLabels: which images are X, what each batch holds, in which order, on how many processes."""

from collections.abc import Collection
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchvision.transforms import v2

from lightning_taskonomy.batch import HELD_OUT, Batch, is_parallel
from lightning_taskonomy.callbacks import ResumeCheckpoint
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.parallel import ParallelLabels
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, LabelKind, Task, TaskKind

KEYS = ["image", "semantic", "depth_z", "normals"]
PRIMARY, AUXILIARY = "semantic_segmentation", ["depth_z"]


class Numbered(TaskDataModule):
    """Twenty training images and three others; image number n is all n, images in `bare` have no depth."""

    bare: Collection[int] = ()

    @property
    def keys_offered(self) -> Collection[str]:
        return KEYS

    def build(self, split: str, keys: Collection[str]) -> Any:
        def sample(number: int) -> dict[str, Tensor]:
            depth = torch.full((1, 2, 2), float("nan") if number in self.bare else float(number))
            entries = {
                "image": torch.full((3, 2, 2), number / 100), "semantic": torch.full((2, 2), number % 21),
                "depth_z": depth, "normals": torch.full((3, 2, 2), 3**-0.5),
            }  # fmt: skip
            return {key: entries[key] for key in keys} | {"id": torch.tensor(1000 + number)}

        return [sample(number) for number in range(20 if split == "train" else 3)]


def parallel(primary: str = PRIMARY, auxiliary: list[Any] = AUXILIARY, **options: Any) -> ParallelLabels:
    data = Numbered(batch_size=options.pop("batch_size", 2), seed=options.pop("order", 0),
                    keys=options.pop("keys", ["image", "semantic", "depth_z"]))  # fmt: skip
    return ParallelLabels(data, primary, auxiliary, **{"parallel": 0.3, **options})


def epoch_of(data: ParallelLabels, epoch: int = 0) -> list[dict[str, Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # as Lightning does
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


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


def world_of(data: ParallelLabels, world: int = 1, rank: int = 0, accumulate: int = 1) -> ParallelLabels:
    trainer = SimpleNamespace(world_size=world, global_rank=rank, accumulate_grad_batches=accumulate)
    data.trainer = trainer  # type: ignore[assignment]
    return data


def carried(batch: Any) -> Batch:
    other = batch[HELD_OUT]
    assert isinstance(other, Batch)
    return other


@pytest.mark.parametrize(("size", "batch_size"), [(6, 2), (7, 3), (13, 4), (11, 5), (10, 5)])
def test_a_batch_of_x_carries_as_many_of_its_other_images(size: int, batch_size: int) -> None:
    data = parallel(parallel=size, batch_size=batch_size, held_out=True, auxiliary_steps=1)
    x = {1000 + position for position in data.parallel_set(20)}
    seen: set[int] = set()
    for epoch in range(12):
        for batch in epoch_of(data, epoch):
            assert (HELD_OUT in batch) == is_parallel(batch)
            if HELD_OUT in batch:
                other = carried(batch)
                ids = other["id"].tolist()
                assert len(set(ids)) == batch_size and x.issuperset(ids) and not {*ids} & {*batch["id"].tolist()}
                assert torch.equal(other["semantic"], (other["id"] - 1000).view(-1, 1, 1).expand(-1, 2, 2))
                assert other.is_parallel and other.labelled >= {"image", "semantic", "depth_z"}
                seen |= {*ids}
    assert seen == x  # each image of X has its turn


def test_what_a_batch_carries_follows_from_its_number() -> None:
    def ids(data: ParallelLabels, epochs: int) -> list[list[int]]:
        batches = [batch for epoch in range(epochs) for batch in epoch_of(data, epoch)]
        return [carried(batch)["id"].tolist() for batch in batches if is_parallel(batch)]

    whole = ids(parallel(held_out=True, steps=24), 1)
    assert ids(parallel(held_out=True, steps=4), 6) == whole and len({tuple(batch) for batch in whole}) > 4
    without = [batch["id"].tolist() for batch in epoch_of(parallel(steps=24))]
    assert [batch["id"].tolist() for batch in epoch_of(parallel(held_out=True, steps=24))] == without
    data = parallel(held_out=True, steps=24)
    data.num_workers = 1
    assert ids(data, 1) == whole


def test_on_several_processes_and_under_accumulation_no_image_is_on_both_sides_of_a_step() -> None:
    def ids(world: int, rank: int, batch_size: int, accumulate: int) -> list[tuple[list[int], list[int]]]:
        data = parallel(parallel=17, held_out=True, batch_size=batch_size, steps=24)
        batches = [batch for batch in epoch_of(world_of(data, world, rank, accumulate)) if is_parallel(batch)]
        return [(batch["id"].tolist(), carried(batch)["id"].tolist()) for batch in batches]

    together = ids(1, 0, 4, 2)
    shards = zip(ids(2, 0, 2, 2), ids(2, 1, 2, 2), strict=True)
    assert [(a + c, b + d) for (a, b), (c, d) in shards] == together
    for step in range(0, len(together), 2):
        (a, b), (c, d) = together[step : step + 2]
        assert not {*a, *c} & {*b, *d} and len({*b, *d}) == 8


def test_an_x_of_less_than_two_batches_holds_nothing_out() -> None:
    for accumulate, size, message in (
        (1, 3, "an X of 3 images, fewer than two batches of 2"),
        (2, 6, "6 images.* of 4"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            world_of(parallel(parallel=size, held_out=True), accumulate=accumulate).train_dataloader()
        assert "\n" not in str(caught.value)
    parallel(parallel=4, held_out=True).train_dataloader()


def test_the_next_of_a_damaged_image_is_not_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Numbered, "bare", range(0, 20, 2))
    data = parallel("depth_z", ["normals"], keys=["image", "depth_z", "normals"], parallel=1.0, batch_size=4,
                    held_out=True, unlabelled="skip", steps=20)  # fmt: skip
    for batch in epoch_of(data)[::2]:
        others = carried(batch)["id"].tolist()
        assert len(others) == 4 and not {*others} & {*batch["id"].tolist()}
    monkeypatch.setattr(Numbered, "bare", range(1, 20))
    with pytest.raises(InputError, match="held_out: too few images of X can be read"):
        epoch_of(data)


def borrowed_from(batch: Any) -> dict[int, int]:
    """By image, whose depth it has."""
    return dict(zip(batch["id"].tolist(), (1000 + batch["depth_z"][:, 0, 0, 0]).long().tolist(), strict=True))


def test_shuffled_auxiliary_labels_are_always_those_of_one_other_image() -> None:
    lenders: dict[int, int] = {}
    data = parallel(shuffled=True, parallel=8, held_out=True)
    for batch in [batch for epoch in range(6) for batch in epoch_of(data, epoch)]:
        for one in (batch, *([carried(batch)] if is_parallel(batch) else [])):
            assert torch.equal(one["image"][:, 0, 0, 0], (one["id"] - 1000) / 100)
            assert "semantic" not in one or torch.equal(one["semantic"][:, 0, 0], (one["id"] - 1000) % 21)
            for image, lender in borrowed_from(one).items():
                assert image != lender and lenders.setdefault(image, lender) == lender
    assert len(lenders) == 20 and sorted(lenders.values()) == list(range(1000, 1020))  # a permutation
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert all(image == lender for batch in loader for image, lender in borrowed_from(batch).items())
    others = {
        k: v for batch in epoch_of(parallel(shuffled=True, seed=1, steps=40)) for k, v in borrowed_from(batch).items()
    }
    assert others.keys() == lenders.keys() and others != lenders
    again = {
        k: v
        for batch in epoch_of(parallel(shuffled=True, order=5, parallel=2, steps=40))
        for k, v in borrowed_from(batch).items()
    }
    assert again == lenders  # the order of the batches and the size of X do not matter


def test_shuffled_labels_of_the_validation_share_are_lent_to_nobody() -> None:
    data = Numbered(batch_size=2, keys=["image", "semantic", "depth_z"], validation_share=0.2)
    whole = ParallelLabels(data, PRIMARY, AUXILIARY, parallel=0.5, shuffled=True, steps=40)
    validated = {int(i) for batch in whole.val_dataloader() for i in batch["id"]}
    lenders = {lender for batch in epoch_of(whole) for lender in borrowed_from(batch).values()}
    assert len(lenders) == 16 and not lenders & validated


def test_a_transform_moves_an_image_and_its_borrowed_labels_together(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = torch.arange(2.0).expand(2, 2) / 2

    def slanted(self: Numbered, split: str, keys: Collection[str]) -> Any:
        def sample(number: int) -> dict[str, Tensor]:
            entries = {
                "image": (number + ramp).expand(3, 2, 2) / 100, "semantic": torch.full((2, 2), number % 21),
                "depth_z": (number + ramp)[None],
            }  # fmt: skip
            return {key: entries[key] for key in keys} | {"id": torch.tensor(1000 + number)}

        return [sample(number) for number in range(20)]

    monkeypatch.setattr(Numbered, "build", slanted)
    data = Numbered(batch_size=4, keys=["image", "semantic", "depth_z"], transforms=[v2.RandomHorizontalFlip()])
    batches = epoch_of(ParallelLabels(data, PRIMARY, AUXILIARY, parallel=0.5, shuffled=True, steps=10))
    flips = set()
    for batch in batches:
        of_image, of_depth = (
            (entry[:, 0, 0, 0] > entry[:, 0, 0, 1]).tolist() for entry in (batch["image"], batch["depth_z"])
        )
        assert of_image == of_depth
        flips |= {*of_image}
    assert flips == {True, False}


def test_labels_that_stay_with_their_image_are_not_shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("autoencoding", "colorization", "jigsaw"):
        with pytest.raises(InputError, match=f"shuffled: the labels of auxiliary task '{name}' come from"):
            parallel(auxiliary=[name], shuffled=True)
    made = Label("edge", LabelKind.VALUES, 1, made_from=("semantic",), made_by="torch.nn.Identity")
    edges = Task("edge", TaskKind.DENSE, "edge", labels=(made,))
    with pytest.raises(InputError, match="auxiliary task 'edge' come from 'semantic'"):
        parallel(auxiliary=[edges], shuffled=True)
    parallel(auxiliary=[edges])
    alone = parallel(parallel=1.0, shuffled=True)
    alone.data.limit = alone.limit = {"train": 1}
    with pytest.raises(InputError, match="a single training image has no other"):
        alone.train_dataloader()

    def uneven(self: Numbered, split: str, keys: Collection[str]) -> Any:
        sizes = [(3, 2 + number % 2, 2) for number in range(20)]
        return [
            {"image": torch.zeros(size), "semantic": torch.zeros(size[1:]).long(), "depth_z": torch.zeros(size)[:1]}
            for size in sizes
        ]

    monkeypatch.setattr(Numbered, "build", uneven)
    with pytest.raises(InputError, match=r"shuffled: image \d+ has \(2, 2\) pixels .* \(3, 2\); give the data a size"):
        epoch_of(parallel(shuffled=True, batch_size=1, steps=40))


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
