"""What a stranger's bytes may cost: found by `benchmarks.fuzz` or on the way there."""

import tracemalloc

import pytest

from consensus import messages
from consensus.messages import LIMIT, Chunk, ViewChange, Vote, decode, decode_batch, encode

ARRAY32, BIN32 = b"\xdd", b"\xc6"
MEGABYTE = 1 << 20


def peak(work):
    tracemalloc.start()
    result = work()
    current, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, current, highest


@pytest.mark.parametrize("announced", [1 << 20, 1 << 27, 2**32 - 1])
def test_lengths_that_are_only_announced_take_no_memory(announced):
    chunk = encode(Chunk(0, 0, 0, b"", 0, 0, b"", ()))
    count = announced.to_bytes(4, "big")
    for forged in (chunk[:-1] + ARRAY32 + count, chunk[:-3] + BIN32 + count, ARRAY32 + count):
        for read in (decode, decode_batch):
            result, _, highest = peak(lambda read=read, forged=forged: read(forged))
            assert result is None
            assert highest < 10_000


def test_a_decoded_message_takes_a_bounded_multiple_of_its_bytes():
    tiny = tuple(bytes([i % 256, i // 256 % 256]) for i in range(MEGABYTE // 4))
    vote = Vote(0, 0, 0, 0, b"", 0, b"")
    for message in (
        Chunk(0, 0, 0, b"", 0, 0, b"", tiny),
        ViewChange(0, 0, None, (), (vote,) * (MEGABYTE // len(encode(vote))), 0),
    ):
        data = encode(message)
        decoded, _, highest = peak(lambda data=data: decode(data))
        assert decoded == message
        assert highest < 16 * len(data)


def test_large_messages_are_not_kept():
    messages._decode.cache_clear()

    def receive():
        for seq in range(64):
            assert decode(encode(Chunk(0, 0, seq, b"", 0, 0, bytes(MEGABYTE), ()))) is not None

    _, current, highest = peak(receive)
    assert current < 100_000
    assert highest < 4 * MEGABYTE


def test_too_long_a_message_is_not_decoded():
    assert decode(bytes(LIMIT + 1)) is None
