"""The original pickles: numbers come back as Python's own unpickler has them; whatever else is asked for is refused."""

import codecs
import collections
import contextlib
import datetime
import os
import pickle
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lightning_taskonomy.affinity import Transfer, TransfersTable
from lightning_taskonomy.affinity.pickles import read_pickles
from lightning_taskonomy.affinity.unpickling import load_plain
from lightning_taskonomy.errors import InputError

PUBLISHED = Path(__file__).parents[3] / "shared/published/taskonomy/transfers_16k.csv"
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"the published measurements are not at {PUBLISHED}"
)
PROTOCOLS = range(6)
OLD, NEW = b"numpy.core.multiarray", b"numpy._core.multiarray"


def save(folder, content, name="m.pkl"):
    path = folder / name
    path.write_bytes(content)
    return path


def as_numpy_1(content):
    """The same pickle with NumPy 1's name of the module, its length and the frame's included where they are counted."""
    counted = content.replace(b"\x8c" + bytes([len(NEW)]) + NEW, b"\x8c" + bytes([len(OLD)]) + OLD)
    if counted[2:3] == b"\x95":
        counted = counted[:3] + (len(counted) - 11).to_bytes(8, "little") + counted[11:]
    return counted.replace(b"c" + NEW + b"\n", b"c" + OLD + b"\n")


class Calls:
    """Pickles as a call of what it is made with."""

    def __init__(self, called, *arguments):
        self.reduced = called, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("numpy_1", [False, True])
def test_numbers_come_back_as_they_were(tmp_path, protocol, numpy_1):
    written = {
        "a__t": np.float64(0.1),
        "b__t": np.float64(1e-300),
        "c__t": np.float32(0.3),
        "d__t": np.dtype(">f8").type(7),
        "e__t": np.int64(-3),
        "f__t": np.uint8(200),
        "g__t": np.bool_(True),
        "h__t": 0.5,
        "i__t": -(2**40),
        "j__t": [1, [2.0, "x", None, False], {"k": [], "é": [[1, 2, 3, 4]]}, [], {}],
        "k__t": np.float16(0.5),
    } | {f"l{i}__t": np.float64(i) for i in range(300)}
    content = pickle.dumps(written, protocol)
    if numpy_1:
        content = as_numpy_1(content)
        assert OLD in content
        assert NEW not in content
    numbers = load_plain(save(tmp_path, content))
    assert numbers == written
    assert list(numbers) == list(written)
    assert {type(value) for value in numbers.values()} == {float, int, bool, list}


def test_byte_order_and_shared_types_are_kept(tmp_path):
    scalar = np._core.multiarray.scalar
    big = np.dtype(">f8")
    content = {"a": Calls(scalar, big, b"\x3f\xe0" + bytes(6)), "b": Calls(scalar, big, b"\x40" + bytes(7))}
    assert load_plain(save(tmp_path, pickle.dumps(content))) == {"a": 0.5, "b": 2.0}


def test_python_2_texts_are_bytes_too(tmp_path):
    content = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f8K\x00K\x01tRU\x08" + bytes(6) + b"\xe0\x3ftR."
    assert load_plain(save(tmp_path, content)) == 0.5


class Unknown:
    """An object of a class that the reader does not know."""


