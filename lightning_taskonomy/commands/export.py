"""``export``: a trained run as one file to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import check_writable, write_text

__all__ = ["export"]

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
"""How the file of a format is called; torch itself asks for its own."""


def export(
    run: Path | list[Path],
    out: Path,
    format: Literal["onnx", "torch", "safetensors"] = "onnx",
    size: int | list[int] | None = None,
    serves: list[list[str]] | None = None,
    decode: bool = False,
    batch: int | None = None,
) -> None:
    """Write trained networks as one file to deploy: ONNX, a program of torch.export, or safetensors.

    Args:
        run: A run's folder, what an earlier export to safetensors wrote, or a list of run folders of one network each.
        out: The file: .onnx, .pt2 or .safetensors. Beside the last goes a recipe of the same name (.yaml), which builds
            the networks.
        format: What it holds. Inputs are named by their batch keys (image: RGB in [0, 1], normalised inside), outputs
            by the tasks.
        size: Height and width of the images, or one number for both; safetensors take any.
        serves: For a list of runs, the tasks that each one answers; the first that has a task if not given.
        decode: Write what a person wants (the class of each pixel, unit normals) instead of raw output.
        batch: How many images at a time; any number if not given.
    """
    import yaml

    from lightning_taskonomy.checkpoints import save_weights
    from lightning_taskonomy.modules import GroupedModule, MultiTaskModule
    from lightning_taskonomy.modules.base import BaseModule
    from lightning_taskonomy.modules.exporting import export_networks
    from lightning_taskonomy.modules.trained import described, trained

    if isinstance(run, list):
        specs = [described(path)[0] for path in run]
        model = GroupedModule.from_runs(run, serves)
    else:
        if serves is not None:
            raise InputError("serves is for a list of runs; the run of a grouping knows what each network answers")
        network = trained(run, BaseModule)
        if isinstance(network, GroupedModule):
            model, specs = network, described(run)[0]["init_args"]["networks"]
        elif isinstance(network, MultiTaskModule):
            model, specs = GroupedModule([network]), [described(run)[0]]
        else:
            raise InputError(
                f"{run} is a run of {type(network).__name__}; GroupedModule and MultiTaskModule are exported"
            )
    if out.suffix != SUFFIXES[format]:
        raise InputError(f"out {out} must end in {SUFFIXES[format]} for format {format}")
    check_writable(out)
    if format == "safetensors":
        init_args = {"networks": specs, "serves": model.serves, "drop_unused": True}
        recipe = {"model": {"class_path": "lightning_taskonomy.modules.GroupedModule", "init_args": init_args}}
        save_weights(model.deployed(), out)
        write_text(out.with_suffix(".yaml"), yaml.safe_dump(recipe, sort_keys=False))
        print(f"{out} and {out.with_suffix('.yaml')}: {', '.join(model.tasks)}")
        return
    if size is None:
        raise InputError(f"format {format} is for images of one size: give --size 256, or --size '[height, width]'")
    sides = [size, size] if isinstance(size, int) else size
    if len(sides) != 2 or min(sides) < 1:
        raise InputError(f"size {size}: give one number, or height and width, at least 1")
    if batch is not None and batch < 1:
        raise InputError(f"batch {batch}: give at least 1, or leave it out for any number")
    difference = export_networks(model, out, format, (sides[0], sides[1]), decode=decode, batch=batch)
    compared = "" if difference is None else f"; largest difference from the module's outputs {difference:.1e}"
    print(f"{out}: {', '.join(model.tasks)}{compared}")
