"""Rooms as a torch data set: rendered on the spot, or read from a cache that was rendered before."""

import logging
from collections.abc import Collection, Iterator, Sequence
from math import atan
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.geometry import Intrinsics
from lightning_taskonomy.data.rooms.appearances import DEFAULT
from lightning_taskonomy.data.rooms.appearances import appearance as by_name
from lightning_taskonomy.data.rooms.codec import decode, encode
from lightning_taskonomy.data.rooms.render import KEYS, SETS, VERSION, View, unknown_key
from lightning_taskonomy.data.rooms.seeds import Stream
from lightning_taskonomy.data.shards import ShardCache
from lightning_taskonomy.errors import InputError

__all__ = ["RoomsDataset"]

log = logging.getLogger(__name__)

Encoded = dict[str, NDArray[np.generic]]


class RoomsDataset(Dataset[dict[str, Tensor]]):
    """Views of buildings with every label. Item i is view ``i % views`` of building ``buildings[i // views]``.

    An item depends on (building, view) alone, whatever the order, the workers or the other keys asked for, and whether
    it was rendered or read from a cache.

    Args:
        buildings: The buildings' seeds.
        views: Views per building.
        size: Pixels along each side, 32 to 512.
        keys: What an item holds; None for everything but what ``data.pretext`` makes from the picture.
        samples: Colour samples along each side of a pixel that lies on an edge, and rays per light; 1 is the fastest.
        cache: A folder to keep rendered samples in, by key; read where ``prepare`` has filled it. None renders always.
        appearance: The domain of images: a name of ``appearances.names()``.

    Raises:
        InputError: A key, the appearance, the size, the number of views or of samples is not allowed.
    """

    available_keys = KEYS | pretext.KEYS
    """Every key an item of indoor rooms can hold, besides ``id``; other appearances have some of them."""

    def __init__(
        self, buildings: Sequence[int], views: int, size: int = 128, keys: Collection[str] | None = None, *,
        samples: int = 2, cache: Path | None = None, appearance: str = DEFAULT,
    ) -> None:  # fmt: skip
        offered = by_name(appearance).keys or KEYS
        self.appearance = appearance
        self.buildings, self.views, self.size, self.samples = list(buildings), views, size, samples
        self.keys = frozenset(offered if keys is None else keys) - {"id"}
        for key in sorted(self.keys - offered - pretext.KEYS):
            raise unknown_key(key, offered | pretext.KEYS, appearance)
        if views < 1:
            raise InputError(f"rooms: {views} views per building; must be at least 1")
        self.stored = KEYS & self.keys | ({"image"} if pretext.KEYS & self.keys else set())
        self.cache: ShardCache | None = None
        self._cached: frozenset[str] = frozenset()
        if cache is not None:
            configuration = {
                "data": "rooms", "version": VERSION, "buildings": self.buildings, "views": views, "size": size,
                "samples": samples,
            }  # fmt: skip
            if appearance != DEFAULT:  # so that a cache of indoor rooms stays the one it was
                configuration["appearance"] = [appearance, by_name(appearance).version]
            self.cache = ShardCache(cache, configuration, len(self))
            self._cached = self.stored - set(self.cache.missing(self.stored))

    def __len__(self) -> int:
        """Buildings times views."""
        return len(self.buildings) * self.views

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The item's keys and ``id``, int64: building * 2^20 + view."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        building, view = self._place(index)
        sample = {key: decode(key, value, self._reach) for key, value in self._encoded(index).items()}
        pretext.derive(sample, self.keys & pretext.KEYS, pretext.mix(Stream.PRETEXT, building, view))
        sample = {key: value for key, value in sample.items() if key in self.keys}
        sample["id"] = torch.tensor(building * 2**20 + view)
        return sample

    def prepare(self, workers: int = 0) -> int:
        """Fills the cache with what is not there yet; says first how much it will take.

        Args:
            workers: Processes that render; 0 renders in this one.

        Returns:
            The bytes the dataset's keys take in the cache.

        Raises:
            InputError: The disk has not enough room, or there is no cache.
        """
        if self.cache is None:
            raise InputError("rooms: no cache folder given; pass cache=FOLDER")
        example = self._rendered(0, self.stored)
        missing = self.cache.missing(self.stored)
        if missing:
            layout = {key: example[key] for key in missing}
            size = self.cache.expected_bytes(layout)
            log.info("rooms: rendering %d samples, %.0f MB, to %s", len(self), size / 1e6, self.cache.folder)
            self.cache.fill(layout, lambda part: self._render_all(part, missing, workers), SETS)
        self._cached = frozenset(self.stored)
        return self.cache.expected_bytes(example)

    def camera(self, index: int, size: tuple[int, int]) -> Intrinsics:
        """The camera of an item, for a picture of that height and width."""
        return Intrinsics.of_view(size, 2 * atan(0.5 / self._view(index).camera(0).focal))

    @property
    def _reach(self) -> float:
        return by_name(self.appearance).reach

    def _view(self, index: int) -> View:
        return View(*self._place(index), self.size, self.samples, self.appearance)

    def _place(self, index: int) -> tuple[int, int]:
        return self.buildings[index // self.views], index % self.views

    def _rendered(self, index: int, keys: Collection[str]) -> Encoded:
        rendered = self._view(index).render(keys)
        return {key: encode(key, value, self._reach) for key, value in rendered.items()}

    def _encoded(self, index: int) -> Encoded:
        fresh = self.stored - self._cached
        encoded = self._rendered(index, fresh) if fresh else {}
        if self.cache is not None:
            encoded |= {key: self.cache.read(key, index) for key in self._cached}
        return encoded

    def _render_all(self, part: range, keys: Collection[str], workers: int) -> Iterator[Encoded]:
        jobs = _Jobs(self, part, keys)
        if not workers:
            return (jobs[k] for k in range(len(part)))
        loader = DataLoader(jobs, batch_size=None, num_workers=workers, collate_fn=_same)
        return cast(Iterator[Encoded], iter(loader))


class _Jobs(Dataset[Encoded]):
    """The samples of a range, rendered, for a loader's workers."""

    def __init__(self, samples: RoomsDataset, part: range, keys: Collection[str]) -> None:
        self.samples, self.part, self.keys = samples, part, keys

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> Encoded:
        return self.samples._rendered(self.part[index], self.keys)


def _same(sample: Any) -> Any:
    return sample
