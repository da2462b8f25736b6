"""Images of a data set at zero mean and unit deviation in each colour channel, as measured once on its own images.

"Factors of Influence for Transfer Learning", section 4.1: all data sets are normalised alike, so that their lighting
makes no difference between them.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json

if TYPE_CHECKING:
    from lightning_taskonomy.data.base import TaskDataModule

__all__ = ["Normalisation", "measure_colours", "write_colours"]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of colours in [0, 1], one of each per channel.

    Args:
        mean: What becomes 0.
        deviation: What becomes 1 apart from it.

    Raises:
        InputError: They are not as many finite means as positive deviations.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.deviation)
        if (
            not self.mean
            or len(self.mean) != len(self.deviation)
            or not all(map(isfinite, numbers))
            or min(self.deviation) <= 0
        ):
            raise InputError(
                f"normalise has the mean {list(self.mean)} and the deviation {list(self.deviation)}; give a number per "
                "colour channel of each, and deviations above 0"
            )

    @classmethod
    def of(cls, described: Mapping[str, Sequence[float]] | str | Path) -> "Normalisation":
        """What a recipe says: the numbers, or the file that they are in.

        Args:
            described: ``{mean: [...], deviation: [...]}``, or a JSON file with these entries.

        Raises:
            InputError: The file is not there or is no such file, or an entry is missing.
        """
        content: Any = described
        if isinstance(described, str | Path):
            try:
                content = json.loads(Path(described).read_text())
            except (OSError, ValueError) as error:
                raise InputError(
                    f"normalise: {described} cannot be read ({error}); write it by: lightning-taskonomy data colours"
                ) from error
        if not isinstance(content, Mapping) or not {"mean", "deviation"} <= content.keys():
            raise InputError(f"normalise is {described!r}; it needs the entries mean and deviation")
        return cls(tuple(map(float, content["mean"])), tuple(map(float, content["deviation"])))

    def apply(self, image: Tensor) -> Tensor:
        """Normalises images (..., C, H, W) in [0, 1].

        Raises:
            InputError: They have another number of channels.
        """
        mean, deviation = self._columns(image)
        return (image - mean) / deviation

    def undo(self, image: Tensor) -> Tensor:
        """Images (..., C, H, W) in [0, 1] again, as a person looks at them."""
        mean, deviation = self._columns(image)
        return image * deviation + mean

    def _columns(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if image.shape[-3] != len(self.mean):
            raise InputError(f"normalise is of {len(self.mean)} channels, but images have {image.shape[-3]}")
        mean, deviation = (image.new_tensor(values)[:, None, None] for values in (self.mean, self.deviation))
        return mean, deviation


def measure_colours(data: "TaskDataModule", split: str | None = None, limit: int | None = None) -> Normalisation:
    """Mean and standard deviation of each colour channel over all pixels of all images, summed in float64.

    Images are as the data module reads them, in its ``size``, without augmentation. Large images count more than small
    ones, by their pixels.

    Args:
        data: The data module.
        split: Which images; those that it is fitted on where not given.
        limit: At most so many of them, a seeded choice.

    Raises:
        InputError: It has no such split, or one channel is the same in all pixels.
    """
    total = squares = torch.zeros((), dtype=torch.float64)
    pixels = 0
    data = copy.copy(data)
    data.normalise, data.evaluation_size, data.batch_size = None, None, 1  # images may differ in size
    for batch in data.loader(data.dataset(split or data.fit_split, keys=["image"], size=limit)):
        image = batch["image"][0].double()
        total, squares = total + image.sum((-2, -1)), squares + image.square().sum((-2, -1))
        pixels += image.shape[-2] * image.shape[-1]
    mean = total / pixels
    deviation = (squares / pixels - mean.square()).clamp(min=0).sqrt()
    if not (deviation > 1e-6).all():
        raise InputError(f"a colour channel is the same in all pixels of {pixels}; it cannot be given a unit deviation")
    return Normalisation(tuple(mean.tolist()), tuple(deviation.tolist()))


def write_colours(data: "TaskDataModule", file: str | Path, split: str | None = None, limit: int | None = None) -> None:
    """Writes what :func:`measure_colours` finds to a JSON file that ``normalise`` reads.

    Args:
        data: As there.
        file: The file.
        split: As there.
        limit: As there.

    Raises:
        InputError: As there.
    """
    colours = measure_colours(data, split, limit)
    write_json(file, {"mean": list(colours.mean), "deviation": list(colours.deviation)})
