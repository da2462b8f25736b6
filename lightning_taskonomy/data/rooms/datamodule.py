"""Rooms for the Trainer: three sets of buildings that never meet."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Samples
from lightning_taskonomy.data.rooms.appearances import DEFAULT
from lightning_taskonomy.data.rooms.appearances import appearance as by_name
from lightning_taskonomy.data.rooms.dataset import RoomsDataset
from lightning_taskonomy.data.rooms.render import KEYS
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import Task, catalog
from lightning_taskonomy.tasks.catalog.rooms import FURTHER

__all__ = ["RoomsDataModule"]

_FIRST: Mapping[str, int] = {"train": 0, "validation": 1_000_000, "test": 2_000_000}
"""The first building of each split; a split has at most a million."""


class RoomsDataModule(TaskDataModule):
    """Procedural rooms, rendered on the spot, with all labels of the dictionary of 26 tasks.

    Other appearances are other domains of images: streets, land from above, the sea floor, ... with classes, boxes and
    points of objects, and depth.

    Args:
        appearance: ``indoor``, ``consumer``, ``driving``, ``aerial``, ``underwater``, ``close_up`` or ``synthetic``.
        size: Pixels along each side, 32 to 512.
        views: Views per building.
        train_buildings: Buildings of the train split.
        validation_buildings: Buildings of the validation split; transfers train there.
        test_buildings: Buildings of the test split.
        samples: Colour samples along each side of a pixel that lies on an edge; 1 is the fastest.
        cache: A folder to keep rendered samples in, filled when first needed; None renders them every time.
        **options: As ``TaskDataModule``.

    Raises:
        InputError: A number is out of range, or there is no such appearance.
    """

    def __init__(
        self, *, appearance: str = DEFAULT, size: int = 128, views: int = 16, train_buildings: int = 64,
        validation_buildings: int = 32, test_buildings: int = 16, samples: int = 2, cache: Path | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(**options)
        self.appearance, self.look = appearance, by_name(appearance)
        self.size, self.views, self.samples, self.cache = size, views, samples, cache
        self.buildings = {"train": train_buildings, "validation": validation_buildings, "test": test_buildings}
        for split, count in self.buildings.items():
            if not 1 <= count <= 1_000_000:
                raise InputError(f"rooms: {count} {split} buildings; allowed: 1 to 1000000")

    @property
    def keys_offered(self) -> Collection[str]:
        """Everything that Rooms renders in this appearance."""
        return KEYS if self.look.keys is None else self.look.keys

    @property
    def own_tasks(self) -> Collection[Task]:
        """The default dictionary of 26, as far as there are labels for it, and the tasks of all appearances."""
        dictionary = [task for name, task in catalog().items() if "." not in name]
        if self.appearance == DEFAULT:
            return [*FURTHER, *dictionary]
        return [task for task in (*dictionary, *FURTHER) if self.look.offers(task)]

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The samples of one split, rendered into the cache where there is one."""
        samples = self.samples_of(split, keys)
        if self.cache is not None:
            samples.prepare(self.num_workers)
        return samples

    def samples_of(self, split: str, keys: Collection[str]) -> RoomsDataset:
        """The samples of one split as they are: nothing is rendered yet."""
        if split not in _FIRST:
            raise InputError(f"rooms has no split {split!r}{hint(split, _FIRST)}")
        buildings = range(_FIRST[split], _FIRST[split] + self.buildings[split])
        return RoomsDataset(
            buildings, self.views, self.size, keys, samples=self.samples, cache=self.cache, appearance=self.appearance
        )
