import json
import multiprocessing
import os
import resource
import signal

import pytest

from shards.disk import DiskFullError
from shards.journal import Journal, encode


def line(number, size=0):
    return encode({"number": number, "fill": "x" * size})


def write(journal, *lines, durable=False):
    for each in lines:
        with journal.locked():
            journal.write(each, durable)


def numbers(journal):
    return [json.loads(each)["number"] for each in journal.read().splitlines()]


def test_what_is_appended_is_read_back_in_order(tmp_path):
    journal = Journal(tmp_path / "log", 10_000)
    assert journal.read() == b""
    write(journal, *map(line, range(5)), durable=True)
    assert numbers(journal) == [0, 1, 2, 3, 4]


def test_the_file_stays_below_its_bound_and_keeps_the_newest_lines(tmp_path):
    journal = Journal(tmp_path / "log", 1000)
    for number in range(200):
        write(journal, line(number, size=20))
        assert journal.path.stat().st_size <= 1000
        kept = numbers(journal)
        assert kept == list(range(kept[0], number + 1))
    assert len(numbers(journal)) >= 8  # half of 1000 bytes, in lines of 41 to 43


def test_a_line_larger_than_the_bound_is_kept_alone(tmp_path):
    journal = Journal(tmp_path / "log", 100)
    write(journal, line(1), line(2, size=300), line(3))
    assert numbers(journal) == [3]


def test_what_is_dropped_can_leave_a_line_that_stands_for_it(tmp_path):
    journal = Journal(tmp_path / "log", 300, carry=lambda dropped: encode({"number": f"{len(dropped)} dropped"}))
    write(journal, *(line(number, size=60) for number in range(4)))
    assert numbers(journal) == ["3 dropped", 3]


def test_a_line_cut_short_at_any_byte_is_left_out_and_then_removed(tmp_path):
    journal = Journal(tmp_path / "log", 10_000)
    write(journal, line(1), line(2))
    whole = journal.path.read_bytes()
    for cut in range(len(line(1)), len(whole)):
        journal.path.write_bytes(whole[:cut])
        assert numbers(journal) == [1]
        write(journal, line(3))
        assert numbers(journal) == [1, 3]


def append_many(path, first, barrier):
    journal = Journal(path, 20_000)
    barrier.wait()
    write(journal, *(line(first + number, size=50) for number in range(100)))


def test_several_processes_append_whole_lines_to_one_file(tmp_path):
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(4)
    writers = [fork.Process(target=append_many, args=(tmp_path / "log", 1000 * n, barrier)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(20)
        assert writer.exitcode == 0
    written = numbers(Journal(tmp_path / "log", 20_000))
    for first in range(0, 4000, 1000):  # each writer's lines that the bound left: in order, none missing in between
        own = [number for number in written if first <= number < first + 1000]
        assert own == list(range(first + 100 - len(own), first + 100))
    assert len(written) > 100


def test_a_full_disk_is_one_clear_error_and_leaves_the_journal_as_it_was(tmp_path):
    journal = Journal(tmp_path / "log", 10_000)
    write(journal, line(1))
    before = journal.path.read_bytes()
    child = os.fork()
    if child == 0:  # in a child, for the limit can't be raised again
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, len(before) + 10))
            write(journal, line(2, size=100))
        except DiskFullError as error:
            status = 0 if str(error).startswith(f"{journal.path}: disk full") else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert journal.path.read_bytes() == before
    write(journal, line(3))
    assert numbers(journal) == [1, 3]


def test_a_full_disk_while_the_older_half_goes_away_loses_nothing(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "log", 500)
    write(journal, *(line(number, size=40) for number in range(7)))
    before = journal.path.read_bytes()

    def full(path, data):
        raise DiskFullError(f"{path}: disk full")

    with monkeypatch.context() as patch:
        patch.setattr("shards.journal.write_atomically", full)
        with pytest.raises(DiskFullError):
            write(journal, line(7, size=100))
    assert journal.path.read_bytes() == before
    write(journal, line(7, size=100))
    assert numbers(journal)[-2:] == [6, 7]
