"""What a page shows: the measurements of a study's folder or of single files, read and checked once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lightning_taskonomy.affinity.groupings import GroupingsTable
from lightning_taskonomy.affinity.table import COLUMNS, TransfersTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.families import GROUPING_NAMES, families
from lightning_taskonomy.reports.study import read_study
from lightning_taskonomy.tasks import Family

__all__ = ["Served", "read"]


@dataclass(frozen=True)
class Served:
    """Measurements and what is known of their tasks.

    Args:
        title: The file or folder that the transfers came from, or the groupings if there are no transfers.
        groupings_title: The file that the groupings came from, where they stand beside transfers.
        transfers: Transfers; None if there are none to decide on.
        groupings: Candidate networks of several tasks; None if there are none.
        families: Family of every task that has a known one.
        study: The settings of the study that measured them, as its recipe has them; empty if unknown.
    """

    title: str
    transfers: TransfersTable | None = None
    groupings: GroupingsTable | None = None
    families: Mapping[str, str] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)
    groupings_title: str = ""

    @property
    def tasks(self) -> list[str]:
        """Tasks of the transfers, family by family, within a family as in the table."""
        rank = {family.value: place for place, family in enumerate(Family)}
        named = dict.fromkeys((*self.transfers.targets, *self.transfers.sources)) if self.transfers else {}
        return sorted(named, key=lambda task: rank.get(self.families.get(task, ""), len(rank)))


def read(
    path: str | os.PathLike[str],
    groupings: str | os.PathLike[str] | None = None,
    tasks: Sequence[str] | None = None,
) -> Served:
    """Reads a study's folder, a transfers table, or a groupings table.

    Args:
        path: The folder or file.
        groupings: A groupings table to show beside it.
        tasks: The columns of a groupings table without a header.

    Raises:
        InputError: There is no such file, or it is wrong; names what is.
    """
    path = Path(path)
    more = None if groupings is None else GroupingsTable.read(groupings, tasks)
    told: dict[str, str] = {}
    study: dict[str, Any] = {}
    table = None
    if path.is_dir():
        results = read_study(path)
        table, study = results.table, _study(results.config, path)
        told = {name: family for name, family in results.families.items() if family}
    elif _is_transfers(path):
        table = TransfersTable.read(path)
    elif more is None:
        more = GroupingsTable.read(path, tasks)
    else:
        raise InputError(f"{path} is no table of transfers; give the groupings once, as the first argument")
    if tasks is not None and more is None:
        raise InputError("tasks name the columns of a table of groupings, and there is none: give it or leave them out")
    names = {name: name for name in (*table.targets, *table.sources)} if table else {}
    names |= {name: GROUPING_NAMES.get(name, name) for name in more.tasks} if more else {}
    known = families(names.values())
    found = {name: known[meant] for name, meant in names.items() if meant in known} | told
    return Served(path.name, table, more, found, study, "" if groupings is None else Path(groupings).name)


def _is_transfers(path: Path) -> bool:
    """Whether a file's first line names any column that only transfers have."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            cells = {cell.strip() for cell in file.readline().split(",")}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{path} cannot be read ({reason}): give a study's folder or a table") from error
    return len(cells & set(COLUMNS)) > 1


def _study(text: str, folder: Path) -> dict[str, Any]:
    """The study's settings from its configuration."""
    try:
        config = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        raise InputError(f"{folder / 'config.yaml'} is no YAML; mend or remove it") from error
    study = config.get("study") if isinstance(config, dict) else None
    found: dict[str, Any] = (study or {}).get("init_args") or {}
    return found
