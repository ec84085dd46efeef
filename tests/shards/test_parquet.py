import builtins
import importlib

import numpy as np
import pytest
from tables import DAY0, REGIONS, same, table

from shards.errors import InputError
from shards.files import MemoryFiles
from shards.layout import Cut, Layout, Leaf
from shards.parquet import export_parquet, import_parquet
from shards.request import Request
from shards.store import Store
from shards.table import Ragged, Table, concat

arrow = pytest.importorskip("pyarrow")
parquet = importlib.import_module("pyarrow.parquet")

EVERYTHING = Request.everything()
LAYOUT = Layout(Cut("region", frozenset({"north"}), Leaf(), Leaf(2)), b"salt")
ROWS = concat([table(range(40)), table([90, 91])])


@pytest.fixture
def store():
    store = Store.create(MemoryFiles(), table(range(40)), LAYOUT)
    store.append(table([90, 91]))
    return store


def said(path, columns, **arguments):
    parquet.write_table(arrow.table(columns), path)
    with pytest.raises(InputError) as error:
        import_parquet(path, MemoryFiles(), **arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_store_that_goes_through_parquet_is_the_same_store(store, tmp_path):
    assert export_parquet(store, tmp_path / "all.parquet") == 42
    back = import_parquet(tmp_path / "all.parquet", MemoryFiles())
    same(back.read(EVERYTHING).table, ROWS)
    assert back.layout == LAYOUT
    store.compact()
    assert [zone.bytes for zone in back.zones] == [zone.bytes for zone in store.zones]
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet"]


def test_a_request_is_exported_alone_and_an_empty_one_too(store, tmp_path):
    request = EVERYTHING.where(region="south")
    export_parquet(store, tmp_path / "south.parquet", request)
    same(
        import_parquet(tmp_path / "south.parquet", MemoryFiles()).read(EVERYTHING).table,
        ROWS.take(request.mask(ROWS)),
    )
    assert export_parquet(store, tmp_path / "none.parquet", EVERYTHING.where(id=-1)) == 0
    same(import_parquet(tmp_path / "none.parquet", MemoryFiles()).read(EVERYTHING).table, table([]))


def test_other_tools_read_the_export_and_can_prune_it_by_shard(store, tmp_path):
    export_parquet(store, tmp_path / "all.parquet")
    frame = parquet.read_table(tmp_path / "all.parquet", filters=[("region", "==", "north")])
    assert sorted(frame["id"].to_pylist()) == ROWS.ids[ROWS.keys["region"] == "north"].tolist()
    assert str(frame.schema.field("time").type) == "timestamp[us, tz=UTC]"
    assert parquet.ParquetFile(tmp_path / "all.parquet").num_row_groups == len(store.zones)


def test_a_file_of_another_tool_is_imported_by_naming_its_columns(tmp_path):
    zoned = arrow.array([DAY0.item()] * 2, arrow.timestamp("ns", "Asia/Shanghai"))
    columns = {
        "person": arrow.array([7, 5], arrow.int16()),
        "when": zoned,
        "day": arrow.array([DAY0.item().date()] * 2),
        "where": arrow.array(list(REGIONS[1:3])).dictionary_encode(),
        "image": arrow.array([[[1.0, 2.0]], [[3.0, 4.0]]], arrow.list_(arrow.list_(arrow.float32(), 2), 1)),
        "words": arrow.array([[1, 2, 3], []]),
        "text": arrow.array(["a", "ö"]),
    }
    parquet.write_table(arrow.table(columns), tmp_path / "foreign.parquet")
    store = import_parquet(tmp_path / "foreign.parquet", MemoryFiles(), ["when", "day", "where"], "person")
    expected = Table(
        np.array([5, 7]),
        {"when": np.array([DAY0] * 2), "day": np.array([DAY0] * 2), "where": np.array(REGIONS[2:0:-1])},
        {
            "image": np.array([[[3, 4]], [[1, 2]]], np.float32),
            "words": Ragged(np.array([1, 2, 3]), np.array([0, 0, 3])),
            "text": np.array(["ö", "a"]),
        },
    )
    same(store.read(EVERYTHING).table, expected)
    numbered = import_parquet(tmp_path / "foreign.parquet", MemoryFiles(), ["where", "when", "day"])
    assert numbered.keys().ids.tolist() == [0, 1]


def test_a_file_that_cannot_be_imported_is_refused_in_one_line(tmp_path):
    path = tmp_path / "bad.parquet"
    assert "no column 'tmie': did you mean 'time'?" in said(path, {"time": [1]}, keys=["tmie"])
    assert "column 'age', row 2: no value; fill it in or drop the row" in said(path, {"age": [1, None]})
    assert "column 'l', all lists joined, row 2: no value" in said(path, {"l": [[1], [None]]})
    assert "column 'o' is struct" in said(path, {"o": [{"a": 1}]})
    assert "parts of a microsecond" in said(path, {"t": arrow.array([1], arrow.timestamp("ns"))}, keys=["t"])
    assert "record id 1 occurs more than once" in said(path, {"i": [1, 1]}, record_id="i")
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        import_parquet(path, MemoryFiles())


def test_a_name_that_parquet_could_not_tell_apart_is_refused(tmp_path):
    store = Store.create(MemoryFiles(), Table(np.arange(2), {"a": np.arange(2)}, {"a": np.arange(2)}))
    with pytest.raises(InputError, match="'a' names a key and a column"):
        export_parquet(store, tmp_path / "x.parquet")


def test_without_pyarrow_the_line_says_what_to_install(store, tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"Parquet needs pyarrow; pip install 'fedshard\[parquet\]'"):
        export_parquet(store, tmp_path / "x.parquet")
