"""The features of images that a study of chains left: ``features.json``, and the files that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.examples import read_examples
from lightning_taskonomy.reports.reading import read_json

__all__ = ["ImageFeatures", "read_features"]


@dataclass(frozen=True)
class ImageFeatures:
    """What ``features.json`` says.

    Args:
        encoder: The folder of the run whose backbone gave the features.
        images: Up to how many images of each collection they are of.
        normalised: Whether each data set was normalised by its own colours.
        files: The file of each collection of images; it may be missing.
    """

    encoder: Path
    images: int
    normalised: bool
    files: Mapping[str, Path]

    @classmethod
    def read(cls, folder: Path) -> "ImageFeatures | None":
        """What the folder of a study has; None where its analysis has not written the file yet.

        Raises:
            InputError: The file is damaged, or lacks something.
        """
        file = folder / "features.json"
        if not file.is_file():
            return None
        content = read_json(file, dict, {})
        encoder, images, files = (content.get(name) for name in ("encoder", "images", "files"))
        for name, value, right, wanted in (
            ("encoder", encoder, isinstance(encoder, str), "the folder of a run"),
            ("images", images, type(images) is int and images > 0, "a number of images, at least 1"),
            ("files", files, isinstance(files, dict) and all(isinstance(one, str) for one in files.values()),
             "a file for each collection of images"),
        ):  # fmt: skip
            if not right:
                raise InputError(
                    f"{file}: {name!r} is {value!r}, must be {wanted}; run the study's stage 'analysis' again"
                )
        places = {name: folder / one for name, one in files.items()}
        return cls(folder / encoder, images, bool(content.get("normalised")), places)


def read_features(path: Path) -> NDArray[np.floating]:
    """The features of a collection of images.

    Args:
        path: An ``.npz`` file.

    Returns:
        (images, channels).

    Raises:
        InputError: The file cannot be read, or holds no such array.
    """
    features = read_examples(path).get("features")
    if features is None or features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise InputError(f"{path} has no array 'features' (images, channels); run the study's stage 'features' again")
    return features
