"""``data check``, ``data colours``, ``data render``, ``data cache``: the data doctor, colours, the embedded data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_bytes, write_json, write_text

if TYPE_CHECKING:
    from lightning_taskonomy.data import RoomsDataModule, TaskDataModule

__all__ = ["data_cache", "data_check", "data_colours", "data_render"]


def data_check(
    data: TaskDataModule | None = None,
    format: str | None = None,
    root: Path | None = None,
    out: Path | None = None,
    limit: int | None = None,
    compare: int = 16,
    angle: float = 15.0,
    ratio: float = 1.1,
    overlap: float = 0.5,
    json: bool = False,
) -> None:
    """Look through a data set: images, labels, damaged and missing files, sizes, values, leaks between splits.

    Labels that geometry ties together are compared: normals with depth and with vanishing points, depth with poses,
    boxes with masks and points, masks with classes.

    Args:
        data: The data module.
        format: Instead, the name of a public data set, such as coco, voc or cityscapes, in its official files.
        root: The folder of that data set.
        out: Where the report (report.json, report.txt) and the list of images to leave out (skip.txt) are written;
            with a format, check-FORMAT where not given.
        limit: At most so many samples of each split.
        compare: On how many images of each split labels are compared with each other; 0 for none.
        angle: Degrees between normals and those of the depth, the median of an image, from where on they disagree.
        ratio: Times that a depth may be larger or smaller than what poses or distances say.
        overlap: The least overlap (intersection over union) of a box with its mask's, share of points in their boxes,
            and share of a mask in one class.
        json: Print one JSON object.
    """
    from json import dumps

    from lightning_taskonomy.data.agreement import Limits
    from lightning_taskonomy.data.doctor import check
    from lightning_taskonomy.data.skips import write_skips

    if format is not None:
        from lightning_taskonomy.data.named import named

        if data is not None or root is None:
            raise InputError("data check: give --format NAME --root FOLDER, or --data MODULE")
        data, out = named(format)(root=str(root)), out or Path(f"check-{format}")  # type: ignore[call-arg]
    elif root is not None:
        raise InputError("data check: --root is of a --format; give its name, or --data.init_args.root")
    if data is None:
        raise InputError("data check: give --format NAME --root FOLDER, or --data MODULE")
    findings = check(data, limit=limit, compare=compare, limits=Limits(angle, ratio, overlap))
    print(dumps(findings.to_dict(), indent=1) if json else findings)
    if out is not None:
        write_json(out / "report.json", findings.to_dict())
        write_text(out / "report.txt", f"{findings}\n")
        write_skips(out / "skip.txt", findings.skip)
    if not findings.ok:
        skip = (
            f", or leave {len(findings.skip)} images out by skip: {out / 'skip.txt'}" if out and findings.skip else ""
        )
        raise InputError(f"the data has problems, named above; mend or remove those files{skip}")


def data_colours(data: TaskDataModule, out: Path = Path("colours.json"), limit: int | None = None) -> None:
    """Measure mean and deviation of each colour channel on training images, for the option normalise of the data.

    Args:
        data: The data module.
        out: The JSON file.
        limit: At most so many images, a seeded choice; all where not given.
    """
    from lightning_taskonomy.data.normalisation import write_colours

    write_colours(data, out, limit=limit)
    print(out.read_text().strip())


def data_render(
    out: Path = Path("rooms.png"), size: int = 128, buildings: int = 4, labels: bool = True, samples: int = 2,
    appearance: str = "indoor",
) -> None:  # fmt: skip
    """Render rooms into one contact sheet.

    Args:
        out: The PNG.
        size: Pixels along each side of a picture.
        buildings: How many buildings; one view of each with all its labels, or six without; of other appearances one
            view of each, the first one with its labels.
        labels: Show every label; of another appearance than indoor all are shown.
        samples: Colour samples along each side of a pixel that lies on an edge.
        appearance: The domain of images, such as ``driving``; ``all`` shows every one in a row of its own.

    Raises:
        InputError: There is no such appearance.
    """
    from lightning_taskonomy.data.rooms.appearances import DEFAULT, names
    from lightning_taskonomy.data.rooms.sheet import appearance_sheet, label_sheet, picture_sheet

    if appearance != DEFAULT:
        shown = names() if appearance == "all" else (appearance,)
        write_bytes(out, appearance_sheet(shown, size, samples=samples, columns=buildings))
    elif labels:
        write_bytes(out, label_sheet([(building, 0) for building in range(buildings)], size, samples=samples))
    else:
        views = [(building, view) for building in range(buildings) for view in range(6)]
        write_bytes(out, picture_sheet(views, size, samples=samples))
    print(out)


def data_cache(data: RoomsDataModule, keys: list[str] | None = None, remove: bool = False) -> None:
    """Fill the cache of rendered rooms, or remove it.

    Args:
        data: The rooms, with a cache folder.
        keys: What to render; every label where not given.
        remove: Remove this configuration's cache instead.
    """
    if data.cache is None:
        raise InputError("the data has no cache folder; give --data.init_args.cache=FOLDER")
    wanted = sorted(keys or data.keys_offered)
    for split in data.buildings:
        samples = data.samples_of(split, wanted)
        done = samples.cache.remove() if remove and samples.cache else samples.prepare(data.num_workers)
        print(f"{split}: {done / 1e6:.1f} MB {'removed' if remove else 'cached'}")
