"""The ray caster: what a ray meets first, what blocks it, and the geometry of the surface it meets.

A ray is tested against the room's faces first, then down a tree of bounds (depth first, each node knows where to go on
when it is missed), and against primitives only in the leaves it enters. Normals and principal curvatures are exact,
from the quadrics' own equations (Goldman, Curvature formulas for implicit curves and surfaces, CAGD 2005, section 3).
"""

import math

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.rooms.compiled import compiled
from lightning_taskonomy.data.rooms.primitives import (
    BALL,
    BOX,
    COS,
    CX,
    CYLINDER,
    HX,
    INVERSE,
    ROLL,
    SHAPE,
    SHELL,
    SIN,
)  # fmt: skip

__all__ = ["blocked", "cast", "surface"]

Table = NDArray[np.float64]
_NEAR = 1e-4
"""Metres before a ray counts as having met something."""


@compiled
def _meet(prims: Table, i: int, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    """Distance along the ray to primitive i, infinite where it misses."""
    c, s = prims[i, COS], prims[i, SIN]
    px, py, pz = ox - prims[i, CX], oy - prims[i, CX + 1], oz - prims[i, CX + 2]
    ix, iy, iz = prims[i, INVERSE], prims[i, INVERSE + 1], prims[i, INVERSE + 2]
    lx, ly, lz = (c * px - s * pz) * ix, py * iy, (s * px + c * pz) * iz
    ex, ey, ez = (c * dx - s * dz) * ix, dy * iy, (s * dx + c * dz) * iz
    shape = prims[i, SHAPE]
    near: float = -math.inf
    far: float = math.inf
    if shape == ROLL:
        lx, ly, ex, ey = ly, lx, ey, ex
    if shape != BOX:
        a, b, k = ex * ex + ez * ez, lx * ex + lz * ez, lx * lx + lz * lz - 1
        if shape == BALL:
            a, b, k = a + ey * ey, b + ly * ey, k + ly * ly
        q = b * b - a * k
        if q <= 0:
            return math.inf
        q = math.sqrt(q)
        inverse = 1 / max(a, 1e-12)
        near, far = (-b - q) * inverse, (-b + q) * inverse
    else:
        inverse = 1 / ex if abs(ex) > 1e-12 else 1e12
        near, far = -lx * inverse - abs(inverse), -lx * inverse + abs(inverse)
        inverse = 1 / ez if abs(ez) > 1e-12 else 1e12
        near, far = max(near, -lz * inverse - abs(inverse)), min(far, -lz * inverse + abs(inverse))
    if shape != BALL:
        inverse = 1 / ey if abs(ey) > 1e-12 else 1e12
        near, far = max(near, -ly * inverse - abs(inverse)), min(far, -ly * inverse + abs(inverse))
    if near > far:
        return math.inf
    if near > _NEAR:
        return near
    return far if far > _NEAR else math.inf


@compiled
def _enters(
    nodes: Table, g: int, ox: float, oy: float, oz: float, ix: float, iy: float, iz: float, limit: float
) -> bool:
    """Whether a ray, with the inverse of its direction, enters a node's bounds before ``limit``."""
    a, b = (nodes[g, 0] - ox) * ix, (nodes[g, 3] - ox) * ix
    near, far = min(a, b), max(a, b)
    a, b = (nodes[g, 1] - oy) * iy, (nodes[g, 4] - oy) * iy
    near, far = max(near, min(a, b)), min(far, max(a, b))
    a, b = (nodes[g, 2] - oz) * iz, (nodes[g, 5] - oz) * iz
    near, far = max(near, min(a, b)), min(far, max(a, b))
    return bool(near <= far and far > 0 and near < limit)


@compiled
def _shell(room: Table, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> tuple[float, int]:
    """Distance to the room's own faces, and which."""
    t, face = math.inf, 0
    if abs(dy) > 1e-12:
        t, face = ((room[1] if dy > 0 else 0.0) - oy) / dy, 1 if dy > 0 else 0
    if abs(dz) > 1e-12:
        k = ((room[2] if dz > 0 else -room[2]) - oz) / dz
        if k < t:
            t, face = k, 3 if dz > 0 else 2
    if abs(dx) > 1e-12:
        k = ((room[0] if dx > 0 else -room[0]) - ox) / dx
        if k < t:
            t, face = k, 5 if dx > 0 else 4
    return t, face


@compiled
def cast(
    prims: Table, nodes: Table, room: Table, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> tuple[float, int]:
    """What a ray meets first.

    Args:
        prims: (P, COLUMNS) the primitives, the room's faces first.
        nodes: (N, NODE_COLUMNS) the tree of their bounds.
        room: Half width, height, half depth in metres.
        ox: Origin, inside the room, in metres.
        oy: Likewise.
        oz: Likewise.
        dx: Direction; distances are in multiples of its length.
        dy: Likewise.
        dz: Likewise.

    Returns:
        Distance and row of the primitive.
    """
    best, index = _shell(room, ox, oy, oz, dx, dy, dz)
    ix = 1 / dx if abs(dx) > 1e-12 else 1e12
    iy = 1 / dy if abs(dy) > 1e-12 else 1e12
    iz = 1 / dz if abs(dz) > 1e-12 else 1e12
    node = 0
    while node < nodes.shape[0]:
        if _enters(nodes, node, ox, oy, oz, ix, iy, iz, best):
            for i in range(int(nodes[node, 6]), int(nodes[node, 7])):
                t = _meet(prims, i, ox, oy, oz, dx, dy, dz)
                if t < best:
                    best, index = t, i
            node += 1
        else:
            node = int(nodes[node, 8])
    return best, index


@compiled
def blocked(
    prims: Table,
    nodes: Table,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    limit: float,
) -> bool:
    """Whether a primitive (not the room itself) lies on the ray before ``limit``."""
    ix = 1 / dx if abs(dx) > 1e-12 else 1e12
    iy = 1 / dy if abs(dy) > 1e-12 else 1e12
    iz = 1 / dz if abs(dz) > 1e-12 else 1e12
    node = 0
    while node < nodes.shape[0]:
        if _enters(nodes, node, ox, oy, oz, ix, iy, iz, limit):
            for i in range(int(nodes[node, 6]), int(nodes[node, 7])):
                if _meet(prims, i, ox, oy, oz, dx, dy, dz) < limit:
                    return True
            node += 1
        else:
            node = int(nodes[node, 8])
    return False


@compiled
def surface(prims: Table, i: int, x: float, y: float, z: float, out: NDArray[np.float64]) -> None:
    """The geometry of primitive i at a point on it.

    Args:
        prims: (P, COLUMNS) the primitives.
        i: The row.
        x: The point in metres.
        y: Likewise.
        z: Likewise.
        out: (10,) filled with outward normal (3), texture coordinates in metres (2), principal curvatures k1 >= k2
            in 1/m, positive where convex (2), position in the unit shape (3).
    """
    c, s = prims[i, COS], prims[i, SIN]
    px, py, pz = x - prims[i, CX], y - prims[i, CX + 1], z - prims[i, CX + 2]
    lx, ly, lz = c * px - s * pz, py, s * px + c * pz
    ux, uy, uz = lx * prims[i, INVERSE], ly * prims[i, INVERSE + 1], lz * prims[i, INVERSE + 2]
    nx, ny, nz, u, v, k1, k2 = 0.0, 0.0, 0.0, lx, ly, 0.0, 0.0
    shape = prims[i, SHAPE]
    if i < SHELL:
        if i < 2:
            ny, v = 1.0 - 2 * i, lz
        elif i < 4:
            nz = 5.0 - 2 * i
        else:
            nx, u = 9.0 - 2 * i, lz
    elif shape == BOX:
        if abs(uy) >= abs(ux) and abs(uy) >= abs(uz):
            ny, v = math.copysign(1.0, uy), lz
        elif abs(ux) >= abs(uz):
            nx, u = math.copysign(1.0, ux), lz
        else:
            nz = math.copysign(1.0, uz)
    elif shape == BALL:
        a, b, d = prims[i, HX] ** 2, prims[i, HX + 1] ** 2, prims[i, HX + 2] ** 2
        nx, ny, nz = lx / a, ly / b, lz / d
        q = nx * nx + ny * ny + nz * nz
        gauss = 1 / (a * b * d * q * q)
        mean = (a + b + d - lx * lx - ly * ly - lz * lz) / (2 * a * b * d * q * math.sqrt(q))
        root = math.sqrt(max(mean * mean - gauss, 0.0))
        k1, k2 = mean + root, mean - root
        u = math.atan2(uz, ux) * prims[i, HX]
        q = 1 / math.sqrt(q)
        nx, ny, nz = nx * q, ny * q, nz * q
    elif shape == CYLINDER:
        if abs(uy) > math.sqrt(ux * ux + uz * uz):
            ny, v = math.copysign(1.0, uy), lz
        else:
            a, d = prims[i, HX] ** 2, prims[i, HX + 2] ** 2
            nx, nz = lx / a, lz / d
            q = nx * nx + nz * nz
            k1 = 1 / (a * d * q * math.sqrt(q))
            u = math.atan2(uz, ux) * prims[i, HX]
            q = 1 / math.sqrt(q)
            nx, nz = nx * q, nz * q
    else:
        if abs(ux) > math.sqrt(uy * uy + uz * uz):
            nx, u = math.copysign(1.0, ux), lz
        else:
            a, d = prims[i, HX + 1] ** 2, prims[i, HX + 2] ** 2
            ny, nz = ly / a, lz / d
            q = ny * ny + nz * nz
            k1 = 1 / (a * d * q * math.sqrt(q))
            v = math.atan2(uz, uy) * prims[i, HX + 1]
            q = 1 / math.sqrt(q)
            ny, nz = ny * q, nz * q
    out[0], out[1], out[2] = c * nx + s * nz, ny, -s * nx + c * nz
    out[3], out[4], out[5], out[6] = u, v, k1, k2
    out[7], out[8], out[9] = ux, uy, uz
