"""Every mistake in a user's files ends in one line that names file, row, column and the fix."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from fl.data import DataSpec, Iid, open_source
from shards.errors import InputError


def spec(**keys):
    return DataSpec.read({f"columns.{key.replace('__', '.')}": value for key, value in keys.items()})


def source(path, form="csv", task="classification", **keys):
    meaning = spec(**({"target": "y"} | keys))
    return open_source(f"{form}:{path}", partitioner=Iid(), seed=0, spec=meaning, task=task)


def error_of(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


def csv_error(tmp_path, content, clients=1, **keys):
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return error_of(source(path, **keys).client, 0, clients)


CATEGORIES = "correct it, or declare all values it may have in columns.categories.<column>"
FILL = "set columns.fill.x to a public constant, or set columns.missing = 'drop'"
TIME = "write it as 2017-03-01T12:00 or as seconds since 1970"
FIELDS = "correct the line, and put quotes around values with commas"

CASES = {
    "no target column": (
        "x,why\n1,0\n",
        {},
        "a.csv: no column 'y' (columns.target); choose one of: why, x",
    ),
    "misspelt target": (
        "age,disease\n1,0\n",
        {"target": "desease"},
        "a.csv: no column 'desease' (columns.target); did you mean 'disease'?",
    ),
    "missing feature": (
        "x,y\n1,0\n",
        {"features": "x, z"},
        "a.csv: no column 'z' (columns.features, z); choose one of: x, y",
    ),
    "bounds of a column that is not there": (
        "age,y\n1,0\n",
        {"bounds__agee": "0..1", "bounds__age": "0..1"},
        "a.csv: columns.bounds.agee: no feature of that name; did you mean 'age'?",
    ),
    "a fill for a key": (
        "x,y,ward\n1,0,n\n",
        {"fill__ward": 3, "region": "ward"},
        "a.csv: columns.fill.ward: no feature of that name; choose one of: x",
    ),
    "text among numbers": (
        "x,y\n1,0\n2,1\nold,1\n",
        {},
        "a.csv, line 4, column 'x': 'old' is not a number; " + CATEGORIES,
    ),
    "text as target": (
        "x,y\n1,yes\n",
        {},
        "a.csv, line 2, column 'y': 'yes' is not a number; " + CATEGORIES,
    ),
    "class that is no index": (
        "x,y\n1,0\n1,0.5\n",
        {},
        "a.csv, line 3, column 'y': 0.5 is not a class number (0, 1, 2, ...); declare columns.categories.y, or set "
        "task = 'regression'",
    ),
    "negative class": (
        "x,y\n1,-1\n",
        {},
        "a.csv, line 2, column 'y': -1 is not a class number (0, 1, 2, ...); declare columns.categories.y, or set "
        "task = 'regression'",
    ),
    "category not declared": (
        "x,s,y\n1,f,0\n1,male,0\n",
        {"categories__s": "f|m"},
        "a.csv, line 3, column 's': 'male' is not among columns.categories.s; choose one of: f, m",
    ),
    "no value": (
        "x,y\n1,0\n,1\n",
        {},
        "a.csv, line 3, column 'x': no value; " + FILL,
    ),
    "not a number, said as NaN": (
        "x,y\nnan,0\n",
        {},
        "a.csv, line 2, column 'x': no value; " + FILL,
    ),
    "no target value": (
        "x,y\n1,\n",
        {},
        "a.csv, line 2, column 'y': no value; set columns.missing = 'drop'",
    ),
    "infinite feature": (
        "x,y\n1,0\n-inf,1\n",
        {},
        "a.csv, line 3, column 'x': infinite; correct it, or leave it empty if it is missing",
    ),
    "feature beyond float32": (
        "x,y\n1e300,0\n",
        {},
        "a.csv, line 2, column 'x': too big for a 32-bit number; change its unit",
    ),
    "infinite target": (
        "x,y\n1,inf\n",
        {"task": "regression"},
        "a.csv, line 2, column 'y': infinite; correct it, or leave it empty if it is missing",
    ),
    "key without a value in any row": (
        "x,y,ward\n1,0,\n2,1,\n",
        {"region": "ward"},
        "a.csv, line 2, column 'ward': no value; set columns.missing = 'drop'",
    ),
    "every row dropped": (
        "x,y,ward\n1,0,\n2,1,\n",
        {"region": "ward", "missing": "drop"},
        "a.csv: no row is complete, so columns.missing = 'drop' leaves none",
    ),
    "an id missing, even where rows may be dropped": (
        "x,y,id\n1,0,\n",
        {"id": "id", "missing": "drop"},
        "a.csv, line 2, column 'id': no value; give every row its id",
    ),
    "duplicate ids": (
        'x,y,id\n1,0,7\n2,0,8\n"3\n",1,9\n4,1,007\n',
        {"id": "id"},
        "a.csv, line 6, column 'id': the same id as a.csv, line 2; give every record its own",
    ),
    "zoned and naive times": (
        "x,y,t\n1,0,2020-01-01\n1,0,2020-01-02\n1,0,2020-01-01T00:00Z\n",
        {"time": "t"},
        "a.csv, line 4, column 't': a time with zone, but a.csv, line 2, column 't' has a time without zone; "
        "write all times alike",
    ),
    "seconds and dates": (
        "x,y,t\n1,0,1577836800\n1,0,2020-01-01\n",
        {"time": "t"},
        "a.csv, line 3, column 't': a time without zone, but a.csv, line 2, column 't' has epoch seconds; "
        "write all times alike",
    ),
    "not a time": (
        "x,y,t\n1,0,03/01/2020\n",
        {"time": "t"},
        "a.csv, line 2, column 't': '03/01/2020' is not a time; " + TIME,
    ),
    "a date that could be seconds": (
        "x,y,t\n1,0,20170301\n",
        {"time": "t"},
        "a.csv, line 2, column 't': '20170301' is not a time; " + TIME,
    ),
    "milliseconds": (
        "x,y,t\n1,0,1577836800000\n",
        {"time": "t"},
        "a.csv, line 2, column 't': '1577836800000' is not a time; " + TIME,
    ),
    "empty file": ("", {}, "{path}: the file is empty; its first line must name the columns"),
    "header only": ("x,y\n\n", {}, "{path}: only a header line, no rows"),
    "no header": ("1,2\n3,4\n", {}, "a.csv: no column 'y' (columns.target); choose one of: 1, 2"),
    "too many fields": (
        "x,y\n1,0\n1,2,3\n",
        {},
        "a.csv, line 3: fields: 3, but line 1 names 2 columns; " + FIELDS,
    ),
    "too few fields": (
        "x,y\n1\n",
        {},
        "a.csv, line 2: fields: 1, but line 1 names 2 columns; " + FIELDS,
    ),
    "semicolons": ("x;y\n1;0\n", {}, "a.csv, line 1: fields are separated by ';'; save the file with commas"),
    "column without a name": (",x,y\n0,1,0\n", {}, "a.csv, line 1: column 1 has no name; give it one"),
    "column named twice": ("x,x,y\n1,1,0\n", {}, "a.csv, line 1: two columns are named 'x'; rename one"),
    "not UTF-8": (
        "x,n,y\n1,ok,0\n1,Zürich,0\n".encode("latin-1"),
        {},
        "a.csv, line 3: not UTF-8 (byte 0xfc); save the file as UTF-8",
    ),
    "UTF-16": (
        "x,y\n1,0\n".encode("utf-16"),
        {},
        "a.csv, line 1: not UTF-8 (byte 0xff); save the file as UTF-8",
    ),
    "open quote": (
        'x,n,y\n1,a,0\n1,"b,0\n1,c,0\n',
        {},
        "a.csv, line 3: unexpected end of data; look for a quote that is not closed",
    ),
    "nothing to learn from": (
        "name,y\nAnn,0\n",
        {},
        "a.csv: no column is left that holds numbers; declare text in columns.categories.<column>",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_mistakes_in_a_csv_file(tmp_path, case):
    content, keys, line = CASES[case]
    assert csv_error(tmp_path, content, **keys) == line.format(path=tmp_path / "a.csv")


def test_a_gzip_file_cut_short_says_so(tmp_path):
    packed = gzip.compress(b"x,y\n" + b"".join(b"%d,0\n" % (k * k) for k in range(20_000)))
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    line = error_of(source(tmp_path / "a.csv.gz").client, 0, 1)
    assert line.startswith(f"{tmp_path / 'a.csv.gz'}: damaged gzip after line ")
    (tmp_path / "a.csv.gz").write_bytes(b"x,y\n1,0\n")
    assert "damaged gzip after line 0" in error_of(source(tmp_path / "a.csv.gz").client, 0, 1)


def test_duplicate_ids_in_two_files_name_both(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,id\n1,0,5\n2,0,6\n")
    (tmp_path / "b.csv").write_text("x,y,id\n1,0,7\n2,0,5\n")
    line = error_of(source(tmp_path, id="id").client, 0, 1)
    later, earlier = line.removesuffix("; give every record its own").split(", column 'id': the same id as ")
    assert {later, earlier} == {"a.csv, line 2", "b.csv, line 3"}


def test_columns_that_differ_between_clients_files(tmp_path):
    (tmp_path / "a.csv").write_text("x,z,y\n1,2,0\n")
    (tmp_path / "b.csv").write_text("x,y\n1,0\n")
    (tmp_path / "c.csv").write_text("x,z,w,y\n1,2,3,0\n")
    clients = source(tmp_path)
    assert len(clients.client(0, 3)) == 1
    fix = "give all files the same columns, or name those to use in columns.features"
    assert error_of(clients.client, 1, 3) == f"b.csv: no column 'z', which a.csv has; {fix}"
    assert error_of(clients.client, 2, 3) == f"a.csv: no column 'w', which c.csv has; {fix}"
    named = source(tmp_path, features="x")
    assert [named.client(k, 3).features.shape for k in range(3)] == [(1, 1)] * 3


def test_a_column_of_numbers_in_the_first_file_is_one_in_all(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,0\n")
    (tmp_path / "b.csv").write_text("x,y\none,0\n")
    assert error_of(source(tmp_path).client, 1, 2).startswith("b.csv, line 2, column 'x': 'one' is not a number")


def test_more_clients_than_files(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("x,y\n1,0\n")
    assert error_of(source(tmp_path).client, 0, 3) == (
        f"{tmp_path}: 2 files for 3 clients; use at most 2 clients, or name the column that tells clients apart in "
        "columns.client"
    )
    (tmp_path / "a.csv").write_text("x,y,who\n1,0,ann\n2,0,ann\n")
    (tmp_path / "b.csv").write_text("x,y,who\n1,0,bob\n")
    assert "'client' has 2 distinct values for 3 clients" in error_of(source(tmp_path, client="who").client, 0, 3)


def test_a_folder_without_files_and_a_path_that_leads_nowhere(tmp_path):
    assert error_of(source(tmp_path).client, 0, 1) == f"{tmp_path}: no .csv or .csv.gz file in this folder"
    assert error_of(source(tmp_path / "no").client, 0, 1) == (
        f"data csv:{tmp_path / 'no'}: no such file or folder; a relative path starts at the app's folder"
    )


def test_a_folder_or_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("x,y\n1,0\n")

    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(self))

    if os.geteuid() == 0:  # nothing is forbidden to root: the refusal itself is the stand-in
        monkeypatch.setattr(Path, "open", refuse)
    else:
        (tmp_path / "a.csv").chmod(0)
    assert error_of(source(tmp_path).client, 0, 1) == f"{tmp_path / 'a.csv'}: cannot be read (Permission denied)"
    if os.geteuid() == 0:
        monkeypatch.setattr(Path, "iterdir", refuse)
    else:
        tmp_path.chmod(0)
    assert error_of(source(tmp_path).client, 0, 1) == (
        f"{tmp_path}: cannot be read (Permission denied); check its permissions"
    )


def test_one_bad_row_at_the_end_of_many_blocks_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("fl.data.csv_file.BLOCK_VALUES", 64)
    good = "".join(f'{k},"{k}\n",0\n' for k in range(500))  # a record is two lines
    line = csv_error(tmp_path, f"x,note,y\n{good}1,n,0,\n", features="x")
    assert line.startswith("a.csv, line 1002: fields: 4, but line 1 names 3 columns;")
    assert csv_error(tmp_path, f"x,note,y\n{good}zz,n,0\n", features="x").startswith(
        "a.csv, line 1002, column 'x': 'zz' is not a number"
    )


def test_npz_files_that_cannot_be_used(tmp_path):
    path = tmp_path / "a.npz"

    def message(**arrays):
        np.savez(path, **arrays)
        return error_of(source(path, "npz").client, 0, 1)

    assert message(x=np.ones(2), y=np.zeros(3)) == (
        "a.npz: arrays differ in rows (x 2, y 3); give each the same first axis"
    )
    assert message(x=np.ones(0), y=np.zeros(0)) == "a.npz: no rows"
    assert message(x=np.array([1, np.inf]), y=np.zeros(2)) == (
        "a.npz, row 2, column 'x': infinite; correct it, or leave it empty if it is missing"
    )
    assert message(x=np.array([[1, 2], [np.nan, 1]]), y=np.zeros(2)).startswith("a.npz, row 2, column 'x': no value;")
    assert message(x=np.array([1, None], dtype=object), y=np.zeros(2)).startswith(
        f"{path}: cannot be read as npz without pickles (Object arrays cannot be loaded"
    )
    path.write_bytes(b"PK nonsense")
    assert error_of(source(path, "npz").client, 0, 1).startswith(f"{path}: cannot be read as npz without pickles (")


def test_arrays_whose_shape_differs_between_files(tmp_path):
    for name, width in (("a", 2), ("b", 3)):
        np.savez(tmp_path / f"{name}.npz", x=np.ones((2, width)), y=np.zeros(2))
    line = error_of(source(tmp_path, "npz").client, 0, 1)
    assert line in {
        "b.npz: features of shape (3,) after others of (2,); make all files alike",
        "a.npz: features of shape (2,) after others of (3,); make all files alike",
    }


def test_parquet_files_that_cannot_be_used(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"

    def message(**columns):
        pq.write_table(pa.table(columns), path)
        return error_of(source(path, "parquet").client, 0, 1)

    assert message(x=[1, None], y=[0, 1]).startswith("a.parquet, row 2, column 'x': no value;")
    assert message(x=["1", "a"], y=[0, 1]).startswith("a.parquet, row 2, column 'x': 'a' is not a number")
    assert message(x=[1.0], z=[0]) == "a.parquet: no column 'y' (columns.target); choose one of: x, z"
    assert message(x=[[1, 2]], y=[0]) == (
        "a.parquet: column 'x' is list<element: int64>; store one plain value per row"
    )
    assert message(x=pa.array([], pa.int64()), y=pa.array([], pa.int64())) == "a.parquet: no rows"
    path.write_bytes(b"PAR1 nonsense")
    assert error_of(source(path, "parquet").client, 0, 1).startswith(f"{path}: cannot be read as Parquet (")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    assert error_of(source(path, "parquet").client, 0, 1) == (
        f"{path}: Parquet needs pyarrow; pip install 'fedshard[parquet]'"
    )


def test_references_that_lack_something():
    def opened(reference, **options):
        return error_of(lambda: open_source(reference, partitioner=Iid(), seed=0, **options))

    assert opened("csv:somewhere") == "data csv:somewhere: columns.target is missing; name the column to learn"
    assert opened("csv:", spec=spec(target="y")) == "data csv:: name a file or folder"
    assert opened("sklearn:iris", task="regression") == "data sklearn:iris: a classification, but task = 'regression'"
    assert opened("nowhere").startswith("data nowhere: no installed package offers it (choose one of: ")
