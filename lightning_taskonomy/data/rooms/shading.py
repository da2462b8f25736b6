"""From geometry to a picture: soft shadows, ambient occlusion, sun patches, one mirror bounce, anti-aliased edges.

Every pixel sends a few rays to each light, their ends spread by a fixed pattern (interleaved gradient noise, Jimenez,
SIGGRAPH 2014 course), and the visibilities are averaged over neighbours on the same surface. Colour is sampled once per
pixel, more often only where surface or colour change.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.rooms.compiled import compiled
from lightning_taskonomy.data.rooms.primitives import EMIT, GLOSS
from lightning_taskonomy.data.rooms.rays import blocked, cast, surface
from lightning_taskonomy.data.rooms.textures import albedo

__all__ = ["GEOMETRY_COLUMNS", "geometry", "radiance", "visibility"]

Table = NDArray[np.float64]
GEOMETRY_COLUMNS = 15
"""Per pixel: z-depth, primitive, point x y z, then the ten numbers of ``rays.surface``."""
_AMBIENT_REACH = 0.8


@compiled
def geometry(prims: Table, nodes: Table, room: Table, eye: Table, axes: Table, focal: float, size: int) -> Table:
    """What the centre of every pixel sees.

    Args:
        prims: (P, COLUMNS) the primitives.
        nodes: (N, NODE_COLUMNS) the tree of their bounds.
        room: Half width, height, half depth in metres.
        eye: (3,) the camera.
        axes: (3, 3) its right, down and forward in the world.
        focal: Focal length in image widths.
        size: Pixels along each side.

    Returns:
        (size * size, GEOMETRY_COLUMNS), points and normals in the world.
    """
    out = np.empty((size * size, GEOMETRY_COLUMNS))
    for row in range(size):
        y = ((row + 0.5) / size - 0.5) / focal
        for column in range(size):
            x = ((column + 0.5) / size - 0.5) / focal
            dx = x * axes[0, 0] + y * axes[1, 0] + axes[2, 0]
            dy = x * axes[0, 1] + y * axes[1, 1] + axes[2, 1]
            dz = x * axes[0, 2] + y * axes[1, 2] + axes[2, 2]
            t, i = cast(prims, nodes, room, eye[0], eye[1], eye[2], dx, dy, dz)
            pixel = out[row * size + column]
            pixel[0], pixel[1] = t, i
            pixel[2], pixel[3], pixel[4] = eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz
            surface(prims, i, pixel[2], pixel[3], pixel[4], pixel[5:])
    return out


@compiled
def _fraction(x: float) -> float:
    return x - math.floor(x)


@compiled
def _sun(room: Table, lights: Table, x: float, y: float, z: float, sun: Table) -> float:
    """Distance to the window through which the sun shines on a point, 0 if through none."""
    for k in range(lights.shape[0]):
        if lights[k, 0] > 0.5:
            nx, nz = lights[k, 7], lights[k, 6]
            slope = sun[0] * nx + sun[2] * nz
            if slope < -1e-3:
                t: float = ((lights[k, 1] - x) * nx + (lights[k, 3] - z) * nz) / slope
                along = (x + t * sun[0] - lights[k, 1]) * nz - (z + t * sun[2] - lights[k, 3]) * nx
                up = y + t * sun[1] - lights[k, 2]
                if t > 0 and 0.02 < abs(along) < lights[k, 4] and abs(up) < lights[k, 5]:
                    return t
    return 0.0


@compiled
def visibility(
    prims: Table, nodes: Table, room: Table, lights: Table, sun: Table, pixels: Table, size: int, rays: int
) -> Table:
    """How much of every light each pixel sees.

    Args:
        prims: (P, COLUMNS) the primitives.
        nodes: (N, NODE_COLUMNS) the tree of their bounds.
        room: Half width, height, half depth in metres.
        lights: (L, LIGHT_COLUMNS) the lights.
        sun: (6,) direction towards the sun and its colour, black if it does not shine.
        pixels: (size * size, GEOMETRY_COLUMNS) from ``geometry``.
        size: Pixels along each side.
        rays: Rays per pixel and light.

    Returns:
        (size * size, L + 2) in [0, 1]: the sky of near objects, each light, the sun.
    """
    n, count = size * size, lights.shape[0] + 2
    raw = np.zeros((n, count))
    shines = sun[3] > 0
    for k in range(n):
        p = pixels[k]
        x, y, z = p[2] + 2e-3 * p[5], p[3] + 2e-3 * p[6], p[4] + 2e-3 * p[7]
        nx, ny, nz = p[5], p[6], p[7]
        jitter = _fraction(52.9829189 * _fraction(0.06711056 * (k % size) + 0.00583715 * (k // size)))
        for r in range(2 * rays):
            h, a = 1 - 2 * (r + _fraction(jitter + 0.38)) / (2 * rays), 6.2831853 * (r * 0.618034 + jitter)
            q = math.sqrt(1 - h * h)
            dx, dy, dz = nx + q * math.cos(a), ny + h, nz + q * math.sin(a)
            length = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
            dx, dy, dz = dx / length, dy / length, dz / length
            open_ = 1.0
            px, py, pz = x + _AMBIENT_REACH * dx, y + _AMBIENT_REACH * dy, z + _AMBIENT_REACH * dz
            if py < 0 or py > room[1] or abs(px) > room[0] or abs(pz) > room[2]:
                open_ = 0.4
            if blocked(prims, nodes, x, y, z, dx, dy, dz, _AMBIENT_REACH):
                open_ = 0.0
            raw[k, 0] += open_ / (2 * rays)
        for m in range(lights.shape[0]):
            light = lights[m]
            for r in range(rays):
                a, q = 6.2831853 * (r / rays + jitter), math.sqrt((r + _fraction(jitter * 7.13)) / rays)
                lx, ly, lz = light[1], light[2], light[3]
                if light[0] > 0.5:
                    side, up = q * math.cos(a) * light[4], q * math.sin(a) * light[5]
                    lx, ly, lz = lx + side * light[6], ly + up, lz - side * light[7]
                else:
                    lx, ly, lz = (
                        lx + light[4] * q * math.cos(a),
                        ly + light[4] * 0.5 * (q - 0.5),
                        lz + light[4] * q * math.sin(a),
                    )
                dx, dy, dz = lx - x, ly - y, lz - z
                if dx * nx + dy * ny + dz * nz > 0 and not blocked(prims, nodes, x, y, z, dx, dy, dz, 0.97):
                    raw[k, m + 1] += 1.0 / rays
        if shines and sun[0] * nx + sun[1] * ny + sun[2] * nz > 0:
            t = _sun(room, lights, x, y, z, sun)
            if t > 0 and not blocked(prims, nodes, x, y, z, sun[0], sun[1], sun[2], t - 0.15):
                raw[k, count - 1] = 1.0
    out = np.empty((n, count))
    total = np.empty(count)
    for k in range(n):
        p, row, column, weight = pixels[k], k // size, k % size, 0.0
        total[:] = 0.0
        for r in range(max(row - 2, 0), min(row + 3, size)):
            for c in range(max(column - 2, 0), min(column + 3, size)):
                j = r * size + c
                q = pixels[j]
                near = (p[2] - q[2]) * p[5] + (p[3] - q[3]) * p[6] + (p[4] - q[4]) * p[7]
                if p[5] * q[5] + p[6] * q[6] + p[7] * q[7] > 0.9 and abs(near) < 0.02 * p[0]:
                    weight += 1.0
                    for m in range(count - 1):
                        total[m] += raw[j, m]
        for m in range(count - 1):
            out[k, m] = total[m] / weight
        out[k, count - 1] = raw[k, count - 1]
    return out


@compiled
def _light(
    prims: Table, lights: Table, sun: Table, i: int, p: Table, pixel: float, seen: Table,
    dx: float, dy: float, dz: float, sparkle: bool, out: Table,
) -> None:  # fmt: skip
    """Light from a point towards a viewer; ``p`` holds point and surface as in ``geometry`` from column 2 on."""
    r, g, b = albedo(prims, i, p[6], p[7], p[10], p[11], p[12], pixel)
    r, g, b = r**2.0, g**2.0, b**2.0
    nx, ny, nz = p[3], p[4], p[5]
    ambient = (0.26 + 0.08 * ny) * (0.08 + 0.92 * seen[0])
    lr, lg, lb, sr, sg, sb = ambient * 1.0, ambient * 0.98, ambient * 0.97, 0.0, 0.0, 0.0
    gloss = prims[i, GLOSS]
    for m in range(lights.shape[0]):
        light = lights[m]
        vx, vy, vz = light[1] - p[0], light[2] - p[1], light[3] - p[2]
        square = vx * vx + vy * vy + vz * vz + 1e-9
        length = math.sqrt(square)
        vx, vy, vz = vx / length, vy / length, vz / length
        cosine = nx * vx + ny * vy + nz * vz
        if light[0] > 0.5:
            cosine *= 0.25 + 0.75 * max(0.0, -(vx * light[7] + vz * light[6]))
        if cosine > 0:
            k = cosine * seen[m + 1] / (0.6 + 0.5 * square)
            lr, lg, lb = lr + k * light[8], lg + k * light[9], lb + k * light[10]
            if sparkle and gloss > 0:
                hx, hy, hz = vx - dx, vy - dy, vz - dz
                half = (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
                if half > 0:
                    k = half**60 * seen[m + 1] * gloss * 3 / (1 + 0.3 * square)
                    sr, sg, sb = sr + k * light[8], sg + k * light[9], sb + k * light[10]
    k = max(0.0, nx * sun[0] + ny * sun[1] + nz * sun[2]) * seen[seen.shape[0] - 1]
    lr, lg, lb = lr + k * sun[3], lg + k * sun[4], lb + k * sun[5]
    e = prims[i, EMIT]
    out[0] = r * (lr * (1 - e) + 1.5 * e) + sr
    out[1] = g * (lg * (1 - e) + 1.5 * e) + sg
    out[2] = b * (lb * (1 - e) + 1.5 * e) + sb


@compiled
def _view(
    prims: Table, nodes: Table, room: Table, lights: Table, sun: Table, eye: Table,
    dx: float, dy: float, dz: float, t: float, i: int, p: Table, width: float, seen: Table, scratch: Table, out: Table,
) -> None:  # fmt: skip
    """Colour along one viewing ray that meets primitive i at t, with its mirror image if it is glossy."""
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    dx, dy, dz = dx / length, dy / length, dz / length
    slant = max(-(dx * p[3] + dy * p[4] + dz * p[5]), 0.15)
    _light(prims, lights, sun, i, p, t * width / math.sqrt(slant), seen, dx, dy, dz, True, out)
    gloss = prims[i, GLOSS]
    if gloss > 0.02:
        facing = -(dx * p[3] + dy * p[4] + dz * p[5])
        rx, ry, rz = dx + 2 * facing * p[3], dy + 2 * facing * p[4], dz + 2 * facing * p[5]
        ox, oy, oz = p[0] + 2e-3 * p[3], p[1] + 2e-3 * p[4], p[2] + 2e-3 * p[5]
        far, j = cast(prims, nodes, room, ox, oy, oz, rx, ry, rz)
        q = scratch[:13]
        q[0], q[1], q[2] = ox + far * rx, oy + far * ry, oz + far * rz
        surface(prims, j, q[0], q[1], q[2], q[3:])
        mirror, lit = scratch[13:16], scratch[16:]
        lit[:] = 0.8
        lit[lit.shape[0] - 1] = 0.0
        _light(prims, lights, sun, j, q, (t * length + far) * width, lit, rx, ry, rz, False, mirror)
        share = min(gloss * (0.4 + 0.6 * (1 - max(facing, 0.0)) ** 3), 1.0)
        for c in range(3):
            out[c] = out[c] * (1 - share) + mirror[c] * share


@compiled
def radiance(
    prims: Table, nodes: Table, room: Table, lights: Table, sun: Table, eye: Table, axes: Table, focal: float,
    pixels: Table, seen: Table, size: int, samples: int,
) -> Table:  # fmt: skip
    """The linear colour of every pixel.

    Args:
        prims: (P, COLUMNS) the primitives.
        nodes: (N, NODE_COLUMNS) the tree of their bounds.
        room: Half width, height, half depth in metres.
        lights: (L, LIGHT_COLUMNS) the lights.
        sun: (6,) direction towards the sun and its colour.
        eye: (3,) the camera.
        axes: (3, 3) its right, down and forward in the world.
        focal: Focal length in image widths.
        pixels: (size * size, GEOMETRY_COLUMNS) from ``geometry``.
        seen: (size * size, L + 2) from ``visibility``.
        size: Pixels along each side.
        samples: Samples along each side of a pixel on an edge; 1 for none beyond its centre.

    Returns:
        (size * size, 3), not yet exposed.
    """
    n, width = size * size, 1 / (size * focal)
    out, scratch = np.empty((n, 3)), np.empty(16 + seen.shape[1])
    for k in range(n):
        x, y = (k % size + 0.5) * width - 0.5 / focal, (k // size + 0.5) * width - 0.5 / focal
        dx = x * axes[0, 0] + y * axes[1, 0] + axes[2, 0]
        dy = x * axes[0, 1] + y * axes[1, 1] + axes[2, 1]
        dz = x * axes[0, 2] + y * axes[1, 2] + axes[2, 2]
        p = pixels[k]
        _view(
            prims, nodes, room, lights, sun, eye, dx, dy, dz, p[0], int(p[1]), p[2:], width, seen[k], scratch, out[k]
        )  # fmt: skip
    if samples < 2:
        return out
    fine, color, hit = out.copy(), np.empty(3), np.empty(13)
    for k in range(n):
        row, column = k // size, k % size
        edge = False
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= r < size and 0 <= c < size:
                j = r * size + c
                jump = abs(out[j, 0] - out[k, 0]) + abs(out[j, 1] - out[k, 1]) + abs(out[j, 2] - out[k, 2])
                if pixels[j, 1] != pixels[k, 1] or jump > 0.25 * (0.1 + out[k, 0] + out[k, 1] + out[k, 2]):
                    edge = True
        if not edge:
            continue
        fine[k] = 0.0
        for s in range(samples * samples):
            x = (column + (s % samples + 0.5) / samples) * width - 0.5 / focal
            y = (row + (s // samples + 0.5) / samples) * width - 0.5 / focal
            dx = x * axes[0, 0] + y * axes[1, 0] + axes[2, 0]
            dy = x * axes[0, 1] + y * axes[1, 1] + axes[2, 1]
            dz = x * axes[0, 2] + y * axes[1, 2] + axes[2, 2]
            t, i = cast(prims, nodes, room, eye[0], eye[1], eye[2], dx, dy, dz)
            hit[0], hit[1], hit[2] = eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz
            surface(prims, i, hit[0], hit[1], hit[2], hit[3:])
            best, closest = k, math.inf  # the shadows of the nearest pixel on the same surface
            for r in range(max(row - 1, 0), min(row + 2, size)):
                for c in range(max(column - 1, 0), min(column + 2, size)):
                    q = pixels[r * size + c]
                    d = abs(q[2] - hit[0]) + abs(q[3] - hit[1]) + abs(q[4] - hit[2])
                    d += 3 - 3 * (q[5] * hit[3] + q[6] * hit[4] + q[7] * hit[5])
                    if d < closest:
                        best, closest = r * size + c, d
            _view(
                prims, nodes, room, lights, sun, eye, dx, dy, dz, t, i, hit, width / samples, seen[best], scratch, color
            )  # fmt: skip
            for c in range(3):
                fine[k, c] += min(color[c], 4.0) / (samples * samples)
    return fine
