import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.network.frames import FrameError, FrameReader, frame


@given(st.lists(st.binary(max_size=200)), st.lists(st.integers(0, 50)))
def test_frames_come_back_whole_and_in_order_however_the_stream_is_cut(messages, cuts):
    stream = b"".join(map(frame, messages))
    reader, received = FrameReader(), []
    for cut in cuts:
        received += reader.feed(stream[:cut])
        stream = stream[cut:]
    received += reader.feed(stream)
    assert received == messages
    assert reader.pending == 0


def test_a_frame_is_its_length_in_four_bytes_and_then_the_message():
    assert frame(b"abc") == b"\0\0\0\3abc"
    assert frame(b"") == b"\0\0\0\0"


def test_a_frame_of_exactly_the_limit_is_read_and_one_byte_more_is_refused_from_the_length_alone():
    assert FrameReader(limit=5).feed(frame(b"12345")) == [b"12345"]
    reader = FrameReader(limit=5)
    with pytest.raises(FrameError, match="6 bytes was announced, more than 5"):
        reader.feed(b"\0\0\0\6")
    with pytest.raises(FrameError):
        reader.feed(b"anything")


def test_an_announced_length_reserves_nothing():
    reader = FrameReader()
    tracemalloc.start()
    assert reader.feed(b"\3\xff\xff\xff" + bytes(1000)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.pending == 1004
    assert peak < 100_000


def test_a_reader_that_was_sent_rubbish_keeps_nothing_of_what_follows():
    reader = FrameReader(limit=10)
    for _ in range(100):
        with pytest.raises(FrameError):
            reader.feed(b"\xff" * 1000)
    assert reader.pending == 4


def test_a_message_above_the_limit_cannot_be_framed(monkeypatch):
    monkeypatch.setattr("consensus.network.frames.LIMIT", 3)
    with pytest.raises(ValueError, match="4 bytes, more than 3"):
        frame(b"abcd")
