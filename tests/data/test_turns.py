"""Two loaders in turns."""

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lightning_taskonomy.data import InTurns
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
    ("parallel", "auxiliary", "options", "told"),
    [
        ([1], [2], {"auxiliary_steps": 0}, "1 at the least"),
        ([1], [2], {"auxiliary_steps": 1, "accumulate": 0}, "1 at the least"),
        ([1], [2], {"auxiliary_steps": 1, "accumulate": 2}, "fewer than the 2 batches"),
        ([1], [], {"auxiliary_steps": 1}, "the auxiliary loader gives no batch"),
    ],
)
def test_what_gives_no_cycle_is_refused(parallel, auxiliary, options, told):
    with pytest.raises(InputError, match=told):
        list(InTurns(parallel, auxiliary, **options))
