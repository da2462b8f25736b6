"""A :class:`GroupedModule` in formats that run without this library: torch.export and ONNX."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import atomic
from lightning_taskonomy.modules.grouped import GroupedModule
from lightning_taskonomy.tasks import VIEWS, TaskKind

__all__ = ["Answers", "export_networks"]


class Answers(nn.Module):
    """A grouping as exporters want it: inputs by position, answers by position, no names and no mappings.

    Args:
        model: The networks; of each only what it serves is kept.
        decode: Give what a person wants (the class of each pixel, unit normals) instead of raw output.

    Raises:
        InputError: A set of objects is to be decoded, which has no tensor of a fixed shape.
    """

    def __init__(self, model: GroupedModule, decode: bool = False) -> None:
        super().__init__()
        self.model, self.decode = model.deployed(), decode
        sets = [name for name, task in self.model.tasks.items() if task.kind is TaskKind.SET]
        if decode and sets:
            raise InputError(
                f"the objects of {sets[0]!r} cannot be exported as tensors; export raw output, not decoded"
            )
        self.inputs = list(dict.fromkeys(task.input for task in self.model.tasks.values()))
        self.outputs = list(self.model.tasks)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One answer per entry of ``outputs``.

        Args:
            inputs: One tensor per entry of ``inputs``: (B, 3, H, W), or (B, V, 3, H, W) for several views.
        """
        answers = self.model(dict(zip(self.inputs, inputs, strict=True)))
        return tuple(self.model.decode(name, answers[name]) if self.decode else answers[name] for name in self.outputs)

    def samples(self, count: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Inputs of noise in [0, 1].

        Args:
            count: B.
            size: H and W.
        """
        views = [(VIEWS[key],) if key in VIEWS else () for key in self.inputs]
        return tuple(torch.rand(count, *several, 3, *size) for several in views)


def export_networks(
    model: GroupedModule,
    file: Path,
    form: Literal["onnx", "torch"],
    size: tuple[int, int],
    *,
    decode: bool = False,
    batch: int | None = None,
) -> float | None:
    """Writes what the networks of a grouping answer as one file.

    Inputs have the names of their batch keys (``image``: RGB in [0, 1], normalised inside), outputs those of the tasks.

    Args:
        model: The networks.
        file: The file.
        form: ``onnx``; or ``torch``, a program of ``torch.export``.
        size: Height and width of the images.
        decode: As of :class:`Answers`.
        batch: Images at a time; any number where not given.

    Returns:
        The largest difference between its outputs and the module's, on noise, as a share of the largest value of an
        output where that is above 1; None where nothing here runs ONNX.

    Raises:
        InputError: A package is missing; or a network cannot be exported: it is named, and each of the others is in a
            file of its own then, ``<file>_network_<i>``.
    """
    if form == "onnx" and (absent := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]):
        raise InputError(f'ONNX needs {absent[0]}: pip install "lightning-taskonomy[export]"')
    model = model.deployed()
    try:
        return _export(Answers(model, decode), file, form, size, batch)
    except _ExportError as error:
        if len(model.networks) == 1:
            raise InputError(f"{_name(model, 0)} cannot be exported as {form} ({error}){_ADVICE}") from error
        whole = error
    written, failed = [], []
    for index, (network, names) in enumerate(zip(model.networks, model.serves, strict=True)):
        part = file.with_name(f"{file.stem}_network_{index}{file.suffix}")
        try:
            _export(Answers(GroupedModule([network], [names]), decode), part, form, size, batch)  # type: ignore[list-item]  # a ModuleList forgets what is in it
            written.append(part.name)
        except _ExportError as error:
            failed.append(f"{_name(model, index)} cannot be exported as {form} ({error})")
    if not failed:
        raise InputError(
            f"the networks cannot be exported as one {form} file ({whole}); each is in one of its own: "
            f"{', '.join(written)}"
        ) from whole
    others = f"; the others are in {', '.join(written)}" if written else ""
    raise InputError(f"{'; '.join(failed)}{others}{_ADVICE}") from whole


_ADVICE = "; --format safetensors takes any network"


class _ExportError(Exception):
    """An exporter gave up; the message is its reason on one line."""


def _name(model: GroupedModule, index: int) -> str:
    backbone: Any = model.networks[index].backbone
    kind = getattr(backbone, "name", None)
    of = f"{type(backbone).__name__} {kind}" if isinstance(kind, str) else type(backbone).__name__
    return f"network {index} ({'+'.join(model.serves[index])}, {of})"


def _export(answers: Answers, file: Path, form: str, size: tuple[int, int], batch: int | None) -> float | None:
    samples = answers.samples(batch or 2, size)  # of 2: an exporter takes 1 for a constant
    dimension = None if batch else torch.export.Dim("batch", min=1)
    shapes = (tuple({0: dimension} if dimension else None for _ in samples),)
    with torch.no_grad(), _giving_up():
        program = torch.export.export(answers, samples, dynamic_shapes=shapes)
        graph: Any = None
        if form == "onnx":
            graph = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=answers.inputs, output_names=answers.outputs,
                dynamic_shapes=None if batch else (tuple({0: "batch"} for _ in samples),),
            )  # fmt: skip
    with atomic(file) as path:
        if graph is None:
            torch.export.save(program, path)
        else:
            graph.save(path, external_data=False)
    return _difference(answers, file, form, answers.samples(batch or 3, size))


@contextmanager
def _giving_up() -> Iterator[None]:
    """What an exporter raises, whatever it is, as one error with a reason of one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to those who write networks
        try:
            yield
        except (InputError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of torch's tracer and of the converter: of many classes, some of them private
            if "Constraints violated (batch)" in str(error):
                raise _ExportError("it takes one number of images alone; give it as --batch") from error
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
            raise _ExportError((lines or [type(cause).__name__])[0].rstrip(".:;")) from error


def _difference(answers: Answers, file: Path, form: str, samples: Sequence[Tensor]) -> float | None:
    """The largest difference between a file's outputs and the module's: see :func:`export_networks`."""
    run: Callable[..., Any]
    if form == "torch":
        run = torch.export.load(file).module()
    elif find_spec("onnxruntime") is None:
        return None
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

        def run(*inputs: Tensor) -> list[Tensor]:
            named = {name: value.numpy() for name, value in zip(answers.inputs, inputs, strict=True)}
            return [torch.from_numpy(output) for output in session.run(answers.outputs, named)]

    with torch.no_grad():
        pairs = zip(run(*samples), answers(*samples), strict=True)
        return max(_relative(mine.double(), other.double()) for mine, other in pairs)


def _relative(mine: Tensor, other: Tensor) -> float:
    return float((mine - other).abs().max() / other.abs().max().clamp(min=1))
