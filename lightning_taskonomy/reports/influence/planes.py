"""Images as points in the plane, near ones near: Fig. 3."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.chains import PICTURED, plane
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.features import read_features
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.reports.influence.figures import plane_figure, type_planes
from lightning_taskonomy.reports.influence.files import InfluenceResults
from lightning_taskonomy.reports.words import join

__all__ = ["planes"]

_Places = dict[str, NDArray[np.float64]]


def planes(page: Page, results: InfluenceResults) -> None:
    """The images of all data sets by one network, and those of one data set by networks of several task types."""
    if find_spec("sklearn") is None:
        page.text("Not here: t-SNE needs scikit-learn: pip install 'lightning-taskonomy[influence]'.")
        return
    _data_sets(page, results)
    _task_types(page, results)


def _data_sets(page: Page, results: InfluenceResults) -> None:
    """Fig. 3a."""
    places = _places(results.features)
    if places is None:
        page.text("Not here yet: the study has not written features of images.")
        return
    page.figure(
        plane_figure(places, {name: results.domain_of(name) for name in places}),
        "plane",
        alt=f"Images of {join(list(places))} as points in the plane",
        caption=f"t-SNE of the features by which distances are measured, of up to {PICTURED} images of each data set. "
        "Near points are alike; distances between far groups mean nothing.",
    )


def _task_types(page: Page, results: InfluenceResults) -> None:
    """Fig. 3b and c."""
    files = results.type_features.items()
    panels = {name: places for name, of_types in files if (places := _places(of_types, "cosine")) is not None}
    if panels:
        page.figure(
            type_planes(panels),
            "plane-of-task-types",
            alt=f"Images of {join(list(panels))} in the features of networks of several task types",
            caption=f"The same up to {PICTURED} images of a data set, by the backbones of its sources of several task "
            "types and by the first link where it was trained here: t-SNE by cosine distance, which leaves out how "
            "large features are. In the paper (Fig. 3b and c) each network keeps its images together: one image in two "
            "networks is farther apart than two images in one.",
        )


def _places(files: Mapping[str, Path], metric: Literal["euclidean", "cosine"] = "euclidean") -> _Places | None:
    """The places of the images in each file; None of fewer than three.

    Args:
        files: Files of features by name.
        metric: The distance of features.

    Raises:
        InputError: They are of backbones of different widths.
    """
    features = {name: read_features(file)[:PICTURED] for name, file in files.items()}
    if metric == "cosine":  # an image that a network answers with 0 alone has no direction
        features = {name: rows[rows.any(axis=1)] for name, rows in features.items()}
    if sum(map(len, features.values())) < 3:
        return None
    widths = {name: rows.shape[1] for name, rows in features.items()}
    if len(set(widths.values())) > 1:
        sizes = join([f"{name} ({width})" for name, width in widths.items()])
        raise InputError(f"features of {sizes} are of different backbones; run the study's stage 'features' again")
    places = plane(np.concatenate(list(features.values())), metric=metric)
    ends = np.cumsum([len(rows) for rows in features.values()])[:-1]
    return dict(zip(features, np.split(places, ends), strict=True))
