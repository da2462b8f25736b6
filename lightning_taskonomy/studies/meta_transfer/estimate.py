"""What the fits of a Task Meta-Transfer study cost: whole cycles of each method timed, at each length of training."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.meta_transfer.selection import Selection
from lightning_taskonomy.studies.probe import probe_fit

__all__ = ["probes"]


def probes(selections: Sequence[Selection]) -> dict[str, Probe]:
    """Times some cycles of one meta and k auxiliary steps of each method; only data that are prepared once are kept.

    Args:
        selections: The study's cells. A method whose runs are of several lengths costs the mean over its runs.
    """
    cells = [(one, cell) for one in selections for cell in one.cells()]
    runs = [point.fit.run for one, cell in cells for point in one.candidates(cell) or [one.expected(cell)]]
    costs: dict[Any, Probe] = {}
    of_runs: defaultdict[str, list[Probe]] = defaultdict(list)
    for run in {run.folder: run for run in runs}.values():
        data, trainer = run.config["data"]["init_args"], run.config["trainer"]
        key = run.kind, data["steps"], trainer["max_epochs"]
        if key not in costs:
            cycle = (1 + int(data["auxiliary_steps"])) * int(trainer.get("accumulate_grad_batches", 1))
            if not costs:
                probe_fit(run.job(test=False), cycle)  # a first run loads and prepares what the others use
            costs[key] = probe_fit(run.job(test=False), cycle)
        of_runs[run.kind].append(costs[key])
    return {
        kind: Probe(seconds=fmean(one.seconds for one in probed), disk=probed[0].disk)
        for kind, probed in of_runs.items()
    }
