"""Reading files: what comes out, by hand and by property; errors are in test_data_errors.py."""

import csv
import gzip
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.data import DataSpec, Iid, Quantity, open_source
from fl.data import csv_file as csv_module
from fl.data.files import FileRows
from shards.errors import InputError


def spec(**keys):
    return DataSpec.read({f"columns.{key.replace('__', '.')}": value for key, value in keys.items()})


def read(path, meaning, task="classification", form="csv"):
    return FileRows(form, path, meaning, task, Iid(), 0).everything()


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


HOSPITAL = """\
age,sex,chol,visit,ward,disease
60,f,200,2020-01-02,north,0
30,m,,2020-01-01T12:00,south,1

45,f,800,2020-01-03 06:30:00,north,1
"""


def test_a_file_by_hand(tmp_path):
    meaning = spec(
        target="disease",
        time="visit",
        region="ward",
        missing="indicate",
        bounds__age="0..120",
        bounds__chol="0..400",
        categories__sex="f|m",
        fill__chol=100,
    )
    records = read(write(tmp_path / "a.csv", HOSPITAL), meaning)
    # age / 120; one-hot sex; chol / 400, clipped, filled with 100; whether chol was missing
    assert records.features.tolist() == [[0.5, 1, 0, 0.5, 0], [0.25, 0, 1, 0.25, 1], [0.375, 1, 0, 1, 0]]
    assert records.features.dtype == np.float32
    assert records.labels.tolist() == [0, 1, 1]
    assert records.keys["region"].tolist() == ["north", "south", "north"]
    assert records.keys["class"].tolist() == [0, 1, 1]
    expected = np.array(["2020-01-02", "2020-01-01T12:00", "2020-01-03T06:30"], "datetime64[us]")
    assert np.array_equal(records.keys["time"], expected)
    assert np.diff(records.ids).tolist() == [1, 1]


def test_features_go_by_default_to_every_numeric_column_without_another_role(tmp_path):
    path = write(tmp_path / "a.csv", "id,name,empty,x,y,when\n7,Ann,NA,1,0,0\n3,Bob,,2,1,60\n")
    records = read(path, spec(target="y", id="id", time="when", fill__empty=9))
    assert records.features.tolist() == [[9, 2], [9, 1]]  # by id
    assert records.ids.tolist() == [3, 7]
    assert records.keys["time"].tolist() == np.array([60, 0], "datetime64[s]").astype("datetime64[us]").tolist()


def test_features_named_come_in_their_own_order_and_others_are_not_even_looked_at(tmp_path):
    path = write(tmp_path / "a.csv", "x,z,broken,y\n1,2,??,0\n3,4,oops,1\n")
    assert read(path, spec(target="y", features="z, x")).features.tolist() == [[2, 1], [4, 3]]


def test_regression_keeps_the_targets_unit(tmp_path):
    path = write(tmp_path / "a.csv", "x,y\n1,-3.5\n2,1e6\n")
    records = read(path, spec(target="y"), "regression")
    assert records.labels.tolist() == [-3.5, 1e6]
    assert records.labels.dtype == np.float32
    assert "class" not in records.keys


def test_a_text_target_is_the_position_among_its_categories(tmp_path):
    path = write(tmp_path / "a.csv", "x,y\n1, walk\n2,sit\n3,walk\n")
    assert read(path, spec(target="y", categories__y="sit|walk")).labels.tolist() == [1, 0, 1]


def test_dropping_leaves_complete_rows_with_the_ids_they_had(tmp_path):
    path = write(tmp_path / "a.csv", "x,y,ward\n1,0,n\n?,1,n\n3,,n\n4,1,\n5,1,s\n")
    everything = read(write(tmp_path / "whole" / "a.csv", "x,y,ward\n" + "1,0,n\n" * 5), spec(target="y"))
    kept = read(path, spec(target="y", region="ward", missing="drop"))
    assert kept.features.ravel().tolist() == [1, 5]
    assert kept.ids.tolist() == everything.ids[[0, 4]].tolist()


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "whole").mkdir()


def test_zoned_times_become_utc_and_need_no_order(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "x,y,t\n1,0,2020-06-01T12:00:00+02:00\n1,0,2020-01-01T00:00Z\n1,0,2020-01-01T00:00-05:30\n",
    )
    times = read(path, spec(target="y", time="t")).keys["time"]
    expected = ["2020-06-01T10:00", "2020-01-01T00:00", "2020-01-01T05:30"]
    assert times.tolist() == np.array(expected, "datetime64[us]").tolist()


def test_quoted_line_breaks_byte_order_marks_and_gzip_are_read(tmp_path):
    text = '\ufeffx,note,y\r\n1,"two\r\nlines, and a comma",0\r\n2,b,1\r\n'
    plain, packed = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    plain.write_bytes(text.encode())
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (plain, packed):
        records = read(path, spec(target="y", features="x"))
        assert records.features.ravel().tolist() == [1, 2]
    assert read(plain, spec(target="y")).ids.tolist() == read(packed, spec(target="y")).ids.tolist()


