"""Task Meta-Transfer as a callback."""

from lightning_taskonomy.callbacks.meta_transfer.callback import TaskMetaTransfer

__all__ = ["TaskMetaTransfer"]
