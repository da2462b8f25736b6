"""Two threads that stand in for two processes; tests here import the modules beside them."""

import sys
import threading
from pathlib import Path

import pytest
import torch

from lightning_taskonomy.optim import sums

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("meta_setting")


def run_in_two(work, monkeypatch):
    """What ``work(rank, reduce)`` gives in two threads that meet in ``reduce``, the mean over both."""
    barrier, slots, results, here = threading.Barrier(2, timeout=20), [None, None], [None, None], threading.local()

    def any_process(flags):
        if not hasattr(here, "rank"):  # no process of these two
            return flags
        slots[here.rank] = flags
        barrier.wait()
        either = [a or b for a, b in zip(*slots, strict=True)]
        barrier.wait()
        return either

    monkeypatch.setattr(sums, "any_process", any_process)

    def process(rank):
        here.rank = rank

        def reduce(tensors):
            slots[rank] = tensors
            barrier.wait()
            mean = [(a + b) / 2 for a, b in zip(*slots, strict=True)]
            barrier.wait()
            return mean

        results[rank] = work(rank, reduce)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def in_two_processes(monkeypatch):
    return lambda work: run_in_two(work, monkeypatch)


@pytest.fixture
def double_precision():
    """An optimizer's own numbers are then in double precision too."""
    torch.set_default_dtype(torch.float64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
