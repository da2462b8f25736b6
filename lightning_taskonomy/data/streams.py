"""The samples of two streams of batches, one of which lacks a label, and the order in which they are drawn."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler

from lightning_taskonomy.batch import HELD_OUT, PARALLEL, Batch, is_labelled
from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.batch import Sample, Samples, SkipSample, collate, size_of
from lightning_taskonomy.data.pipeline import Pipeline
from lightning_taskonomy.data.turns import Turns
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import presence

__all__ = ["Borrowing", "Required", "StreamDraws", "Streams"]

_LOG = logging.getLogger(__name__)
_ORDER_STREAM, _HELD_OUT_STREAM = 12, 13  # 11 and 14 are those of ``data.parallel``

Draw = int | tuple[int, int]
"""A draw, or one of a batch and one of the batch that it carries."""


class Borrowing:
    """Samples some of whose labels are those of another sample.

    Args:
        samples: The samples.
        lenders: By index, whose labels they are.
        keys: The labels.

    Raises:
        InputError: As a sample is read: the two images differ in size, so that the labels do not fit.
    """

    def __init__(self, samples: Samples, lenders: Mapping[int, int], keys: Collection[str]) -> None:
        self.samples, self.lenders = samples, lenders
        self.keys = {*keys} | {presence(key) for key in keys}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample, lender = self.samples[index], self.samples[self.lenders[index]]
        labels = {key: entry for key, entry in lender.items() if key in self.keys}
        sizes = {size_of(one["image"]) for one in (sample, lender) if "image" in one}
        if len(sizes) > 1 and any(entry.ndim > 1 for entry in labels.values()):
            raise InputError(
                f"shuffled: image {index} has {min(sizes)} pixels and the one whose labels it is to have {max(sizes)}; "
                "give the data a size"
            )
        return {key: entry for key, entry in sample.items() if key not in self.keys} | labels


class Required:
    """Samples that must have some label of each group of keys.

    Args:
        samples: The samples.
        groups: Keys of labels.
        skip: Whether one that lacks them is passed over.

    Raises:
        InputError: As a sample is read: it lacks the labels and is not passed over.
    """

    def __init__(self, samples: Samples, groups: Sequence[Collection[str]], skip: bool) -> None:
        self.samples, self.skip = samples, skip
        self.groups = [group for group in groups if not pretext.KEYS.intersection(group)]  # those never lack
        self.reported: set[int] = set()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        for group in self.groups:
            if any(is_labelled(sample, key) for key in group):
                continue
            reason = (
                f"training image {index} (id {int(sample.get('id', index))}) has no label {' or '.join(sorted(group))}"
            )
            if not self.skip:
                raise InputError(f"{reason}, which ParallelLabels needs; leave it out or set unlabelled='skip'")
            if index not in self.reported:
                self.reported.add(index)
                _LOG.warning("passed over %s", reason)
            raise SkipSample(reason)
        return sample


class Streams(Pipeline):
    """The samples of one or two streams, in whole batches; index = draw * number of streams + stream.

    Args:
        streams: Their samples.
        parallel: Of each, whether it is X.
    """

    def __init__(self, streams: Sequence[Pipeline], parallel: Sequence[bool]) -> None:
        first = streams[0]
        super().__init__(
            first.samples, first.indices, keys=first.keys, seed=first.seed, training=True, targets=first.targets,
            normalisation=first.normalisation,
        )  # fmt: skip
        self.streams, self.parallel = streams, parallel

    def __getitem__(self, draw: int) -> Sample:
        number, stream = divmod(draw, len(self.streams))
        sample = self.streams[stream][number]
        return {**sample, PARALLEL: torch.tensor(self.parallel[stream])}

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        pairs = [draw for draw in draws if isinstance(draw, tuple)]
        if not pairs:
            return self.batch([draw for draw in draws if isinstance(draw, int)])
        batch = self.batch([draw for draw, _ in pairs])
        others = [self[other] for _, other in pairs]
        ids = {*batch["id"].tolist()}
        free = [other for other in others if int(other["id"]) not in ids]  # the next of a damaged one may be in both
        if not free:
            raise InputError("held_out: too few images of X can be read to give a batch and another of other images")
        others = [
            other if int(other["id"]) not in ids else free[place % len(free)] for place, other in enumerate(others)
        ]
        batch[HELD_OUT] = cast(Tensor, collate(others, self.targets))
        return batch


class StreamDraws(DistributedSampler[Any]):
    """The draws of one epoch: whole batches of the streams in turn, from where the last epoch ended.

    Args:
        samples: What is drawn from.
        turns: Which stream each batch is from.
        steps: Batches of an epoch.
        batch_size: Samples of a batch.
        num_replicas: Processes.
        rank: Which of them this is.
        seed: Decides the order.
        held_out: Whether a batch of X carries another one.
    """

    def __init__(
        self, samples: Streams, turns: Turns, *, steps: int, batch_size: int, num_replicas: int, rank: int, seed: int,
        held_out: bool,
    ) -> None:  # fmt: skip
        super().__init__(samples, num_replicas=num_replicas, rank=rank, seed=seed)
        self.turns, self.steps, self.batch_size = turns, steps, batch_size
        self.sizes = [len(stream) for stream in samples.streams]
        self.held_out = [held_out and is_of_x for is_of_x in samples.parallel]
        self._order: dict[int, tuple[int, list[int]]] = {}

    def __len__(self) -> int:
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        for stream, batch in self.turns.batches(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            first = (batch * self.num_replicas + self.rank) * self.batch_size
            draws = [
                self._draw(stream, position) * len(self.sizes) + stream
                for position in range(first, first + self.batch_size)
            ]
            if not self.held_out[stream]:
                yield from draws
                continue
            others = self._others(stream, batch)
            yield from zip(draws, (other * len(self.sizes) + stream for other in others), strict=True)

    def _draw(self, stream: int, position: int) -> int:
        passes, place = divmod(position, self.sizes[stream])
        if self._order.get(stream, (-1, []))[0] != passes:
            seed = pretext.mix(self.seed, _ORDER_STREAM, stream, passes)
            order = torch.randperm(self.sizes[stream], generator=torch.Generator().manual_seed(seed))
            self._order[stream] = passes, order.tolist()
        return passes * self.sizes[stream] + self._order[stream][1][place]

    def _others(self, stream: int, batch: int) -> list[int]:
        """As many images as a batch has, of those that its step has on no process; each batch of a step has its own."""
        step, turn = divmod(batch, self.turns.accumulate)
        size, per_turn = self.sizes[stream], self.num_replicas * self.batch_size
        first, per_step = step * self.turns.accumulate * per_turn, self.turns.accumulate * per_turn
        taken = {self._draw(stream, position) % size for position in range(first, first + per_step)}
        generator = torch.Generator().manual_seed(pretext.mix(self.seed, _HELD_OUT_STREAM, step))
        free = [index for index in torch.randperm(size, generator=generator).tolist() if index not in taken]
        start = turn * per_turn + self.rank * self.batch_size
        passes = -1 - step  # augmented as in no pass over the stream
        return [passes * size + index for index in free[start : start + self.batch_size]]
