"""GradNorm against a step by hand and a literal implementation that differentiates twice."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_taskonomy.callbacks import GradNormWeighting
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind


def sgd(lr):
    return lambda params: torch.optim.SGD(params, lr)


@pytest.fixture
def module_of(two_headed):
    def make(*names, **options):
        module = two_headed(norm=False, **{"lr": 0.05, **options})
        torch.manual_seed(3)
        module.heads = nn.ModuleDict({name: module.head(False) for name in names})
        return module

    return make


def batches_for(names, count=4, size=2):
    random = torch.Generator().manual_seed(5)
    return [
        {"image": torch.randn(size, 3, 8, 8, generator=random)}
        | {name: scale * torch.randn(size, 1, 4, 4, generator=random) for scale, name in enumerate(names, 1)}
        for _ in range(count)
    ]


def literally(module, batches, alpha, lr):
    """Algorithm 1 as it stands; tasks without a label in a batch are left out of its comparison."""
    weights = {name: torch.ones((), requires_grad=True) for name in module.heads}
    optimizer, first, last = module.configure_optimizers(), {}, module.backbone[-1].weight
    for batch in batches:
        features = module.backbone(batch["image"])
        losses = {name: functional.mse_loss(module.heads[name](features), batch[name])
                  for name in module.heads if name in batch}  # fmt: skip
        first = {**{name: loss.detach() for name, loss in losses.items()}, **first}
        norms = [torch.autograd.grad(weights[name] * loss, last, create_graph=True)[0].norm()
                 for name, loss in losses.items()]  # fmt: skip
        ratios = [loss.detach() / first[name] for name, loss in losses.items()]
        rates = [ratio / (sum(ratios) / len(ratios)) for ratio in ratios]
        mean = sum(norms) / len(norms)
        targets = [(mean * rate**alpha).detach() for rate in rates]
        difference = sum((norm - target).abs() for norm, target in zip(norms, targets, strict=True))
        slopes = torch.autograd.grad(difference, [weights[name] for name in losses], retain_graph=True)
        optimizer.zero_grad()
        sum(weights[name].detach() * loss for name, loss in losses.items()).backward()
        optimizer.step()
        if len(losses) > 1:
            for name, slope in zip(losses, slopes, strict=True):
                weights[name] = weights[name].detach() - lr * slope
            total = sum(weights.values())
            weights = {name: (weight * len(weights) / total).detach() for name, weight in weights.items()}
        weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    return {name: float(weight.detach()) for name, weight in weights.items()}


def one_weight(two_headed):
    """z = W·x with W = 1; the tasks read it as 1·z and 3·z, and their losses are squares."""
    module = two_headed(norm=False, lr=0.0)
    module.backbone = nn.Linear(1, 1, bias=False)
    module.heads = nn.ModuleDict({"slow": nn.Linear(1, 1, bias=False), "fast": nn.Linear(1, 1, bias=False)})
    with torch.no_grad():
        for layer, value in ((module.backbone, 1), (module.heads["slow"], 1), (module.heads["fast"], 3)):
            layer.weight.fill_(value)
    return module


def test_two_steps_by_hand(two_headed, fit):
    module, callback = one_weight(two_headed), GradNormWeighting(alpha=1.0, optimizer=sgd(0.01))
    first = {"image": torch.ones(1, 1), "slow": torch.tensor([[3.0]]), "fast": torch.tensor([[2.0]])}
    fit(module, [callback], [first])
    # losses (1 - 3)² = 4 and (3 - 2)² = 1, gradients in W 2·(1 - 3)·1 = -4 and 2·(3 - 2)·3 = 6; both rates are 1, so
    # both lengths are drawn to 5: w = 1 + 0.01·4 and 1 - 0.01·6, scaled so that they add up to 2
    slow, fast = 2 * 1.04 / 1.98, 2 * 0.94 / 1.98
    assert callback.weights == pytest.approx({"slow": slow, "fast": fast})
    assert module.seen[0]["backbone.weight"].item() == pytest.approx(-4 + 6)  # with the weights of before
    second = {"image": torch.ones(1, 1), "slow": torch.tensor([[2.0]]), "fast": torch.tensor([[0.0]])}
    fit(module, [callback], [second])
    # losses 1 and 9, of the first 1/4 and 9, rates 2/37 and 72/37; gradients -2 and 18, whose weighted lengths are
    # 2.1 and 17.1, about, with the mean 9.6: targets 0.5 and 18.7, so w of the slow task falls and the other's rises
    assert module.seen[1]["backbone.weight"].item() == pytest.approx(-2 * slow + 18 * fast)
    assert module.seen[1]["heads.slow.weight"].item() == pytest.approx(-2 * slow)
    slow, fast = slow - 0.01 * 2, fast + 0.01 * 18
    assert callback.weights == pytest.approx({"slow": 2 * slow / (slow + fast), "fast": 2 * fast / (slow + fast)})


@pytest.mark.parametrize("alpha", [0.0, 0.12, 1.5])
def test_it_is_the_algorithm_taken_literally(module_of, fit, alpha):
    names = ["a", "b", "c"]
    batches = batches_for(names, 5)
    del batches[1]["a"], batches[3]["b"], batches[3]["c"]
    module, reference = module_of(*names), module_of(*names)
    callback = GradNormWeighting(alpha=alpha, optimizer=sgd(0.05))
    trainer = fit(module, [callback], batches)
    expected = literally(reference, batches, alpha, 0.05)
    assert callback.weights == pytest.approx(expected, rel=1e-4)
    assert sum(callback.weights.values()) == pytest.approx(3) and max(callback.weights.values()) > 1.02
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(module.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)
    assert trainer.callback_metrics["weighting/a/weight"] == pytest.approx(callback.weights["a"], rel=1e-5)


def test_a_layer_of_ones_choice(module_of, fit):
    names, ends = ["a", "b"], []
    for layer in ("", "4", "0"):
        callback = GradNormWeighting(layer=layer, optimizer=sgd(0.05))
        fit(module_of(*names), [callback], batches_for(names))
        ends.append(callback.weights["a"])
    assert ends[0] != ends[2]
    assert ends[1] != ends[0]  # the whole layer, its bias too


def test_what_a_step_says_nothing_of_stays(module_of, fit):
    names = ["a", "b", "c"]
    module, callback = module_of(*names), GradNormWeighting()  # Adam has a memory
    batches = batches_for(names, 3)
    fit(module, [callback], batches[:1])
    before = dict(callback.weights)
    alone, both = ({"image": batch["image"]} for batch in batches[1:])
    alone["a"] = batches[1]["a"]
    fit(module, [callback], [alone])
    assert callback.weights == before
    assert not any(name.startswith(("heads.b", "heads.c")) for name in module.seen[1])
    both |= {"a": batches[2]["a"], "b": batches[2]["b"]}
    fit(module, [callback], [both])
    scale = callback.weights["c"] / before["c"]
    assert sum(callback.weights.values()) == pytest.approx(3) and scale == pytest.approx(1, abs=0.03)
    assert callback.weights["a"] != pytest.approx(before["a"] * scale, rel=1e-4)


def test_the_first_loss_is_that_of_the_first_step_with_labels(module_of, fit):
    names = ["a", "b"]
    module, reference, callback = module_of(*names, lr=0.0), module_of(*names), GradNormWeighting()
    batches = batches_for(names, 3)
    del batches[0]["b"]
    fit(module, [callback], batches)
    for name, batch in (("a", batches[0]), ("b", batches[1])):
        loss = functional.mse_loss(reference.heads[name](reference.backbone(batch["image"])), batch[name])
        torch.testing.assert_close(callback.state_dict()["first_losses"][name], loss.detach())


def test_accumulated_parts_are_the_whole(module_of, fit):
    names, seen, states = ["a", "b", "c"], [], []
    wholes = batches_for(names, 3, size=4)
    parts = [{name: value[at : at + 2] for name, value in batch.items()} for batch in wholes for at in (0, 2)]
    for batches, options in ((wholes, {}), (parts, {"accumulate_grad_batches": 2})):
        module, callback = module_of(*names), GradNormWeighting(optimizer=sgd(0.05))
        fit(module, [callback], batches, **options)
        seen.append(module.seen)
        states.append(callback.state_dict())
    for key in ("weights", "first_losses"):
        torch.testing.assert_close(states[1][key], states[0][key], rtol=1e-4, atol=1e-6)
    for whole, accumulated in zip(*seen, strict=True):
        torch.testing.assert_close(accumulated, whole, rtol=1e-3, atol=1e-5)


def test_no_weight_becomes_negative_and_each_can_come_back(two_headed, fit):
    batch = {"image": torch.ones(1, 1), "slow": torch.tensor([[3.0]]), "fast": torch.tensor([[2.0]])}
    module, callback = one_weight(two_headed), GradNormWeighting(alpha=0.0, optimizer=sgd(0.5))
    fit(module, [callback], [batch])
    # steps of +2 and -3 from 1: the fast task's would be -2
    assert callback.weights["fast"] == pytest.approx(0, abs=1e-5) and callback.weights["fast"] > 0
    assert sum(callback.weights.values()) == pytest.approx(2)
    fit(module, [callback], [batch])
    assert callback.weights["fast"] > 1


def test_the_log_shows_the_losses_themselves(fit):
    tasks = [Task(name, TaskKind.VECTOR, name, 2) for name in ("a", "b")]
    torch.manual_seed(0)
    backbone = TimmBackbone("test_resnet", pretrained=False, out_indices=(1, 2))
    module = MultiTaskModule(tasks, backbone, optimizer=sgd(0.0)).train()
    batch = {"image": torch.rand(2, 3, 32, 32), "a": torch.randn(2, 2), "b": torch.randn(2, 2)}
    expected = {name: float(loss.detach()) for name, loss in module.losses(batch)[0].items()}
    callback = GradNormWeighting(optimizer=sgd(0.5))
    trainer = fit(module, [callback], [batch, batch], limit_val_batches=0)
    assert callback.weights["a"] != pytest.approx(1, abs=1e-4)
    for name, loss in expected.items():
        assert trainer.callback_metrics[f"train/{name}/loss"] == pytest.approx(loss, rel=1e-4)
    assert not module._loss_hooks


def test_refusals(module_of, fit, two_headed):
    for tasks in ("few", ["few"], ["few", "few"]):
        with pytest.raises(InputError, match="two names or more, each once"):
            GradNormWeighting(tasks)
    for alpha in (-0.1, float("inf")):
        with pytest.raises(InputError, match="give a number from 0 on"):
            GradNormWeighting(alpha=alpha)
    names, (batch,) = ["a", "b"], batches_for(["a", "b"], 1)
    with pytest.raises(InputError, match="has no layer '5'"):
        fit(module_of(*names), [GradNormWeighting(layer="5")], [batch])
    with pytest.raises(InputError, match="no parameter that learns"):
        fit(module_of(*names), [GradNormWeighting(layer="2")], [batch])
    module = module_of(*names)
    module.backbone.add_module("unused", nn.Linear(2, 2))
    module.backbone.forward = lambda image: module.backbone[:5].forward(image)
    with pytest.raises(InputError, match="no gradient of 'a' passes the layer"):
        fit(module, [GradNormWeighting()], [batch])
    module = module_of(*names)
    module.task_loss = lambda name, predictions, batch: predictions.sum() - predictions.detach().sum()
    with pytest.raises(InputError, match="the loss of 'a' relative to its first one"):
        fit(module, [GradNormWeighting()], [batch])
    saved = GradNormWeighting()
    fit(module_of(*names), [saved], [batch])
    other = GradNormWeighting()
    other.load_state_dict(saved.state_dict())
    with pytest.raises(InputError, match=r"weights are of a, b, the heads are a, b, c"):
        fit(module_of("a", "b", "c"), [other], batches_for(["a", "b", "c"], 1))
