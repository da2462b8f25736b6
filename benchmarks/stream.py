"""All groups of five tasks of Rooms, trained from one stream of batches and one after the other.

Both sides train the same 31 networks on the same two warm processes, in turns: side by side (each process half of the
networks, from a stream of its own) or as single fits, which the processes take one by one. The data are rendered as
they are asked for, or read from a warm cache. Each network ends with the same losses on both sides. Beside wall time
stands processor time, which says more where the machine has other work.
"""

import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from _timing import interleaved, options, show

TASKS = ("semantic_segmentation", "depth_z", "normals", "keypoints_2d", "edges_2d")
PROCESSES = 2

Run = dict[str, Any]


def configuration(tasks: tuple[str, ...], *, size: int, images: int, epochs: int, cache: Path | None) -> dict[str, Any]:
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


def together(runs: list[Run]) -> float:
    """Half of the networks from one stream; returns what it took of a processor."""
    from lightning_taskonomy.training import execute_together

    start = time.process_time()
    execute_together(runs)
    return time.process_time() - start


def alone(run: Run) -> float:
    """One network; returns what it took of a processor."""
    from lightning_taskonomy.training import execute

    start = time.process_time()
    execute(**run)
    return time.process_time() - start


def losses(folder: Path) -> Mapping[str, float]:
    """Validation and test losses of all networks in a folder."""
    import json

    values = {}
    for file in sorted(folder.glob("*/metrics.json")):
        metrics = json.loads(file.read_text())
        values |= {f"{file.parent.name} {name}": value for name, value in metrics.items() if name.endswith("loss")}
    return values


def compare(
    pool: ProcessPoolExecutor, folder: Path, cache: Path | None, rounds: int, warmup: int, **settings: int
) -> dict[str, Any]:
    """Seconds of both sides, wall and processor, their ratios, and how far the losses are apart."""
    groups = [group for count in range(1, 6) for group in itertools.combinations(TASKS, count)]
    turns = itertools.count()
    last: dict[str, Path] = {}
    work: dict[str, list[float]] = {"stream": [], "single fits": []}

    def runs(side: str) -> list[Run]:
        last[side] = folder / str(next(turns))
        configs = {"+".join(group): configuration(group, cache=cache, **settings) for group in groups}
        return [{"config": config, "folder": str(last[side] / name)} for name, config in configs.items()]

    def stream() -> None:
        networks = runs("stream")
        halves = [networks[first::PROCESSES] for first in range(PROCESSES)]
        work["stream"].append(sum(pool.map(together, halves)))

    def single() -> None:
        work["single fits"].append(sum(pool.map(alone, runs("single fits"))))

    seconds = interleaved({"stream": stream, "single fits": single}, rounds, warmup)
    ours, theirs = (losses(last[side]) for side in work)
    assert ours.keys() == theirs.keys()
    assert len(groups) == len({name.split()[0] for name in ours})
    row: dict[str, Any] = {f"{side} s": value for side, value in seconds.items()}
    row["ratio"] = seconds["single fits"] / seconds["stream"]
    row |= {f"{side} CPU s": median(values) for side, values in work.items()}
    row["CPU ratio"] = row["single fits CPU s"] / row["stream CPU s"]
    row["losses apart by"] = max(abs(ours[name] / theirs[name] - 1) for name in ours)
    return row


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=3)
    parser.set_defaults(threads=1)
    parser.add_argument("--size", type=int, default=64, help="pixels along each side; 64 by default")
    parser.add_argument("--images", type=int, default=256, help="training images; 256 by default")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each network; 4 by default")
    parser.add_argument("--quick", action="store_true", help="one round of two epochs of 64 images")
    given = parser.parse_args()
    rounds, warmup = (1, 0) if given.quick else (given.rounds, 1)
    settings = {"size": given.size, "images": given.images, "epochs": given.epochs}
    settings |= {"images": 64, "epochs": 2} if given.quick else {}
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool,
    ):
        folder = Path(name)
        first = configuration(TASKS, cache=folder / "cache", **{**settings, "epochs": 0})
        fill = {"config": configuration(TASKS, cache=folder / "cache", **settings), "folder": str(folder / "fill")}
        alone_first = [{"config": first, "folder": str(folder / f"first{number}")} for number in range(PROCESSES)]
        list(pool.map(alone, [fill, *alone_first]))  # imports, the parser and the cache are there now
        rows = [
            {"data": data, **compare(pool, folder / data, cache, rounds, warmup, **settings)}
            for data, cache in {"rendered": None, "warm cache": folder / "cache"}.items()
        ]
    show(rows, given.json, networks=31, processes=PROCESSES, threads=given.threads, **settings)


if __name__ == "__main__":
    main()
