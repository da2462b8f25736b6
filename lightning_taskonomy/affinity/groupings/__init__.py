"""Which tasks should be learned together: losses of networks of several tasks, and what can be read from them."""

from lightning_taskonomy.affinity.groupings.affinities import Affinities, by_affinity
from lightning_taskonomy.affinity.groupings.approximations import (
    completed,
    early_correlation,
    gains,
    higher_order,
    kendall_tau,
    max_ratio_error,
    overestimate,
)
from lightning_taskonomy.affinity.groupings.candidates import candidate_groups, grown_groups
from lightning_taskonomy.affinity.groupings.costs import Batch, Unit, priced
from lightning_taskonomy.affinity.groupings.equal_cost import EqualCost, equal_cost
from lightning_taskonomy.affinity.groupings.relationships import (
    Agreement,
    Relationships,
    agreement,
    relationships,
    transfer_affinity,
)
from lightning_taskonomy.affinity.groupings.selection import idle, serving
from lightning_taskonomy.affinity.groupings.significance import random_groupings
from lightning_taskonomy.affinity.groupings.table import Footprint, GroupingsTable, Network, NetworkKey

__all__ = [
    "Affinities",
    "Agreement",
    "Batch",
    "EqualCost",
    "Footprint",
    "GroupingsTable",
    "Network",
    "NetworkKey",
    "Relationships",
    "Unit",
    "agreement",
    "by_affinity",
    "candidate_groups",
    "completed",
    "early_correlation",
    "equal_cost",
    "gains",
    "grown_groups",
    "higher_order",
    "idle",
    "kendall_tau",
    "max_ratio_error",
    "overestimate",
    "priced",
    "random_groupings",
    "relationships",
    "serving",
    "transfer_affinity",
]
