"""What every test runs under: one thread, no screen, no network logger, fixed seeds."""

import os
import random
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and NumPy are imported
os.environ["MPLBACKEND"] = "Agg"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("calm", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")  # the same examples everywhere, however busy the machine


@pytest.fixture(autouse=True)
def _seeded():
    """The same random numbers whichever tests run before; torch only where a test has imported it."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # left by a fit, and taken up by every process of a later one
        os.environ.pop(name, None)
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def rooms(tmp_path_factory):
    """The description of a few rooms of 32 pixels, as a recipe has it; what was rendered is kept for the session."""
    init_args = {
        "size": 32, "samples": 1, "views": 2, "train_buildings": 4, "validation_buildings": 4, "test_buildings": 4,
        "batch_size": 4, "cache": str(tmp_path_factory.mktemp("rooms")),
    }  # fmt: skip
    return {"class_path": "lightning_taskonomy.data.RoomsDataModule", "init_args": init_args}


@pytest.fixture(scope="session")
def tiny_backbone():
    """The description of the smallest backbone."""
    init_args = {"name": "test_resnet", "channels": 8, "output_stride": 8}
    return {"class_path": "lightning_taskonomy.models.backbones.TaskonomyResNet", "init_args": init_args}


@pytest.fixture(scope="session")
def tiny_fit(rooms, tiny_backbone):
    """Makes the configuration of a small fit of some tasks."""

    def make(*tasks, epochs=1, **init_args):
        light = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
        heads = dict.fromkeys(("dense", "normals", "segmentation"), light)
        return {
            "seed_everything": 3,
            "model": {
                "class_path": "lightning_taskonomy.modules.MultiTaskModule",
                "init_args": {"tasks": list(tasks), "backbone": tiny_backbone, "heads": heads, **init_args},
            },
            "data": rooms,
            "trainer": {
                "max_epochs": epochs, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
                "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
                "limit_val_batches": 0,
            },
        }  # fmt: skip

    return make
