"""Runs side by side from one stream of batches: each ends as it does alone, whatever happens to the others."""

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lightning_taskonomy.callbacks import ResumeCheckpoint
from lightning_taskonomy.data.rooms.dataset import RoomsDataset
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.training import execute, execute_together, is_finished, stream
from lightning_taskonomy.training.shared import WINDOW

NAMES = ("depth_z", "depth_z+semantic_segmentation", "denoising", "normals+edges_2d")
"""Runs, by their tasks; the last one stops early."""


@pytest.fixture(scope="module")
def configs(tiny_fit):
    """Fits with dropout, validation and history, each with a seed of its own."""
    configs = {}
    for seed, name in enumerate(NAMES):
        config = tiny_fit(*name.split("+"), epochs=3)
        callbacks = [{"class_path": f"lightning_taskonomy.callbacks.{one}"} for one in ("History", "BestWeights")]
        if name == NAMES[-1]:
            stop = {"monitor": "val/loss", "patience": 1, "min_delta": 100.0}
            callbacks.append({"class_path": "EarlyStopping", "init_args": stop})
        config["trainer"] = {**config["trainer"], "limit_val_batches": 1.0, "callbacks": callbacks}
        configs[name] = {**config, "seed_everything": seed}
    return configs


def encode_with_dropout(self, batch, key, plain=MultiTaskModule.encode):
    return [torch.nn.functional.dropout(features, 0.3, self.training) for features in plain(self, batch, key)]


@pytest.fixture(autouse=True)
def dropout(monkeypatch):
    """Features of training are dropped by torch's global random numbers."""
    monkeypatch.setattr(MultiTaskModule, "encode", encode_with_dropout)


