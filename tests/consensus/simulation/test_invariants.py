"""Every invariant is seen to fail: a watchdog that never barks proves nothing."""

import pytest

from consensus.identity import Null, null_client_signature
from consensus.machine import Decided, Forget, Noted, Persist, Send
from consensus.messages import (  # fmt: skip
    CHECKPOINT,
    COMMIT,
    PREPARE,
    Bundle,
    Proposal,
    Request,
    Vote,
    encode,
    request_statement,
    signers_to_bytes,
    statement,
)
from consensus.quorum import Threshold
from consensus.simulation.events import Node
from consensus.simulation.invariants import Invariants

CHAIN = bytes(32)
CLIENT = b"c" * 32
A, B = b"a" * 32, b"b" * 32


def watcher(correct=(0, 1, 2)):
    return Invariants(CHAIN, lambda epoch: Threshold(4), Null(0, 4), correct, window=8)


def node(identity):
    return Node(identity, identity, None)


def request(timestamp, good=True):
    about = request_statement(CHAIN, timestamp, b"op")
    return encode(Request(CLIENT, timestamp, b"op", null_client_signature(CLIENT, about) if good else b"bad!"))


def certificate(seq, digest=A, signers=0b111, phase=COMMIT, signature=None):
    about = statement(CHAIN, phase, 0, 0, seq, digest)
    scheme = Null(0, 4)
    parts = [(1 << who, Null(who, 4).sign(about)) for who in range(4) if signers >> who & 1]
    return encode(Bundle(phase, 0, 0, seq, digest, signers_to_bytes(signers), signature or scheme.combine(parts)))


def decision(seq, digest=A, requests=(), results=None, proof=None):
    results = tuple(b"r" for _ in requests) if results is None else results
    return Decided(seq, 0, 0, digest, tuple(requests), proof or certificate(seq, digest), results)


def vote(signer, digest=A, phase=PREPARE, view=0, seq=1):
    signature = Null(signer, 4).sign(statement(CHAIN, phase, 0, view, seq, digest))
    return Vote(phase, 0, view, seq, digest, signer, signature)


def keep_and_send(watch, who, message, kind="vote"):
    watch.persisted(0, node(who), Persist(message.seq, encode(message)))
    watch.leaves(0, node(who), Send((3,), encode(message), kind))


def broken(watch):
    return [violation.invariant for violation in watch.violations]


def test_what_is_right_breaks_nothing():
    watch = watcher()
    for who in (0, 1):
        for seq in (1, 2):
            watch.decided(0, node(who), decision(seq, requests=[request(seq)]))
            keep_and_send(watch, who, vote(who, seq=seq))
    assert broken(watch) == []


def test_two_digests_for_a_number_break_agreement():
    watch = watcher()
    watch.decided(0, node(0), decision(1, A))
    watch.decided(0, node(1), decision(1, B))
    assert broken(watch) == ["agreement"]


def test_different_results_break_agreement():
    watch = watcher()
    watch.decided(0, node(0), decision(1, requests=[request(1)], results=(b"x",)))
    watch.decided(0, node(1), decision(1, requests=[request(1)], results=(b"y",)))
    assert broken(watch) == ["agreement"]


def test_faulty_replicas_may_say_what_they_like():
    watch = watcher(correct=(0, 1))
    watch.decided(0, node(0), decision(1, A))
    watch.decided(0, node(2), decision(1, B))
    keep_and_send(watch, 2, vote(2, A))
    keep_and_send(watch, 2, vote(2, B))
    assert broken(watch) == []


@pytest.mark.parametrize("numbers", [(2,), (1, 3), (1, 1), (1, 2, 1)])
def test_gaps_and_repetitions_break_the_prefix(numbers):
    watch = watcher()
    for seq in numbers:
        watch.decided(0, node(0), decision(seq))
    assert broken(watch) == ["prefix"]


