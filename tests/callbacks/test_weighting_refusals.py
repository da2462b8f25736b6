"""What the weightings refuse, in one line that says why."""

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from lightning_taskonomy.callbacks import (
    CosineWeighting,
    GradientAggregation,
    KendallWeighting,
    MetaWeighting,
    TaskMetaTransfer,
)
from lightning_taskonomy.errors import InputError

KINDS = [KendallWeighting, CosineWeighting, MetaWeighting]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("primary", "auxiliary", "message"),
    [
        ("few", ["few"], "none of them the primary one"),
        ("few", [], "at least one"),
        ("few", ["a", "a"], "twice"),
        ("few", "b", "are a string"),
    ],
)
def test_tasks_are_checked_at_once(kind, primary, auxiliary, message):
    with pytest.raises(InputError, match=message):
        kind(primary, auxiliary)


def test_options_are_checked_at_once():
    with pytest.raises(InputError, match="did you mean 'last'"):
        CosineWeighting("few", ["many"], between="lst")
    with pytest.raises(InputError, match="did you mean 'many'"):
        KendallWeighting("few", ["many"], regressions=["mny"])
    with pytest.raises(InputError, match="no projection"):
        MetaWeighting("few", ["many"], projection="full")
    with pytest.raises(InputError, match="did you mean 'pcgrad'"):
        GradientAggregation("pcgrd")
    for tasks in ("few", [], ["few"], ["few", "many", "few"]):
        with pytest.raises(InputError, match="two names or more, each once"):
            GradientAggregation(tasks=tasks)


def unnamed(module):
    module.heads = nn.ModuleList(module.heads.values())


def third(module):
    module.heads["other"] = module.head(True)


def manual(module):
    module.automatic_optimization = False


def second_order(module):
    module.configure_optimizers = lambda: torch.optim.LBFGS(module.parameters())


def frozen(module):
    module.backbone.requires_grad_(False)


def without_gradient(module):
    module.backbone.forward = torch.no_grad()(module.backbone.forward)


def past_task_loss(module):
    module.training_step = lambda batch, batch_idx: module.heads["many"](module.backbone(batch["image"])).mean()


def diverged(module):
    with torch.no_grad():
        module.backbone[0].weight.fill_(torch.nan)


CASES = [
    (unnamed, "without names"),
    (third, "has no place for the heads other"),
    (manual, "needs automatic optimization"),
    (second_order, "LBFGS"),
    (frozen, "no parameter that learns"),
]


@pytest.mark.parametrize("kind", [KendallWeighting, CosineWeighting])
@pytest.mark.parametrize(("change", "message"), CASES)
def test_a_fit_that_cannot_work_stops_with_the_reason(kind, change, message, two_headed, batches_of, fit):
    module = two_headed()
    change(module)
    with pytest.raises(InputError, match=message) as raised:
        fit(module, [kind("few", ["many"])], batches_of("m"))
    assert "\n" not in str(raised.value)
    assert not module.backbone._forward_pre_hooks and "task_loss" not in vars(module)


@pytest.mark.parametrize(
    ("callback", "change", "message"),
    [
        (CosineWeighting("fwe", ["many"]), None, "did you mean 'few'"),
        (CosineWeighting("few", ["many"]), without_gradient, "torch.no_grad"),
        (CosineWeighting("few", ["many"]), diverged, "NaN or infinite at step 0"),
        (KendallWeighting("few", ["many"]), past_task_loss, "took no task's loss"),
    ],
)
def test_other_refusals(callback, change, message, two_headed, batches_of, fit):
    module = two_headed()
    if change is not None:
        change(module)
    with pytest.raises(InputError, match=message):
        fit(module, [callback], batches_of("m"))
    assert not module.backbone._forward_pre_hooks and "task_loss" not in vars(module)


@pytest.mark.parametrize("other", [TaskMetaTransfer, *KINDS])
def test_two_at_once_are_refused(other, two_headed, batches_of, fit):
    with pytest.raises(InputError, match="keep one"):
        fit(two_headed(), [other("many", ["few"]), CosineWeighting("few", ["many"])], batches_of("m"))


def test_kinds_do_not_mix_in_one_optimizer_step(two_headed, batches_of, fit):
    with pytest.raises(InputError, match="into one optimizer step"):
        fit(two_headed(), [CosineWeighting("few", ["many"])], batches_of("ma"), accumulate_grad_batches=2)


def test_gradients_are_not_combined_under_a_loss_scaler(two_headed, batches_of, fit):
    plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))]
    with pytest.raises(InputError, match="bf16-mixed"):
        fit(two_headed(), [CosineWeighting("few", ["many"])], batches_of("m"), plugins=plugins)


@pytest.mark.parametrize("callback", [CosineWeighting("few", ["many"]), GradientAggregation("imtl_g")])
def test_a_gradient_that_is_not_a_number(callback, two_headed, batches_of, fit):
    batches = batches_of("mmm")
    batches[1]["many"][0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="the gradient of 'many' is NaN or infinite at step 1; the last checkpoint"):
        fit(two_headed(), [callback], batches)
