"""How many images does a task need? A study of one's own: its jobs and its table are all there is to write.

PYTHONPATH=. lightning-taskonomy study --config my_study.yaml
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from lightning_taskonomy import Job, RunSpec, Stage, Study
from lightning_taskonomy.studies.runs import QUIET
from lightning_taskonomy.studies.specs import BackboneSpec, DataSpec


@dataclass(frozen=True)
class LearningCurve(Study):
    """The test metric of a task by the number of images that it is trained on.

    Args:
        task: A name of the catalog or a dotted path.
        metric: The test metric, such as ``mae``.
        data: The data module's class and arguments.
        backbone: The backbone's class and arguments.
        sizes: Numbers of training images.
        seeds: The seeds of each.
        epochs: Of each fit.
    """

    task: str
    metric: str
    data: DataSpec
    backbone: BackboneSpec
    sizes: list[int]
    seeds: list[int] = field(default_factory=lambda: [0])
    epochs: int = 5

    tables: ClassVar[Mapping[str, str]] = {"curve": "curve.csv"}

    def fits(self, folder: Path) -> dict[tuple[int, int], RunSpec]:
        """A network per size and seed."""
        runs = {}
        for size, seed in product(self.sizes, self.seeds):
            model = {"tasks": [self.task], "backbone": self.backbone}
            data = {**self.data["init_args"], "fit_size": size, "seed": seed}
            config = {
                "seed_everything": seed,
                "model": {"class_path": "lightning_taskonomy.MultiTaskModule", "init_args": model},
                "data": {**self.data, "init_args": data},
                "trainer": {**QUIET, "max_epochs": self.epochs},
            }
            runs[size, seed] = RunSpec("fit", f"{self.task} on {size}, seed {seed}", config, folder)
        return runs

    def jobs(self, folder: Path) -> list[Job]:
        """What is to be done."""
        return [run.job() for run in self.fits(folder).values()]

    def stages(self, folder: Path) -> Sequence[Stage]:
        """All of it can be planned at once."""
        return [Stage(name="fits", jobs=lambda: self.jobs(folder))]

    def analyse(self, folder: Path) -> Iterator[tuple[str, Any]]:
        """A row per finished fit."""
        done = {at: json.loads(run.done.read_text()) for at, run in self.fits(folder).items() if run.is_done}
        rows = [[*at, metrics[f"test/{self.task}/{self.metric}"]] for at, metrics in done.items()]
        yield "curve.csv", (["images", "seed", self.metric], rows)
