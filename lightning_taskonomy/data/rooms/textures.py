"""Procedural textures: the colour of a surface at a point.

Detail finer than a pixel's footprint fades out, so that far surfaces do not alias. Value noise on a hashed lattice.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.rooms.compiled import compiled
from lightning_taskonomy.data.rooms.primitives import HX, RED, RED2, SCALE, SEED, TEXTURE

__all__ = [
    "BOOKS", "BRICK", "CHECK", "FABRIC", "LEAF", "MARBLE", "PICTURE", "PLAIN", "PLANKS", "RUG", "SKY", "STRIPE", "TILE",
    "WOOD", "albedo",
]  # fmt: skip

PLAIN, WOOD, PLANKS, TILE, BRICK, STRIPE, CHECK, MARBLE, FABRIC, PICTURE, BOOKS, RUG, SKY, LEAF = range(14)


@compiled
def _random(a: float, b: float) -> float:
    """A number in [0, 1) that belongs to the lattice point (a, b)."""
    h = int(a) * 374761393 + int(b) * 668265263 + 1013904223
    h = (h ^ (h >> 13)) * 1274126177
    h = (h ^ (h >> 17)) * 1103515245
    h = h ^ (h >> 15)
    return (h & 0xFFFFFF) / 16777216.0


@compiled
def _noise(u: float, v: float) -> float:
    """Value noise in [0, 1)."""
    a, b = math.floor(u), math.floor(v)
    x, y = u - a, v - b
    x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
    low = _random(a, b) * (1 - x) + _random(a + 1, b) * x
    return low * (1 - y) + (_random(a, b + 1) * (1 - x) + _random(a + 1, b + 1) * x) * y


@compiled
def _detail(u: float, v: float, frequency: float, pixel: float) -> float:
    """Noise about zero of that frequency per metre, faded where a pixel covers more than half a period."""
    fade = 1.0 - 1.2 * frequency * pixel
    return (_noise(u * frequency, v * frequency) - 0.5) * fade if fade > 0 else 0.0


@compiled
def _line(a: float, width: float, pixel: float) -> float:
    """How much of a pixel around ``a`` lies on the lines at the integers, each of that width, in periods."""
    x = a - math.floor(a)
    x = min(x, 1 - x)
    soft = max(pixel, 1e-3)
    return min(max((width / 2 - x) / soft + 0.5, 0.0), 1.0) * min(1.0, width / soft + 0.2)


@compiled
def albedo(
    prims: NDArray[np.float64], i: int, u: float, v: float, x: float, y: float, z: float, pixel: float
) -> tuple[float, float, float]:
    """The sRGB colour of primitive i.

    Args:
        prims: The table of primitives.
        i: Its row.
        u: Texture coordinate in metres.
        v: Texture coordinate in metres.
        x: Position in the unit shape, -1 to 1.
        y: Likewise.
        z: Likewise.
        pixel: Width of a pixel on the surface in metres.

    Returns:
        Red, green, blue in [0, 1].
    """
    r, g, b = prims[i, RED], prims[i, RED + 1], prims[i, RED + 2]
    r2, g2, b2 = prims[i, RED2], prims[i, RED2 + 1], prims[i, RED2 + 2]
    kind, s, seed = int(prims[i, TEXTURE]), prims[i, SCALE], prims[i, SEED]
    k, w = 1.0, 0.0  # factor on the first colour, share of the second
    if kind == PLAIN:
        k = 1 + 0.08 * _detail(u + seed, v, 3.0, pixel)
    elif kind in (WOOD, PLANKS):
        if kind == WOOD and prims[i, HX + 1] > prims[i, HX]:
            u, v = v, u  # the grain runs up tall things
        if kind == PLANKS:
            row = math.floor(v * 8)
            along = u * 0.9 + _random(row, seed) * 7
            piece = _random(row, math.floor(along) + 31)
            k = (0.8 + 0.35 * piece) * (1 - 0.55 * max(_line(v * 8, 0.05, pixel * 8), _line(along, 0.01, pixel * 0.9)))
        else:
            piece = seed
        stretched = _noise(u * 2.5 + piece * 50, v * 40 + piece * 9) - 0.5
        k *= 0.95 + stretched * 0.4 * max(0.0, 1 - 30 * pixel) + 0.5 * _detail(u * 0.05 + seed, v, 110.0, pixel)
    elif kind == TILE:
        k = 0.88 + 0.24 * _random(math.floor(u * s), math.floor(v * s)) + 0.06 * _detail(u, v, 20.0, pixel)
        w = max(_line(u * s, 0.06, pixel * s), _line(v * s, 0.06, pixel * s))
    elif kind == BRICK:
        row = math.floor(v * 12)
        a = u * 4.5 + 0.5 * (row % 2)
        k = (0.75 + 0.5 * _random(math.floor(a), row)) * (1 + 0.5 * _detail(u, v, 60.0, pixel))
        w = max(_line(a, 0.06, pixel * 4.5), _line(v * 12, 0.16, pixel * 12))
    elif kind == STRIPE:
        a = u * s
        a -= math.floor(a)
        w = min(max((0.25 - abs(a - 0.5)) / max(pixel * s, 1e-3) + 0.5, 0.0), 1.0)
    elif kind == CHECK:
        w = 0.5 if pixel * s > 0.7 else (math.floor(u * s) + math.floor(v * s)) % 2
    elif kind == MARBLE:
        a, c = u + seed, v
        warp = _noise(a * 2, c * 2) + 0.5 * _noise(a * 5, c * 5) + 0.25 * _noise(a * 13, c * 13)
        w = (1 - abs(math.sin((a + warp * 1.6) * 7))) ** 3
    elif kind == FABRIC:
        weave = math.sin(u * 260) * math.sin(v * 260) if pixel < 0.01 else 0.0
        k = 0.92 + 0.12 * weave + 0.3 * _detail(u + seed, v, 25.0, pixel) + 0.15 * _detail(u, v + seed, 4.0, pixel)
    elif kind == PICTURE:
        a, c = u * s, v * s
        w = min(max((_noise(a * 2 + seed, c * 2) + 0.5 * _noise(a * 6, c * 6 + seed)) * 1.5 - 0.55, 0.0), 1.0)
        if (a - math.sin(seed) * 0.5) ** 2 + (c - math.cos(seed * 3) * 0.4) ** 2 < 0.12 + 0.1 * math.sin(seed * 7):
            return 1 - r2, 1 - g2, 1 - b2
        if c < -0.35 + 0.2 * math.sin(a * 2 + seed):
            k, w = 0.5, w * 0.4
    elif kind == BOOKS:
        a = u * 28 + seed
        c = math.floor(a)
        r, g, b = _random(c, seed) * 0.75 + 0.08, _random(c, seed + 2) * 0.6 + 0.08, _random(c, seed + 4) * 0.6 + 0.08
        height = 0.7 + 0.3 * _random(c, seed + 9)
        k = 1 - 0.7 * _line(a, 0.14, pixel * 28)
        if y * 0.5 + 0.5 > height:
            k = 0.12
        elif abs(y + 0.3 - 0.3 * _random(c, seed + 6)) < 0.09:
            k *= 1.5
    elif kind == RUG:
        e = max(abs(x), abs(z))
        w = (math.floor(e * 9) % 2) * 0.6
        if _noise(u * 9 + seed, v * 9) > 0.55:
            w += 0.4
    elif kind == SKY:
        h = _noise(u * 4 + seed, v * 4) * 0.3
        if y * 0.5 + 0.5 > 0.25 + h * 0.7:
            return 0.80 + 0.1 * h, 0.9 + 0.1 * h, 1.0
        k = 0.75 + h + 0.8 * _detail(u, v + seed, 30.0, pixel)
        return 0.42 * k, 0.55 * k, 0.33 * k
    elif kind == LEAF:
        k = 0.55 + 0.9 * _noise(u * s + seed, v * s) + 0.4 * _detail(u, v, 60.0, pixel)
    r, g, b = r * k * (1 - w) + r2 * w, g * k * (1 - w) + g2 * w, b * k * (1 - w) + b2 * w
    return min(max(r, 0.0), 1.0), min(max(g, 0.0), 1.0), min(max(b, 0.0), 1.0)
