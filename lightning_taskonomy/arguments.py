"""What a person at the terminal is told: wrong options on one line with the nearest that exist, and our own log."""

import difflib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_taskonomy.errors import InputError, hint

__all__ = ["explained", "read_recipe", "show_log", "stop"]

_UNKNOWN = (r"--([\w.]+)", r"does not accept option ['\"]([\w.]+)['\"]", r"^Option ['\"]([\w.]+)['\"] is not accepted")
_NOISE = (
    r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - ",  # then follow the reasons, by type
    r"Problem with given class_path '[\w.]+': ",
    r"Type [\w.]*Callable\S.*? expects a function or a callable class: ",
    r" - Expected a <class 'NoneType'>.*",
    r"\.? Got value: Namespace\(.*",
    r" Given value type: .*",
    r" Subclass types expect one of: .*",
)

_PLAIN = {"list": "a list", "dict": "a mapping", "float": "a number", "int": "a whole number", "str": "text"}


def show_log() -> None:
    """Shows what the library logs (a cache's size before it is written, damaged files) on standard error."""
    log = logging.getLogger("lightning_taskonomy")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


def explained(message: str, parser: Any) -> str:
    """A parser's message on one line, with "did you mean" for unknown options, keys and classes.

    Args:
        message: The parser's message.
        parser: The jsonargparse parser whose options are the allowed ones; None names none.
    """
    text = " ".join(message.split())
    given, wanted = re.search(r" Given value: (.*)", text), re.search(r"Subtypes: \[<class '[\w.]*?(\w+)'>", text)
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    if absent := re.search(r"Expected a dot import path string: (\w+)", text):
        known = getattr(sys.modules["lightning_taskonomy"], "__all__", ())
        if absent[1] in known:
            return f"{text[: absent.start()]}{absent[1]} does not fit{f'; give a {wanted[1]}' if wanted else ''}"
        near = hint(absent[1], known) if difflib.get_close_matches(absent[1], known, 1, 0.5) else ""
        return f"{text[: absent.start()]}no class {absent[1]!r}{near or '; give its dotted path'}"
    if typed := re.fullmatch(r"(.*?): (Expected a <class '\w+'>(?: - Expected a <class '\w+'>)*)", text):
        types = [_PLAIN.get(name, name) for name in re.findall(r"'(\w+)'", typed[2])]
        return f"{typed[1]} must be {' or '.join(types)}{f', not {given[1]}' if given else ''}"
    names = {option.lstrip("-") for option in _options(parser) if not option.endswith(("+", ".help"))}
    hints = [near for pattern in _UNKNOWN for name in re.findall(pattern, text) for near in _nearest(name, names)]
    hints = [name for name in dict.fromkeys(hints) if f"'{name}'" not in text]
    return f"{text}; did you mean {' or '.join(hints)}?" if hints else text


def read_recipe(path: str | Path) -> Any:
    """What a recipe or the ``config.yaml`` of a run holds.

    Raises:
        InputError: It is no text in UTF-8 or no YAML.
    """
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8 ({error.reason}); give a recipe in YAML") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML ({error}); mend it") from error


def stop(parser: Any, message: str, error: BaseException | None) -> None:
    """Ends the process with status 2 after one line, if the parser is one that exits.

    Args:
        parser: The parser.
        message: Its message.
        error: What was raised; it may name the parser of a subcommand.
    """
    if parser.exit_on_error:
        parser.exit(2, f"error: {explained(message, getattr(error, 'subcommand_parser', None) or parser)}\n")


def _nearest(name: str, names: set[str]) -> list[str]:
    """By the whole dotted name, else by its last word."""
    last = {known.rsplit(".", 1)[-1] for known in names}
    whole = difflib.get_close_matches(name, names, 2, 0.6)
    return whole or difflib.get_close_matches(name.rsplit(".", 1)[-1], last, 2, 0.6)


def _options(parser: Any) -> Iterator[str]:
    for action in getattr(parser, "_actions", ()):
        yield from action.option_strings
        for sub in (getattr(action, "_name_parser_map", None) or {}).values():
            yield from _options(sub)
