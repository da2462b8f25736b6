"""What no run of a Task Meta-Transfer study can have is refused at the start, in one line."""

import sys

import pytest

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.meta_transfer import MetaTransferStudy


def test_methods_that_choose_from_fewer_settings_are_refused(toy):
    methods = {"primary_only": {}, "mtl": {"auxiliary_steps": [1, 2, 3, 10]}, "oracle": {},
               "tmt": {"auxiliary_steps": [1, 3], "rank": [2, 4]}}  # fmt: skip
    assert MetaTransferStudy(**{**toy, "methods": methods, "trials": 4}).trials == 4
    methods |= {"lin": {"auxiliary_steps": [1, 3]}, "du": {}}
    with pytest.raises(InputError, match="trials is 4, but 'lin' has 2, 'du' has 1; give each"):
        MetaTransferStudy(**{**toy, "methods": methods, "trials": 4})


WRONG = {
    "no method 'tnt'.*did you mean 'tmt'": {"methods": {"tnt": {}}},
    "no setting 'auxiliary_step'.*auxiliary_steps": {"methods": {"mtl": {"auxiliary_step": 3}}},
    "grid of 'rank' is empty": {"methods": {"tmt": {"rank": []}}},
    "must be a multiple": {"steps": 7},
    "a case names 'norma'.*normals": {"cases": [{"primary": "depth_z", "auxiliary": ["norma"]}]},
    "none of them the primary": {"cases": [{"primary": "depth_z", "auxiliary": ["depth_z"]}]},
    "repeat a seed": {"seeds": [0]},
    "share of the steps by which pretraining gets 1 to 1 of": {"methods": {"transfer": {"pretrain": 1.0}}},
    "pretrain is 'half'": {"methods": {"transfer": {"pretrain": "half"}}},
    "method 'mtl': auxiliary_steps is 0": {"methods": {"mtl": {"auxiliary_steps": [1, 0]}}},
    "method 'tmt':.*'rnak'.*did you mean rank": {"methods": {"tmt": {"rnak": 2}}},
    "method 'tmt': rank 0": {"methods": {"tmt": {"rank": [2, 0]}}},
    "method 'tmt':.*rank.*whole number": {"methods": {"tmt": {"rank": "two"}}},
    "method 'tmt' on network 'tiny': rank 99 for .* channels": {"methods": {"tmt": {"rank": [2, 99]}}},
    "rank 98: method 'tmt' on network 'tiny': rank 98 for .* channels": {"ranks": [98]},
    "split 2: network 'tiny':.*'split'": {"splits": [2]},
    "amount 1.5: .*1.5": {"amounts": [0.2, 1.5]},
    "parallel=2.5": {"parallel": 2.5},
    "network 'wide':.*'depht'": {
        "networks": {"wide": {"backbone": {"class_path": "SplitRes", "init_args": {"depht": 3}}}}
    },
    "network 'none':.*SplitNet": {"networks": {"none": {"backbone": {"class_path": "SplitNet"}}}},
    "scheduler": {"scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step": 3}}},
    "max_epoch": {"trainer": {"max_epoch": 3}},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said_in_one_line(toy, message):
    with pytest.raises(InputError, match=message):
        MetaTransferStudy(**{**toy, **WRONG[message]})


def test_a_callback_is_refused_before_any_run(toy, mine):
    for settings, message in (
        ({"callback": mine, "strength": [1.0, -1.0]}, "method 'mine': strength is -1.0"),
        ({"callback": mine, "strenght": 1.0}, "method 'mine':.*'strenght'.*did you mean strength"),
        ({"callback": "my_project.Yours"}, "method 'mine':.*Yours"),
    ):
        with pytest.raises(InputError, match=message):
            MetaTransferStudy(**{**toy, "methods": {"mine": settings}})


@pytest.mark.parametrize("method", ["transfer", "transfer_full"])
def test_a_copied_head_is_refused_where_pretraining_has_no_head_to_copy(toy, method):
    (network,) = toy["networks"].values()
    copy = {"class_path": "lightning_taskonomy.models.heads.ConflictingHead", "init_args": {"copy_of": "depth_z"}}
    network = {**network, "heads": {**network["heads"], "depth_euclidean": copy}}
    settings = {**toy, "tasks": ["depth_z", "normals", "depth_euclidean"], "networks": {"tiny": network}}
    settings |= {"cases": [{"primary": "depth_z", "auxiliary": [name]} for name in ("normals", "depth_euclidean")]}
    methods = {"primary_only": {}, "mtl": {}, "oracle": {}}
    MetaTransferStudy(**{**settings, "methods": methods})
    reason = f"method '{method}' on network 'tiny' of depth_euclidean: .*'depth_z', which is no other task.*; give a"
    methods |= {method: {}}
    with pytest.raises(InputError, match=f"^{reason}") as refused:
        MetaTransferStudy(**{**settings, "methods": methods})
    assert "\n" not in str(refused.value)
    factors = {"heads": {"copied": {"networks.tiny.heads.depth_euclidean": copy}}}
    plain = {**settings, "networks": toy["networks"], "methods": methods}
    with pytest.raises(InputError, match=f"^heads copied: {reason}"):
        MetaTransferStudy(**{**plain, "factors": factors})


def test_an_aggregator_that_cannot_be_is_refused_before_any_run(toy, monkeypatch):
    methods = {"mtl": {}, "pcgrad": {"auxiliary_steps": [1, 3]}}
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(InputError, match=r"method 'pcgrad': .*needs torchjd; run: pip install"):
        MetaTransferStudy(**{**toy, "methods": methods})
    monkeypatch.undo()
    pytest.importorskip("torchjd")
    pytest.importorskip("cvxpy")
    with pytest.raises(InputError, match=r"method 'cagrad': .*'cc'"):
        MetaTransferStudy(**{**toy, "methods": {"cagrad": {"options": [{"c": 0.4}, {"cc": 0.4}]}}})
