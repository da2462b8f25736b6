"""TaskMetaTransfer beside what else a user asks of the Trainer."""

import copy

import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging, WeightAveraging
from torch.nn import functional

from lightning_taskonomy.callbacks import CosineWeighting, KendallWeighting, TaskMetaTransfer

ALPHA = 0.3


def callback(**options):
    return TaskMetaTransfer("few", ["many"], **{"rank": 2, "optimizer": sgd, **options})


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.5)


def close(actual, expected, **tolerance):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, **tolerance)


def validated(module):
    """With a validation that runs the whole network."""

    def step(batch, batch_idx):
        features = module.backbone(batch["image"])
        module.log("val", sum(functional.mse_loss(head(features), batch["many"]) for head in module.heads.values()))

    module.validation_step = step
    return module


@pytest.mark.parametrize(
    ("pattern", "options", "meta", "auxiliary"),
    [
        ("maamaa", {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}, 2, 4),
        ("maamaa", {"fast_dev_run": True}, 1, 0),
        ("maamaa", {"fast_dev_run": 2}, 1, 1),
        ("maamaa", {"overfit_batches": 2, "max_epochs": 2}, 2, 2),
        ("maamaa", {"limit_train_batches": 4}, 2, 2),
        ("maamaa", {"limit_train_batches": 0.5, "max_epochs": 2}, 2, 4),
        ("maamaa", {"max_steps": 5, "max_epochs": -1}, 2, 3),
        ("mmaamm", {"accumulate_grad_batches": 2, "limit_train_batches": 5}, 2, 1),
        ("maamaa", {"detect_anomaly": True}, 2, 4),
        ("maamaa", {"precision": "bf16-true"}, 2, 4),
        ("maamaa", {"callbacks": lambda: [WeightAveraging()]}, 2, 4),
        ("mmaa", {"callbacks": lambda: [GradientAccumulationScheduler({0: 1, 1: 2})], "max_epochs": 2}, 3, 3),
    ],
)
def test_whatever_the_trainer_is_asked_for(pattern, options, meta, auxiliary, two_headed, batches_of, fit):
    module, transfer = two_headed(), callback()
    others = options.get("callbacks", list)()
    trainer = fit(
        module, [transfer, *others], batches_of(pattern), **{k: v for k, v in options.items() if k != "callbacks"}
    )
    assert transfer.taken == {"meta": meta, "auxiliary": auxiliary} and trainer.global_step == meta + auxiliary
    assert len(module.seen) == meta + auxiliary and all(p.isfinite().all() for p in module.parameters())
    assert (transfer.projections["many"][0].diagonal != 1).any()
    assert not module.backbone._forward_hooks


@pytest.mark.parametrize("make", [callback, lambda: CosineWeighting("few", ["many"])])
def test_the_last_epoch_of_averaged_weights_takes_no_step(make, two_headed, batches_of, fit):
    """In it the BatchNorm statistics of the averaged weights are taken, all batches at once."""
    module, plain, acting = two_headed(), two_headed(), make()
    trainers = [
        fit(one, [*callbacks, StochasticWeightAveraging(0.1, swa_epoch_start=1)], batches_of("maamaa"), max_epochs=3)
        for one, callbacks in ((module, [acting]), (plain, []))
    ]
    assert trainers[0].global_step == trainers[1].global_step
    assert getattr(acting, "taken", {"meta": 6, "auxiliary": 12}) == {"meta": 6, "auxiliary": 12}


@pytest.mark.parametrize("groups", [False, True])
def test_the_virtual_step_follows_the_backbones_schedule(groups, two_headed, batches_of, fit):
    """Half as long at every step; heads may have a rate of their own."""
    module, transfers = two_headed(), [callback(inner_lr=rate, projection="identity") for rate in (None, 0.4, 0.2)]

    def configure():
        param_groups = [
            {"params": module.backbone.parameters(), "lr": 0.4},
            {"params": module.heads.parameters(), "lr": 0.1},
        ]
        optimizer = torch.optim.SGD(param_groups) if groups else torch.optim.SGD(module.parameters(), 0.4)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    first, starts = batches_of("mm"), []
    module.on_train_batch_start = lambda *ignored: starts.append(copy.deepcopy(module.state_dict()))
    module.configure_optimizers = configure
    fit(module, [transfers[0]], first)
    for index, transfer in enumerate(transfers[1:]):
        apart = two_headed(lr=0.0)
        apart.load_state_dict(starts[index])
        fit(apart, [transfer], first[index : index + 1])
        close(apart.seen[0], module.seen[index])


