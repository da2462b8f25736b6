"""What a source gives to one of its readers is what that reader's own loader gives."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from lightning_taskonomy.batch import HELD_OUT
from lightning_taskonomy.data import ParallelLabels, TaskDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, LabelKind, Task, TaskKind
from lightning_taskonomy.training.shared import SharedLoader, Sources, is_shareable

BOXES, MASKS = Label("boxes", LabelKind.BOXES, objects="cars"), Label("masks", LabelKind.MASKS, objects="cars")
TASKS = {
    name: Task(name, TaskKind.VECTOR, name, 1, labels=(Label(name, LabelKind.INVARIANT, 1),))
    for name in ("value", "broken", "rare")
}
HEAD, LOSS = "torch.nn.Linear", "torch.nn.functional.l1_loss"
TASKS["boxes"] = Task("boxes", TaskKind.SET, "boxes", 4, labels=(BOXES,), head=HEAD, loss=LOSS, score=LOSS, decode=LOSS)


class Samples:
    """Image i is full of i / 100; ``broken`` cannot be read of image 11, ``rare`` is known of even images alone.

    One box is known in even images, three masks in odd ones.
    """

    loads = 0

    def __init__(self, keys, count):
        self.keys = keys
        self.ids = [100 + i for i in range(count) if "rare" not in keys or i % 2 == 0]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        Samples.loads += 1
        number = self.ids[index] - 100
        if "broken" in self.keys and number == 11:
            raise InputError("broken-11 is damaged")
        image = torch.full((3, 8, 8), number / 100)
        image[:, :, :3] += 0.2
        entries = {"image": image, **dict.fromkeys(("value", "broken", "rare"), torch.tensor([float(number)]))}
        entries |= {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "masks": torch.ones(3, 8, 8, dtype=torch.bool)}
        entries["boxes_labelled"], entries["masks_labelled"] = (
            torch.tensor(number % 2 == 0),
            torch.tensor(number % 2 == 1),
        )
        return {key: entries[key].clone() for key in entries if key.removesuffix("_labelled") in self.keys} | {
            "id": torch.tensor(self.ids[index])
        }


class Data(TaskDataModule):
    """Twelve images to train on, five to validate on."""

    keys_offered = ("image", "value", "broken", "rare", "boxes", "masks")

    @property
    def targets(self):
        return {**super().targets, "boxes": BOXES, "masks": MASKS}

    def build(self, split, keys):
        return Samples(keys, 12 if split == "train" else 5)


def data_of(*keys, parallel=None, **options):
    data = Data(batch_size=4, **options)
    if parallel is not None:
        data = ParallelLabels(data, TASKS["value"], [TASKS["boxes"]], **parallel)
    tasks = {key: TASKS[key] for key in keys if key in TASKS}
    module = SimpleNamespace(tasks=tasks, batch_keys=["image", *keys])
    data.trainer = SimpleNamespace(
        lightning_module=module, world_size=1, global_rank=0, accumulate_grad_batches=1, datamodule=data
    )
    return data


class Readers:
    """Loaders of several runs that read from shared sources; all are there before the first batch."""

    def __init__(self, *keys_of_runs, kind="train", **options):
        self.sources = Sources()
        self.readers = []
        for run, keys in enumerate(keys_of_runs):
            data = data_of(*keys, **options)
            again = getattr(data, f"{kind}_dataloader")
            reader = SharedLoader(kind, again(), again, self.sources.take, torch.device("cpu"), fits=False)
            self.sources.join(run, data, "described alike", reader)
            self.readers.append(reader)

    def epoch(self, number):
        """The batches of an epoch by reader, each batch taken by all before the next one."""
        for reader in self.readers:
            reader.set_epoch(number)
        return [list(batches) for batches in zip(*zip(*self.readers, strict=True), strict=True)]


def alone(*keys, epoch=0, kind="train", **options):
    loader = getattr(data_of(*keys, **options), f"{kind}_dataloader")()
    if kind == "train":
        loader.sampler.set_epoch(epoch)
    return list(loader)


def same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys() and one.labelled == other.labelled
        for key in one.keys() - {HELD_OUT}:
            torch.testing.assert_close(one[key], other[key], rtol=0, atol=0, equal_nan=True)
        assert HELD_OUT not in one or same([one[HELD_OUT]], [other[HELD_OUT]])
    return True


FLIPS = [v2.RandomHorizontalFlip(), v2.ColorJitter(0.3)]
RUNS = [("value",), ("value", "image_noisy"), ("boxes",), ("boxes", "masks"), ("masks",)]


@pytest.mark.parametrize("kind", ["train", "val"])
def test_each_reads_what_its_own_loader_gives(kind):
    readers = Readers(*RUNS, kind=kind, transforms=FLIPS)
    for number in (0, 1, 3):
        for keys, batches in zip(RUNS, readers.epoch(number), strict=True):
            assert same(batches, alone(*keys, epoch=number, kind=kind, transforms=FLIPS))
    sources = {id(reader.source) for reader in readers.readers}
    assert len(sources) == 4, "sets of the same objects are padded together, and so loaded with the same others alone"


def test_what_batches_carry_is_shared_too():
    options = {"transforms": FLIPS, "parallel": {"parallel": 9, "held_out": True, "unlabelled": "skip"}}
    runs = [("value", "boxes"), ("value", "boxes", "image_noisy")]
    readers = Readers(*runs, **options)
    for number in (0, 1):
        for keys, batches in zip(runs, readers.epoch(number), strict=True):
            assert same(batches, alone(*keys, epoch=number, **options))
            assert [HELD_OUT in batch for batch in batches] == [True, False] * 2
            assert all(batch[HELD_OUT]["boxes_labelled"].shape == (4,) for batch in batches[::2])
    first, second = readers.readers
    for reader in readers.readers:
        reader.set_epoch(2)
    first.ask(first, 0)[HELD_OUT]["image"].zero_()
    assert same([second.ask(second, 0)], alone(*runs[1], epoch=2, **options)[:1])
    assert len({reader.source for reader in readers.readers}) == 1


def test_a_batch_is_loaded_once(monkeypatch):
    readers = Readers(("value",), ("image_noisy",), ("value", "image_gray"))
    monkeypatch.setattr(Samples, "loads", 0)
    readers.epoch(0)
    assert Samples.loads == 12
    readers.sources.leave(2)
    readers.readers.pop()
    readers.epoch(1)
    assert Samples.loads == 24 and len({reader.source for reader in readers.readers}) == 1


def test_one_that_comes_later_or_again_gets_its_batches():
    readers = Readers(("value",), ("image_noisy",))
    first, second = readers.readers
    expected = alone("value", epoch=2)
    for reader in (first, second):
        reader.set_epoch(2)
    assert same([first.ask(first, 0)], expected[:1]) and same([first.ask(first, 1)], expected[1:2])
    assert same([second.ask(second, 0)], alone("image_noisy", epoch=2)[:1])
    assert same([first.ask(first, 2)], expected[2:]) and first.ask(first, 3) is None
    assert same([first.ask(first, 1)], expected[1:2])


def test_labels_that_change_which_images_there_are_are_loaded_alone(caplog):
    readers = Readers(("value",), ("rare",))
    of_value, of_rare = readers.readers
    with caplog.at_level(logging.WARNING):
        assert len(list(of_value)) == 3 and len(list(of_rare)) == 1
    assert of_value.source is not of_rare.source and not caplog.records, "known before a batch is loaded"
    for number in (0, 1):
        of_value.set_epoch(number), of_rare.set_epoch(number)
        assert same(list(of_value), alone("value", epoch=number)) and same(list(of_rare), alone("rare", epoch=number))


def test_what_cannot_be_loaded_fails_only_who_reads_it(caplog):
    readers = Readers(("value",), ("broken", "value"), ("value",))
    with caplog.at_level(logging.WARNING):
        first = list(readers.readers[0])
        with pytest.raises(InputError, match="broken-11 is damaged"):
            list(readers.readers[1])
        third = list(readers.readers[2])
    assert same(first, alone("value")) and same(third, alone("value"))
    assert "batches of train are loaded for each run alone: broken-11 is damaged" in caplog.text


def test_what_one_changes_in_place_the_others_do_not_see():
    readers = Readers(("value",), ("value",))
    first, second = readers.readers
    expected = alone("value")
    for index, batch in enumerate(expected):
        for reader in (first, second):
            ours = reader.ask(reader, index)
            assert same([ours], [batch])
            for entry in ours.values():
                entry.zero_()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_load_the_same():
    readers = Readers(("value",), ("image_noisy",), num_workers=1)
    for number in (0, 1):
        for keys, batches in zip((["value"], ["image_noisy"]), readers.epoch(number), strict=True):
            assert same(batches, alone(*keys, epoch=number))


def test_only_what_its_description_decides_is_shared():
    loader = data_of("value").train_dataloader()
    assert is_shareable(loader) and is_shareable(data_of("value").val_dataloader())
    assert not is_shareable(DataLoader(loader.dataset, shuffle=True, generator=torch.Generator())), "drawn by the run"
    assert not is_shareable(DataLoader([1, 2])) and not is_shareable([1, 2])
