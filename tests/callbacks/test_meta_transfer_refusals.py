"""What TaskMetaTransfer refuses, in one line that says why."""

import logging
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import nn

from lightning_taskonomy.callbacks import GradientAggregation, TaskMetaTransfer
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.parallel import ParallelLabels
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules import MultiTaskModule


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auxiliary": ["few"]}, "none of them the primary one"),
        ({"auxiliary": []}, "at least one auxiliary task"),
        ({"auxiliary": ["many", "many"]}, "none of them twice"),
        ({"auxiliary": "b"}, "auxiliary tasks 'b' are a string"),
        ({"rank": 0}, "rank 0"),
        ({"auxiliary_steps": 0}, "auxiliary_steps is 0"),
        ({"inner_lr": -1.0}, "inner_lr is -1.0"),
        ({"projection": "lowrank"}, "did you mean 'low_rank'"),
        ({"combine": "average"}, "no combine 'average'; allowed: mean, sum"),
        ({"primary_at": "virtal"}, "no primary_at 'virtal'; did you mean 'virtual'"),
        ({"method": "exact"}, "no method 'exact'"),
    ],
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(InputError, match=message):
        TaskMetaTransfer(**{"primary": "few", "auxiliary": ["many"], **options})


def unnamed(module):
    module.heads = nn.ModuleList(module.heads.values())


def headless(module):
    del module.heads


def third(module):
    module.heads["other"] = module.head(True)


def lossless(module):
    module.task_loss = None


def frozen(module):
    module.backbone.requires_grad_(False)


def manual(module):
    module.automatic_optimization = False


def second_order(module):
    module.configure_optimizers = lambda: torch.optim.LBFGS(module.parameters())


def heads_alone(module):
    module.configure_optimizers = lambda: torch.optim.SGD(module.heads.parameters(), 0.1)


def synchronized(module):
    module.backbone[1] = nn.SyncBatchNorm(5)


def without_gradient(module):
    module.backbone.forward = torch.no_grad()(module.backbone.forward)


def twice(module):
    plain = module.training_step
    module.training_step = lambda batch, batch_idx: (module.backbone(batch["image"]), plain(batch, batch_idx))[1]


def something_between(module):
    module.training_step = lambda batch, batch_idx: module.heads["many"](2 * module.backbone(batch["image"])).mean()


CASES = [
    (unnamed, {}, "without names"),
    (headless, {}, "has no heads 'heads'"),
    (third, {}, "no place for the heads other"),
    (lossless, {}, "has no task_loss"),
    (frozen, {}, "no parameter that learns"),
    (manual, {}, "needs automatic optimization"),
    (second_order, {}, "LBFGS"),
    (heads_alone, {}, "no parameter of the backbone"),
    (synchronized, {}, "does not work with SyncBatchNorm"),
    (without_gradient, {}, "torch.no_grad"),
    (twice, {}, "ran twice"),
    (something_between, {}, "does not read the backbone's features"),
    (None, {"primary": "fwe"}, "did you mean 'few'"),
    (None, {"backbone": "encoder"}, "no backbone 'encoder'; allowed: backbone, heads"),
    (None, {"heads": "head"}, "no heads 'head'; did you mean 'heads'"),
    (None, {"rank": 5}, "rank 5 for 4 channels"),
    (None, {"is_meta": lambda batch: True, "primary": "few"}, "does the batch have a valid primary label"),
    (None, {"auxiliary_steps": 3}, "gives 1 auxiliary steps after a meta step"),
]


@pytest.mark.parametrize(("change", "options", "message"), CASES)
def test_a_fit_that_cannot_work_stops_with_the_reason(change, options, message, two_headed, batches_of, fit):
    module = two_headed()
    if change is not None:
        change(module)
    transfer = TaskMetaTransfer(**{"primary": "few", "auxiliary": ["many"], "rank": 2, **options})
    with pytest.raises(InputError, match=message) as raised:
        fit(module, [transfer], batches_of("amam"))
    assert "\n" not in str(raised.value)
    assert not module.backbone._forward_pre_hooks


def test_a_term_on_the_features_is_refused(two_headed, batches_of, fit):
    module = two_headed()
    transfer = TaskMetaTransfer("few", ["many"], rank=2)
    plain, kept = module.training_step, []

    def step(batch, batch_idx):
        return plain(batch, batch_idx) + kept[-1].mean()

    module.training_step = step
    module.heads["few"].register_forward_pre_hook(lambda inner, args: kept.append(args[0]))
    with pytest.raises(InputError, match="past the heads"):
        fit(module, [transfer], batches_of("m"))


def test_a_batch_that_is_no_dictionary_asks_for_the_users_word(two_headed, batches_of, fit):
    with pytest.raises(InputError, match=r"a batch is a list, .* say by is_meta"):
        fit(two_headed(), [TaskMetaTransfer("few", ["many"], rank=2)], [list(b.values()) for b in batches_of("m")])


def test_a_wrapped_backbone_is_to_be_compiled_in_place(two_headed, batches_of, fit):
    module = two_headed()
    module.backbone = torch.compile(module.backbone, backend="eager")
    with pytest.raises(InputError, match=r"self\.backbone\.compile\(\)"):
        fit(module, [TaskMetaTransfer("few", ["many"], rank=2)], batches_of("m"))


def test_two_of_them_are_refused(two_headed, batches_of, fit):
    class Another(TaskMetaTransfer):
        pass

    both = [TaskMetaTransfer("few", ["many"], rank=2), Another("few", ["many"], rank=2)]
    with pytest.raises(InputError, match="TaskMetaTransfer and Another both"):
        fit(two_headed(), both, batches_of("m"))


