"""The report of a Task Meta-Transfer study."""

from lightning_taskonomy.reports.meta_transfer.report import MetaTransferReport

__all__ = ["MetaTransferReport"]
