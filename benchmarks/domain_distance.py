"""Domain distance against a plain blocked matrix product of the same features, and the optimal assignment.

The peer multiplies the same blocks of float32 features into one buffer and does nothing with them. Extra memory is how
far the peak of the process rises over what it held with both collections loaded. `error` is the largest relative
difference of a nearest distance from SciPy's `cdist` in float64, on 100 of the target's images. `one to one` is the
optimal assignment at `--pairs` images each. `of processor` is the ratio of processor time, which other work on the
machine disturbs less. OMP_NUM_THREADS says how many threads NumPy uses; 1 unless set.
"""

import os
import resource
import time
from collections.abc import Callable
from statistics import median

os.environ["OMP_NUM_THREADS"] = THREADS = os.environ.get("OMP_NUM_THREADS", "1")

import numpy as np
from _timing import interleaved, options, show
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lightning_taskonomy.affinity.chains.distance import COLUMNS, ROWS, nearest, one_to_one


def product(target: NDArray[np.float32], source: NDArray[np.float32]) -> None:
    """The plain blocked matrix product."""
    out = np.empty((ROWS, COLUMNS), np.float32)
    for row in range(0, len(target), ROWS):
        for column in range(0, len(source), COLUMNS):
            left, right = target[row : row + ROWS], source[column : column + COLUMNS]
            np.matmul(left, right.T, out=out[: len(left), : len(right)])


def main() -> None:
    """Times both sides and prints one row."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--channels", type=int, default=720)
    parser.add_argument("--pairs", type=int, default=1000)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    shape = (arguments.images, arguments.channels)
    target, source = (generator.standard_normal(shape, dtype=np.float32) for _ in range(2))
    for side, mean in ((target, 0.5), (source, 0.4)):
        np.maximum(np.add(side, mean, out=side), 0, out=side)  # as after a ReLU
    product(target[:ROWS], source[:COLUMNS])
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    distances = nearest(target, source).target_to_source
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded) / 1024
    exact = cdist(target[:100], source).min(axis=1)
    processor: dict[str, list[float]] = {"ours": [], "product": []}

    def timed(side: str, function: Callable[..., object]) -> None:
        start = time.process_time()
        function(target, source)
        processor[side].append(time.process_time() - start)

    sides = {"ours": lambda: timed("ours", nearest), "product": lambda: timed("product", product)}
    seconds = interleaved(sides, arguments.rounds, warmup=1)
    start = time.perf_counter()
    one_to_one(target[: arguments.pairs], source[: arguments.pairs])
    row = {
        "images": arguments.images, "channels": arguments.channels, "both ways s": seconds["ours"],
        "product s": seconds["product"], "ratio": seconds["ours"] / seconds["product"],
        "of processor": median(processor["ours"]) / median(processor["product"]), "extra MiB": extra,
        "error": float(np.abs(distances[:100] / exact - 1).max()), "one to one s": time.perf_counter() - start,
    }  # fmt: skip
    show([row], arguments.json, threads=THREADS)


if __name__ == "__main__":
    main()
