"""One backbone, many heads: which passes are made, which labels count, what may be replaced."""

import pytest
import torch
from torch import nn
from torchmetrics import MeanAbsoluteError

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads import DenseHead, Head
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.modules.multitask import _batch_size
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, TaskKind, catalog, find

DEPTH = Task("depth", TaskKind.DENSE, "depth", shift=3.0, scale=2.0)
CLASSES = Task("classes", TaskKind.SEGMENTATION, "classes", 4)
LAYOUT = Task("layout", TaskKind.VECTOR, "layout", 5)
SCENE = Task("scene", TaskKind.CLASSIFICATION, "scene", 4)
ALL = [DEPTH, CLASSES, LAYOUT, SCENE]
DICTIONARY = [task for name, task in catalog().items() if "." not in name]


def module(tasks, backbone, **options):
    torch.manual_seed(0)
    return MultiTaskModule(tasks, backbone, **options)


def gradients(part):
    return [parameter.grad for parameter in part.parameters()]


@pytest.mark.parametrize("task", DICTIONARY, ids=lambda task: task.name)
def test_every_task_trains_scores_and_predicts(task, counting, batch_of):
    model = module([task], counting())
    batch = batch_of([task], size=24)
    (loss,) = model.losses(batch)[0].values()
    loss.backward()
    assert loss.isfinite() and any(g is not None and g.abs().sum() > 0 for g in gradients(model.backbone))
    scores = model.eval().test_step(batch, 0)
    assert scores[task.name].shape == (4,) and scores[task.name].isfinite().all()
    preds = model.predict_step({task.input: batch[task.input]}, 0)[task.name]
    shape = batch[task.target].shape if task.kind is TaskKind.SEGMENTATION else (4, task.channels)
    assert preds.shape[: len(shape)] == shape


def test_a_batch_that_another_one_carries_plays_no_part_in_a_step(counting, batch_of):
    model, batch = module(ALL, counting()), batch_of(ALL)
    plain = model.training_losses(batch)[0]
    model.zero_grad()
    carrying = {"held_out": batch_of(ALL), **batch}
    assert model.training_losses(carrying)[0] == plain and _batch_size(carrying) == 4
    assert model.backbone.seen == [4, 4]


# missing labels


def test_a_task_without_a_label_leaves_its_head_without_gradient(counting, batch_of):
    model, batch = module(ALL, counting()), batch_of(ALL)
    batch["depth"][:] = torch.nan
    batch["scene"][:] = IGNORE_INDEX
    losses, predictions = model.losses(batch)
    assert list(losses) == ["classes", "layout"] == list(predictions)
    model.combine(losses).backward()
    assert all(g is None for name in ("depth", "scene") for g in gradients(model.heads[name]))
    assert all(g is not None for name in ("classes", "layout") for g in gradients(model.heads[name]))


def test_weight_decay_leaves_a_head_without_labels_alone(counting, batch_of):
    model, batch = module(ALL, counting()), batch_of(ALL)
    batch["depth"][:] = torch.nan
    before = {name: value.clone() for name, value in model.heads["depth"].state_dict().items()}
    optimizer = model.configure_optimizers()
    model.combine(model.losses(batch)[0]).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.heads["depth"].state_dict().items())


def test_a_label_that_the_batch_does_not_hold_is_no_error(counting, batch_of):
    model, batch = module(ALL, counting()), batch_of(ALL)
    del batch["depth"]
    assert list(model.losses(batch)[0]) == ["classes", "layout", "scene"]
    scores = model.scores(model(batch), batch) if "depth" in batch else model.eval().test_step(batch, 0)
    assert scores["depth"].isnan().all() and scores["layout"].isfinite().all()


def test_a_label_that_another_process_alone_holds_counts_as_missing(counting, batch_of, monkeypatch):
    model, batch = module(ALL, counting()).eval(), batch_of(ALL)
    del batch["depth"]
    monkeypatch.setattr(model, "labelled", lambda batch: ["depth", "layout"])  # as all processes together have it
    with torch.no_grad():
        losses, predictions = model.losses(batch)
        again = model.head_loss("depth", model.encode(batch, model.tasks["depth"].input), batch)
        scores = model.test_step(batch, 0)
    assert list(predictions) == ["depth", "layout"] and losses["depth"] == again == 0 < losses["layout"]
    assert scores["depth"].isnan().all() and scores["layout"].isfinite().all()


def test_a_batch_without_any_label_trains_nothing(counting, batch_of):
    model, batch = module([DEPTH], counting()), batch_of([DEPTH])
    batch["depth"][:] = torch.nan
    assert model.training_step(batch, 0) is None


def test_a_batch_of_other_keys_is_one_line(counting):
    with pytest.raises(InputError, match=r"holds \['picture'\] but none of .*'depth', 'image'"):
        module([DEPTH], counting()).losses({"picture": torch.zeros(1, 3, 8, 8)})


