"""The Taskonomy data set (Zamir et al., CVPR 2018) in the layout of its official download."""

from lightning_taskonomy.data.taskonomy.datamodule import TaskonomyDataModule

__all__ = ["TaskonomyDataModule"]