def test_ids_depend_on_file_name_and_row_alone(tmp_path):
    write(tmp_path / "a.csv", "x,y\n1,0\n2,1\n")
    before = read(tmp_path / "a.csv", spec(target="y"))
    write(tmp_path / "a.csv", "x,y\n1,0\n2,1\n3,1\n")
    write(tmp_path / "0.csv", "x,y\n9,0\n")
    folder = FileRows("csv", tmp_path, spec(target="y"), "classification", Iid(), 0)
    after = folder.everything()
    assert set(before.ids) < set(after.ids)
    assert len(set(after.ids)) == 4
    assert after.features[np.isin(after.ids, before.ids)].ravel().tolist() == [1, 2]
    assert folder(1, 2).ids.tolist() == [n for n in after.ids.tolist() if n in folder(1, 2).ids]
    assert (np.diff(after.ids) > 0).all()
    assert after.ids.min() >= 0


def test_id_columns_keep_numbers_and_digest_texts(tmp_path):
    path = write(tmp_path / "a.csv", "x,y,id\n1,0,12\n2,1,a-7\n3,1,99999999999999999999\n4,1,-5\n")
    ids = read(path, spec(target="y", id="id")).ids
    assert ids[:2].tolist() == [-5, 12]
    other = write(tmp_path / "b.csv", "x,y,id\n7,0,a-7\n")
    assert read(other, spec(target="y", id="id")).ids[0] in ids[2:]


def test_one_file_per_client_in_the_order_of_their_names(tmp_path):
    for index, name in enumerate(["c.csv", "a.csv.gz", "b.csv", ".hidden.csv", "notes.txt"]):
        data = f"x,y\n{index},0\n".encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    source = open_source(f"csv:{tmp_path}", partitioner=Iid(), seed=0, spec=spec(target="y"))
    assert [source.client(k, 3).features.item() for k in range(3)] == [1, 2, 0]
    assert source.client(0, 2).features.ravel().tolist() in ([1, 0], [0, 1])  # dealt in turn: a and c
    assert len(source.client(0, 1)) == 3
    assert source.test() is None


def test_a_path_with_a_place_for_the_client_holds_that_clients_rows_alone(tmp_path):
    write(tmp_path / "0.csv", "x,y\n1,0\n2,0\n")
    (tmp_path / "1.csv").mkdir()
    write(tmp_path / "1.csv" / "a.csv", "x,y\n3,0\n")
    source = open_source(f"csv:{tmp_path}/{{client}}.csv", partitioner=Iid(), seed=0, spec=spec(target="y"))
    assert [source.client(k, 3).features.ravel().tolist() for k in range(2)] == [[1, 2], [3]]
    with pytest.raises(InputError, match=r"2\.csv: no such file or folder"):
        source.client(2, 3)


def test_a_client_column_deals_one_file_or_several(tmp_path):
    write(tmp_path / "a.csv", "x,y,who\n1,0,ann\n2,0,bob\n3,0,ann\n")
    write(tmp_path / "b.csv", "who,y,x\ncid,0,4\nann,0,5\n")
    source = open_source(f"csv:{tmp_path}", partitioner=Iid(), seed=0, spec=spec(target="y", client="who"))
    parts = [sorted(source.client(k, 3).features.ravel().tolist()) for k in range(3)]
    assert parts == [[1, 3, 5], [2], [4]]
    assert set(source.client(0, 3).keys["client"]) == {"ann"}


def test_a_single_file_is_dealt_by_the_partitioner(tmp_path):
    path = write(tmp_path / "a.csv", "x,y\n" + "".join(f"{k},{k % 2}\n" for k in range(100)))
    source = open_source(f"csv:{path}", partitioner=Quantity(1.0), seed=3, spec=spec(target="y"))
    parts = [source.client(k, 4).features.ravel() for k in range(4)]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(100))
    assert len({len(part) for part in parts}) > 1


def test_test_rows_may_come_from_a_file_and_relative_paths_start_at_the_apps_folder(tmp_path):
    write(tmp_path / "a.csv", "x,y\n1,0\n2,1\n")
    write(tmp_path / "test.csv", "x,y\n5,1\n")
    source = open_source(
        "csv:a.csv", partitioner=Iid(), seed=0, spec=spec(target="y"), folder=tmp_path, test_reference="csv:test.csv"
    )
    assert source.test().features.tolist() == [[5]]
    assert len(source.client(0, 2)) == 1


