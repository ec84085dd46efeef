"""Several processes on one store."""

import os
import signal
import subprocess
import sys

import pytest
from tables import same, table

from shards.errors import InputError
from shards.files import FolderFiles, MemoryFiles
from shards.layout import Layout
from shards.request import Request
from shards.store import Store
from shards.table import concat

EVERYTHING = Request.everything()
ROWS = table(range(30))


@pytest.fixture
def folder(tmp_path):
    Store.create(FolderFiles(tmp_path), ROWS, Layout.hashed(3))
    return tmp_path


def in_another_process(work):
    """Run `work` in a forked child up to its `yield`, and let it wait there; return its process id."""
    ready, started = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for _ in work():
                os.write(started, b"!")
                signal.pause()
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"!"
    os.close(ready)
    os.close(started)
    return child


def end(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_second_writer_is_told_so_in_one_line_and_may_write_when_the_first_has_died(folder):
    def work():
        with FolderFiles(folder).writing():
            yield

    child = in_another_process(work)
    impatient = Store.open(FolderFiles(folder, patience_s=0.05))
    with pytest.raises(InputError) as error:
        impatient.append(table([99]))
    assert str(error.value) == (
        f"{folder}: another process is writing to this store; wait until it ends, then try again"
    )
    same(impatient.read(EVERYTHING).table, ROWS)  # readers do not wait for a writer
    end(child)
    impatient.append(table([99]))
    same(impatient.read(EVERYTHING).table, concat([ROWS, table([99])]))


def test_a_second_writer_in_the_same_process_waits_as_well():
    files = MemoryFiles(patience_s=0.01)
    store = Store.create(files, ROWS)
    with files.writing(), pytest.raises(InputError, match="another process is writing"):
        store.append(table([99]))


def test_a_pin_ends_with_the_process_that_holds_it(folder):
    def work():
        with Store.open(FolderFiles(folder)).pin():
            yield

    child = in_another_process(work)
    store = Store.open(FolderFiles(folder))
    with pytest.raises(InputError, match="a reader holds generation 1"):
        store.purge(EVERYTHING.where(id=3))
    store.append(table([99]))  # no writer waits for a reader
    end(child)
    assert store.purge(EVERYTHING.where(id=3)) == 0
    assert len(list(folder.glob("manifest-*"))) == 1


def test_writers_take_turns_and_readers_always_see_a_whole_generation(folder):
    script = """
import sys
from tables import table
from shards.files import FolderFiles
from shards.layout import Layout
from shards.store import Store
store = Store.open(FolderFiles(sys.argv[1], patience_s=60))
for turn in range(6):
    first = 1000 * int(sys.argv[2]) + 10 * turn
    store.append(table(range(first, first + 10)))
    store.recut(Layout.hashed(1 + turn % 4))
"""
    path = os.pathsep.join(["tests/support", "."])
    command = [sys.executable, "-c", script, str(folder)]
    writers = [subprocess.Popen([*command, str(n)], env={**os.environ, "PYTHONPATH": path}) for n in (1, 2)]
    store = Store.open(FolderFiles(folder))
    sizes = []
    while any(writer.poll() is None for writer in writers):
        with store.pin() as snapshot:
            read = snapshot.read(EVERYTHING).table
            assert len(read) == len(snapshot)
            sizes.append(len(read))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sizes == sorted(sizes)
    expected = [*range(30), *(1000 * n + row for n in (1, 2) for row in range(60))]
    same(store.read(EVERYTHING).table, table(expected))
    store.verify()


def test_leftovers_of_a_writer_at_work_are_left_alone(folder):
    leftover = folder / ("0" * 64 + ".safetensors.tmp")
    leftover.touch()
    with FolderFiles(folder).writing():
        Store.open(FolderFiles(folder))
        assert leftover.exists()
    Store.open(FolderFiles(folder))
    assert not leftover.exists()


def test_files_of_others_in_the_folder_are_left_alone(folder):
    own = [folder / "model.safetensors", folder / "notes.json.tmp"]
    for path in own:
        path.touch()
    Store.open(FolderFiles(folder)).compact()
    assert all(path.exists() for path in own)
