"""MGDA-UB against closed forms, optimality conditions and gradients by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_taskonomy.callbacks import GradientAggregation, MGDAUpperBound
from lightning_taskonomy.errors import InputError


@pytest.fixture
def module_of(two_headed):
    def make(*names, **options):
        module = two_headed(norm=False, lr=0.0, **options)
        torch.manual_seed(3)
        module.heads = nn.ModuleDict({name: module.head(False) for name in names})
        return module

    return make


def batches_for(names, count=3, size=2):
    random = torch.Generator().manual_seed(5)
    return [
        {"image": torch.randn(size, 3, 8, 8, generator=random)}
        | {name: scale * torch.randn(size, 1, 4, 4, generator=random) for scale, name in enumerate(names, 1)}
        for _ in range(count)
    ]


def by_hand(module, batch):
    """Of each task its loss, and its gradient in the features, in the backbone (flat) and in its head (by name)."""
    features, backbone = module.backbone(batch["image"]), list(module.backbone.parameters())
    losses, at_features, in_backbone, heads = {}, {}, {}, {}
    for name, head in module.heads.items():
        if name in batch:
            losses[name] = functional.mse_loss(head(features), batch[name])
            named = dict(head.named_parameters())
            wanted = [features, *backbone, *named.values()]
            at_features[name], *rest = torch.autograd.grad(losses[name], wanted, retain_graph=True)
            in_backbone[name] = torch.cat([g.flatten() for g in rest[: len(backbone)]])
            head_gradients = zip(named, rest[len(backbone) :], strict=True)
            heads |= {f"heads.{name}.{parameter}": gradient for parameter, gradient in head_gradients}
    losses = {name: loss.detach() for name, loss in losses.items()}
    return losses, {name: g.flatten() for name, g in at_features.items()}, in_backbone, heads


def in_backbone_of(seen, module):
    return torch.cat([seen[f"backbone.{name}"].flatten() for name, _ in module.backbone.named_parameters()])


def share_of_first(first, second):
    return ((second - first) @ second / (first - second).square().sum()).clamp(0, 1)


def test_two_tasks_have_the_closed_form_in_the_features(module_of, fit):
    module, reference, batches = module_of("few", "many"), module_of("few", "many"), batches_for(["few", "many"])
    callback = MGDAUpperBound()
    trainer = fit(module, [callback], batches)
    for seen, batch in zip(module.seen, batches, strict=True):
        _, features, backbone, heads = by_hand(reference, batch)
        share = share_of_first(features["few"], features["many"])
        combined = share * backbone["few"] + (1 - share) * backbone["many"]
        torch.testing.assert_close(in_backbone_of(seen, module), combined, rtol=1e-4, atol=1e-6)
        for name, gradient in heads.items():  # from their own losses, unweighted
            torch.testing.assert_close(seen[name], gradient)
    assert 0 < share < 1
    assert callback.weights == pytest.approx({"few": float(share), "many": 1 - float(share)}, abs=1e-5)
    assert trainer.callback_metrics["weighting/few/weight"] == pytest.approx(float(share), abs=1e-5)


def test_the_bound_is_not_the_aggregation_in_the_weights(module_of, fit):
    pytest.importorskip("torchjd")
    gradients = []
    for callback in (MGDAUpperBound(), GradientAggregation("mgda")):
        module = module_of("few", "many")
        fit(module, [callback], batches_for(["few", "many"], 1))
        gradients.append(in_backbone_of(module.seen[0], module))
    assert not torch.allclose(*gradients, rtol=1e-2)


def test_of_more_tasks_no_other_weights_are_shorter(module_of, fit):
    names = ["a", "b", "c", "d"]
    module, reference, callback = module_of(*names), module_of(*names), MGDAUpperBound()
    for batch in batches_for(names):
        fit(module, [callback], [batch])
        _, features, backbone, _ = by_hand(reference, batch)
        weights = torch.tensor([callback.weights[name] for name in names])
        shortest = sum(w * features[name] for w, name in zip(weights, names, strict=True))
        assert weights.min() >= 0 and float(weights.sum()) == pytest.approx(1)
        for gradient in features.values():  # Karush, Kuhn, Tucker
            assert gradient @ shortest >= (1 - 1e-4) * (shortest @ shortest)
        combined = sum(w * backbone[name] for w, name in zip(weights, names, strict=True))
        torch.testing.assert_close(in_backbone_of(module.seen[-1], module), combined, rtol=1e-4, atol=1e-6)


def test_one_pass_goes_back_through_the_backbone(module_of, fit):
    passes = []
    names = ["a", "b", "c"]
    for callback in (MGDAUpperBound(), None):
        module, count = module_of(*names), []
        module.backbone[0].register_forward_hook(
            lambda layer, args, output, count=count: output.register_hook(lambda gradient: count.append(1)) and None
        )
        fit(module, [callback] if callback else [], batches_for(names, 1))
        passes.append(len(count))
    assert passes == [1, 1]


@pytest.mark.parametrize("normalisation", ["l2", "loss", "loss+"])
def test_gradients_are_divided_for_the_weights_alone(module_of, fit, normalisation):
    names = ["few", "many"]
    module, reference, (batch,) = module_of(*names), module_of(*names), batches_for(names, 1)
    callback = MGDAUpperBound(normalisation=normalisation)
    fit(module, [callback], [batch])
    losses, features, backbone, _ = by_hand(reference, batch)
    length = {name: gradient.norm() for name, gradient in features.items()}
    divisor = {
        "l2": length, "loss": losses, "loss+": {name: losses[name] * length[name] for name in names}
    }[normalisation]  # fmt: skip
    share = float(share_of_first(*(features[name] / divisor[name] for name in names)))
    assert callback.weights == pytest.approx({"few": share, "many": 1 - share}, abs=1e-5)
    combined = share * backbone["few"] + (1 - share) * backbone["many"]
    torch.testing.assert_close(in_backbone_of(module.seen[0], module), combined, rtol=1e-4, atol=1e-6)
    if normalisation == "l2":
        assert share == pytest.approx(0.5)  # two unit vectors
    assert "task_loss" not in vars(module)


def test_tasks_without_labels_or_gradient_have_no_say(module_of, fit):
    names = ["few", "many", "more"]
    module, reference, plain, callback = module_of(*names), module_of(*names), module_of(*names), MGDAUpperBound()
    batch, alone, solved = batches_for(names)
    del batch["more"], alone["few"], alone["more"]
    solved["few"] = plain.heads["few"](plain.backbone(solved["image"])).detach()
    fit(module, [callback], [batch])
    _, features, _, _ = by_hand(reference, batch)
    share = float(share_of_first(features["few"], features["many"]))
    assert callback.weights == pytest.approx({"few": share, "many": 1 - share, "more": 0}, abs=1e-5)
    assert not any(name.startswith("heads.more") for name in module.seen[0])  # no gradient at all
    for one in (module, plain):
        fit(one, [callback] if one is module else [], [alone])
    for name, gradient in plain.seen[0].items():
        torch.testing.assert_close(module.seen[1][name], gradient)
    fit(module, [callback], [solved])
    assert callback.weights["few"] == 0 and sum(callback.weights.values()) == pytest.approx(1)


def test_a_factor_lengthens_the_backbones_gradient_alone(module_of, fit):
    seen, names = [], ["few", "many"]
    for factor in (1.0, 2.0):
        module = module_of(*names)
        fit(module, [MGDAUpperBound(factor=factor)], batches_for(names, 1))
        seen.append(module.seen[0])
    for name, gradient in seen[0].items():
        torch.testing.assert_close(seen[1][name], (2 if name.startswith("backbone") else 1) * gradient)


@pytest.mark.parametrize("normalisation", ["none", "loss+"])
def test_accumulated_parts_are_the_whole(module_of, fit, normalisation):
    names, seen, weights = ["a", "b", "c"], [], []
    wholes = batches_for(names, 2, size=4)
    parts = [{name: value[at : at + 2] for name, value in batch.items()} for batch in wholes for at in (0, 2)]
    for batches, options in ((wholes, {}), (parts, {"accumulate_grad_batches": 2})):
        module, callback = module_of(*names), MGDAUpperBound(normalisation=normalisation)
        fit(module, [callback], batches, **options)
        seen.append(module.seen)
        weights.append(callback.weights)
    assert weights[1] == pytest.approx(weights[0], abs=1e-5)
    for whole, accumulated in zip(*seen, strict=True):
        for name, gradient in whole.items():
            torch.testing.assert_close(accumulated[name], gradient, rtol=1e-3, atol=1e-5)


def test_refusals(module_of, fit):
    for tasks in ("few", [], ["few"], ["few", "few"]):
        with pytest.raises(InputError, match=r"MGDAUpperBound has tasks .* two names or more, each once"):
            MGDAUpperBound(tasks)
    with pytest.raises(InputError, match="no normalisation 'los'; did you mean 'loss'"):
        MGDAUpperBound(normalisation="los")
    for factor in (0.0, float("nan")):
        with pytest.raises(InputError, match="give a number above 0"):
            MGDAUpperBound(factor=factor)
    names = ["few", "many"]
    (batch,) = batches_for(names, 1)
    module = module_of(*names)
    module.task_loss = lambda name, predictions, batch: -functional.mse_loss(predictions, batch[name])
    with pytest.raises(InputError, match=r"divides by the loss of 'few', which is -.* at step 0; use 'l2' or 'none'"):
        fit(module, [MGDAUpperBound(normalisation="loss")], [batch])
    batch["many"][0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="the gradient of 'many' is NaN or infinite at step 0"):
        fit(module_of(*names), [MGDAUpperBound()], [batch])
