"""Weightings as callbacks, against gradients by hand, closed forms and plain multi-task learning."""

import copy
import logging
import math

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from lightning_taskonomy.callbacks import (
    CosineWeighting,
    GradientAggregation,
    GradNormWeighting,
    KendallWeighting,
    MetaWeighting,
    MGDAUpperBound,
    ResumeCheckpoint,
    TaskMetaTransfer,
)
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

MAKERS = {
    "kendall": lambda: KendallWeighting("few", ["many"], optimizer=lambda params: torch.optim.Adam(params, lr=0.1)),
    "cosine": lambda: CosineWeighting("few", ["many"]),
    "cosine_last": lambda: CosineWeighting("few", ["many"], between="last"),
    "mgda": lambda: GradientAggregation("mgda"),
    "mgda_ub": lambda: MGDAUpperBound(),
    "grad_norm": lambda: GradNormWeighting(),
    "meta": lambda: MetaWeighting("few", ["many"], inner_lr=0.1),
}


@pytest.fixture
def make(request):
    if request.param == "mgda":
        pytest.importorskip("torchjd")
    return MAKERS[request.param]


def any_of(*names):
    return pytest.mark.parametrize("make", names, indirect=True)


def close(actual, expected, **options):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, msg=lambda message, name=name: f"{name}: {message}", **options)


def losses_of(module, batch):
    features = module.backbone(batch["image"])
    return {name: functional.mse_loss(module.heads[name](features), batch[name]) for name in ("few", "many")}


def per_task(module, batch):
    """Each task's gradient in the backbone, flat, and the heads' own gradients by name."""
    in_backbone, heads = {}, {}
    for name, loss in losses_of(module, batch).items():
        head = dict(module.heads[name].named_parameters())
        wanted = [*module.backbone.parameters(), *head.values()]
        gradients = torch.autograd.grad(loss, wanted, retain_graph=True)
        in_backbone[name] = torch.cat([g.flatten() for g in gradients[: -len(head)]])
        heads |= {f"heads.{name}.{n}": g for n, g in zip(head, gradients[-len(head) :], strict=True)}
    return in_backbone["few"], in_backbone["many"], heads


def shared(seen, module):
    return torch.cat([seen[f"backbone.{name}"].flatten() for name, _ in module.backbone.named_parameters()])


def kendall_by_hand(module, variances, factors, batch):
    """Σ c·exp(-s)·L + s/2, written down and differentiated."""
    s = torch.tensor(variances, requires_grad=True)
    losses = losses_of(module, batch).values()
    terms = [c * torch.exp(-v) * loss + v / 2 for c, v, loss in zip(factors, s, losses, strict=True)]
    named = dict(module.named_parameters())
    gradients = torch.autograd.grad(sum(terms), [*named.values(), s])
    return dict(zip(named, gradients, strict=False)), gradients[-1]


def test_kendall_weights_parallel_batches_and_no_other(two_headed, batches_of, fit):
    module, plain = two_headed(norm=False, lr=0.0), two_headed(norm=False, lr=0.0)
    weighting = KendallWeighting("few", ["many"], regressions=["few"], optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    blank = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1).state_dict()
    weighting.load_state_dict({"log_variances": torch.tensor([0.7, -0.4]), "optimizer": blank})
    batches = batches_of("ma")
    network, s = kendall_by_hand(plain, [0.7, -0.4], [0.5, 1.0], batches[0])
    trainer = fit(module, [weighting], batches)
    fit(plain, [], batches)
    close(module.seen[0], network)
    close(module.seen[1], plain.seen[1])  # standard, and the log-variances do not move there
    moved = torch.tensor([0.7, -0.4]) - 0.1 * s
    torch.testing.assert_close(weighting.state_dict()["log_variances"], moved)
    assert weighting.weights == pytest.approx({"few": 0.5 * math.exp(-moved[0]), "many": math.exp(-moved[1])}, rel=1e-5)
    assert trainer.callback_metrics["weighting/few/weight"] == pytest.approx(weighting.weights["few"], rel=1e-5)
    assert module.steps == 2 == trainer.global_step and "task_loss" not in vars(module)


