"""The data module: the same samples in the same order for the same seed, whatever the workers and the history."""

from collections.abc import Collection
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample, SkipSample
from lightning_taskonomy.data.parallel import ParallelLabels
from lightning_taskonomy.data.pipeline import Draws
from lightning_taskonomy.errors import InputError

torch.set_num_threads(1)


class Numbers:
    """Image i is full of i / 100; those in ``damaged`` cannot be read."""

    def __init__(self, count: int, damaged: Collection[int] = ()) -> None:
        self.count, self.damaged = count, damaged

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index in self.damaged:
            raise SkipSample(str(index))
        image = torch.full((3, 12, 12), index / 100)
        image[:, :, :6] += 0.3
        return {"image": image, "number": torch.tensor(float(index)), "id": torch.tensor(1000 + index)}


class NumbersModule(TaskDataModule):
    def __init__(self, damaged: Collection[int] = (), **options: Any) -> None:
        super().__init__(**options)
        self.damaged = damaged

    @property
    def keys_offered(self) -> Collection[str]:
        return ("image", "number")

    def build(self, split: str, keys: Collection[str]) -> Numbers:
        return Numbers({"train": 23, "validation": 9, "test": 7, "empty": 0}[split], self.damaged)


KEYS = ["image", "number", "image_noisy", "permutation"]


def epoch(loader: DataLoader[Sample], number: int) -> list[Sample]:
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return list(loader)


def same(first: list[Sample], second: list[Sample]) -> bool:
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(first, second, strict=True)
    )


def flipping() -> list[torch.nn.Module]:
    return [v2.RandomHorizontalFlip(), v2.ColorJitter(0.3)]


def test_an_epoch_is_the_same_whatever_came_before() -> None:
    data = NumbersModule(batch_size=5, keys=KEYS, transforms=flipping())
    loader = data.train_dataloader()
    epochs = [epoch(loader, number) for number in range(3)]
    torch.manual_seed(99)
    assert same(epoch(NumbersModule(batch_size=5, keys=KEYS, transforms=flipping()).train_dataloader(), 2), epochs[2])
    ids = [torch.cat([batch["id"] for batch in batches]).tolist() for batches in epochs]
    assert ids[0] != ids[1] and all(len(set(order)) == 20 for order in ids), "whole batches, no image twice"
    other = epoch(NumbersModule(batch_size=5, keys=KEYS, seed=1).train_dataloader(), 0)
    assert torch.cat([batch["id"] for batch in other]).tolist() != ids[0]


@pytest.mark.parametrize(("parts", "each"), [(1, 4), (2, 2), (3, 1), (4, 1)])
def test_parts_of_a_pass_are_its_batches_one_after_the_other(parts: int, each: int) -> None:
    whole = NumbersModule(batch_size=5, keys=KEYS, transforms=flipping()).train_dataloader()
    loader = NumbersModule(batch_size=5, keys=KEYS, transforms=flipping(), parts=parts).train_dataloader()
    assert len(loader) == each
    for passed in (0, 1):
        batches = [batch for part in range(parts) for batch in epoch(loader, passed * parts + part)]
        assert same(batches, epoch(whole, passed)[: each * parts])
        ids = torch.cat([batch["id"] for batch in batches]).tolist()
        assert len(set(ids)) == len(ids) == each * parts * 5


def test_processes_share_the_parts_of_a_pass() -> None:
    samples = NumbersModule(keys=["number"]).dataset("train", size=20, training=True)
    shares = [Draws(samples, parts=2, multiple=5, num_replicas=2, rank=rank) for rank in (0, 1)]
    drawn = []
    for number in (2, 3):  # the second pass
        for share in shares:
            share.set_epoch(number)
            drawn.append(list(share))
    assert [len(part) for part in drawn] == [len(share) for share in shares] * 2 == [5] * 4
    assert sorted(index for part in drawn for index in part) == list(range(20, 40))


def test_more_parts_than_batches_are_refused() -> None:
    with pytest.raises(InputError, match=r"parts is 5, but 23 samples make 4 batches of 5; give fewer parts"):
        NumbersModule(batch_size=5, keys=KEYS, parts=5).train_dataloader()
    with pytest.raises(InputError, match=r"parts is 0, must be at least 1"):
        NumbersModule(parts=0)
    with pytest.raises(InputError, match=r"epochs are counted by steps; leave out parts=2"):
        ParallelLabels(NumbersModule(parts=2), "depth_z", ["normals"])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_change_nothing() -> None:
    alone = NumbersModule(batch_size=4, keys=KEYS, transforms=flipping()).train_dataloader()
    helped = NumbersModule(batch_size=4, keys=KEYS, transforms=flipping(), num_workers=2).train_dataloader()
    for number in (0, 1):
        assert same(epoch(helped, number), epoch(alone, number))


def test_noise_and_permutations_are_new_in_each_epoch_of_training_only() -> None:
    data = NumbersModule(batch_size=4, keys=KEYS)

    def drawn(batches: list[Sample]) -> dict[int, Tensor]:
        return {int(i): noisy for batch in batches for i, noisy in zip(batch["id"], batch["image_noisy"], strict=True)}

    first, second = (drawn(epoch(data.train_dataloader(), number)) for number in (0, 1))
    shared = first.keys() & second.keys()
    assert shared and not any(torch.equal(first[i], second[i]) for i in shared)
    assert same(list(data.val_dataloader()), list(data.val_dataloader()))
    assert len({int(p) for batch in data.val_dataloader() for p in batch["permutation"]}) > 1, "each sample its own"
    few, many = (NumbersModule(keys=KEYS, limit={"test": size}).test_dataloader() for size in (3, 7))
    of_few, of_many = drawn(list(few)), drawn(list(many))
    assert all(torch.equal(of_few[i], of_many[i]) for i in of_few), "a sample's noise does not depend on the subset"


