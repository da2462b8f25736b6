"""Weights, multiply-adds and latency of the grouping paper's networks at all its sizes, beside its figures.

``Xception`` and ``XceptionHead`` at 256 x 256 pixels; encoders of other sizes are what ``shrunk`` makes of the full
one, as in a study. The paper ("Which Tasks Should Be Learned Together in Multi-task Learning?", section 4.2) has about
4 million weights, 2.28 G multiply-adds and 4 ms on an RTX 2080 Ti for the full size, 116,000 weights for a decoder.
All parts take turns.
"""

from dataclasses import asdict
from typing import Any

import torch
from _timing import options, show

from lightning_taskonomy.models.backbones import Backbone, Xception, shrunk
from lightning_taskonomy.models.cost import measure_inference
from lightning_taskonomy.models.heads import Head, XceptionHead
from lightning_taskonomy.tasks import find

SIZES = {"1": 1.0, "4/5": 0.8, "3/5": 0.6, "1/2": 0.5, "2/5": 0.4, "1/3": 1 / 3, "1/4": 0.25, "1/5": 0.2, "1/10": 0.1}
TASKS = ["semantic_segmentation", "depth_z", "normals"]
PAPER = {"weights": 4.0e6, "multiply_adds": 2.28e9, "decoder": 116e3}


def build(spec: dict[str, Any]) -> Backbone:
    """The encoder of a description."""
    return Xception(**spec["init_args"])


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--size", type=int, default=256, help="pixels along each side; 256 by default")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; cpu by default")
    args = parser.parse_args()
    image = (args.size, args.size)
    torch.manual_seed(0)
    widths: dict[float, float] = {}
    networks: dict[float, tuple[Backbone, dict[str, Head]]] = {}
    tasks = {name: find(name) for name in TASKS}
    for share in SIZES.values():
        spec = shrunk({"class_path": "Xception", "init_args": {"width": 1.0}}, share, image, build)
        encoder, widths[share] = build(spec), spec["init_args"]["width"]
        read = (encoder.out_channels, encoder.reductions)
        heads: dict[str, Head] = {name: XceptionHead(*read, task) for name, task in tasks.items()} if share == 1 else {}
        networks[share] = (encoder, heads)
    costs = measure_inference(
        networks, image, tasks=tasks, device=args.device, threads=args.threads, repeats=args.rounds, warm_up=1
    )
    names = {share: name for name, share in SIZES.items()}
    full = costs.rows[0]
    rows = []
    for row in costs.rows:
        weights = PAPER["decoder"] if row.task else PAPER["weights"] * row.size
        rows.append(
            {
                "part": row.task or names[row.size],
                "width": "" if row.task else widths[row.size],
                "weights": row.weights,
                "of full": row.weights / full.weights,
                "paper": weights,
                "G multiply-adds": row.multiply_adds / 1e9,
                "SNT": row.snt,
                "G in the paper": "" if row.task else PAPER["multiply_adds"] * row.size / 1e9,
                "ms, 1": row.latency_1,
                "ms, 32": row.latency_32,
                "time of full": row.latency_1 / full.latency_1,
                "MiB": row.memory / 2**20,
            }
        )
    show(rows, args.json, image=args.size, **asdict(costs.machine))


if __name__ == "__main__":
    main()
