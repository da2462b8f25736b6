"""Things of the world outside, put together from primitives in their own frames: x along the width, z to the front.

Every function takes a piece and ``m``, the scene's units per metre.
"""

from math import cos, pi, sin

import numpy as np

from lightning_taskonomy.data.rooms.pieces import Piece
from lightning_taskonomy.data.rooms.primitives import BALL, BOX, CYLINDER, ROLL, Color
from lightning_taskonomy.data.rooms.style import gray, hsv
from lightning_taskonomy.data.rooms.textures import FABRIC, LEAF, STRIPE, WOOD

__all__ = ["bench", "bottle", "can", "car", "coral", "crate", "dog", "fish", "person", "pole", "rock", "tree", "truck"]

_SKIN = ((0.06, 0.35, 0.9), (0.06, 0.5, 0.65), (0.05, 0.55, 0.42))


def _paint(p: Piece) -> Color:
    """The colour of a vehicle: mostly white, grey, black, else bright."""
    if p.rng.random() < 0.5:
        return gray(p.rng.choice([0.08, 0.35, 0.6, 0.9]))
    return hsv(p.rng.choice([0.0, 0.02, 0.33, 0.58, 0.62, 0.12]), p.rng.uniform(0.6, 0.9), p.rng.uniform(0.35, 0.85))


def _wheels(p: Piece, m: float, w: float, d: float) -> None:
    for x in (-1, 1):
        for z in (-1, 1):
            p.put(BALL, (x * w, 0.32 * m, z * d), (0.13 * m, 0.32 * m, 0.32 * m), gray(0.06))


def car(p: Piece, m: float, far: bool = False) -> None:
    """4.3 m long, 1.8 m wide; the body up to the windows is its largest part. Seen from afar it needs no wheels."""
    paint, glass = _paint(p), np.array([0.1, 0.13, 0.17])
    p.put(BOX, (0, 0.62 * m, 0), (0.9 * m, 0.36 * m, 2.15 * m), paint, gloss=0.1)
    p.put(BOX, (0, 1.2 * m, -0.25 * m), (0.78 * m, 0.26 * m, 1.15 * m), glass, gloss=0.2)
    p.put(BOX, (0, 1.44 * m, -0.3 * m), (0.74 * m, 0.05 * m, 0.95 * m), paint, gloss=0.1)
    if far:
        return
    for x in (-0.62, 0.62):
        p.put(BOX, (x * m, 0.72 * m, 2.14 * m), (0.17 * m, 0.09 * m, 0.03 * m), gray(0.97), emit=0.5)
        p.put(BOX, (x * m, 0.78 * m, -2.14 * m), (0.17 * m, 0.08 * m, 0.03 * m), hsv(0.0, 0.9, 0.8), emit=0.4)
    _wheels(p, m, 0.84 * m, 1.35 * m)


def truck(p: Piece, m: float) -> None:
    """A van of 7 m with a loading box, which is its largest part."""
    p.put(BOX, (0, 1.95 * m, -0.9 * m), (1.15 * m, 1.35 * m, 2.5 * m), _paint(p))
    p.put(BOX, (0, 1.15 * m, 2.4 * m), (1.05 * m, 0.75 * m, 0.95 * m), _paint(p), gloss=0.1)
    p.put(BOX, (0, 1.9 * m, 2.3 * m), (1.0 * m, 0.4 * m, 0.8 * m), np.array([0.1, 0.13, 0.17]), gloss=0.2)
    _wheels(p, 1.4 * m, 1.0 * m, 2.2 * m)


