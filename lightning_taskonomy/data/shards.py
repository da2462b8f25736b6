"""A cache of samples on disk: one column per key, cut into shards, memory-mapped.

A cache belongs to one configuration and one format of files: their hash names the folder, and the folder's own record
must say the same; what an earlier release wrote in another format stays as it is, beside it. Shards
are ``.npy`` files, written whole or not at all, so that a fill that was cut off goes on where it stopped; their
checksums are kept in the column's manifest and verified when a process first opens a shard. A column whose entries
differ in their number of rows (sets of objects) is kept as one array with the offsets of its entries.
"""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.stored import UnexpectedFiles
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import atomic, write_json
from lightning_taskonomy.tasks import CONVENTION

__all__ = ["ShardCache"]

Array = NDArray[np.generic]
Layout = Mapping[str, Array]
"""An example of each column's entries: their shape and type."""

_PER_SHARD = 256
_FORMAT = "npy"


class ShardCache:
    """Columns of samples under ``root/<hash of the configuration>``.

    Args:
        root: The folder that holds caches.
        configuration: What decides the samples' content, as JSON types.
        count: How many samples there are.

    Raises:
        InputError: The folder belongs to another configuration, holds labels of an older convention, or cannot be read
            as a cache.
    """

    def __init__(self, root: Path, configuration: Mapping[str, Any], count: int) -> None:
        self.configuration = json.loads(json.dumps({**configuration, "count": count, "format": _FORMAT}))
        self.count = count
        digest = hashlib.sha256(json.dumps(self.configuration, sort_keys=True).encode()).hexdigest()
        self.folder = Path(root) / digest[:16]
        self._open: dict[tuple[str, int], tuple[Array, Array | None]] = {}
        self._sums: dict[str, list[dict[str, list[int]]]] = {}
        record = self.folder / "cache.json"
        if not record.exists():
            return
        content = _read(record)
        version = content.pop("convention", 1)
        if content != self.configuration:
            raise InputError(f"cache {self.folder} belongs to another configuration; remove it or name another folder")
        if version != CONVENTION:
            raise UnexpectedFiles(
                f"cache {self.folder} holds labels by convention {version}, this release reads {CONVENTION}; "
                "remove that folder and it is rendered again"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Maps are opened anew in another process."""
        return {**self.__dict__, "_open": {}, "_sums": {}}

    @property
    def shards(self) -> int:
        """Shards per column."""
        return -(-self.count // _PER_SHARD)

    def missing(self, keys: Collection[str]) -> list[str]:
        """Those of the columns that are not there in full, sorted."""
        return [key for key in sorted(keys) if len(self._manifest(key)) < self.shards]

    def expected_bytes(self, layout: Layout) -> int:
        """How much columns like these take on disk when all samples are in; of sets, if all are as large."""
        return sum(value.nbytes for value in layout.values()) * self.count + 128 * self.shards * len(layout)

    def fill(
        self, layout: Layout, samples: Callable[[range], Iterable[Mapping[str, Array]]], ragged: Collection[str] = ()
    ) -> None:
        """Writes what is missing of some columns.

        Args:
            layout: An example of each column's entry.
            samples: Gives the entries of a range of samples, in order.
            ragged: The columns whose entries differ in their number of rows.

        Raises:
            InputError: The disk has not enough room.
        """
        keys = self.missing(layout)
        first = min((len(self._manifest(key)) for key in keys), default=self.shards)
        left = self.expected_bytes({key: layout[key] for key in keys}) * (self.shards - first) // max(self.shards, 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if left > free:
            need = f"needs {left / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
            raise InputError(f"cache {self.folder} {need}; free some or name another disk")
        write_json(self.folder / "cache.json", {**self.configuration, "convention": CONVENTION})
        for shard in range(first, self.shards):
            part = range(shard * _PER_SHARD, min((shard + 1) * _PER_SHARD, self.count))
            columns: dict[str, list[Array]] = {key: [] for key in keys}
            for sample in samples(part):
                for key in keys:
                    columns[key].append(np.asarray(sample[key]))
            for key in keys:
                if len(self._manifest(key)) == shard:
                    if key in ragged:
                        offsets = np.cumsum([0, *map(len, columns[key])])
                        self._append(key, shard, np.concatenate(columns[key]), offsets)
                    else:
                        self._append(key, shard, np.stack(columns[key]))

    def read(self, key: str, index: int) -> Array:
        """One entry of a column, a view of the mapped file.

        Raises:
            InputError: The shard is missing or damaged.
        """
        shard, offset = divmod(index, _PER_SHARD)
        arrays = self._open.get((key, shard))
        if arrays is None:
            arrays = self._open[key, shard] = self._map(key, shard)
        values, offsets = arrays
        return np.asarray(values[offset] if offsets is None else values[offsets[offset] : offsets[offset + 1]])

    def read_many(self, key: str, indices: Sequence[int]) -> Array:
        """Entries of a column, stacked; they are of one shape."""
        return np.stack([self.read(key, index) for index in indices])

    def remove(self) -> int:
        """Deletes this configuration's cache; returns the bytes freed."""
        if not self.folder.exists():
            return 0
        size = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        shutil.rmtree(self.folder)
        self._open.clear()
        self._sums.clear()
        return size

    def _manifest(self, key: str) -> list[dict[str, list[int]]]:
        """Of the column's shards that are there, in order: bytes and checksum by name of file."""
        if key not in self._sums:
            path = self.folder / key / "manifest.json"
            self._sums[key] = _read(path) if path.exists() else []
        return self._sums[key]

    def _append(self, key: str, shard: int, values: Array, offsets: Array | None = None) -> None:
        sums: dict[str, list[int]] = {}
        for kind, array in (("values", values), ("offsets", offsets)):
            if array is None:
                continue
            path = self.folder / key / f"{shard:05d}.{kind}.npy"
            with atomic(path) as temporary:
                np.save(temporary, array, allow_pickle=False)
            sums[path.name] = _sum(path)
        self._sums[key] = [*self._manifest(key)[:shard], sums]
        write_json(self.folder / key / "manifest.json", self._sums[key])

    def _map(self, key: str, shard: int) -> tuple[Array, Array | None]:
        """A shard's values and, of a set, where each entry begins and the last ends."""
        sums = self._manifest(key)
        advice = f"remove {self.folder / key} and it is rendered again"
        if shard >= len(sums):
            raise InputError(f"cache: {self.folder / key} has no shard {shard}; {advice}")
        arrays: list[Array] = []
        for name, written in sums[shard].items():
            path = self.folder / key / name
            if not path.exists():
                raise InputError(f"cache: {path} is missing; {advice}")
            if (read := _sum(path)) != written:
                raise InputError(f"cache: {path} is damaged ({read[0]} bytes, {written[0]} written); {advice}")
            arrays.append(np.asarray(np.load(path, mmap_mode="r")))
        values, *offsets = arrays
        return values, offsets[0] if offsets else None


def _sum(path: Path) -> list[int]:
    """A file's size and checksum."""
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    return [len(content), zlib.crc32(content.data)]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(f"cache: {path} is damaged; remove {path.parent} and it is rendered again") from None
