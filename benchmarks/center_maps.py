"""Target maps and decoding by centre points against loops over objects in NumPy, as CenterNet's code has them.

64 images of 20 objects, maps of 128 x 128. The loop draws each object's Gaussian into its map with the object's patch
alone; ours makes all of them at once. Decoding gives the 100 highest peaks of each image as boxes; its loop finds the
peaks of each plane by shifted maxima and makes one box after the other.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _timing import interleaved, options, show
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy import centers
from lightning_taskonomy.tasks import presence
from lightning_taskonomy.tasks.catalog.objects import detection

Array = NDArray[Any]


def drawn(boxes: Array, classes: Array, shape: tuple[int, int, int, int]) -> Array:
    """CenterNet's maps, object by object; boxes (B, n, 4) in cells."""
    heat = np.zeros(shape, np.float32)
    for image, (edges, kinds) in enumerate(zip(boxes, classes, strict=True)):
        for (left, top, right, bottom), kind in zip(edges, kinds, strict=True):
            radius = _radius(math.ceil(bottom - top), math.ceil(right - left))
            _draw(heat[image, kind], int((left + right) / 2), int((top + bottom) / 2), radius)
    return heat


def _radius(height: int, width: int, overlap: float = 0.7) -> int:
    b1, c1 = height + width, width * height * (1 - overlap) / (1 + overlap)
    r1 = (b1 + math.sqrt(b1**2 - 4 * c1)) / 2
    b2, c2 = 2 * (height + width), (1 - overlap) * width * height
    r2 = (b2 + math.sqrt(b2**2 - 16 * c2)) / 2
    a3, b3, c3 = 4 * overlap, -2 * overlap * (height + width), (overlap - 1) * width * height
    return max(0, int(min(r1, r2, (b3 + math.sqrt(b3**2 - 4 * a3 * c3)) / 2)))


def _draw(heat: Array, x: int, y: int, radius: int) -> None:
    sigma = (2 * radius + 1) / 6
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    gaussian = np.exp(-(columns * columns + rows * rows) / (2 * sigma * sigma))
    gaussian[gaussian < np.finfo(gaussian.dtype).eps * gaussian.max()] = 0
    height, width = heat.shape
    left, right = min(x, radius), min(width - x, radius + 1)
    top, bottom = min(y, radius), min(height - y, radius + 1)
    patch = heat[y - top : y + bottom, x - left : x + right]
    np.maximum(patch, gaussian[radius - top : radius + bottom, radius - left : radius + right], out=patch)


def looped(maps: Array, classes: int, stride: int) -> list[list[tuple[float, int, Array]]]:
    """The 100 surest boxes of each image, peak by peak."""
    decoded = []
    for image in maps:
        peaks = []
        for kind in range(classes):
            plane = image[kind]
            padded = np.pad(plane, 1, constant_values=-np.inf)
            height, width = plane.shape
            around = np.maximum.reduce([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)])
            ys, xs = np.nonzero(plane == around)
            peaks += [(plane[y, x], kind, y, x) for y, x in zip(ys, xs, strict=True)]
        peaks.sort(key=lambda one: -one[0])
        boxes = []
        for value, kind, y, x in peaks[:100]:
            middle = np.array([x, y]) + image[classes : classes + 2, y, x]
            half = np.maximum(image[classes + 2 :, y, x], 0) / 2
            boxes.append((1 / (1 + math.exp(-value)), kind, np.concatenate([middle - half, middle + half]) * stride))
        decoded.append(boxes)
    return decoded


def cases(classes: int, images: int, objects: int, side: int) -> dict[str, Callable[[], object]]:
    """Both sides of both questions, on the same objects and maps; checks that they agree."""
    random = np.random.default_rng(0)
    task = detection("things", [str(i) for i in range(classes)])
    middle = random.uniform(0, side, (images, objects, 2))
    half = np.exp(random.uniform(0, math.log(side / 6), (images, objects, 2)))  # as many small ones as large ones
    boxes = np.concatenate([middle - half, middle + half], -1).clip(0, side).astype(np.float32)
    kinds = random.integers(0, classes, (images, objects))
    target: dict[str, Tensor] = {"boxes": torch.tensor(boxes) * 4, "object_classes": torch.tensor(kinds)}
    target |= {presence(key): torch.ones(images, dtype=torch.bool) for key in list(target)}
    shape = (images, classes, side, side)

    def ours() -> Tensor:
        seen = centers.centers_of(target, task, (side, side))
        radius = centers.gaussian_radius(seen.sizes).where(seen.valid, -1)
        planes = torch.arange(images)[:, None] * classes + seen.classes
        return centers.heat_map(seen.middles.long().flatten(0, 1), radius.flatten(), planes.flatten(), shape)

    maps = random.normal(-4, 1, (images, classes + 4, side, side)).astype(np.float32)
    maps[:, -2:] = random.uniform(1, side / 3, (images, 2, side, side))
    preds = torch.tensor(maps)
    np.testing.assert_allclose(ours(), drawn(boxes, kinds, shape), atol=1e-6)
    for one, wanted in zip(centers.boxes(preds, task), looped(maps, classes, task.stride), strict=True):
        np.testing.assert_allclose(one["boxes"], [box for _, _, box in wanted], rtol=1e-4, atol=1e-2)
    return {
        "maps ours": ours,
        "maps loop": lambda: drawn(boxes, kinds, shape),
        "decoding ours": lambda: centers.boxes(preds, task),
        "decoding loop": lambda: looped(maps, classes, task.stride),
    }


def main() -> None:
    """Prints seconds of both sides and their ratio, for each number of classes."""
    parser = options(__doc__, 7)
    parser.add_argument("--images", type=int, default=64, help="images of a batch; 64 by default")
    parser.add_argument("--objects", type=int, default=20, help="objects of an image; 20 by default")
    parser.add_argument("--side", type=int, default=128, help="cells of a map along each side; 128 by default")
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 20], help="classes of a map; 1 and 20 by default")
    parser.add_argument("--least", type=float, default=0.0, help="seconds of a turn at the least; 0: one call of each")
    parser.set_defaults(threads=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for classes in args.classes:
        sides = cases(classes, args.images, args.objects, args.side)
        for what in ("maps", "decoding"):
            pair = {name: side for name, side in sides.items() if name.startswith(what)}
            seconds = interleaved(pair, args.rounds, least=args.least)
            ours, loop = (1000 * seconds[f"{what} {name}"] for name in ("ours", "loop"))
            rows.append({"what": what, "classes": classes, "ours_ms": ours, "loop_ms": loop, "ratio": loop / ours})
    show(rows, args.json, threads=args.threads, images=args.images, objects=args.objects, side=args.side)


if __name__ == "__main__":
    main()
