"""MPII Human Pose (Andriluka et al., 2014): stills of people with 16 points, in its release file or the usual JSON."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.formats.annotations import Member, read_json, read_mat
from lightning_taskonomy.data.formats.objects import Annotated, ObjectDataModule, halves, whole
from lightning_taskonomy.data.reading import stable_id
from lightning_taskonomy.data.stored import FileProblem, visible
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.mpii import KEYPOINTS, POINTS

__all__ = ["MPIIDataModule"]

_RELEASE = "mpii_human_pose_v1_u12_1.mat"
_FILES = ("train", "valid", "val", "trainval")
"""What the JSON files are called."""
_REACH = 200
"""Pixels that a person is high at scale 1."""
_MARGIN = 0.1
"""By what part of a person's height the box reaches beyond the points."""


class MPIIDataModule(ObjectDataModule):
    """Images of MPII with ``boxes`` and ``points`` (n, 16, 2) of persons.

    The points of its test images are not public. Splits are those of the JSON files that pose estimators share:
    ``train``, ``official_test`` (``valid.json``, which they report on), half of it each ``validation`` and
    ``test``, and ``trainval``; one JSON file of another name is ``train``. The release file has ``train`` alone:
    all training images.

    The files count pixels from 1 and name the one that a point is in: it is taken to be in the middle of it. They have
    no boxes: a person's box reaches a tenth of their height (200 pixels at scale 1) beyond their points, within the
    image. A person of the release file whose points are not marked is a region to ignore, as high and as wide as that.

    Args:
        root: The folder of ``images`` and of the annotations: ``annot/*.json`` or ``annotations/*.json``, or
            ``mpii_human_pose_v1_u12_1.mat``, there or in ``mpii_human_pose_v1_u12_2``.
        size: Height and width to resize to; None keeps those of the files.
        **options: Those of ``TaskDataModule``.
    """

    splits = halves("train", "valid") | whole(trainval="trainval")
    are_made = True

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its keypoints."""
        return (KEYPOINTS,)

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        """The images that the annotations name.

        Raises:
            InputError: There is no file of annotations, it is damaged, or it has no such split.
        """
        files = [file for folder in ("annot", "annotations") for file in visible(self.root / folder)]
        named = {
            file.stem.removesuffix("_mpii").removeprefix("mpii_"): file for file in files if file.suffix == ".json"
        }
        if "val" in named:
            named["valid"] = named["val"]
        if len(named) == 1 and not named.keys() & {*_FILES}:
            named = {"train": next(iter(named.values()))}
        if part in named:
            persons = _of_json(named[part])
        elif named:
            there = ", ".join(sorted({file.name for file in named.values()}))
            raise InputError(f"{self.root} has no {part}.json beside {there}")
        else:
            persons = _of_release(self._release(), part)
        rows: dict[str, list[_Person]] = {}
        for name, person in persons:
            rows.setdefault(name, []).extend([person] if person is not None else [])
        images = [self._image(name, people) for name, people in rows.items()]
        return images, ()

    def _release(self) -> Path:
        for folder in (self.root, self.root / "mpii_human_pose_v1_u12_2"):
            if (folder / _RELEASE).is_file():
                return folder / _RELEASE
        raise InputError(
            f"{self.root} has neither annot/*.json nor {_RELEASE}; root must hold one of them and the folder images"
        )

    def _image(self, name: str, people: Sequence["_Person"]) -> Annotated:
        marked = [person for person in people if person.points is not None]
        others = [person.region() for person in people if person.points is None]
        return Annotated(
            self.root / "images" / name, stable_id("mpii", name), [person.box() for person in marked],
            [0] * len(marked), np.array([person.points for person in marked]), others, [0] * len(others),
            labelled=bool(people),
        )  # fmt: skip


class _Person:
    """One person: points (16, 2) from the outer corner of the first pixel, or none, where, and how high."""

    def __init__(self, points: NDArray[Any] | None, middle: Sequence[float], scale: float) -> None:
        self.points, self.middle, self.height = points, np.array(middle, dtype=float), scale * _REACH

    def box(self) -> list[float]:
        """Around the points."""
        assert self.points is not None
        reach = max(_MARGIN * self.height, 1.0)
        low, high = np.nanmin(self.points, 0) - reach, np.nanmax(self.points, 0) + reach
        return [*low, *high]

    def region(self) -> list[float]:
        """The square that a person without points is somewhere in."""
        return [*(self.middle - self.height / 2), *(self.middle + self.height / 2)]


def _of_json(file: Path) -> Iterator[tuple[str, _Person | None]]:
    """Images and persons; none for an image whose points are not public."""
    content = read_json(file)
    if not isinstance(content, list):
        raise FileProblem(file, "is no list of persons")
    for number, entry in enumerate(content, 1):
        person = Member(file, f"person {number}", entry)
        name = person.text("image")
        if "joints" not in person.content:
            yield name, None
            continue
        joints = [
            Member(file, f"{person.where}, point {i}", {"xy": xy}) for i, xy in enumerate(person.list_of("joints"))
        ]
        there = np.array(person.numbers("joints_vis", len(POINTS))) > 0
        if len(joints) != len(POINTS):
            raise FileProblem(file, f"person {number} has {len(joints)} points, not {len(POINTS)}")
        points = np.array([joint.numbers("xy", 2) for joint in joints]) - 0.5
        yield (
            name,
            _person(np.where(there[:, None], points, np.nan), person.numbers("center", 2), person.number("scale")),
        )


def _person(points: NDArray[Any], middle: Sequence[float], scale: float) -> _Person:
    return _Person(None if np.isnan(points).all() else points, middle, scale)


def _of_release(file: Path, part: str) -> Iterator[tuple[str, _Person | None]]:
    """Images and persons of the release file."""
    if part != "train":
        raise InputError(
            f"{file} has labels of the training images alone; validate on some of them by "
            "--data.init_args.validation_share 0.1, or use the JSON files"
        )
    release = read_mat(file, "RELEASE")
    try:
        for_training = np.atleast_1d(release["img_train"]).astype(bool)
        images = _several(release["annolist"])
        if len(images) != len(for_training):
            raise ValueError(f"{len(images)} images, {len(for_training)} of them of a part")
        for image, is_training in zip(images, for_training, strict=True):
            if is_training:
                name = str(image["image"]["name"])
                yield from ((name, person) for person in map(_of_rect, _several(image["annorect"])) if person)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise FileProblem(file, f"damaged (no release of MPII: {error!r})") from error


def _several(entry: Any) -> Sequence[Any]:
    """MATLAB's arrays of one member come as the member, those of none as an empty array."""
    return [entry] if isinstance(entry, Mapping) else [] if entry is None else list(entry)


def _of_rect(rect: Mapping[str, Any]) -> _Person | None:
    """One person of the release; None where neither points nor place are there."""
    points = np.full((len(POINTS), 2), np.nan)
    marked = rect.get("annopoints")
    for point in _several(marked["point"]) if isinstance(marked, Mapping) else ():
        points[int(point["id"])] = float(point["x"]) - 0.5, float(point["y"]) - 0.5
    middle, scale = rect.get("objpos"), rect.get("scale")
    if isinstance(middle, Mapping) and isinstance(scale, int | float):
        return _person(points, [float(middle["x"]) - 0.5, float(middle["y"]) - 0.5], float(scale))
    return None if np.isnan(points).all() else _Person(points, [np.nan, np.nan], 0.0)
