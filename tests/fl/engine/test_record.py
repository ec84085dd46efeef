import os
import random

import pytest

from fl.engine import record as record_module
from fl.engine.record import Entry, ReplyRecord, pack, read_frames, unpack
from fl.engine.worker import Reply
from shards.disk import DiskFullError, write_atomically
from shards.errors import InputError


def entry(number: int, size: int = 200, answered: bool = True) -> Entry:
    body = random.Random(number).randbytes(size)
    reply = Reply(
        {"src_node_id": number, "ttl": 1.5}, body, failed=number % 5 == 0, state=b"s" if number % 2 else None
    )
    return Entry(f"id-{number}", f"digest-{number}", reply if answered else None)


def write(path, batches):
    record = ReplyRecord(path, 10**9)
    for batch in batches:
        record.append(batch)
    record.close()


BATCHES = [[entry(1), entry(2)], [entry(3, answered=False)], [entry(4), entry(5), entry(6, size=3000)]]


def test_what_is_appended_is_read_back(tmp_path):
    write(tmp_path / "r", BATCHES)
    assert ReplyRecord(tmp_path / "r", 10**9).entries == {e.message_id: e for batch in BATCHES for e in batch}


def test_a_tail_torn_at_any_byte_loses_only_the_last_batch(tmp_path):
    path = tmp_path / "r"
    write(path, BATCHES)
    data = path.read_bytes()
    start = [end for end, _ in read_frames(path)][1]
    for cut in {start, start + 1, start + 20, *random.Random(0).sample(range(start, len(data)), 40), len(data) - 1}:
        path.write_bytes(data[:cut])
        record = ReplyRecord(path, 10**9)
        assert list(record.entries) == ["id-1", "id-2", "id-3"]
        record.append([entry(7)])
        record.close()
        assert list(ReplyRecord(path, 10**9).entries) == ["id-1", "id-2", "id-3", "id-7"]


def test_pages_that_were_never_written_count_as_torn(tmp_path):
    path = tmp_path / "r"
    write(path, BATCHES)
    data = path.read_bytes()
    path.write_bytes(data[:-1500] + bytes(1500))
    assert list(ReplyRecord(path, 10**9).entries) == ["id-1", "id-2", "id-3"]


def test_a_flipped_bit_anywhere_before_the_tail_is_refused_in_one_line(tmp_path):
    path = tmp_path / "r"
    write(path, BATCHES)
    data = path.read_bytes()
    last = [end for end, _ in read_frames(path)][1]
    for position in random.Random(1).sample(range(last), 60):
        path.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
        with pytest.raises(InputError, match="damaged at byte"):
            ReplyRecord(path, 10**9)
        assert path.stat().st_size == len(data)


def test_a_flipped_bit_in_the_last_batch_is_refused_too(tmp_path):
    path = tmp_path / "r"
    write(path, BATCHES)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        ReplyRecord(path, 10**9)


def test_recording_ends_at_the_cap_and_says_so(tmp_path):
    record = ReplyRecord(tmp_path / "r", max_bytes=1500)
    record.append([entry(1)])
    assert not record.full
    record.append([entry(2, size=5000)])
    record.append([entry(3)])
    record.close()
    assert record.full
    assert list(ReplyRecord(tmp_path / "r", 10**9).entries) == ["id-1"]


def test_a_full_disk_is_one_line_and_leaves_the_last_batch_whole(tmp_path, monkeypatch):
    record = ReplyRecord(tmp_path / "r", 10**9)
    record.append([entry(1)])

    def full(descriptor, pieces):
        os.write(descriptor, b"".join(pieces)[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(record_module.os, "writev", full)
        with pytest.raises(DiskFullError, match="disk full"):
            record.append([entry(2)])
    record.append([entry(3)])
    record.close()
    assert list(ReplyRecord(tmp_path / "r", 10**9).entries) == ["id-1", "id-3"]


def test_atomic_write_leaves_the_old_file_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_frames_round_trip():
    parts = [b"", b"a", b"bc" * 100]
    assert unpack(b"".join(pack(parts))[48:]) == parts


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_pieces_are_written_whole_however_few_bytes_the_system_takes_at_a_time(tmp_path, monkeypatch, at_once):
    def slow(descriptor, pieces):
        assert len(pieces) <= 1024
        return os.write(descriptor, b"".join(pieces)[:at_once])

    monkeypatch.setattr(record_module.os, "writev", slow)
    record = ReplyRecord(tmp_path / "r", 10**9)
    record.append([entry(number) for number in range(400)])
    record.close()
    assert list(ReplyRecord(tmp_path / "r", 10**9).entries) == [f"id-{number}" for number in range(400)]
