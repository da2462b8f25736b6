"""What the links of a study of chains cost: some steps of each kind and task type timed."""

from collections import defaultdict
from dataclasses import replace
from statistics import fmean

from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.influence.plan import InfluencePlan
from lightning_taskonomy.studies.probe import probe_fit
from lightning_taskonomy.studies.runs import RunSpec

__all__ = ["probes"]


def probes(plan: InfluencePlan) -> dict[str, Probe]:
    """Times some steps of a first link, and of a source and a chain of each task; only prepared data are kept.

    Args:
        plan: The runs under the first seed. A kind of job costs the mean over its runs.
    """
    plan = replace(plan, settings=plan.settings.but(normalise=False))  # colours are not measured yet
    runs = [*plan.firsts().values()]
    runs += [run for name, setting in plan.trained_sources() for run in plan.source_runs(name, setting).values()]
    runs += [run for chain in plan.chains() for run in plan.chain_runs(chain).values()]
    costs: dict[tuple[str, str, int], Probe] = {}
    of_runs: defaultdict[str, list[Probe]] = defaultdict(list)
    for run in runs:
        key = run.kind, str(run.entry.tasks), int(run.config["trainer"]["max_steps"])
        if key not in costs:
            costs[key] = _probe(run)
        of_runs[run.kind].append(costs[key])
    return {
        kind: Probe(seconds=fmean(one.seconds for one in probed), disk=probed[0].disk)
        for kind, probed in of_runs.items()
    }


def _probe(run: RunSpec) -> Probe:
    """A run timed as if it started at random, since what it starts from may not be there yet."""
    return probe_fit(run.job(test=False))
