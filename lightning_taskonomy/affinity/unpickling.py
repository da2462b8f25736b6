"""A pickle of plain numbers, read without running anything that it asks for.

Python's unpickler calls what a file names. Here there is no unpickler: ``pickletools`` lists the instructions, which is
parsing alone, and those few that make dictionaries, lists, texts, numbers and NumPy scalars are followed by hand.
"""

import os
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from lightning_taskonomy.errors import InputError

__all__ = ["load_plain"]

LARGEST = 16 * 2**20
"""Bytes; the repository's files are far smaller."""

LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
"""Instructions that put their argument on the stack."""

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}

DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}

SCALARS = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
"""The constructor's name in NumPy 1 and 2."""

ADMITTED = {"numpy.dtype", "_codecs.encode", *SCALARS}
"""What a pickle of NumPy scalars calls; the protocols before 3 have no bytes and encode texts instead."""

MARK = object()
"""Where on the stack a container's items begin."""


class _Name:
    """What a pickle may call: a name and nothing else."""

    def __init__(self, name: str) -> None:
        if name not in ADMITTED:
            raise InputError(f"asks for {name[:80]!r}; only NumPy scalars are read, nothing was executed")
        self.name = name


class _Dtype:
    """The type of a NumPy scalar."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "<"


def load_plain(path: str | os.PathLike[str]) -> object:
    """The value in a pickle of plain containers, texts, numbers and NumPy scalars; nothing in it is executed.

    Args:
        path: A pickle of any protocol and any NumPy; of Python 2, the binary protocols.

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
        return _follow(content)
    except InputError as error:
        raise InputError(f"{path} {error}") from error
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is no pickle or damaged ({error}): fetch it again") from error


def _follow(content: bytes) -> object:
    """The value that a pickle's instructions make."""
    stack: list[object] = []
    memo: dict[int, object] = {}
    argument: Any
    for instruction, argument, _ in pickletools.genops(content):
        match instruction.name:
            case "PROTO" | "FRAME":
                pass
            case name if name in LITERALS:
                stack.append(argument)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "MARK":
                stack.append(MARK)
            case "TUPLE":
                stack.append(tuple(_since_mark(stack)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                stack.append(tuple(_popped(stack, int(name[-1]))))
            case "LIST":
                stack.append(_since_mark(stack))
            case "DICT":
                items = _since_mark(stack)
                stack.append({})
                _fill(stack[-1], items)
            case "APPEND" | "SETITEM" as name:
                items = _popped(stack, 1 if name == "APPEND" else 2)
                _fill(stack[-1], items)
            case "APPENDS" | "SETITEMS":
                items = _since_mark(stack)
                _fill(stack[-1], items)
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_Name(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                module, called = _popped(stack, 2)
                if not isinstance(module, str) or not isinstance(called, str):
                    raise InputError("names what to call by something else than text; nothing was executed")
                stack.append(_Name(f"{module}.{called}"))
            case "REDUCE":
                stack.append(_called(*_popped(stack, 2)))
            case "BUILD":
                dtype, state = stack[-2], stack.pop()
                if (
                    not isinstance(dtype, _Dtype)
                    or not isinstance(state, tuple)
                    or state[1] not in ("<", ">", "|", "=")
                ):
                    raise InputError("sets the state of an object; only numbers are read, nothing was executed")
                dtype.order = state[1]
            case "STOP":
                return stack[-1]
            case name:
                raise InputError(f"has the instruction {name}; only numbers are read, nothing was executed")
    raise ValueError("it does not stop")


def _since_mark(stack: list[object]) -> list[object]:
    """Takes the items above the last mark, and the mark, off the stack."""
    above = next((height for height, item in enumerate(reversed(stack)) if item is MARK), len(stack))
    return _popped(stack, above + 1)[1:]


def _popped(stack: list[object], count: int) -> list[object]:
    if len(stack) < count:
        raise ValueError("its stack is empty")
    items = stack[-count:]
    del stack[-count:]
    return items


def _fill(container: object, items: list[object]) -> None:
    """Adds items to a list, or keys and values to a dictionary."""
    if isinstance(container, list):
        container += items
    elif isinstance(container, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | float):
                raise InputError("has a key that is neither text nor number; only names of transfers are read")
            container[key] = value
    else:
        raise InputError("adds items to what is neither list nor dictionary")


def _called(called: object, arguments: object) -> object:
    """What a NumPy scalar, its type or the bytes in it are made of."""
    name = called.name if isinstance(called, _Name) else type(called).__name__
    match arguments:
        case (str(code), *_) if name == "numpy.dtype" and code in DTYPES:
            return _Dtype(code)
        case (_Dtype() as dtype, bytes() | str() as data) if name in SCALARS:
            raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 had no bytes
            (number,) = np.frombuffer(raw, np.dtype(dtype.order + dtype.code)).tolist()
            return number
        case (str(text), "latin1") if name == "_codecs.encode":
            return text.encode("latin1")
    shown = arguments[0] if isinstance(arguments, tuple) and arguments and isinstance(arguments[0], str) else ""
    raise InputError(f"calls {name} with {shown[:20]!r}; only NumPy's numbers are read, nothing was executed")