def test_subsets_are_seeded_and_nested() -> None:
    def ids(size: int, **options: Any) -> set[int]:
        samples = NumbersModule(keys=["number"], **options).dataset("train", size=size)
        return {int(samples[i]["id"]) for i in range(len(samples))}

    assert ids(4) < ids(9) < ids(20) and len(ids(9)) == 9
    assert ids(9) == ids(9, limit={"train": 15}) and len(ids(9, limit={"train": 3})) == 3
    assert ids(9) != ids(9, seed=5)


def test_trains_on_a_subset_of_another_split() -> None:
    data = NumbersModule(keys=["number"], batch_size=2, fit_split="validation", fit_size=6)
    trained = {int(i) for batch in epoch(data.train_dataloader(), 0) for i in batch["id"]}
    whole = data.dataset("validation")
    assert len(trained) == 6 and trained < {int(whole[i]["id"]) for i in range(len(whole))}


def test_halves_of_the_test_split_are_disjoint() -> None:
    ids = []
    for part in ("first", "second", "all"):
        loader = NumbersModule(keys=["number"], test_part=part).test_dataloader()
        ids.append({int(i) for batch in loader for i in batch["id"]})
    assert not ids[0] & ids[1] and ids[0] | ids[1] == ids[2] and [len(f) for f in ids] == [4, 3, 7]


def test_a_validation_share_is_one_block_that_is_never_trained_on() -> None:
    def ids(loader: DataLoader[Sample]) -> list[int]:
        return [int(i) for batch in loader for i in batch["id"]]

    starts = set()
    for seed in range(6):
        options: Any = {"keys": ["number"], "seed": seed, "batch_size": 1}
        data = NumbersModule(validation_share=0.3, fit_size=20, **options)
        trained, validated = ids(data.train_dataloader()), ids(data.val_dataloader())
        assert (len(trained), len(validated)) == (14, 6) and not {*trained} & {*validated}
        whole = ids(NumbersModule(fit_size=20, **options).train_dataloader())
        assert {*trained, *validated} == {*whole}, "the same images as without it"
        order = sorted(whole)
        start = min(place for place in range(20) if order[place] in validated and order[place - 1] not in validated)
        assert {*validated} == {order[(start + step) % 20] for step in range(6)}, "neighbours in the data set's order"
        again = NumbersModule(validation_share=0.3, fit_size=20, **options)
        assert ids(again.val_dataloader()) == validated
        starts.add(start)
    assert len(starts) > 1
    assert len(ids(NumbersModule(validation_share=0.01, keys=["number"]).val_dataloader())) == 1
    with pytest.raises(InputError, match=r"validation_share 0\.9 of 2 samples leaves none to train on"):
        NumbersModule(validation_share=0.9, fit_size=2, keys=["number"]).train_dataloader()


def test_damaged_images_are_left_out() -> None:
    data = NumbersModule(damaged={2, 3}, keys=["number"], batch_size=23)
    (batch,) = epoch(data.train_dataloader(), 0)
    assert len(batch["id"]) == 23 and not {1002, 1003} & set(batch["id"].tolist()), "the next one stands in"
    (batch,) = list(data.val_dataloader())
    assert batch["id"].tolist() == [1000, 1001, 1004, 1005, 1006, 1007, 1008], "each image once, or not at all"
    with pytest.raises(InputError, match="no image can be read"):
        NumbersModule(damaged=range(23), keys=["number"]).dataset("train", training=True)[0]


def test_a_small_data_set_still_gives_a_batch() -> None:
    assert len(NumbersModule(keys=["number"], batch_size=64).train_dataloader()) == 1


class Probe(LightningModule):
    batch_keys = ("image_gray", "number")

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []
        self.keys: set[str] = set()

    def training_step(self, batch: Sample, _: int) -> Tensor:
        self.keys |= batch.keys()
        if self.trainer.is_last_batch or not self.seen or len(self.seen[-1]) >= 20:
            self.seen.append([])
        self.seen[-1] += batch["id"].tolist()
        return self.weight * batch["number"].mean()

    def validation_step(self, batch: Sample, _: int) -> None:
        assert batch.keys() == {"id", "image_gray", "number"}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_lightning_sets_the_epoch_and_the_module_names_the_keys(tmp_path: Any) -> None:
    probe, data = Probe(), NumbersModule(batch_size=5, limit={"train": 20})
    trainer = Trainer(
        max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(probe, datamodule=data)
    assert probe.keys == {"id", "image_gray", "number"}
    flat = [i for ids in probe.seen for i in ids]
    loader = NumbersModule(batch_size=5, limit={"train": 20}, keys=["number"]).train_dataloader()
    assert flat == [int(i) for number in range(3) for batch in epoch(loader, number) for i in batch["id"]]


def test_what_is_not_offered_is_said() -> None:
    with pytest.raises(InputError, match="NumbersModule has no 'numbr'; did you mean 'number'"):
        NumbersModule(keys=["numbr"]).train_dataloader()
    with pytest.raises(InputError, match="no keys given and no module to ask"):
        NumbersModule().train_dataloader()
    with pytest.raises(InputError, match="no sample in split 'empty'"):
        NumbersModule(keys=["number"]).dataset("empty")
    for options in (
        {"batch_size": 0},
        {"num_workers": -1},
        {"fit_size": 0},
        {"limit": {"test": 0}},
        {"test_part": "third"},
        {"validation_share": 1.0},
    ):
        with pytest.raises(InputError, match=r"^data: "):
            NumbersModule(**options)
    data = NumbersModule(keys=["number"])
    with pytest.raises(IndexError):
        data.dataset("test")[7]
