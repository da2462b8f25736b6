"""Jobs other than fits: representations of a source, the average guess, example pictures. Run in worker processes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from lightning_taskonomy import losses
from lightning_taskonomy.data import TaskDataModule
from lightning_taskonomy.data.representations import representation_file
from lightning_taskonomy.files import atomic, write_bytes, write_json
from lightning_taskonomy.models.heads import merge_views
from lightning_taskonomy.models.sources import describe_representation, load_backbone
from lightning_taskonomy.modules.objectives import objective
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, TaskKind, find
from lightning_taskonomy.training import instantiate_data, load_run

__all__ = ["average_guess", "encode", "examples", "prepare"]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(data: dict[str, Any], split: str, keys: list[str], done: str) -> None:
    """Whatever the data module prepares once for one split: downloads, caches; and a look at the first sample."""
    module = instantiate_data(data)
    module.prepare_data()
    samples = module.dataset(split, keys=keys)
    write_json(done, {"images": len(samples), "keys": sorted(samples[0])})


@torch.no_grad()
def encode(run: str, data: dict[str, Any], folder: str, key: str, splits: Mapping[str, int | None]) -> None:
    """Writes a source's representations of one input, a file per split; the description last.

    Args:
        run: The source's run folder.
        data: The data module's spec.
        folder: Where the representations lie.
        key: The input's batch key.
        splits: How many images of which splits (None for all).
    """
    device = _device()
    backbone = load_backbone(run).to(device).eval()
    module = instantiate_data(data)
    for split, size in splits.items():
        ids, rows = [], []
        for batch in module.loader(module.dataset(split, keys=[key], size=size)):
            images = batch[key].to(device)
            maps = (
                backbone(images) if images.dim() == 4 else merge_views(backbone(images.flatten(0, 1)), images.shape[1])
            )
            ids.append(batch["id"])
            rows.append([features.float().cpu() for features in maps])
        stacked = {f"map_{i}": torch.cat(parts).contiguous() for i, parts in enumerate(zip(*rows, strict=True))}
        write_bytes(representation_file(folder, split, key), save({"id": torch.cat(ids), **stacked}))
    describe_representation(folder, backbone, run)
    write_bytes(Path(folder) / f"{key}.done", b"")


@torch.no_grad()
def average_guess(task: str, data: dict[str, Any], folder: str) -> None:
    """Scores of the statistically informed guess: what the training labels are on average, whatever the image.

    The guess is the mean label, per pixel where it is dense; for classes the logarithm of their frequencies, per pixel
    where dense (Taskonomy, Table 1, "avg"). A grouping's guess is one embedding for all pixels.

    Args:
        task: The task's name.
        data: The data module's spec.
        folder: Where ``scores.npz`` is written.
    """
    solved, module = find(task), instantiate_data(data)
    guess = _average(solved, module)
    ids, scores = [], []
    for batch in module.loader(module.dataset(module.test_split, keys=[solved.target])):
        target = batch[solved.target]
        error, valid = objective(solved).score_errors(guess.expand(len(target), *guess.shape), target)
        ids.append(batch["id"])
        scores.append(losses.per_image(error, valid))
    order = torch.cat(ids).argsort()
    with atomic(Path(folder) / "scores.npz") as path, path.open("wb") as file:
        arrays: dict[str, Any] = {solved.name: torch.cat(scores)[order].float().numpy()}
        np.savez(file, id=torch.cat(ids)[order].numpy(), **arrays)


def _average(task: Task, module: TaskDataModule) -> Tensor:
    total: Tensor | float = 0.0
    count: Tensor | float = 0.0
    shape: tuple[int, ...] = ()
    for batch in module.loader(module.dataset(module.fit_split, keys=[task.target], size=module.fit_size)):
        target = batch[task.target]
        shape = tuple(target.shape[1:])
        if task.kind is TaskKind.GROUPING:
            break
        if task.is_classes:
            valid = target != IGNORE_INDEX
            hot = torch.nn.functional.one_hot(torch.where(valid, target, 0), task.channels) * valid[..., None]
            total, count = total + hot.movedim(-1, 1).sum(0), 1.0
        else:
            valid = target.isfinite()
            total, count = total + torch.where(valid, target, 0.0).sum(0), count + valid.sum(0)
    if task.kind is TaskKind.GROUPING:
        return torch.zeros(task.channels, *shape)
    assert isinstance(total, Tensor)
    if task.is_classes:
        return ((total + 1) / (total + 1).sum(0, keepdim=True)).log()
    return total / torch.as_tensor(count).clamp(min=1)


@torch.no_grad()
def examples(task: str, runs: Mapping[str, str], count: int, file: str) -> None:
    """Input, truth and each network's prediction for a few test images, evenly spaced.

    Args:
        task: The task's name.
        runs: Run folders by column.
        count: How many images.
        file: The ``.npz`` that is written: arrays (count, ...) by column.
    """
    solved = find(task)
    columns: dict[str, Any] = {}
    for column, folder in runs.items():
        model, module = load_run(folder)
        assert isinstance(module, TaskDataModule)
        samples = module.dataset(module.test_split, keys=model.batch_keys)  # type: ignore[arg-type]  # our modules
        positions = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int).tolist()
        batch = samples.batch(positions)
        columns[column] = model.decode(solved.name, model.eval()(batch)[solved.name]).numpy()  # type: ignore[operator]  # our modules
        columns["target"] = batch[solved.target].numpy()
        if solved.input in batch and batch[solved.input].dim() == 4:
            shown = module.normalisation
            columns["input"] = (batch[solved.input] if shown is None else shown.undo(batch[solved.input])).numpy()
    with atomic(file) as path, path.open("wb") as opened:
        np.savez_compressed(opened, **columns)
