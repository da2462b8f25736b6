"""Transfers: sources stay as they are, and it makes no difference whether they run or were cached."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lightning_taskonomy.data import RepresentationDataModule, TaskDataModule
from lightning_taskonomy.data.representations import representation_file
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads import VectorHead
from lightning_taskonomy.models.sources import CachedSource, describe_representation, representation_key
from lightning_taskonomy.modules import TransferModule
from lightning_taskonomy.tasks import Task, TaskKind, find

NORMALS, SCENE = find("normals"), find("scene_classification")


@pytest.fixture
def sources(counting):
    torch.manual_seed(1)
    return [counting(4), counting(6)]


def transfer(target, sources, **options):
    torch.manual_seed(0)
    return TransferModule(target, sources, width=8, **options)


def cached(folder, backbone, key, images):
    """Writes what an encoder says of some images, by hand."""
    folder.mkdir()
    with torch.no_grad():
        (features,) = backbone.eval()(images)
    save_file({"id": torch.arange(len(images)), "map_0": features}, representation_file(folder, "test", key))
    describe_representation(folder, backbone, folder / "run")
    return str(folder)


def test_sources_stay_in_eval_mode_and_unchanged_by_training(sources, batch_of):
    model, batch = transfer(NORMALS, sources).train(), batch_of([NORMALS])
    before = [{n: v.clone() for n, v in s.state_dict().items()} for s in sources]
    optimizer = model.configure_optimizers()
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in model.heads.parameters()}
    for _ in range(3):
        loss = model.losses(batch)[0]["normals"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.training and not any(part.training for part in model.backbone.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())
    assert all(p.grad is not None for p in model.heads.parameters())
    for source, old in zip(sources, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in source.state_dict().items())


def test_every_source_reads_the_targets_images_once(sources, batch_of):
    model, batch = transfer(NORMALS, sources), batch_of([NORMALS, find("denoising")])
    model.losses(batch)
    assert [source.seen for source in sources] == [[4], [4]]
    altered = transfer(find("denoising"), sources)
    altered.losses(batch)
    assert altered.batch_keys == ["image", "image_noisy"]


def test_a_pair_passes_both_views_through_every_source(sources, batch_of):
    task = find("pose_fixated")
    model = transfer(task, sources)
    model.losses(batch_of([task]))
    assert [source.seen for source in sources] == [[8], [8]]
    first = next(model.heads["pose_fixated"].transfer.parameters())
    assert first.shape[1] == 2 * (4 + 6)


@pytest.mark.parametrize("task", [NORMALS, SCENE, find("colorization"), find("pose_fixated")], ids=lambda t: t.name)
def test_cached_representations_give_the_predictions_of_live_sources(task, sources, batch_of, tmp_path):
    batch = batch_of([task], size=16)
    images = batch[task.input]
    live = transfer(task, sources)
    maps = [live.backbone.sources[i](images.flatten(0, -4)) for i in range(2)]
    if task.views > 1:
        maps = [[m.unflatten(0, (-1, task.views)).flatten(1, 2) for m in of_source] for of_source in maps]
    for i, source in enumerate(sources):
        (tmp_path / f"{i}").mkdir()
        describe_representation(tmp_path / f"{i}", source, "run")
    stored = transfer(task, [str(tmp_path / "0"), str(tmp_path / "1")])
    stored.load_state_dict(live.state_dict())
    representations = {representation_key(i): of_source[0] for i, of_source in enumerate(maps)}
    assert stored.batch_keys == [task.target]
    mine, theirs = stored.eval().losses({task.target: batch[task.target], **representations}), live.eval().losses(batch)
    assert torch.equal(mine[1][task.name], theirs[1][task.name])
    assert torch.equal(mine[0][task.name], theirs[0][task.name])


class Pictures(TaskDataModule):
    """Five random pictures with a random vector each."""

    def __init__(self, **options):
        super().__init__(batch_size=2, **options)
        random = torch.Generator().manual_seed(0)
        self.images = torch.rand(5, 3, 8, 8, generator=random)
        self.values = torch.randn(5, 2, generator=random)

    keys_offered = ("image", "numbers")

    def build(self, split, keys):
        entries = {"image": self.images, "numbers": self.values}
        return [{k: entries[k][i] for k in keys} | {"id": torch.tensor(i)} for i in range(5)]


NUMBERS = Task("numbers", TaskKind.VECTOR, "numbers", 2)


def test_the_data_module_brings_representations_beside_their_labels(sources, tmp_path):
    labels = Pictures()
    folders = [cached(tmp_path / f"s{i}", source, "image", labels.images) for i, source in enumerate(sources)]
    data = RepresentationDataModule(labels, folders)
    data.keys = ["numbers"]
    seen = list(data.test_dataloader())
    assert [batch["id"].tolist() for batch in seen] == [[0, 1], [2, 3], [4]]
    assert set(seen[0]) == {"id", "numbers", "representation_0", "representation_1"}
    for batch in seen:
        live = [source(labels.images[batch["id"]])[0] for source in sources]
        torch.testing.assert_close([batch["representation_0"], batch["representation_1"]], live)
        assert torch.equal(batch["numbers"], labels.values[batch["id"]])


def test_a_validation_share_of_the_labels_is_that_of_their_representations(sources, tmp_path):
    labels = Pictures(validation_share=0.4)
    folder = cached(tmp_path / "s", sources[0], "image", labels.images)
    representation_file(folder, "test", "image").rename(representation_file(folder, "train", "image"))
    data = RepresentationDataModule(labels, [folder])
    data.keys = ["numbers"]
    (validated,) = [batch["id"].tolist() for batch in data.val_dataloader()]
    (trained,) = [batch["id"].tolist() for batch in data.train_dataloader()]  # the odd one is dropped
    assert len(validated) == 2 and len(trained) == 2 and not {*trained} & {*validated}


def test_a_missing_or_damaged_cache_is_one_line(sources, tmp_path):
    labels = Pictures()
    folder = cached(tmp_path / "s", sources[0], "image", labels.images)
    data = RepresentationDataModule(labels, [folder], input="image_gray")
    with pytest.raises(InputError, match="is missing; encode 'image_gray' of split 'test'"):
        data.dataset("test", keys=["numbers"])
    file = representation_file(folder, "test", "image")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="is damaged"):
        RepresentationDataModule(labels, [folder]).dataset("test", keys=["numbers"])


def test_caches_of_other_images_are_refused(sources, tmp_path):
    labels = Pictures()
    folders = [cached(tmp_path / f"s{i}", source, "image", labels.images) for i, source in enumerate(sources)]
    save_file(
        {"id": torch.arange(5) + 1, "map_0": torch.zeros(5, 6, 4, 4)}, representation_file(folders[1], "test", "image")
    )
    with pytest.raises(InputError, match="holds other images than its neighbours"):
        RepresentationDataModule(labels, folders).dataset("test", keys=["numbers"])


def test_images_that_could_not_be_encoded_are_passed_over(sources, tmp_path):
    labels = Pictures()
    folder = cached(tmp_path / "s", sources[0], "image", labels.images[:3])
    data = RepresentationDataModule(labels, [folder])
    data.keys = ["numbers"]
    assert [number for batch in data.test_dataloader() for number in batch["id"].tolist()] == [0, 1, 2]


# weights


def test_its_state_leaves_the_sources_out_and_comes_back(sources, batch_of):
    model = transfer(NORMALS, sources)
    model.losses(batch_of([NORMALS]))  # running statistics move
    state = model.state_dict()
    assert state and all(name.startswith("heads.normals.") for name in state)
    torch.manual_seed(5)
    other = TransferModule(NORMALS, sources, width=8)
    other.load_state_dict(state)
    assert torch.equal(other.eval()(batch_of([NORMALS]))["normals"], model.eval()(batch_of([NORMALS]))["normals"])


def test_a_state_that_lacks_a_weight_of_the_readout_is_refused(sources):
    model = transfer(NORMALS, sources)
    state = model.state_dict()
    del state[next(iter(state))]
    with pytest.raises((RuntimeError, InputError), match=r"Missing|absent"):
        model.load_state_dict(state)


def test_a_state_with_a_weight_too_many_is_refused(sources):
    model = transfer(NORMALS, sources)
    with pytest.raises((RuntimeError, InputError), match=r"Unexpected|left"):
        model.load_state_dict({**model.state_dict(), "heads.normals.more": torch.zeros(1)})


def test_the_head_may_be_given(sources, batch_of):
    model = transfer(NUMBERS, sources, head=lambda c, r, t: VectorHead(c, r, t, layers=1))
    layers = model.heads["numbers"].head
    assert isinstance(layers, VectorHead)
    assert sum(p.numel() for p in layers.parameters()) < sum(
        p.numel() for p in transfer(NUMBERS, sources).heads["numbers"].head.parameters()
    )


def test_no_source_and_no_run_are_one_line(tmp_path):
    with pytest.raises(InputError, match="at least one source"):
        TransferModule(NORMALS, [])
    with pytest.raises(InputError, match="holds no finished run"):
        TransferModule(NORMALS, [str(tmp_path)])


def test_a_cached_source_refuses_images(sources, tmp_path):
    describe_representation(tmp_path, sources[0], "run")
    assert json.loads((tmp_path / "representation.json").read_text())["out_channels"] == [4]
    with pytest.raises(InputError, match="the batch holds no representation"):
        CachedSource(tmp_path)(torch.zeros(1, 3, 8, 8))
