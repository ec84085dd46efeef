import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import messages
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    NULL,
    PREPARE,
    Batch,
    Bundle,
    Chunk,
    Committed,
    Content,
    Fetch,
    Handoff,
    NewView,
    Proposal,
    Repeat,
    Reply,
    Request,
    Signed,
    State,
    Status,
    ViewChange,
    Vote,
    batch_digest,
    body_statement,
    decode,
    decode_as,
    decode_batch,
    encode,
    reply_statement,
    request_statement,
    signers_from_bytes,
    signers_to_bytes,
    statement,
)

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())

VOTE = Vote(PREPARE, 1, 2, 3, b"d" * 32, 4, b"s")
BUNDLE = Bundle(COMMIT, 1, 2, 3, b"d" * 32, b"\x07", b"abc")
SIGNED = Signed(b"body", 1, b"s")
EXAMPLES = {
    "vote": VOTE,
    "bundle": BUNDLE,
    "request": Request(b"c" * 32, 7, b"operation", b"s"),
    "reply": Reply(b"c" * 32, 7, 2, 1, b"result", b"s"),
    "proposal": Proposal(1, 2, 3, b"d" * 32, b"batch", b"", 5, b"s"),
    "chunk": Chunk(1, 2, 3, b"r" * 32, 4, 100, b"data", (b"p" * 32,)),
    "view change": ViewChange(1, 2, BUNDLE, (BUNDLE,), (VOTE,), 3),
    "first view change": ViewChange(0, 1, None, (), (), 3),
    "new view": NewView(1, 2, (SIGNED, SIGNED)),
    "signed": SIGNED,
    "status": Status(1, 2, True, 16, 17, 3),
    "fetch": Fetch(3, b"d" * 32, 1),
    "content": Content(3, b"batch"),
    "state": State((Handoff(BUNDLE, b"header", b"r" * 32),), BUNDLE, b"image"),
    "committed": Committed(BUNDLE, b"batch"),
    "repeat": Repeat(b"vote"),
}
STATEMENTS = {
    "vote": statement(b"c" * 32, PREPARE, 1, 2, 3, b"d" * 32),
    "body": body_statement(b"c" * 32, b"body"),
    "request": request_statement(b"c" * 32, 7, b"operation"),
    "reply": reply_statement(b"c" * 32, b"k" * 32, 7, b"result"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_encoding_of_every_message_is_fixed_for_ever(name):
    assert encode(EXAMPLES[name]).hex() == VECTORS["messages"][name]
    assert decode(bytes.fromhex(VECTORS["messages"][name])) == EXAMPLES[name]


@pytest.mark.parametrize("name", STATEMENTS)
def test_what_is_signed_is_fixed_for_ever(name):
    assert STATEMENTS[name].hex() == VECTORS["statements"][name]


def test_there_is_an_example_of_every_message():
    assert {type(example) for example in EXAMPLES.values()} == set(messages.AnyMessage.__args__)


def test_a_vote_by_hand():
    """Array of eight: the tag, four small numbers, 32 bytes, a number, one byte."""
    assert encode(VOTE) == b"\x98\x01\x01\x01\x02\x03\xc4\x20" + b"d" * 32 + b"\x04\xc4\x01s"


@pytest.mark.parametrize("kind", messages.AnyMessage.__args__, ids=lambda kind: kind.__name__)
def test_messages_come_back_as_they_were(kind):
    @given(st.tuples(*(_values(field.type) for field in msgspec.structs.fields(kind))))
    def check(values):
        message = kind(*values)
        data = encode(message)
        assert decode(data) == message
        assert encode(decode(data)) == data
        assert decode_as(kind, data) == message

    check()


def _values(of):
    numbers = st.integers(-(1 << 63), (1 << 64) - 1)
    known = {
        int: numbers,
        bytes: st.binary(max_size=40),
        bool: st.booleans(),
        tuple[bytes, ...]: st.lists(st.binary(max_size=8), max_size=3).map(tuple),
        Bundle: st.just(BUNDLE),
        Bundle | None: st.sampled_from([BUNDLE, None]),
        tuple[Bundle, ...]: st.lists(st.just(BUNDLE), max_size=2).map(tuple),
        tuple[Vote, ...]: st.lists(st.just(VOTE), max_size=2).map(tuple),
        tuple[Handoff, ...]: st.just((Handoff(BUNDLE, b"h", b"r"),)),
    }
    return known.get(of, st.just((SIGNED,)))


FIELDS = {"chain": b"c" * 32, "phase": PREPARE, "epoch": 1, "view": 2, "seq": 3, "digest": b"d" * 32}
OTHERS = {"chain": b"k" * 32, "phase": COMMIT, "epoch": 2, "view": 3, "seq": 4, "digest": b"e" * 32}


@pytest.mark.parametrize("field", FIELDS)
def test_a_vote_says_different_things_in_every_field(field):
    changed = FIELDS | {field: OTHERS[field]}
    assert statement(**changed) != statement(**FIELDS)
    assert len(statement(**changed)) == len(statement(**FIELDS)), "fixed widths: fields cannot run into each other"


@given(*[st.integers(0, (1 << 64) - 1)] * 6)
def test_no_two_votes_sign_the_same_bytes(epoch, view, seq, other_epoch, other_view, other_seq):
    one = statement(b"c" * 32, PREPARE, epoch, view, seq, NULL)
    other = statement(b"c" * 32, PREPARE, other_epoch, other_view, other_seq, NULL)
    assert (one == other) == ((epoch, view, seq) == (other_epoch, other_view, other_seq))


def test_statements_of_different_kinds_have_different_domains():
    kinds = {bytes(one).split(b"/")[2] for one in STATEMENTS.values()}
    assert kinds == {b"vote", b"body", b"request", b"reply"}
    assert all(one.startswith(b"fedshard/1/") for one in STATEMENTS.values())


@pytest.mark.parametrize("field", ["timestamp", "operation", "chain"])
def test_a_request_signs_every_field(field):
    fields = {"chain": b"c" * 32, "timestamp": 7, "operation": b"x"}
    changed = fields | {field: {"chain": b"k" * 32, "timestamp": 8, "operation": b"y"}[field]}
    assert request_statement(**changed) != request_statement(**fields)


@pytest.mark.parametrize("field", ["chain", "client", "timestamp", "result"])
def test_a_reply_signs_every_field(field):
    fields = {"chain": b"c" * 32, "client": b"k" * 32, "timestamp": 7, "result": b"x"}
    changed = fields | {field: 8 if field == "timestamp" else fields[field][:-1] + b"!"}
    assert reply_statement(**changed) != reply_statement(**fields)


@given(st.binary(max_size=200))
def test_decoding_anything_gives_a_message_or_none(data):
    message = decode(data)
    assert message is None or isinstance(message, messages.Message)
    batch = decode_batch(data)
    assert batch is None or encode(batch) == data


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_a_message_with_one_byte_changed_never_raises(name, data):
    encoded = bytearray(encode(EXAMPLES[name]))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    decode(bytes(encoded))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x90", b"\xc0", encode(VOTE) + b"\0", encode(VOTE)[:-1], b"\x91" * 100_000 + b"\xc0", b"\x92\x63\x01"],
)
def test_what_is_not_exactly_one_message_is_none(data):
    assert decode(data) is None


def test_messages_of_other_kinds_are_refused_where_one_is_wanted():
    assert decode_as(Vote, encode(BUNDLE)) is None
    assert decode_as(Bundle, encode(BUNDLE)) == BUNDLE


def test_too_long_a_message_is_not_even_decoded(monkeypatch):
    monkeypatch.setattr(messages, "LIMIT", 100)
    assert decode(encode(Content(1, b"x" * 50))) == Content(1, b"x" * 50)
    assert decode(encode(Content(1, b"x" * 100))) is None


def test_a_large_message_is_not_kept_by_the_decoder():
    messages._decode.cache_clear()
    large = encode(Content(1, b"x" * messages.CACHED))
    assert decode(large) == Content(1, b"x" * messages.CACHED)
    assert messages._decode.cache_info().currsize == 0


def test_a_batch_has_one_encoding_only():
    batch = Batch(3, (b"one", b"two"))
    assert decode_batch(encode(batch)) == batch
    longer = encode(batch)[:1] + b"\xcc\x03" + encode(batch)[2:]  # the same view in two bytes
    assert msgspec.msgpack.decode(longer, type=Batch) == batch
    assert decode_batch(longer) is None


def test_the_null_batch_has_the_null_digest():
    assert batch_digest(b"") == NULL == bytes(32)
    assert batch_digest(b"x") == hashlib.sha256(b"x").digest()


@given(st.integers(0, (1 << 40) - 1))
def test_a_bit_set_of_signers_comes_back(signers):
    assert signers_from_bytes(signers_to_bytes(signers), 40) == signers


@pytest.mark.parametrize(
    ("encoded", "n", "signers"),
    [(b"\x07", 4, 7), (b"\x07\x00", 4, 0), (b"\x10", 4, 0), (b"\x0f", 4, 15), (b"", 4, 0), (b"\x01\x01", 9, 257),
     (b"\x01\x02", 9, 0), (b"\x80", 8, 128), (b"\x80", 7, 0)],
)  # fmt: skip
def test_stray_bits_and_trailing_zeros_make_an_empty_set(encoded, n, signers):
    assert signers_from_bytes(encoded, n) == signers


def test_phases_are_what_is_on_the_wire():
    assert (PREPARE, COMMIT, CHECKPOINT) == (1, 2, 3)