@pytest.fixture(scope="module")
def alone(configs, tmp_path_factory):
    """The folder of the runs, each executed by itself."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MultiTaskModule, "encode", encode_with_dropout)
        for name, config in configs.items():
            execute(config, folder / name)
    return folder


def runs(configs, folder, names=NAMES):
    return [{"config": configs[name], "folder": folder / name} for name in names]


def assert_same(folder, expected):
    """All that a run leaves, but for the seconds and its own name."""
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in expected.iterdir())
    metrics, others = (json.loads((one / "metrics.json").read_text()) for one in (folder, expected))
    assert metrics.pop("seconds") > 0 and others.pop("seconds") > 0 and metrics == others
    assert (folder / "config.yaml").read_text().replace(str(folder), str(expected)) == (
        expected / "config.yaml"
    ).read_text()
    assert json.loads((folder / "history.json").read_text()) == json.loads((expected / "history.json").read_text())
    weights, others = (load_file(one / "weights.safetensors") for one in (folder, expected))
    assert weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in others)
    with np.load(folder / "scores.npz") as scores, np.load(expected / "scores.npz") as others:
        assert all(np.array_equal(scores[name], others[name], equal_nan=True) for name in others)


def test_each_ends_as_it_does_alone(configs, alone, tmp_path):
    threads, seen = set(), []
    with pytest.MonkeyPatch.context() as patch:
        plain = MultiTaskModule.training_step

        def training_step(self, batch, batch_idx):
            threads.add(torch.get_num_threads())
            seen.append((tuple(self.tasks), self.current_epoch, batch_idx))
            assert batch.keys() == {"id", *self.batch_keys}, "the keys that it would load by itself"
            return plain(self, batch, batch_idx)

        patch.setattr(MultiTaskModule, "training_step", training_step)
        metrics = execute_together(runs(configs, tmp_path))
    for name, of_run in zip(NAMES, metrics, strict=True):
        assert_same(tmp_path / name, alone / name)
        assert of_run == json.loads((tmp_path / name / "metrics.json").read_text())
    assert threads == {torch.get_num_threads()}
    places = [(epoch, index // WINDOW) for _, epoch, index in seen]
    assert places == sorted(places), "nobody is more than a few batches ahead of anybody"
    last = json.loads((tmp_path / NAMES[-1] / "history.json").read_text())
    assert len(last) == 2 and Counter(len(tasks) for tasks, epoch, _ in seen if epoch == 2) == {1: 4, 2: 2}


def test_a_batch_is_loaded_once_with_what_any_run_reads(configs, tmp_path, monkeypatch):
    loaded = Counter()
    plain = RoomsDataset.__getitem__

    def load(self, index):
        sample = plain(self, index)
        loaded[frozenset(sample)] += 1
        return sample

    monkeypatch.setattr(RoomsDataset, "__getitem__", load)
    names = NAMES[:2]
    of_runs = runs(
        {name: {**configs[name], "trainer": {**configs[name]["trainer"], "callbacks": []}} for name in names},
        tmp_path,
        names,
    )
    execute_together(of_runs)
    both = frozenset({"id", "image", "depth_z", "semantic"})
    images = 8 * (3 + 1 + 1)  # three epochs of training, a test, and a validation whose few batches are kept
    assert loaded == {both: images + 2, both - {"semantic"}: 2}, "the dry pass of each run looks at two of its own"


def test_what_is_finished_stays_and_what_was_killed_goes_on(configs, alone, tmp_path, monkeypatch):
    save = ResumeCheckpoint.save

    def killed(self, trainer):
        save(self, trainer)
        if self.path.parent.name == NAMES[1] and trainer.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    of_runs = runs(configs, tmp_path)
    execute(configs[NAMES[2]], tmp_path / NAMES[2])
    before = (tmp_path / NAMES[2] / "metrics.json").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(ResumeCheckpoint, "save", killed)
        child = multiprocessing.get_context("fork").Process(
            target=execute_together, args=(of_runs,), kwargs={"checkpoint_seconds": 0.0}
        )
        child.start()
        child.join(60)
    assert child.exitcode == -signal.SIGKILL
    epochs = {
        name: torch.load(file, weights_only=True)["epoch"]
        for name in NAMES
        if (file := tmp_path / name / "resume.ckpt").is_file()
    }
    assert epochs[NAMES[1]] == 2 and set(epochs.values()) == {1, 2}, "those resume where they were, not at one place"
    assert epochs.keys() == {*NAMES} - {NAMES[2]}
    execute_together(of_runs)
    for name in NAMES:
        assert_same(tmp_path / name, alone / name)
    assert (tmp_path / NAMES[2] / "metrics.json").stat().st_mtime_ns == before


def test_one_that_fails_leaves_the_others_to_end(configs, alone, tmp_path, monkeypatch):
    of_runs = runs(configs, tmp_path, (NAMES[1], "denoising"))
    plain = MultiTaskModule.task_loss

    def task_loss(self, task, predictions, batch):
        loss = plain(self, task, predictions, batch)
        return loss * torch.nan if list(self.tasks) == ["denoising"] and self.current_epoch == 1 else loss

    with monkeypatch.context() as patch:
        patch.setattr(MultiTaskModule, "task_loss", task_loss)
        with pytest.raises(
            InputError, match=r"1 of 2 runs failed: .*denoising: the loss of denoising is NaN or infinite"
        ):
            execute_together(of_runs, checkpoint_seconds=0)
    assert not is_finished(tmp_path / "denoising")
    assert_same(tmp_path / NAMES[1], alone / NAMES[1])
    execute_together(of_runs)
    assert_same(tmp_path / "denoising", alone / "denoising")


def test_at_most_so_many_at_once(configs, alone, tmp_path, monkeypatch):
    live = []
    plain = stream._Stream._admit

    def admit(self, members):
        plain(self, members)
        live.append(len(self.live))

    monkeypatch.setattr(stream._Stream, "_admit", admit)
    execute_together(runs(configs, tmp_path, NAMES[1:]), together=2)
    assert live == [2, 1]
    for name in NAMES[1:]:
        assert_same(tmp_path / name, alone / name)


def test_where_memory_is_too_small_fewer_train_at_once(configs, alone, tmp_path, monkeypatch):
    counts = []
    plain = MultiTaskModule.training_step

    def training_step(self, batch, batch_idx):
        counts.append(sum(thread.name.startswith(str(tmp_path)) for thread in threading.enumerate()))
        if counts[-1] > 2 and self.current_epoch == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", training_step)
    execute_together(runs(configs, tmp_path), checkpoint_seconds=0)
    assert max(counts) == len(NAMES) and max(counts[counts.index(2) :]) == 2, "half of them wait"
    for name in NAMES:
        assert_same(tmp_path / name, alone / name)


def test_a_run_that_does_not_fit_alone_fails(configs, tmp_path, monkeypatch):
    def training_step(self, batch, batch_idx):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MultiTaskModule, "training_step", training_step)
    with pytest.raises(InputError, match=r"2 of 2 runs failed: .*OutOfMemoryError: CUDA out of memory"):
        execute_together(runs(configs, tmp_path, NAMES[:2]))


def test_an_interrupt_ends_all(configs, tmp_path, monkeypatch):
    before, during = threading.active_count(), []
    plain = MultiTaskModule.training_step

    def training_step(self, batch, batch_idx):
        if self.current_epoch == 1 and not during:
            during.append(threading.active_count())
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl+C, which the main thread is told
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", training_step)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            execute_together(runs(configs, tmp_path, NAMES[:2]))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert during == [before + 2] and threading.active_count() == before
    assert not any(is_finished(tmp_path / name) for name in NAMES)


def test_what_cannot_be_together_is_one_line(configs, tmp_path):
    first, second = runs(configs, tmp_path, NAMES[:2])
    with pytest.raises(InputError, match=r"two runs of one stream have the folder .*depth_z; give each its own"):
        execute_together([first, {**second, "folder": first["folder"]}])
    with pytest.raises(InputError, match="together is 0, must be at least 1"):
        execute_together([first], together=0)
    other = {**second["config"], "trainer": {**second["config"]["trainer"], "deterministic": True}}
    with pytest.raises(InputError, match=r"trainer.deterministic holds for a whole process, .* have None and True"):
        execute_together([first, {**second, "config": other}])


def test_a_gpu_holds_as_many_as_fit_beside_the_first(monkeypatch):
    gib = 2**30
    for name, value in {
        "mem_get_info": (8 * gib, 80 * gib),
        "memory_reserved": 2 * gib,
        "memory_allocated": gib,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * gib)
    first = SimpleNamespace(device=torch.device("cuda", 0), is_over=False, steps=1)
    many = stream._Stream(execute, None)
    assert many._room(first) == 0, "what an optimizer keeps is there after the first step"
    first.steps = 2
    assert many._room(first) == 1 + 6, "of 9 GiB, a tenth being spared, 3 are the first one's; each other keeps 1"
    first.device = torch.device("cpu")
    assert many._room(first) > 1000


@pytest.mark.slow
def test_held_out_batches_and_probes_of_task_meta_transfer_are_those_of_a_run_alone(tiny_fit, tmp_path, monkeypatch):
    monkeypatch.setattr(MultiTaskModule, "encode", encode_with_dropout.__defaults__[0])  # heads read them as they are
    names, configs = ("tmt", "lin"), {}
    for name, kind in zip(names, ("TaskMetaTransfer", "MetaWeighting"), strict=True):
        config = tiny_fit("depth_z", "normals", epochs=2)
        options = {"primary": "depth_z", "auxiliary": ["normals"], "meta_batch": "held_out", "probe_every_n_steps": 2}
        parallel = {"parallel": 8, "steps": 4, "held_out": True, "shuffled": True}
        config["data"] = {
            "class_path": "lightning_taskonomy.data.ParallelLabels",
            "init_args": {"data": config["data"], "primary": "depth_z", "auxiliary": ["normals"], **parallel},
        }
        callbacks = [{"class_path": f"lightning_taskonomy.callbacks.{kind}", "init_args": options}]
        callbacks += [{"class_path": f"lightning_taskonomy.callbacks.{one}"} for one in ("History", "BestWeights")]
        config["trainer"] |= {"limit_val_batches": 1.0, "callbacks": callbacks, "log_every_n_steps": 1}
        configs[name] = config
    execute_together(runs(configs, tmp_path / "together", names))
    for name in names:
        execute(configs[name], tmp_path / "alone" / name)
        assert_same(tmp_path / "together" / name, tmp_path / "alone" / name)
        entries = json.loads((tmp_path / "alone" / name / "history.json").read_text())
        assert all({"meta/step_ratio", "meta/normals/plain_cosine"} <= entry.keys() for entry in entries)
