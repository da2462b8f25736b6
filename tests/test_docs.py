"""The pages are true to the code where that can be checked."""

import re
import tomllib
from pathlib import Path

import pytest

from lightning_taskonomy.tasks import TaskKind, catalog

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DEFAULT = {name: task for name, task in catalog().items() if "." not in name}


def rows_of(page):
    rows = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_there_are_26_tasks_and_the_page_lists_each_once():
    assert len(DEFAULT) == 26
    names = [row[0].replace("*", "").strip(" `") for row in rows_of("tasks.md")]
    assert names == list(DEFAULT)


@pytest.mark.parametrize("row", rows_of("tasks.md"), ids=lambda row: row[0].strip("` *"))
def test_a_row_of_the_task_table_is_the_catalog(row):
    task = DEFAULT[row[0].replace("*", "").strip(" `")]
    assert row[0].endswith("*") == task.source_only
    assert row[1:7] == [
        f"`{task.input}`", f"`{task.target}`", task.kind.value, str(task.channels), task.units or "-",
        task.family.value,
    ]  # fmt: skip
    definition, source = row[7:]
    assert definition
    assert re.search(r"\d{4}|Taskonomy|as above", source)


def test_every_kind_is_explained():
    assert {row[0].strip("`") for row in rows_of("extending.md")} == {kind.value for kind in TaskKind}


def test_the_layers_are_those_that_are_checked():
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    checked = [re.findall(r"\w+", layer) for layer in layers]
    text = (DOCS / "architecture.md").read_text()
    names = [re.findall(r"`(\w+)`", line.split(" | ")[0]) for line in text.splitlines() if line.startswith("| `")]
    assert names == checked


def test_options_named_in_the_study_page_exist():
    import inspect

    from lightning_taskonomy import TaxonomyStudy

    settings = inspect.signature(TaxonomyStudy).parameters
    pages = (DOCS / "study.md").read_text()
    tables = pages.split("## Beyond the taxonomy")[1].split("## Files")[0] + pages.split("## Settings")[1]
    for row in re.findall(r"^\| (`.*?) \|", tables, re.M):
        for name in re.findall(r"`(\w+)`", row):
            assert name in settings


def test_stages_are_those_of_the_code():
    from lightning_taskonomy.studies.taxonomy import TaxonomyStudy

    backbone = {"class_path": "TimmBackbone", "init_args": {"name": "test_resnet"}}
    stages = TaxonomyStudy(["depth_z", "normals"], {"class_path": "RoomsDataModule"}, backbone).stages(DOCS)
    text = (DOCS / "study.md").read_text().split("## Stages")[1].split("## Beyond")[0]
    names = dict.fromkeys(stage.name for stage in stages)
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == [*names, "analysis", "report"]


def test_commands_named_in_the_readme_exist(capsys):
    from lightning_taskonomy.cli import main

    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    table = (ROOT / "README.md").read_text().split("## Commands")[1].split("## Where")[0]
    named = re.findall(
        r"`(?:lightning-taskonomy )?((?:fit|validate|test|predict|study|solve|report|data)(?: [a-z]+)?)", table
    )
    assert len(named) >= 10
    for command in named:
        assert command in printed
