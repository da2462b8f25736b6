"""The transfers table: what it keeps, what it refuses, and how it says so."""

from pathlib import Path

import pytest

from lightning_taskonomy.affinity import Transfer, TransfersTable
from lightning_taskonomy.affinity.table import COLUMNS
from lightning_taskonomy.errors import InputError

PUBLISHED = Path(__file__).parents[3] / "shared/published/taskonomy/transfers_16k.csv"
HEADER = ",".join(COLUMNS)
GOOD = "depth,1,normals,transfer,0.25,0.4,0.9"


def write(folder, *lines, header=HEADER):
    path = folder / "t.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def test_a_table_survives_writing_and_reading(tmp_path):
    rows = [
        Transfer("depth", 1, ("depth",), "task_specific", 0.1 + 0.2, 0.5, 1.0),
        Transfer("depth", 2, ("b", "a"), "transfer", 1e-17, None, 0.25),
        Transfer("depth", 1, ("a",), "transfer", None, None, 0.25),
        Transfer("depth", 0, (), "scratch", None, 0.1, 0.5),
    ]
    table = TransfersTable.of(rows)
    table.write(tmp_path / "t.csv")
    again = TransfersTable.read(tmp_path / "t.csv")
    assert again == table
    assert again.unmeasured == (rows[2],)
    assert [row.kind for row in again.candidates] == ["task_specific", "transfer"]
    assert again.targets == ("depth",)
    assert again.sources == ("depth", "b", "a")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD, r"line 3 .*duplicate of line 2"),
        ("depth,2,a;normals,transfer,-0.1,,", r"line 3 \(target depth, sources a;normals, transfer\): affinity -0.1"),
        ("depth,1,a,transfer,inf,,", "line 3 .*affinity inf"),
        ("depth,1,a,transfer,nan,,", "line 3 .*affinity nan"),
        ("depth,1,a,transfer,0.1x,,", "line 3 .*'0.1x' is not a number"),
        ("depth,2,a,transfer,0.1,,", "line 3 .*order 2 does not match its 1 sources"),
        ("depth,two,a,transfer,0.1,,", "line 3 .*order 'two'"),
        ("depth,2,a;a,transfer,0.1,,", "line 3 .*twice"),
        ("depth,1,a;,transfer,0.1,,", "line 3 .*task name ''"),
        ("depth,1,a,transfers,0.1,,", "line 3 .*kind 'transfers' .*did you mean 'transfer'"),
        ("depth,1,a,task_specific,0.1,,", "line 3 .*its target 'depth'"),
        ("depth,0,,transfer,0.1,,", "line 3 .*without sources"),
        ("depth,1,a,transfer,0.1,1.5,", "line 3 .*win_rate_vs_task_specific 1.5"),
        ("depth,1,a,transfer,0.1", "line 3: the number of cells"),
        ("depth,1,a,transfer,0.1,,,", "line 3: the number of cells"),
        ("edges,1,edges,task_specific,0.1,,", r"line 3 \(edges -> edges .*target 'edges' has no measured transfer"),
        ("edges,1,a,transfer,,,", r"line 3 \(a -> edges\): target 'edges' has no measured transfer"),
        ("edges,0,,scratch,,,", r"line 3 \(scratch -> edges\): target 'edges' has no measured transfer"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        TransfersTable.read(write(tmp_path, GOOD, line))


def test_a_duplicate_with_sources_in_another_order_is_found(tmp_path):
    path = write(tmp_path, "depth,2,a;b,transfer,0.1,,", "depth,2,b;a,transfer,,,")
    with pytest.raises(InputError, match=r"line 3 .*duplicate of line 2"):
        TransfersTable.read(path)


def test_a_missing_column_file_or_table_is_named(tmp_path):
    with pytest.raises(InputError, match="column 'kind' is missing"):
        TransfersTable.read(write(tmp_path, header=HEADER.replace("kind", "sort")))
    with pytest.raises(InputError, match="column 'target' is missing"):
        TransfersTable.read(write(tmp_path, header=""))
    with pytest.raises(InputError, match="no transfer"):
        TransfersTable.read(write(tmp_path))
    with pytest.raises(InputError, match=r"nothing\.csv cannot be read \(No such file"):
        TransfersTable.read(tmp_path / "nothing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        TransfersTable.read(tmp_path / "binary.csv")


def test_an_empty_affinity_is_unmeasured_and_kept_apart_by_name(tmp_path):
    table = TransfersTable.read(write(tmp_path, GOOD, "depth,1,a,transfer,,0.5,", "depth,2,a;b,transfer, ,,"))
    assert [str(row) for row in table.unmeasured] == ["a -> depth", "a+b -> depth"]
    assert [str(row) for row in table.candidates] == ["normals -> depth"]


def test_a_study_is_read_by_its_folder(tmp_path):
    (tmp_path / "affinity.csv").write_text(f"{HEADER}\n{GOOD}\n")
    assert TransfersTable.read(tmp_path).targets == ("depth",)
    (tmp_path / "affinity.csv").unlink()
    with pytest.raises(InputError, match=r"affinity\.csv cannot be read"):
        TransfersTable.read(tmp_path)


def test_rows_in_memory_are_checked_as_those_of_files():
    row = Transfer("depth", 1, ("a",), "transfer", 0.5)
    with pytest.raises(InputError, match="duplicate transfer a -> depth"):
        TransfersTable.of([row, row])
    with pytest.raises(InputError, match="it belongs to the unmeasured"):
        TransfersTable((row, Transfer("depth", 1, ("b",), "transfer")))
    with pytest.raises(InputError, match="the table has no transfer"):
        TransfersTable(())
    for affinity in (-0.1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="not a finite number of at least 0"):
            Transfer("depth", 1, ("a",), "transfer", affinity)


def test_unknown_tasks_are_named_with_a_hint(tmp_path):
    with pytest.raises(InputError, match="task 'normals' is unknown; did you mean 'normal'"):
        TransfersTable.read(write(tmp_path, GOOD), tasks=["depth", "normal"])
    assert TransfersTable.read(write(tmp_path, GOOD), tasks=["depth", "normals"]).sources == ("normals",)


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"the published measurements are not at {PUBLISHED}")
def test_published_measurements_load():
    table = TransfersTable.read(PUBLISHED)
    assert len(table.transfers) + len(table.unmeasured) == 1762
    assert len(table.unmeasured) == 4
    assert (len(table.targets), len(table.sources)) == (22, 27)