def test_the_users_home_is_known(tmp_path, monkeypatch):
    write(tmp_path / "a.csv", "x,y\n1,0\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    source = open_source("csv:~/a.csv", partitioner=Iid(), seed=0, spec=spec(target="y"), folder=tmp_path / "whole")
    assert len(source.client(0, 1)) == 1


def test_opening_looks_at_no_file(tmp_path):
    source = open_source("csv:/nowhere", partitioner=Iid(), seed=0, spec=spec(target="y"))
    with pytest.raises(InputError, match="no such file or folder"):
        source.client(0, 2)


cells = st.floats(-1e6, 1e6, width=32) | st.none()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(cells, cells, st.integers(0, 4)), min_size=1, max_size=60), st.integers(1, 7))
def test_blocks_of_any_size_give_what_a_plain_loop_gives(tmp_path_factory, rows, block):
    path = tmp_path_factory.mktemp("rows") / "a.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["p", "q", "y"])
        writer.writerows([["" if cell is None else repr(cell) for cell in row] for row in rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_module, "BLOCK_VALUES", 3 * block)
        filled = read(path, spec(target="y", features="p, q", fill__p=0.5, fill__q=-1, missing="indicate"))
        complete = [row for row in rows if None not in row]
        dropped = read(path, spec(target="y", features="p, q", missing="drop")) if complete else None
    expected = [
        [0.5 if p is None else p, -1 if q is None else q, float(p is None), float(q is None)] for p, q, _ in rows
    ]
    assert np.array_equal(filled.features, np.array(expected, np.float32))
    assert filled.labels.tolist() == [row[2] for row in rows]
    if dropped is not None:
        assert np.array_equal(dropped.features, np.array([row[:2] for row in complete], np.float32))


def test_npz_arrays_of_any_shape_and_type(tmp_path):
    images = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.savez(tmp_path / "a.npz", pixels=images, digit=np.array([4, 2]), writer=np.array(["x", "y"]))
    records = read(tmp_path / "a.npz", spec(target="digit", user="writer", bounds__pixels="0..17"), form="npz")
    assert records.features.shape == (2, 3, 3)
    assert np.allclose(records.features, images / 17)
    assert records.labels.tolist() == [4, 2]
    assert records.keys["user"].tolist() == ["x", "y"]
    images = np.array([[1, np.nan], [2, 3]])
    np.savez(tmp_path / "c.npz", x=images, y=np.zeros(2, int))
    holes = read(tmp_path / "c.npz", spec(target="y", fill__x=7, missing="indicate"), form="npz")
    assert holes.features.tolist() == [[1, 7, 1], [2, 3, 0]]
    np.savez(tmp_path / "b.npz", wide=np.ones((2, 2)), one=np.zeros(2), y=np.array([0.5, 1.5]))
    both = read(tmp_path / "b.npz", spec(target="y", features="one, wide"), "regression", "npz")
    assert both.features.tolist() == [[0, 1, 1], [0, 1, 1]]


def test_npz_booleans_and_byte_strings_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([True, False]), y=np.array([False, True]), who=np.array([b"x", b"y"]))
    records = read(tmp_path / "a.npz", spec(target="y", user="who", bounds__x="0..2"), form="npz")
    assert records.features.tolist() == [[0.5], [0]]
    assert records.labels.tolist() == [0, 1]
    assert records.keys["user"].tolist() == ["x", "y"]


def test_parquet_gives_what_csv_gives(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv as arrow_csv

    meaning = spec(
        target="disease", time="visit", region="ward", categories__sex="f|m", fill__chol=100, missing="indicate"
    )
    path = write(
        tmp_path / "a.csv", HOSPITAL.replace("\n\n", "\n").replace(" 06", "T06").replace("02,n", "02T00:00,n")
    )
    table = arrow_csv.read_csv(path)
    moments = pa.array(["2020-01-02", "2020-01-01T12:00", "2020-01-03T06:30"]).cast(pa.timestamp("ns"))
    table = table.set_column(3, "visit", moments.cast(pa.timestamp("us", "Europe/Paris")))
    pq.write_table(table.set_column(1, "sex", table["sex"].dictionary_encode()), tmp_path / "a.parquet")
    ours, theirs = read(path, meaning), read(tmp_path / "a.parquet", meaning, form="parquet")
    for name in ("features", "labels", "ids"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    for name in ours.keys:
        assert np.array_equal(ours.keys[name], theirs.keys[name]), name


def test_reading_needs_little_memory_beyond_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_module, "BLOCK_VALUES", 2**12)
    width, count = 40, 20_000
    line = ",".join(["0.12345678"] * width)
    path = write(
        tmp_path / "a.csv",
        ",".join(f"c{k}" for k in range(width)) + ",y\n" + f"{line},1\n" * count + f"{line},oops\n",
    )
    rows = FileRows("csv", path, spec(target="y"), "classification", Iid(), 0)
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        rows.everything()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith(f"a.csv, line {count + 2}, column 'y': 'oops' is not a number")
    features, others = width * count * 4, 4 * 8 * count  # label, class, id, and room
    block = csv_module.BLOCK_VALUES * 160  # a list cell, its text, and its float64
    assert peak < 1.3 * features + others + 2 * block
