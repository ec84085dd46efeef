"""The fuzzer's targets hold for their seeds and what is near them, and fail where a promise is broken."""

import importlib.util
import random
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from consensus import erasure, messages
from consensus.network.frames import FrameReader
from consensus.payload import Gather, Scatter
from consensus.pbft import epoch
from consensus.pbft.replica import Replica

pytest.importorskip("msgpack", reason="the extra 'fuzz' is not installed")

SPEC = importlib.util.spec_from_file_location(
    "fuzz_targets", Path(__file__).parents[2] / "benchmarks" / "fuzz_targets.py"
)
targets = importlib.util.module_from_spec(SPEC)
sys.modules["fuzz_targets"] = targets  # where its dataclasses look for their module
SPEC.loader.exec_module(targets)
SEEDS = {name: target.seeds() for name, target in targets.TARGETS.items()}


def near_seeds(name, count):
    chance, seeds = random.Random(name), SEEDS[name]
    yield from seeds
    for _ in range(count):
        data = chance.choice(seeds)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data) + 1)
            meant = targets.mutate(data, chance) if chance.random() < 0.7 else b""
            data = meant or data[:at] + chance.randbytes(1) + data[at + chance.randint(0, 2) :]
        yield data


def first_failure(name, count):
    for number, data in enumerate(near_seeds(name, count)):
        try:
            targets.TARGETS[name].test(data)
        except Exception:
            return number
    return None


@pytest.mark.parametrize("name", targets.TARGETS)
def test_promises_hold_for_seeds_and_what_is_near_them(name):
    for data in near_seeds(name, 300):
        targets.TARGETS[name].test(data)


def test_seeds_cover_all_kinds_of_messages():
    kinds = {type(messages.decode(data)) for data in SEEDS["decode"]}
    assert kinds == set(get_args(messages.AnyMessage))


def forgetful(self, data, feed=FrameReader.feed):
    complete = feed(self, data)
    if self.pending > 4:
        self._pending.pop()
    return complete


BREAKS = {
    "a set of signers with many encodings": (
        "signers", messages, "signers_from_bytes", lambda encoded, n: int.from_bytes(encoded, "little") % (1 << n)
    ),
    "a frame reader that loses bytes": ("frames", FrameReader, "feed", forgetful),
    "chunks that nobody proves": ("gather", Scatter, "belongs", lambda self, chunk: chunk.index < 7),
    "a batch that is not encoded again": (
        "inconsistent", Gather, "rebuild", lambda self: erasure.decode(self._chunks, 3, 7, self._size)
    ),
    "a status of numbers that are not live": (
        "replica", Replica, "_on_status", lambda self, status: self.slots[status.executed + 1]
    ),
}  # fmt: skip


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_promise_is_noticed(broken, monkeypatch):
    name, *change = BREAKS[broken]
    monkeypatch.setattr(*change)
    assert first_failure(name, 3000) is not None


def test_numbers_out_of_range_are_noticed(monkeypatch):
    certificate = messages.Bundle(messages.COMMIT, 0, -1, 1, bytes(32), b"\x07", b"")
    events = msgspec.msgpack.encode([(3, messages.encode(certificate))])
    targets.TARGETS["replica"].test(events)
    monkeypatch.setattr(epoch, "_plausible", lambda message: True)
    with pytest.raises(OverflowError):
        targets.TARGETS["replica"].test(events)


def test_bytes_after_a_message_are_noticed(monkeypatch):
    longer = SEEDS["decode"][0] + b"\0"
    targets.TARGETS["decode"].test(longer)
    monkeypatch.setattr(targets, "decode", lambda data: messages.decode(data[:-1]))
    with pytest.raises(AssertionError):
        targets.TARGETS["decode"].test(longer)


def test_a_second_form_of_a_batch_is_noticed(monkeypatch):
    twice = b"\x92\xcc\x07\x90"  # 7 takes one byte
    targets.TARGETS["decode_batch"].test(twice)
    monkeypatch.setattr(messages, "decode_batch", messages._batch_decoder.decode)
    with pytest.raises(AssertionError):
        targets.TARGETS["decode_batch"].test(twice)
