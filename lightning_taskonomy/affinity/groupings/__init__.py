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
from lightning_taskonomy.affinity.groupings.relationships import (
    Agreement,
    Relationships,
    agreement,
    relationships,
    transfer_affinity,
)
from lightning_taskonomy.affinity.groupings.selection import idle, serving
from lightning_taskonomy.affinity.groupings.significance import random_groupings
from lightning_taskonomy.affinity.groupings.table import GroupingsTable, Network, NetworkKey

__all__ = [
    "Affinities",
    "Agreement",
    "GroupingsTable",
    "Network",
    "NetworkKey",
    "Relationships",
    "agreement",
    "by_affinity",
    "candidate_groups",
    "completed",
    "early_correlation",
    "gains",
    "grown_groups",
    "higher_order",
    "idle",
    "kendall_tau",
    "max_ratio_error",
    "overestimate",
    "random_groupings",
    "relationships",
    "serving",
    "transfer_affinity",
]
