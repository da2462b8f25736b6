"""The chains table and the table of factors: what they refuse, and that reading gives what was written."""

import pytest

from lightning_taskonomy.affinity.chains import Chain, ChainsTable, Factors, read_factors, write_factors
from lightning_taskonomy.errors import InputError

HEADER = "target,source,kind,setting,seed,metric,higher_is_better,value"
ROW = "camvid,coco,chain,small,0,miou,1,0.5"


def read(tmp_path, *lines, header=HEADER):
    path = tmp_path / "chains.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return ChainsTable.read(path)


def test_reading_gives_what_was_written(tmp_path):
    table = ChainsTable(
        (
            Chain("camvid", "imagenet", "pretrained", "small", 0, "miou", True, 0.1 + 0.2),
            Chain("camvid", "", "scratch", "small", 0, "miou", True, 0.0),
            Chain("camvid", "coco", "chain", "small_source", 3, "miou", True, 1 / 3),
            Chain("sun.depth", "coco", "chain", "full", 0, "rmse", False, 0.493),
        )
    )
    table.write(tmp_path / "chains.csv")
    assert ChainsTable.read(tmp_path) == table
    assert table.targets == ("camvid", "sun.depth") and table.sources == ("coco",)


def test_columns_may_come_in_any_order_with_a_byte_order_mark(tmp_path):
    table = read(tmp_path, "0.5,1,miou,0,small,chain,coco,camvid", header="\ufeff" + ",".join(HEADER.split(",")[::-1]))
    assert table.chains == (Chain("camvid", "coco", "chain", "small", 0, "miou", True, 0.5),)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([ROW, ROW.replace("0.5", "0.6")], r"line 3.*coco -> camvid.*twice, first on line 2"),
        ([ROW, ROW.replace(",0,miou,1", ",1,miou,0")], "higher_is_better of miou"),
        ([ROW.replace("miou,1", "miou,yes")], "'yes' is neither 0 nor 1"),
        ([ROW.replace("0.5", "nan")], "line 2: value 'nan' is not a finite number"),
        ([ROW.replace("0.5", "-1")], "not a finite number of at least 0"),
        ([ROW.replace("chain", "chian")], "did you mean 'chain'"),
        ([ROW.replace("small", "tiny")], "setting 'tiny' is unknown"),
        ([ROW.replace("coco", "imagenet")], "a source other than imagenet"),
        ([ROW.replace("chain", "pretrained")], "source 'coco': it takes 'imagenet'"),
        ([ROW.replace("chain", "scratch")], "source 'coco': it takes ''"),
        ([ROW.replace("coco", "")], "name '' is empty"),
        ([ROW.replace(",0,", ",0.5,")], "seed '0.5' is not a whole number"),
        ([ROW + ",7"], "9 cells, but there are 8 columns"),
    ],
)
def test_wrong_rows_are_refused(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, *lines)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER + ",note", "column 'note' is unknown"),
        (HEADER.replace(",seed", ""), "'seed' is there 0 times"),
        (HEADER + ",seed", "'seed' is there 2 times"),
    ],
)
def test_other_columns_are_refused(tmp_path, header, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, header=header)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"chains\.csv cannot be read"):
        ChainsTable.read(tmp_path)


def test_factors_are_read_as_written(tmp_path):
    factors = {
        "coco": Factors("segmentation", ("consumer",), ("COCO",), 118_000),
        "multi": Factors("segmentation", ("consumer", "driving"), ("COCO", "Mapillary"), 136_000),
    }
    write_factors(tmp_path / "factors.csv", factors)
    assert read_factors(tmp_path) == factors
    assert factors["multi"].multi_source and not factors["coco"].multi_source
    assert factors["multi"].collection == "COCO+Mapillary"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,depth,indoor,SUN,0", "size 0 is not a number of images"),
        ("a,depth,indoor,SUN,1.5", "not a whole number"),
        ("a,depth,indoor;indoor,SUN,5", "domains 'indoor;indoor'"),
        ("a,,indoor,SUN,5", "task_type ''"),
        (",depth,indoor,SUN,5", "name is empty"),
        ("a,depth,indoor,SUN,5\na,depth,indoor,SUN,5", "line 3: 'a' comes twice"),
    ],
)
def test_wrong_factors_are_refused(tmp_path, row, message):
    (tmp_path / "factors.csv").write_text(f"name,task_type,domains,images,size\n{row}\n")
    with pytest.raises(InputError, match=message):
        read_factors(tmp_path)


def test_chains_without_a_reference_under_their_seed_wait():
    """Small sources have the references of small targets."""

    def row(source, kind, setting, seed):
        return Chain("a", source, kind, setting, seed, "miou", True, 0.5)

    table = ChainsTable(
        (
            row("imagenet", "pretrained", "small", 0), row("b", "chain", "small", 0), row("b", "chain", "small", 1),
            row("b", "chain", "small_source", 0), row("b", "chain", "full", 0), row("", "scratch", "small", 0),
        )
    )  # fmt: skip
    compared, waiting = table.comparable()
    assert [(one.setting, one.seed) for one in waiting] == [("small", 1), ("full", 0)]
    assert len(compared.chains) == 4
