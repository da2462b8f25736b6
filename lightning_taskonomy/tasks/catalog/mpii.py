"""The 16 points of a person in MPII Human Pose, in the order of its point numbers."""

from lightning_taskonomy.tasks.catalog.objects import keypoints

POINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
MIRROR = (5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10)
"""The place of each point in a mirrored image."""
SIGMAS = (
    0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.079, 0.079, 0.035, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062,
)  # fmt: skip
"""Of points that COCO has too, COCO's. Neither data set nor paper gives the others: here pelvis as hip, thorax and
neck as shoulder, top of the head as ear."""

KEYPOINTS = keypoints("keypoints", POINTS, MIRROR, SIGMAS, crowds=True)