def person(p: Piece, m: float, sitting: bool = False) -> None:
    """1.6 to 1.9 m tall; the trunk is the largest part."""
    s = m * p.rng.uniform(0.92, 1.06)
    hue, saturation, value = _SKIN[int(p.rng.integers(len(_SKIN)))]
    skin, cloth, legs = hsv(hue, saturation, value), p.cloth(), p.cloth() * 0.6
    low = -0.4 * s if sitting else 0.0
    stride = 0.0 if sitting else p.rng.uniform(0.0, 0.16) * s
    for x in (-1, 1):
        p.put(CYLINDER, (x * 0.09 * s, 0.43 * s + low, x * stride), (0.075 * s, 0.43 * s, 0.085 * s), legs)
        p.put(CYLINDER, (x * 0.26 * s, 1.12 * s + low, -x * stride), (0.055 * s, 0.3 * s, 0.06 * s), cloth * 0.9)
    p.put(CYLINDER, (0, 1.13 * s + low, 0), (0.21 * s, 0.31 * s, 0.13 * s), cloth, FABRIC)
    p.put(BALL, (0, 1.62 * s + low, 0.01 * s), (0.1 * s, 0.13 * s, 0.11 * s), skin)
    hair = hsv(0.07, 0.5, p.rng.uniform(0.08, 0.5))
    p.put(BALL, (0, 1.68 * s + low, -0.025 * s), (0.107 * s, 0.1 * s, 0.105 * s), hair)


def dog(p: Piece, m: float) -> None:
    """A dog 0.6 m tall; the trunk, along the front, is the largest part."""
    coat = hsv(p.rng.uniform(0.05, 0.11), p.rng.uniform(0.15, 0.65), p.rng.uniform(0.15, 0.9))
    dark, long = coat * p.rng.uniform(0.3, 0.9), p.rng.uniform(0.8, 1.15)
    p.put(BALL, (0, 0.42 * m, 0), (0.13 * m, 0.15 * m, 0.36 * long * m), coat, LEAF, scale=9 / m)
    p.put(BALL, (0, 0.53 * m, 0.3 * long * m), (0.085 * m, 0.15 * m, 0.11 * m), coat)
    p.put(BALL, (0, 0.66 * m, 0.38 * long * m), (0.095 * m, 0.095 * m, 0.115 * m), coat)
    p.put(BALL, (0, 0.63 * m, 0.38 * long * m + 0.12 * m), (0.05 * m, 0.045 * m, 0.09 * m), np.minimum(coat * 1.15, 1))
    p.put(BALL, (0, 0.645 * m, 0.38 * long * m + 0.205 * m), (0.024 * m,) * 3, gray(0.04), gloss=0.1)
    for x in (-1, 1):
        p.put(BALL, (x * 0.095 * m, 0.69 * m, 0.36 * long * m), (0.025 * m, 0.085 * m, 0.05 * m), dark)
        p.put(BALL, (x * 0.045 * m, 0.69 * m, 0.38 * long * m + 0.097 * m), (0.018 * m,) * 3, gray(0.03), gloss=0.2)
        for z in (-0.24, 0.24):
            p.put(CYLINDER, (x * 0.08 * m, 0.17 * m, z * long * m), (0.035 * m, 0.17 * m, 0.04 * m), dark)
            p.put(BALL, (x * 0.08 * m, 0.03 * m, z * long * m + 0.03 * m), (0.045 * m, 0.03 * m, 0.065 * m), dark)
    p.put(BALL, (0, 0.56 * m, -0.38 * long * m), (0.03 * m, 0.13 * m, 0.04 * m), dark)


def tree(p: Piece, m: float, height: float = 6.0, blobs: int = 4) -> None:
    """A trunk and a crown of leaves in so many blobs around a large one, so many metres tall."""
    h, green = height * m, hsv(p.rng.uniform(0.19, 0.36), p.rng.uniform(0.4, 0.7), p.rng.uniform(0.3, 0.55))
    p.put(CYLINDER, (0, 0.25 * h, 0), (0.03 * h, 0.25 * h, 0.03 * h), hsv(0.07, 0.4, 0.32), WOOD)
    r = p.rng.uniform(0.24, 0.32) * h
    p.put(BALL, (0, 0.68 * h, 0), (r, 0.33 * h, r), green, LEAF, scale=2.5 / m)
    for k in range(blobs):
        a, s = 2 * k * pi / blobs + p.rng.uniform(0, 1), p.rng.uniform(0.45, 0.65) * r
        at = (0.65 * r * cos(a), p.rng.uniform(0.5, 0.8) * h, 0.65 * r * sin(a))
        p.put(BALL, at, (s, s * 1.05, s), green * p.rng.uniform(0.8, 1.2), LEAF, scale=2.5 / m)


