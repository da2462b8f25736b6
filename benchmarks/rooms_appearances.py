"""How long a sample of each appearance of Rooms takes, against the indoor one: pictures, classes, depth, boxes, points.

One process, appearances in turns; each turn renders all views of a building that no turn had before, its scenes too.
``python benchmarks/rooms_appearances.py [--size 64] [--views 16] [--rounds 12]``
"""

import argparse
import time
from statistics import median

from lightning_taskonomy.data.rooms.appearances import DEFAULT, names
from lightning_taskonomy.data.rooms.render import View

KEYS = ("image", "semantic", "depth_z", "boxes", "object_classes", "points")


def main() -> None:
    """Prints milliseconds of processor time per sample and the ratio to the indoor appearance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--samples", type=int, default=1)
    options = parser.parse_args()
    order = [DEFAULT, *(name for name in names() if name != DEFAULT)]
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for turn in range(options.rounds + 1):
        for name in order:
            start = time.process_time()
            for view in range(options.views):
                View(1000 + turn, view, options.size, options.samples, name).render(KEYS)
            if turn:  # the first compiles
                seconds[name].append((time.process_time() - start) / options.views)
    base = median(seconds[DEFAULT])
    for name in order:
        middle = median(seconds[name])
        print(f"{name:12} {1e3 * middle:6.2f} ms per sample, {middle / base:.2f} x indoor")


if __name__ == "__main__":
    main()
