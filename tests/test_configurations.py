"""Configurations are put together as the parser of ``fit`` reads them; what is not said is left to the defaults."""

import pytest

from lightning_taskonomy.configurations import (
    fit_configuration,
    fitted_on,
    head_of,
    network_arguments,
    transfer_arguments,
    with_arguments,
)

DATA = {"class_path": "RoomsDataModule", "init_args": {"size": 32, "seed": 9}}
SCHEDULE = {"class_path": "StepLR", "init_args": {"step_size": 1}}


def test_what_is_not_given_is_left_out():
    plain = fit_configuration("M", {"tasks": ["a"]}, DATA, trainer={"max_epochs": 2}, seed=3)
    assert plain == {
        "seed_everything": 3, "model": {"class_path": "M", "init_args": {"tasks": ["a"]}}, "data": DATA,
        "trainer": {"max_epochs": 2},
    }  # fmt: skip
    alone = fit_configuration("M", {}, DATA, trainer={}, seed=0, scheduler_interval="step")
    assert alone["model"]["init_args"] == {}, "an interval without a schedule"
    full = fit_configuration(
        "M", {}, DATA, trainer={}, seed=0, optimizer=DATA, scheduler=SCHEDULE, scheduler_interval="step"
    )
    assert full["model"]["init_args"] == {"optimizer": DATA, "scheduler": SCHEDULE, "scheduler_interval": "step"}


def test_networks_and_transfers():
    assert network_arguments(["a", "b"], DATA, None) == {"tasks": ["a", "b"], "backbone": DATA}
    assert network_arguments(["a"], DATA, {"a": SCHEDULE})["heads"] == {"a": SCHEDULE}
    assert transfer_arguments("a", ["x"], 8, None) == {"target": "a", "sources": ["x"], "width": 8}
    assert transfer_arguments("a", ["x"], 8, SCHEDULE)["head"] == SCHEDULE


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ((), None),
        ((None, {}), None),
        (({"dense": {"class_path": "D"}},), "D"),
        (({"dense": {"class_path": "D"}, "depth": {"class_path": "N"}},), "N"),
        (({"normals": {"class_path": "X"}}, {"dense": {"class_path": "D"}}), "D"),
        (({"dense": {"class_path": "D"}}, {"depth": {"class_path": "N"}}), "D"),
    ],
)
def test_a_head_is_that_of_the_name_then_of_the_kind_then_of_the_next_choice(heads, expected):
    head = head_of("depth", "dense", *heads)
    assert (head and head["class_path"]) == expected


def test_arguments_are_added_to_a_copy():
    changed = fitted_on(DATA, "validation", 4, 1)
    assert changed["init_args"] == {"size": 32, "fit_split": "validation", "fit_size": 4, "seed": 1}
    assert DATA["init_args"] == {"size": 32, "seed": 9}
    assert with_arguments({"class_path": "A"}, x=1) == {"class_path": "A", "init_args": {"x": 1}}
    assert with_arguments({"class_path": "A", "init_args": None}, x=1)["init_args"] == {"x": 1}
