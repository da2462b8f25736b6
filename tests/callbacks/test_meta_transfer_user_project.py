"""The one-file project of docs/meta_transfer.md: a user's own LightningModule, trained by trainer.fit."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FILE = DOCS / "examples" / "my_meta_transfer.py"


@pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`:UserWarning")
def test_the_project_learns_its_masks():
    spec = importlib.util.spec_from_file_location("my_meta_transfer", FILE)
    project = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(project)
    assert project.main() > 0.7  # nothing learned: 0.2, all of the picture


def test_the_page_shows_the_file():
    assert FILE.read_text().strip() in (DOCS / "meta_transfer.md").read_text()
