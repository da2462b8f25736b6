"""A transfer's training step from cached representations, with the same step from live encoders.

Arithmetic allows a ratio of (k F_encoder + 3 F_readout) / (3 F_readout), where F is the time of a forward pass and 3 F
that of a training step; k encoders run forward only. The cached side reads the files that a study
writes, through the study's own data module; "step alone" is that step on a batch at hand.
"""

import tempfile
from collections.abc import Collection, Iterator
from itertools import repeat
from pathlib import Path

import torch
from _timing import interleaved, options, show
from safetensors.torch import save_file
from torch import Tensor

from lightning_taskonomy import TaskDataModule, TransferModule
from lightning_taskonomy.data.representations import RepresentationDataModule, representation_file
from lightning_taskonomy.models.backbones import Backbone, TaskonomyResNet
from lightning_taskonomy.models.sources import describe_representation

TARGET, IMAGES = "normals", 64


class Pictures:
    """Noise with unit normals, held in memory so that neither side waits for data."""

    def __init__(self, size: int, keys: Collection[str]) -> None:
        random = torch.Generator().manual_seed(0)
        self.keys = {*keys, "id"}
        self.image = torch.rand(IMAGES, 3, size, size, generator=random)
        normals = torch.randn(IMAGES, 3, size, size, generator=random)
        self.normals = torch.nn.functional.normalize(normals, dim=1)

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = {"image": self.image[index], "normals": self.normals[index], "id": torch.tensor(index)}
        return {key: value for key, value in sample.items() if key in self.keys}


class PictureDataModule(TaskDataModule):
    """The pictures as every split."""

    def __init__(self, size: int, batch_size: int) -> None:
        super().__init__(batch_size=batch_size)
        self.size = size

    @property
    def keys_offered(self) -> Collection[str]:
        """Picture and normals."""
        return ("image", "normals")

    def build(self, split: str, keys: Collection[str]) -> Pictures:
        """The same pictures whatever the split."""
        return Pictures(self.size, keys)


def forever(data: TaskDataModule, keys: list[str]) -> Iterator[dict[str, Tensor]]:
    """Batches without end."""
    loader = data.loader(data.dataset("validation", keys=keys))
    while True:
        yield from loader


def cached(folder: Path, encoders: list[Backbone], images: Pictures) -> list[str]:
    """Writes each encoder's representations as a study does; returns their folders."""
    folders = []
    for number, encoder in enumerate(encoders):
        source = folder / f"source_{number}"
        source.mkdir()
        with torch.no_grad():
            maps = [encoder(images.image[i : i + 8]) for i in range(0, IMAGES, 8)]
        tensors = {f"map_{i}": torch.cat([m[i] for m in maps]) for i in range(len(maps[0]))}
        save_file({"id": torch.arange(IMAGES), **tensors}, representation_file(source, "validation", "image"))
        describe_representation(source, encoder, run=source)
        folders.append(str(source))
    return folders


class Step:
    """One optimizer step of a transfer on the next batch."""

    def __init__(self, module: TransferModule, batches: Iterator[dict[str, Tensor]]) -> None:
        self.module, self.batches = module.train(), batches
        self.optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-3)

    def __call__(self) -> None:
        """Forward, backward, update."""
        task_losses, _ = self.module.losses(next(self.batches))
        self.optimizer.zero_grad()
        self.module.combine(task_losses).backward()
        self.optimizer.step()


def compare(order: int, given_size: int, batch: int, rounds: int, width: int, layers: int) -> dict[str, object]:
    """Seconds of both sides at one order, their ratio, and the ratio that arithmetic allows."""
    torch.manual_seed(0)
    encoders: list[Backbone] = [TaskonomyResNet().eval() for _ in range(order)]
    data = PictureDataModule(given_size, batch)

    def head(in_channels: list[int], reductions: list[int], task: object) -> torch.nn.Module:
        from lightning_taskonomy.models.heads import DenseHead

        return DenseHead(in_channels, reductions, task, layers=layers, width=width)  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory() as name:
        folders = cached(Path(name), encoders, data.build("validation", data.keys_offered))
        live = TransferModule(TARGET, list(encoders), head=head, width=width)
        read = TransferModule(TARGET, list(folders), head=head, width=width)
        joined = RepresentationDataModule(data, folders)
        maps = [torch.rand(batch, c, given_size // r, given_size // r)
                for c, r in zip(read.backbone.out_channels, read.backbone.reductions, strict=True)]  # fmt: skip
        images, size = torch.rand(batch, 3, given_size, given_size), (given_size, given_size)

        @torch.no_grad()
        def encode() -> None:
            encoders[0](images)

        def readout() -> None:
            read.heads[TARGET](maps, size)

        seconds = interleaved(
            {
                "live": Step(live, forever(data, live.batch_keys)),
                "cached": Step(read, forever(joined, read.batch_keys)),
                "step alone": Step(read, repeat(next(forever(joined, read.batch_keys)))),
                "encoder": encode,
                "readout": readout,
            },
            rounds,
        )
    allowed = (order * seconds["encoder"] + 3 * seconds["readout"]) / (3 * seconds["readout"])
    ratio = seconds["live"] / seconds["cached"]
    return {"order": order, "head layers": layers, **{f"{k} s": v for k, v in seconds.items()},
            "ratio": ratio, "allowed": allowed, "share": ratio / allowed}  # fmt: skip


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=8)
    parser.add_argument("--size", type=int, default=128, help="pixels along each side; 128 by default")
    parser.add_argument("--batch", type=int, default=8, help="images per batch; 8 by default")
    parser.add_argument("--width", type=int, default=32, help="channels of readout and head; 32 by default")
    parser.add_argument("--layers", type=int, default=4, help="layers of the head; 4 by default, 15 in the paper")
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 2, 4], help="numbers of sources; 1 2 4 by default")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = [compare(k, given.size, given.batch, given.rounds, given.width, given.layers) for k in given.orders]
    show(rows, given.json, threads=given.threads, size=given.size, batch=given.batch, torch=torch.__version__)


if __name__ == "__main__":
    main()
