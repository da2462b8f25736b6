"""Predictions as pictures: one PNG per image and task, one video per video and task."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_taskonomy.files import write_bytes
from lightning_taskonomy.pictures import caption, colorize
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["PredictionWriter"]


class PredictionWriter(Callback):
    """Writes what ``predict_step`` returns.

    ``<folder>/<file>-<task>.png`` for an image, ``.mp4`` for a video, numbered where files of several folders have one
    name; where the data module does not know the files, the image's id names it. Values per image go to
    ``<folder>/predictions.jsonl`` as well.

    Args:
        folder: Where they go; None: ``predictions`` in the run's folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = folder
        self._videos: dict[tuple[str, str], Any] = {}
        self._lines: list[str] = []
        self._stems: dict[str, Path] = {}

    def _stem(self, file: Path) -> str:
        """A file's name without its ending, numbered if another file has taken it."""
        stems = (file.stem if number == 1 else f"{file.stem}-{number}" for number in count(1))
        return next(stem for stem in stems if self._stems.setdefault(stem, file) == file)

    def _root(self, trainer: Trainer) -> Path:
        return Path(self.folder or Path(trainer.default_root_dir) / "predictions")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes one batch."""
        frames = getattr(trainer.datamodule, "frames", {})  # type: ignore[attr-defined]  # set by the trainer
        normalisation = getattr(trainer.datamodule, "normalisation", None)  # type: ignore[attr-defined]
        tasks: dict[str, Task] = pl_module.tasks  # type: ignore[assignment]  # a module of this library
        for row, image in enumerate(batch["id"].tolist()):
            frame = frames.get(image)
            for name, preds in outputs.items():
                value = _array(preds[row])
                pixels = batch[tasks[name].input][row]
                size, under = (int(pixels.shape[-2]), int(pixels.shape[-1])), None
                if tasks[name].kind is TaskKind.SET and pixels.dim() == 3:
                    under = _array(pixels if normalisation is None else normalisation.undo(pixels))
                picture = colorize(tasks[name], value, size=size, image=under)
                if frame is not None and frame.number is not None:
                    self._append(self._root(trainer) / f"{self._stem(frame.file)}-{name}.mp4", picture, frame.rate)
                else:
                    stem = f"{image:06d}" if frame is None else self._stem(frame.file)
                    write_bytes(self._root(trainer) / f"{stem}-{name}.png", _png(picture))
                if not tasks[name].is_dense:
                    self._lines.append(_line(image if frame is None else str(frame.file), frame, tasks[name], value))

    def _append(self, file: Path, picture: Any, rate: float) -> None:
        import av

        key = (str(file.parent), file.name)
        if key not in self._videos:
            file.parent.mkdir(parents=True, exist_ok=True)
            container = av.open(str(file), "w")
            stream = container.add_stream("mpeg4", rate=max(1, round(rate)))
            stream.height, stream.width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
            stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
            self._videos[key] = container, stream
        container, stream = self._videos[key]
        pixels = np.ascontiguousarray(picture[: stream.height, : stream.width])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps what was predicted until then: videos are ended, values written."""
        self.on_predict_end(trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the videos and writes the values per image."""
        for container, stream in self._videos.values():
            container.mux(stream.encode())
            container.close()
        self._videos = {}
        if self._lines:
            write_bytes(self._root(trainer) / "predictions.jsonl", "".join(self._lines).encode())
            self._lines = []


def _array(value: Any) -> Any:
    """A prediction in NumPy: a tensor, or the entries of a set's mapping by key."""
    if isinstance(value, Mapping):
        return {key: _array(entry) for key, entry in value.items()}
    return (value.float() if value.is_floating_point() else value).cpu().numpy()


def _line(image: int | str, frame: Any, task: Task, value: Any) -> str:
    import json

    content = {
        "image": image,
        "task": task.name,
        "prediction": caption(task, value),
        "values": _plain(value),
    }
    if frame is not None and frame.number is not None:
        content["frame"] = frame.number
    return json.dumps(content) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if value.dtype.kind != "f":
        return value.tolist()
    rounded = np.round(value, 6).astype(object)
    rounded[~np.isfinite(value)] = None  # JSON has no NaN
    return rounded.tolist()


def _png(picture: Any) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
