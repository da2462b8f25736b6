"""What inference costs: weights, multiply-adds, latency and memory of encoders and decoders.

The unit of the grouping paper ("Which Tasks Should Be Learned Together in Multi-task Learning?", ICML 2020, section 4)
is the multiply-adds of the full-size encoder, a standard network time (SNT).
"""

import copy
import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.inference import InferenceCost, InferenceCosts, Machine
from lightning_taskonomy.models.backbones import Backbone, multiply_adds
from lightning_taskonomy.models.heads import Head
from lightning_taskonomy.tasks import Task, map_size

__all__ = ["activation_peak", "latencies", "measure_inference", "multiply_adds", "weight_bytes"]

BATCHES = (1, 32)
"""The batches whose latency is measured."""


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a module's weights and buffers."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def activation_peak(module: nn.Module, *inputs: Any) -> int:
    """Bytes of activations at their peak in one call: inputs, outputs and what lies between, without weights.

    On a GPU what torch's allocator hands out, so with the work space of its kernels; the call is made twice, the first
    one to load them. On the CPU the storages of all tensors that live at once, without work space inside an operation.

    Args:
        module: What is called; in evaluation mode.
        inputs: With what: tensors, lists of tensors, and anything else.
    """
    arguments = list(_tensors(inputs))
    stored = (tensor.untyped_storage() for tensor in arguments)
    read = sum({storage.data_ptr(): storage.nbytes() for storage in stored}.values())
    if arguments[0].is_cuda:
        device = arguments[0].device
        with torch.no_grad():
            module(*inputs)
            torch.cuda.synchronize(device)
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            module(*inputs)
            torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before + read
    alive = _Storages([*module.parameters(), *module.buffers()], arguments)
    with torch.no_grad(), alive:
        module(*inputs)
    return alive.peak


