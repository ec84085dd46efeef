"""A chain is checked offline, block by block: whatever is changed in it, the block is named."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.identity import keypair
from consensus.ledger import Block, Genesis, Ledger, LedgerError, read, verify
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    NULL,
    PREPARE,
    Batch,
    Bundle,
    Handoff,
    Request,
    batch_digest,
    decode_as,
    encode,
    request_statement,
    signers_to_bytes,
    statement,
)
from consensus.pbft.state import Header, state_digest
from consensus.pbft.state import encode as encode_state
from consensus.reputation import Standing
from shards.errors import InputError

KEYS = [keypair(bytes([index]) * 32) for index in range(6)]
CLIENT = keypair(b"c" * 32)
GENESIS = Genesis("flat", tuple(public.hex() for _, public in KEYS[:4]), ((0, 1, 2, 3),), "for a test")


def signed(genesis, phase, epoch, view, seq, digest, signers, keys=KEYS):
    about = statement(genesis.chain, phase, epoch, view, seq, digest)
    signature = b"".join(keys[signer][0].sign(about) for signer in signers)
    bits = sum(1 << signer for signer in signers)
    return Bundle(phase, epoch, view, seq, digest, signers_to_bytes(bits), signature)


def block_after(
    before, operations, *, genesis=GENESIS, signers=(0, 1, 2), phase=COMMIT, epoch=0, keys=KEYS, handoff=b""
):
    """Make the next block of a chain as a quorum of its members would."""
    seq = before.seq + 1 if before else 1
    requests = []
    for operation in operations:
        signature = CLIENT[0].sign(request_statement(genesis.chain, seq, operation))
        requests.append(encode(Request(CLIENT[1], seq, operation, signature)))
    batch = encode(Batch(0, tuple(requests))) if requests else b""
    digest = batch_digest(batch)
    certificate = encode(signed(genesis, phase, epoch, 0, seq, digest, signers, keys))
    previous = before.hash if before else genesis.chain
    return Block(seq, previous, epoch, 0, seq, digest, batch, certificate, handoff)


def chain(length=4, **options):
    blocks = []
    for number in range(length):
        operations = [b"operation %d" % number] if number != 2 else []  # the third does nothing
        blocks.append(block_after(blocks[-1] if blocks else None, operations, **options))
    return blocks


BLOCKS = chain()


def test_a_good_chain_is_counted_to_its_end():
    checked = verify(BLOCKS, GENESIS)
    assert (checked.bad, checked.blocks, checked.signatures, checked.epochs) == (None, 4, 12, 1)
    assert checked.head == BLOCKS[-1].hash
    assert BLOCKS[2].digest == NULL
    assert BLOCKS[1].operations == (b"operation 1",)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_changed_in_a_block_is_found_there(data):
    place = data.draw(st.integers(0, 3))
    block = BLOCKS[place]
    names = ("height", "previous", "epoch", "view", "seq", "digest", "batch", "certificate")
    name = data.draw(st.sampled_from([name for name in names if getattr(block, name) != b""]))
    value = getattr(block, name)
    if isinstance(value, int):
        changed = data.draw(st.integers(0, 9).filter(lambda other: other != value))
    else:
        at = data.draw(st.integers(0, len(value) - 1))
        changed = value[:at] + bytes([value[at] ^ data.draw(st.integers(1, 255))]) + value[at + 1 :]
    checked = verify([*BLOCKS[:place], replace(block, **{name: changed}), *BLOCKS[place + 1 :]], GENESIS)
    assert checked.bad == place + 1
    assert checked.why


@pytest.mark.parametrize(
    ("blocks", "bad"),
    [
        (BLOCKS[1:], 1),
        ([BLOCKS[0], BLOCKS[2]], 2),
        ([BLOCKS[0], BLOCKS[0]], 2),
        ([BLOCKS[1], BLOCKS[0]], 1),
        ([*BLOCKS, BLOCKS[-1]], 5),
    ],
)
def test_blocks_left_out_repeated_or_exchanged_are_found(blocks, bad):
    assert verify(blocks, GENESIS).bad == bad


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"signers": (0, 1)}, "2 of 4 members signed, which is no quorum"),
        ({"phase": PREPARE}, "another decision"),
        ({"keys": [KEYS[5], *KEYS[1:]]}, "the signature of replica 0 is not valid"),
        ({"signers": (1, 2, 4)}, "0 of 4 members signed"),  # 4 is no member: the bit set counts for nothing
    ],
)
def test_who_must_have_signed_is_said(options, why):
    checked = verify([block_after(None, [b"x"], **options)], GENESIS)
    assert checked.bad == 1
    assert why in checked.why


def test_a_request_that_its_client_did_not_sign_is_found():
    request = decode_as(Request, msgspec.msgpack.decode(BLOCKS[0].batch)[1][0])
    batch = encode(Batch(0, (encode(replace(request, operation=b"other")),)))
    certificate = encode(signed(GENESIS, COMMIT, 0, 0, 1, batch_digest(batch), (0, 1, 2)))
    forged = replace(BLOCKS[0], batch=batch, digest=batch_digest(batch), certificate=certificate)
    assert verify([forged], GENESIS).why == "a request was not signed by its client"


def test_another_genesis_names_another_chain():
    other = replace(GENESIS, keys="others")
    assert other.chain != GENESIS.chain
    assert verify(BLOCKS, other).bad == 1


def test_the_fast_protocol_decides_by_prepare_votes_of_n_minus_f():
    genesis = Genesis("regional-fast", tuple(public.hex() for _, public in KEYS), ((0, 1, 2, 3, 4, 5),), "for a test")
    good = block_after(None, [b"x"], genesis=genesis, phase=PREPARE, signers=(0, 1, 2, 3, 4))
    assert verify([good], genesis).bad is None
    few = block_after(None, [b"x"], genesis=genesis, phase=PREPARE, signers=(0, 1, 2, 3))
    assert "no quorum" in verify([few], genesis).why


# -- epochs -------------------------------------------------------------------------------------------------------

NEW_MEMBERS = tuple(public for _, public in [KEYS[4], *KEYS[1:4]])
NEW_KEYS = [KEYS[4], *KEYS[1:4]]


def handoff(members=NEW_MEMBERS, seq=4, epoch=1, signers=(0, 1, 2), rest=None):
    header = encode_state(Header(seq, epoch, members, Standing.initial((0, 1, 2, 3)), base=seq))
    true = hashlib.sha256(b"the rest of the state").digest()
    certificate = signed(GENESIS, CHECKPOINT, 0, 0, seq, state_digest(header, true), signers)
    return msgspec.msgpack.encode(Handoff(certificate, header, rest or true))


def test_a_new_epoch_is_followed_by_the_old_ones_hand_off():
    fifth = block_after(BLOCKS[-1], [b"in epoch 1"], epoch=1, keys=NEW_KEYS, handoff=handoff())
    sixth = block_after(fifth, [b"and on"], epoch=1, keys=NEW_KEYS)
    checked = verify([*BLOCKS, fifth, sixth], GENESIS)
    assert (checked.bad, checked.blocks, checked.epochs) == (None, 6, 2)
    stale = block_after(fifth, [b"and on"], epoch=0)
    assert verify([*BLOCKS, fifth, stale], GENESIS).bad == 6


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        (b"", "cannot be read"),
        (handoff(seq=3), "does not begin after block 4"),
        (handoff(epoch=2), "no proof that epoch 1 follows"),
        (handoff(signers=(0, 1)), "no quorum"),
        (handoff(rest=bytes(32)), "not the one that was voted for"),
    ],
)
def test_a_hand_off_that_proves_nothing_is_found(proof, why):
    fifth = block_after(BLOCKS[-1], [b"in epoch 1"], epoch=1, keys=NEW_KEYS, handoff=proof)
    checked = verify([*BLOCKS, fifth], GENESIS)
    assert checked.bad == 5
    assert why in checked.why


# -- files --------------------------------------------------------------------------------------------------------


def test_what_is_appended_is_read_again(tmp_path):
    ledger = Ledger(tmp_path)
    for block in BLOCKS:
        ledger.append(block)
    GENESIS.write(tmp_path)
    assert list(read(tmp_path)) == BLOCKS == Ledger(tmp_path).blocks
    assert Genesis.read(tmp_path) == GENESIS


def test_a_block_comes_again_unchanged_or_not_at_all(tmp_path):
    ledger = Ledger(tmp_path)
    for block in BLOCKS[:3]:
        ledger.append(block)
    before = ledger.path.read_bytes()
    Ledger(tmp_path).append(BLOCKS[1])
    assert ledger.path.read_bytes() == before
    with pytest.raises(LedgerError, match="block 2 was decided differently"):
        ledger.append(replace(BLOCKS[1], view=1))
    with pytest.raises(LedgerError, match="block 5 cannot follow"):
        Ledger(tmp_path).append(replace(BLOCKS[3], height=5))


@given(st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_a_crash_in_the_middle_of_a_line_costs_that_line_alone(tmp_path_factory, lost):
    folder = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(folder)
    for block in BLOCKS[:3]:
        ledger.append(block)
    size = ledger.path.stat().st_size
    with ledger.path.open("r+b") as file:
        file.truncate(size - lost)
    again = Ledger(folder)
    assert again.blocks == BLOCKS[: len(again.blocks)]
    for block in BLOCKS:
        again.append(block)
    assert list(read(folder)) == BLOCKS


def test_damaged_files_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no genesis\.json"):
        Genesis.read(tmp_path)
    with pytest.raises(InputError, match=r"no ledger\.jsonl"):
        list(read(tmp_path))
    (tmp_path / "ledger.jsonl").write_text('{"height": 1}\n')
    with pytest.raises(InputError, match="line 1 is damaged"):
        list(read(tmp_path))
    for change in ({"format": 2}, {"protocol": "raft"}, {"members": ["00"]}, {"regions": [[0, 0]]}, {"more": 1}):
        (tmp_path / "genesis.json").write_text(json.dumps({**json.loads(GENESIS.encode()), **change}))
        with pytest.raises(InputError) as caught:
            Genesis.read(tmp_path)
        assert "\n" not in str(caught.value)


def test_another_councils_genesis_is_not_overwritten(tmp_path):
    GENESIS.write(tmp_path)
    GENESIS.write(tmp_path)
    with pytest.raises(InputError, match="another council's"):
        replace(GENESIS, keys="others").write(tmp_path)
