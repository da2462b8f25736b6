"""A run is named by what it is made of: the hash of its configuration."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_taskonomy.studies.engine import Job

__all__ = ["QUIET", "RunSpec", "content_hash"]

QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
"""Arguments of the Trainer of a run among many, of which the study itself shows the progress."""


def content_hash(content: Any, root: Path) -> str:
    """Ten hexadecimal digits of plain data; the study's own folder does not count, so that it may be moved."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.replace(str(root), "$STUDY").encode()).hexdigest()[:10]


@dataclass(frozen=True)
class RunSpec:
    """One training run of a study.

    Args:
        kind: ``task_specific``, ``scratch``, ``transfer``, ...
        name: What a person calls it: ``normals``, ``normals<-depth_z+edges_2d``.
        config: What ``fit --config`` takes.
        root: The study's folder.
    """

    kind: str
    name: str
    config: dict[str, Any]
    root: Path

    @property
    def folder(self) -> Path:
        """The run's folder: kind, name and hash."""
        slug = re.sub(r"[^\w+<-]+", "-", self.name).replace("<-", "-from-")[:80]
        return self.root / "runs" / f"{self.kind}-{slug}-{content_hash(self.config, self.root)}"

    def job(self, checkpoint_seconds: float, test: bool = True) -> Job:
        """The job that fits it, and tests or only validates it."""
        kwargs = {"config": self.config, "folder": str(self.folder), "checkpoint_seconds": checkpoint_seconds}
        kwargs |= {} if test else {"test": False}
        return Job(self.kind, self.name, "lightning_taskonomy.training.execute", kwargs, self.folder / "metrics.json")
