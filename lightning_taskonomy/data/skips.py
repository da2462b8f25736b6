"""Lists of images to leave out: one id or path per line, as ``data check`` writes them and data modules read them."""

from collections.abc import Iterable
from pathlib import Path

from lightning_taskonomy.data.batch import Samples
from lightning_taskonomy.data.stored import listed_path, read_text
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_text

__all__ = ["image_name", "kept", "write_skips"]

_HEAD = """\
# Images to leave out, one id or path (from the data set's folder) per line; lines that begin with # do not count.
# A data module honours the list as its option skip.
"""


def image_name(samples: Samples, index: int, root: Path | None) -> str | None:
    """What a list calls a sample: its image's path from the data set's folder, or its id; None where it has neither.

    Args:
        samples: The samples.
        index: Which.
        root: The data set's folder.
    """
    images, ids = getattr(samples, "images", None), getattr(samples, "ids", None)
    if images is not None:
        path = Path(images[index])
        return path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else path.as_posix()
    return None if ids is None else str(int(ids[index]))


def kept(samples: Samples, file: Path, root: Path | None) -> list[int]:
    """The samples that a list does not name, in order.

    Args:
        samples: The samples of a split.
        file: The list. What is not of these samples, such as images of another split, does not count.
        root: The data set's folder, from which paths are.

    Raises:
        InputError: The list cannot be read, or the samples have neither files nor ids.
    """
    lines = {listed_path(line.strip()) for line in read_text(file).splitlines()}
    lines = {line for line in lines if line and not line.startswith("#")}
    images, ids = getattr(samples, "images", None), getattr(samples, "ids", None)
    if images is None and ids is None:
        raise InputError(f"skip: {file} names images, but these samples have neither files nor ids; leave out skip")
    remaining = []
    for index in range(len(samples)):
        names = {image_name(samples, index, root)}
        if images is not None:
            names.add(Path(images[index]).as_posix())
        if ids is not None:
            names.add(str(int(ids[index])))
        if names.isdisjoint(lines):
            remaining.append(index)
    return remaining


def write_skips(file: Path, names: Iterable[str]) -> None:
    """Writes a list.

    Args:
        file: Where.
        names: Of the images, as ``image_name`` gives them.
    """
    write_text(file, _HEAD + "".join(f"{name}\n" for name in dict.fromkeys(names)))
