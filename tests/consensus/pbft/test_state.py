import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.pbft import state as states
from consensus.pbft.state import Answered, Header, Image, state_digest
from consensus.reputation import Standing

HEADER = Header(8, 1, (b"a" * 32, b"", b"c" * 32), Standing.initial((0, 2)), base=4)
OTHER = Standing((8, 8, 7), (0, 0, 0), (0, 2))
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
                "seq": 9, "epoch": 2, "members": (b"b" * 32,), "standing": OTHER, "base": 5, "coming": (b"a" * 32,),
                "until": 12, "block": b"b" * 32, "last_view": 1, "failed": (0,), "seen": b"\x01",
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
