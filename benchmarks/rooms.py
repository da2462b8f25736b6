"""Rooms: images per second rendered on one core, and read from a warm cache by a loader with two workers.

Rendered are the picture with its shadows and all geometric and semantic labels of a single view; read are picture,
depth, normals and semantics.
"""

import tempfile
import time
from collections.abc import Iterator
from statistics import median

import numpy as np
import torch
from _timing import options, show

from lightning_taskonomy.data.rooms import RoomsDataModule, RoomsDataset

SINGLE_VIEW = [
    "image", "depth_z", "depth_euclidean", "normals", "curvature", "reshading", "edges_occlusion", "keypoints_3d",
    "semantic", "object_class", "scene_class", "room_layout", "vanishing_points",
]  # fmt: skip
CACHED = ["image", "depth_z", "normals", "semantic"]
BUILDINGS, VIEWS = 8, 16


def rendered(size: int, samples: int, count: int) -> float:
    """Images per second on one core: the mean over images, after a first building has compiled the loops."""
    dataset = RoomsDataset(range(count // VIEWS + 2), VIEWS, size, SINGLE_VIEW, samples=samples)
    dataset[0]
    seconds = []
    for index in range(VIEWS, VIEWS + count):
        start = time.perf_counter()
        dataset[index]
        seconds.append(time.perf_counter() - start)
    return 1 / float(np.mean(seconds))


def read(size: int, folder: str, workers: int, rounds: int) -> float:
    """Images per second of a loader over a warm cache: the median over epochs after the first."""
    data = RoomsDataModule(
        size=size, views=VIEWS, train_buildings=BUILDINGS, cache=folder, keys=CACHED, batch_size=32,
        num_workers=workers,
    )  # fmt: skip
    data.prepare_data()
    loader = data.loader(data.dataset("train", keys=CACHED))

    def epochs() -> Iterator[float]:
        for _ in range(rounds + 1):
            start = time.perf_counter()
            count = sum(len(batch["image"]) for batch in loader)
            yield count / (time.perf_counter() - start)

    _, *rates = epochs()
    return median(rates)


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--size", type=int, default=128, help="pixels along each side; 128 by default")
    parser.add_argument("--count", type=int, default=48, help="images rendered per setting; 48 by default")
    parser.add_argument("--workers", type=int, default=2, help="loader processes of the cache; 2 by default")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        {"what": f"rendered, one core, samples={samples}", "images/s": rendered(given.size, samples, given.count)}
        for samples in (1, 2)
    ]
    with tempfile.TemporaryDirectory() as folder:
        rate = read(given.size, folder, given.workers, given.rounds)
    rows.append({"what": f"warm cache, {given.workers} workers", "images/s": rate})
    for row in rows:
        row["ratio to rendered"] = row["images/s"] / rows[0]["images/s"]
    show(rows, given.json, size=given.size, count=given.count)


if __name__ == "__main__":
    main()
