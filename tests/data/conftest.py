"""A Taskonomy download in small: two views of each of three points in four buildings, made of planes and numbers."""

import csv
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

SIZE = 16
BUILDINGS = {"allens": "train", "beech": "train", "corona": "val", "darden": "test"}
POINTS, VIEWS = 3, 2


@dataclass
class Download:
    """Where it is, and what was written where."""

    root: Path
    depth: dict[tuple[str, int, int], NDArray[np.uint16]] = field(default_factory=dict)
    cameras: dict[tuple[str, int, int], tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    points: dict[tuple[str, int], NDArray[np.float64]] = field(default_factory=dict)

    def file(self, domain: str, building: str, point: int, view: int, suffix: str = ".png") -> Path:
        return self.root / domain / building / f"point_{point}_view_{view}_domain_{domain}{suffix}"

    def write(self, values: NDArray[Any], domain: str, building: str, point: int, view: int) -> None:
        suffix = ".npy" if domain.startswith("class_") else ".png"
        file = self.file(domain, building, point, view, suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(file, values)
        else:
            Image.fromarray(values).save(file)


def looking_at(eye: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blender's camera-to-world rotation: its -z to the point, its y as far up (world z) as can be."""
    back = (eye - point) / np.linalg.norm(eye - point)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], 1)


@pytest.fixture
def taskonomy(tmp_path: Path, _written: Download) -> Download:
    """A fresh copy of all of it."""
    root = shutil.copytree(_written.root, tmp_path / "taskonomy")
    return replace(_written, root=root)


@pytest.fixture(scope="session")
def _written(tmp_path_factory: pytest.TempPathFactory) -> Download:
    rng = np.random.default_rng(0)
    made = Download(tmp_path_factory.mktemp("download"))
    with (made.root / "train_val_test_tiny.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "train", "val", "test"])
        for name, split in BUILDINGS.items():
            rows.writerow([name, *(int(split == column) for column in ("train", "val", "test"))])
    for building in BUILDINGS:
        for point in range(POINTS):
            made.points[building, point] = rng.uniform(-1, 1, 3)
            for view in range(VIEWS):
                _write_view(made, rng, building, point, view)
            _write_matches(made, building, point)
    return made


def _write_view(made: Download, rng: np.random.Generator, building: str, point: int, view: int) -> None:
    where = (building, point, view)
    rgb = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    depth = rng.integers(512, 4096, (SIZE, SIZE), np.uint16)
    depth[:4, :4] = 65535
    made.depth[where] = depth
    vectors = rng.normal(size=(SIZE, SIZE, 3))
    vectors[..., 2] = np.abs(vectors[..., 2]) + 0.2
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    made.write(rgb, "rgb", *where)
    made.write(depth, "depth_zbuffer", *where)
    made.write(np.where(depth == 65535, depth, depth + 100).astype(np.uint16), "depth_euclidean", *where)
    made.write((127 + 127 * vectors).round().astype(np.uint8), "normal", *where)
    made.write(rng.integers(1, 255, (SIZE, SIZE, 3), np.uint8), "principal_curvature", *where)
    made.write(np.repeat(rng.integers(0, 256, (SIZE, SIZE, 1), np.uint8), 3, 2), "reshading", *where)
    for domain in ("edge_texture", "edge_occlusion", "keypoints2d", "keypoints3d"):
        made.write(rng.integers(0, 65536, (SIZE, SIZE), np.uint16), domain, *where)
    made.write(rng.integers(0, 18, (SIZE, SIZE), np.uint8), "segment_semantic", *where)
    for domain in ("segment_unsup2d", "segment_unsup25d"):
        made.write(rng.integers(0, 40, (SIZE, SIZE), np.uint8), domain, *where)
    made.write(rng.dirichlet(np.ones(1000)), "class_object", *where)
    made.write(rng.dirichlet(np.ones(365)), "class_scene", *where)

    eye = made.points[building, point] + rng.uniform(1, 3, 3) * [1, (-1) ** view, 0.3]
    turn = looking_at(eye, made.points[building, point])
    made.cameras[where] = (eye, turn)
    box = np.array([[-4.0, 5.0], [-3.0, 6.0], [-1.5, 1.5]])  # x, y, z in the camera's world
    content = {
        "camera_location": eye.tolist(),
        "camera_rotation_final": Rotation.from_matrix(turn).as_euler("xyz").tolist(),
        "vanishing_points_gaussian_sphere": dict(zip("xyz", turn.T.T.tolist(), strict=True)),
        "bounding_box_ranges": {"x": box[1].tolist(), "y": box[0].tolist(), "z": box[2].tolist()},
        "point_location": made.points[building, point].tolist(),
    }
    file = made.file("point_info", *where, ".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def _write_matches(made: Download, building: str, point: int) -> None:
    other = (point + 1) % POINTS
    views = [{"point_uuid": str(other), "view_id": view} for view in range(VIEWS)]
    views.append({"point_uuid": "99", "view_id": 0})  # an image that was not downloaded
    folder = made.root / "nonfixated_matches" / building
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"point_{point}_view_all_domain_nonfixatedpose.json"
    file.write_text(json.dumps({"point_uuid": str(point), "views": views}))
