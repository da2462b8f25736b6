"""Errors of one line, and files that appear whole or not at all."""

import errno
import json
import os
import stat

import pytest
from jsonargparse import ArgumentParser

from lightning_taskonomy import files
from lightning_taskonomy.arguments import explained
from lightning_taskonomy.errors import InputError, hint, input_error
from lightning_taskonomy.files import UnwritableError, atomic, check_writable, write_bytes, write_json, write_text


def test_hint_names_the_nearest():
    assert hint("normls", ["normals", "depth_z", "jigsaw"]) == "; did you mean 'normals'?"


def test_hint_names_all_where_none_is_near():
    assert hint("zzzz", ["normals", "depth_z"]) == "; allowed: depth_z, normals"


def test_hint_is_empty_where_nothing_is_allowed():
    assert hint("x", []) == ""


def test_bad_input_is_found_behind_other_errors():
    def parse():
        try:
            raise InputError("one line")
        except InputError as error:
            try:
                raise KeyError("wrapped")
            except KeyError:
                raise ValueError("wrapped again") from error

    with pytest.raises(ValueError, match="wrapped again") as caught:
        parse()
    assert str(input_error(caught.value)) == "one line"


def test_no_bad_input_is_found_where_there_is_none():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first  # a cycle ends
    assert input_error(first) is None


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with atomic(target) as temporary:
        temporary.write_text("content")
        assert not target.exists()
        assert temporary.parent == target.parent  # a rename within one file system
    assert target.read_text() == "content"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert [file.name for file in target.parent.iterdir()] == ["file.txt"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "file.txt"
    write_text(target, "old")

    def stop():
        with atomic(target) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    target = tmp_path / "file.txt"
    write_text(target, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("place", ["folder", "file/below"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for write in (check_writable, lambda path: write_text(path, "")):
        with pytest.raises(UnwritableError) as caught:
            write(tmp_path / place)
        assert caught.value.filename == str(tmp_path / place)
    check_writable(tmp_path / "new/file", None)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "new"]


def test_json_and_bytes_come_back(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None], "b": "ü"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5, None], "b": "ü"}
    write_json(tmp_path / "b.json", {"path": tmp_path}, default=str)
    assert json.loads((tmp_path / "b.json").read_text()) == {"path": str(tmp_path)}
    write_bytes(tmp_path / "c", b"\x00\xff")
    assert (tmp_path / "c").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Unrecognized arguments: --max_ordr=2", "; did you mean max_order?"),
        ("Option 'budgt' is not accepted", "; did you mean budget?"),
        ("Value 'x'\n  is\n  no number", "Value 'x' is no number"),
        ("Expected a dot import path string: HRNetV", "no class 'HRNetV'; did you mean 'HRNetV2'?"),
        ("Expected a dot import path string: Qqqqq", "no class 'Qqqqq'; give its dotted path"),
        (
            """Key "solver": Does not validate against any of the Union subtypes Subtypes: [<class 'a.TaxonomySolver'>,
            <class 'NoneType'>] Errors: - Expected a dot import path string: GroupingSolver
            Given value type: <class 'str'> Given value: GroupingSolver""",
            'Key "solver": GroupingSolver does not fit; give a TaxonomySolver',
        ),
        (
            """Key "budget": Does not validate against any of the Union subtypes Subtypes: [list[float]]
            Errors: - Expected a <class 'list'> - Expected a <class 'float'> - Expected a <class 'NoneType'>
            Given value type: <class 'str'> Given value: abc""",
            'Key "budget" must be a list or a number, not abc',
        ),
    ],
)
def test_a_parsers_message_is_one_line_with_a_hint(message, expected):
    parser = ArgumentParser()
    parser.add_argument("--max_order", type=int)
    parser.add_argument("--budget", type=float)
    text = explained(message, parser)
    assert "\n" not in text
    assert text.endswith(expected)
