"""Metrics against NumPy over all batches at once, alone and summed over two processes."""

from functools import partial

import numpy as np
import pytest
import torch

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.metrics import (
    AngularError,
    DeltaAccuracy,
    MaskedMeanAbsoluteError,
    MaskedRootMeanSquaredError,
    PairAccuracy,
)

NAN = float("nan")


def _batches(shape, n=3, positive=False):
    generator = np.random.default_rng(0)
    batches = []
    for _ in range(n):
        preds, target = generator.standard_normal((2, *shape), dtype=np.float32)
        if positive:
            preds, target = np.exp(preds), np.exp(target)
        target[generator.random(shape) < 0.3] = NAN
        batches.append((torch.from_numpy(preds), torch.from_numpy(target)))
    return batches


def _vectors(n=3):
    batches = _batches((2, 3, 6, 5), n)
    return [(preds, target / target.norm(dim=1, keepdim=True)) for preds, target in batches]


def _angles(batches):
    preds = torch.cat([p for p, _ in batches]).double().movedim(1, -1).reshape(-1, 3).numpy()
    target = torch.cat([t for _, t in batches]).double().movedim(1, -1).reshape(-1, 3).numpy()
    valid = np.isfinite(target).all(1)
    preds, target = preds[valid], target[valid]
    cosine = (preds * target).sum(1) / np.linalg.norm(preds, axis=1) / np.linalg.norm(target, axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _masked(batches):
    preds, target = (torch.cat(values).double().numpy() for values in zip(*batches, strict=True))
    valid = np.isfinite(target)
    return preds[valid], target[valid]


def _rmse(batches):
    errors = np.concatenate([(p - t).numpy().astype(np.float64).ravel() for p, t in batches])
    return np.sqrt(np.nanmean(errors**2))


def _mae(batches):
    preds, target = _masked(batches)
    return np.abs(preds - target).mean()


def _rmse(batches):
    preds, target = _masked(batches)
    return np.sqrt(np.square(preds - target).mean())


def _delta(power):
    def reference(batches):
        preds, target = _masked(batches)
        return (np.maximum(preds / target, target / preds) < 1.25**power).mean()

    return reference


CASES = [
    (MaskedMeanAbsoluteError, _batches((2, 2, 4, 5)), _mae, 1e-5),
    (MaskedMeanAbsoluteError, _batches((3, 6)), _mae, 1e-5),
    (MaskedRootMeanSquaredError, _batches((2, 2, 4, 5)), _rmse, 1e-5),
    (DeltaAccuracy, _batches((2, 1, 8, 8), positive=True), _delta(1), 1e-6),
    (lambda **kwargs: DeltaAccuracy(3, **kwargs), _batches((2, 1, 8, 8), positive=True), _delta(3), 1e-6),
    (AngularError, _vectors(), lambda b: _angles(b).mean(), 1e-3),
    (lambda **kwargs: AngularError("within", 60.0, **kwargs), _vectors(), lambda b: (_angles(b) <= 60).mean(), 1e-6),
]


@pytest.mark.parametrize(("build", "batches", "reference", "tolerance"), CASES)
def test_metric_equals_numpy_over_everything(build, batches, reference, tolerance):
    metric = build()
    for preds, target in batches:
        metric.update(preds, target)
    assert metric.compute().item() == pytest.approx(reference(batches), abs=tolerance)
    metric.reset()
    metric.update(*batches[0])
    assert metric.compute().item() == pytest.approx(reference(batches[:1]), abs=tolerance * 4)


@pytest.mark.parametrize("n", [1, 2, 3, 150])
def test_the_median_is_a_bin_off_the_middle_at_most(n):
    batches = _vectors(n)
    metric = AngularError("median")
    for preds, target in batches:
        metric.update(preds, target)
    angles, width = np.sort(_angles(batches)), 180 / 3600
    low, high = angles[(len(angles) - 1) // 2], angles[len(angles) // 2]  # with an even count any between is a median
    assert low - width <= metric.compute().item() <= high + width
    assert _over_two_processes(partial(AngularError, "median"), batches) == metric.compute()


@pytest.mark.parametrize(("build", "batches", "reference", "tolerance"), CASES)
def test_two_processes_with_unequal_shares_give_the_metric_of_all(build, batches, reference, tolerance):
    assert _over_two_processes(build, batches).item() == pytest.approx(reference(batches), abs=tolerance)


def _over_two_processes(build, batches):
    other = build()
    for preds, target in batches[1:]:
        other.update(preds, target)
    states = iter([getattr(other, name) for name in other._defaults])
    here = build(distributed_available_fn=lambda: True, dist_sync_fn=lambda state, group=None: [state, next(states)])
    here.update(*batches[0])
    return here.compute()


@pytest.mark.parametrize(
    "build", [MaskedMeanAbsoluteError, DeltaAccuracy, AngularError, lambda: AngularError("median")]
)
def test_nothing_labelled_is_no_number(build):
    metric = build()
    metric.update(torch.rand(1, 3, 2, 2), torch.full((1, 3, 2, 2), NAN))
    assert metric.compute().isnan()


def test_depths_that_are_not_positive_are_misses_and_no_labels():
    metric = DeltaAccuracy()
    metric.update(torch.tensor([-1.0, 0.0, 2.0, 2.0, 1.0]), torch.tensor([1.0, 1.0, 2.0, 0.0, -1.0]))
    assert metric.compute().item() == pytest.approx(1 / 3)


def test_a_zero_vector_is_ninety_degrees_off():
    metric = AngularError()
    metric.update(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -1.0]]))
    assert metric.compute() == 90


def test_pair_accuracy_equals_brute_force():
    target = torch.randint(3, (2, 6, 7))
    target[0, :2] = -100
    preds = 0.6 * torch.randn(2, 4, 6, 7) + torch.nn.functional.one_hot(target.clamp(0, 3), 4).permute(0, 3, 1, 2)
    right, seen = [0, 0], [0, 0]
    for b in range(2):
        for offset in (1, 4):
            for dy, dx in ((offset, 0), (0, offset)):
                for y in range(6 - dy):
                    for x in range(7 - dx):
                        one, other = target[b, y, x].item(), target[b, y + dy, x + dx].item()
                        if -100 in (one, other):
                            continue
                        squared = ((preds[b, :, y, x] - preds[b, :, y + dy, x + dx]) ** 2).sum().item()
                        told_same = 2 / (1 + np.exp(squared)) > 0.5
                        seen[one == other] += 1
                        right[one == other] += told_same == (one == other)
    metric = PairAccuracy()  # 16 pixels apart do not exist here
    metric.update(preds[:1], target[:1])
    metric.update(preds[1:], target[1:])
    assert metric.compute().item() == pytest.approx((right[0] / seen[0] + right[1] / seen[1]) / 2)


def test_pair_accuracy_is_one_half_for_an_embedding_that_says_nothing():
    metric, target = PairAccuracy(), torch.arange(8).repeat(1, 8, 1) // 4
    metric.update(torch.zeros(1, 4, 8, 8), target)
    assert metric.compute() == 0.5
    metric.reset()
    metric.update(10.0 * target.unsqueeze(1), target)
    assert metric.compute() == 1


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match="same size"):
        MaskedMeanAbsoluteError().update(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4))
    with pytest.raises(InputError, match="same size"):
        PairAccuracy().update(torch.zeros(2, 1, 4, 4), torch.zeros(2, 8, 8))
    with pytest.raises(InputError, match="mean, median, within"):
        AngularError("average")