def test_a_batch_with_the_primary_label_alone_is_refused(two_headed, batches_of, fit):
    batches = [{name: value for name, value in batch.items() if name != "many"} for batch in batches_of("m")]
    with pytest.raises(InputError, match="needs labels of many"):
        fit(two_headed(), [TaskMetaTransfer("few", ["many"], rank=2)], batches)


def test_kinds_do_not_mix_in_one_optimizer_step(two_headed, batches_of, fit):
    with pytest.raises(InputError, match="into one optimizer step"):
        fit(two_headed(), [TaskMetaTransfer("few", ["many"], rank=2)], batches_of("ma"), accumulate_grad_batches=2)


def test_a_virtual_step_that_diverges_stops_the_run(two_headed, batches_of, fit):
    with pytest.raises(InputError, match="lower inner_lr"):
        fit(two_headed(norm=False), [TaskMetaTransfer("few", ["many"], rank=2, inner_lr=1e38)], batches_of("m"))


@pytest.mark.parametrize("callback", [TaskMetaTransfer("few", ["many"]), GradientAggregation("mgda")])
@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
def test_sharded_strategies_are_refused_on_one_device_too(callback, strategy, two_headed):
    module = two_headed()
    optimizers = [module.configure_optimizers()]
    trainer = SimpleNamespace(optimizers=optimizers, strategy=strategy(), world_size=1, callbacks=[callback])
    with pytest.raises(InputError, match=f"{type(callback).__name__} does not work with {strategy.__name__}"):
        callback.on_fit_start(trainer, module)


@pytest.mark.parametrize("options", [{"rank": 3}, {"projection": "diagonal"}])
def test_a_resume_with_other_projections_says_so(options, two_headed, batches_of, fit, tmp_path):
    fit(two_headed(), [TaskMetaTransfer("few", ["many"], rank=2)], batches_of("m")).save_checkpoint(tmp_path / "a.ckpt")
    transfer = TaskMetaTransfer(**{"primary": "few", "auxiliary": ["many"], "rank": 2, **options})
    with pytest.raises(InputError, match="resume with the rank") as raised:
        fit(two_headed(), [transfer], batches_of("m"), tmp_path / "a.ckpt", max_epochs=2)
    assert "\n" not in str(raised.value) and transfer.learner.state_dict()["projections"]["many"]


class Numbered(TaskDataModule):
    """Eight training images."""

    @property
    def keys_offered(self) -> Collection[str]:
        return ["image", "semantic", "depth_z"]

    def build(self, split: str, keys: Collection[str]) -> Any:
        random = torch.Generator().manual_seed(0)
        entries = {"image": torch.rand(3, 32, 32, generator=random), "semantic": torch.ones(32, 32).long(),
                   "depth_z": torch.rand(1, 32, 32, generator=random)}  # fmt: skip
        return [{key: entries[key] for key in keys} | {"id": torch.tensor(index)} for index in range(8)]


def parallel(auxiliary="depth_z", **options):
    data = Numbered(batch_size=2, keys=["image", "semantic", "depth_z"])
    return ParallelLabels(data, "semantic_segmentation", [auxiliary], parallel=0.5, **options)


def fit_parallel(data, transfer):
    torch.manual_seed(0)
    module = MultiTaskModule(["semantic_segmentation", "depth_z"], TimmBackbone("test_resnet"))
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[transfer], limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return transfer


def test_the_loader_decides_on_the_auxiliary_steps():
    transfer = TaskMetaTransfer("semantic_segmentation", ["depth_z"], rank=2)
    assert fit_parallel(parallel(auxiliary_steps=2), transfer).taken == {"meta": 2, "auxiliary": 4}


def test_the_data_module_brings_other_images():
    transfer = TaskMetaTransfer("semantic_segmentation", ["depth_z"], rank=2, meta_batch="held_out")
    assert fit_parallel(parallel(auxiliary_steps=2, held_out=True), transfer).taken == {"meta": 2, "auxiliary": 4}


def test_other_images_are_asked_for_before_any_is_read(monkeypatch, caplog):
    transfer = TaskMetaTransfer("semantic_segmentation", ["depth_z"], rank=2, meta_batch="held_out")
    with monkeypatch.context() as patched:
        patched.setattr(ParallelLabels, "train_dataloader", lambda self: pytest.fail("data are read"))
        with pytest.raises(InputError, match="give ParallelLabels held_out: true"):
            fit_parallel(parallel(auxiliary_steps=2), transfer)
    with caplog.at_level(logging.WARNING):
        fit_parallel(parallel(held_out=True), TaskMetaTransfer("semantic_segmentation", ["depth_z"], rank=2))
    assert caplog.text.count("TaskMetaTransfer does not read those images: every image of X is loaded twice") == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"auxiliary_steps": 3}, "gives auxiliary_steps=3, and TaskMetaTransfer has auxiliary_steps=2"),
        ({"auxiliary": "normals"}, "give both the same tasks"),
        ({"streams": "parallel", "auxiliary_steps": 2}, "needs 'both'"),
    ],
)
def test_callback_and_loader_agree(data, message):
    transfer = TaskMetaTransfer("semantic_segmentation", ["depth_z"], rank=2, auxiliary_steps=2)
    with pytest.raises(InputError, match=message):
        fit_parallel(parallel(**data), transfer)