def test_the_loss_is_the_mean_over_what_is_labelled(counting, batch_of):
    model, batch = module([DEPTH], counting()).eval(), batch_of([DEPTH])
    batch["depth"][0] = torch.nan
    batch["depth"][1, :, :5] = torch.nan
    loss = model.losses(batch)[0]["depth"]
    error = (model(batch)["depth"] - batch["depth"]).abs() / DEPTH.scale
    torch.testing.assert_close(loss, error[error.isfinite()].mean())


def test_missing_labels_put_no_nan_into_any_gradient(counting, batch_of):
    model, batch = module(ALL, counting()), batch_of(ALL)
    batch["depth"][0] = torch.nan
    batch["layout"][:, 2] = torch.nan
    model.combine(model.losses(batch)[0]).backward()
    assert all(g.isfinite().all() for g in gradients(model) if g is not None)


def test_scores_are_nan_where_unlabelled_and_means_elsewhere(counting, batch_of):
    model, batch = module([DEPTH, SCENE], counting()).eval(), batch_of([DEPTH, SCENE])
    batch["depth"][2] = torch.nan
    batch["scene"][1] = IGNORE_INDEX
    scores, preds = model.test_step(batch, 0), model(batch)
    assert scores["id"].tolist() == [0, 1, 2, 3]
    assert scores["depth"].isnan().tolist() == [False, False, True, False]
    assert scores["scene"].isnan().tolist() == [False, True, False, False]
    torch.testing.assert_close(scores["depth"][0], (preds["depth"][0] - batch["depth"][0]).abs().mean())
    torch.testing.assert_close(scores["scene"][0], -preds["scene"][0].log_softmax(0)[batch["scene"][0]])


# passes


def test_the_backbone_runs_once_for_all_tasks_of_one_input(counting, batch_of):
    model = module(ALL, counting())
    model.losses(batch_of(ALL))
    assert model.backbone.seen == [4]


def test_the_backbone_runs_once_per_distinct_input(counting, batch_of):
    tasks = [find(name) for name in ("normals", "denoising", "jigsaw", "inpainting", "depth_z", "pose_fixated")]
    model = module(tasks, counting())
    model.losses(batch_of(tasks, size=24))
    assert sorted(model.backbone.seen) == [4, 4, 4, 2 * 4, 9 * 4]


def test_an_input_without_labels_is_not_encoded(counting, batch_of):
    tasks = [find("normals"), find("denoising")]
    model, batch = module(tasks, counting()), batch_of(tasks)
    batch["normals"][:] = torch.nan
    batch["image"][:] = torch.nan  # the target of denoising as well
    batch["image"][0] = 0.5
    model.losses(batch)
    assert model.backbone.seen == [4]


def test_views_pass_through_one_backbone_and_reach_the_head_side_by_side(counting, batch_of):
    task = find("egomotion")
    model, batch = module([task], counting()).eval(), batch_of([find("egomotion")])
    (features,) = model.encode(batch, "triplet")
    assert features.shape == (4, 3 * 4, 8, 8)
    for view in range(3):
        (alone,) = model.backbone(batch["triplet"][:, view])
        torch.testing.assert_close(features[:, 4 * view : 4 * view + 4], alone)


def test_batch_keys_are_inputs_and_targets(counting):
    model = module(["normals", "jigsaw", "denoising"], counting())
    assert model.batch_keys == ["image", "image_noisy", "image_tiles", "normals", "permutation"]


def test_predictions_are_in_the_tasks_units(counting, batch_of):
    model, batch = module([DEPTH], counting()).eval(), batch_of([DEPTH])
    raw = model.heads["depth"](model.encode(batch, "image"), (16, 16))
    torch.testing.assert_close(model(batch)["depth"], 3.0 + 2.0 * raw)


def test_a_stride_gives_smaller_predictions(counting, batch_of):
    task = DEPTH.but(stride=4)
    assert module([task], counting())(batch_of([task]))["depth"].shape == (4, 1, 4, 4)


# what may be replaced


class Plain(Head):
    """One convolution."""

    fits = frozenset({TaskKind.DENSE})

    def __init__(self, in_channels, reductions, task):
        super().__init__(in_channels, reductions, task)
        self.layer = nn.Conv2d(in_channels[0], task.channels, 1)

    def forward(self, features, size):
        return nn.functional.interpolate(self.layer(features[0]), size=size)


def test_heads_are_replaced_by_name_before_kind(counting):
    other = DEPTH.but(name="other")
    heads = {"dense": lambda c, r, t: DenseHead(c, r, t, layers=2), "other": Plain}
    model = module([DEPTH, other, CLASSES], counting(), heads=heads)
    assert isinstance(model.heads["other"], Plain) and not isinstance(model.heads["depth"], Plain)
    default = module([DEPTH, CLASSES], counting())
    assert len([*model.heads["depth"].modules()]) < len([*default.heads["depth"].modules()])
    assert len([*model.heads["classes"].modules()]) == len([*default.heads["classes"].modules()])


def test_a_head_for_nothing_is_refused_with_a_hint(counting):
    with pytest.raises(InputError, match="'dens', which is neither a task here nor a kind; did you mean 'dense'"):
        module([DEPTH], counting(), heads={"dens": Plain})


