"""Image files, folders of them and videos, to predict on: no labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, IterableDataset

from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.batch import Sample, collate
from lightning_taskonomy.data.normalisation import Normalisation
from lightning_taskonomy.data.pipeline import normalised
from lightning_taskonomy.data.stored import IMAGE_SUFFIXES, FileProblem, has_suffix, read_image, visible
from lightning_taskonomy.errors import InputError

__all__ = ["VIDEOS", "Frame", "ImageFiles"]

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
"""Files that are read as videos."""

_KNOWN = (*IMAGE_SUFFIXES, *VIDEOS)


@dataclass(frozen=True)
class Frame:
    """Where a picture came from.

    Args:
        file: The image or video.
        number: The frame of a video, from 0; None for an image.
        rate: Frames per second of a video.
    """

    file: Path
    number: int | None = None
    rate: float = 0.0


class ImageFiles(LightningDataModule):
    """Pictures for ``predict``, in order, one per batch.

    Args:
        paths: Image files, videos, and folders of them (not their subfolders).
        size: The shorter side, in pixels, before rounding both to multiples of ``multiple``.
        multiple: Both sides become multiples of it.
        seed: Of noise, masks and permutations, for tasks that read altered pictures.
        normalise: As the data have it that the network was trained on, where they do; see ``TaskDataModule``.

    Raises:
        InputError: A path does not exist, a folder holds no picture, or a file is of an unknown kind.
    """

    def __init__(
        self,
        paths: list[Path],
        size: int = 256,
        multiple: int = 32,
        seed: int = 0,
        normalise: dict[str, list[float]] | str | None = None,
    ) -> None:
        super().__init__()
        self.files = [file for path in paths for file in _files(Path(path))]
        if not self.files:
            raise InputError("no path given; name image files, videos or folders of them")
        self.size, self.multiple, self.seed = size, multiple, seed
        self.normalisation = None if normalise is None else Normalisation.of(normalise)
        self.frames: dict[int, Frame] = {}

    def predict_dataloader(self) -> DataLoader[Sample]:
        """The pictures, one by one; ``frames`` says where each ``id`` came from."""
        wanted: list[str] = ["image"] if self.trainer is None else list(self.trainer.lightning_module.batch_keys)  # type: ignore[arg-type]  # any module of this library
        return DataLoader(_Stream(self, frozenset(wanted)), batch_size=1, collate_fn=collate)

    def resized(self, image: Tensor) -> Tensor:
        """A picture (3, H, W) at the size asked for."""
        height, width = image.shape[-2:]
        scale = self.size / min(height, width)
        sides = [max(self.multiple, round(side * scale / self.multiple) * self.multiple) for side in (height, width)]
        return interpolate(image[None], sides, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)


class _Stream(IterableDataset[Sample]):
    def __init__(self, module: ImageFiles, keys: frozenset[str]) -> None:
        self.module, self.keys = module, keys

    def __iter__(self) -> Iterator[Sample]:
        number = 0
        for file in self.module.files:
            for frame, image in _pictures(file):
                self.module.frames[number] = frame
                sample = {"id": torch.tensor(number), "image": self.module.resized(image)}
                pretext.derive(sample, self.keys & pretext.KEYS, pretext.mix(self.module.seed, number))
                if self.module.normalisation is not None:
                    sample = normalised(sample, self.module.normalisation)
                yield sample
                number += 1


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = [file for file in visible(path) if has_suffix(file, _KNOWN)]
        if not files:
            raise InputError(f"{path} holds no image or video ({', '.join(_KNOWN)})")
        return files
    if not path.is_file():
        raise InputError(f"{path} does not exist; name an image, a video or a folder of them")
    if not has_suffix(path, _KNOWN):
        raise InputError(f"{path} is neither image nor video; allowed: {', '.join(_KNOWN)}")
    return [path]


def _pictures(file: Path) -> Iterator[tuple[Frame, Tensor]]:
    if has_suffix(file, VIDEOS):
        yield from _video(file)
        return
    try:
        picture = read_image(file)
    except FileProblem as problem:
        raise InputError(f"{file} cannot be read ({problem.reason}); leave it out or mend it") from problem
    yield Frame(file), picture


def _video(file: Path) -> Iterator[tuple[Frame, Tensor]]:
    import av

    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 25)
            for number, frame in enumerate(container.decode(stream)):
                pixels = frame.to_ndarray(format="rgb24")
                yield Frame(file, number, rate), torch.tensor(pixels).permute(2, 0, 1).float() / 255
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{file} cannot be read ({error}); leave it out or mend it") from error
