import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.log import Log, LogError
from shards.disk import DiskFullError
from shards.errors import InputError

SUPPORT = Path(__file__).parents[1] / "support"
KILLED, HALF_WRITTEN, POWER_CUT = 0, 1, 2


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.sqlite"


def damage(path, old, new):
    """Change bytes of the file itself, as a disk may."""
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def test_what_was_appended_is_found_again_in_order(path):
    with Log(path) as log:
        assert log.records() == []
        log.append([(5, b"five"), (2, b"two")])
        log.append([(3, b"")])
    with Log(path) as log:
        assert log.records() == [b"five", b"two", b""]
        assert log.dropped == 0


def test_forget_removes_what_was_appended_before_it_and_no_more(path):
    with Log(path) as log:
        log.append([(1, b"a"), (3, b"c"), (2, b"b")])
        log.forget(2)
        log.append([(2, b"later")])
        assert log.records() == [b"c", b"later"]
        log.forget(9)
        assert log.records() == []
        log.append([(10, b"new")])
    with Log(path) as log:
        assert log.records() == [b"new"]


records = st.tuples(st.integers(0, 9), st.binary(max_size=40))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(records, max_size=4), st.none() | st.integers(0, 9), st.booleans()), max_size=8))
def test_a_log_behaves_like_a_list_across_reopening(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("log") / "log.sqlite"
    log, model = Log(path), []
    for appended, forgotten, reopen in steps:
        with log.transaction():
            log.append(appended)
            model += appended
            if forgotten is not None:
                log.forget(forgotten)
                model = [pair for pair in model if pair[0] > forgotten]
        if reopen:
            log.close()
            log = Log(path)
        assert log.records() == [record for _, record in model]
    log.close()


def test_a_transaction_that_fails_leaves_nothing(path):
    with Log(path) as log:
        log.append([(1, b"kept")])

        def fail():
            with log.transaction():
                log.append([(2, b"gone")])
                log.forget(1)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert log.records() == [b"kept"]


def test_a_log_is_open_in_one_process_at_a_time(path):
    with Log(path) as log:
        log.append([(1, b"x")])
        other = f"from pathlib import Path; from consensus.log import Log; Log(Path({str(path)!r}))"
        run = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
        assert "another process has this log open" in run.stderr
        with pytest.raises(InputError, match=r"log\.sqlite: another process has this log open"):
            Log(path)
    with Log(path) as log:
        assert log.records() == [b"x"]


def test_a_damaged_record_at_the_end_is_dropped_and_counted(path):
    with Log(path) as log:
        log.append([(1, b"first record"), (2, b"second record"), (3, b"third record")])
    damage(path, b"third record", b"third rEcord")
    with Log(path) as log:
        assert log.dropped == 1
        assert log.records() == [b"first record", b"second record"]
        log.append([(4, b"fourth")])
    with Log(path) as log:
        assert log.dropped == 0
        assert log.records() == [b"first record", b"second record", b"fourth"]


def test_a_damaged_record_in_the_middle_is_an_error_that_names_the_file(path):
    with Log(path) as log:
        log.append([(1, b"first record"), (2, b"second record"), (3, b"third record")])
    damage(path, b"second record", b"sEcond record")
    before = path.read_bytes()
    with pytest.raises(LogError, match=r"log\.sqlite: the log is damaged \(record 2 is, and record 3 "):
        Log(path)
    with pytest.raises(LogError):
        Log(path)
    assert path.read_bytes() == before


def test_a_changed_sequence_number_is_noticed_too(path):
    with Log(path) as log:
        log.append([(1, b"first"), (2, b"second")])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE records SET seq = 7 WHERE seq = 1")
    db.close()
    with pytest.raises(LogError, match="record 1"):
        Log(path)


@pytest.mark.parametrize("offset", [100, 4096, 4103, 8192 - 30])
def test_a_damaged_structure_never_gives_wrong_records(path, offset):
    with Log(path) as log:
        log.append([(n, b"%d" % n * 100) for n in range(100)])
        expected = log.records()
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x55
    path.write_bytes(data)
    found, said = [], "log.sqlite"
    try:
        with Log(path) as log:
            found = log.records()
    except (LogError, InputError) as error:
        said = str(error)
    assert found == expected[: len(found)]
    assert "log.sqlite" in said


def test_a_torn_side_file_gives_a_prefix(path, tmp_path):
    with Log(path) as log:
        for n in range(20):
            log.append([(n, b"record %d" % n)])
        expected = log.records()
        shutil.copytree(tmp_path, tmp_path / "crashed")
    side = tmp_path / "crashed" / "log.sqlite-wal"
    whole = side.read_bytes()
    for length in range(0, len(whole), 977):
        side.write_bytes(whole[:length])
        copy = tmp_path / f"copy{length}"
        shutil.copytree(tmp_path / "crashed", copy)
        with Log(copy / "log.sqlite") as log:
            found = log.records()
        assert found == expected[: len(found)]


def crashed(tmp_path, commits):
    """Make a log whose process was killed, so that its side file is still there; return its path and records."""
    folder = tmp_path / "crashed"
    with Log(tmp_path / "log.sqlite") as log:
        for n in range(commits):
            log.append([(n, b"record %02d" % n), (n, b"and another")])
        folder.mkdir()
        for file in tmp_path.glob("log.sqlite*"):
            shutil.copy(file, folder)
        return folder / "log.sqlite", log.records()


def test_an_undamaged_side_file_gives_everything(tmp_path):
    path, expected = crashed(tmp_path, 12)
    with Log(path) as log:
        assert log.records() == expected
    assert sorted(file.name for file in path.parent.iterdir()) == ["log.sqlite"]


@pytest.mark.parametrize("n", range(8))
def test_a_changed_byte_before_the_last_commits_of_the_side_file_is_an_error_that_stays(tmp_path, n):
    path, _ = crashed(tmp_path, 12)
    side = path.with_name("log.sqlite-wal")
    data = bytearray(side.read_bytes())
    data[data.index(b"record %02d" % n) + 8] ^= 1
    side.write_bytes(data)
    for _ in range(2):
        with pytest.raises(
            LogError, match=r"log\.sqlite: the log is damaged \(commits are cut off, see log\.sqlite-dam"
        ):
            Log(path)


def test_any_changed_byte_of_a_side_files_frames_gives_an_error_or_all_but_the_last_commits(tmp_path):
    path, expected = crashed(tmp_path, 6)
    side = path.with_name("log.sqlite-wal").read_bytes()
    for place in range(32, len(side), 1013):
        copy = tmp_path / f"copy{place}"
        shutil.copytree(path.parent, copy)
        data = bytearray(side)
        data[place] ^= 0x10
        (copy / "log.sqlite-wal").write_bytes(data)
        try:
            with Log(copy / "log.sqlite") as log:
                found = log.records()
        except LogError:
            continue
        assert found in (expected, expected[:-2], expected[:-4])


def test_a_full_disk_is_one_line_and_loses_nothing(path):
    with Log(path) as log:
        log.append([(1, b"kept")])
        (pages,) = log._db.execute("PRAGMA page_count").fetchone()
        log._db.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(DiskFullError, match=r"log\.sqlite: disk full"):
            log.append([(2, b"small"), (3, bytes(100_000))])
        assert log.records() == [b"kept"]
    with Log(path) as log:
        assert log.records() == [b"kept"]


def test_a_missing_folder_and_a_file_of_another_kind_are_bad_input(tmp_path):
    with pytest.raises(InputError, match="is the folder there and writable"):
        Log(tmp_path / "nowhere" / "log.sqlite")
    (tmp_path / "notes").write_text("my notes are not a log\n" * 400)
    with pytest.raises(InputError, match="notes: this file is no log"):
        Log(tmp_path / "notes")


def crash_everywhere(tmp_path, ending, commits):
    """Kill a process that writes a log at every call that changes files; return what came of it."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler here")
    shim = tmp_path / "crash_point.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, SUPPORT / "crash_point.c", "-ldl"], check=True)
    program = [sys.executable, SUPPORT / "crash_log.py", tmp_path / "log", str(ending), str(commits)]
    environment = os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": str(SUPPORT.parents[1])}
    run = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="libc calls are intercepted with LD_PRELOAD")
@pytest.mark.parametrize("ending", [KILLED, HALF_WRITTEN, POWER_CUT])
def test_a_crash_at_any_write_keeps_everything_acknowledged(tmp_path, ending):
    result = crash_everywhere(tmp_path, ending, commits=14)
    assert result["points"] > 150
    assert result["broken"] == 0, result


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="libc calls are intercepted with LD_PRELOAD")
@pytest.mark.parametrize("ending", [KILLED, HALF_WRITTEN, POWER_CUT])
def test_a_crash_at_any_write_of_a_long_run_keeps_everything_acknowledged(tmp_path, ending):
    result = crash_everywhere(tmp_path, ending, commits=80)
    assert result["points"] > 1000
    assert result["broken"] == 0, result
