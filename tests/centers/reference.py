"""Target maps and decoding as CenterNet's code has them, one object after the other in NumPy."""

import math

import numpy as np


def gaussian_radius(height, width, overlap=0.7):
    """All three roots of CornerNet's code."""
    b1, c1 = height + width, width * height * (1 - overlap) / (1 + overlap)
    r1 = (b1 + math.sqrt(b1**2 - 4 * c1)) / 2
    b2, c2 = 2 * (height + width), (1 - overlap) * width * height
    r2 = (b2 + math.sqrt(b2**2 - 16 * c2)) / 2
    a3, b3, c3 = 4 * overlap, -2 * overlap * (height + width), (overlap - 1) * width * height
    r3 = (b3 + math.sqrt(b3**2 - 4 * a3 * c3)) / 2
    return max(0, int(min(r1, r2, r3)))


def draw(heat, x, y, radius):
    """CenterNet's draw_umich_gaussian on one plane (h, w)."""
    sigma = (2 * radius + 1) / 6
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    gaussian = np.exp(-(columns * columns + rows * rows) / (2 * sigma * sigma))
    gaussian[gaussian < np.finfo(gaussian.dtype).eps * gaussian.max()] = 0
    height, width = heat.shape
    left, right = min(x, radius), min(width - x, radius + 1)
    top, bottom = min(y, radius), min(height - y, radius + 1)
    patch = heat[y - top : y + bottom, x - left : x + right]
    np.maximum(patch, gaussian[radius - top : radius + bottom, radius - left : radius + right], out=patch)


def detection_maps(boxes, classes, channels, height, width):
    """Heat, offset, size and mask of one image; boxes (n, 4) in cells."""
    heat = np.zeros((channels, height, width), np.float32)
    offset, size = np.zeros((len(boxes), 2), np.float32), np.zeros((len(boxes), 2), np.float32)
    cells = np.full((len(boxes), 2), -1)
    for row, (box, kind) in enumerate(zip(boxes, classes, strict=True)):
        if not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
            continue
        left, right = np.clip(box[[0, 2]], 0, width)
        top, bottom = np.clip(box[[1, 3]], 0, height)
        if right <= left or bottom <= top:
            continue
        x, y = (left + right) / 2, (top + bottom) / 2
        radius = gaussian_radius(math.ceil(bottom - top), math.ceil(right - left))
        draw(heat[kind], int(x), int(y), radius)
        cells[row], offset[row], size[row] = (int(x), int(y)), (x - int(x), y - int(y)), (right - left, bottom - top)
    return heat, cells, offset, size


def focal(logits, heat, counted):
    """Sum over one image; CenterNet's _neg_loss in float64."""
    chance = 1 / (1 + np.exp(-logits.astype(np.float64)))
    total = 0.0
    for guess, truth, counts in zip(chance.ravel(), heat.ravel().astype(np.float64), counted.ravel(), strict=True):
        if truth == 1:
            total -= (1 - guess) ** 2 * np.log(guess)
        elif counts:
            total -= (1 - truth) ** 4 * guess**2 * np.log(1 - guess)
    return total


def peaks(plane):
    """Cells of a plane that none of the eight around exceeds: (value, row, column)."""
    height, width = plane.shape
    return [
        (plane[y, x], y, x)
        for y in range(height)
        for x in range(width)
        if plane[y, x] == plane[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max()
    ]


def sigmoid(value):
    return 1 / (1 + np.exp(-np.float64(value)))


def boxes(heat, offset, size, stride, most=100):
    """Boxes of one image, one peak after the other: (score, class, box, cell)."""
    candidates = [(value, kind, y, x) for kind, plane in enumerate(heat) for value, y, x in peaks(plane)]
    decoded = []
    for value, kind, y, x in sorted(candidates, key=lambda one: -one[0])[:most]:
        middle = np.array([x, y]) + offset[:, y, x]
        half = np.maximum(size[:, y, x], 0) / 2
        decoded.append((sigmoid(value), kind, np.concatenate([middle - half, middle + half]) * stride, (y, x)))
    return decoded


def suppressed(decoded, overlap=0.3):
    """Greedy suppression within classes."""
    kept = []
    for one in decoded:
        if all(one[1] != other[1] or iou(one[2], other[2]) <= overlap for other in kept):
            kept.append(one)
    return kept


def iou(one, other):
    sides = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None)
    inter = sides.prod()
    return inter / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - inter)


def keypoints(maps, stride, most=100, least=0.1, reach=0.3):
    """Objects of one image with points; maps in the order of the head."""
    count = (len(maps) - 7) // 3
    heat, offset, size = maps[:1], maps[1:3], maps[3:5]
    point_heat, point_offset, displacement = maps[5 : 5 + count], maps[5 + count : 7 + count], maps[7 + count :]
    candidates = []
    for plane in point_heat:
        best = sorted(peaks(plane), key=lambda one: -one[0])[:most]
        candidates.append([(np.array([x, y]) + point_offset[:, y, x], sigmoid(value)) for value, y, x in best])
    decoded = []
    for score, _, box, (y, x) in boxes(heat, offset, size, stride, most):
        limits = box / stride
        middle, points, chances = (limits[:2] + limits[2:]) / 2, [], []
        for point in range(count):
            expected = middle + displacement[2 * point : 2 * point + 2, y, x]
            best, taken, chance = np.inf, expected, None
            for place, sure in candidates[point]:
                distance = np.hypot(*(place - expected))
                inside = (place >= limits[:2]).all() and (place <= limits[2:]).all()
                near = distance <= reach * (limits[2:] - limits[:2]).max()
                if sure >= least and inside and near and distance < best:
                    best, taken, chance = distance, place, sure
            if chance is None:
                column, row = np.trunc(expected).astype(int)
                plane = point_heat[point]
                chance = sigmoid(plane[np.clip(row, 0, plane.shape[0] - 1), np.clip(column, 0, plane.shape[1] - 1)])
            points.append(taken * stride)
            chances.append(chance)
        decoded.append((score, box, np.array(points), np.array(chances)))
    return decoded
