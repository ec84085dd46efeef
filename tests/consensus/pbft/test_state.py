import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.pbft import state as states
from consensus.pbft.state import Answered, Header, Image, next_order, state_digest

HEADER = Header(8, 1, (b"a" * 32, b"", b"c" * 32), (0, 2), base=4)
IMAGE = Image(states.encode(HEADER), (Answered(b"k" * 32, 7, b"done"),), b"application")


def sha(data):
    return hashlib.sha256(data).digest()


def test_the_digest_is_a_hash_of_header_replies_and_application():
    replies = msgspec.msgpack.encode(((b"k" * 32, 7, b"done"),))
    rest = sha(sha(replies) + sha(b"application"))
    assert IMAGE.rest() == rest
    assert IMAGE.digest() == sha(sha(states.encode(HEADER)) + rest) == state_digest(IMAGE.header, rest)


@pytest.mark.parametrize(
    "changed",
    [
        msgspec.structs.replace(IMAGE, application=b"Application"),
        msgspec.structs.replace(IMAGE, replies=()),
        msgspec.structs.replace(IMAGE, replies=(Answered(b"k" * 32, 8, b"done"),)),
        msgspec.structs.replace(IMAGE, replies=(Answered(b"k" * 32, 7, b"Done"),)),
        *(
            msgspec.structs.replace(IMAGE, header=states.encode(msgspec.structs.replace(HEADER, **{field: value})))
            for field, value in {
                "seq": 9, "epoch": 2, "members": (b"b" * 32,), "order": (2, 0), "base": 5, "coming": (b"a" * 32,),
                "until": 12, "block": b"b" * 32, "last_view": 1, "failed": (0,),
            }.items()
        ),
    ],
)  # fmt: skip
def test_the_digest_covers_everything(changed):
    assert changed.digest() != IMAGE.digest()


def test_an_image_comes_back_as_it_was():
    assert states.decode_image(states.encode(IMAGE)) == IMAGE
    assert states.decode_header(IMAGE.header) == HEADER


@given(st.binary(max_size=100))
def test_what_is_no_image_is_none(data):
    assert states.decode_image(data) is None or states.decode_header(states.decode_image(data).header)
    assert states.decode_header(b"\xc1" + data) is None


def test_an_image_whose_header_is_none_is_none():
    assert states.decode_image(states.encode(Image(b"no header", (), b""))) is None


def test_vacated_places_are_no_places():
    assert HEADER.places == (0, 2)


def header(order=(0, 1, 2, 3), last_view=0, failed=()):
    return Header(
        8, 0, tuple(bytes([place + 1]) * 32 for place in range(4)), order, last_view=last_view, failed=failed
    )


def test_leaders_that_brought_batches_keep_their_order():
    assert next_order(header()) == (0, 1, 2, 3)
    assert next_order(header(last_view=2)) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("order", "last_view", "failed", "coming_up"),
    [
        ((0, 1, 2, 3), 1, (0,), (1, 2, 3, 0)),
        ((0, 1, 2, 3), 2, (0, 1), (2, 3, 0, 1)),
        ((0, 1, 2, 3), 3, (1,), (3, 0, 2, 1)),
        ((2, 3, 0, 1), 6, (3,), (0, 1, 2, 3)),
        ((0, 1, 2, 3), 2, (0, 1, 3), (2, 3, 0, 1)),
    ],
)
def test_leaders_that_failed_come_last_after_the_present_one(order, last_view, failed, coming_up):
    """`coming_up` are the leaders of the present view and of the three after it."""
    after = next_order(header(order, last_view, failed))
    assert tuple(after[view % 4] for view in range(last_view, last_view + 4)) == coming_up


@given(st.permutations(range(4)), st.integers(0, 50), st.sets(st.integers(0, 3)))
def test_the_present_leader_stays_and_nobody_is_lost(order, view, failed):
    after = next_order(header(tuple(order), view, tuple(sorted(failed))))
    assert sorted(after) == [0, 1, 2, 3]
    assert after[view % 4] == order[view % 4]
