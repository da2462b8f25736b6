"""Which views a Taskonomy download holds, and where their files are."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.reading import stable_id
from lightning_taskonomy.data.stored import UnexpectedFiles, read_text
from lightning_taskonomy.errors import InputError

__all__ = ["METADATA", "Files", "Index", "buildings_of", "find_domain"]

METADATA = ("point_info", "fixatedpose")
"""How the names of metadata files end: the first in the authors' sample building, the second in their own code; loaders
of Omnidata's download read either."""

_NAME = re.compile(r"point_(\d+)_view_(\d+)_domain_rgb\.png")
_COLUMNS = {"train": "train", "validation": "val", "test": "test"}


def find_domain(root: Path, domain: str) -> Path:
    """The folder of a domain's buildings: ``root/domain``, or ``root/domain/taskonomy`` as Omnidata's tool makes it."""
    nested = root / domain / "taskonomy"
    return nested if nested.is_dir() else root / domain


def buildings_of(split_file: Path, split: str) -> list[str]:
    """The buildings of a split by an official split file, with columns id, train, val, test.

    Raises:
        InputError: No such file, or not in that format.
    """
    if not split_file.is_file():
        raise InputError(
            f"{split_file} is missing; unpack the official splits_taskonomy.zip there, or name the file with split_file"
        )
    rows = list(csv.DictReader(read_text(split_file).splitlines()))
    column = _COLUMNS[split]
    if not rows or not {"id", *_COLUMNS.values()} <= rows[0].keys():
        raise InputError(f"{split_file} is not a split file; its first line must be: id,train,val,test")
    return sorted(row["id"] for row in rows if row[column] == "1")


class Index:
    """The views of some buildings: which exist, in a stable order.

    Args:
        root: The folder of the domains.
        buildings: Which buildings; those without a folder are in ``absent``.
    """

    def __init__(self, root: Path, buildings: Sequence[str]) -> None:
        self.root = root
        self.buildings = list(buildings)
        rgb = find_domain(root, "rgb")
        self.absent = [name for name in self.buildings if not (rgb / name).is_dir()]
        views: list[tuple[int, int, int]] = []
        for number, name in enumerate(self.buildings):
            if name not in self.absent:
                matches = filter(None, map(_NAME.fullmatch, (file.name for file in (rgb / name).iterdir())))
                views += sorted((number, int(match[1]), int(match[2])) for match in matches)
        self.views: NDArray[np.int32] = np.array(views, dtype=np.int32).reshape(-1, 3)
        self._folders: dict[str, Path] = {}

    def file(self, row: int, domain: str, suffix: str = ".png", names: Sequence[str] = ()) -> Path:
        """The file of a view in a domain: of several names the first that is there, or else the first."""
        building, point, view = self._place(row)
        folder, stem = self._folder(domain) / self.buildings[building], f"point_{point}_view_{view}_domain_"
        files = [folder / f"{stem}{name}{suffix}" for name in names or (domain,)]
        return files[0] if len(files) == 1 else next((file for file in files if file.exists()), files[0])

    def metadata(self, row: int) -> Path:
        """The metadata of a view: ``point_info`` of Omnidata's download, or ``points`` of the first release."""
        return self.file(row, self.metadata_folder, ".json", METADATA)

    @property
    def metadata_folder(self) -> str:
        """The folder of the views' metadata."""
        return "point_info" if self._folder("point_info").is_dir() else "points"

    def check_names(self, domain: str, suffix: str = ".png", names: Sequence[str] = ()) -> None:
        """Looks for one file of the expected name in the folder of a domain, at once where all is well.

        Raises:
            UnexpectedFiles: There are files, but none has it.
        """
        names = names or (domain,)
        ends = "|".join(re.escape(f"{name}{suffix}") for name in names)
        expected = re.compile(rf"point_\d+_view_\d+_domain_({ends})")
        other = ""
        for building in self.buildings:
            folder = self._folder(domain) / building
            if not folder.is_dir():
                continue
            for file in folder.iterdir():
                if expected.fullmatch(file.name):
                    return
                if not other and not file.name.startswith("."):
                    other = f"{building}/{file.name}"
        if other:
            form = " or ".join(f"point_P_view_V_domain_{name}{suffix}" for name in names)
            raise UnexpectedFiles(
                f"{self._folder(domain)}: no file is named BUILDING/{form}; there is {other}; rename the files"
            )

    def matches(self, row: int) -> Path | None:
        """The list of views that see this view's point without looking at it, if there is one."""
        building, point, _ = self._place(row)
        folder = self._folder("nonfixated_matches") / self.buildings[building]
        return next(iter(sorted(folder.glob(f"point_{point}_view_*.json"))), None)

    def row(self, building: int, point: int, view: int) -> int | None:
        """The row of a view; None if its image does not exist."""
        first, last = np.searchsorted(self.views[:, 0], [building, building + 1])
        rows = np.flatnonzero((self.views[first:last, 1:] == (point, view)).all(1))
        return int(first + rows[0]) if len(rows) else None

    def siblings(self, row: int) -> list[int]:
        """The other views of the same point, beginning after this one and going round."""
        building, point, _ = self._place(row)
        first, last = np.searchsorted(self.views[:, 0], [building, building + 1])
        rows = first + np.flatnonzero(self.views[first:last, 1] == point)
        return [int(r) for r in [*rows[rows > row], *rows[rows < row]]]

    def others(self, row: int) -> list[int]:
        """The first and the last view of other points in the same building."""
        building, point, _ = self._place(row)
        first, last = np.searchsorted(self.views[:, 0], [building, building + 1])
        rows = first + np.flatnonzero(self.views[first:last, 1] != point)
        return [int(r) for r in rows]

    def ids(self) -> list[int]:
        """A stable id for each view."""
        return [
            stable_id("taskonomy", self.buildings[building], point, view)
            for building, point, view in self.views.tolist()
        ]

    def _place(self, row: int) -> tuple[int, int, int]:
        building, point, view = self.views[row]
        return int(building), int(point), int(view)

    def _folder(self, domain: str) -> Path:
        if domain not in self._folders:
            self._folders[domain] = find_domain(self.root, domain)
        return self._folders[domain]


class Files(Sequence[Path]):
    """The files of all views in one domain, named when asked for: millions of paths are not kept.

    Args:
        index: The views.
        domain: The domain's folder; ``metadata`` for the views' metadata.
        suffix: That of its files.
        names: How their names end; none for the folder's name.
    """

    def __init__(self, index: Index, domain: str, suffix: str = ".png", names: Sequence[str] = ()) -> None:
        self.source, self.domain, self.suffix, self.names = index, domain, suffix, names

    def __len__(self) -> int:
        """How many views."""
        return len(self.source.views)

    @overload
    def __getitem__(self, row: int) -> Path: ...
    @overload
    def __getitem__(self, row: slice) -> list[Path]: ...
    def __getitem__(self, row: int | slice) -> Path | list[Path]:
        """The file of one view."""
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(row)
        if self.domain == "metadata":
            return self.source.metadata(row)
        return self.source.file(row, self.domain, self.suffix, self.names)
