"""The data sets of "Factors of Influence", against the numbers printed in the paper's Table 1."""

import pytest

from lightning_taskonomy.tasks import catalog
from lightning_taskonomy.tasks.catalog.domains import COLLECTIONS, DOMAINS

SEGMENTATION = {
    "pascal_context": 60, "voc": 22, "ade20k": 150, "coco": 134, "kitti": 30, "camvid": 23, "cityscapes": 33, "idd": 35,
    "bdd": 20, "mapillary": 66, "isprs": 6, "isaid": 16, "sunrgbd": 37, "scannet": 41, "suim": 8, "vkitti2": 9,
    "vgallery": 8,
}  # fmt: skip
TASKS = {
    "pascal_context": "pascal_context.semantic_segmentation", "ade20k": "ade20k.semantic_segmentation",
    "coco": "coco_panoptic.semantic_segmentation", "cityscapes": "cityscapes.semantic_33",
    "idd": "idd.semantic_segmentation", "bdd": "bdd10k.semantic_segmentation",
    "mapillary": "mapillary.semantic_segmentation", "isprs": "isprs.semantic_segmentation",
    "isaid": "isaid.semantic_segmentation", "sunrgbd": "sunrgbd.semantic_segmentation",
    "scannet": "scannet.semantic_segmentation", "suim": "suim.semantic_segmentation",
}  # fmt: skip
AT_ODDS = {
    "voc": ("voc2012.semantic_segmentation", 21), "kitti": ("kitti.semantic_segmentation", 33),
    "camvid": ("camvid32.semantic_segmentation", 32), "vkitti2": ("vkitti2.semantic_segmentation", 15),
    "vgallery": ("vgallery.semantic_segmentation", 10),
}  # fmt: skip
SIZES = {
    "pascal_context": ("5K", "5K"), "voc": ("10K", "1449"), "mpii": ("17K", "7K"), "ade20k": ("20K", "2K"),
    "coco": ("118K", "5K"), "kitti": ("150", "50"), "camvid": ("367", "101"), "cityscapes": ("3K", "500"),
    "idd": ("7K", "981"), "bdd": ("7K", "3K"), "mapillary": ("18K", "2K"), "isprs": ("4K", "437"),
    "isaid": ("27K", "9K"), "sunrgbd": ("5K", "425"), "scannet": ("19K", "5K"), "suim": ("1525", "110"),
    "uwt": ("6K", "1144"), "stanford_dogs": ("7K", "5K"), "vkitti2": ("43K", "7K"), "vgallery": ("44K", "12K"),
    "imagenet": ("1.2M", "50K"),
}  # fmt: skip
"""Images that are trained on and evaluated, as printed."""


def as_number(printed: str) -> int:
    return round(float(printed.rstrip("KM")) * {"K": 1_000, "M": 1_000_000}.get(printed[-1], 1))


def test_table_1() -> None:
    assert len(COLLECTIONS) == 21  # 20 and the first link
    kinds = {
        kind: [c.name for c in COLLECTIONS.values() if kind in c.kinds] for kind in ("detection", "keypoints", "depth")
    }
    assert {kind: len(names) for kind, names in kinds.items()} == {"detection": 4, "keypoints": 3, "depth": 3}
    counted = {name: c.classes["segmentation"] for name, c in COLLECTIONS.items() if "segmentation" in c.kinds}
    assert counted == SEGMENTATION
    assert {c.domain for c in COLLECTIONS.values()} == {*DOMAINS, "websearch"}
    assert all({*c.kinds} >= {*c.classes} and c.source_of_layout for c in COLLECTIONS.values())
    sizes = {name: (c.train, c.test) for name, c in COLLECTIONS.items()}
    assert sizes == {name: (as_number(train), as_number(test)) for name, (train, test) in SIZES.items()}


@pytest.mark.parametrize("name", SEGMENTATION)
def test_classes_of_the_catalog(name: str) -> None:
    """As many as the table has, or a remark that says why not."""
    path, count = AT_ODDS.get(name) or (TASKS[name], SEGMENTATION[name])
    task = catalog()[path]
    assert task.channels == count and task.class_names is not None and len({*task.class_names}) == count
    assert name not in AT_ODDS or COLLECTIONS[name].remark
