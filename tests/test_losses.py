"""Losses against torch.nn.functional, closed forms and brute force."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from lightning_taskonomy import losses
from lightning_taskonomy.errors import InputError

NAN = float("nan")


def _holes(target, share=0.4):
    missing = torch.rand(target.shape) < share
    return target.masked_fill(missing, -100 if target.dtype == torch.long else NAN), ~missing


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (4, 6)])
def test_l1_equals_torch_where_all_is_labelled(shape):
    preds, target = torch.randn(shape), torch.randn(shape)
    assert torch.allclose(losses.mean(*losses.l1(preds, target)), F.l1_loss(preds, target))


def test_l1_and_gradients_is_the_papers_depth_loss_written_out():
    """Eq. A.5 and A.6, pixel by pixel; a difference to a hole, or beyond the border, is none."""
    torch.manual_seed(0)
    (target, valid), preds = _holes(torch.randn(2, 1, 4, 5), 0.2), torch.randn(2, 1, 4, 5)
    total = 0.0
    for b, y, x in valid[:, 0].nonzero().tolist():
        total += abs(preds[b, 0, y, x] - target[b, 0, y, x])
        for v, u in ((y, x + 1), (y + 1, x)):
            if v < 4 and u < 5 and valid[b, 0, v, u]:
                wanted = target[b, 0, v, u] - target[b, 0, y, x]
                total += abs(preds[b, 0, v, u] - preds[b, 0, y, x] - wanted)
    loss = losses.mean(*losses.l1_and_gradients(preds, target))
    torch.testing.assert_close(loss, total / valid.sum())
    constant = losses.gradient_matching(target.nan_to_num() + 3, target, 3)[0]
    assert constant.abs().max() < 1e-5, "a depth that is off by a constant has the right gradients"


def test_gradients_at_several_scales_are_a_sum_of_means_over_each_scale():
    preds, target = torch.randn(2, 1, 8, 16), torch.randn(2, 1, 8, 16)
    total = 0.0
    for step in (1, 2, 4):
        part = (preds - target)[..., ::step, ::step]
        total += (part.diff(dim=-1).abs().sum() + part.diff(dim=-2).abs().sum()) / part.numel()
    torch.testing.assert_close(losses.mean(*losses.gradient_matching(preds, target, 3)), total)
    one = torch.zeros(1, 1, 1, 1)
    assert losses.gradient_matching(one, one, 4)[0].tolist() == [[[[0.0]]]]
    with pytest.raises(InputError, match="gradient_matching at 0 scales; give at least 1"):
        losses.gradient_matching(one, one, 0)


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (4, 6)])
def test_l1_over_holes_is_torch_over_the_rest(shape):
    target, valid = _holes(torch.randn(shape))
    preds = torch.randn(shape, requires_grad=True)
    error, mask = losses.l1(preds, target)
    assert torch.equal(mask, valid)
    loss = losses.mean(error, mask)
    assert torch.allclose(loss, F.l1_loss(preds[valid], target[valid]))
    loss.backward()
    assert preds.grad.isfinite().all() and (preds.grad[~valid] == 0).all() and (preds.grad[valid] != 0).all()


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_l1_takes_every_value_that_is_no_number_for_missing(value):
    error, valid = losses.l1(torch.zeros(1, 2), torch.tensor([[value, 1.0]]))
    assert error.tolist() == [[0.0, 1.0]] and valid.tolist() == [[False, True]]


@pytest.mark.parametrize("shape", [(2, 5, 4, 6), (3, 5)])
def test_cross_entropy_over_holes_is_torch_over_the_rest(shape):
    target, valid = _holes(torch.randint(5, shape[:1] + shape[2:]))
    preds = torch.randn(shape, requires_grad=True)
    error, mask = losses.cross_entropy(preds, target)
    assert torch.equal(mask, valid) and (error[~mask] == 0).all()
    loss = losses.mean(error, mask)
    assert torch.allclose(loss, F.cross_entropy(preds.movedim(1, -1)[valid], target[valid]))
    loss.backward()
    assert (preds.grad.movedim(1, -1)[~valid] == 0).all()


@pytest.mark.parametrize("wrong", [5, 254, 300, -1])
def test_a_class_out_of_range_is_named(wrong):
    target = torch.tensor([[[0, -100, wrong]]])
    with pytest.raises(InputError, match=f"class {wrong} .* 5 classes"):
        losses.cross_entropy(torch.zeros(1, 5, 1, 3), target)
    losses.check_classes(torch.tensor([0, 4, -100]), 5)


def test_other_shapes_are_refused_instead_of_broadcast():
    with pytest.raises(InputError, match="must have the same size"):
        losses.l1(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4))
    with pytest.raises(InputError, match="must have the same size"):
        losses.angular(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 5, 4))
    with pytest.raises(InputError, match="must have the same size"):
        losses.cross_entropy(torch.zeros(2, 5, 4, 4), torch.zeros(2, 8, 8, dtype=torch.long))
    with pytest.raises(InputError, match="must have the same size"):
        losses.grouping(torch.zeros(2, 5, 4, 4), torch.zeros(2, 8, 8, dtype=torch.long))


def test_angle_is_the_arc_cosine():
    preds, target = torch.randn(2, 2, 3, 8, 9, dtype=torch.float64)
    unit_preds, unit_target = preds / preds.norm(dim=1, keepdim=True), target / target.norm(dim=1, keepdim=True)
    expected = torch.rad2deg(torch.acos((unit_preds * unit_target).sum(1)))
    error, valid = losses.angle(preds, target)
    assert valid.all()
    assert torch.allclose(error, expected, rtol=0, atol=1e-9)
    assert torch.allclose(losses.angle(preds.float(), target.float())[0].double(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 90.0, 179.999, 180.0])
def test_angle_is_exact_where_the_arc_cosine_loses_its_digits(degrees):
    radians = math.radians(degrees)
    preds, target = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[math.cos(radians), math.sin(radians), 0.0]])
    assert losses.angle(5 * preds, target)[0].item() == pytest.approx(degrees, abs=2e-5)


def test_angular_is_one_minus_the_cosine_whatever_the_length():
    preds, target = torch.randn(2, 2, 3, 4, 5)
    target = F.normalize(target, dim=1)
    expected = 1 - F.cosine_similarity(preds, target, dim=1)
    for scale in (0.1, 1.0, 100.0):
        assert torch.allclose(losses.angular(scale * preds, target)[0], expected, atol=1e-6)


@pytest.mark.parametrize("length", [0.0, 1e-20, 1e-4, 1.0])
def test_directions_have_finite_gradients_at_any_length(length):
    preds = (length * F.normalize(torch.randn(2, 3, 4, 4), dim=1)).requires_grad_()
    target = F.normalize(torch.randn(2, 3, 4, 4), dim=1)
    target[0, 1, 0, 0], target[1, :, 1, 1] = NAN, 0.0
    error, valid = losses.angular(preds, target)
    assert not valid[0, 0, 0] and not valid[1, 1, 1] and valid.sum() == 30
    losses.mean(error, valid).backward()
    assert preds.grad.isfinite().all() and preds.grad.abs().max() < 1e3 / 30 + 1
    assert (preds.grad[0, :, 0, 0] == 0).all() and (preds.grad[1, :, 1, 1] == 0).all()
    degrees, _ = losses.angle(preds.detach(), target)
    assert degrees.isfinite().all() and (length > 0 or (degrees[valid] == 90).all())


KINDS = [
    (losses.l1, (2, 3, 4, 4), (2, 3, 4, 4), NAN),
    (losses.l1, (2, 6), (2, 6), NAN),
    (losses.angular, (2, 3, 4, 4), (2, 3, 4, 4), NAN),
    (losses.angle, (2, 3, 4, 4), (2, 3, 4, 4), NAN),
    (losses.cross_entropy, (2, 5, 4, 4), (2, 4, 4), -100),
    (losses.cross_entropy, (2, 5), (2,), -100),
    (losses.grouping, (2, 5, 4, 4), (2, 4, 4), -100),
]


@pytest.mark.parametrize(("errors", "preds_shape", "target_shape", "missing"), KINDS)
def test_a_batch_without_any_label_counts_nothing_and_moves_nothing(errors, preds_shape, target_shape, missing):
    preds = torch.randn(preds_shape, requires_grad=True)
    error, valid = errors(preds, torch.full(target_shape, missing))
    total, count = losses.total_and_count(error, valid)
    assert total == 0 and count == 0 and losses.mean(error, valid) == 0
    assert losses.per_image(error, valid).isnan().all()
    losses.mean(error, valid).backward()
    assert (preds.grad == 0).all()


@pytest.mark.parametrize(("errors", "preds_shape", "target_shape", "missing"), KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(errors, preds_shape, target_shape, missing, dtype):
    preds = torch.randn(preds_shape).to(dtype)
    target = torch.randn(target_shape) if missing != -100 else torch.randint(5, target_shape)
    error, valid = errors(preds, target)
    assert error.dtype == torch.float32 and valid.dtype == torch.bool and error.shape == valid.shape
    assert torch.equal(error, errors(preds.float(), target)[0])


def test_scores_are_the_means_of_single_images():
    target, _ = _holes(torch.randn(5, 2, 3, 4), 0.7)
    target[2] = NAN
    preds = torch.randn(5, 2, 3, 4)
    scores = losses.per_image(*losses.l1(preds, target))
    for i in range(5):
        valid = target[i].isfinite()
        expected = (preds[i][valid] - target[i][valid]).abs().mean()  # NaN over nothing
        assert torch.allclose(scores[i], expected, equal_nan=True)
    target = torch.tensor([1, -100, 0])
    scores = losses.per_image(*losses.cross_entropy(torch.randn(3, 2), target))
    assert scores.isnan().tolist() == [False, True, False]


def _quadrants(size=16):
    """Segment ids (1, S, S) of four squares, 3 in one corner replaced by missing."""
    ids = torch.arange(size) * 2 // size
    return (2 * ids[:, None] + ids[None]).unsqueeze(0)


def test_grouping_is_the_published_formula_over_its_pairs():
    torch.manual_seed(0)
    preds, target = torch.randn(2, 4, 16, 16, dtype=torch.float64), _quadrants().repeat(2, 1, 1)
    target[1, :5] = -100
    error, valid = losses.grouping(preds, target)
    first, second = losses._pixel_pairs(16, 16, target.device)
    for b in range(2):
        means = {True: [], False: []}
        for p, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            (yi, xi), (yj, xj) = divmod(i, 16), divmod(j, 16)
            one, other = target[b, yi, xi].item(), target[b, yj, xj].item()
            assert valid[b, p].item() == (-100 not in (one, other))
            if -100 in (one, other):
                continue
            d = ((preds[b, :, yi, xi] - preds[b, :, yj, xj]) ** 2).sum().item()
            same = one == other
            sigma = 2 / (1 + math.exp(d if same else d + 1e-2))
            means[same].append(-math.log(sigma) if same else -math.log(1 - sigma))
        expected = (sum(means[True]) / len(means[True]) + sum(means[False]) / len(means[False])) / 2
        assert losses.per_image(error, valid)[b].item() == pytest.approx(expected, rel=1e-6)


def test_grouping_is_least_for_separated_segments():
    target = _quadrants()
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    score = {
        reach: losses.mean(*losses.grouping(reach * corners[target].permute(0, 3, 1, 2), target)).item()
        for reach in (0.0, 0.5, 1.0, 2.0, 4.0)
    }
    assert all(far < near for near, far in pairwise(score.values()))
    assert score[4.0] < 1e-5
    shuffled = target[:, torch.randperm(16)]
    assert losses.mean(*losses.grouping(4 * corners[shuffled].permute(0, 3, 1, 2), target)) > 1


@pytest.mark.parametrize("spread", [0.0, 1e-8, 1.0, 1e2])
def test_grouping_stays_finite_for_equal_and_far_embeddings(spread):
    preds = (spread * torch.randn(1, 8, 16, 16)).requires_grad_()
    loss = losses.mean(*losses.grouping(preds, _quadrants()))
    loss.backward()
    assert loss.isfinite() and preds.grad.isfinite().all()


def test_grouping_learns_segments():
    target, preds = _quadrants(), (0.01 * torch.randn(1, 3, 16, 16)).requires_grad_()
    optimizer = torch.optim.Adam([preds], lr=0.1)
    for _ in range(120):
        optimizer.zero_grad()
        loss = losses.mean(*losses.grouping(preds, target))
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_pairs_are_the_same_at_every_step_and_serve_training_after_inference():
    with torch.inference_mode():
        before, _ = losses.grouping(torch.ones(1, 2, 11, 13), torch.zeros(1, 11, 13, dtype=torch.long))
    torch.manual_seed(7)
    preds = torch.ones(1, 2, 11, 13, requires_grad=True)
    after, valid = losses.grouping(preds, torch.zeros(1, 11, 13, dtype=torch.long))
    assert torch.equal(before, after) and valid.all()
    losses.mean(after, valid).backward()
    first, second = losses._pixel_pairs(11, 13, torch.device("cpu"))
    assert (first != second).all() and max(first.max(), second.max()) < 11 * 13
    assert torch.equal(torch.get_rng_state(), torch.random.manual_seed(7).get_state())
