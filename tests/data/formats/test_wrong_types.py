"""Files of annotations in JSON or MATLAB's format, wrong or damaged anywhere: read, left out or said in one line."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import SkipSample
from lightning_taskonomy.data.formats.bdd100k import BDD100KDataModule
from lightning_taskonomy.data.formats.coco import COCODataModule, COCOKeypointsDataModule
from lightning_taskonomy.data.formats.coco_panoptic import COCOPanopticDataModule
from lightning_taskonomy.data.formats.mpii import MPIIDataModule
from lightning_taskonomy.data.formats.pascal_context import PascalContextDataModule
from lightning_taskonomy.data.formats.stanford_dogs import StanfordDogsDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks.catalog.coco_panoptic import CATEGORIES

torch.set_num_threads(1)
OTHERS = ([], {}, "x", "", None, True, 7, -1, 0.5, 1e300, float("inf"), float("nan"), 10**400, [[]], [{}])
IMAGES = [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 12}]
BOX = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1.5, 2, 4, 5], "iscrowd": 0}
PERSONS = {"images": IMAGES, "categories": [{"id": 1, "name": "person"}]}
LABEL = {"category": "car", "attributes": {"crowd": False}, "box2d": {"x1": 1, "y1": 1, "x2": 4, "y2": 5}}
PERSON = {"image": "a.jpg", "center": [6, 4], "scale": 0.1, "joints": [[3, 3]] * 16, "joints_vis": [1] * 16}
BREED = "n02085620-Chihuahua/a.jpg"
CONTENTS: dict[str, tuple[type[TaskDataModule], str, Any]] = {
    "coco": (COCODataModule, "annotations/instances_train2017.json", {**PERSONS, "annotations": [BOX]}),
    "coco_keypoints": (
        COCOKeypointsDataModule, "annotations/person_keypoints_train2017.json",
        {**PERSONS, "annotations": [{**BOX, "keypoints": [1, 2, 2] * 17}]},
    ),
    "coco_panoptic": (
        COCOPanopticDataModule, "annotations/panoptic_train2017.json",
        {"annotations": [{"file_name": "a.png", "image_id": 1, "segments_info": [{"id": 7, "category_id": 1}]}],
         "categories": [{"id": n, "name": name} for n, name in enumerate(CATEGORIES, 1)]},
    ),
    "bdd100k": (BDD100KDataModule, "labels/det_20/det_train.json", {"frames": [{"name": "a.jpg", "labels": [LABEL]}]}),
    "bdd100k_2018": (
        BDD100KDataModule, "labels/bdd100k_labels_images_train.json", [{"name": "a.jpg", "labels": [LABEL]}],
    ),
    "mpii": (MPIIDataModule, "annot/train.json", [PERSON]),
    "stanford_dogs": (
        StanfordDogsDataModule, "StanfordExtra_v12.json",
        [{"img_path": BREED, "img_width": 12, "img_height": 8, "joints": [[3, 3, 1]] * 24, "img_bbox": [1, 1, 4, 5]}],
    ),
}  # fmt: skip


def changed(content: Any) -> Iterator[tuple[str, Any]]:
    """The content with each of its values in turn replaced by each of the others; of long lists the first one's."""
    places: list[tuple[Any, ...]] = [()]
    for place in places:
        value = content
        for step in place:
            value = value[step]
        steps = value if isinstance(value, dict) else range(min(len(value), 1)) if isinstance(value, list) else ()
        places.extend((*place, step) for step in steps)
        for other in OTHERS:
            whole = {"content": copy.deepcopy(content)}
            inner: Any = whole
            for step in (path := ["content", *place])[:-1]:
                inner = inner[step]
            inner[path[-1]] = other
            yield f"{place} is {str(other)[:20]!r}", whole["content"]


@pytest.mark.parametrize("name", CONTENTS)
def test_a_value_of_another_type(name: str, tmp_path: Path) -> None:
    module, file, content = CONTENTS[name]
    for folder in ("train2017", "images/100k/train", "images", f"Images/{BREED.partition('/')[0]}"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / folder / "a.jpg")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    segments = tmp_path / "annotations" / "panoptic_train2017"
    segments.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 12, 3), (7, 0, 0), np.uint8)).save(segments / "a.png")
    said = []
    for what, other in [("as it is", content), *changed(content)]:
        (tmp_path / file).write_text(json.dumps(other))
        data = module(root=str(tmp_path))  # type: ignore[call-arg]
        try:
            samples = data.build("train", [*data.keys_offered])
            for index in range(len(samples)):
                samples[index]
        except (InputError, SkipSample) as error:
            said.append((what, str(error)))
        except Exception as error:
            raise AssertionError(what) from error
    assert len(said) > len(OTHERS) and "as it is" not in dict(said)
    assert not [one for one in said if "\n" in one[1]]


def test_matlab_files_that_are_damaged(tmp_path: Path) -> None:
    """Cut off, or with something else under the name."""
    name = "n02085620-Chihuahua/a.jpg"
    for folder in ("images", "JPEGImages", f"Images/{name.partition('/')[0]}"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / folder / "a.jpg")
    (tmp_path / "StanfordExtra_v12.json").write_text(json.dumps(CONTENTS["stanford_dogs"][2]))
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "trainval").mkdir()
    person = {"annopoints": {"point": {"x": 3.0, "y": 3.0, "id": 9}}, "scale": 0.1, "objpos": {"x": 3.0, "y": 3.0}}
    release = {"annolist": {"image": {"name": "a.jpg"}, "annorect": person}, "img_train": 1}
    files = np.empty((1, 1), object)
    files[0, 0] = name
    for module, file, variable, content in (
        (MPIIDataModule, "mpii_human_pose_v1_u12_1.mat", "RELEASE", release),
        (StanfordDogsDataModule, "train_list.mat", "file_list", files),
        (PascalContextDataModule, "trainval/a.mat", "LabelMap", np.full((8, 12), 284, np.uint16)),
    ):
        savemat(tmp_path / file, {variable: content}, do_compression=module is PascalContextDataModule)
        good = (tmp_path / file).read_bytes()
        states = [good, *(good[:length] for length in range(0, len(good), len(good) // 40))]
        for other in ({variable: 7.0}, {variable: {"a": 1}}, {"other": 1}, {variable: np.nan}):
            savemat(tmp_path / file, other)
            states.append((tmp_path / file).read_bytes())
        outcomes = []
        for number, state in enumerate(states):
            (tmp_path / file).write_bytes(state)
            data = module(root=str(tmp_path))
            try:
                samples = data.build("train", [*data.keys_offered])
                samples[0] if len(samples) else None
                outcomes.append([problem.reason for problem in samples.problems])  # type: ignore[attr-defined]
            except (InputError, SkipSample) as error:
                outcomes.append([str(error)])
            except Exception as error:
                raise AssertionError((file, number)) from error
        assert not outcomes[0] and all(outcomes[1:11]) and all(outcomes[-4:])
        assert not [text for texts in outcomes for text in texts if "\n" in text]
