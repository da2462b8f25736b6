"""Which task helps which: from per-image scores to a table of transfers, and what can be read from it. NumPy only."""

from lightning_taskonomy.affinity.ahp import affinity_to_distance, ahp
from lightning_taskonomy.affinity.higher_order import candidates
from lightning_taskonomy.affinity.pickles import read_pickles
from lightning_taskonomy.affinity.table import Transfer, TransferKind, TransfersTable
from lightning_taskonomy.affinity.tournament import NetworkScores, measure_target
from lightning_taskonomy.affinity.win_rates import tournament, win_rate

__all__ = [
    "NetworkScores",
    "Transfer",
    "TransferKind",
    "TransfersTable",
    "affinity_to_distance",
    "ahp",
    "candidates",
    "measure_target",
    "read_pickles",
    "tournament",
    "win_rate",
]