class _Storages(TorchDispatchMode):
    """Watches how many bytes of storage are alive.

    Args:
        fixed: Tensors that do not count.
        counted: Tensors that exist already and count.
    """

    def __init__(self, fixed: Sequence[Tensor], counted: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fixed = {tensor.untyped_storage()._cdata for tensor in fixed}
        self.alive: dict[int, int] = {}
        self.peak = 0
        self._count(counted)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls an operation and counts the storages that it made."""
        result = func(*args, **(kwargs or {}))
        self._count(_tensors(result))
        return result

    def _count(self, tensors: Sequence[Tensor] | Iterator[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            place = storage._cdata
            if place not in self.fixed and place not in self.alive:
                self.alive[place] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, place, None).atexit = False
        self.peak = max(self.peak, sum(self.alive.values()))


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def latencies(
    calls: Sequence[Callable[[], object]],
    *,
    repeats: int = 20,
    warm_up: int = 3,
    device: str | torch.device = "cpu",
    threads: int = 1,
) -> list[float]:
    """Milliseconds of several calls, each the median of its repeats.

    The calls are made in turn, again and again, so that whatever else a machine does hits all alike. On the CPU by
    ``time.perf_counter``, on a GPU by CUDA events.

    Args:
        calls: What is timed, in this order; without gradients.
        repeats: How often each counts.
        warm_up: How often each is made before.
        device: Where it computes.
        threads: Threads of the CPU; set for the time of the measurement.

    Raises:
        InputError: A number is below 1 (``warm_up``: below 0).
    """
    if repeats < 1 or threads < 1 or warm_up < 0:
        raise InputError(f"repeats {repeats}, threads {threads} and warm_up {warm_up} must be at least 1, 1 and 0")
    timed = _by_events if torch.device(device).type == "cuda" else _by_clock
    milliseconds: list[list[float]] = [[] for _ in calls]
    with torch.inference_mode(), _threads(threads):
        for turn in range(warm_up + repeats):
            for call, so_far in zip(calls, milliseconds, strict=True):
                taken = timed(call)
                if turn >= warm_up:
                    so_far.append(taken)
    return [statistics.median(one) for one in milliseconds]


def _by_clock(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _by_events(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_inference(
    networks: Mapping[float, tuple[Backbone, Mapping[str, Head]]],
    image_size: tuple[int, int],
    *,
    tasks: Mapping[str, Task] | None = None,
    device: str | torch.device = "cpu",
    threads: int = 1,
    repeats: int = 20,
    warm_up: int = 3,
) -> InferenceCosts:
    """What encoders and decoders cost at inference, each apart.

    Copies are measured, in evaluation mode; the modules stay as they are.

    Args:
        networks: Per size, its share of the full-size encoder, the encoder and the decoders by task; 1 is among the
            sizes. The decoders read one image.
        image_size: Height and width of the image.
        tasks: The tasks; their strides give the size of the decoders' outputs, which is that of the image if not given.
        device: Where it computes.
        threads: Threads of the CPU.
        repeats: How often each latency is measured; its median counts.
        warm_up: How often before, not counted.

    Raises:
        InputError: There is no full-size network, or a number is too small.
    """
    if 1 not in networks:
        raise InputError(f"sizes {', '.join(f'{size:g}' for size in networks)}: add 1, the full size, the unit of cost")
    where = torch.device(device)
    parts = []
    for size, (backbone, heads) in networks.items():
        parts.append(_Part(float(size), "", copy.deepcopy(backbone).eval().to(where)))
        for name, head in heads.items():
            stride = tasks[name].stride if tasks else 1
            decoder = _Decoder(copy.deepcopy(head), map_size(image_size, stride))
            parts.append(_Part(float(size), name, decoder.eval().to(where)))
    shape = (networks[1][0].mean.shape[1], *image_size)
    one, many = (torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0)).to(where) for batch in BATCHES)
    with _threads(threads):
        counted = _counted(parts, one)
    timed = [
        latencies(_calls(parts, image), repeats=repeats, warm_up=warm_up, device=where, threads=threads)
        for image in (one, many)
    ]
    unit = next(operations for part, (operations, _) in zip(parts, counted, strict=True) if part.is_unit)
    rows = [
        InferenceCost(
            size=part.size,
            part="decoder" if part.task else "encoder",
            task=part.task,
            weights=sum(weight.numel() for weight in part.module.parameters()),
            weight_bytes=weight_bytes(part.module),
            multiply_adds=operations,
            latency_1=latency_1,
            latency_32=latency_32,
            memory=memory,
            snt=operations / unit,
        )
        for part, (operations, memory), latency_1, latency_32 in zip(parts, counted, *timed, strict=True)
    ]
    gpu = torch.cuda.get_device_name(where) if where.type == "cuda" else None
    return InferenceCosts(tuple(rows), Machine.here(gpu, threads))


class _Decoder(nn.Module):
    """A head whose output has one size."""

    def __init__(self, head: Head, size: tuple[int, int]) -> None:
        super().__init__()
        self.head, self.size = head, size

    def forward(self, features: list[Tensor]) -> Tensor:
        """The head's output."""
        output: Tensor = self.head(features, self.size)
        return output


@dataclass(frozen=True)
class _Part:
    """An encoder; or a decoder, which reads what the last encoder before it gave."""

    size: float
    task: str
    module: nn.Module

    @property
    def is_unit(self) -> bool:
        return self.size == 1 and not self.task


def _counted(parts: Sequence[_Part], image: Tensor) -> list[tuple[int, int]]:
    """Multiply-adds and peak of activations of every part, for one image (1, C, H, W)."""
    counted = []
    features: list[Tensor] = []
    for part in parts:
        read = features if part.task else image
        counted.append((multiply_adds(part.module, read), activation_peak(part.module, read)))
        if not part.task:
            with torch.no_grad():
                features = part.module(image)
    return counted


def _calls(parts: Sequence[_Part], image: Tensor) -> list[Callable[[], object]]:
    """The calls of all parts in order; only one encoder's features are kept at a time."""
    features: list[list[Tensor]] = [[]]

    def encode(encoder: nn.Module) -> None:
        features[0] = encoder(image)

    def decode(decoder: nn.Module) -> None:
        decoder(features[0])

    return [partial(decode if part.task else encode, part.module) for part in parts]
