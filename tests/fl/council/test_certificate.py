"""A client trains on what the council decided, and on nothing else."""

import msgspec
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg
from made_up import model, record, rounds
from msgspec.structs import replace

from consensus.ledger import Block
from consensus.messages import Bundle, decode_as, encode
from fl.council.certificate import RECORD, CertificateError, attached, check
from fl.engine import flower
from fl.strategy import ConsensusStrategy

MINIMA = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}


@pytest.fixture
def sent(council):
    """What a council of four sends in three rounds: one message of each."""
    made = council(4)
    models, messages = rounds(ConsensusStrategy(FedAvg(**MINIMA), made), 3)
    return made, models, [of_round[0] for of_round in messages]


def copy_of(message, **records):
    content = RecordDict({**dict(message.content.items()), **records})
    return Message(content, 101, "train")


@pytest.fixture
def client():
    return flower.build_context(1, 101, {}, {})


def test_a_client_takes_every_rounds_model_with_its_block_and_trains_without_it(sent, client):
    _, _, messages = sent
    for server_round, message in enumerate(messages, start=1):
        received = copy_of(message)
        check(received, client, server_round)
        assert RECORD not in received.content  # nothing of it goes into what is charged or noised


def test_a_model_without_a_block_is_refused(sent, client):
    bare = copy_of(sent[2][0])
    del bare.content[RECORD]
    with pytest.raises(CertificateError, match="without the block that made it"):
        check(bare, client, 1)


def test_a_model_that_the_council_did_not_decide_on_is_refused(sent, client):
    arrays = model()
    arrays["bias"][0] += 1
    with pytest.raises(CertificateError, match="not the one of block 1"):
        check(copy_of(sent[2][0], arrays=record(arrays)), client, 1)


def test_an_older_block_or_one_of_the_same_round_is_refused(sent, client):
    _, _, messages = sent
    check(copy_of(messages[2]), client, 3)
    with pytest.raises(CertificateError, match="block 1 is older than block 3"):
        check(copy_of(messages[0]), client, 4)
    with pytest.raises(CertificateError, match="block is of round 2, the model for round 2"):
        check(copy_of(messages[2]), client, 2)


def test_another_council_is_refused_once_one_is_pinned(sent, client, council):
    check(copy_of(sent[2][0]), client, 1)
    _, messages = rounds(ConsensusStrategy(FedAvg(**MINIMA), council(5)), 1)
    with pytest.raises(CertificateError, match="another council's"):
        check(copy_of(messages[0][0]), client, 1)


def test_a_certificate_of_too_few_or_with_a_forged_signature_is_refused(sent, client):
    made, _, messages = sent
    block = msgspec.json.decode(messages[0].content[RECORD]["block"], type=Block)
    bundle = decode_as(Bundle, block.certificate)
    forged = replace(bundle, signature=bytes([bundle.signature[0] ^ 1]) + bundle.signature[1:])
    few = replace(bundle, signers=b"\x01", signature=bundle.signature[:64])
    for changed, why in ((forged, "signature of replica"), (few, "no quorum")):
        bad = attached(made.genesis, replace(block, certificate=encode(changed)))
        with pytest.raises(CertificateError, match=why):
            check(copy_of(messages[0], **{RECORD: bad}), client, 1)


@pytest.mark.parametrize("name", ["genesis", "block"])
@pytest.mark.parametrize("value", [b"", b"{}", "text", b"\xff" * 9])
def test_what_cannot_be_read_is_refused(sent, client, name, value):
    parts = dict(sent[2][0].content[RECORD].items()) | {name: value}
    with pytest.raises(CertificateError, match="cannot be read"):
        check(copy_of(sent[2][0], **{RECORD: ConfigRecord(parts)}), client, 1)