MALICIOUS = {
    "a command": (lambda path: Calls(os.system, f"touch {path}"), "system"),
    "an evaluation": (lambda path: Calls(eval, f"open('{path}', 'w')"), "eval"),
    "an execution": (lambda path: {"a__t": Calls(exec, f"open('{path}', 'w')")}, "exec"),
    "an import": (lambda path: Calls(__import__, "os"), "__import__"),
    "an attribute": (lambda path: Calls(getattr, 1, "real"), "getattr"),
    "a file": (lambda path: Calls(open, str(path), "w"), "open"),
    "an array": (lambda path: np.zeros(3), "_reconstruct|_frombuffer"),
    "an array of objects": (lambda path: np.array([{}], dtype=object), "_reconstruct|_frombuffer"),
    "bytes to change": (lambda path: bytearray(b"x"), "bytearray|BYTEARRAY8"),
    "a type of objects": (lambda path: np.dtype("O"), "'O8'"),
    "a scalar of dates": (lambda path: np.datetime64("2020-01-01"), "M8"),
    "a text of NumPy": (lambda path: np.str_("a"), "'U1'"),
    "a record": (lambda path: np.zeros(1, dtype=[("x", "f8")])[0], "V8"),
    "a file of NumPy": (lambda path: Calls(np.load, str(path), "r", True), "load"),
    "a date": (lambda path: datetime.date(2020, 1, 1), "datetime.date"),
    "another dictionary": (lambda path: collections.OrderedDict(a=1), "OrderedDict"),
    "an object": (lambda path: Unknown(), "_reconstructor|Unknown"),
    "a set": (lambda path: {1}, "set|EMPTY_SET"),
    "a decoding": (lambda path: Calls(codecs.encode, "a", "rot13"), "encode"),
    "a number that is called": (lambda path: Calls(np.float64, 1.0), "float64"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", MALICIOUS)
def test_anything_else_is_named_and_nothing_runs(tmp_path, case, protocol):
    make, name = MALICIOUS[case]
    path = save(tmp_path, pickle.dumps(make(tmp_path / "touched"), protocol))
    with pytest.raises(InputError, match=name) as raised:
        load_plain(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    assert [file.name for file in tmp_path.iterdir()] == ["m.pkl"]


DOUBLED = b")" + b"".join(b"\x94h" + bytes([level]) + b"\x86" for level in range(60))
"""A tuple of two of the same, sixty times: 2^60 tuples if it is ever written out or hashed."""

NESTED = b"\x80\x02}cnumpy\ndtype\n(S'f8'\ntR"
"""A dictionary, and above it a type whose arguments and state are to be nests that the memo keeps."""

BY_HAND = {
    b"cposix\nsystem\n.": "posix.system",
    b"(S'true'\niposix\nsystem\n.": "INST",
    b"(cnumpy\ndtype\nS'f8'\no.": "OBJ",
    b"\x80\x02cnumpy\ndtype\n)\x81.": "NEWOBJ",
    b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93)}\x92.": "NEWOBJ_EX",
    b"\x80\x04\x8c\x05numpy\x8c\x0bdtype.names\x93.": "numpy.dtype.names",
    b"\x80\x04\x8c\x0bnumpy\nalias\x8c\x05dtype\x93.": "asks for",
    b"\x80\x02\x82\x01.": "EXT1",
    b"Pname\n.": "PERSID",
    b"]Q.": "BINPERSID",
    b"\x80\x05\x97.": "NEXT_BUFFER",
    b"cnumpy\ndtype\n(N(dS'__setstate__'\nI1\nstb.": "state of an object",
    b"cnumpy\ndtype\n(S'f8'\nI00\nI01\ntR(K\x01K\x02db.": "state of a type",
    b"cnumpy\ndtype\n(S'f8'\n)tR.": "calls dtype",
    NESTED + b"(K\x03S'<'\nNNN)K\x00K\x00tb.": "state of a type",
    b"I1\nI2\nI3\ns.": "damaged",
    b"}]I1\ns.": "damaged",
    b"c_codecs\nencode\nI1\nR.": "damaged",
    b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.": "calls encode",
    b"}(S'a'\nK\x01tK\x01s.": "a tuple that is not part of a number",
    b"I1\n(I1\nI2\ntb.": "damaged",
    b"](I1\nI2\ntR.": "damaged",
    b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8'\ntRS'abc'\ntR.": "damaged",
    b"tR.": "damaged",
    b".": "damaged",
    b"h\x05.": "damaged",
    b"(I1\nd.": "damaged",
    b"": "damaged",
    b"\xff": "damaged",
    b"I" + b"9" * 5000 + b"\n.": "damaged",
    b"\x8e" + b"\xff" * 7 + b"\x7f" + b"x.": "damaged",  # announces 2^63 bytes
    b"\x8d" + b"\xff" * 7 + b"\x7f" + b"x.": "damaged",
    b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f" + b"x.": "damaged",
    b"]r\xff\xff\xff\x7fq\x00e.": "damaged",  # a memo of 2^31 places
    b"\x80\x04" + DOUBLED + b"\x8c\x01x\x93.": "a tuple that is not part of a number",
    b"\x80\x04]\x8c\x01x\x93.": "damaged",
    b"\x80\x04cnumpy\ndtype\n\x8c\x02f8\x85RK\x03" + DOUBLED + b"\x86b.": "a tuple that is not part of a number",
}


@pytest.mark.parametrize("content", BY_HAND)
def test_instructions_written_by_hand(tmp_path, content):
    path = save(tmp_path, content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=BY_HAND[content]):
            load_plain(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_deep_nests_do_not_break_python(tmp_path):
    with pytest.raises(InputError, match="a tuple that is not part of a number"):
        load_plain(save(tmp_path, b"}(" + b")" + b"\x85" * 100_000 + b"I1\nu."))
    level, depth = load_plain(save(tmp_path, b"](" * 100_000 + b"]" + b"e" * 100_000 + b".")), 0
    while level:
        (level,), depth = level, depth + 1
    assert depth == 100_000


def test_truncated_and_damaged_files_are_refused_or_read_as_numbers(tmp_path):
    for protocol in (0, 2, 4):
        content = pickle.dumps({"a__t": np.float64(0.1), "b__t": [np.int32(2), "x"]}, protocol)
        for end in range(len(content)):
            with pytest.raises(InputError, match=r"m\.pkl"):
                load_plain(save(tmp_path, content[:end]))
        generator = random.Random(protocol)
        for _ in range(50):
            damaged = bytearray(content)
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            path = save(tmp_path, bytes(damaged))
            with contextlib.suppress(InputError):
                load_plain(path)


def test_files_that_are_missing_or_too_large(tmp_path):
    with pytest.raises(InputError, match=r"no\.pkl cannot be read \(No such file"):
        load_plain(tmp_path / "no.pkl")
    path = save(tmp_path, b"")
    os.truncate(path, 2**30)
    with pytest.raises(InputError, match="1073741824 bytes"):
        load_plain(path)


def repository(folder, affinities=None):
    """The three files as the repository has them."""
    contents = {
        "all_affinities_16k.pkl": affinities
        or {"a__t": np.float64(0.2), "a__b__t": np.float64(0.5), "self__t": np.float64(0.3), "c__t": np.float64("nan")},
        "wins_vs_task_16k.pkl": {"a__t": np.float64(0.25), "a__b__t": np.float64(0.75), "self__t": 0.5},
        "wins_vs_pixels_16k.pkl": {"b__a__t": np.float64(1.0), "pixels__t": 0.5, "d__t": np.float64(0.1)},
    }
    return [save(folder, pickle.dumps(content), name) for name, content in contents.items()]


def test_the_repositorys_files_become_a_table(tmp_path):
    table = read_pickles(*repository(tmp_path))
    assert table == TransfersTable(
        (
            Transfer("t", 1, ("a",), "transfer", 0.2, 0.25, None),
            Transfer("t", 2, ("a", "b"), "transfer", 0.5, 0.75, 1.0),
            Transfer("t", 1, ("t",), "task_specific", 0.3, 0.5, None),
            Transfer("t", 0, (), "scratch", None, None, 0.5),
        ),
        (Transfer("t", 1, ("c",), "transfer"), Transfer("t", 1, ("d",), "transfer", None, None, 0.1)),
    )
    table.write(tmp_path / "t.csv")
    assert TransfersTable.read(tmp_path / "t.csv") == table
    assert read_pickles(repository(tmp_path)[0]).transfers[1].win_rate_vs_task_specific is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a__t": -0.1}, r"16k\.pkl: entry 'a__t': affinity -0.1"),
        ({"a__t": np.float64("inf")}, "entry 'a__t': affinity inf"),
        ({"a__t": "0.1"}, "entry 'a__t' is not a transfer with a number"),
        ({3: 0.1}, "entry '3' is not a transfer with a number"),
        ({"a__b__t": 0.1, "b__a__t": 0.1}, "entry 'b__a__t': duplicate"),
        ({"a__a__t": 0.1}, "entry 'a__a__t': .*twice"),
        ({"t": 0.1}, "entry 't': a transfer without sources"),
        ({"a__": 0.1}, "entry 'a__': task name ''"),
        ({"self__t": 0.1}, "target 't' has no measured transfer"),
        ({"ab__t": 0.1}, "entry 'ab__t': task 'ab' is unknown"),
        ({"a__t": 10**400}, "entry 'a__t'"),
        ([0.1], "holds no dictionary"),
    ],
)
def test_wrong_entries_are_named(tmp_path, entries, message):
    path = save(tmp_path, pickle.dumps(entries), "all_affinities_16k.pkl")
    with pytest.raises(InputError, match=message):
        read_pickles(path, tasks=["a", "b", "t"])


@needs_published
def test_the_published_table_survives_the_repositorys_form(tmp_path):
    table = TransfersTable.read(PUBLISHED)
    columns = ("affinity", "win_rate_vs_task_specific", "win_rate_vs_scratch")
    paths = []
    for column in columns:
        content = {
            "__".join([*(["self"] if row.kind == "task_specific" else row.sources), row.target]): np.float64(number)
            for row in (*table.transfers, *table.unmeasured)
            if (number := getattr(row, column)) is not None
        }
        paths.append(save(tmp_path, pickle.dumps(content), f"{column}.pkl"))
    assert read_pickles(*paths) == table
