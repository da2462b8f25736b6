"""Rooms: procedural indoor scenes with exact labels, the embedded data set."""

from lightning_taskonomy.data.rooms.datamodule import RoomsDataModule
from lightning_taskonomy.data.rooms.dataset import RoomsDataset
from lightning_taskonomy.data.rooms.render import render_view

__all__ = ["RoomsDataModule", "RoomsDataset", "render_view"]
