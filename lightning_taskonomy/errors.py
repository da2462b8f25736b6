"""What a user did wrong, in one line: what came, what is allowed, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["InputError", "hint", "input_error"]


class InputError(ValueError):
    """Bad input. The command line prints its message on one line and exits non-zero, without a traceback."""


def hint(given: str, allowed: Iterable[str]) -> str:
    """The allowed names nearest to a misspelt one, as the end of an error message.

    Args:
        given: What the user wrote.
        allowed: What could have been written.

    Returns:
        ``"; did you mean 'x'?"``, or every allowed name if none is near, or nothing if none is allowed.
    """
    names = sorted(set(allowed))
    near = get_close_matches(given, names, 3, 0.5)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; allowed: {', '.join(names)}" if names else ""


def input_error(error: BaseException) -> InputError | None:
    """The bad input behind an error: parsers wrap what a constructor raises in errors of their own."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        found = todo.pop()
        if isinstance(found, InputError):
            return found
        if found is not None and found not in seen:
            seen.append(found)
            todo += [found.__context__, found.__cause__]
    return None
