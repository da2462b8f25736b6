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


@pytest.fixture(autouse=True)
def _seeded():
    """The same random numbers whichever tests run before; torch only where a test has imported it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
