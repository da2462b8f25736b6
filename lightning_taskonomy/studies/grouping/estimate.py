"""What the networks of a grouping study cost: the largest and the smallest timed, those between by their tasks."""

from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.grouping.plan import Candidate, GroupingPlan
from lightning_taskonomy.studies.probe import probe_fit

__all__ = ["probes"]


def probes(plan: GroupingPlan) -> dict[str, Probe]:
    """Times a few steps of full-size networks of one task and of all, each with its own stream of batches.

    The time of other networks lies between by their number of tasks. Loading is counted for each, which one stream for
    many saves; and training that stops early is counted to the end.

    Args:
        plan: The runs of the first seed.
    """
    statistics = {name: [0.0, 1.0] for name, task in plan.tasks.items() if not task.is_classes}
    encoders = dict.fromkeys(plan.sizes(), plan.settings.backbone)
    everything = tuple(plan.tasks)
    fits = [plan.run(Candidate(group), statistics, encoders).job() for group in (everything[:1], everything)]
    probe_fit(fits[1])  # a first run loads and prepares what the others use
    one, all_of_them = map(probe_fit, fits)
    networks = [*plan.first(), *plan.compared()]
    step = (all_of_them.seconds - one.seconds) / max(len(everything) - 1, 1)
    seconds = sum(one.seconds + step * (len(network.tasks) - 1) for network in networks)
    jobs = -(-len(networks) // plan.settings.side_by_side)
    return {"networks": Probe(seconds=seconds / jobs, disk=all_of_them.disk * len(networks) // jobs)}
