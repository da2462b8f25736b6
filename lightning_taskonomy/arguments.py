"""What a person at the terminal reads: wrong options on one line with the nearest that exist, and our own log."""

import difflib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_taskonomy.errors import InputError, hint

__all__ = ["explained", "read_recipe", "show_log", "stop"]

# jsonargparse says what it refuses in text alone: a TypeError or ValueError without attributes (but for the parser of a
# subcommand, which `stop` reads), and of the reasons of a union only the first is chained. Hence these patterns.
_UNKNOWN = (r"--([\w.]+)", r"does not accept option ['\"]([\w.]+)['\"]", r"^Option ['\"]([\w.]+)['\"] is not accepted")
_NOISE = (
    r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - ",  # then follow the reasons, by type
    r"- Expected a path but .*? either not accessible or invalid - ",
    r"Problem with given class_path '[\w.]+': ",
    r"Type [\w.]*Callable\S.*? expects a function or a callable class: ",
    r" - Expected a <class 'NoneType'>",
    r"\.? Got value: (?:Namespace\(.*|.*?(?= - Expected| Given value|$))",
    r" Given value type: .*",
    r" Subclass types expect one of: .*",
)
_TYPE = r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[(.*?)\])"

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
    values = re.findall(r"(?:Given value|Got value): ((?!Namespace).+?)(?= - Expected| Given value|$)", text)
    wanted = re.search(r"Subtypes: \[<class '[\w.]*?(\w+)'>", text)
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    if absent := re.search(rf"(?:{_TYPE} - )?Expected a dot import path string: (\w+)", text):
        key, name = text[: absent.start()], absent[3]
        public = getattr(sys.modules["lightning_taskonomy"], "__all__", ())
        if name in public:
            return f"{key}{name} does not fit{f'; give a {wanted[1]}' if wanted else ''}"
        near = hint(name, public) if difflib.get_close_matches(name, public, 1, 0.5) else ""
        return f"{key}no class {name!r}{near or '; give its dotted path'}"
    if typed := re.fullmatch(rf"(.*?): ({_TYPE}(?: - {_TYPE})*)", text):
        types = [_PLAIN.get(name, name) or f"one of {choices}" for name, choices in re.findall(_TYPE, typed[2])]
        return f"{typed[1]} must be {' or '.join(types)}{f', not {values[-1]}' if values else ''}"
    options = {option.lstrip("-") for option in _options(parser) if not option.endswith(("+", ".help"))}
    hints = [near for pattern in _UNKNOWN for name in re.findall(pattern, text) for near in _nearest(name, options)]
    hints = [name for name in dict.fromkeys(hints) if f"'{name}'" not in text]
    return f"{text}; did you mean {' or '.join(hints)}?" if hints else text


def read_recipe(path: str | Path) -> Any:
    """What a recipe or the ``config.yaml`` of a run holds.

    Raises:
        InputError: It is not text in UTF-8, or not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8 ({error.reason}); give a recipe in YAML") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML ({error}); correct it") from error


def stop(parser: Any, message: str, error: BaseException | None) -> None:
    """Ends the process with status 2 after one line, if the parser is one that exits.

    Args:
        parser: The parser.
        message: Its message.
        error: What was raised; it may name the parser of a subcommand.
    """
    if parser.exit_on_error:
        parser.exit(2, f"error: {explained(message, getattr(error, 'subcommand_parser', None) or parser)}\n")


def _nearest(name: str, options: set[str]) -> list[str]:
    """By the whole dotted name, else by its last word."""
    last = {option.rsplit(".", 1)[-1] for option in options}
    whole = difflib.get_close_matches(name, options, 2, 0.6)
    return whole or difflib.get_close_matches(name.rsplit(".", 1)[-1], last, 2, 0.6)


def _options(parser: Any) -> Iterator[str]:
    for action in getattr(parser, "_actions", ()):
        yield from action.option_strings
        for sub in (getattr(action, "_name_parser_map", None) or {}).values():
            yield from _options(sub)
