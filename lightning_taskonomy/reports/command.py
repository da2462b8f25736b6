"""``lightning-taskonomy report``: the report of a study's folder, or of a table."""

from collections.abc import Sequence
from pathlib import Path

from lightning_taskonomy.errors import InputError

__all__ = ["report"]


def report(
    measurements: str | Path,
    out: Path | None = None,
    tasks: Sequence[str] | None = None,
    variant: Path | None = None,
) -> Path:
    """Writes the report of a study, from the files in its folder alone, or of a table.

    Args:
        measurements: The folder of a study, whose ``study.json`` says which report it has; or a table of transfers or
            of groupings.
        out: Where the page goes; by default ``report`` in the folder, or beside the table.
        tasks: The columns of a table of groupings without a header.
        variant: The folder of another study that is compared with this one.

    Returns:
        The path of ``index.html``.

    Raises:
        InputError: It is neither, or a file that the report cannot do without is missing or damaged.
    """
    path = Path(measurements)
    if path.is_dir() and tasks is None:
        from lightning_taskonomy.reports.base import open_report

        opened = open_report(path)
        return (opened if variant is None else opened.beside(variant)).write(out)
    if variant is not None:
        raise InputError(f"variant {variant} stands beside a study's folder, but {path} is a table; leave it out")
    from lightning_taskonomy.reports.tables import read_tables

    tables = read_tables(path, tasks=tasks)
    folder = out or path.with_name(f"{path.stem}-report")
    if tables.transfers is not None:
        from lightning_taskonomy.reports.taxonomy import write_solved_taxonomy

        return write_solved_taxonomy(folder, tables.transfers)
    from lightning_taskonomy.reports.grouping import write_groupings

    assert tables.groupings is not None  # a file holds one or the other
    return write_groupings(folder, tables.groupings)
