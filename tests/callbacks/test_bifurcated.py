"""A module that has the methods of Bifurcated is cut and weighted by them; nothing of it is replaced."""

from collections import OrderedDict

import pytest
import torch
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from lightning_taskonomy.callbacks import CosineWeighting, KendallWeighting, TaskMetaTransfer
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules import Bifurcated, MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

METHODS = {"log", "task_loss", "head_loss", "label_key", "register_loss_hook"}


@pytest.fixture
def bifurcated(two_headed):
    """The same network and losses as ``two_headed``, by the protocol, with labels of other names."""

    class Bifurcating(two_headed):
        task_loss = None

        def __init__(self, **options):
            super().__init__(**options)
            self.hooks, self.replaced = OrderedDict(), set()

        def head_loss(self, name, features, batch):
            self.replaced |= METHODS & vars(self).keys()
            return functional.mse_loss(self.heads[name](features), batch[self.label_key(name)])

        def label_key(self, name):
            return f"{name}_label"

        def register_loss_hook(self, hook):
            handle = RemovableHandle(self.hooks)
            self.hooks[handle.id] = hook
            return handle

        def training_step(self, batch, batch_idx):
            self.replaced |= METHODS & vars(self).keys()
            features, losses = self.backbone(batch["image"]), []
            for name, head in self.heads.items():
                if self.label_key(name) in batch:
                    loss = functional.mse_loss(head(features), batch[self.label_key(name)])
                    for hook in self.hooks.values():
                        loss = hook(name, loss)
                    losses.append(loss)
            return torch.stack(losses).sum()

    return Bifurcating


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.5)


CALLBACKS = {
    "tmt": lambda: TaskMetaTransfer("few", ["many"], rank=2, inner_lr=0.3, optimizer=sgd),
    "kendall": lambda: KendallWeighting("few", ["many"], regressions=["few"], optimizer=sgd),
    "cosine": lambda: CosineWeighting("few", ["many"]),
}


@pytest.mark.parametrize("make", CALLBACKS.values(), ids=CALLBACKS)
def test_a_users_module_trains_as_one_whose_methods_are_replaced(make, two_headed, bifurcated, batches_of, fit):
    replaced, module, batches = two_headed(), bifurcated(), batches_of("maamm")
    keys = {"few": "few_label", "many": "many_label", "image": "image"}
    callbacks = make(), make()
    fit(replaced, [callbacks[0]], batches)
    fit(module, [callbacks[1]], [{keys[name]: entry for name, entry in batch.items()} for batch in batches])
    assert isinstance(module, Bifurcated) and not isinstance(replaced, Bifurcated)
    for name, value in replaced.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=0, atol=0)
    assert str(callbacks[0].state_dict()) == str(callbacks[1].state_dict())
    assert not module.replaced and not module.hooks and not module.backbone._forward_hooks


class Logging(MultiTaskModule):
    """Logs where a subclass may: in ``task_loss``."""

    def __init__(self):
        torch.manual_seed(0)
        tasks = [Task("few", TaskKind.DENSE, "few_target"), Task("many", TaskKind.DENSE, "many_target")]
        super().__init__(
            tasks, TimmBackbone("test_resnet", out_indices=(1,)), optimizer=lambda p: torch.optim.SGD(p, 0)
        )
        self.replaced = set()

    def task_loss(self, task, predictions, batch):
        loss = super().task_loss(task, predictions, batch)
        self.replaced |= METHODS & vars(self).keys()
        self.log(f"{task.name}/logged", loss.detach(), on_step=False, on_epoch=True, batch_size=2)
        return loss


@pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`:UserWarning")
@pytest.mark.parametrize("make", [*CALLBACKS.values(), None], ids=[*CALLBACKS, "none"])
def test_the_librarys_module_answers_by_its_own_methods_and_logs_once(make, fit):
    random = torch.Generator().manual_seed(0)
    batch = {f"{name}_target": torch.rand(2, 1, 32, 32, generator=random) for name in ("few", "many")}
    batch["image"] = torch.rand(2, 3, 32, 32, generator=random)
    with torch.no_grad():
        preds = Logging()(batch)
    expected = {name: float(functional.l1_loss(preds[name], batch[f"{name}_target"])) for name in preds}
    module = Logging()
    assert isinstance(module, Bifurcated) and module.label_key("few") == "few_target"
    trainer = fit(module, [] if make is None else [make()], [batch], limit_val_batches=0)
    logged = {name: float(trainer.callback_metrics[f"{name}/logged"]) for name in ("few", "many")}
    assert logged == pytest.approx(expected, rel=1e-5)
    assert not module.replaced and not module._loss_hooks


def test_a_loss_hook_replaces_the_loss_of_each_task_until_it_is_removed():
    batch = {"image": torch.rand(2, 3, 32, 32), "few_target": torch.rand(2, 1, 32, 32)}
    module = MultiTaskModule([Task("few", TaskKind.DENSE, "few_target")], TimmBackbone("test_resnet")).eval()
    plain, _ = module.losses(batch)
    handle = module.register_loss_hook(lambda name, loss: 3 * loss if name == "few" else loss)
    hooked, _ = module.losses(batch)
    handle.remove()
    after, _ = module.losses(batch)
    torch.testing.assert_close([hooked["few"], after["few"]], [3 * plain["few"], plain["few"]])
