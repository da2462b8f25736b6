"""The dictionary of 26 tasks of Taskonomy (CVPR 2018, Fig. 3 and section 3), with the classes of Rooms.

``FURTHER`` are tasks of Rooms beside the dictionary, for all its appearances: ``rooms.segmentation`` and so on.

Shifts and scales are round numbers near mean and spread of the labels in rooms; they only condition the optimisation.
Source-only are the four that the paper never uses as targets (section 4).
"""

from dataclasses import replace

from lightning_taskonomy.tasks.base import Family, Task, TaskKind
from lightning_taskonomy.tasks.catalog.objects import detection, keypoints
from lightning_taskonomy.tasks.labels import Label, LabelKind

SEMANTIC_CLASSES = (
    "wall", "floor", "ceiling", "door", "window", "picture", "table", "chair", "sofa", "bed", "cabinet",
    "shelf", "lamp", "plant", "rug", "tv", "ball", "vase", "book", "toilet", "sink",
)  # fmt: skip
OBJECT_CLASSES = SEMANTIC_CLASSES[3:]
CLASSES = (
    *SEMANTIC_CLASSES,
    "sky", "road", "pavement", "grass", "water", "seabed",
    "building", "car", "truck", "person", "dog", "tree", "pole", "sign", "bench",
    "rock", "coral", "fish", "bottle", "can", "crate",
)  # fmt: skip
"""One table for every appearance of Rooms: those of the indoor one come first and keep their numbers."""
STUFF = ("wall", "floor", "ceiling", "sky", "road", "pavement", "grass", "water", "seabed")
"""Classes that are not objects."""
THINGS = tuple(name for name in CLASSES if name not in STUFF)
"""Classes of objects with boxes, in the order of ``CLASSES``; the first 18 are ``OBJECT_CLASSES``."""
POINTS = tuple(
    f"{side} {height} {depth}"
    for depth in ("near", "far")
    for height in ("top", "bottom")
    for side in ("left", "right")
)
"""Keypoints of an object: the corners of its largest part, as ``data.rooms.objects`` says."""
MIRROR = (1, 0, 3, 2, 5, 4, 7, 6)
"""Which of ``POINTS`` each becomes in a mirrored image."""
SCENE_CLASSES = ("living room", "bedroom", "kitchen", "office", "bathroom", "corridor")

AUTOENCODING = Task("autoencoding", TaskKind.DENSE, "image", 3, family=Family.TWO_D, shift=0.5, scale=0.25)
DENOISING = Task("denoising", TaskKind.DENSE, "image", 3, "image_noisy", Family.TWO_D, shift=0.5, scale=0.25)
COLORIZATION = Task(
    "colorization", TaskKind.SEGMENTATION, "color_bins", 229, "image_gray", Family.TWO_D, True, stride=4
)
INPAINTING = Task("inpainting", TaskKind.DENSE, "image", 3, "image_masked", Family.TWO_D, True, shift=0.5, scale=0.25)
JIGSAW = Task("jigsaw", TaskKind.CLASSIFICATION, "permutation", 72, "image_tiles", Family.TWO_D, True)
RANDOM_PROJECTION = Task(
    "random_projection", TaskKind.VECTOR, "random_projection", 32, family=Family.TWO_D, source_only=True
)

