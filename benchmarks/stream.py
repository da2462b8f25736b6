"""All groups of five tasks of Rooms, trained from one stream of batches and one after the other.

Both sides train the same 31 networks on the same two warm processes, in turns: side by side (each process half of the
networks, from a stream of its own) or as single fits, which the processes take one by one. The data are rendered as
they are asked for, or read from a warm cache. Each network ends with the same losses on both sides.
"""

import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from _timing import interleaved, options, show

TASKS = ("semantic_segmentation", "depth_z", "normals", "keypoints_2d", "edges_2d")
PROCESSES = 2

Run = dict[str, Any]


def configuration(tasks: tuple[str, ...], size: int, images: int, epochs: int, cache: Path | None) -> dict[str, Any]:
    """The fit of one network."""
    backbone = {"name": "test_resnet", "channels": 8, "output_stride": 8}
    head = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
    rooms = {
        "size": size, "views": 8, "train_buildings": images // 8, "validation_buildings": max(1, images // 64),
        "test_buildings": max(1, images // 64), "batch_size": 16, "cache": None if cache is None else str(cache),
    }  # fmt: skip
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "lightning_taskonomy.modules.MultiTaskModule",
            "init_args": {
                "tasks": list(tasks),
                "backbone": {
                    "class_path": "lightning_taskonomy.models.backbones.TaskonomyResNet",
                    "init_args": backbone,
                },
                "heads": dict.fromkeys(("dense", "normals", "segmentation"), head),
            },
        },
        "data": {"class_path": "lightning_taskonomy.data.RoomsDataModule", "init_args": rooms},
        "trainer": {
            "max_epochs": epochs, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
            "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
        },
    }  # fmt: skip


def together(runs: list[Run]) -> None:
    """Half of the networks from one stream."""
    from lightning_taskonomy.training import execute_together

    execute_together(runs)


def alone(run: Run) -> None:
    """One network."""
    from lightning_taskonomy.training import execute

    execute(**run)


def losses(folder: Path) -> Mapping[str, float]:
    """Validation and test losses of all networks in a folder."""
    import json

    found = {}
    for file in sorted(folder.glob("*/metrics.json")):
        metrics = json.loads(file.read_text())
        found |= {f"{file.parent.name} {name}": value for name, value in metrics.items() if name.endswith("loss")}
    return found


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=3)
    parser.set_defaults(threads=1)
    parser.add_argument("--size", type=int, default=64, help="pixels along each side; 64 by default")
    parser.add_argument("--images", type=int, default=256, help="training images; 256 by default")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each network; 4 by default")
    parser.add_argument("--quick", action="store_true", help="one round of two epochs of 64 images")
    given = parser.parse_args()
    rounds = 1 if given.quick else given.rounds
    images, epochs = (64, 2) if given.quick else (given.images, given.epochs)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    groups = [group for count in range(1, 6) for group in itertools.combinations(TASKS, count)]
    rows = []
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool,
    ):
        turns = (Path(name) / str(number) for number in itertools.count())
        first = configuration(TASKS, given.size, images, 0, Path(name) / "cache")  # imports, the parser, the cache
        list(pool.map(alone, [{"config": first, "folder": str(next(turns))} for _ in range(PROCESSES)]))
        for data, cache in {"rendered": None, "warm cache": Path(name) / "cache"}.items():
            folders: dict[str, Path] = {}

            def runs(side: str, cache: Path | None = cache, folders: dict[str, Path] = folders) -> list[Run]:
                folders[side] = next(turns)
                return [
                    {
                        "config": configuration(group, given.size, images, epochs, cache),
                        "folder": str(folders[side] / "+".join(group)),
                    }
                    for group in groups
                ]

            def stream(runs: Callable[[str], list[Run]] = runs) -> None:
                networks = runs("stream")
                list(pool.map(together, [networks[first::PROCESSES] for first in range(PROCESSES)]))

            def single(runs: Callable[[str], list[Run]] = runs) -> None:
                list(pool.map(alone, runs("single fits")))

            sides = {"stream": stream, "single fits": single}
            seconds = interleaved(sides, rounds, warmup=0 if given.quick else 1)
            ours, theirs = (losses(folders[side]) for side in sides)
            assert ours.keys() == theirs.keys()
            assert len(groups) == len({name.split()[0] for name in ours})
            row: dict[str, Any] = {"data": data, **{f"{side} s": value for side, value in seconds.items()}}
            row["ratio"] = seconds["single fits"] / seconds["stream"]
            row["losses apart by"] = max(abs(ours[name] / theirs[name] - 1) for name in ours)
            rows.append(row)
    show(
        rows, given.json, networks=len(groups), processes=PROCESSES, threads=given.threads, size=given.size,
        images=images, epochs=epochs,
    )  # fmt: skip


if __name__ == "__main__":
    main()
