"""What a user did wrong, in one line: what came, what is allowed, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["InputError", "hint"]


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
