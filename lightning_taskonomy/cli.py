"""One program: Trainer commands by LightningCLI, the others by typed functions. Each imports what it needs when it runs."""

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_taskonomy.errors import InputError, hint

if TYPE_CHECKING:
    from lightning_taskonomy.studies import Study

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
        args: The words after the program's name; those of the process where not given.

    Returns:
        The exit status: 0, or 1 after one line on bad input. Unknown options exit with 2.
    """
    args = sys.argv[1:] if args is None else list(args)
    commands = {**TRAINER_COMMANDS, **{name: _summary(command) for name, command in TOOLS.items()}}
    if not args or args[0] in ("-h", "--help"):
        _overview(commands)
        return 0 if args else 2
    name, *rest = args
    try:
        if name in TRAINER_COMMANDS:
            from lightning_taskonomy.training import TaskCLI

            TaskCLI([name, *rest])
        elif name in TOOLS:
            TOOLS[name](rest)
        elif name == "--version":
            from lightning_taskonomy import __version__

            print(__version__)
        else:
            raise InputError(f"no command {name!r}{hint(name, commands)}")
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: the disk is full ({error.filename}); free some space and run the same command again", file=sys.stderr)
        return 1
    return 0


def _overview(commands: dict[str, str]) -> None:
    width = max(map(len, commands))
    print("usage: lightning-taskonomy COMMAND [options]      (COMMAND --help tells its options)\n")
    for name, text in commands.items():
        print(f"  {name:<{width}}  {text}")


def _summary(command: Callable[..., Any]) -> str:
    return (command.__doc__ or "").splitlines()[0]


def _parsed(function: Callable[..., Any], name: str, args: list[str], **options: Any) -> Any:
    """Parses a typed function's arguments from words, recipes and environment variables, and calls it."""
    from jsonargparse import ActionConfigFile, ArgumentParser

    class Parser(ArgumentParser):
        """One line, with a hint."""

        def error(self, message: str, ex: Exception | None = None) -> None:
            super().error(" ".join(message.split()), ex)

    parser = Parser(
        prog=f"lightning-taskonomy {name}", description=_summary(function), default_env=True, env_prefix="LT",
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="A recipe; give it again to add to it.")
    parser.add_function_arguments(function, as_group=False, **options)
    given = parser.parse_args(args)
    built = parser.instantiate_classes(given)
    return function(**{key: value for key, value in built.items() if key != "config"}), given, parser


def study(args: list[str]) -> None:
    """Measure which tasks help which, solve for budgets, write a report; resumes."""
    from lightning_taskonomy.studies import Study

    def run(
        study: Study,
        out: Path = Path("runs/study"),
        dry_run: bool = False,
        stages: list[str] | None = None,
        logger: dict[str, Any] | bool | None = None,
    ) -> "tuple[Study, Path, bool, list[str] | None]":
        """Measure which tasks help which, solve for budgets, write a report; resumes.

        Args:
            study: Which study, with its settings.
            out: The study's folder.
            dry_run: Say what would run, how long and on how much disk, without training.
            stages: Only these stages.
            logger: Where results are logged, as in a fit's ``trainer.logger``.
        """
        return study, out, dry_run, stages

    (made, out, dry, stages), given, parser = _parsed(run, "study", args)
    if dry:
        print(made.dry_run(out))
        return
    from lightning_taskonomy.files import write_text

    write_text(out / "config.yaml", parser.dump(given, skip_none=False))
    results = made.run(out, stages=stages)
    if results.report is not None:
        print(f"report: {results.report}")


TOOLS: dict[str, Callable[[list[str]], None]] = {"study": study}
