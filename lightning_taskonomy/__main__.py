"""``python -m lightning_taskonomy`` is the console script ``lightning-taskonomy``."""

import sys

from lightning_taskonomy.cli import main

if __name__ == "__main__":
    sys.exit(main())
