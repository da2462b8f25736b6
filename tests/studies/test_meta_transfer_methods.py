"""What the runs of each method of a Task Meta-Transfer study are made of."""

import pytest

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.meta_transfer import MetaTransferStudy
from lightning_taskonomy.training import instantiate_data


def test_a_method_of_the_users_own_is_described_by_its_callback(pretended, mine):
    methods = {"mine": {"callback": mine, "auxiliary_steps": 3, "strength": 2.0}}
    study, out, _, _ = pretended(methods=methods)
    fit = study.selection(out).candidates(study.selection(out).cells()[0])[0].fit
    mine, best, _ = fit.run.config["trainer"]["callbacks"]
    assert mine == {
        "class_path": "my_project.Mine",
        "init_args": {"primary": "depth_z", "auxiliary": ["normals"], "strength": 2.0},
    }
    assert best["init_args"] == {"monitor": "val/depth_z/mae", "mode": "min"}
    assert fit.run.config["data"]["init_args"]["auxiliary_steps"] == 3


def test_transfer_learning_shares_the_budget_between_its_two_runs(pretended):
    study, out, _, _ = pretended(methods={"transfer": {"pretrain": 0.75}}, steps=80, evaluations=4)
    fit = study.selection(out).candidates(study.selection(out).cells()[0])[0].fit
    first, second = fit.before.config, fit.run.config
    assert [config["data"]["init_args"]["steps"] for config in (first, second)] == [15, 5]
    assert [config["data"]["init_args"]["streams"] for config in (first, second)] == ["auxiliary", "parallel"]
    assert [config["model"]["init_args"]["tasks"] for config in (first, second)] == [["normals"], ["depth_z"]]
    assert second["weights"] == str(fit.before.folder) and second["weights_of"] == "backbone."


def test_either_half_of_transfer_learning_may_have_the_whole_budget(pretended):
    study, out, _, _ = pretended(methods={"transfer_full": {"pretrain": [0.5, 1.0]}}, steps=80, evaluations=4)
    points = study.selection(out).candidates(study.selection(out).cells()[0])
    lengths = [
        tuple(run.config["data"]["init_args"]["steps"] for run in (point.fit.before, point.fit.run)) for point in points
    ]
    assert lengths == [(10, 20), (20, 20)]
    with pytest.raises(InputError, match=r"'transfer_full': pretrain is 1.5, must be a share"):
        MetaTransferStudy(**{**study.arguments, "methods": {"transfer_full": {"pretrain": 1.5}}})


def test_pretraining_is_stopped_by_its_own_metric_or_the_loss_of_several(pretended):
    tasks = ["depth_z", "normals", "semantic_segmentation"]
    cases = [{"primary": "depth_z", "auxiliary": auxiliary} for auxiliary in (tasks[1:2], tasks[2:], tasks[1:])]
    study, out, _, _ = pretended(tasks=tasks, cases=cases, methods={"transfer": {}}, steps=80, evaluations=4)
    selection = study.selection(out)
    kept = [
        {one["class_path"].rpartition(".")[2]: one for one in point.fit.before.config["trainer"]["callbacks"]}
        for cell in selection.cells()
        for point in selection.candidates(cell)
    ]
    assert [one["BestWeights"]["init_args"] for one in kept] == [
        {"monitor": "val/normals/mean_angle", "mode": "min"},
        {"monitor": "val/semantic_segmentation/miou", "mode": "max"},
        {"monitor": "val/loss", "mode": "min"},
    ]


def test_what_a_method_needs_of_the_data_is_given(pretended):
    light = {"class_path": "DenseHead"}
    methods = {
        "primary_only": {}, "transfer": {}, "mtl": {}, "lin": {"meta_batch": "held_out"},
        "tmt": {"meta_batch": ["same", "held_out"]},
    }  # fmt: skip
    cases = [{"primary": "depth_z", "auxiliary": ["normals"]}]
    study, out, *_ = pretended(methods=methods, cases=cases, shuffled=True, steps=80, evaluations=4)
    selection = study.selection(out)
    fits = [point.fit for cell in selection.cells() for point in selection.candidates(cell)]
    data = [run.config["data"]["init_args"] for fit in fits for run in (fit.before, fit.run) if run is not None]
    assert [(one.get("held_out", False), one.get("shuffled", False)) for one in data] == [
        (False, False), (False, True), (False, False), (False, True), (True, True), (False, True), (True, True),
    ]  # fmt: skip
    instantiated = [instantiate_data(fit.run.config["data"]) for fit in fits]
    assert [one.held_out for one in instantiated] == [False] * 3 + [True, False, True]
    heads = [fit.run.config["model"]["init_args"]["heads"].keys() for fit in fits]
    assert [set(one) for one in heads] == [{"dense"}] * 2 + [{"dense", "normals"}] * 4, "others do not count"
    wrong = {"tiny": {"backbone": study.networks["tiny"].backbone, "heads": {"densse": light}}}
    with pytest.raises(InputError, match=r"heads names 'densse', which is neither a task here nor a kind.*'dense'"):
        MetaTransferStudy(**{**study.arguments, "networks": wrong})
