"""Few images with labels of the primary task among many with labels of the auxiliary tasks, in two streams of batches.

"Task Meta-Transfer from Limited Parallel Labels", sections 3.1, 3.2 and 4.3: all images of X^A have auxiliary labels,
those of a small subset X have primary labels too; one batch from X takes turns with k batches from X^A.
"""

import inspect
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from lightning_taskonomy.batch import PARALLEL, is_parallel
from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample, Samples, is_picture
from lightning_taskonomy.data.pipeline import Pipeline
from lightning_taskonomy.data.streams import Borrowing, Required, StreamDraws, Streams
from lightning_taskonomy.data.turns import Turns
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import Label, Task, resolve

__all__ = ["PARALLEL", "ParallelLabels", "is_parallel"]

_LOG = logging.getLogger(__name__)
_CHOICE_STREAM, _SHUFFLE_STREAM = 11, 14  # 12 and 13 are those of ``data.streams``


class ParallelLabels(TaskDataModule):
    """Another data set whose training images have labels of the primary task only in a small subset X.

    A batch of X has every label; a batch of X^A (all training images, those of X among them) lacks the primary label,
    which is not even loaded. Each batch carries ``parallel``, (B,) bool. X depends on ``seed`` and on the order of the
    data set's training images alone: it is the same for every method, and smaller ones are contained in larger ones.
    Under gradient accumulation the batches of one optimizer step are of one stream, and count as one of 1 : k.
    Batches are whole; a stream runs through permutation after permutation of its images, across epochs, so that which
    images a batch has follows from its number alone: the same after a resume, and over all processes together.
    Validation, test and predict are those of the data set, with every label.

    Args:
        data: The data set; its batch size, seed, transforms and splits apply.
        primary: The task with few labels.
        auxiliary: The tasks whose labels all training images have.
        parallel: How large X is: a share of the training images (0.1) or their number (80).
        auxiliary_steps: k, batches of X^A after each batch of X.
        streams: ``both`` alternates 1 : k; ``parallel`` is X alone (Primary Only), ``auxiliary`` X^A alone (the
            pretraining of Transfer Learning), ``oracle`` all images with primary labels.
        steps: Batches per epoch and process; None: one pass over X with its auxiliary batches, or one pass over the
            only stream.
        seed: Which images are X.
        unlabelled: An image of X^A without any auxiliary label, or of X without a primary one, stops the run
            (``refuse``) or is passed over as damaged images are (``skip``).
        held_out: Each batch of X carries, as ``batch["held_out"]``, a batch of as many other images of X, none of
            which is in its optimizer step: those on which a meta step takes the primary loss at Θ⁺.
        shuffled: A control: each training image has the auxiliary labels of another one, always the same, decided by
            ``seed``; they are labels of the right kind that say nothing of the image. Transforms move image and
            borrowed labels together.

    Raises:
        InputError: The primary task is an auxiliary one, or its label is what an auxiliary task reads; X is empty or
            larger than the data set, or with ``held_out`` smaller than two batches; k or steps below 1; with
            ``shuffled`` an auxiliary label that is the picture's own, an input, or what the primary label is made from.
    """

    def __init__(
        self,
        data: TaskDataModule,
        primary: str | Task,
        auxiliary: list[str | Task],
        *,
        parallel: int | float = 0.1,
        auxiliary_steps: int = 1,
        streams: Literal["both", "parallel", "auxiliary", "oracle"] = "both",
        steps: int | None = None,
        seed: int = 0,
        unlabelled: Literal["refuse", "skip"] = "refuse",
        held_out: bool = False,
        shuffled: bool = False,
    ) -> None:
        super().__init__(**{name: getattr(data, name) for name in _OPTIONS})
        ((_, self.primary),) = resolve([primary]).items()
        self.auxiliary = resolve(auxiliary)
        for task in self.auxiliary.values():
            if task.name == self.primary.name or task.target == self.primary.target:
                raise InputError(
                    f"primary task {self.primary.name!r} is auxiliary too, or shares its label with {task.name!r}; "
                    "name another auxiliary task"
                )
            if task.input == self.primary.target:
                raise InputError(
                    f"the label of primary task {self.primary.name!r} is {self.primary.target!r}, which auxiliary "
                    f"task {task.name!r} reads, so it cannot be withheld; choose another primary task"
                )
        if parallel <= 0 or (isinstance(parallel, float) and parallel > 1):
            raise InputError(
                f"the parallel set is empty or not a share: parallel={parallel}; give a share above 0 and up to 1.0 or "
                "a whole number of images"
            )
        for name, value in (("auxiliary_steps", auxiliary_steps), ("steps", steps)):
            if value is not None and value < 1:
                raise InputError(f"ParallelLabels: {name} is {value}, must be at least 1")
        if self.parts > 1:
            raise InputError(
                f"ParallelLabels: its epochs are counted by steps; leave out parts={self.parts} of the data"
            )
        if streams not in _STREAMS:
            raise InputError(f"ParallelLabels has no streams {streams!r}{hint(streams, _STREAMS)}")
        self.data, self.parallel, self.auxiliary_steps, self.streams = data, parallel, auxiliary_steps, streams
        self.steps, self.parallel_seed, self.unlabelled, self.held_out = steps, seed, unlabelled, held_out
        self.borrowed = self._borrowed() if shuffled else frozenset[str]()

    @property
    def keys_offered(self) -> Collection[str]:
        """Those of the data set."""
        return self._data().keys_offered

    @property
    def targets(self) -> Mapping[str, Label]:
        """Those of the data set."""
        return self._data().targets

    def prepare_data(self) -> None:
        """As the data set does."""
        self.data.prepare_data()

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The data set's own samples, with all their labels."""
        return self._data().build(split, keys)

    def dataset(self, split: str, **options: Any) -> Pipeline:
        """The data set's own finished samples, with all their labels."""
        options["keys"] = self.batch_keys() if options.get("keys") is None else options["keys"]
        return self._data().dataset(split, **options)

    def train_dataloader(self) -> DataLoader[Sample]:
        """The batches of the streams, in turn."""
        keys = {*self.batch_keys()}
        targets = {task.target for task in self.auxiliary.values()}
        needed = {self.primary.target} if self.streams != "auxiliary" else set()
        needed |= targets if self.streams in ("both", "auxiliary") else set()
        if needed - keys:
            raise InputError(
                f"streams={self.streams!r} needs the labels {sorted(needed)} but the module reads {sorted(keys)}; "
                "train a module with the primary and the auxiliary tasks"
            )
        withheld = keys - {self.primary.target}
        flags = {"both": [True, False], "auxiliary": [False]}.get(self.streams, [True])
        streams = []
        for with_primary in flags:
            labels = self._pipeline(keys if with_primary else withheld)
            if self.borrowed:
                labels.samples = Borrowing(labels.samples, self._lenders(labels.indices), self.borrowed)
            if with_primary and self.streams != "oracle":
                labels.indices = [labels.indices[position] for position in self.parallel_set(len(labels))]
            required: list[Collection[str]] = [self.primary.stored_targets] if with_primary else []
            if targets <= keys:
                required.append({key for task in self.auxiliary.values() for key in task.stored_targets})
            labels.samples = Required(labels.samples, required, self.unlabelled == "skip")
            streams.append(labels)
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        repeats = self.trainer.accumulate_grad_batches if self.trainer else 1
        turns = Turns(self.auxiliary_steps if self.streams == "both" else 0, repeats)
        if len(streams) > 1 and self.steps and self.steps % repeats:  # the next epoch would begin within a turn
            raise InputError(
                f"ParallelLabels: steps is {self.steps}, not a multiple of accumulate_grad_batches={repeats}; give "
                f"{self.steps // repeats * repeats + repeats}, or change either"
            )
        step_size = self.batch_size * world * repeats
        if self.held_out and flags[0] and len(streams[0]) < 2 * step_size:
            raise InputError(
                f"held_out with an X of {len(streams[0])} images, fewer than two batches of {step_size} "
                "(batch_size x processes x accumulate_grad_batches); give a larger X or smaller batches"
            )
        steps = self.steps or len(turns.cycle) * max(1, len(streams[0]) // step_size)
        samples = Streams(streams, flags)
        sampler = StreamDraws(
            samples, turns, steps=steps, batch_size=self.batch_size, num_replicas=world, rank=rank, seed=self.seed,
            held_out=self.held_out,
        )  # fmt: skip
        return self.loader(samples, sampler=sampler, drop_last=True)

    def check_tasks(
        self,
        primary: str,
        auxiliary: Collection[str],
        *,
        reader: str,
        auxiliary_steps: int | None = None,
        held_out: bool = False,
    ) -> None:
        """Refuses what is to learn from other tasks, from one stream alone, or in turns of another length.

        Images that are to be held out and are not are refused as well; those that nothing reads are warned of.

        Args:
            primary: The task with few labels.
            auxiliary: The other tasks.
            reader: What learns from the batches, by the name that a user knows.
            auxiliary_steps: Its k, where it has one.
            held_out: Whether it needs other images with each batch of X.

        Raises:
            InputError: They differ; says what to change.
        """
        if primary != self.primary.name or {*auxiliary} != self.auxiliary.keys():
            raise InputError(
                f"ParallelLabels has primary {self.primary.name!r} and auxiliary {sorted(self.auxiliary)}, {reader} "
                f"{primary!r} and {sorted(auxiliary)}; give both the same tasks"
            )
        if self.streams != "both":
            raise InputError(f"ParallelLabels has streams={self.streams!r}; {reader} needs 'both'")
        if auxiliary_steps not in (None, self.auxiliary_steps):
            raise InputError(
                f"ParallelLabels gives auxiliary_steps={self.auxiliary_steps}, and {reader} has "
                f"auxiliary_steps={auxiliary_steps}; change either, or leave it to the loader"
            )
        if held_out and not self.held_out:
            raise InputError(
                f"{reader} has meta_batch 'held_out', and ParallelLabels no other images; give ParallelLabels "
                "held_out: true, or leave out meta_batch"
            )
        if self.held_out and not held_out:
            _LOG.warning(
                "ParallelLabels has held_out: true, and %s does not read those images: every image of X is loaded "
                "twice; leave it out, or give TaskMetaTransfer meta_batch: held_out", reader,
            )  # fmt: skip

    def parallel_set(self, count: int) -> list[int]:
        """Which of so many training images are X: positions in the data set's order, ascending.

        Raises:
            InputError: X would be empty or larger than the data set.
        """
        size = self.parallel if isinstance(self.parallel, int) else round(self.parallel * count)
        if not 1 <= size <= count:
            raise InputError(
                f"the parallel set would have {size} of {count} training images (parallel={self.parallel}); at least "
                f"1 and at most {count}"
            )
        generator = torch.Generator().manual_seed(pretext.mix(self.parallel_seed, _CHOICE_STREAM))
        positions: list[int] = torch.randperm(count, generator=generator)[:size].sort().values.tolist()
        return positions

    def _borrowed(self) -> frozenset[str]:
        """What the auxiliary labels are, or are made from, which is the image's own for no other task."""
        kept = {task.input for task in (self.primary, *self.auxiliary.values())} | {*self.primary.stored_targets}
        for name, task in self.auxiliary.items():
            for key in sorted(task.stored_targets):
                if key in kept or key in pretext.KEYS or is_picture(key):
                    raise InputError(
                        f"shuffled: the labels of auxiliary task {name!r} come from {key!r}, which stays with its "
                        "image; choose an auxiliary task with labels of its own"
                    )
        return frozenset(key for task in self.auxiliary.values() for key in task.stored_targets)

    def _lenders(self, indices: Sequence[int]) -> dict[int, int]:
        """Each training image's lender of auxiliary labels: one cycle through all in random order."""
        if len(indices) < 2:
            raise InputError("shuffled: a single training image has no other whose labels it could have; give two")
        generator = torch.Generator().manual_seed(pretext.mix(self.parallel_seed, _SHUFFLE_STREAM))
        order = [indices[position] for position in torch.randperm(len(indices), generator=generator).tolist()]
        return dict(zip(order, [*order[1:], order[0]], strict=True))

    def _data(self) -> TaskDataModule:
        self.data.trainer = self.trainer  # some ask the module being trained for its tasks
        return self.data

    def _pipeline(self, keys: Collection[str]) -> Pipeline:
        samples = self.dataset(self.fit_split, keys=sorted(keys), size=self.fit_size, part=self.fit_part, training=True)
        self.require_labels(samples)
        return samples


_OPTIONS = [name for name in inspect.signature(TaskDataModule.__init__).parameters if name != "self"]
_STREAMS = ("both", "parallel", "auxiliary", "oracle")
