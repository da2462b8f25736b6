"""One tiny study of rooms, finished once for all tests."""

import pytest

from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.taxonomy import TaxonomyStudy


@pytest.fixture(scope="session")
def tiny_settings(rooms, tiny_backbone):
    """What the study is made of: two targets, a source-only task that reads another input, orders 1 and 2."""
    light = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
    return {
        "tasks": ["depth_z", "normals", "colorization"],
        "data": rooms,
        "backbone": tiny_backbone,
        "heads": {"dense": light, "normals": light, "segmentation": light},
        "transfer_width": 8,
        "scheduler": {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.7}},
        "trainer": {"accelerator": "cpu"},
        "epochs": 3,
        "transfer_epochs": 2,
        "transfer_size": 6,
        "max_order": 2,
        "beam": 2,
        "controls": [("depth_z", "normals")],
        "random_taxonomies": 10,
        "examples": 1,
        "checkpoint_seconds": 0,
    }


@pytest.fixture(scope="session")
def finished(tiny_settings, tmp_path_factory):
    """The folder and the results of an unbroken study."""
    out = tmp_path_factory.mktemp("study") / "whole"
    return out, TaxonomyStudy(**tiny_settings).run(out, execution=LocalExecutor(workers=0))
