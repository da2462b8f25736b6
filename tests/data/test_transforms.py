"""Joint transforms: what a mirror, a zoom and a hole do to each label, against geometry done again."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torchvision.transforms import v2

from lightning_taskonomy.data.transforms import Joint
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, LabelKind

torch.set_num_threads(1)
SIZE, FOCAL = 32, 30.0


def plane_depth(normal: Tensor, offset: float) -> Tensor:
    """Depth (1, H, W) of the plane normal . x = offset in a pinhole camera with its axis through the centre."""
    axis = (torch.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return (offset / (normal[0] * x + normal[1] * y + normal[2]))[None]


def normals_of(depth: Tensor) -> Tensor:
    """Unit normals (3, H-2, W-2) towards the camera, by central differences of the points seen."""
    axis = (torch.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)]) * depth
    across, down = points[:, 1:-1, 2:] - points[:, 1:-1, :-2], points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    normal = torch.linalg.cross(across, down, dim=0)
    normal = normal / normal.norm(dim=0)
    return normal * -normal[2:].sign()


@pytest.fixture
def sample() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    depth = draw(1, SIZE, SIZE) * 4 + 1
    depth[0, 8:16, 8:16] = math.nan
    return {
        "image": draw(3, SIZE, SIZE),
        "depth_z": depth,
        "normals": torch.nn.functional.normalize(draw(3, SIZE, SIZE) - 0.5, dim=0),
        "semantic": torch.randint(0, 5, (SIZE, SIZE), generator=generator),
        "pair_fixated": draw(2, 3, SIZE, SIZE),
        "pose_fixated": draw(6),
        "egomotion": draw(18),
        "vanishing_points": draw(9),
        "room_layout": draw(9),
        "scene_class": torch.tensor(3),
        "id": torch.tensor(7),
    }


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        type(first[key]) is Tensor and torch.equal(first[key].nan_to_num(-7), second[key].nan_to_num(-7))
        for key in first
    )


def test_mirror_twice_is_nothing(sample: dict[str, Tensor]) -> None:
    flip = Joint([v2.RandomHorizontalFlip(1)])
    before = {key: entry.clone() for key, entry in sample.items()}
    once = flip(sample)
    assert same(sample, before), "the input was changed"
    assert torch.equal(once["image"], sample["image"].flip(-1))
    assert torch.equal(once["semantic"], sample["semantic"].flip(-1))
    assert torch.equal(once["pair_fixated"], sample["pair_fixated"].flip(-1))
    assert not torch.equal(once["normals"], sample["normals"].flip(-1))
    assert same(flip(once), sample)


def test_mirrored_plane_has_the_normals_of_its_mirrored_depth() -> None:
    normal = torch.nn.functional.normalize(torch.tensor([0.5, 0.2, -1.0]), dim=0)
    depth = plane_depth(normal, -3.0)
    normals = normal[:, None, None].expand(3, SIZE, SIZE).contiguous()
    torch.testing.assert_close(normals_of(depth), normals[:, 1:-1, 1:-1], atol=1e-4, rtol=0)
    for transform in (v2.RandomHorizontalFlip(1), v2.RandomVerticalFlip(1)):
        out = Joint([transform])({"image": torch.zeros(3, SIZE, SIZE), "depth_z": depth, "normals": normals})
        torch.testing.assert_close(normals_of(out["depth_z"]), out["normals"][:, 1:-1, 1:-1], atol=1e-4, rtol=0)


def test_mirrored_pose_moves_mirrored_points() -> None:
    """A point seen by both cameras, mirrored in both camera frames, is moved by the mirrored pose."""
    pose = torch.tensor([0.3, -0.5, 0.2, 0.4, -0.1, 0.7])
    out = Joint([v2.RandomHorizontalFlip(1)])({"image": torch.zeros(3, 4, 4), "pose_fixated": pose})["pose_fixated"]
    point, mirror = torch.tensor([0.2, 0.5, 2.0]), torch.tensor([-1.0, 1.0, 1.0])

    def move(pose: Tensor, point: Tensor) -> Tensor:
        return torch.tensor(Rotation.from_rotvec(pose[:3].numpy()).apply(point.numpy())).float() + pose[3:]

    torch.testing.assert_close(move(out, point * mirror), move(pose, point) * mirror)


def test_mirrored_vanishing_points() -> None:
    """The mirrored scene's own right, down, forward, found anew as the data sets define them."""
    frame = torch.tensor(Rotation.from_euler("yxz", [0.4, 0.2, 0.1]).as_matrix()).float()
    out = Joint([v2.RandomHorizontalFlip(1)])({"image": torch.zeros(3, 4, 4), "vanishing_points": frame.flatten()})
    down, forward = (frame[row] * torch.tensor([-1, 1, 1]) for row in (1, 2))
    expected = torch.stack([torch.linalg.cross(down, forward), down, forward])
    torch.testing.assert_close(out["vanishing_points"].reshape(3, 3), expected)


