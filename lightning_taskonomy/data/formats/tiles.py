"""Pictures that are too large to be learned from whole, cut into tiles; each is decoded once.

A tile is named by a path below its picture, ``P0003.png/800x800+347+223``: width, height, left and top.
"""

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy.data.batch import Samples
from lightning_taskonomy.data.formats.codes import Code, picture_size, read_colours
from lightning_taskonomy.data.formats.pixels import PixelDataModule
from lightning_taskonomy.data.stored import FileProblem, colours_as_image
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import atomic
from lightning_taskonomy.tasks import IGNORE_INDEX, Task

__all__ = ["Decoded", "TileDataModule", "starts", "tile_of"]


def starts(length: int, side: int, overlap: int) -> list[int]:
    """Where tiles begin along one axis: every ``side - overlap`` pixels, the last one moved in to end with the picture.

    As the devkit of iSAID cuts, and with it the paper: 1,500 pixels have tiles of 800 at 0, 600 and 700.

    Args:
        length: Pixels of the picture.
        side: Pixels of a tile; a shorter picture has one tile.
        overlap: Pixels that neighbours share at least.
    """
    last = max(length - side, 0)
    return [*range(0, last, side - overlap), last]


def tile_of(file: Path, side: int, left: int, top: int) -> Path:
    """The name of a tile of a picture."""
    return file / f"{side}x{side}+{left}+{top}"


class Decoded:
    """Pixels of whole pictures, each decoded once: kept on disk, or in memory until another of its kind is asked for.

    Args:
        folder: Where decoded pictures are kept, one ``.npy`` file each, and read from there without decoding; None
            keeps the last one alone, which is enough to read tiles in order, not to draw them at random.
        load: File to pixels.
    """

    def __init__(self, folder: Path | None, load: Callable[[Path], NDArray[Any]]) -> None:
        self.folder, self.load = folder, load
        self._last: tuple[Path, NDArray[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Other processes open files anew."""
        return {**self.__dict__, "_last": None}

    def __call__(self, file: Path) -> NDArray[Any]:
        """The pixels of a file.

        Raises:
            FileProblem: It is missing or damaged.
        """
        if self._last is None or self._last[0] != file:
            self._last = file, self.load(file) if self.folder is None else self._kept(file, self.folder)
        return self._last[1]

    def _kept(self, file: Path, folder: Path) -> NDArray[Any]:
        try:
            status = file.stat()
        except OSError as error:
            raise FileProblem(file, "missing") from error
        what = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
        kept = folder / f"{file.stem}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.npy"
        if not kept.exists():
            with atomic(kept) as temporary, temporary.open("wb") as stream:
                np.save(stream, self.load(file), allow_pickle=False)
        try:
            return np.asarray(np.load(kept, mmap_mode="r"))
        except (ValueError, EOFError, OSError) as error:
            raise FileProblem(file, f"{kept} is damaged ({error}); remove it and it is decoded again") from error


class Tile:
    """Reads one tile of a picture or of its labels.

    Args:
        decoded: Whole pictures.
        finish: A tile's pixels and its file to an entry of a sample, (..., H, W).
        filling: What stands beyond the right and lower edge of a picture that is smaller than a tile.
    """

    def __init__(self, decoded: Decoded, finish: Callable[[NDArray[Any], Path], Tensor], filling: float) -> None:
        self.decoded, self.finish, self.filling = decoded, finish, filling

    def __call__(self, tile: Path) -> Tensor:
        """The entry, as large as the tile.

        Raises:
            FileProblem: The picture is missing or damaged.
        """
        size, left, top = tile.name.split("+")
        side, x, y = int(size.partition("x")[0]), int(left), int(top)
        pixels = np.ascontiguousarray(self.decoded(tile.parent)[y : y + side, x : x + side])
        entry = self.finish(pixels, tile.parent)
        height, width = entry.shape[-2:]
        if height == width == side:
            return entry
        return torch.nn.functional.pad(entry, (0, side - width, 0, side - height), value=self.filling)


class TileDataModule(PixelDataModule):
    """Tiles of large pictures, all of one size, and a class for each pixel.

    Tiles lie in rows; the last of a row or column is moved inwards to end with the picture. A picture smaller than a
    tile is filled up on the right and below, with black and with missing labels.

    Args:
        root: The data set's folder; what it must hold stands in the class's description.
        size: Height and width to resize tiles to; None keeps theirs.
        background: Whether class 0, where a task calls it "background", counts as a class; if not, it is missing.
        side: Pixels along each side of a tile.
        overlap: Pixels that neighbouring tiles share at least.
        cache: A folder for decoded pictures, 3 bytes per pixel each and 4 for labels: there every file is decoded
            once and for all. None decodes a file again whenever a tile of another one came between.
        **options: Those of ``TaskDataModule``.

    Raises:
        InputError: No tile can be so, or an image and its label differ in size.
    """

    def __init__(
        self,
        root: str,
        size: tuple[int, int] | None = None,
        background: bool = True,
        side: int = 800,
        overlap: int = 200,
        cache: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, size, background, **options)
        if not 0 <= overlap < side:
            raise InputError(f"{self.title}: tiles of {side} pixels cannot overlap by {overlap}; give 0 to {side - 1}")
        self.side, self.overlap = side, overlap
        self.cache = None if cache is None else Path(cache)

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The tiles of a split with their labels.

        Raises:
            InputError: No such split, no image, no label file at all, or one of another size than its image.
        """
        images, labels = self.files(split, keys)
        tiles: list[Path] = []
        labelled: dict[str, list[Path]] = {key: [] for key in labels}
        for index, image in enumerate(images):
            try:
                size = picture_size(image, upright=True)
            except FileProblem:
                size = (self.side, self.side)  # one tile, which says what is wrong when it is read
            else:
                for files in labels.values():
                    self._check(files[index], image, size)
            for top in starts(size[0], self.side, self.overlap):
                for left in starts(size[1], self.side, self.overlap):
                    tiles.append(tile_of(image, self.side, left, top))
                    for key, files in labels.items():
                        labelled[key].append(tile_of(files[index], self.side, left, top))
        return self.samples(tiles, labelled, self.entries(labels), Tile(Decoded(self.cache, _upright), self.picture, 0))

    def picture(self, pixels: NDArray[np.uint8], file: Path) -> Tensor:
        """The colours of a tile (H, W, 3) as an image (3, H, W) in [0, 1]."""
        return colours_as_image(pixels)

    def reader(self, task: Task, code: Code) -> Tile:
        """Of a label file one tile is read."""
        return Tile(Decoded(self.cache, code.load), code.decode, IGNORE_INDEX)

    def _check(self, label: Path, image: Path, size: tuple[int, int]) -> None:
        try:
            other = picture_size(label)
        except FileProblem:
            return  # said when it is read
        if other != size:
            raise InputError(
                f"{label} is {other[1]}x{other[0]} pixels but its image {image} is {size[1]}x{size[0]}; make them the "
                "same size"
            )


def _upright(file: Path) -> NDArray[np.uint8]:
    return read_colours(file, upright=True)
