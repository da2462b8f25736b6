"""A Taskonomy download in small: two views of each of three points in four buildings, made of planes and numbers."""

import csv
import json
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parent))  # tests here import the module beside them

SIZE = 16
ENDS = {"segment_semantic": "segmentsemantic", "class_scene": "class_places"}
"""How names of files end where not with their folder's, in the authors' sample building taskonomy-sample-model-1."""
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
        name = f"point_{point}_view_{view}_domain_{ENDS.get(domain, domain)}{suffix}"
        return self.root / domain / building / name

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
    vectors[..., 2] = -np.abs(vectors[..., 2]) - 0.2
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    made.write(rgb, "rgb", *where)
    made.write(depth, "depth_zbuffer", *where)
    made.write(np.where(depth == 65535, depth, depth + 100).astype(np.uint16), "depth_euclidean", *where)
    made.write(((vectors + 1) * 127.5).astype(np.uint8), "normal", *where)
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
    file = folder / f"point_{point}_view_all_domain_nonfixated_matches.json"
    file.write_text(json.dumps({"point_uuid": str(point), "views": views}))


BOX = np.array([[-2.0, 2.5], [-3.0, 2.0], [0.0, 2.6]])
"""The empty room's walls, floor and ceiling: x, y, z in metres, z up."""
VIEW_ANGLE = 1.18


class BoxRoom:
    """An empty room, its walls papered with waves, seen by Blender's cameras and written in Taskonomy's files.

    Every number comes from where a pixel's ray meets the six planes, which the readers know nothing of.
    """

    looking_at = staticmethod(looking_at)

    def __init__(self, root: Path, size: int = 64) -> None:
        self.root, self.size = root, size

    def rays(self) -> NDArray[np.float64]:
        """(H, W, 3) in Blender's camera: x right, y up, z backward; the depth along each is 1."""
        side = ((np.arange(self.size) + 0.5) / self.size - 0.5) * 2 * np.tan(VIEW_ANGLE / 2)
        x, y = np.meshgrid(side, -side)
        return np.stack([x, y, np.full_like(x, -1.0)], -1)

    def meet(self, eye: NDArray[np.float64], directions: NDArray[np.float64]) -> Any:
        """How far along each direction the room ends, and the normal of that plane, both in the world."""
        with np.errstate(divide="ignore"):
            along = np.where(directions > 0, BOX[:, 1] - eye, BOX[:, 0] - eye) / directions
        along = np.where(np.isfinite(along), along, np.inf)
        axis = along.argmin(-1)
        inward = -np.sign(np.take_along_axis(directions, axis[..., None], -1)) * np.eye(3)[axis]
        return along.min(-1), inward

    def see(self, eye: NDArray[np.float64], turn: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Depth (H, W), distance, normals (H, W, 3) with x right, y down, z forward, and colours."""
        rays = self.rays()
        depth, inward = self.meet(eye, rays @ turn.T)
        at = eye + (rays @ turn.T) * depth[..., None]
        waves = np.stack([np.sin(at @ np.array(w)) for w in ([3.1, 2.3, 1.7], [1.3, -2.9, 2.1], [2.2, 1.9, -3.3])], -1)
        distance = depth * np.linalg.norm(rays, axis=-1)
        return {
            "depth": depth, "distance": distance, "normals": inward @ turn * [1, -1, -1], "colours": 0.5 + 0.4 * waves,
        }  # fmt: skip

    def write(
        self, *, turned: tuple[float, ...] = (1, 1, 1), order: tuple[int, ...] = (0, 1, 2), unit: float = 512,
        distance_as_depth: bool = False, inverted: bool = False,
    ) -> Path:  # fmt: skip
        """Two views each of three points in a building per split.

        Args:
            turned: Signs of the stored normals' axes; 1 for what the files have.
            order: Which component stands in each of their channels.
            unit: Steps of depth and distance per metre.
            distance_as_depth: Write distances into depth files.
            inverted: Write cameras as world-to-camera.
        """
        (self.root / "train_val_test_tiny.csv").parent.mkdir(parents=True, exist_ok=True)
        lines = ["id,train,val,test", "allens,1,0,0", "corona,0,1,0", "darden,0,0,1"]
        (self.root / "train_val_test_tiny.csv").write_text("\n".join(lines))
        rng = np.random.default_rng(5)
        for building in ("allens", "corona", "darden"):
            for point, aim in enumerate(((0.3, 0.9, -0.2), (-0.7, 0.4, -0.75), (0.9, -0.5, 0.45))):
                middle = np.array([0.2, -0.4, 1.4])
                target = middle + self.meet(middle, np.array(aim))[0] * np.array(aim)
                for view in range(2):
                    eye = middle + rng.uniform(-0.5, 0.5, 3) * [1, 1, 0.8]
                    turn = looking_at(eye, target)
                    options = (turned, order, unit, distance_as_depth, inverted)
                    self._view((building, point, view), eye, turn, target, *options)
        return self.root

    def _view(
        self, where: tuple[str, int, int], eye: Any, turn: Any, target: Any, turned: Any, order: Any, unit: float,
        distance_as_depth: bool, inverted: bool,
    ) -> None:  # fmt: skip
        made, seen = Download(self.root), self.see(eye, turn)
        depth = seen["distance"] if distance_as_depth else seen["depth"]
        stored = seen["normals"][..., list(order)] * turned
        made.write((seen["colours"] * 255).astype(np.uint8), "rgb", *where)
        made.write((depth * unit).round().astype(np.uint16), "depth_zbuffer", *where)
        made.write((seen["distance"] * unit).round().astype(np.uint16), "depth_euclidean", *where)
        made.write(((stored + 1) * 127.5).astype(np.uint8), "normal", *where)  # cut off, as Blender does: 0 is 127
        written = turn.T if inverted else turn
        content = {
            "camera_location": (-turn.T @ eye if inverted else eye).tolist(),
            "camera_rotation_final": Rotation.from_matrix(written).as_euler("xyz").tolist(),
            "vanishing_points_gaussian_sphere": dict(zip("xyz", turn.tolist(), strict=True)),
            "bounding_box_ranges": dict(zip("yxz", BOX.tolist(), strict=True)),
            "point_location": target.tolist(),
            "field_of_view_rads": VIEW_ANGLE,
            "resolution": self.size,
        }
        file = made.file("point_info", *where, ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))


@pytest.fixture
def box_room(tmp_path: Path) -> BoxRoom:
    """Writes an empty room's files, right ones or wrong ones."""
    return BoxRoom(tmp_path / "box")
