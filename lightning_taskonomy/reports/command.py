"""``lightning-taskonomy report FOLDER``: the report of whatever a folder holds."""

from pathlib import Path

from lightning_taskonomy.errors import InputError

__all__ = ["report"]


def report(folder: Path) -> Path:
    """Writes the report of a finished study, from the files in its folder alone.

    Args:
        folder: The folder of the study.

    Returns:
        The path of the report's ``index.html``.

    Raises:
        InputError: The folder holds no study; names what is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the folder of a study (for a table: 'solve taxonomy --report')")
    if (folder / "affinity.csv").is_file():
        from lightning_taskonomy.reports.taxonomy import write_taxonomy_report

        return write_taxonomy_report(folder)
    if (folder / "results.csv").is_file():
        from lightning_taskonomy.reports.meta_transfer import write_meta_transfer_report

        return write_meta_transfer_report(folder)
    raise InputError(f"{folder} is no finished study: affinity.csv is missing; run 'lightning-taskonomy study' first")