def pole(p: Piece, m: float, label: str = "sign") -> None:
    """A lamp post, or a post with a sign, which is an object of its own."""
    if p.rng.random() < 0.5:
        p.put(CYLINDER, (0, 2.6 * m, 0), (0.07 * m, 2.6 * m, 0.07 * m), gray(0.3))
        p.put(BOX, (0.5 * m, 5.2 * m, 0), (0.6 * m, 0.06 * m, 0.1 * m), gray(0.35))
        return
    p.put(CYLINDER, (0, 1.2 * m, 0), (0.05 * m, 1.2 * m, 0.05 * m), gray(0.55))
    board, color = p.other(label), hsv(p.rng.choice([0.0, 0.6, 0.14]), 0.85, 0.75)
    if p.rng.random() < 0.5:
        board.put(BOX, (0, 2.5 * m, 0), (0.4 * m, 0.4 * m, 0.04 * m), color)
        board.put(BOX, (0, 2.5 * m, 0), (0.28 * m, 0.1 * m, 0.05 * m), gray(0.95))
    else:
        board.put(BALL, (0, 2.5 * m, 0), (0.4 * m, 0.4 * m, 0.04 * m), color)
        board.put(BALL, (0, 2.5 * m, 0), (0.28 * m, 0.28 * m, 0.05 * m), gray(0.95))


def bench(p: Piece, m: float) -> None:
    """A wooden bench of 1.7 m; the seat is the largest part."""
    wood = p.wood() * 0.9
    p.put(BOX, (0, 0.45 * m, 0), (0.85 * m, 0.035 * m, 0.25 * m), wood, WOOD)
    for y in (0.65, 0.85):
        p.put(BOX, (0, y * m, -0.25 * m), (0.85 * m, 0.07 * m, 0.02 * m), wood, WOOD)
    for x in (-0.7, 0.7):
        p.put(BOX, (x * m, 0.22 * m, 0), (0.05 * m, 0.22 * m, 0.22 * m), gray(0.25))
        p.put(BOX, (x * m, 0.65 * m, -0.28 * m), (0.04 * m, 0.3 * m, 0.02 * m), gray(0.25))


def rock(p: Piece, m: float, size: float = 0.4) -> None:
    """A few stones grown together, so many metres in radius."""
    color = hsv(p.rng.uniform(0.05, 0.14), p.rng.uniform(0.05, 0.25), p.rng.uniform(0.3, 0.55))
    for k in range(4):
        r = size * m * p.rng.uniform(0.5, 0.75) * (1.35 if k == 0 else 0.8)
        at = (p.rng.normal(0, 0.35) * size * m * (k > 0), 0.45 * r, p.rng.normal(0, 0.35) * size * m * (k > 0))
        shape = (r, r * p.rng.uniform(0.5, 0.9), r * p.rng.uniform(0.7, 1))
        p.put(BALL, at, shape, color * p.rng.uniform(0.8, 1.15), LEAF, scale=6 / m, turn=p.rng.uniform(0, pi))


def coral(p: Piece, m: float, size: float = 0.35) -> None:
    """Branches or knobs of one bright colour on a foot."""
    color = hsv(p.rng.choice([0.95, 0.02, 0.08, 0.12, 0.78]), p.rng.uniform(0.5, 0.85), p.rng.uniform(0.6, 0.95))
    r = size * m
    p.put(BALL, (0, 0.15 * r, 0), (0.7 * r, 0.4 * r, 0.7 * r), color * 0.7, LEAF, scale=14 / m)
    branching = p.rng.random() < 0.5
    for k in range(6):
        a, q = k * 2.4, 0.62 * r * np.sqrt(k / 6)
        h = p.rng.uniform(0.5, 1.1) * r
        if branching:
            shape = (0.09 * r, h, 0.09 * r)
            p.put(CYLINDER, (q * cos(a), 0.2 * r + h, q * sin(a)), shape, color)
            p.put(BALL, (q * cos(a), 0.2 * r + 2 * h, q * sin(a)), (0.13 * r,) * 3, np.minimum(color * 1.2, 1))
        else:
            p.put(BALL, (q * cos(a), 0.35 * r + 0.3 * h, q * sin(a)), (0.26 * r,) * 3, color * p.rng.uniform(0.8, 1.1))


