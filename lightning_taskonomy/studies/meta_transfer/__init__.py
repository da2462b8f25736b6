"""The Task Meta-Transfer study: does it help, where, and against which baselines?"""

from lightning_taskonomy.studies.meta_transfer.settings import Case, Network
from lightning_taskonomy.studies.meta_transfer.study import MetaTransferStudy

__all__ = ["Case", "MetaTransferStudy", "Network"]
