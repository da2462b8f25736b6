"""Files of annotations in JSON, XML and MATLAB's format, read without trust in what they hold."""

import json
import sys
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeGuard
from xml.etree import ElementTree

from lightning_taskonomy.data.stored import FileProblem, near, read_text
from lightning_taskonomy.errors import InputError

__all__ = ["Member", "read_json", "read_mat", "read_xml", "required"]

_BROKEN = (OSError, EOFError, KeyError, IndexError, ValueError, TypeError, ArithmeticError, NotImplementedError,
           UnboundLocalError, zlib.error)  # fmt: skip
"""What SciPy raises of a MATLAB file that is damaged, beside its own error; the unbound variable is one of its own."""


class Member:
    """An object of a JSON file whose members are asked for by name and type.

    Args:
        file: The file, for messages.
        where: Which object of it, such as ``annotation 5``.
        content: What was read there.

    Raises:
        FileProblem: It is no object.
    """

    def __init__(self, file: Path, where: str, content: Any) -> None:
        if not isinstance(content, dict):
            raise FileProblem(file, f"{where} is {_short(content)} where an object with named members belongs")
        self.file, self.where, self.content = file, where, content

    def _refuse(self, name: str, wanted: str) -> FileProblem:
        if name not in self.content:
            return FileProblem(self.file, f"{self.where} has no {name!r}")
        return FileProblem(self.file, f"{self.where}: {name} is {_short(self.content[name])}, not {wanted}")

    def text(self, name: str) -> str:
        """A member that is a text."""
        value = self.content.get(name)
        if not isinstance(value, str):
            raise self._refuse(name, "a text")
        return value

    def whole(self, name: str) -> int:
        """A member that is a whole number, of 64 bits."""
        value = self.content.get(name)
        if not (_is_number(value) and isinstance(value, int) and -(2**63) <= value < 2**63):
            raise self._refuse(name, "a whole number")
        return value

    def number(self, name: str) -> float:
        """A member that is a finite number."""
        value = self.content.get(name)
        if not _is_number(value):
            raise self._refuse(name, "a number")
        return float(value)

    def flag(self, name: str) -> bool:
        """A member that is true or false, or 1 or 0; false where there is none."""
        value = self.content.get(name)
        if value not in (None, False, True):
            raise self._refuse(name, "true or false, or 1 or 0")
        return bool(value)

    def member(self, name: str) -> "Member":
        """A member that is itself an object with named members; one without any where there is none, or null."""
        value = self.content.get(name)
        return Member(self.file, f"{name} of {self.where}", {} if value is None else value)

    def list_of(self, name: str) -> list[Any]:
        """A member that is a list."""
        value = self.content.get(name)
        if not isinstance(value, list):
            raise self._refuse(name, "a list")
        return value

    def numbers(self, name: str, count: int) -> list[float]:
        """A member that is a list of so many numbers."""
        value = self.content.get(name)
        if not isinstance(value, list) or len(value) != count or not all(map(_is_number, value)):
            raise self._refuse(name, f"{count} numbers")
        return [float(one) for one in value]


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a finite number; Python's reader also takes NaN, Infinity and 1e999."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        FileProblem: It is missing or no JSON.
    """
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise FileProblem(file, f"damaged (no JSON: {error})") from error


def read_mat(file: Path, name: str, *, simplify: bool = True) -> Any:
    """What a MATLAB file before version 7.3 holds by a name.

    Args:
        file: Which file.
        name: The variable.
        simplify: Whether structures become dictionaries and arrays of one member the member, as SciPy does.

    Raises:
        FileProblem: It is missing or damaged, or holds nothing of that name.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(file, variable_names=[name], simplify_cells=simplify)[name]
    except FileNotFoundError as error:
        raise FileProblem(file, "missing") from error
    except (*_BROKEN, MatReadError) as error:
        raise FileProblem(file, f"damaged ({error!r})") from error


def read_xml(file: Path) -> ElementTree.Element:
    """The root of an XML file.

    A file that declares a document type is refused, so that there is no entity that could grow or name another file.

    Raises:
        FileProblem: It is missing, no XML, or declares a document type.
    """
    text = read_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise FileProblem(file, "declares a document type or entities, which annotations have no need of; remove them")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise FileProblem(file, f"damaged (no XML: {error})") from error


def required(root: Path, names: Collection[str], layout: str) -> Path:
    """The first of some files that is there.

    Args:
        root: The data set's folder.
        names: Where the file may lie in it.
        layout: What must be there, in words that follow "root must hold".

    Raises:
        InputError: There is none of them.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    raise InputError(f"{root} has no {' or '.join(names)}{near(next(iter(names)), root)}; root must hold {layout}")
