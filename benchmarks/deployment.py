"""A deployed ``GroupedModule``, with the sum of its encoders' and used decoders' latencies.

Each part is timed on its own, on features that were computed before; the whole and the parts take turns. Helpers, tasks
that a network was trained on and another one answers, are among the tasks of the networks and must cost nothing.
"""

import torch
from _timing import interleaved, options, show

from lightning_taskonomy import GroupedModule, MultiTaskModule, TimmBackbone

GROUPS = (("depth_z", "normals", "edges_occlusion"), ("semantic_segmentation", "normals"), ("keypoints_2d",))
SERVES = (("depth_z", "edges_occlusion"), ("semantic_segmentation", "normals"), ("keypoints_2d",))


def compare(backbone: str, rounds: int, size: int, count: int) -> dict[str, object]:
    """Median milliseconds of the whole and of its parts together, and their ratio."""
    torch.manual_seed(0)
    networks = [MultiTaskModule(list(group), TimmBackbone(backbone)) for group in GROUPS]
    model = GroupedModule(networks, [list(names) for names in SERVES]).deployed()
    batch = {"image": torch.rand(count, 3, size, size)}
    sides = {"whole": lambda: model(batch)}
    for index, network in enumerate(model.networks):
        features = network.encode(batch, "image")
        sides[f"encoder {index}"] = lambda network=network: network.encode(batch, "image")
        for name, task in network.tasks.items():
            sides[f"decoder {name}"] = lambda network=network, task=task, features=features: network.predict_task(
                task, features, (size, size)
            )
    times = interleaved(sides, rounds, warmup=5)
    whole = times.pop("whole")
    parts = sum(times.values())
    encoders = sum(seconds for name, seconds in times.items() if name.startswith("encoder"))
    return {
        "backbone": backbone, "batch": count, "whole ms": 1e3 * whole, "encoders ms": 1e3 * encoders,
        "decoders ms": 1e3 * (parts - encoders), "ratio": whole / parts,
    }  # fmt: skip


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=60)
    parser.add_argument("--size", type=int, default=128, help="pixels along each side; 128 by default")
    parser.add_argument("--backbone", default="resnet18", help="a name of timm; resnet18 by default")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with torch.inference_mode():
        rows = [compare(args.backbone, args.rounds, args.size, count) for count in (1, 8)]
    show(rows, args.json, threads=args.threads, size=args.size, rounds=args.rounds, torch=torch.__version__)


if __name__ == "__main__":
    main()
