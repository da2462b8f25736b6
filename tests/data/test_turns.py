"""Two loaders in turns."""

import itertools

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, TensorDataset

from lightning_taskonomy.data import InTurns
from lightning_taskonomy.data.turns import Turns
from lightning_taskonomy.errors import InputError


def test_one_parallel_batch_then_k_of_the_others_which_go_on_across_epochs():
    loader = InTurns(["P", "Q"], list("abcde"), auxiliary_steps=3)
    assert len(loader) == 8
    assert "".join(loader) == "PabcQdea"
    assert "".join(loader) == "PbcdQeab"


def test_batches_of_an_accumulated_step_are_of_one_kind():
    loader = InTurns(list("PQR"), list("abcd"), auxiliary_steps=2, accumulate=2)
    assert "".join(loader) == "PQabcd" and len(loader) == 6
    assert "".join(loader) == "RPabcd"  # R was left over


@pytest.mark.parametrize(("steps", "accumulate"), [(0, 1), (0, 3), (1, 1), (3, 2)])
def test_turns_number_the_batches_of_a_stream_whatever_part_is_asked_for(steps, accumulate):
    turns = Turns(steps, accumulate)
    streams = itertools.cycle([0] * accumulate + [1] * steps * accumulate)
    counters = [itertools.count(), itertools.count()]
    counted = [(stream, next(counters[stream])) for stream in itertools.islice(streams, 30)]
    assert list(turns.batches(0, 30)) == counted
    assert list(turns.batches(7, 19)) == counted[7:19]


def test_a_sampler_shuffles_anew_with_every_pass():
    data = TensorDataset(torch.arange(16))
    sampler = DistributedSampler(data, num_replicas=2, rank=0, shuffle=True, seed=3)
    loader = InTurns(["P"] * 4, DataLoader(data, batch_size=2, sampler=sampler), auxiliary_steps=1)
    passes = [[int(x) for batch in list(loader)[1::2] for x in batch[0]] for _ in range(2)]
    for number, seen in enumerate(passes):
        sampler.set_epoch(number)
        assert seen == list(sampler)
    assert passes[0] != passes[1]


@pytest.mark.parametrize(
    ("parallel", "auxiliary", "options", "message"),
    [
        ([1], [2], {"auxiliary_steps": 0}, "both must be at least 1"),
        ([1], [2], {"auxiliary_steps": 1, "accumulate": 0}, "both must be at least 1"),
        ([1], [2], {"auxiliary_steps": 1, "accumulate": 2}, "fewer than the 2 batches"),
        ([1], [], {"auxiliary_steps": 1}, "the auxiliary loader gives no batch"),
    ],
)
def test_what_gives_no_cycle_is_refused(parallel, auxiliary, options, message):
    with pytest.raises(InputError, match=message):
        list(InTurns(parallel, auxiliary, **options))


def numbers(count, **options):
    return DataLoader(TensorDataset(torch.arange(count)), batch_size=2, **options)


def as_process(monkeypatch, rank, world=2):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: world)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)


@pytest.mark.parametrize("shuffle", [False, True])
def test_processes_share_the_samples_of_plain_loaders(shuffle, monkeypatch):
    seen = {"parallel": [], "auxiliary": []}
    for rank in range(2):
        loader = InTurns(numbers(8, shuffle=shuffle), numbers(16, shuffle=shuffle), auxiliary_steps=2)
        assert len(loader) == 12  # the trainer has no processes yet
        with monkeypatch.context() as patch:
            as_process(patch, rank)
            assert len(loader) == 6
            for turn, (batch,) in enumerate(loader):
                seen["auxiliary" if turn % 3 else "parallel"] += batch.tolist()
    assert sorted(seen["parallel"]) == list(range(8)) and sorted(seen["auxiliary"]) == list(range(16))
    assert (seen["parallel"][:4] != [0, 2, 4, 6]) == shuffle


def test_another_pass_of_a_process_is_shuffled_anew_and_by_the_seed(monkeypatch):
    as_process(monkeypatch, 1)
    orders = []
    for seed in ("1", "7"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        loader = InTurns(numbers(32, shuffle=True), numbers(2), auxiliary_steps=1)
        orders += [[int(x) for (batch,) in list(loader)[::2] for x in batch] for _ in range(2)]
    assert len(set(map(tuple, orders))) == 4


def test_what_processes_share_already_is_left_alone(monkeypatch):
    as_process(monkeypatch, 0)
    data = TensorDataset(torch.arange(8))
    sampler = DistributedSampler(data, num_replicas=2, rank=0, shuffle=False)
    loader = InTurns(DataLoader(data, batch_size=2, sampler=sampler), ["A"], auxiliary_steps=1)
    assert [batch[0].tolist() for batch in list(loader)[::2]] == [[0, 2], [4, 6]]


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 2, "sampler": torch.utils.data.WeightedRandomSampler([1.0] * 8, 8)},
        {"batch_size": 2, "sampler": torch.utils.data.RandomSampler(range(8), num_samples=4)},
        {"batch_sampler": [[0, 1], [2, 3]]},
    ],
    ids=["weighted", "short", "batches"],
)
def test_a_loader_that_processes_cannot_share_is_refused(options, monkeypatch):
    loader = InTurns(DataLoader(TensorDataset(torch.arange(8)), **options), ["A"], auxiliary_steps=1)
    as_process(monkeypatch, 0)
    with pytest.raises(InputError, match="2 processes would all read the same batches of the parallel loader"):
        len(loader)


class Endless(IterableDataset):
    def __iter__(self):
        return itertools.count()


@pytest.mark.parametrize("loader", [iter([1]), DataLoader(Endless())])
def test_a_parallel_loader_without_a_length_is_refused(loader):
    with pytest.raises(InputError, match=f"a {type(loader).__name__}, has no length"):
        InTurns(loader, [2], auxiliary_steps=1)