DEPTH_Z = Task("depth_z", TaskKind.DENSE, "depth_z", units="m", shift=3.0, scale=1.5)
DEPTH_EUCLIDEAN = Task("depth_euclidean", TaskKind.DENSE, "depth_euclidean", units="m", shift=3.0, scale=1.5)
NORMALS = Task("normals", TaskKind.NORMALS, "normals", 3)
CURVATURE = Task("curvature", TaskKind.DENSE, "curvature", 2, units="1/m", scale=4.0)
RESHADING = Task("reshading", TaskKind.DENSE, "reshading", shift=0.6, scale=0.25)
EDGES_2D = Task("edges_2d", TaskKind.DENSE, "edges_2d", family=Family.TWO_D, shift=0.1, scale=0.1)
EDGES_OCCLUSION = Task("edges_occlusion", TaskKind.DENSE, "edges_occlusion", shift=0.1, scale=0.2)
KEYPOINTS_2D = Task("keypoints_2d", TaskKind.DENSE, "keypoints_2d", family=Family.TWO_D, shift=0.1, scale=0.1)
KEYPOINTS_3D = Task("keypoints_3d", TaskKind.DENSE, "keypoints_3d", shift=0.1, scale=0.1)
SEGMENTATION_2D = Task("segmentation_2d", TaskKind.GROUPING, "segments_2d", 64, family=Family.TWO_D)
SEGMENTATION_25D = Task("segmentation_25d", TaskKind.GROUPING, "segments_25d", 64)

SEMANTIC_SEGMENTATION = Task(
    "semantic_segmentation", TaskKind.SEGMENTATION, "semantic", 21, family=Family.SEMANTIC, class_names=SEMANTIC_CLASSES
)
OBJECT_CLASSIFICATION = Task(
    "object_classification",
    TaskKind.CLASSIFICATION,
    "object_class",
    18,
    family=Family.SEMANTIC,
    class_names=OBJECT_CLASSES,
)
SCENE_CLASSIFICATION = Task(
    "scene_classification", TaskKind.CLASSIFICATION, "scene_class", 6, family=Family.SEMANTIC, class_names=SCENE_CLASSES
)

ROOM_LAYOUT = Task(
    "room_layout", TaskKind.VECTOR, "room_layout", 9, family=Family.LOW_DIMENSIONAL, units="m, 1", scale=2.0,
    labels=(Label("room_layout", LabelKind.LAYOUT, 9),),
)  # fmt: skip
VANISHING_POINTS = Task(
    "vanishing_points", TaskKind.VECTOR, "vanishing_points", 9, family=Family.LOW_DIMENSIONAL, scale=0.5,
    labels=(Label("vanishing_points", LabelKind.FRAME, 9),),
)  # fmt: skip
POSE_FIXATED = Task(
    "pose_fixated", TaskKind.VECTOR, "pose_fixated", 6, "pair_fixated", Family.LOW_DIMENSIONAL, units="rad, m",
    labels=(Label("pose_fixated", LabelKind.POSES, 6),),
)  # fmt: skip
POSE_NONFIXATED = Task(
    "pose_nonfixated", TaskKind.VECTOR, "pose_nonfixated", 6, "pair_nonfixated", Family.LOW_DIMENSIONAL, units="rad, m",
    labels=(Label("pose_nonfixated", LabelKind.POSES, 6),),
)  # fmt: skip
EGOMOTION = Task(
    "egomotion", TaskKind.VECTOR, "egomotion", 18, "triplet", Family.LOW_DIMENSIONAL, units="rad, m", scale=0.5,
    labels=(Label("egomotion", LabelKind.POSES, 18),),
)  # fmt: skip
POINT_MATCHING = Task(
    "point_matching", TaskKind.CLASSIFICATION, "matching", 2, "pair_matching", Family.LOW_DIMENSIONAL,
    class_names=("different", "same"),
)  # fmt: skip

SEGMENTATION = Task(
    "segmentation", TaskKind.SEGMENTATION, "semantic", len(CLASSES), family=Family.SEMANTIC, class_names=CLASSES
)
DETECTION = detection("detection", THINGS)
KEYPOINTS = keypoints("keypoints", POINTS, MIRROR, (0.1,) * len(POINTS), class_name="object")
DEPTH = replace(DEPTH_Z, name="depth", loss="lightning_taskonomy.losses.l1_and_gradients")
FURTHER = (SEGMENTATION, DETECTION, KEYPOINTS, DEPTH)
"""Tasks that are not of the dictionary of 26."""
