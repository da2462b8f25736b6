"""Rooms as a torch data set: rendered on the spot, or read from a cache that was rendered before."""

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.rooms.codec import decode, encode
from lightning_taskonomy.data.rooms.render import KEYS, View
from lightning_taskonomy.data.rooms.seeds import Stream
from lightning_taskonomy.errors import InputError, hint

__all__ = ["RoomsDataset"]


class RoomsDataset(Dataset[dict[str, Tensor]]):
    """Views of buildings with every label. Item i is view ``i % views`` of building ``buildings[i // views]``.

    An item depends on (building, view) alone, whatever the order, the workers or the other keys asked for.

    Args:
        buildings: The buildings' seeds.
        views: Views per building.
        size: Pixels along each side, 32 to 512.
        keys: What an item holds; None for everything but what ``data.pretext`` makes from the picture.
        samples: Colour samples along each side of a pixel that lies on an edge; 1 is the fastest.

    Raises:
        InputError: A key, the size, the number of views or of samples is not allowed.
    """

    available_keys = KEYS | pretext.KEYS
    """Every key an item can hold, besides ``id``."""

    def __init__(
        self, buildings: Sequence[int], views: int, size: int = 128, keys: Collection[str] | None = None, *,
        samples: int = 2, cache: Path | None = None,
    ) -> None:  # fmt: skip
        self.buildings, self.views, self.size, self.samples = list(buildings), views, size, samples
        self.keys = frozenset(KEYS if keys is None else keys) - {"id"}
        for key in sorted(self.keys):
            if key not in self.available_keys:
                raise InputError(f"rooms has no {key!r}{hint(key, self.available_keys)}")
        if views < 1:
            raise InputError(f"rooms: {views} views per building; must be at least 1")
        self.rendered = KEYS & self.keys | ({"image"} if pretext.KEYS & self.keys else set())

    def __len__(self) -> int:
        """Buildings times views."""
        return len(self.buildings) * self.views

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The item's keys and ``id``, int64: building * 2^20 + view."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        building, view = self.buildings[index // self.views], index % self.views
        rendered = View(building, view, self.size, self.samples).render(self.rendered)
        sample = {key: decode(key, encode(key, value)) for key, value in rendered.items()}
        pretext.derive(sample, self.keys & pretext.KEYS, pretext.mix(Stream.PRETEXT, building, view))
        sample = {key: value for key, value in sample.items() if key in self.keys}
        sample["id"] = torch.tensor(building * 2**20 + view)
        return sample
