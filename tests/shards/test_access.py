import multiprocessing
import time

import numpy as np
import pytest

from shards.access import Access, AccessLog
from shards.errors import InputError
from shards.request import Request

REQUEST = Request.window("7d").where(region="north").resolve("2024-03-08")


def access(client="ann", event="round 1 train", rows=7, request=REQUEST):
    return Access(client, event, np.datetime64("2024-03-08T00:00:00.5", "us"), request, 3, 2, 16, 4000, 700, rows)


@pytest.fixture
def log(tmp_path):
    return AccessLog(tmp_path / "access.jsonl")


def test_what_was_read_is_read_back_as_it_was(log):
    assert log.read() == []
    requests = [REQUEST, Request.everything(), Request.everything().where(label=[1, 2]).derived_from("local")]
    written = [access(event=f"round {n} train", request=request) for n, request in enumerate(requests)]
    for each in written:
        log.append(each)
    assert log.read() == written
    assert [each.request.public for each in log.read()] == [True, True, False]


def test_of_an_event_that_comes_again_the_last_word_counts(log):
    for event, rows in [("round 1 train", 5), ("round 2 train", 6), ("round 1 evaluate", 1), ("round 2 train", 8)]:
        log.append(access(event=event, rows=rows))
    log.append(access("bob", "round 1 train", 9))
    assert [(each.event, each.rows) for each in log.read("ann")] == [
        ("round 1 train", 5), ("round 1 evaluate", 1), ("round 2 train", 8),
    ]  # fmt: skip
    assert [(each.client, each.rows) for each in log.read(last=2)] == [("ann", 8), ("bob", 9)]
    assert [each.rows for each in log.read("ann", last=2)] == [1, 8]


def test_clients_are_told_apart_by_their_whole_name(log):
    for client in ("1", "11", '1"', "ünï\n"):
        log.append(access(client))
        assert [each.client for each in log.read(client)] == [client]
    assert log.read("2") == []


def test_an_incomplete_last_line_is_left_out(log):
    log.append(access(event="round 1 train"))
    log.append(access(event="round 2 train"))
    log.path.write_bytes(log.path.read_bytes()[:-5])
    assert [each.event for each in log.read()] == ["round 1 train"]


@pytest.mark.parametrize(
    "junk", [b"{}", b'{"client":"ann"}', b'{"client":\xff}', b'{"client":"ann","event":1,"request":{}}']
)
def test_a_line_that_is_no_read_is_named_in_one_line(log, junk):
    log.append(access())
    log.path.write_bytes(log.path.read_bytes() + junk + b"\n")
    with pytest.raises(InputError, match=r"access.jsonl: line 2 is damaged \(not a read: .*move the file away"):
        log.read()


def test_the_log_is_bounded_and_keeps_the_newest_reads(tmp_path):
    log = AccessLog(tmp_path / "access.jsonl", max_bytes=5000)
    for number in range(100):
        log.append(access(event=f"round {number} train"))
        assert log.path.stat().st_size <= 5000
    kept = [each.event for each in log.read()]
    assert kept == [f"round {number} train" for number in range(100 - len(kept), 100)]
    assert len(kept) >= 5


def append_reads(path, client):
    log = AccessLog(path)
    for number in range(50):
        log.append(access(client, f"round {number} train"))


def test_several_processes_share_one_file(log):
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=append_reads, args=(log.path, name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    for name in "abc":
        assert [each.event for each in log.read(name)] == [f"round {number} train" for number in range(50)]


def test_a_thousand_clients_fit_into_one_file_and_are_found_quickly(log):
    for client in range(1000):
        for number in range(3):
            log.append(access(str(client), f"round {number} train"))
    started = time.perf_counter()
    for client in range(0, 1000, 100):
        assert len(log.read(str(client), last=24)) == 3
    assert time.perf_counter() - started < 0.5
    assert sorted(path.name for path in log.path.parent.iterdir()) == ["access.jsonl", "access.jsonl.lock"]
