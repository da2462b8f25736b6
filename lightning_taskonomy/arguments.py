"""What a parser says when an option is wrong: one line, with the nearest options that exist."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["explained"]

_UNKNOWN = (
    r"--([\w.]+)",
    r"[Kk]ey ['\"]([\w.]+)['\"] is not expected",
    r"Group ['\"]([\w.]+)['\"] does not accept",
    r"nested key ['\"]([\w.]+)['\"]",
)


def explained(message: str, parser: Any) -> str:
    """A parser's message on one line, with "did you mean" for unknown options and keys.

    Args:
        message: The parser's message.
        parser: The jsonargparse parser whose options are the allowed ones.
    """
    text = " ".join(message.split())
    if not re.search(r"nrecognized arguments|not expected|does not accept", text):
        return text
    names = {option.lstrip("-") for option in _options(parser)}
    last = {name.rsplit(".", 1)[-1] for name in names}
    hints: list[str] = []
    for pattern in _UNKNOWN:
        for name in re.findall(pattern, text):
            hints += difflib.get_close_matches(name, names, 2, 0.6)
            hints += difflib.get_close_matches(name.rsplit(".", 1)[-1], last, 2, 0.6)
    hints = [name for name in dict.fromkeys(hints) if f"'{name}'" not in text]
    return f"{text} Did you mean {' or '.join(hints)}?" if hints else text


def _options(parser: Any) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        for sub in (getattr(action, "_name_parser_map", None) or {}).values():
            yield from _options(sub)
