"""What the fits of a Task Meta-Transfer study cost: whole cycles of each method timed."""

from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.meta_transfer.selection import Selection
from lightning_taskonomy.studies.probe import probe_fit

__all__ = ["probes"]


def probes(selection: Selection) -> dict[str, Probe]:
    """Times some cycles of one meta and k auxiliary steps of each method; only data that are prepared once are kept.

    Args:
        selection: The study's cells.
    """
    costs: dict[str, Probe] = {}
    for cell in selection.cells():
        if cell.method in costs:
            continue
        run = selection.candidates(cell)[0].fit.run
        steps = 1 + int(run.config["data"]["init_args"]["auxiliary_steps"])
        cycle = steps * int(run.config["trainer"].get("accumulate_grad_batches", 1))
        if not costs:
            probe_fit(run.job(test=False), cycle)  # a first run loads and prepares what the others use
        costs[cell.method] = probe_fit(run.job(test=False), cycle)
    return costs