def test_kendall_leaves_the_values_of_the_losses_as_they_are(two_headed, batches_of, fit):
    values = {}
    for name, callbacks in (("weighted", [MAKERS["kendall"]()]), ("plain", [])):
        module, losses = two_headed(norm=False, lr=0.0), []
        step = module.training_step
        module.training_step = lambda batch, i, step=step, losses=losses: losses.append(step(batch, i)) or losses[-1]
        fit(module, callbacks, batches_of("mam"))
        values[name] = [float(value.detach()) for value in losses]
    assert values["weighted"] == values["plain"]


def test_kendall_under_a_loss_scaler(two_headed, batches_of, fit):
    variances = []
    for plugins in ([], [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))]):
        weighting = KendallWeighting("few", ["many"], optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
        fit(two_headed(norm=False), [weighting], batches_of("mm"), plugins=plugins)
        variances.append(weighting.state_dict()["log_variances"])
    torch.testing.assert_close(*variances, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("hard", [False, True])
def test_cosine_is_the_formula_on_parallel_batches(two_headed, batches_of, fit, hard):
    module, reference = two_headed(norm=False, lr=0.0), two_headed(norm=False, lr=0.0)
    batches = batches_of("mmmmmm")
    trainer = fit(module, [CosineWeighting("few", ["many"], hard=hard)], batches)
    signs = set()
    for seen, batch in zip(module.seen, batches, strict=True):
        primary, auxiliary, heads = per_task(reference, batch)
        cosine = torch.cosine_similarity(primary, auxiliary, dim=0)
        signs.add(bool(cosine > 0))
        weight = float(cosine > 0) if hard else cosine.clamp(min=0)
        torch.testing.assert_close(shared(seen, module), primary + weight * auxiliary)
        close({name: value for name, value in seen.items() if name.startswith("heads")}, heads)
    assert signs == {True, False} and module.steps == 6 == trainer.global_step
    assert trainer.callback_metrics["weighting/many/cosine"] == pytest.approx(float(cosine), rel=1e-4)
    assert trainer.callback_metrics["weighting/many/weight"] == pytest.approx(float(weight), rel=1e-4)


@pytest.mark.parametrize("between", ["plain", "last", "heads"])
def test_cosine_between_parallel_batches(two_headed, batches_of, fit, between):
    module, plain = two_headed(norm=False, lr=0.0), two_headed(norm=False, lr=0.0)
    batches = batches_of("mmmmma")
    cosines = [torch.cosine_similarity(*per_task(plain, batch)[:2], dim=0) for batch in batches[:-1]]
    batches = [batches[int(torch.stack(cosines).argmax())], batches[-1]]
    fit(module, [CosineWeighting("few", ["many"], between=between)], batches)
    fit(plain, [], batches)
    weight = {"plain": 1.0, "last": max(0.0, float(max(cosines))), "heads": 0.0}[between]
    assert 0 < max(cosines) < 1
    expected = {n: weight * g if n.startswith("backbone") else g for n, g in plain.seen[1].items()}
    close(module.seen[1], expected)


def aggregated(name, first, second):
    """Closed forms for two tasks."""
    if name == "pcgrad":
        dot = (first @ second).clamp(max=0)
        return first - dot / second.square().sum() * second + second - dot / first.square().sum() * first
    if name == "mgda":
        share = ((second - first) @ second / (first - second).square().sum()).clamp(0, 1)
        return share * first + (1 - share) * second
    units = [g / g.norm() for g in (first, second)]  # imtl_g: equal projections onto both, weights that sum to 1
    apart = units[0] - units[1]
    share = second @ apart / ((second - first) @ apart)
    return share * first + (1 - share) * second


@pytest.mark.parametrize("name", ["pcgrad", "mgda", "imtl_g"])
def test_aggregations_of_two_tasks_have_closed_forms(two_headed, batches_of, fit, name):
    pytest.importorskip("torchjd")
    module, plain = two_headed(norm=False, lr=0.0), two_headed(norm=False, lr=0.0)
    batches = batches_of("mamm")
    trainer = fit(module, [GradientAggregation(name)], batches)
    fit(plain, [], batches)
    close(module.seen[1], plain.seen[1])  # one task: plain
    for index in (0, 2, 3):
        first, second, heads = per_task(plain, batches[index])
        torch.testing.assert_close(
            shared(module.seen[index], module), aggregated(name, first, second), rtol=1e-3, atol=1e-4
        )
        close({key: value for key, value in module.seen[index].items() if key.startswith("heads")}, heads)
    both = trainer.callback_metrics
    assert {"weighting/few/cosine", "weighting/many/cosine"} <= both.keys()


def test_the_order_in_which_pcgrad_projects_depends_on_seed_and_step_alone(two_headed, batches_of, fit):
    pytest.importorskip("torchjd")
    seen = []
    for seed, drawn in ((0, 0), (0, 1), (1, 0)):
        module = two_headed(norm=False, lr=0.0)
        torch.manual_seed(3)
        module.heads["more"] = module.head(False)
        step = module.training_step
        module.training_step = lambda batch, batch_idx, step=step, drawn=drawn: (
            torch.rand(drawn), step(batch, batch_idx),
        )[1]  # fmt: skip
        torch.manual_seed(seed)
        batches = [{**batch, "more": -batch["many"] - batch["few"]} for batch in batches_of("mmmmmm")]
        fit(module, [GradientAggregation("pcgrad")], batches)
        seen.append(torch.stack([shared(step, module) for step in module.seen]))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


@pytest.mark.filterwarnings("ignore:.*not DPP:UserWarning")  # cvxpy's, about how Nash-MTL states its problem
@pytest.mark.parametrize("make", [lambda: CosineWeighting("few", ["many"]), lambda: GradientAggregation("mgda")])
def test_heads_may_run_in_any_order(make, two_headed, batches_of, fit):
    ends = []
    for names in (["few", "many"], ["many", "few"]):
        module = two_headed()

        def step(batch, batch_idx, module=module, names=names):
            features = module.backbone(batch["image"])
            losses = [module.task_loss(name, module.heads[name](features), batch) for name in names]
            return torch.stack(losses).sum()

        module.training_step = step
        fit(module, [make()], batches_of("mm"))
        ends.append(module.state_dict())
    for one, other in zip(*map(dict.values, ends), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP:UserWarning")  # cvxpy's
@pytest.mark.parametrize("name", ["cagrad", "nash_mtl", "aligned_mtl"])
def test_other_aggregations_train(two_headed, batches_of, fit, name):
    pytest.importorskip("torchjd")
    for needed in {"cagrad": ["cvxpy", "clarabel"], "nash_mtl": ["cvxpy", "ecos"]}.get(name, []):
        pytest.importorskip(needed)
    module, before = two_headed(norm=False), two_headed(norm=False)
    fit(module, [GradientAggregation(name)], batches_of("mam"))
    first, second, _ = per_task(before, batches_of("m")[0])
    combined = shared(module.seen[0], module)
    basis, _ = torch.linalg.qr(torch.stack([first, second], 1))
    torch.testing.assert_close(basis @ (basis.T @ combined), combined, rtol=1e-3, atol=1e-5)  # of the two gradients
    assert first @ combined > 0 and second @ combined > 0


def test_a_penalty_on_the_parameters_is_no_task(two_headed, batches_of, fit):
    module, plain = two_headed(norm=False, lr=0.0), two_headed(norm=False, lr=0.0)
    step = module.training_step
    module.training_step = lambda batch, batch_idx: (
        step(batch, batch_idx) + sum(p.square().sum() for p in module.backbone.parameters()) / 2
    )
    for one in (module, plain):
        fit(one, [CosineWeighting("few", ["many"])], batches_of("ma"))
    for ours, without in zip(module.seen, plain.seen, strict=True):
        for name, parameter in plain.backbone.named_parameters():
            torch.testing.assert_close(ours[f"backbone.{name}"], without[f"backbone.{name}"] + parameter)


@any_of("cosine", "mgda", "mgda_ub", "grad_norm")
def test_clipping_comes_after(two_headed, batches_of, fit, make):
    module = two_headed(norm=False, lr=0.5)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    fit(module, [make()], batches_of("m"), gradient_clip_val=0.01)
    norm = torch.stack([g.norm() for g in module.seen[0].values()]).norm()
    assert norm > 0.01
    for name, parameter in module.named_parameters():
        expected = before[name] - 0.5 * 0.01 / norm * module.seen[0][name]
        torch.testing.assert_close(parameter, expected, rtol=1e-3, atol=1e-7)


@any_of("kendall", "cosine", "mgda")
def test_accumulated_halves_are_the_whole(two_headed, batches_of, fit, make):
    wholes = batches_of("ma", count=4)
    halves = [{name: value[at : at + 2] for name, value in batch.items()} for batch in wholes for at in (0, 2)]
    ends = []
    for batches, options in ((wholes, {}), (halves, {"accumulate_grad_batches": 2})):
        module, weighting = two_headed(norm=False), make()
        fit(module, [weighting], batches, **options)
        ends.append((module.seen, weighting.state_dict()))
    for ours, expected in zip(ends[1][0], ends[0][0], strict=True):
        close(ours, expected, rtol=1e-3, atol=1e-5)
    if "log_variances" in ends[0][1]:
        torch.testing.assert_close(ends[1][1]["log_variances"], ends[0][1]["log_variances"])


@any_of("kendall", "cosine", "mgda", "mgda_ub", "grad_norm")
def test_bf16_within_its_rounding(two_headed, batches_of, fit, make):
    seen = []
    for precision in ("32-true", "bf16-mixed"):
        module = two_headed(norm=False, lr=0.0)
        fit(module, [make()], batches_of("ma"), precision=precision)
        seen.append(module.seen)
    for exact, ours in zip(*seen, strict=True):
        for name, value in exact.items():
            torch.testing.assert_close(ours[name], value, rtol=0.1, atol=0.05 * float(value.abs().max() + 0.1))


@any_of("kendall", "cosine_last", "mgda", "mgda_ub", "grad_norm", "meta")
def test_a_resumed_fit_ends_as_the_unbroken_one(two_headed, batches_of, fit, make, tmp_path):
    def pieces():
        return two_headed(dropout=0.3, momentum=0.9), [ResumeCheckpoint(tmp_path, seconds=0), make()]

    batches = batches_of("amama")
    unbroken, callbacks = pieces()
    fit(unbroken, callbacks, batches, max_epochs=3)
    state = callbacks[1].state_dict()
    callbacks[0].remove()
    module, callbacks = pieces()
    fit(module, callbacks, batches, max_epochs=1)
    module, callbacks = pieces()
    fit(module, callbacks, batches, str(callbacks[0].path), max_epochs=3)
    close(module.state_dict(), unbroken.state_dict(), rtol=0, atol=0)
    assert str(callbacks[1].state_dict()) == str(state)
    torch.load(tmp_path / "resume.ckpt", weights_only=True)


@any_of("kendall", "cosine", "mgda", "mgda_ub", "grad_norm", "meta")
def test_they_train_the_librarys_own_module(batches_of, fit, make):
    tasks = [Task("few", TaskKind.SEGMENTATION, "few", 3), Task("many", TaskKind.DENSE, "many", 1)]
    torch.manual_seed(0)
    module = MultiTaskModule(tasks, TimmBackbone("test_resnet", pretrained=False, out_indices=(1, 2)))
    image = torch.rand(2, 3, 32, 32)
    labels = {"few": torch.randint(3, (2, 32, 32)), "many": torch.randn(2, 1, 32, 32)}
    parallel = {"image": image, **labels}
    other = {"image": image, "few": torch.full((2, 32, 32), -100), "many": labels["many"]}
    callback = make()
    trainer = fit(module, [callback], [parallel, other, parallel], limit_val_batches=0)
    assert trainer.global_step == 3 and all(p.isfinite().all() for p in module.parameters())
    assert any(key.startswith(("weighting/", "meta/")) for key in trainer.callback_metrics)
    if isinstance(callback, KendallWeighting):  # classification 1, regression 1/2
        variances = callback.state_dict()["log_variances"]
        assert callback.weights["few"] == pytest.approx(math.exp(-variances[0]), rel=1e-5)
        assert callback.weights["many"] == pytest.approx(0.5 * math.exp(-variances[1]), rel=1e-5)


@any_of("kendall", "cosine")
def test_primary_labels_elsewhere_are_ignored_and_said_once(two_headed, batches_of, fit, make, caplog):
    module, plain = two_headed(), two_headed()
    callback = make()
    callback.is_meta = lambda batch: False
    with caplog.at_level(logging.WARNING):
        fit(module, [callback], batches_of("mm"))
    fit(plain, [], [{k: v for k, v in b.items() if k != "few"} for b in batches_of("mm")])
    close(dict(module.named_parameters()), dict(plain.named_parameters()))
    assert caplog.text.count("nothing learns from them") == 1


def test_meta_weighting_is_the_scalar_projection(two_headed, batches_of, fit):
    ends = []
    for kind, options in ((MetaWeighting, {}), (TaskMetaTransfer, {"projection": "scalar"})):
        module, callback = two_headed(), kind("few", ["many"], **options)
        fit(module, [callback], batches_of("mamaa"))
        ends.append((module.state_dict(), callback.projections["many"][0].state_dict()))
    close(ends[0][0], ends[1][0], rtol=0, atol=0)
    close(ends[0][1], ends[1][1], rtol=0, atol=0)
    assert ends[0][1]["weight"] != 1


class TwoMaps(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1)

    def forward(self, image):
        first = self.first(image).tanh()
        return [first, self.second(first)]


class ReadsBoth(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(9, 1, 3)

    def forward(self, maps):
        return self.layer(torch.cat(maps, 1))


def test_meta_weighting_has_one_weight_for_all_maps(two_headed, batches_of, fit):
    module = two_headed(norm=False)
    module.backbone, module.heads = TwoMaps(), nn.ModuleDict({name: ReadsBoth() for name in ("few", "many")})
    before = copy.deepcopy(module)
    weighting = MetaWeighting("few", ["many"], inner_lr=0.3, optimizer=lambda params: torch.optim.SGD(params, lr=1.0))
    (batch,) = batches_of("m")
    fit(module, [weighting], [batch])
    named, weight = dict(before.backbone.named_parameters()), torch.ones((), requires_grad=True)
    gradients = torch.autograd.grad(losses_of(before, batch)["many"], list(named.values()))
    ahead = {n: p - 0.3 * weight * g for (n, p), g in zip(named.items(), gradients, strict=True)}
    there = functional_call(before.backbone, ahead, (batch["image"],))
    primary = functional.mse_loss(before.heads["few"](there), batch["few"])
    (expected,) = torch.autograd.grad(primary, weight)
    for projection in weighting.projections["many"]:
        torch.testing.assert_close(projection.weight, 1 - expected, rtol=1e-4, atol=1e-6)


def test_one_weight_stays_one_when_it_is_bounded(two_headed, batches_of, fit):
    """Two meta steps on the same images make one step of their gradient, which then goes a quarter of the way back."""
    weights = []
    for pattern, options in (("m", {}), ("mm", {"phi_batches": 2, "anchor": 0.25})):
        module = two_headed(norm=False, lr=0.0)
        module.backbone, module.heads = TwoMaps(), nn.ModuleDict({name: ReadsBoth() for name in ("few", "many")})
        weighting = MetaWeighting(
            "few", ["many"], inner_lr=0.3, optimizer=lambda params: torch.optim.SGD(params, lr=1.0), **options
        )
        fit(module, [weighting], batches_of("m") * len(pattern))
        weights.append([float(projection.weight.detach()) for projection in weighting.projections["many"]])
    (once, _), (bounded, other) = weights
    assert once != 1 and bounded == other == pytest.approx(1 + 0.75 * (once - 1), rel=1e-5)
