"""Images with a class per pixel from official files, in batches, against bare decoding by torchvision.

Both sides load the same pictures and label files in as many processes, in batches of the same size: a data module of
the library (float images, classes, all checks), and a loader that calls ``torchvision.io.decode_image`` on the bytes of
both files and stacks them, as they are or as the same tensors, a float image and the class of each colour. COCO: JPEG
of 640 x 480 and panoptic PNG. Tiles: 800 x 800 cut from iSAID pictures through a warm cache, against the same tiles
stored as PNG files one by one.
"""

import json
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _timing import interleaved, options, show
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import decode_image, read_file

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.formats.coco_panoptic import COCOPanopticDataModule
from lightning_taskonomy.data.formats.isaid import ISAIDDataModule
from lightning_taskonomy.tasks.catalog.coco_panoptic import CATEGORIES
from lightning_taskonomy.tasks.catalog.isaid import COLOURS

SIDE = 800


class Bare(Dataset[dict[str, Tensor]]):
    """Bytes of a picture and of its label, decoded; perhaps made a float image and the class of each colour."""

    def __init__(self, pairs: list[tuple[Path, Path]], *, finished: bool) -> None:
        self.pairs, self.finished = pairs, finished
        self.colours = torch.arange(16) * 1_000_003  # as many as classes; which they are does not change the work

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, label = (decode_image(read_file(str(file))) for file in self.pairs[index])
        if not self.finished:
            return {"image": image, "semantic": label}
        packed = label[0].int() + 256 * label[1].int() + 65536 * label[2].int()
        return {"image": image.float().div_(255), "semantic": torch.bucketize(packed, self.colours)}


def picture(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Soft shapes and some noise, which take about as many bytes as a photo."""
    coarse = Image.fromarray(rng.integers(0, 256, (height // 24, width // 24, 3), np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    return Image.fromarray((soft + rng.integers(-9, 10, soft.shape)).clip(0, 255).astype(np.uint8))


def blocks(rng: np.random.Generator, palette: np.ndarray, height: int, width: int) -> Image.Image:
    """Regions of one colour each."""
    coarse = Image.fromarray(palette[rng.integers(0, len(palette), (height // 60, width // 60))])
    return coarse.resize((width, height), Image.Resampling.NEAREST)


def coco(root: Path, count: int) -> tuple[TaskDataModule, list[tuple[Path, Path]]]:
    """Images of one size with ten segments each."""
    rng = np.random.default_rng(0)
    (root / "train2017").mkdir()
    (root / "annotations" / "panoptic_train2017").mkdir(parents=True)
    palette = rng.integers(1, 256, (10, 3), np.uint8)
    ids = [int(red) + 256 * int(green) + 65536 * int(blue) for red, green, blue in palette]
    segments = [{"id": id, "category_id": n} for n, id in enumerate(ids)]
    pairs = []
    for number in range(count):
        pairs.append((root / "train2017" / f"{number:012d}.jpg",
                      root / "annotations" / "panoptic_train2017" / f"{number:012d}.png"))  # fmt: skip
        picture(rng, 480, 640).save(pairs[-1][0], quality=92)
        blocks(rng, palette, 480, 640).save(pairs[-1][1])
    content = {
        "categories": [{"id": n, "name": name} for n, name in enumerate(CATEGORIES)],
        "annotations": [{"file_name": label.name, "segments_info": segments} for _, label in pairs],
    }
    (root / "annotations" / "panoptic_train2017.json").write_text(json.dumps(content))
    return COCOPanopticDataModule(str(root), keys=["image", "semantic"]), pairs


def isaid(root: Path, count: int) -> tuple[TaskDataModule, list[tuple[Path, Path]]]:
    """Two pictures of about half as many tiles each, and every tile as files of its own."""
    rng = np.random.default_rng(0)
    palette = np.array([*COLOURS.values()], np.uint8)
    folder, single = root / "train" / "images", root / "tiles"
    folder.mkdir(parents=True)
    single.mkdir()
    columns = max(1, count // 8)
    pairs = []
    for number in range(2):
        height, width = 4 * 600 + 200, columns * 600 + 200
        image, label = picture(rng, height, width), blocks(rng, palette, height, width)
        image.save(folder / f"P{number}.png", compress_level=1)
        label.save(folder / f"P{number}_instance_color_RGB.png")
        for top in range(0, height - SIDE + 1, 600):
            for left in range(0, width - SIDE + 1, 600):
                box = (left, top, left + SIDE, top + SIDE)
                pairs.append(tuple(single / f"{number}_{top}_{left}_{kind}.png" for kind in ("image", "label")))
                image.crop(box).save(pairs[-1][0], compress_level=1)
                label.crop(box).save(pairs[-1][1])
    return ISAIDDataModule(str(root), cache=str(root / "cache"), keys=["image", "semantic"]), pairs  # type: ignore[return-value]


def drain(loader: Iterable[object]) -> None:
    """One pass; each batch is dropped when the next one comes."""
    for _ in loader:
        pass


def main() -> None:
    """Times both data sets."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--images", type=int, default=128, help="images or tiles of a pass; 128 by default")
    parser.add_argument("--batch", type=int, default=8, help="images of a batch; 8 by default")
    parser.add_argument("--workers", type=int, default=2, help="processes that load; 2 by default")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name, make in {"COCO": coco, "tiles": isaid}.items():
        with tempfile.TemporaryDirectory() as folder:
            data, pairs = make(Path(folder), args.images)
            data.batch_size, data.num_workers = args.batch, args.workers
            ours = data.train_dataloader()
            loaders: dict[str, DataLoader[dict[str, Tensor]]] = {"library": ours}
            for side, finished in {"decoding": False, "same tensors": True}.items():
                files = Bare(pairs, finished=finished)
                loaders[side] = DataLoader(files, args.batch, shuffle=True, num_workers=args.workers, drop_last=True)
            counts = {side: len(loader) * args.batch for side, loader in loaders.items()}
            sides = {side: partial(drain, loader) for side, loader in loaders.items()}
            seconds = interleaved(sides, args.rounds, warmup=1)
            speed = {side: counts[side] / seconds[side] for side in seconds}
            rows.append(
                {"files": name, "images": counts["library"]}
                | {f"{side} images/s": value for side, value in speed.items()}
                | {f"ratio to {side}": speed["library"] / speed[side] for side in ("decoding", "same tensors")}
            )
    show(rows, args.json, workers=args.workers, batch=args.batch, threads=args.threads)


if __name__ == "__main__":
    main()
