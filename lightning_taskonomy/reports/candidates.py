"""How the networks of a groupings table were trained, as the folder of their study says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_taskonomy.configurations import Spec
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports.reading import read_json

__all__ = ["CandidateTraining"]


@dataclass(frozen=True, kw_only=True)
class CandidateTraining:
    """How candidate networks were trained; empty for a table without a study.

    Args:
        settings: The study's settings, as its recipe has them.
        encoders: The encoders by size.
        statistics: Mean and deviation of the labels by task, where they are numbers.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    encoders: Mapping[float, Spec] = field(default_factory=dict)
    statistics: Mapping[str, list[float]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "CandidateTraining":
        """What a study's folder says.

        Args:
            folder: The folder; one without encoders by size gives the settings alone.

        Raises:
            InputError: It is not a study's folder, or a file of it is damaged.
        """
        encoders = read_json(folder / "backbones.json", dict, {})
        measured = read_json(folder / "statistics.json", dict, {})
        return cls(
            settings=Manifest.read(folder).settings,
            encoders={float(size): spec for size, spec in encoders.items()},
            statistics={name: [row["mean"], row["std"]] for name, row in measured.items() if "std" in row},
        )
