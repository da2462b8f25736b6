"""What a user did wrong, in one line: what came, what is allowed, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["InputError", "hint", "input_error"]


class InputError(ValueError):
    """Bad input. The command line prints its message on one line and exits non-zero, without a traceback."""


def hint(word: str, allowed: Iterable[str]) -> str:
    """The allowed names nearest to a misspelt one, as the end of an error message.

    Args:
        word: What the user wrote.
        allowed: What could have been written.

    Returns:
        ``"; did you mean 'x'?"``, or every allowed name if none is near, or nothing if none is allowed.
    """
    names = sorted(set(allowed))
    near = get_close_matches(word, names, 3, 0.5)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; allowed: {', '.join(names)}" if names else ""


def input_error(error: BaseException) -> InputError | None:
    """The bad input behind an error: parsers wrap what a constructor raises in errors of their own."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        cause = todo.pop()
        if isinstance(cause, InputError):
            return cause
        if cause is not None and cause not in seen:
            seen.append(cause)
            todo += [cause.__context__, cause.__cause__]
    return None