def test_channels_last_changes_nothing(two_headed, batches_of, fit):
    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        module = two_headed().to(memory_format=layout)
        batches = [{k: v.to(memory_format=layout) for k, v in batch.items()} for batch in batches_of("mama")]
        transfer = callback(inner_lr=ALPHA)
        fit(module, [transfer], batches)
        ends.append({**module.state_dict(), **transfer.projections["many"][0].state_dict()})
    close(*ends, rtol=1e-4, atol=1e-6)


def test_batch_norm_in_eval_mode_is_a_fixed_layer(two_headed, batches_of, fit):
    """The network with its statistics and affine maps folded into a plain layer takes the same steps."""
    module = two_headed(lr=0.0)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(generator=torch.Generator().manual_seed(3))
            part.running_var.fill_(2.0)
    folded = copy.deepcopy(module)
    for parts in (folded.backbone, *folded.heads.values()):
        parts[1] = _Folded(parts[1])
    module.on_train_batch_start = lambda *ignored: module.eval()
    before = {name: value.clone() for name, value in module.named_buffers()}
    transfers = [callback(inner_lr=ALPHA, optimizer=lambda p: torch.optim.SGD(p, 1.0)) for _ in range(2)]
    fit(module, [transfers[0]], batches_of("mam"))
    fit(folded, [transfers[1]], batches_of("mam"))
    close(dict(module.named_buffers()), before)
    for ours, theirs in zip(module.seen, folded.seen, strict=True):
        close(ours, theirs, rtol=1e-4, atol=1e-6)
    one, other = (transfer.projections["many"][0].state_dict() for transfer in transfers)
    close(one, other, rtol=1e-4, atol=1e-6)


class _Folded(torch.nn.Module):
    """Batch normalisation by given statistics, without buffers."""

    def __init__(self, norm):
        super().__init__()
        self.mean, self.deviation = (
            norm.running_mean[:, None, None],
            (norm.running_var[:, None, None] + norm.eps).sqrt(),
        )
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x):
        return (x - self.mean) / self.deviation * self.weight[:, None, None] + self.bias[:, None, None]


def test_a_second_fit_of_the_same_callback_goes_on(two_headed, batches_of, fit):
    module, transfer, once, single = two_headed(), callback(), two_headed(), callback()
    fit(module, [transfer], batches_of("mama"))
    fit(module, [transfer], batches_of("mama"))
    fit(once, [single], batches_of("mama"), max_epochs=2)
    assert transfer.taken == single.taken == {"meta": 4, "auxiliary": 4}
    close(module.state_dict(), once.state_dict(), rtol=0, atol=0)
    close(transfer.projections["many"][0].state_dict(), single.projections["many"][0].state_dict(), rtol=0, atol=0)


def test_a_fit_after_one_that_broke_off_works(two_headed, batches_of, fit):
    module, transfer = two_headed(), callback()
    plain = module.training_step

    def step(batch, batch_idx):
        if batch_idx == 1:
            raise KeyError("broke off")
        return plain(batch, batch_idx)

    module.training_step = step
    with pytest.raises(KeyError, match="broke off"):
        fit(module, [transfer], batches_of("mma"), accumulate_grad_batches=2)
    module.training_step = plain
    fit(module, [transfer], batches_of("ma"))
    assert len(module.seen) == 2 and not module.backbone._forward_hooks


@pytest.mark.parametrize("interval", [1, 2])
def test_validation_in_between_changes_nothing(interval, two_headed, batches_of, fit):
    module, plain = validated(two_headed()), two_headed()
    loader = torch.utils.data.DataLoader(batches_of("mmaamm"), batch_size=None)
    module.val_dataloader = lambda: torch.utils.data.DataLoader(batches_of("mm"), batch_size=None)
    for one in (module, plain):
        fit(one, [callback()], loader, accumulate_grad_batches=2, val_check_interval=interval)
    close(module.state_dict(), plain.state_dict(), rtol=0, atol=0)


class _Stream(torch.utils.data.IterableDataset):
    """Batches without a known number."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.parametrize("make", [callback, lambda: CosineWeighting("few", ["many"]),
                                 lambda: KendallWeighting("few", ["many"])])  # fmt: skip
def test_a_loader_without_a_length_ends_its_last_step_early(make, two_headed, batches_of, fit):
    ends = []
    for loader in (batches_of("mmaam"), torch.utils.data.DataLoader(_Stream(batches_of("mmaam")), batch_size=None)):
        module = two_headed()
        fit(module, [make()], loader, accumulate_grad_batches=2)
        assert len(module.seen) == 3
        ends.append(module.state_dict())
    close(*ends, rtol=0, atol=0)
