import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import layouts, requests, same, table

from shards.errors import InputError
from shards.files import FolderFiles, MemoryFiles
from shards.layout import Cut, Layout, Leaf
from shards.request import Request
from shards.store import Store
from shards.table import Ragged, Table, concat

EVERYTHING = Request.everything()
NORTH = Cut("region", frozenset({"north"}), Leaf(), Leaf())


@pytest.fixture(params=["folder", "memory"])
def files(request, tmp_path):
    return FolderFiles(tmp_path / "store") if request.param == "folder" else MemoryFiles()


def said(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 20)),
        st.tuples(st.just("recut"), layouts()),
        st.tuples(st.just("compact"), st.none()),
        st.tuples(st.just("purge"), requests()),
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), layouts(), steps, st.lists(requests(), min_size=1, max_size=4))
def test_a_read_gives_the_rows_that_a_filter_without_shards_gives(rows, layout, history, wanted):
    plain = table(range(rows))
    store = Store.create(MemoryFiles(), plain, layout)
    for step, argument in history:
        if step == "append":
            new = table(range(rows + 100, rows + 100 + argument))
            rows += 100 + argument
            plain = concat([plain, new])
            store.append(new)
        elif step == "purge":
            gone = argument.mask(plain)
            plain = plain.take(~gone)
            assert store.purge(argument) == gone.sum()
        elif step == "recut":
            store.recut(argument)
        else:
            store.compact()
    store.verify()
    same(store.keys(), Table(plain.ids, plain.keys))
    for request in wanted:
        read = store.read(request)
        expected = plain.take(request.mask(plain))
        same(read.table, expected)
        assert (read.scan.rows, read.scan.bytes_matching) == (len(expected), expected.nbytes)
        assert read.scan.bytes_read >= read.scan.bytes_matching
        assert read.scan.opened <= read.scan.shards == len(store.zones)
    same(store.read(EVERYTHING).table, plain)


def test_a_store_says_the_same_after_it_is_opened_again(files):
    rows = table(range(50))
    Store.create(files, rows, Layout(NORTH)).append(table([100, 99]))
    store = Store.open(files)
    assert (store.generation, store.layout, len(store.zones)) == (2, Layout(NORTH), 3)
    same(store.read(EVERYTHING).table, concat([rows, table([99, 100])]))


def test_only_shards_that_may_match_are_opened():
    rows = table(range(50))
    store = Store.create(MemoryFiles(), rows, Layout(NORTH))
    scan = store.read(EVERYTHING.where(region="north")).scan
    north = rows.take(rows.keys["region"] == "north")
    assert (scan.shards, scan.opened, scan.rows) == (2, 1, len(north))
    assert scan.bytes_read == scan.bytes_matching == north.nbytes
    assert store.read(EVERYTHING.where(region="nowhere")).scan.opened == 0


def test_an_append_is_one_shard_that_a_compaction_takes_in():
    store = Store.create(MemoryFiles(), table(range(50)), Layout(NORTH))
    before = store.zones
    assert store.append(table([200, 201])) == table([200, 201]).nbytes
    assert store.zones[:2] == before
    assert len(store.zones) == 3
    store.compact()
    assert len(store.zones) == 2
    assert store.append(table([])) == 0


def test_a_recut_writes_only_boxes_that_change(files):
    rows = table(range(50))
    store = Store.create(files, rows, Layout(NORTH))
    finer = Cut("region", frozenset({"north"}), Leaf(), Cut("label", 0, Leaf(), Leaf()))
    rest = rows.take(rows.keys["region"] != "north")
    kept = {name for name in files.names() if name.endswith(".safetensors")}
    assert store.recut(Layout(finer)) == rest.nbytes
    assert len(kept & set(files.names())) == 1
    assert store.recut(Layout(finer)) == 0
    assert store.recut(Layout.single()) == rows.nbytes


def test_equal_rows_are_written_to_equal_files_whatever_the_way_there():
    one, other = MemoryFiles(), MemoryFiles()
    Store.create(one, table(range(60)), Layout(NORTH))
    store = Store.create(other, table(range(30)), Layout.hashed(3))
    store.append(table(range(30, 60)))
    store.recut(Layout(NORTH))
    assert {n for n in one.names() if n.endswith("s")} == {n for n in other.names() if n.endswith("s")}


def test_a_pinned_generation_stays_as_it_was(files):
    rows = table(range(50))
    store = Store.create(files, rows, Layout(NORTH))
    with store.pin() as old:
        store.recut(Layout.hashed(4))
        store.append(table([70]))
        assert old.generation == 1
        same(old.read(EVERYTHING).table, rows)
        assert len(store.read(EVERYTHING).table) == 51
    store.compact()
    names = files.names()
    assert sum(name.startswith("manifest") for name in names) == 1
    assert sum(name.endswith(".safetensors") for name in names) == len(store.zones)


def test_purged_rows_leave_no_bytes_behind(files):
    rows = table(range(50))
    note = "a very recognisable sentence"
    rows.columns["note"] = rows.columns["note"].astype("U40")
    rows.columns["note"][7] = note
    store = Store.create(files, rows, Layout(NORTH))
    store.append(table([90]))

    def holding():
        return [name for name in files.names() if note.encode() in bytes(files.map(name))]

    assert holding()
    assert store.purge(EVERYTHING.where(id=[7, 90, 12345])) == 2
    assert not holding()
    assert len(store.keys()) == 49
    store.append(table([7]))
    store.verify()