def test_a_head_that_does_not_fit_is_refused(counting):
    with pytest.raises(InputError, match="Plain does not fit task 'classes' of kind segmentation; it serves dense"):
        module([CLASSES], counting(), heads={"classes": Plain})


def test_an_unknown_task_is_refused(counting):
    with pytest.raises(InputError, match="no task 'normls'; did you mean 'normals'"):
        module(["normls"], counting())


@pytest.mark.parametrize("name", ["values", "train", "keys"])
def test_a_task_cannot_be_named_as_a_method_of_what_holds_the_heads(counting, name):
    with pytest.raises(InputError, match=f"no task may be named '{name}'"):
        module([LAYOUT.but(name=name)], counting())


class Halved(MultiTaskModule):
    """Overrides one step."""

    def task_loss(self, task, predictions, batch):
        return 0.5 * super().task_loss(task, predictions, batch)


class Largest(MultiTaskModule):
    """Overrides another."""

    def combine(self, task_losses):
        return torch.stack([*task_losses.values()]).max()


def test_a_subclass_overrides_one_step(counting, batch_of):
    batch = batch_of(ALL)
    values = []
    for kind in (MultiTaskModule, Halved, Largest):
        torch.manual_seed(0)
        model = kind(ALL, counting())
        values.append((model.losses(batch)[0], model.combine(model.losses(batch)[0])))
    (plain, total), (halved, _), (_, largest) = values
    assert all(torch.isclose(halved[name], plain[name] / 2) for name in plain)
    torch.testing.assert_close(total, sum(plain.values()))
    torch.testing.assert_close(largest, max(plain.values()))


def test_weights_of_tasks_weigh_their_losses(counting, batch_of):
    model = module([DEPTH.but(weight=3.0), LAYOUT], counting())
    losses, _ = model.losses(batch_of(ALL))
    torch.testing.assert_close(model.combine(losses), 3 * losses["depth"] + losses["layout"])


def test_optimizer_and_schedule_are_callables(counting):
    model = module(
        [DEPTH],
        counting(),
        optimizer=lambda params: torch.optim.SGD(params, lr=0.5),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2),
        scheduler_interval="step",
    )
    model.backbone.requires_grad_(False)
    made = model.configure_optimizers()
    assert made["optimizer"].defaults["lr"] == 0.5
    assert made["lr_scheduler"]["interval"] == "step"
    optimized = {id(p) for group in made["optimizer"].param_groups for p in group["params"]}
    assert optimized == {id(p) for p in model.heads.parameters()}


def test_a_plateau_schedule_monitors_what_it_names(counting):
    from lightning.pytorch.cli import ReduceLROnPlateau

    model = module([DEPTH], counting(), scheduler=lambda optimizer: ReduceLROnPlateau(optimizer, monitor="val/loss"))
    assert model.configure_optimizers()["lr_scheduler"]["monitor"] == "val/loss"
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau
    with pytest.raises(InputError, match=r"does not say which metric .* lightning\.pytorch\.cli\.ReduceLROnPlateau"):
        module([DEPTH], counting(), scheduler=torchs).configure_optimizers()


# wrong data


def test_image_and_label_of_different_size_are_one_line(counting, batch_of):
    batch = batch_of([DEPTH])
    batch["depth"] = batch["depth"][..., :12]
    with pytest.raises(InputError, match=r"predictions are \(16, 16\) pixels and its target 'depth' is \(16, 12\)"):
        module([DEPTH], counting()).losses(batch)


@pytest.mark.parametrize("wrong", [4, -1])
@pytest.mark.parametrize("task", [CLASSES, SCENE], ids=lambda task: task.name)
def test_a_class_out_of_range_is_one_line(counting, batch_of, task, wrong):
    batch = batch_of([task])
    batch[task.target].view(-1)[0] = wrong
    with pytest.raises(InputError, match=task.name):
        module([task], counting()).losses(batch)


def test_sizes_are_checked_when_a_task_is_first_seen(counting, batch_of):
    model, batch = module([DEPTH, LAYOUT], counting()), batch_of([DEPTH, LAYOUT])
    depth = batch["depth"]
    model.losses({**batch, "depth": torch.full_like(depth, torch.nan)})
    with pytest.raises(InputError, match="give images and labels one size"):
        model.losses({**batch, "depth": depth[..., :12]})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_task(counting, batch_of, value):
    model, batch = module([DEPTH, LAYOUT], counting()), batch_of([DEPTH, LAYOUT])
    with torch.no_grad():
        next(model.heads["layout"].parameters()).fill_(value)
    model.require_finite(model.losses(batch)[0])  # what it finds is read a step late
    with pytest.raises(InputError, match="the loss of layout is NaN or infinite at step 0"):
        model.require_finite(model.losses(batch)[0])


def test_metrics_are_replaced_by_dotted_path(counting, batch_of):
    task = LAYOUT.but(metric="torchmetrics.MeanSquaredError")
    model = module([task], counting())
    assert [type(metric).__name__ for metric in model.val_metrics.metrics["layout"].values()] == ["MeanSquaredError"]
    assert not isinstance(model.val_metrics.metrics["layout"], MeanAbsoluteError)
