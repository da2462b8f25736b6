"""What the finished runs of a study of chains say, as rows of plain data."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.base import Table
from lightning_taskonomy.studies.influence.plan import InfluencePlan

__all__ = ["CHAINS", "SOURCES", "influence_tables"]

CHAINS = ("target", "source", "kind", "setting", "seed", "metric", "higher_is_better", "value")
"""Of ``chains.csv``: a row per tested chain."""
SOURCES = ("source", "set", "domain", "type", "images", "pool", "setting", "rate", "metric", "validation", "seconds")
"""Of ``sources.csv``: a row per source model, at the learning rate that was selected."""


def influence_tables(plans: Sequence[InfluencePlan], features: int) -> Iterator[tuple[str, Table | Any]]:
    """The tables of a study.

    Args:
        plans: The runs under each seed.
        features: Images by which data sets are compared.

    Raises:
        InputError: No chain is tested.
    """
    rows = [row for plan in plans for row in _chain_rows(plan)]
    if not rows:
        raise InputError(f"{plans[0].root} holds no tested chain; run stages 'chains' and 'test', or see failures.json")
    yield "chains.csv", (CHAINS, rows)


def _chain_rows(plan: InfluencePlan) -> Iterator[list[Any]]:
    for chain in plan.chains():
        run, task = plan.kept(chain), plan.tasks[chain.target]
        tested = run.folder / "test.json"
        if tested.is_file():
            name, higher = task.metric
            yield [
                chain.target, chain.source, chain.kind, chain.setting, plan.settings.seed, name, int(higher),
                json.loads(tested.read_text())[task.logged("test")],
            ]  # fmt: skip
