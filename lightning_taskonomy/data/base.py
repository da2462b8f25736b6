"""The data module all data sets share: which keys, which samples of which split, in which order."""

import logging
import multiprocessing
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.batch import Sample, Samples, collate
from lightning_taskonomy.data.normalisation import Normalisation
from lightning_taskonomy.data.pipeline import Draws, Loader, Pipeline
from lightning_taskonomy.data.reading import Labelled
from lightning_taskonomy.data.skips import kept
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import Label, Task, catalog, targets_of

__all__ = ["Part", "TaskDataModule"]

_LOG = logging.getLogger(__name__)

_SUBSET_STREAM, _WORKER_STREAM, _VALIDATION_STREAM = 2, 3, 4  # 0 and 1 are those of ``data.pipeline``

Part = Literal["all", "first", "second", "fit", "validation"]
"""Samples of a split: all; every other one, from the first or the second; without or within the validation share."""


class TaskDataModule(LightningDataModule):
    """Batches of images and labels for whichever tasks the module trains.

    A subclass says what it offers (``keys_offered``) and makes one split's samples (``build``). Everything else is
    here: subsets, order, augmentation, inputs and labels made from the picture, loaders. One seed decides all of it:
    an epoch is the same whatever the number of workers and whether or not the run was interrupted before it.

    Args:
        batch_size: Samples per batch.
        num_workers: Loader processes; 0 loads in the main one.
        keys: Batch keys to load; None asks the module being trained (``batch_keys``).
        transforms: Augmentations of training samples, applied in order to image and labels together
            (``lightning_taskonomy.data.transforms``, ``torchvision.transforms.v2``).
        seed: Decides subsets, order, augmentation and the randomness of derived inputs.
        limit: At most so many samples of a split, by split name: a seeded subset.
        skip: A file that names images to leave out of all splits, one id or path from the data set's folder per line,
            such as ``data check --format`` writes.
        fit_split: The split that is trained on.
        fit_size: Train on so many of its samples only; nested: the first n of one seeded permutation.
        parts: Epochs of one pass over what is trained on: with 5 an epoch is a fifth of it, so that validation, early
            stopping and schedules come five times a pass. A pass draws each sample at most once.
        validation_split: The split that ``validate`` and validation during training run on.
        validation_share: Above 0, they run on this share of what would be trained on instead, which then never is:
            neighbours in the data set's order, hence mostly whole scenes, from a seeded place on.
        test_split: The split that ``test`` runs on.
        test_part: All of the test split, or one of two disjoint halves: every other sample, from the first or second.
        predict_split: The split that ``predict`` runs on.
        normalise: Mean and deviation of colours, ``{mean: [...], deviation: [...]}`` or a JSON file with them, as
            ``lightning-taskonomy data colours`` writes it: pictures of every split have zero mean and unit deviation
            then, after transforms and all that is made from them. The backbone's ``normalises`` must be false. None
            leaves pictures in [0, 1].
        evaluation_size: Height and width of the training resolution, at which whole images are evaluated: all that
            are not trained on are resized to fit into it, their shape kept, so that one side matches, in batches of
            one, for they differ in size. Predictions are compared with labels of that size. None leaves images as the
            data set gives them.
    """

    def __init__(
        self,
        *,
        batch_size: int = 32,
        num_workers: int = 0,
        keys: list[str] | None = None,
        transforms: list[nn.Module] | None = None,
        seed: int = 0,
        limit: dict[str, int] | None = None,
        skip: str | None = None,
        fit_split: str = "train",
        fit_size: int | None = None,
        parts: int = 1,
        validation_split: str = "validation",
        validation_share: float = 0.0,
        test_split: str = "test",
        test_part: Literal["all", "first", "second"] = "all",
        predict_split: str = "test",
        normalise: dict[str, list[float]] | str | None = None,
        evaluation_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("parts", parts, 1)):
            if value < least:
                raise InputError(f"data: {name} is {value}, must be at least {least}")
        for name, size in {"fit_size": fit_size, **(limit or {})}.items():
            if size is not None and size < 1:
                raise InputError(f"data: {name} is {size} samples, must be at least 1")
        if not 0 <= validation_share < 1:
            raise InputError(f"data: validation_share is {validation_share}, must be a share of at least 0 and below 1")
        if test_part not in ("all", "first", "second"):
            raise InputError(f"data: test_part is {test_part!r}; allowed: 'all', 'first', 'second'")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.keys = keys
        self.transforms = transforms
        self.seed = seed
        self.limit: Mapping[str, int] = limit or {}
        self.skip = None if skip is None else Path(skip)
        self.fit_split = fit_split
        self.fit_size = fit_size
        self.parts = parts
        self.validation_split = validation_split
        self.validation_share = validation_share
        self.test_split = test_split
        self.test_part = test_part
        self.predict_split = predict_split
        if isinstance(normalise, Mapping):
            Normalisation.of(normalise)  # a file may be written later
        self.normalise = normalise
        if evaluation_size is not None and min(evaluation_size) < 1:
            raise InputError(f"data: evaluation_size is {list(evaluation_size)}, must be a height and a width")
        self.evaluation_size = None if evaluation_size is None else (evaluation_size[0], evaluation_size[1])
        self.readers: Mapping[str, Task] | None = None
        """The tasks that read it, where another data module that has it knows them; else those of the trainer's."""

    @property
    def keys_offered(self) -> Collection[str]:
        """The keys that ``build`` can give, without those made from the picture."""
        raise NotImplementedError(f"{type(self).__name__} must say which keys it offers")

    @property
    def keys_asked(self) -> Collection[str]:
        """Those of ``keys_offered`` that there must be because the user named what reads them; none here."""
        return ()

    @property
    def own_tasks(self) -> Collection[Task]:
        """The tasks that these data are labelled for, where tasks of other data share a key; none here."""
        return ()

    @property
    def targets(self) -> Mapping[str, Label]:
        """What each key holds: as the catalog's tasks say, before them ``own_tasks``, and first the module's."""
        return targets_of([*catalog().values(), *self.own_tasks, *self._trained.values()])

    @property
    def _trained(self) -> Mapping[str, Task]:
        """The tasks of the module being trained; none without a module, or of one that has no mapping of tasks."""
        if self.readers is not None:
            return self.readers
        tasks = getattr(getattr(self.trainer, "lightning_module", None), "tasks", None)
        entries = tasks.items() if isinstance(tasks, Mapping) else ()
        return {name: task for name, task in entries if isinstance(task, Task)}

    def check_tasks(
        self,
        primary: str,
        auxiliary: Collection[str],
        *,
        reader: str,
        auxiliary_steps: int | None = None,
        held_out: bool = False,
    ) -> None:
        """Refuses tasks that the batches do not fit; those of most data sets fit any, so that nothing is refused here.

        Args:
            primary: The task with few labels.
            auxiliary: The other tasks.
            reader: What learns from the batches, by the name that a user knows.
            auxiliary_steps: Steps of batches without primary labels after each step with them, where it has a number.
            held_out: Whether it needs other images with each batch with primary labels.
        """

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """Makes the samples of one split.

        Args:
            split: ``train``, ``validation``, ``test`` or another that the data set has.
            keys: What the samples must hold, a subset of ``keys_offered``; ``id`` always.

        Raises:
            InputError: There is no such split or no file.
        """
        raise NotImplementedError(f"{type(self).__name__} must build {split!r}")

    def batch_keys(self) -> list[str]:
        """The keys to load: those given, or those of the module being trained.

        Raises:
            InputError: The data set does not offer one of them, or nothing says which.
        """
        keys = self.keys
        if keys is None:
            if self.trainer is None:
                raise InputError("data: no keys given and no module to ask; pass keys=['image', ...]")
            keys = list(self.trainer.lightning_module.batch_keys)  # type: ignore[arg-type]  # modules of ours
        offered = {*self.keys_offered, *pretext.KEYS} if "image" in self.keys_offered else {*self.keys_offered}
        offered |= {key for key, label in self._made(keys).items() if offered.issuperset(label.made_from)}
        for key in keys:
            if key not in offered and key != "id":
                raise InputError(f"{type(self).__name__} has no {key!r}{hint(key, offered)}")
        return sorted({*keys} - {"id"})

    def dataset(
        self,
        split: str,
        *,
        keys: Collection[str] | None = None,
        size: int | None = None,
        part: Part = "all",
        training: bool = False,
    ) -> Pipeline:
        """The finished samples of one split.

        Args:
            split: Which split.
            keys: What to load; None for ``batch_keys()``.
            size: At most so many samples, a seeded subset; smaller ones are contained in larger ones.
            part: All of them; every other one from the first or the second; or what is left to train on and what
                ``validation_share`` keeps for validation.
            training: Apply ``transforms`` and draw noise, masks and permutations anew at each epoch.

        Raises:
            InputError: As ``build`` and ``batch_keys``; or the split has no sample, or none but its validation share.
        """
        wanted = self.batch_keys() if keys is None else sorted(keys)
        derived, made = pretext.KEYS.intersection(wanted), self._made(wanted)
        sources = {key for label in made.values() for key in label.made_from}
        loaded = {*wanted} - derived - made.keys() | sources | ({"image"} if derived or made else set())
        samples = self.build(split, sorted(loaded))
        if len(samples) == 0:
            raise InputError(f"{type(self).__name__} has no sample in split {split!r}")
        indices = torch.tensor(self.kept(samples), dtype=torch.long)
        if len(indices) == 0:
            raise InputError(f"{self.skip} names all images of split {split!r}; leave some to {type(self).__name__}")
        sizes = [n for n in (self.limit.get(split), size) if n is not None]
        if sizes:
            generator = torch.Generator().manual_seed(pretext.mix(self.seed, _SUBSET_STREAM))
            indices = indices[torch.randperm(len(indices), generator=generator)[: min(sizes)].sort().values]
        if part in ("first", "second"):
            indices = indices[0 if part == "first" else 1 :: 2]
        elif part != "all":
            indices = indices[self._is_for_validation(len(indices)) == (part == "validation")]
        return Pipeline(
            samples, indices.tolist(), keys=wanted, seed=self.seed, training=training,
            transforms=self.transforms if training else self._whole(), targets=self.targets,
            normalisation=self.normalisation,
        )  # fmt: skip

    def kept(self, samples: Samples) -> list[int]:
        """The samples of a split that ``skip`` does not name, in order.

        Args:
            samples: What ``build`` made.

        Raises:
            InputError: The list cannot be read, or cannot be of these samples.
        """
        if self.skip is None:
            return list(range(len(samples)))
        root = getattr(self, "root", None)
        return kept(samples, self.skip, None if root is None else Path(root))

    def _whole(self) -> list[nn.Module] | None:
        """What evaluated images go through."""
        if self.evaluation_size is None:
            return None
        from lightning_taskonomy.data.crops import WholeImage

        return [WholeImage(self.evaluation_size)]

    @property
    def normalisation(self) -> Normalisation | None:
        """How pictures are normalised; None where they are not.

        Raises:
            InputError: The file that ``normalise`` names cannot be read.
        """
        return None if self.normalise is None else Normalisation.of(self.normalise)

    def _made(self, keys: Collection[str]) -> dict[str, Label]:
        """Those of some keys that are made from other labels."""
        return {key: label for key, label in self.targets.items() if key in keys and label.made_by is not None}

    @property
    def fit_part(self) -> Part:
        """Which samples of ``fit_split`` are trained on."""
        return "fit" if self.validation_share else "all"

    def _is_for_validation(self, count: int) -> Tensor:
        """Which of so many samples are validated on: (count,) bool, a block that may run over the end to the start."""
        size = max(1, round(self.validation_share * count)) if self.validation_share else 0
        if size >= count:
            raise InputError(
                f"data: validation_share {self.validation_share} of {count} samples leaves none to train on; give a "
                "smaller share or more samples"
            )
        generator = torch.Generator().manual_seed(pretext.mix(self.seed, _VALIDATION_STREAM))
        start = int(torch.randint(count, (), generator=generator))
        return (torch.arange(count) - start) % count < size

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled batches of ``fit_split``; the last one is dropped if it is not whole and not the only one.

        Raises:
            InputError: A task of the module being trained has no label in it, or it has fewer batches than parts.
        """
        samples = self.dataset(self.fit_split, size=self.fit_size, part=self.fit_part, training=True)
        self.require_labels(samples)
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = Draws(
            samples, parts=self.parts, multiple=self.batch_size, num_replicas=world, rank=rank, seed=self.seed
        )
        if len(sampler) == 0:
            count, each = len(samples) // self.batch_size // world, f" on each of {world} devices" if world > 1 else ""
            raise InputError(
                f"data: parts is {self.parts}, but {len(samples)} samples make {count} batches of {self.batch_size}"
                f"{each}; give fewer parts, smaller batches or more samples"
            )
        return self.loader(samples, sampler=sampler, drop_last=len(sampler) >= self.batch_size)

    def require_labels(self, samples: Pipeline) -> None:
        """Refuses samples in which a task of the module being trained has no label, and logs what looks amiss.

        Labels are read until each has a valid one; a rare label is one.

        Args:
            samples: What is to be trained on.

        Raises:
            InputError: Names the task and what is in the place of its labels.
        """
        if not isinstance(samples.samples, Labelled):
            return
        for name, task in self._trained.items():
            for key in task.stored_targets:
                reason = samples.samples.unlabelled(key, samples.indices)
                if reason is not None:
                    raise InputError(f"task {name!r} has nothing to learn from in split {self.fit_split!r}: {reason}")
        for remark in samples.samples.remarks():
            _LOG.warning("%s", remark)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Batches of ``validation_split`` in order, or of the validation share of ``fit_split``."""
        if self.validation_share:
            return self.loader(self.dataset(self.fit_split, size=self.fit_size, part="validation"))
        return self.loader(self.dataset(self.validation_split))

    def test_dataloader(self) -> DataLoader[Sample]:
        """Batches of ``test_part`` of ``test_split`` in order."""
        return self.loader(self.dataset(self.test_split, part=self.test_part))

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Batches of ``predict_split`` in order."""
        return self.loader(self.dataset(self.predict_split))

    def loader(self, samples: Pipeline, **options: Any) -> DataLoader[Sample]:
        """A loader with this module's batch size and workers.

        Args:
            samples: What to load.
            **options: Further arguments of ``DataLoader``.
        """
        if self.num_workers:
            samples[0]  # what is wrong in general is said here, on one line, not from within a worker
        forked = self.num_workers > 0 and "fork" in multiprocessing.get_all_start_methods()
        whole = self.evaluation_size is not None and not samples.training
        return Loader(
            samples,
            batch_size=1 if whole else self.batch_size,
            num_workers=self.num_workers,
            collate_fn=_whole if hasattr(samples, "__getitems__") else partial(collate, labels=self.targets),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            multiprocessing_context="fork" if forked else None,
            generator=torch.Generator().manual_seed(pretext.mix(self.seed, _WORKER_STREAM)),
            **options,
        )


def _whole(batch: Any) -> Any:
    """What gives whole batches needs no collating."""
    return batch
