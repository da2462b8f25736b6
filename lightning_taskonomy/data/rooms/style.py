"""Colours of a building: its rooms share paint, wood and cloth."""

import colorsys

import numpy as np

from lightning_taskonomy.data.rooms.primitives import Color

__all__ = ["Style", "gray", "hsv"]


def hsv(hue: float, saturation: float, value: float) -> Color:
    """(3,) sRGB of a hue (any real number), saturation and value in [0, 1]."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)))


def gray(value: float) -> Color:
    """(3,) a grey."""
    return np.full(3, value)


class Style:
    """Draws colours that go together.

    Args:
        rng: The building's generator, used for what its rooms share.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.paint_hues = rng.choice([0.02, 0.08, 0.11, 0.14, 0.3, 0.45, 0.55, 0.6, 0.9], 3, replace=False)
        self.wood_hue, self.wood_value = rng.uniform(0.05, 0.1), rng.uniform(0.4, 0.85)
        self.cloth_hue = rng.random()
        self.floor = int(rng.integers(4))

    def paint(self, rng: np.random.Generator) -> Color:
        """A wall's colour: light, little saturated."""
        return hsv(rng.choice(self.paint_hues) + rng.normal(0, 0.02), rng.uniform(0.03, 0.32), rng.uniform(0.72, 0.95))

    def wood(self, rng: np.random.Generator) -> Color:
        """A wood's colour."""
        value = self.wood_value + rng.normal(0, 0.08)
        return hsv(self.wood_hue + rng.normal(0, 0.008), rng.uniform(0.3, 0.6), value)

    def cloth(self, rng: np.random.Generator) -> Color:
        """A fabric's or small thing's colour."""
        hue = self.cloth_hue + rng.choice([0.0, 0.08, 0.5, 0.58]) if rng.random() < 0.6 else rng.random()
        return hsv(hue + rng.normal(0, 0.02), rng.uniform(0.12, 0.62), rng.uniform(0.35, 0.88))
