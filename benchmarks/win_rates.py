"""Win rates and affinities (AHP) of many transfers, with the same from NumPy alone.

Both sides get one target at a time: (sources, images) float32 scores, a hundredth of them missing, a tenth of the
images with ties. The peer compares pairs by NumPy in blocks that stay in the cache and takes LAPACK's eigenvectors.
Extra memory is how far the peak of the process rises over what it held with one target loaded, compiler included.
"""

import os
import resource
import time

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from _timing import interleaved, options, show
from numpy.typing import NDArray

from lightning_taskonomy.affinity import ahp, tournament
from lightning_taskonomy.affinity.ahp import ratio_matrix


def by_numpy(scores: NDArray[np.float32], width: int = 8192) -> NDArray[np.float64]:
    """What ``tournament`` returns, by NumPy's comparisons."""
    count, images = scores.shape
    wins, both = np.zeros((count, count)), np.zeros((count, count))
    for start in range(0, images, width):
        block = np.ascontiguousarray(scores[:, start : start + width])
        valid = (~np.isnan(block)).astype(np.float32)
        both += valid @ valid.T
        better = np.empty(block.shape[1], dtype=bool)
        for i, ours in enumerate(block):
            for j, theirs in enumerate(block):
                if i != j:
                    np.less(ours, theirs, out=better)
                    wins[i, j] += np.count_nonzero(better)
    return (wins + 0.5 * (both - wins - wins.T)) / both


def by_lapack(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """What ``ahp`` returns, by a full decomposition."""
    values, vectors = np.linalg.eig(ratio_matrix(rates))
    vector = np.abs(vectors[:, np.argmax(values.real)].real)
    scaled: NDArray[np.float64] = vector / vector.sum()
    return scaled


def draw(generator: np.random.Generator, sources: int, images: int) -> NDArray[np.float32]:
    """Scores of one target."""
    scores = generator.random((sources, images), dtype=np.float32) + generator.random((sources, 1), dtype=np.float32)
    scores[:, ::10] = np.round(scores[:, ::10], 1)
    scores[generator.random(scores.shape, dtype=np.float32) < 0.01] = np.nan
    return scores


def main() -> None:
    """Times both sides and prints one row."""
    parser = options(__doc__, rounds=1)
    parser.add_argument("--targets", type=int, default=22)
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--images", type=int, default=17_000)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    seconds = {"compiled": 0.0, "numpy": 0.0}
    processor = 0.0
    for target in range(arguments.targets):
        scores = draw(generator, arguments.sources, arguments.images)
        if target == 0:
            loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            ahp(tournament(scores))
            extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded) / 1024
            np.testing.assert_allclose(tournament(scores), by_numpy(scores), rtol=0, atol=1e-14)
            np.testing.assert_allclose(ahp(tournament(scores)), by_lapack(by_numpy(scores)), rtol=1e-9)
        start = time.process_time()
        ahp(tournament(scores))
        processor += time.process_time() - start
        sides = {"compiled": lambda s=scores: ahp(tournament(s)), "numpy": lambda s=scores: by_lapack(by_numpy(s))}
        for side, value in interleaved(sides, arguments.rounds, warmup=0).items():
            seconds[side] += value
    row = {
        "targets": arguments.targets, "sources": arguments.sources, "images": arguments.images,
        "compiled s": seconds["compiled"], "of processor": processor, "numpy s": seconds["numpy"],
        "ratio": seconds["numpy"] / seconds["compiled"], "extra MiB": extra,
    }  # fmt: skip
    show([row], arguments.json, threads=1)


if __name__ == "__main__":
    main()
