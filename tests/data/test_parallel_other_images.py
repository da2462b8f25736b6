"""ParallelLabels: what a batch has of other images, held out for a meta step or as labels that are not its own."""

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from numbered import AUXILIARY, PRIMARY, Numbered, epoch_of, parallel
from torch import Tensor
from torchvision.transforms import v2

from lightning_taskonomy.batch import HELD_OUT, Batch, is_parallel
from lightning_taskonomy.data.parallel import ParallelLabels
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, LabelKind, Task, TaskKind


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
