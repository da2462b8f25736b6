"""``import lightning_taskonomy`` in a fresh process, with a process that imports nothing and one that imports torch."""

import subprocess
import sys
from functools import partial

from _timing import interleaved, options, show

STATEMENTS = {
    "nothing": "pass",
    "import lightning_taskonomy": "import lightning_taskonomy",
    "import lightning_taskonomy.cli": "import lightning_taskonomy.cli",
    "import lightning_taskonomy.solvers": "import lightning_taskonomy.solvers",
    "import lightning_taskonomy.reports": "import lightning_taskonomy.reports",
    "import torch": "import torch",
}


def main() -> None:
    """Measures and prints."""
    given = options(__doc__, rounds=5).parse_args()
    run = partial(subprocess.run, check=True)
    seconds = interleaved(
        {name: partial(run, [sys.executable, "-c", code]) for name, code in STATEMENTS.items()}, given.rounds, warmup=1
    )
    rows = [
        {"process": name, "seconds": value, "seconds beyond nothing": value - seconds["nothing"]}
        for name, value in seconds.items()
    ]
    show(rows, given.json, rounds=given.rounds)


if __name__ == "__main__":
    main()
