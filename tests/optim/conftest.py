"""Two threads that stand in for two processes."""

import threading

import pytest


def run_in_two(work):
    """What ``work(rank, reduce)`` gives in two threads that meet in ``reduce``, the mean over both."""
    barrier, slots, results = threading.Barrier(2, timeout=20), [None, None], [None, None]

    def process(rank):
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
def in_two_processes():
    return run_in_two
