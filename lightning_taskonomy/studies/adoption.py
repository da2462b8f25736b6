"""Folders that an earlier release named: taken over under the names they have now, so that nothing is trained again.

Before ``study.json`` a folder's name ended in a hash of the whole configuration, loader workers and caches included.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_taskonomy.files import write_text
from lightning_taskonomy.studies.graph import Job, Stage

__all__ = ["Adoption"]

_LOG = logging.getLogger(__name__)
_NAMES = re.compile(r"(?:runs|representations)/[^\s\"',/]+-[0-9a-f]{10}")


class Adoption:
    """Renames what an earlier release left in a study's folder, stage by stage.

    Args:
        folder: The study's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, str] = {}
        """Names that folders have now, and had then."""

    def take_over_all(self, stages: Iterable[Stage]) -> None:
        """Renames what can be told before anything runs: later stages depend on results of earlier ones."""
        done = True
        for stage in stages:
            if stage.expected is None or done:
                jobs = list(stage.jobs())
                self.take_over(jobs)
                done = done and all(file.is_file() for job in jobs for file in job.done)

    def take_over(self, jobs: Iterable[Job]) -> None:
        """Renames the folders of some jobs; those of the jobs that they need were taken over before."""
        renamed = []
        for job in jobs:
            for hashed in job.hashed_folders:
                now, before = hashed.folder, hashed.folder.with_name(f"{hashed.stem}-{self._hash(hashed.content)}")
                self._names[str(now.relative_to(self.folder))] = str(before.relative_to(self.folder))
                if before != now and before.is_dir() and not now.exists():
                    before.rename(now)
                    renamed.append(now)
        now_of = {before: now for now, before in self._names.items()}
        for config in (folder / "config.yaml" for folder in renamed):
            if config.is_file():
                write_text(config, _NAMES.sub(lambda name: now_of.get(name[0], name[0]), config.read_text("utf-8")))
        if renamed:
            _LOG.info("%s: %d folders of an earlier release are taken over", self.folder, len(renamed))

    def _hash(self, content: Any) -> str:
        """The hash as it was taken then."""
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
        text = _NAMES.sub(lambda name: self._names.get(name[0], name[0]), text)
        return hashlib.sha256(text.replace(str(self.folder), "$STUDY").encode()).hexdigest()[:10]
