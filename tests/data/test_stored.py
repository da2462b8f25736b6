"""What is stored in files, against what was written bit by bit, and against the specifications of the formats."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lightning_taskonomy.data.folder import FolderDataModule
from lightning_taskonomy.data.images import ImageFiles
from lightning_taskonomy.data.stored import (
    IMAGE_SUFFIXES,
    FileProblem,
    by_stem,
    is_missing,
    listed_path,
    read_array,
    read_image,
    read_numbers,
    read_pixels,
    read_text,
    visible,
    whole_numbers,
)
from lightning_taskonomy.errors import InputError

torch.set_num_threads(1)
SKY, GRASS = (80, 150, 255), (40, 120, 30)
ORIENTATION = 0x0112


def write_png(file: Path, pixels: NDArray[Any], bits: int) -> None:
    """A PNG file by the specification: colour type 0, 2, 4 or 6, no filter, bits packed from the left."""
    height, width = pixels.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    if bits < 8:
        places = np.unpackbits(pixels.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1)
        rows = [np.packbits(row).tobytes() for row in places]
    else:
        rows = [row.astype(f">u{bits // 8}").tobytes() for row in pixels]
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + row for row in rows)),
        b"IEND": b"",
    }
    content = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def predicted(file: Path) -> torch.Tensor:
    """The picture as ``predict`` sees it, at the size of the file."""
    with Image.open(file) as image:
        side = min(image.size)
    picture: torch.Tensor = next(iter(ImageFiles([file], size=side, multiple=1).predict_dataloader()))["image"][0]
    return picture


@pytest.mark.parametrize(
    ("bits", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 3), (8, 4), (16, 1), (16, 3), (16, 4)]
)
def test_every_bit_of_a_png_file_is_read(tmp_path: Path, bits: int, channels: int) -> None:
    pixels = np.random.default_rng(bits).integers(0, 2**bits, (5, 7, channels))
    pixels = pixels[..., 0] if channels == 1 else pixels
    write_png(tmp_path / "a.png", pixels, bits)
    stored = read_pixels(tmp_path / "a.png")
    assert stored.dtype == (np.uint16 if bits == 16 else np.uint8)
    np.testing.assert_array_equal(stored, pixels)
    colours = np.repeat(pixels.reshape(5, 7, -1)[..., :1], 3, -1) if channels < 3 else pixels[..., :3]
    share = torch.tensor(colours / (2**bits - 1)).permute(2, 0, 1).float()
    torch.testing.assert_close(read_image(tmp_path / "a.png"), share)
    torch.testing.assert_close(predicted(tmp_path / "a.png"), share, atol=1e-6, rtol=0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_pictures_are_upright_as_exif_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    """By the EXIF specification: where the first row and the first column of what is stored are to be seen."""
    upright = np.zeros((48, 32, 3), np.uint8)
    upright[:24], upright[24:] = SKY, GRASS
    upright[:, :16] //= 2  # darker on the left
    lying = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1], 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lossless = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(lying)).save(tmp_path / f"a.{suffix}", exif=exif, **lossless)
    expected = torch.tensor(upright).permute(2, 0, 1) / 255
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.shape == expected.shape and (image - expected).abs().mean() < 0.01
    if suffix != "tif":  # Pillow's TIFF reader turns by itself, whoever asks
        assert read_pixels(tmp_path / f"a.{suffix}").shape == lying.shape


def test_predict_sees_what_a_fit_sees(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    upright = np.zeros((96, 64, 3), np.uint8)
    upright[:48], upright[48:] = SKY, GRASS
    Image.fromarray(upright).rotate(90, expand=True).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    Image.fromarray(np.full((64, 64), 32768, np.uint16)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((64, 64), 0.25, np.float32)).save(tmp_path / "float.tif")
    phone = predicted(tmp_path / "phone.jpg")
    assert phone.shape == (3, 96, 64)
    torch.testing.assert_close(phone[:, 10, 30], torch.tensor(SKY) / 255, atol=0.02, rtol=0)
    torch.testing.assert_close(phone[:, 80, 30], torch.tensor(GRASS) / 255, atol=0.02, rtol=0)
    for name, value in (("grey.png", 32768 / 65535), ("float.tif", 0.25)):
        for picture in (predicted(tmp_path / name), read_image(tmp_path / name)):
            torch.testing.assert_close(picture, torch.full((3, 64, 64), value))


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((4, 4), 200, np.float32), "a picture of float32 has numbers from 0 to 1, not 200 to 200; scale it"),
        (np.full((4, 4), np.nan, np.float32), "a picture of float32 has numbers from 0 to 1"),
        (np.full((4, 4), 7, np.int32), "a picture of int32 does not say which number is white"),
    ],
)
def test_a_picture_without_a_white_is_refused(tmp_path: Path, pixels: NDArray[Any], reason: str) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(pixels).save(file)
    with pytest.raises(FileProblem, match=reason):
        read_image(file)
    with pytest.raises(InputError, match=rf"{file} cannot be read \({reason}"):
        next(iter(ImageFiles([file]).predict_dataloader()))
    np.testing.assert_array_equal(read_pixels(file), pixels)


def test_sixteen_bits_of_other_formats(tmp_path: Path) -> None:
    """A TIFF file by its specification: 16 bits of three channels, one strip, turned as orientation 6 says."""
    pixels = np.arange(2 * 3 * 3, dtype="<u2").reshape(2, 3, 3) * 3000
    tags = [(256, 3, 1, 3), (257, 3, 1, 2), (258, 3, 3, 0), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 0),
            (274, 3, 1, 6), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, pixels.nbytes)]  # fmt: skip
    after = 8 + 2 + 12 * len(tags) + 4
    places = {258: after, 273: after + 6}
    content = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    content += b"".join(struct.pack("<HHII", tag, kind, n, places.get(tag, value)) for tag, kind, n, value in tags)
    (tmp_path / "a.tif").write_bytes(content + struct.pack("<IHHH", 0, 16, 16, 16) + pixels.tobytes())
    (tmp_path / "a.ppm").write_bytes(b"P6 3 2 65535\n" + pixels.astype(">u2").tobytes())
    upright = np.stack([pixels[::-1, column] for column in range(3)])  # the first row is seen on the right
    expected = torch.tensor(upright / 65535).permute(2, 0, 1).float()
    torch.testing.assert_close(read_image(tmp_path / "a.tif"), expected)
    expected = torch.tensor(pixels / 65535).permute(2, 0, 1).float()
    torch.testing.assert_close(read_image(tmp_path / "a.ppm"), expected)


def test_sixteen_bits_that_cannot_be_read_whole_are_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 4, 2)), 16)
    for read in (read_pixels, read_image):
        with pytest.raises(FileProblem, match=r"16 bits cannot be read whole .*; save it as \.npy"):
            read(tmp_path / "a.png")
    write_png(tmp_path / "b.png", np.random.default_rng(0).integers(0, 65536, (64, 64, 3)), 16)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:9000])
    with pytest.raises(FileProblem, match=r"b\.png: damaged \("):
        read_pixels(tmp_path / "b.png")


def test_a_very_large_picture_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "aerial.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for read in (read_pixels, read_image):
        with pytest.raises(FileProblem, match=r"aerial\.png: too large \(.*1600 pixels.*cut it into smaller") as caught:
            read(tmp_path / "aerial.png")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint32", "uint64", "float16", ">f4", ">i2", "float64"])
def test_every_type_of_number_is_read(tmp_path: Path, dtype: str) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "a.npy").rename(tmp_path / "a.NPY")
    stored = read_array(tmp_path / "a.NPY")
    assert stored.dtype.isnative and stored.dtype.kind == array.dtype.kind
    assert stored.tolist() == array.tolist()
    assert torch.from_numpy(whole_numbers(stored, tmp_path)).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("array", [np.array([1j]), np.array(["a"]), np.zeros(2, [("x", "f4")])])
def test_what_is_no_real_number_is_refused(tmp_path: Path, array: NDArray[Any]) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(FileProblem, match=r"a\.npy: holds .*; save real numbers"):
        read_array(tmp_path / "a.npy")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("mark", [-9999.9, 0.1, 1e20])
def test_missing_numbers_are_those_of_the_file(dtype: Any, mark: float) -> None:
    with np.errstate(over="ignore"):
        stored = np.array([mark, 2.5, np.nan]).astype(dtype)
    assert is_missing(stored, [mark]).tolist() == [True, False, False]


def test_a_mark_outside_the_files_type_is_none_of_its_numbers() -> None:
    assert not is_missing(np.array([255, 0, 1], np.uint8), [-1, 256, 0.5]).any()
    assert is_missing(np.array([255, 0, 1], np.uint8), [255, 0]).tolist() == [True, True, False]


def test_fractions_are_no_classes(tmp_path: Path) -> None:
    assert whole_numbers(np.array([2.0, np.nan, 3.00001]), tmp_path).tolist() == [2, -100, 3]
    for wrong in (2.7, np.inf, -np.inf, 1e20):
        with pytest.raises(InputError, match=r"which is not a class number \(1 such of 3\)"):
            whole_numbers(np.array([0, wrong, np.nan]), tmp_path)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0.5 -2.25\n", [[0.5, -2.25]]),
        ("0.5, -2.25", [[0.5, -2.25]]),
        ("0.5;-2.25\r\n1;2\r\n", [[0.5, -2.25], [1, 2]]),
        ("1\t2\n\n3\t4\n", [[1, 2], [3, 4]]),
        ("# left\n1,,3 # a point that is not marked\n", [[1, None, 3]]),
        ("", []),
        ("\n# none\n", []),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_numbers_in_text(tmp_path: Path, text: str, rows: list[list[float | None]], encoding: str) -> None:
    (tmp_path / "a.TXT").write_bytes(text.encode(encoding))
    numbers = read_array(tmp_path / "a.TXT")
    assert [[None if np.isnan(n) else n for n in row] for row in numbers.tolist()] == rows


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("left,top\n1,2", "line 1 holds more than numbers .*'left'"),
        ("1 2\n3", "line 2 has 1 numbers, those before have 2"),
        ("0,5;1,25", "line 1 has commas and semicolons"),
    ],
)
def test_text_that_is_no_table(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(FileProblem, match=rf"a\.txt: {reason}"):
        read_numbers(tmp_path / "a.txt")


def test_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\x80\x81")
    with pytest.raises(FileProblem, match=r"damaged \("):
        read_text(tmp_path / "a.txt")
    with pytest.raises(FileProblem, match="missing"):
        read_text(tmp_path / "b.txt")


def test_names(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.png", "._a.png", ".DS_Store", "Thumbs.db", "notes.md"):
        (tmp_path / name).touch()
    assert [file.name for file in visible(tmp_path)] == ["a.png", "b.PNG", "notes.md"]
    assert by_stem(tmp_path, (".png",)) == {"a": tmp_path / "a.png", "b": tmp_path / "b.PNG"}
    assert visible(tmp_path / "absent") == []
    (tmp_path / "a.npy").touch()
    with pytest.raises(InputError, match=r"/a\.npy and .*/a\.png would both be 'a'; remove or rename one"):
        by_stem(tmp_path, (".png", ".npy"))
    assert listed_path(r"train\0.png") == "train/0.png"


def test_a_folder_reads_the_pictures_that_predict_reads(tmp_path: Path) -> None:
    for suffix in IMAGE_SUFFIXES:
        picture = Image.fromarray(np.full((8, 8, 3), 100, np.uint8))
        (tmp_path / "train" / "image").mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "train" / "image" / f"{suffix[1:]}{suffix}")
    predicted = ImageFiles([tmp_path / "train" / "image"], size=8, multiple=1)
    assert len(predicted.files) == len(FolderDataModule(str(tmp_path), ["depth_z"]).build("train", ["image"])) == 8
