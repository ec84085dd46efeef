"""The ledger when processes die, race and fork, the disk fills up, or the file is damaged."""

import os
import random
import signal
import sqlite3
import time

import numpy as np
import pytest

from fl.privacy import LedgerError, Mechanism, RecordLedger, rdp
from shards.errors import InputError

EVENT = Mechanism(0.05, 1.0, 20)
RECORDS = np.arange(50, dtype=np.int64)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def reply(number):
    return f"update {number} ".encode() * 5000


def in_child(work):
    """Run a function in a forked child; return its process id and the reading end of its pipe."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            work(write)
            code = 0
        finally:
            os._exit(code)  # no pytest in the child
    os.close(write)
    return child, read


def charge_for_ever(path, start):
    def work(pipe):
        ledger = RecordLedger(path)
        number = start
        while True:
            ledger.charge("a", f"r{number}", b"q", reply(number), EVENT, RECORDS)
            os.write(pipe, f"{number}\n".encode())
            number += 1

    return work


def test_every_returned_reply_survives_a_kill_at_any_moment(tmp_path):
    path, start, moments = tmp_path / "ledger.db", 0, random.Random(5)
    for _ in range(15):
        child, pipe = in_child(charge_for_ever(path, start))
        os.read(pipe, 1)  # it is under way
        time.sleep(moments.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(pipe) as lines:
            # The first number lost its first digit above; the others are whole.
            returned = max([start, *(int(line) for line in lines.readlines()[1:])])
        ledger = RecordLedger(path)
        charged = round(float(ledger.rdp("a", RECORDS[:1])[0, 0] / rdp(EVENT)[0]))
        assert charged in (returned + 1, returned + 2)  # the last may be charged and not yet returned
        newest = charged - 1
        assert ledger.released("a", f"r{newest}", b"q") == reply(newest)
        assert ledger.charge("a", f"r{returned}", b"q", reply(returned), EVENT, RECORDS) == reply(returned)
        ledger.close()
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
        start = charged
    assert start > 15


def test_killed_right_after_charging(tmp_path):
    path = tmp_path / "ledger.db"

    def work(pipe):
        RecordLedger(path).charge("a", "r1", b"q", b"bytes", EVENT, RECORDS)
        os.kill(os.getpid(), signal.SIGKILL)

    child, _ = in_child(work)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    ledger = RecordLedger(path)
    assert ledger.released("a", "r1", b"q") == b"bytes"
    np.testing.assert_array_equal(ledger.rdp("a", RECORDS[:1])[0], rdp(EVENT))


def test_processes_share_a_new_file(tmp_path):
    path = tmp_path / "ledger.db"

    def worker(name):
        def work(pipe):
            ledger = RecordLedger(path)
            for number in range(25):
                ledger.charge(name, f"r{number}", b"q", name.encode(), EVENT, RECORDS)
                ledger.charge("all", f"{name} r{number}", b"q", b"x", EVENT, RECORDS)

        return work

    children = [in_child(worker(f"client-{number}"))[0] for number in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    ledger = RecordLedger(path)
    np.testing.assert_array_equal(ledger.rdp("all", RECORDS[:1])[0], 100 * rdp(EVENT))
    np.testing.assert_array_equal(ledger.rdp("client-3", RECORDS[:1])[0], 25 * rdp(EVENT))


def test_an_open_ledger_may_be_used_on_both_sides_of_a_fork(tmp_path):
    ledger = RecordLedger(tmp_path / "ledger.db")
    ledger.charge("a", "before", b"q", b"x", EVENT, RECORDS)
    assert ledger.max_epsilon(1e-5) > 0
    child, _ = in_child(lambda pipe: ledger.charge("a", "child", b"q", b"x", EVENT, RECORDS))
    ledger.charge("a", "parent", b"q", b"x", EVENT, RECORDS)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(ledger.rdp("a", RECORDS[:1])[0], 3 * rdp(EVENT))


def test_synchronous_and_journal_are_the_durable_ones(tmp_path):
    ledger = RecordLedger(tmp_path / "ledger.db")
    with ledger._file.snapshot() as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert database.execute("PRAGMA busy_timeout").fetchone() == (30_000,)


def test_the_file_is_its_owners_alone(tmp_path):
    ledger = RecordLedger(tmp_path / "ledger.db")
    ledger.charge("a", "r1", b"q", b"x", EVENT, RECORDS)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_a_full_disk_charges_nothing(tmp_path):
    ledger = RecordLedger(tmp_path / "ledger.db")
    ledger.charge("a", "r1", b"q", b"small", EVENT, RECORDS)
    with ledger._file.snapshot() as database:
        database.execute("PRAGMA max_page_count = 30")
    with pytest.raises(LedgerError, match=r"ledger\.db: database or disk is full; nothing was charged") as caught:
        ledger.charge("a", "r2", b"q", bytes(500_000), EVENT, RECORDS[:3])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert ledger.released("a", "r1", b"q") == b"small"
    assert ledger.released("a", "r2", b"q") is None
    np.testing.assert_array_equal(ledger.rdp("a", RECORDS[:1])[0], rdp(EVENT))
    with ledger._file.snapshot() as database:
        database.execute("PRAGMA max_page_count = 1000000")
    assert ledger.charge("a", "r2", b"q", bytes(500_000), EVENT, RECORDS[:3]) == bytes(500_000)


def test_a_real_write_failure_charges_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "ledger.db"
    RecordLedger(path).charge("a", "r1", b"q", b"small", EVENT, RECORDS)

    def work(pipe):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        with pytest.raises(LedgerError):
            RecordLedger(path).charge("a", "r2", b"q", bytes(500_000), EVENT, RECORDS)

    child, _ = in_child(work)
    assert os.waitpid(child, 0)[1] == 0
    ledger = RecordLedger(path)
    assert ledger.released("a", "r1", b"q") == b"small"
    assert ledger.released("a", "r2", b"q") is None


def overwrite(path, offset, content):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize("damage", ["text", "header", "pages", "packed set"])
def test_a_damaged_file_is_one_line(tmp_path, damage):
    path = tmp_path / "ledger.db"
    ledger = RecordLedger(path)
    ledger.charge("a", "r1", b"q", b"x", EVENT, np.arange(0, 90_000, 7))
    if damage == "packed set":
        with ledger._file.transaction() as database:
            database.execute("UPDATE cohort SET records = substr(records, 1, length(records) - 3)")
    ledger.close()
    if damage == "text":
        path.write_text("not a database, but long enough to be taken for one " * 20)
    elif damage == "header":
        overwrite(path, 0, b"\xff" * 100)
    elif damage == "pages":
        overwrite(path, 4096, b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(InputError, match=r"ledger\.db is damaged") as caught:
        RecordLedger(path).epsilons("a", RECORDS, 1e-5)
    assert "\n" not in str(caught.value)


def test_a_foreign_or_newer_file_is_refused(tmp_path):
    foreign, newer = tmp_path / "foreign.db", tmp_path / "newer.db"
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE guests (name TEXT)")
    with pytest.raises(InputError, match=r"foreign\.db is an SQLite file but not a privacy ledger"):
        RecordLedger(foreign).max_epsilon(1e-5)
    assert sqlite3.connect(foreign).execute("PRAGMA journal_mode").fetchone() == ("delete",)  # left as it was
    RecordLedger(newer).max_epsilon(1e-5)
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(InputError, match=r"newer\.db is a privacy ledger of version 9"):
        RecordLedger(newer).max_epsilon(1e-5)


def test_a_path_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(InputError, match=r"ledger\.db cannot be opened"):
        RecordLedger(tmp_path / "missing" / "ledger.db").max_epsilon(1e-5)
    with pytest.raises(InputError, match="cannot be opened"):
        RecordLedger(tmp_path).max_epsilon(1e-5)
