"""The tables that decisions are made from, of a study's folder or of single files: read and checked in one place."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_taskonomy.affinity.groupings import GroupingsTable
from lightning_taskonomy.affinity.table import COLUMNS, TransfersTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports.candidates import CandidateTraining
from lightning_taskonomy.reports.families import GROUPING_NAMES, families, family_rank
from lightning_taskonomy.reports.reading import read_json

__all__ = ["Tables", "read_tables"]


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Measurements to decide on, and what is known of their tasks.

    Args:
        title: The file or folder that the transfers came from, or the groupings if there are no transfers.
        groupings_title: The file that the groupings came from, where they stand beside transfers.
        transfers: Transfers; None if there are none to decide on.
        groupings: Candidate networks of several tasks; None if there are none.
        groupings_test: Their losses on test images, where a study has them.
        training: How they were trained, as far as known.
        families: Family of every task that has a known one.
        settings: The settings of the study that measured them, as its recipe has them; empty if unknown.
    """

    title: str
    transfers: TransfersTable | None = None
    groupings: GroupingsTable | None = None
    groupings_test: GroupingsTable | None = None
    training: CandidateTraining = field(default_factory=CandidateTraining)
    families: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    groupings_title: str = ""

    @property
    def tasks(self) -> list[str]:
        """Tasks of the transfers, family by family, within a family as in the table."""
        names = dict.fromkeys((*self.transfers.targets, *self.transfers.sources)) if self.transfers else {}
        return sorted(names, key=lambda task: family_rank(self.families.get(task, "")))


def read_tables(
    path: str | os.PathLike[str],
    groupings: str | os.PathLike[str] | None = None,
    tasks: Sequence[str] | None = None,
) -> Tables:
    """Reads a study's folder, a transfers table, or a groupings table; which one is seen from what is in it.

    Args:
        path: The folder or file.
        groupings: A groupings table to show beside it.
        tasks: The columns of a groupings table without a header.

    Raises:
        InputError: There is no such file, it is wrong, or a study's folder has neither table; names what is.
    """
    path = Path(path)
    transfers_file, groupings_file = None, None if groupings is None else Path(groupings)
    described: dict[str, str] = {}
    settings: Mapping[str, Any] = {}
    training, test = CandidateTraining(), None
    if path.is_dir():
        manifest = Manifest.read(path)
        if "transfers" in manifest.tables or "groupings" not in manifest.tables:
            transfers_file = manifest.table("transfers", path)
        if "groupings" in manifest.tables and groupings_file is None:
            groupings_file, training = manifest.table("groupings", path), CandidateTraining.read(path)
            if (tested := path / manifest.tables.get("groupings_test", "")).is_file():
                test = GroupingsTable.read(tested)
        entries = read_json(path / "tasks.json", dict, {})
        described = {name: str(entry["family"]) for name, entry in entries.items() if entry.get("family")}
        settings = manifest.settings
    elif _is_transfers(path):
        transfers_file = path
    elif groupings_file is None:
        groupings_file = path
    else:
        raise InputError(f"{path} is not a table of transfers; give the groupings once, as the first argument")
    if tasks is not None and groupings_file is None:
        raise InputError("tasks name the columns of a table of groupings, and there is none: give it or leave them out")
    transfers = None if transfers_file is None else TransfersTable.read(transfers_file)
    networks = None if groupings_file is None else GroupingsTable.read(groupings_file, tasks)
    names = {name: name for name in (*transfers.targets, *transfers.sources)} if transfers else {}
    names |= {name: GROUPING_NAMES.get(name, name) for name in networks.tasks} if networks else {}
    family = families(names.values())
    return Tables(
        title=path.name,
        transfers=transfers,
        groupings=networks,
        groupings_test=test,
        training=training,
        families={name: family[meant] for name, meant in names.items() if meant in family} | described,
        settings=settings,
        groupings_title="" if transfers_file is None or groupings_file is None else groupings_file.name,
    )


def _is_transfers(path: Path) -> bool:
    """Whether a file's first line names any column that only transfers have."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            cells = {cell.strip() for cell in file.readline().split(",")}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{path} cannot be read ({reason}): give a study's folder or a table") from error
    return len(cells & set(COLUMNS)) > 1