def test_a_new_life_may_decide_again_and_a_transfer_may_leap():
    watch = watcher()
    for seq in (1, 2):
        watch.decided(0, node(0), decision(seq))
    watch.started(0, node(0))
    watch.decided(0, node(0), decision(2))
    watch.noted(0, node(0), Noted("transfer", 6))
    watch.decided(0, node(0), decision(7))
    assert broken(watch) == []
    watch.started(0, node(0))
    watch.decided(0, node(0), decision(9))
    assert broken(watch) == ["prefix"]


def test_an_unsigned_request_is_noticed():
    watch = watcher()
    watch.decided(0, node(0), decision(1, requests=[request(1, good=False)]))
    assert broken(watch) == ["client signature"]


def test_a_request_that_is_executed_twice_is_noticed_and_one_that_is_only_ordered_twice_is_not():
    watch = watcher()
    watch.decided(0, node(0), decision(1, requests=[request(1)]))
    watch.decided(0, node(0), decision(2, requests=[request(1)], results=(b"",)))
    assert broken(watch) == []
    watch.decided(0, node(0), decision(3, requests=[request(1)]))
    watch.decided(0, node(0), decision(4, requests=[request(2), request(2)]))
    assert broken(watch) == ["exactly once", "exactly once"]


@pytest.mark.parametrize(
    "proof",
    [
        certificate(1, signers=0b11),
        certificate(1, signers=0b11, signature=Null(0, 4).sign(b"") * 3),
        certificate(1, signature=b"\0" * 12),
        certificate(1, B),
        certificate(2),
        certificate(1, phase=PREPARE),
        encode(vote(0)),
    ],
)
def test_a_certificate_that_is_none_is_noticed(proof):
    watch = watcher()
    watch.decided(0, node(0), decision(1, proof=proof))
    assert broken(watch) == ["certificate"]


def test_two_votes_for_one_place_are_noticed_even_in_different_lives_and_forms():
    watch = watcher()
    keep_and_send(watch, 0, vote(0, A))
    watch.started(0, node(0))
    about = statement(CHAIN, PREPARE, 0, 0, 1, B)
    proposal = Proposal(0, 0, 1, B, b"", b"", 0, Null(0, 4).sign(about))
    watch.leaves(0, node(0), Send((1,), encode(proposal), "vote"))
    assert broken(watch) == ["one vote"]


def test_a_proposal_that_is_passed_on_is_not_the_own_vote():
    watch = watcher()
    about = statement(CHAIN, PREPARE, 0, 0, 1, B)
    proposal = Proposal(0, 0, 1, B, b"", b"", 0, Null(3, 4).sign(about))
    watch.leaves(0, node(0), Send((1,), encode(proposal), "vote"))
    assert broken(watch) == []


def test_a_vote_that_leaves_before_it_is_durable_is_noticed_also_inside_a_bundle():
    watch = watcher()
    watch.leaves(0, node(0), Send((1,), encode(vote(0)), "vote"))
    watch.leaves(0, node(1), Send((0,), certificate(2, signers=0b10), "vote"))
    assert broken(watch) == ["persist, then send"] * 2


def test_a_vote_in_an_earlier_view_is_noticed():
    watch = watcher()
    keep_and_send(watch, 0, vote(0, view=2))
    keep_and_send(watch, 0, vote(0, view=1, seq=2))
    assert broken(watch) == ["views"]


def test_different_states_at_a_checkpoint_are_noticed():
    watch = watcher()
    keep_and_send(watch, 0, vote(0, A, CHECKPOINT, seq=4), "checkpoint")
    keep_and_send(watch, 1, vote(1, B, CHECKPOINT, seq=4), "checkpoint")
    assert broken(watch) == ["checkpoint"]


def test_a_vote_beyond_the_window_is_noticed():
    watch = watcher()
    keep_and_send(watch, 0, vote(0, seq=8))
    watch.persisted(0, node(0), Forget(4))
    keep_and_send(watch, 0, vote(0, seq=12))
    assert broken(watch) == []
    keep_and_send(watch, 0, vote(0, seq=13))
    assert broken(watch) == ["window"]


def test_different_final_states_are_noticed():
    watch = watcher()
    watch.finish(0, {0: (3, b"x"), 1: (2, b"w"), 2: (3, b"y")})
    assert broken(watch) == ["final state"]
