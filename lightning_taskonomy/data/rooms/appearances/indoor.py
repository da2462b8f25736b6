"""Furnished rooms at eye level: what Rooms renders unless another appearance is asked for."""

from lightning_taskonomy.data.rooms.appearances.base import Appearance
from lightning_taskonomy.data.rooms.camera import choose
from lightning_taskonomy.data.rooms.scene import build_room

APPEARANCE = Appearance(build_room, choose, keys=None)
