"""Every random draw has its own stream, named by what it is for, the building and the view: order never matters."""

import zlib
from enum import IntEnum

import numpy as np

__all__ = ["Stream", "generator"]


class Stream(IntEnum):
    """What a stream of random numbers is for; not zero, since a seed sequence does not see trailing zeros."""

    STYLE = 1
    ROOM = 2
    CAMERA = 3
    SENSOR = 4
    FIXATED = 5
    NONFIXATED = 6
    ONWARD = 7
    MATCHING = 8
    PRETEXT = 9
    MEDIUM = 10


def generator(
    stream: Stream, building: int, index: int = 0, view: int = 0, appearance: str = ""
) -> np.random.Generator:
    """The generator of one purpose.

    Args:
        stream: The purpose.
        building: The building's seed.
        index: The room or the view.
        view: Which of a sample's pictures.
        appearance: Whose numbers they are; none for those of the indoor rooms.
    """
    salt = (zlib.crc32(appearance.encode()),) if appearance else ()
    return np.random.default_rng(np.random.SeedSequence((int(stream), building, index, view, *salt)))