def test_mirrored_layout_has_the_mirrored_corners() -> None:
    layout = torch.tensor([0.3, -0.2, 2.0, 4.0, 2.5, 6.0, 0.1, 0.4, -0.05])

    def corners(layout: Tensor) -> Tensor:
        signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
        turn = torch.tensor(Rotation.from_rotvec(layout[6:].numpy()).as_matrix()).float()
        vertices = layout[:3] + (signs * layout[3:6]) @ turn.T
        return vertices[(vertices * torch.tensor([1.0, 10.0, 100.0])).sum(1).argsort()]

    out = Joint([v2.RandomHorizontalFlip(1)])({"image": torch.zeros(3, 4, 4), "room_layout": layout})["room_layout"]
    mirrored = corners(layout) * torch.tensor([-1.0, 1.0, 1.0])
    mirrored = mirrored[(mirrored * torch.tensor([1.0, 10.0, 100.0])).sum(1).argsort()]
    torch.testing.assert_close(corners(out), mirrored)


@pytest.mark.parametrize("transform", [v2.Resize((16, 16)), v2.Resize(48), v2.RandomResizedCrop(24, (0.2, 0.5))])
def test_zoom_keeps_depth_metric_and_holes(sample: dict[str, Tensor], transform: torch.nn.Module) -> None:
    sample["depth_z"] = plane_depth(torch.tensor([0.3, 0.1, -1.0]), -3.0)
    low, high = sample["depth_z"].min(), sample["depth_z"].max()
    out = Joint([transform])(sample)
    assert low <= out["depth_z"].min() and out["depth_z"].max() <= high
    assert out["depth_z"].shape[-2:] == out["image"].shape[-2:] == out["semantic"].shape == out["normals"].shape[-2:]
    assert set(out["semantic"].unique().tolist()) <= set(range(5))
    torch.testing.assert_close(out["normals"].norm(dim=0), torch.ones(out["normals"].shape[-2:]))
    assert torch.equal(out["pose_fixated"], sample["pose_fixated"])