def test_a_purge_says_when_a_reader_still_holds_the_rows(files):
    store = Store.create(files, table(range(50)))
    order = EVERYTHING.where(id=3)
    with store.pin():
        assert "1 rows removed, but a reader holds generation 1" in said(store.purge, order)
        assert store.read(order).scan.rows == 0
        assert "a reader holds generation 1" in said(store.purge, order)
        assert store.purge(EVERYTHING.where(id=99)) == 0
    assert store.purge(order) == 0
    assert sum(name.startswith("manifest") for name in files.names()) == 1


def test_what_was_read_belongs_to_the_reader(files):
    rows = table(range(50))
    store = Store.create(files, rows)
    mine = store.read(EVERYTHING).table
    for array in (mine.ids, mine.keys["label"], mine.columns["features"], mine.columns["tokens"].values):
        array[...] = 0
    same(store.read(EVERYTHING).table, rows)
    store.verify()


def test_keys_that_are_kept_do_not_keep_shards_mapped(tmp_path):
    store = Store.create(FolderFiles(tmp_path), table(range(50)), Layout.hashed(4))
    kept = store.keys()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert len(kept) == 50


def test_a_store_larger_than_the_memory_its_process_may_use_is_read_by_window(tmp_path):
    rows = Table(np.arange(2**15), {"time": np.arange(2**15)}, {"x": np.ones((2**15, 256), np.float32)})
    cuts = Leaf()
    for at in range(15, 0, -1):
        cuts = Cut("time", at * 2**11, Leaf(), cuts)
    Store.create(FolderFiles(tmp_path), rows, Layout(cuts))
    script = f"""
import resource
from pathlib import Path
from shards.files import FolderFiles
from shards.request import Request
from shards.store import Store
store = Store.open(FolderFiles({str(tmp_path)!r}))
line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (int(line.split()[1]) * 1024 + 2**23,) * 2)
for low in range(0, 2**15, 2**11):
    assert store.read(Request.everything().between("time", low + 5, low + 500)).table.columns["x"].sum() == 495 * 256
try:
    store.read(Request.everything())
except (MemoryError, OSError):
    print("too much")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "too much\n"


def test_what_was_read_outlives_the_files(tmp_path):
    rows = table(range(50))
    store = Store.create(FolderFiles(tmp_path), rows)
    read = store.read(EVERYTHING).table
    store.purge(EVERYTHING)
    assert not list(tmp_path.glob("*.safetensors"))
    same(read, rows)


def test_values_at_the_edges_of_their_types_come_back(files):
    rows = Table(
        np.array([-(2**63), 0, 2**63 - 1]),
        {"k": np.array([-(2**63), 0, 2**63 - 1], ">i8"), "t": np.array(["", "\ud800", "日本"], ">U9")},
        {
            "empty": np.zeros((3, 0), np.float32),
            "half": np.array([np.nan, np.inf, -0.0], ">f2"),
            "flags": np.array([[True], [False], [True]]),
            "all blank": np.array(["", "", ""]),
            "big": np.array([0, 2**64 - 1, 1], np.uint64),
            "strided": np.arange(12, dtype=np.int8)[::-2].reshape(3, 2),
            "nothing": Ragged(np.zeros((0, 2), np.int16), np.zeros(4, np.int64)),
        },
    )
    store = Store.create(files, rows, Layout(Cut("k", 0, Leaf(), Leaf())))
    same(store.read(EVERYTHING).table, rows)
    assert store.read(EVERYTHING.where(t=["日本", "\ud800"])).table.ids.tolist() == [0, 2**63 - 1]
    assert store.read(EVERYTHING.where(id=2**63 - 1)).scan.rows == 1
    assert "record id 0 is in the store" in said(store.append, rows.take(slice(1, 2)))
    store.recut(Layout.hashed(2))
    same(store.read(EVERYTHING).table, rows)


def test_an_empty_store_takes_rows_later(files):
    store = Store.create(files, table([]), Layout(NORTH))
    same(store.read(EVERYTHING.where(label=1)).table, table([]))
    store.append(table(range(5)))
    same(store.read(EVERYTHING).table, table(range(5)))


def test_rows_that_do_not_fit_the_store_are_refused(files):
    rows = table(range(50))
    store = Store.create(files, rows)
    assert "record id 49 is in the store; purge it first to replace it" in said(store.append, table([49, 50]))
    assert "key 'region' is missing in these rows and str in the store" in said(
        store.append, Table(np.array([99]), {n: k[:1] for n, k in rows.keys.items() if n != "region"}, {})
    )
    doubles = {**table([99]).columns, "features": np.zeros((1, 2, 4))}
    assert "column 'features' is array float64[2, 4] in these rows and array float32[2, 4] in the store" in said(
        store.append, Table(np.array([99]), table([99]).keys, doubles)
    )
    assert "no key 'regoin': did you mean 'region'?" in said(store.read, EVERYTHING.where(regoin="north"))
    assert "no key 'regoin'" in said(store.recut, Layout(Cut("regoin", "n", Leaf(), Leaf())))
    nothing = Table(np.arange(2), {"age": np.array([np.nan, np.nan])})
    assert "key 'age' has no value in any row" in said(Store.create, MemoryFiles(), nothing)
    assert "holds a shard store already" in said(Store.create, files, rows)
    same(Store.open(files).read(EVERYTHING).table, rows)
