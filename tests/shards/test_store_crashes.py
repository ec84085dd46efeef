"""A store whose writer is killed, whose disk fills up or whose power fails, at every step of every commit."""

import itertools
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import tables
from faults import At, Disk, full, killed_at, watched
from tables import same

from shards.disk import DiskFullError
from shards.files import FolderFiles
from shards.layout import Cut, Layout, Leaf
from shards.request import Request
from shards.store import Store
from shards.table import Table, concat

EVERYTHING = Request.everything()


def table(ids):
    """Return rows with few columns: what is written matters less here than how often."""
    rows = tables.table(ids)
    keys = {name: rows.keys[name] for name in ("region", "label")}
    return Table(rows.ids, keys, {"features": rows.columns["features"]})


ROWS = concat([table(range(40)), table([90, 91])])
LAYOUT = Layout(Cut("region", frozenset({"north"}), Leaf(), Cut("label", 0, Leaf(), Leaf())))
SOUTH = EVERYTHING.where(region="south")
WORK = {
    "append": (lambda store: store.append(table([70, 71])), concat([ROWS, table([70, 71])])),
    "recut": (lambda store: store.recut(Layout.hashed(3)), ROWS),
    "compact": (lambda store: store.compact(), ROWS),
    "purge": (lambda store: store.purge(SOUTH), ROWS.take(~SOUTH.mask(ROWS))),
}


@pytest.fixture
def scratch():
    """Return a folder in memory where there is one: a thousand commits need no disk to tell right from wrong."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def template(scratch):
    folder = scratch / "template"
    store = Store.create(FolderFiles(folder), table(range(40)), LAYOUT)
    store.append(table([90, 91]))
    return folder


def holds(folder, *possible):
    """Check that a store opens, holds the rows of one of the tables and nothing else; return which."""
    store = Store.open(FolderFiles(folder))
    store.verify()
    read = store.read(EVERYTHING).table
    which = next(number for number, rows in enumerate(possible) if read.ids.tolist() == rows.ids.tolist())
    same(read, possible[which])
    names = {path.name for path in folder.iterdir()} - {"lock"}
    assert len(names) == len(store.zones) + 1
    return which


def goes_on(folder):
    """Check that the store can be written to."""
    store = Store.open(FolderFiles(folder))
    before = sum(zone.rows for zone in store.zones)
    store.append(table([1000]))
    assert sum(zone.rows for zone in store.zones) == before + 1


@pytest.mark.parametrize("name", WORK)
def test_a_writer_killed_at_any_step_leaves_the_old_rows_or_the_new(name, template, scratch):
    work, after = WORK[name]
    seen = []
    for step in itertools.count():
        folder = scratch / f"{step}"
        shutil.copytree(template, folder)
        killed = killed_at(step, work, Store(FolderFiles(folder)))
        seen.append(holds(folder, ROWS, after) if name in ("append", "purge") else holds(folder, ROWS))
        goes_on(folder)
        shutil.rmtree(folder)
        if not killed:
            break
    assert step > 15
    assert seen == sorted(seen)


@pytest.mark.parametrize("name", WORK)
def test_a_disk_that_fills_up_at_any_step_leaves_the_old_rows_and_says_so(name, template, scratch):
    work, after = WORK[name]
    failures = 0
    for step in itertools.count():
        folder = scratch / f"{step}"
        shutil.copytree(template, folder)
        injected = At(step, full)
        told = True
        with watched(injected), suppress(DiskFullError):
            work(Store(FolderFiles(folder)))
            told = False
        failures += told
        which = holds(folder, ROWS, after)
        if name == "append":
            assert which == (0 if told else 1)
        goes_on(folder)
        shutil.rmtree(folder)
        if injected.left >= 0:
            break
    assert failures > 5


def test_a_store_whose_creation_was_cut_short_can_be_created_again(scratch):
    for step in itertools.count():
        folder = scratch / f"{step}"
        killed = killed_at(step, Store.create, FolderFiles(folder), ROWS, LAYOUT)
        if not Store.exists(FolderFiles(folder)):
            Store.create(FolderFiles(folder), ROWS, LAYOUT)
        holds(folder, ROWS)
        if not killed:
            break
    assert step > 15


@pytest.mark.parametrize("name", WORK)
def test_the_power_may_fail_at_any_step(name, template, scratch):
    work, after = WORK[name]
    disk = Disk(template)
    left = []

    def fail():
        for eager in (False, True):
            left.append(scratch / f"{len(left)}")
            disk.after_power_failure(left[-1], eager)

    def before(call, arguments):
        fail()
        disk(call, arguments)

    with watched(before):
        work(Store(FolderFiles(template)))
    fail()
    assert len(left) > 30
    for folder in left[:-2]:
        holds(folder, ROWS, after)
    for folder in left[-2:]:  # it returned: now nothing may be lost any more, and what is purged not come back
        assert name != "purge" or len(list(folder.glob("manifest-*"))) == 1
        holds(folder, after)
        goes_on(folder)