def fish(p: Piece, m: float, height: float, size: float = 0.2) -> None:
    """A fish so many metres long on each side of its middle, swimming at a height."""
    color = hsv(p.rng.random(), p.rng.uniform(0.4, 0.9), p.rng.uniform(0.6, 0.95))
    stripe = gray(p.rng.choice([0.1, 0.95]))
    s, y = size * m, height * m
    texture = int(p.rng.choice([0, STRIPE]))
    p.put(BALL, (0, y, 0), (0.22 * s, 0.42 * s, s), color, texture, scale=1.2 / s, color2=stripe)
    for k in (0.0, 0.22):
        p.put(BOX, (0, y, -(1.0 + k) * s), (0.035 * s, (0.22 + k) * s, 0.12 * s), color * 0.85)
    p.put(BOX, (0, y + 0.42 * s, -0.1 * s), (0.03 * s, 0.14 * s, 0.4 * s), color * 0.8)
    for x in (-1, 1):
        p.put(BALL, (x * 0.14 * s, y + 0.1 * s, 0.68 * s), (0.06 * s, 0.075 * s, 0.075 * s), gray(0.97))
        p.put(BALL, (x * 0.17 * s, y + 0.1 * s, 0.7 * s), (0.045 * s, 0.045 * s, 0.045 * s), gray(0.03))


def bottle(p: Piece, m: float, lying: bool = False, size: float = 1.0) -> None:
    """A plastic bottle of 0.3 m, upright or lying along x."""
    color, s = hsv(p.rng.choice([0.3, 0.55, 0.6, 0.08]), p.rng.uniform(0.2, 0.7), p.rng.uniform(0.6, 0.95)), size * m
    parts: list[tuple[float, float, float, Color]] = [
        (0.0, 0.095, 0.045, color), (0.0, 0.045, 0.047, gray(0.92)), (0.11, 0.03, 0.03, color),
        (0.15, 0.02, 0.016, color), (0.17, 0.012, 0.019, p.cloth()),
    ]  # fmt: skip
    for at, long, r, paint in parts:
        if lying:
            p.put(ROLL, (at * s, 0.047 * s, 0), (long * s, r * s, r * s), paint, gloss=0.1)
        else:
            p.put(CYLINDER, (0, (0.095 + at) * s, 0), (r * s, long * s, r * s), paint, gloss=0.1)


def can(p: Piece, m: float, lying: bool = False, size: float = 1.0) -> None:
    """A drinks can of 0.13 m, upright or lying along x."""
    color, s = hsv(p.rng.choice([0.0, 0.33, 0.6, 0.13]), 0.85, 0.8), size * m
    shape, half = (ROLL, (0.06, 0.035, 0.035)) if lying else (CYLINDER, (0.035, 0.06, 0.035))
    at = (0, (0.035 if lying else 0.062) * s, 0)
    p.put(shape, at, [h * s for h in half], color, STRIPE, scale=14 / s, color2=color * 0.7, gloss=0.15)
    rim = (0.064, 0.03, 0.03) if lying else (0.03, 0.064, 0.03)
    p.put(shape, at, [h * s for h in rim], gray(0.8), gloss=0.2)


def crate(p: Piece, m: float, size: float = 0.4) -> None:
    """A box of boards, so many metres on a side."""
    wood, s = p.wood(), 0.5 * size * m
    h = s * p.rng.uniform(0.6, 1.0)
    p.put(BOX, (0, h, 0), (s, h, s), wood, WOOD)
    for y in (0.08, 0.5, 0.92):
        p.put(BOX, (0, 2 * h * y, 0), (s * 1.03, 0.1 * h, s * 1.03), wood * 0.8, WOOD)
