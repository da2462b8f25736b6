"""The way of a sample to a batch: drawn, read, augmented, completed, and stacked with others."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from lightning_taskonomy.batch import Batch
from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.batch import (
    Sample,
    Samples,
    SkipSample,
    blank_label,
    collate,
    is_given,
    is_picture,
    size_of,
)
from lightning_taskonomy.data.normalisation import Normalisation
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, imported, presence

__all__ = ["Draws", "Loader", "Pipeline", "normalised"]

_DRAW_STREAM, _SAMPLE_STREAM = 0, 1  # 2 to 4 are those of ``data.base``


class Loader(DataLoader[Sample]):
    """Passes over a batch of which no image could be read; a pass without any other batch is an error."""

    def __iter__(self) -> Any:
        is_empty = True
        for batch in super().__iter__():
            if batch:
                is_empty = False
                yield batch
        if is_empty:
            raise InputError("every image is missing or damaged; list them by: lightning-taskonomy data check")


class Pipeline(Dataset[Sample]):
    """Samples as a loader gives them: subset, augmented, with what is made from the picture, nothing more than asked.

    Args:
        samples: Where they come from.
        indices: Which of them, in order.
        keys: What a sample holds in the end, with ``id``.
        seed: With the sample's id (or, in training, the draw) it decides all randomness.
        training: An index beyond the end is a draw of a later epoch: index modulo length, with new randomness.
        transforms: Applied in order to image and labels together.
        targets: What the keys hold.
        normalisation: What pictures go through last; None leaves them in [0, 1].
    """

    def __init__(
        self,
        samples: Samples,
        indices: list[int],
        *,
        keys: Collection[str],
        seed: int = 0,
        training: bool = False,
        transforms: list[nn.Module] | None = None,
        targets: Mapping[str, Label] | None = None,
        normalisation: Normalisation | None = None,
    ) -> None:
        self.samples = samples
        self.indices = indices
        self.keys = frozenset(keys) | {"id"}
        self.targets: Mapping[str, Label] = targets or {}
        self.made = {
            key: (imported(label.made_by, f"made_by of label {key!r}"), label)
            for key, label in self.targets.items()
            if key in keys and label.made_by is not None
        }
        self.seed = seed
        self.training = training
        self.normalisation = normalisation
        self.transform: nn.Module | None = None
        if transforms:
            from lightning_taskonomy.data.transforms import Joint

            self.transform = Joint(transforms, self.targets)

    def __len__(self) -> int:
        """How many samples an epoch has."""
        return len(self.indices)

    def __getitem__(self, draw: int) -> Sample:
        """Loads, augments and completes one sample.

        Instead of one whose image cannot be read comes the next in training, and nothing otherwise.

        Raises:
            InputError: No image at all can be read.
        """
        length = len(self.indices)
        epoch, position = divmod(draw, length)
        if epoch and not self.training:
            raise IndexError(draw)
        for step in range(length):
            index = self.indices[(position + step) % length]
            try:
                sample = dict(self.samples[index])
            except SkipSample:
                if self.training:
                    continue
                return {}
            return self._finish(sample, index, epoch)
        raise InputError("no image can be read; list what is wrong by: lightning-taskonomy data check")

    def _finish(self, sample: Sample, index: int, epoch: int) -> Sample:
        sample.setdefault("id", torch.tensor(index))
        if self.training:
            seed = pretext.mix(self.seed, _DRAW_STREAM, epoch, index)
        else:
            seed = pretext.mix(self.seed, _SAMPLE_STREAM, int(sample["id"]))
        if self.transform is not None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                sample = self.transform(sample)
        pretext.derive(sample, (self.keys & pretext.KEYS).difference(sample), seed)
        for key, (make, label) in self.made.items():
            can_be_made = is_given(sample, *label.made_from)
            sample[key] = make(sample) if can_be_made else blank_label(label, size_of(sample["image"]))
        keys = self.keys | {presence(key) for key in self.keys}
        sample = {key: sample[key] for key in sample if key in keys}
        return sample if self.normalisation is None else normalised(sample, self.normalisation)

    def batch(self, draws: Sequence[int]) -> Batch:
        """Several samples at once, stacked."""
        return collate([self[draw] for draw in draws], self.targets)


def normalised(sample: Sample, normalisation: Normalisation) -> Sample:
    """A sample with all its pictures normalised.

    Args:
        sample: The sample, with everything that is made from its picture.
        normalisation: How.
    """
    return {key: normalisation.apply(entry) if is_picture(key) else entry for key, entry in sample.items()}


class Draws(DistributedSampler[Any]):
    """Draws of one epoch, distinct from those of the others: pass * length + index.

    Lightning sets the epoch, also after a resume, and leaves a ``DistributedSampler`` as it is.

    Args:
        samples: What is drawn from.
        parts: Epochs of one pass: epoch e has part e % parts of the order of pass e // parts.
        multiple: A part has a multiple of so many samples; those that are left over are drawn in another pass.
        **options: As ``DistributedSampler``; each of several processes has parts of its share.
    """

    def __init__(self, samples: Pipeline, *, parts: int = 1, multiple: int = 1, **options: Any) -> None:
        super().__init__(samples, **options)
        self.parts, self.multiple = parts, multiple

    def __len__(self) -> int:
        """Draws of one epoch on one process."""
        whole = super().__len__()
        return whole if self.parts == 1 else whole // (self.parts * self.multiple) * self.multiple

    def __iter__(self) -> Iterator[int]:
        length, epoch = len(self.dataset), self.epoch  # type: ignore[arg-type]  # ours have a length
        self.epoch, part = divmod(epoch, self.parts)
        try:
            order = list(super().__iter__())
            first, draws = self.epoch * length, len(self)
        finally:
            self.epoch = epoch
        return (first + index for index in order[part * draws : (part + 1) * draws])
