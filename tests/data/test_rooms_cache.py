"""The shard cache: what comes back is what went in, or an error that says what to do."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_taskonomy.data.rooms import RoomsDataModule, RoomsDataset
from lightning_taskonomy.data.shards import ShardCache
from lightning_taskonomy.errors import InputError

torch.set_num_threads(1)
KEYS = ["image", "depth_z", "normals", "semantic", "scene_class", "vanishing_points", "image_gray"]


def _rooms(cache: Path | None, keys: list[str] = KEYS, **options: int) -> RoomsDataset:
    return RoomsDataset([1, 2], 2, 32, keys, samples=1, cache=cache, **options)


def test_cached_equals_rendered(tmp_path: Path) -> None:
    cached = _rooms(tmp_path)
    size = cached.prepare()
    assert cached.cache is not None
    on_disk = sum(path.stat().st_size for path in cached.cache.folder.rglob("*.npy"))
    assert 0.5 * on_disk < size <= 1.1 * on_disk + 1024
    fresh = _rooms(None)
    again = _rooms(tmp_path)
    for k in range(4):
        for key, value in fresh[k].items():
            assert torch.equal(value, cached[k][key]), key
            assert torch.equal(value, again[k][key]), key
            assert value.dtype == again[k][key].dtype


def test_cache_is_read_not_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _rooms(tmp_path).prepare()
    again = _rooms(tmp_path)
    monkeypatch.setattr(RoomsDataset, "_rendered", lambda *_: pytest.fail("rendered"))
    assert again[3]["image"].shape == (3, 32, 32)


def test_a_further_key_adds_its_column_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _rooms(tmp_path, ["image"]).prepare()
    more = _rooms(tmp_path, ["image", "reshading"])
    assert more.cache is not None
    assert more.cache.missing(more.stored) == ["reshading"]
    partly = more[1]
    more.prepare()
    assert more.cache.missing(more.stored) == []
    assert torch.equal(more[1]["reshading"], partly["reshading"])


def test_another_configuration_is_another_folder(tmp_path: Path) -> None:
    first, second = _rooms(tmp_path), RoomsDataset([1, 2], 2, 33, KEYS, samples=1, cache=tmp_path)
    assert first.cache is not None
    assert second.cache is not None
    assert first.cache.folder != second.cache.folder
    first.prepare()
    first.cache.folder.rename(second.cache.folder)
    with pytest.raises(InputError, match="belongs to another configuration"):
        RoomsDataset([1, 2], 2, 33, KEYS, samples=1, cache=tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_damaged_shard_is_refused(tmp_path: Path, damage: str) -> None:
    rooms = _rooms(tmp_path, ["depth_z"])
    rooms.prepare()
    assert rooms.cache is not None
    (path,) = rooms.cache.folder.rglob("*.npy")
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-100])
    elif damage == "flipped":
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    with pytest.raises(
        InputError, match=r"00000.values.npy is (damaged|missing).*remove .*depth_z and it is rendered again"
    ):
        _rooms(tmp_path, ["depth_z"])[0]


def test_damaged_manifest_is_refused(tmp_path: Path) -> None:
    rooms = _rooms(tmp_path, ["depth_z"])
    rooms.prepare()
    assert rooms.cache is not None
    (rooms.cache.folder / "depth_z" / "manifest.json").write_text("[[12")
    with pytest.raises(InputError, match="damaged; remove"):
        _rooms(tmp_path, ["depth_z"])


def test_a_cache_of_another_format_stays_as_it_is_beside_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lightning_taskonomy.data.shards._FORMAT", "earlier")
        earlier = _rooms(tmp_path, ["depth_z"])
        earlier.prepare()
    rooms = _rooms(tmp_path, ["depth_z"])
    rooms.prepare()
    assert rooms.cache is not None and earlier.cache is not None
    assert rooms.cache.folder != earlier.cache.folder
    assert (rooms.cache.folder / "cache.json").is_file() and (earlier.cache.folder / "cache.json").is_file()


def _numbers(part: range) -> list[dict[str, np.ndarray]]:
    return [{"a": np.full(3, k, np.int16), "b": np.array(k, np.float32)} for k in part]


def test_an_interrupted_fill_goes_on(tmp_path: Path) -> None:
    layout = _numbers(range(1))[0]
    cache = ShardCache(tmp_path, {"x": 1}, 600)
    seen: list[range] = []

    def samples(part: range) -> list[dict[str, np.ndarray]]:
        seen.append(part)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return _numbers(part)

    with pytest.raises(KeyboardInterrupt):
        cache.fill(layout, samples)
    assert cache.missing(["a", "b"]) == ["a", "b"]
    resumed = ShardCache(tmp_path, {"x": 1}, 600)
    resumed.fill(layout, samples)
    assert seen == [range(256), range(256, 512), range(256, 512), range(512, 600)]
    assert resumed.missing(["a", "b"]) == []
    np.testing.assert_array_equal(resumed.read_many("a", [599, 0, 256])[:, 0], [599, 0, 256])
    assert resumed.read("b", 300) == 300
    assert not list(tmp_path.rglob("*.tmp*"))


def test_too_small_a_disk_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    cache = ShardCache(tmp_path, {}, 600)
    with pytest.raises(InputError, match="needs 0 MB, 0 MB are free"):
        cache.fill(_numbers(range(1))[0], _numbers)
    assert not list(tmp_path.rglob("*.npy"))


def test_remove(tmp_path: Path) -> None:
    rooms = _rooms(tmp_path, ["depth_z"])
    rooms.prepare()
    assert rooms.cache is not None
    assert rooms.cache.remove() > 4 * 32 * 32 * 2
    assert not rooms.cache.folder.exists()
    assert rooms.cache.missing(["depth_z"]) == ["depth_z"]


def test_datamodule_fills_its_cache(tmp_path: Path) -> None:
    options = {
        "size": 32,
        "views": 1,
        "train_buildings": 2,
        "samples": 1,
        "batch_size": 2,
        "keys": ["image", "depth_z"],
    }
    rendered = RoomsDataModule(**options).build("train", ["image", "depth_z"])
    cached = RoomsDataModule(**options, cache=tmp_path).build("train", ["image", "depth_z"])
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    assert torch.equal(rendered[1]["depth_z"], cached[1]["depth_z"])
