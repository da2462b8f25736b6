"""Sums of gradients over micro-batches and processes."""

import pytest
import torch
from torch import nn

from lightning_taskonomy.optim.sums import GradientSum


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_processes_agree_on_which_parameters_have_a_gradient(dtype, in_two_processes):
    """A gradient that is zero is one; that of no process is none; those that cancel over processes stay."""
    one, two = (torch.full((2,), value, dtype=dtype) for value in (1.0, 2.0))
    gradients = {  # the gradient on either process, and their mean
        "zero, none": (0 * one, None, 0 * one),
        "none, zero": (None, 0 * one, 0 * one),
        "cancel": (two, -two, 0 * one),
        "one alone": (None, two, one),
        "both": (one, two, 1.5 * one),
        "neither": (None, None, None),
    }
    parameters = {name: nn.Parameter(torch.ones(2, dtype=dtype)) for name in gradients}
    names = {parameter: name for name, parameter in parameters.items()}

    def work(rank, reduce):
        total = GradientSum()
        total.add(parameters.values(), [pair[rank] for pair in gradients.values()])
        return {names[p]: gradient for p, gradient in total.reduced(1.0, reduce).items()}

    expected = {name: mean for name, (_, _, mean) in gradients.items() if mean is not None}
    for reduced in in_two_processes(work):
        assert list(reduced) == list(expected)
        for name, gradient in reduced.items():
            assert torch.equal(gradient, expected[name]) and gradient.dtype == dtype


def test_micro_batches_add_up_and_a_missing_gradient_takes_nothing_away():
    first, second, third = (nn.Parameter(torch.ones(2)) for _ in range(3))
    total = GradientSum()
    total.add([first, second, third], [torch.tensor([1.0, 2.0]), None, None])
    total.add([first, second, third], [None, torch.tensor([3.0, 0.0]), None])
    total.add([first], [torch.tensor([4.0, 0.0])])
    assert {p: g.tolist() for p, g in total.reduced(0.5, list).items()} == {first: [2.5, 1.0], second: [1.5, 0.0]}
    assert [g.tolist() for g in total.values([second, third], 2.0)] == [[6.0, 0.0], [0.0, 0.0]]


def test_a_sum_of_nothing_is_nothing():
    assert GradientSum().reduced(1.0, list) == {}