def test_zoomed_depth_is_the_depth_there() -> None:
    """The left half of a plane, enlarged: the plane's depth at the places that are seen."""
    depth = plane_depth(torch.tensor([0.3, 0.0, -1.0]), -3.0)

    class LeftHalf(v2.Transform):
        def transform(self, inpt: Tensor, params: dict[str, object]) -> Tensor:
            return self._call_kernel(v2.functional.resized_crop, inpt, 0, 0, SIZE, SIZE // 2, [SIZE, SIZE])

    out = Joint([LeftHalf()])({"image": torch.zeros(3, SIZE, SIZE), "depth_z": depth})["depth_z"]
    place = (torch.arange(SIZE) + 0.5) / 2
    expected = -3.0 / (0.3 * (place - SIZE / 2) / FOCAL - 1)
    torch.testing.assert_close(out[0, :, 1:-1], expected[None, 1:-1].expand(SIZE, -1), atol=2e-4, rtol=0)


def test_hole_stays_a_hole_and_its_rim_is_true(sample: dict[str, Tensor]) -> None:
    sample["depth_z"] = torch.full((1, SIZE, SIZE), 2.5)
    sample["depth_z"][0, 8:16, 8:16] = math.nan
    for size in (16, 24, 64):
        depth = Joint([v2.Resize((size, size))])(sample)["depth_z"]
        scale = size / SIZE
        hole = depth[0].isnan()
        assert hole[int(9 * scale) : int(15 * scale), int(9 * scale) : int(15 * scale)].all()
        assert abs(hole.sum().item() - 64 * scale**2) <= 8 * 4 * scale
        torch.testing.assert_close(depth[~depth.isnan()], torch.full_like(depth[~depth.isnan()], 2.5))


def test_what_comes_into_view_is_missing(sample: dict[str, Tensor]) -> None:
    out = Joint([v2.Pad(4)])(sample)
    assert (out["semantic"][:4] == -100).all() and out["depth_z"][:, :4].isnan().all()
    assert out["normals"][:, :, -4:].isnan().all() and (out["image"][:, :4] == 0).all()
    del (
        sample["normals"],
        sample["pose_fixated"],
        sample["egomotion"],
        sample["vanishing_points"],
        sample["room_layout"],
    )
    torch.manual_seed(0)
    out = Joint([v2.RandomRotation((45, 45))])(sample)
    assert out["semantic"][0, 0] == -100 and out["depth_z"][0, 0, 0].isnan()


def test_colour_changes_images_alone(sample: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    out = Joint([v2.ColorJitter(0.5, 0.5, 0.5, 0.2)])(sample)
    assert not torch.equal(out["image"], sample["image"])
    rest = {key: entry for key, entry in sample.items() if key not in ("image", "pair_fixated")}
    assert same({key: out[key] for key in rest}, rest)


def test_unknown_vectors_are_not_mirrored() -> None:
    key = "my_vector"
    sample = {"image": torch.zeros(3, 4, 4), key: torch.zeros(9)}
    with pytest.raises(InputError, match=r"no task says what 'my_vector' of shape \(9,\) holds"):
        Joint([v2.Resize(8)])(sample)
    vector = {key: Label(key, LabelKind.VECTOR, 9)}
    with pytest.raises(InputError, match=r"vector label of shape \(9,\) cannot follow"):
        Joint([v2.RandomHorizontalFlip(1)], vector)(sample)
    assert Joint([v2.RandomHorizontalFlip(1)], {key: Label(key, LabelKind.INVARIANT, 9)})(sample)[key].shape == (9,)
    assert Joint([v2.Resize(8)], vector)(sample)[key].shape == (9,)


def test_normals_are_not_rotated_but_may_have_another_name() -> None:
    sample = {"image": torch.zeros(3, 4, 4), "mine": torch.ones(3, 4, 4)}
    normals = {"mine": Label("mine", LabelKind.NORMALS, 3)}
    with pytest.raises(InputError, match="normals label"):
        Joint([v2.RandomRotation(30)], normals)(sample)
    assert (Joint([v2.RandomHorizontalFlip(1)], normals)(sample)["mine"][0] == -1).all()


KINDS = {
    LabelKind.VALUES: torch.rand(1, SIZE, SIZE),
    LabelKind.NORMALS: torch.tensor([0.0, 0.6, -0.8])[:, None, None].expand(3, SIZE, SIZE),
    LabelKind.CLASSES: torch.ones(SIZE, SIZE, dtype=torch.int64),
    LabelKind.CLASS: torch.tensor(3),
    LabelKind.VECTOR: torch.rand(4),
    LabelKind.INVARIANT: torch.rand(4),
    LabelKind.FRAME: torch.eye(3).flatten(),
    LabelKind.LAYOUT: torch.rand(9),
    LabelKind.POSES: torch.rand(6),
    LabelKind.BOXES: torch.tensor([[8.0, 9, 24, 22]]),
    LabelKind.POINTS: torch.tensor([[[8.0, 9], [24, 22]]]),
    LabelKind.MASKS: torch.ones(1, SIZE, SIZE, dtype=torch.bool),
    LabelKind.OBJECT_CLASSES: torch.tensor([2]),
}
CAMERA = {LabelKind.FRAME, LabelKind.LAYOUT, LabelKind.POSES, LabelKind.VECTOR}
GEOMETRIC: dict[torch.nn.Module, set[LabelKind]] = {
    v2.RandomHorizontalFlip(1): {LabelKind.VECTOR},
    v2.RandomVerticalFlip(1): CAMERA,
    v2.RandomRotation((5, 5)): CAMERA | {LabelKind.NORMALS},
    v2.RandomAffine(5): CAMERA | {LabelKind.NORMALS},
    v2.RandomPerspective(0.2, p=1): CAMERA | {LabelKind.NORMALS},
    v2.ElasticTransform(5.0, 2.0): CAMERA | {LabelKind.NORMALS},
    v2.Resize((20, 48)): set(),
    v2.RandomResizedCrop(24, (0.9, 1.0)): set(),
    v2.Pad(3): set(),
}
"""What cannot follow each of torchvision's geometric transforms: vectors of which it is not known how, and what lies in
the frame of a camera where the picture is not that of a pinhole camera upright with square pixels."""


@pytest.mark.parametrize("kind", LabelKind)
@pytest.mark.parametrize("transform", GEOMETRIC, ids=lambda transform: type(transform).__name__)
def test_each_kind_follows_or_is_refused(kind: LabelKind, transform: torch.nn.Module) -> None:
    channels = {LabelKind.NORMALS: 3, LabelKind.POINTS: 2}.get(kind, 1)
    label = Label("label", kind, channels, mirror=(1, 0) if kind is LabelKind.POINTS else None)
    joint = Joint([transform], {"label": label})
    given = {"image": torch.rand(3, SIZE, SIZE), "label": KINDS[kind].clone()}
    if kind in GEOMETRIC[transform]:
        with pytest.raises(
            InputError, match=r"label of shape \(.*cannot follow \w+; leave out the transform or the task"
        ):
            joint(given)
        return
    moved = joint(given)
    assert type(moved["label"]) is Tensor and moved["label"].dtype == KINDS[kind].dtype
    if kind.extent == "pixel" or kind is LabelKind.MASKS:
        assert moved["label"].shape[-2:] == moved["image"].shape[-2:]
    else:
        assert moved["label"].shape == KINDS[kind].shape


def test_a_transform_that_wants_something_else_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^RandomIoUCrop.* requires input sample to contain") as caught:
        Joint([v2.RandomIoUCrop()])({"image": torch.rand(3, SIZE, SIZE)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("transform", [v2.FiveCrop(4), v2.TenCrop(4)], ids=lambda transform: type(transform).__name__)
def test_a_transform_that_makes_several_pictures_is_refused(transform: torch.nn.Module) -> None:
    with pytest.raises(InputError, match=r"Crop makes a tuple of 'image', not one of it; leave it out"):
        Joint([transform])({"image": torch.rand(3, SIZE, SIZE)})


def test_objects_without_some_of_their_labels_move_as_well() -> None:
    """Of an image whose boxes are known and whose classes are not, a flip moves the boxes."""
    labels = {"boxes": Label("boxes", LabelKind.BOXES, 4), "sorts": Label("sorts", LabelKind.OBJECT_CLASSES)}
    sample = {
        "image": torch.rand(3, SIZE, SIZE), "boxes": torch.tensor([[2.0, 3, 9, 8], [10, 3, 12, 8]]),
        "boxes_labelled": torch.tensor(True), "sorts": torch.empty(0, dtype=torch.int64),
        "sorts_labelled": torch.tensor(False),
    }  # fmt: skip
    moved = Joint([v2.RandomHorizontalFlip(1)], labels)(sample)
    assert moved["boxes"].tolist() == [[SIZE - 9, 3, SIZE - 2, 8], [SIZE - 12, 3, SIZE - 10, 8]]
    assert moved["sorts"].shape == (0,) and not moved["sorts_labelled"]
