"""A pickle of numbers, read without running anything that it asks for.

Python's unpickler calls what a file names. This one finds four names, those of NumPy's scalars, and gives a stand-in
for each that checks its arguments; the file's instructions are looked through before.
"""

import io
import os
import pickle
import pickletools
from pathlib import Path

import numpy as np

from lightning_taskonomy.errors import InputError

__all__ = ["load_plain"]

LARGEST = 16 * 2**20
"""Bytes; the repository's files are far smaller."""

REFUSED = {
    "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER",
    "READONLY_BUFFER", "BYTEARRAY8", "EMPTY_SET", "FROZENSET",
}  # fmt: skip
"""Instructions that make objects of classes, by other ways than a name too, or what is not needed."""

ADMITTED = {
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}
"""What a pickle of NumPy scalars calls, in NumPy 1 and 2; protocols before 3 have no bytes and encode texts instead."""

DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}

DAMAGED = (
    pickle.UnpicklingError, ValueError, LookupError, TypeError, AttributeError, OverflowError, EOFError, RecursionError,
)  # fmt: skip
"""All that the unpickler raises of a file that is not a pickle."""


def load_plain(path: str | os.PathLike[str]) -> object:
    """The value in a pickle of dictionaries, lists, texts, numbers and NumPy scalars; nothing in it is executed.

    Args:
        path: A pickle of any protocol, any Python and any NumPy.

    Returns:
        The value; NumPy scalars as Python's numbers.

    Raises:
        InputError: The file cannot be read, is damaged or too large, or asks for anything else, which is named.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InputError(f"{path} has {size} bytes; measurements have at most {LARGEST}")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"pickle {path} cannot be read ({error.strerror})") from error
    try:
        _look_through(content)
        return _Numbers(io.BytesIO(content), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path} {error}") from error
    except DAMAGED as error:
        raise InputError(f"{path} is not a pickle of numbers or is damaged ({error}): fetch it again") from error


def _look_through(content: bytes) -> None:
    """Refuses what would cost more memory or deeper recursion than the file's size lets expect.

    Texts and bytes are as long as they say, the memo has no gaps, and a tuple is the arguments of a call or the state
    of a type: a nest of tuples as a key would be hashed, with a depth or in a time that ends the process.

    Raises:
        InputError: It asks for more than numbers.
        ValueError: It is damaged.
    """
    stored = 0
    after_tuple = False
    texts: list[str] = []
    for instruction, argument, _ in pickletools.genops(content):
        name = instruction.name
        if isinstance(argument, str):
            texts.append(argument.replace(" ", "."))
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            stored += 1
            if argument is not None and argument > stored:  # Python counts from 0, or from 1 in Python 2
                raise ValueError(f"entry {argument} of {stored} in its memo")
        elif name in REFUSED or (after_tuple and name not in ("REDUCE", "BUILD")):
            part = f"the instruction {name}" if name in REFUSED else "a tuple that is not part of a number"
            raise InputError(
                f"has {part}, after {', '.join(texts[-8:])[-120:]!r}; only numbers are read, nothing was executed"
            )
        else:
            after_tuple = name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")


class _Numbers(pickle.Unpickler):
    """Finds nothing but what NumPy scalars are made by."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ADMITTED:
            raise InputError(f"asks for {f'{module}.{name}'[:80]!r}; only NumPy scalars are read, nothing was executed")
        return _Constructor(name)


class _Dtype:
    """The type of a NumPy scalar."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), "<" | ">" | "|" | "=" as order, None, None, None, int(), int(), int()):
                self.order = order
            case _:
                raise InputError("sets the state of a type; only NumPy's numbers are read, nothing was executed")


class _Constructor:
    """In the place of what a pickle calls: what a NumPy scalar, its type or the bytes in it are made of."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        raise InputError("sets the state of an object; only numbers are read, nothing was executed")

    def __call__(self, *arguments: object) -> object:
        match self.name, arguments:
            case "dtype", (str(code), *flags) if code in DTYPES and all(isinstance(flag, int) for flag in flags):
                return _Dtype(code)
            case "scalar", (_Dtype() as dtype, bytes() | str() as data):
                raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 had no bytes
                (number,) = np.frombuffer(raw, np.dtype(dtype.order + dtype.code)).tolist()
                return number
            case "encode", (str(text), "latin1"):
                return text.encode("latin1")
        shown = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        raise InputError(f"calls {self.name} with {shown[:20]!r}; only NumPy's numbers are read, nothing was executed")
