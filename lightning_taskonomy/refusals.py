"""What other libraries refuse of a recipe, in one line.

Libraries say what they do not accept by a ``raise`` of their own; such an error of those in ``_LIBRARIES`` is the
recipe's. What happens to them otherwise (an index too large deep inside a loop) is a bug of somebody's and stays a
traceback, as does anything else that is not listed here.
"""

import dis
import re
import sys
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from lightning_taskonomy.arguments import explained
from lightning_taskonomy.errors import InputError, hint, input_error

__all__ = ["refusal", "refusing"]

_LIBRARIES = {
    "lightning.fabric.utilities.seed": "seed_everything",
    "lightning": "trainer",
    "torch.optim": "optimizer or scheduler",
    "torchvision.transforms": "transforms",
    "wandb": "logger",
}
"""The libraries whose own ``raise`` is about what a recipe asks, and what the recipe calls them."""

_RAISE = dis.opmap["RAISE_VARARGS"]
_MONITORS = (
    r"`(?P<who>\w+)\(monitor='(?P<key>[^']*)'\)` could not find the monitored key in .*?: \[(?P<logged>.*?)\]",
    r"(?P<who>Early stopping) conditioned on metric `(?P<key>.*?)` which is not available.*?following:(?P<logged>.*)",
    r"(?P<who>ReduceLROnPlateau) conditioned on metric (?P<key>\S+) which is not available.*?: \[(?P<logged>.*?)\]",
)


@contextmanager
def refusing() -> Iterator[None]:
    """Inside it, what another library refuses of a recipe is an :class:`InputError`."""
    try:
        yield
    except Exception as error:  # what is not the recipe's is raised again
        refused = refusal(error)
        if refused is None or refused is error:
            raise
        raise refused from error


def refusal(error: BaseException) -> InputError | None:
    """The bad input behind an error of ours, of a parser or of another library.

    Args:
        error: What was raised.

    Returns:
        One line that a user can act on; None for what may not be the user's.
    """
    refused = input_error(error) if isinstance(error, ValueError | ArgumentError) else None
    if refused is None and isinstance(error, ArgumentError):
        refused = InputError(error.message.removeprefix('Parser key "made": '))
    if refused is not None:
        return refused
    wrapped = error
    while _module(error).startswith("jsonargparse") and error.__cause__ is not None:
        error = error.__cause__  # a parser says so of what a constructor raised
    if _module(error).startswith("jsonargparse") and isinstance(error, ValueError):
        return InputError(explained(str(wrapped), None))
    return _of_size(error) or _of_library(error, constructed=wrapped is not error)


def _of_library(error: BaseException, constructed: bool) -> InputError | None:
    module, text = _module(error), _line(error)
    for pattern in _MONITORS:
        if _within(module, "lightning") and (monitor := re.search(pattern, text)):
            return _unlogged(monitor)
    if module == "torch.nn.modules.module" and text.startswith("Error(s) in loading state_dict"):
        return InputError(_unfit(text))
    if module == "torch.nn.functional" and "Expected more than 1 value per channel" in text:
        return InputError(f"batch normalisation: {text}; give a larger data.batch_size or larger images")
    if isinstance(error, OSError) and _frames(error) and _frames(error)[-1][0].f_code.co_name in ("mkdir", "makedirs"):
        return InputError(f"{error.filename} cannot be made ({error.strerror}); give another place")
    if module == "multiprocessing.reduction":
        return InputError(f"a process cannot be spawned ({text}); use trainer.strategy: ddp")
    if type(error).__name__ == "ProcessRaisedException" and "errors.InputError: " in str(error):
        return InputError(str(error).rsplit("errors.InputError: ", 1)[-1].strip())  # of another process
    if _within(module, "torch.optim") and isinstance(error, ZeroDivisionError):
        return InputError(f"{_who(error, 'scheduler')} divides by zero; give its lengths (T_max, ...) at least 1")
    parts = [part for name, part in _LIBRARIES.items() if _within(module, name)]
    if (parts or (constructed and not _within(module, "lightning_taskonomy"))) and _raised_on_purpose(error):
        who = _who(error, parts[0] if parts else "")
        if _within(module, "wandb"):
            who, text = "logger", f"{text.rstrip('.')}; or log offline: trainer.logger.init_args.offline: true"
        return InputError(text if not who or who in text else f"{who}: {text}")
    return None


def _of_size(error: BaseException) -> InputError | None:
    """An image of a size that a backbone refuses."""
    base: Any = sys.modules.get("lightning_taskonomy.models.backbones.base")
    if base is None:
        return None
    passes = [frame for frame, _ in _frames(error) if frame.f_code is base.Backbone.forward.__code__]
    if not passes:
        return None
    inside = passes[-1].f_locals
    refused: InputError | None = inside["self"].refused(inside["image"], error)
    return refused


def _unlogged(monitor: re.Match[str]) -> InputError:
    logged = re.findall(r"['`](.+?)['`]", monitor["logged"])
    who = "EarlyStopping" if monitor["who"].startswith("Early") else monitor["who"]
    near = hint(monitor["key"], logged)
    names = "" if near.startswith("; allowed") else f" logged: {', '.join(sorted(logged))}"
    return InputError(f"{who} monitors {monitor['key']!r}, which is not logged{near}{names}")


def _unfit(text: str) -> str:
    """What torch says of a state that does not fit, shortened."""
    missing = re.search(r"Missing key\(s\) in state_dict: (.*?\")\.(?: |$)", text)
    left = re.search(r"Unexpected key\(s\) in state_dict: (.*?\")\.(?: |$)", text)
    problems = {
        "missing": re.findall(r'"(.+?)"', missing[1]) if missing else [],
        "not in the model": re.findall(r'"(.+?)"', left[1]) if left else [],
        "of another shape": re.findall(r"size mismatch for (\S+?):", text),
    }
    counts = [
        f"{len(names)} {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
        for what, names in problems.items()
        if names
    ]
    return (
        f"the checkpoint does not fit the model: entries {', '.join(counts)}; go on with its own run's config.yaml, or "
        "start from its weights by --weights, with --weights_of backbone. where the tasks differ"
    )


def _who(error: BaseException, otherwise: str) -> str:
    """The class that raised it, as a recipe names it."""
    frames = _frames(error)
    name = type(frames[-1][0].f_locals.get("self")).__name__ if frames else "NoneType"
    return otherwise if name == "NoneType" or name.startswith("_") else name


def _line(error: BaseException) -> str:
    """An error's text on one line; its type's name where it has none."""
    return " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split()) or type(error).__name__


def _frames(error: BaseException) -> list[tuple[FrameType, TracebackType]]:
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame, trace))
        trace = trace.tb_next
    return frames


def _modules(error: BaseException) -> list[str]:
    return [str(frame.f_globals.get("__name__", "")) for frame, _ in _frames(error)]


def _module(error: BaseException) -> str:
    """The module that an error comes from."""
    return (_modules(error) or [""])[-1]


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _raised_on_purpose(error: BaseException) -> bool:
    """Whether a ``raise`` statement raised it, not an operation that failed."""
    frames = _frames(error)
    if not frames:
        return False
    frame, trace = frames[-1]
    return frame.f_code.co_code[trace.tb_lasti] == _RAISE
