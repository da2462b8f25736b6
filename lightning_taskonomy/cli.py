"""One program: Trainer commands by LightningCLI, the others by typed functions, each imported when it runs."""

import errno
import inspect
import json
import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

from lightning_taskonomy.arguments import explained, read_recipe, show_log, stop
from lightning_taskonomy.commands import commands
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import UnwritableError
from lightning_taskonomy.refusals import refusal

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from lightning_taskonomy.results import Results

__all__ = ["main"]

TRAINER_COMMANDS = {
    "fit": "Train a recipe's tasks.",
    "validate": "Measure a trained run on validation images.",
    "test": "Measure a trained run on test images and save a score per image.",
    "predict": "Write pictures of each task's output for images, folders and videos.",
}


def main(args: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        args: The words after the program's name; if None, those of the process.

    Returns:
        The exit status: 0, or 1 after one line on bad input. Unknown options exit with 2.
    """
    words = sys.argv[1:] if args is None else list(args)
    if args is None:
        show_log()
    tools = commands()
    summaries = {**TRAINER_COMMANDS, **{name: _summary(command) for name, command in tools.items()}}
    if not words or words[0] in ("-h", "--help"):
        _overview(summaries)
        return 0 if words else 2
    name = words[0]
    try:
        _check_recipes(words)
        if name in TRAINER_COMMANDS:
            from lightning_taskonomy.training import TaskCLI

            TaskCLI(None if args is None else words)
        elif " ".join(words[:2]) in tools:
            _run_tool(" ".join(words[:2]), tools[" ".join(words[:2])], words[2:])
        elif name in tools:
            _run_tool(name, tools[name], words[1:])
        elif name == "--version":
            from lightning_taskonomy import __version__

            print(__version__)
        else:
            called, longer = " ".join(words[:2]), [command for command in summaries if command.startswith(f"{name} ")]
            raise InputError(f"no command {called!r}{hint(called, longer) or hint(name, summaries)}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if text := _writing_failed(error):
            print(f"error: {text}", file=sys.stderr)
            return 1
        refused = refusal(error)
        if refused is None:
            raise
        text = str(refused).rsplit("InputError: ", 1)[-1]  # torch puts a loader worker's traceback before it
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        return 1
    return 0


def _writing_failed(error: Exception) -> str | None:
    """What to say of a disk that is full or a place that cannot be written."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename}); free some and run the same command again"
    if isinstance(error, UnwritableError):
        return f"{error.filename} cannot be written ({error.strerror}); give another place"
    return None


def _recipes(words: list[str]) -> list[str]:
    """The files that ``--config`` names."""
    files = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("-c", "--config")]
    return files + [word.split("=", 1)[1] for word in words if word.startswith("--config=")]


def _check_recipes(words: list[str]) -> None:
    for file in _recipes(words):
        if Path(file).is_file():
            read_recipe(file)


def _overview(summaries: dict[str, str]) -> None:
    width = max(map(len, summaries))
    print("usage: lightning-taskonomy COMMAND [options]      (COMMAND --help lists its options)\n")
    for name, text in summaries.items():
        print(f"  {name:<{width}}  {text}")


def _summary(command: Callable[..., Any]) -> str:
    return (command.__doc__ or "").splitlines()[0]


def _run_tool(name: str, command: Callable[..., Any], words: list[str]) -> None:
    """Parses a typed function's arguments from words, recipes and environment variables, calls it, logs its results.

    A function that has a parameter ``settings`` gets the whole configuration in it, as plain data.
    """
    if words and not words[0].startswith("-"):  # `report FOLDER` means `report --folder FOLDER`
        words = [f"--{next(iter(inspect.signature(command).parameters))}", *words]
    words = _switches([_underscored(word) for word in words], command)
    parser = _tool_parser(name, command, logs=_wants_logger(words))
    parsed = parser.parse_args(words)
    settings: dict[str, Any] = json.loads(parser.dump(parsed, skip_unset=False, format="json"))
    study = parsed.pop("study", None)
    built = parser.instantiate(parsed)
    if study is not None:  # it takes descriptions of what its runs build
        built["study"] = pkgutil.resolve_name(study.class_path)(**settings["study"]["init_args"])
    loggers = built.pop("logger", None)
    arguments = {key: value for key, value in built.items() if key != "config"}
    if "settings" in inspect.signature(command).parameters:
        arguments["settings"] = settings
    results: Results | None = command(**arguments)
    if results is not None and loggers:
        from lightning_taskonomy.results import log_results

        log_results(results, loggers if isinstance(loggers, list) else [loggers], settings)
    if results is not None and results.failure:
        raise InputError(results.failure)


def _tool_parser(name: str, command: Callable[..., Any], logs: bool) -> "ArgumentParser":
    from jsonargparse import ArgumentParser

    class Parser(ArgumentParser):
        """Says what is wrong on one line, with a hint."""

        def error(self, message: str, ex: Exception | None = None) -> Never:
            stop(self, message, ex)
            super().error(explained(message, self), ex)

    parser = Parser(
        prog=f"lightning-taskonomy {name}", description=_summary(command), default_env=True, env_prefix="LT",
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("-c", "--config", action="config", help="A recipe; give it again to add to it.")
    parser.add_function_arguments(command, as_group=False, skip={"settings"})
    logger_type: Any = type(None)
    if logs:
        from lightning.pytorch.loggers import Logger

        logger_type = Logger | list[Logger] | None
    help_text = "Where results are logged, as in a fit's trainer.logger."
    parser.add_argument("--logger", type=logger_type, default=None, help=help_text)
    return parser


def _wants_logger(words: list[str]) -> bool:
    """Whether a logger is named anywhere; only then is Lightning imported."""
    named = any(word.split("=")[0].split(".")[0] == "--logger" for word in words) or "LT_LOGGER" in os.environ
    for file in _recipes(words):
        if Path(file).is_file():
            content = read_recipe(file)
            named = named or (isinstance(content, dict) and bool(content.get("logger")))
    return named


def _switches(words: list[str], command: Callable[..., Any]) -> list[str]:
    """A bare ``--json`` means ``--json=true``."""
    parameters = inspect.signature(command).parameters.values()
    flags = {f"--{parameter.name}" for parameter in parameters if parameter.default is False}
    following = [*words, "--"][1:]
    return [
        f"{word}=true" if word in flags and after not in ("true", "false") else word
        for word, after in zip(words, following, strict=True)
    ]


def _underscored(word: str) -> str:
    """``--max-order=2`` means ``--max_order=2``."""
    option, equals, value = word.partition("=")
    return option.replace("-", "_").replace("__", "--", 1) + equals + value if option.startswith("--") else word
