"""Normal-case operation (Castro and Liskov, OSDI 1999, section 4.2), and clients (4.1)."""

import pytest
from council import ADMIN, CLIENT, Council, sent, signed_request

from consensus.machine import Answer, Noted, Persist, Send
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    NULL,
    PREPARE,
    Batch,
    Bundle,
    Content,
    Proposal,
    Reply,
    Request,
    Vote,
    batch_digest,
    decode,
    decode_as,
    encode,
)

A, B = b"a" * 32, b"b" * 32
OTHER = b"other client".ljust(32)


@pytest.fixture
def council():
    return Council()


def votes(effects, phase=None):
    return [vote for vote in sent(effects, Vote) if phase in (None, vote.phase)]


def refusals(council):
    return [note.detail for _, note in council.notes if note.what == "refused"]


# -- 4.1: clients --------------------------------------------------------------------------------------------


def test_everybody_executes_and_answers_a_request_once(council):
    council.decide(b"a")
    assert [replica.application.lines for replica in council.replicas] == [[b"a"]] * 4
    replies = [decode_as(Reply, data) for _, data in council.answers]
    assert sorted(reply.signer for reply in replies) == [0, 1, 2, 3]
    assert {(reply.client, reply.timestamp, reply.result) for reply in replies} == {(CLIENT, 1, b"done a")}


def test_an_old_request_is_answered_from_the_reply_table(council):
    request = council.ask(b"a")
    council.deliver()
    council.answers.clear()
    effects = council.receive(2, -1, request)
    assert len([effect for effect in effects if isinstance(effect, Answer)]) == 1
    assert not sent(effects), "nothing is ordered again"
    assert council[2].application.lines == [b"a"]


def test_a_request_older_than_the_last_executed_one_is_not_answered(council):
    council.decide(b"a", b"b")
    assert council.receive(2, -1, signed_request(b"a", 1)) == []


def test_a_reply_is_sent_to_nobody_who_passes_on_an_old_request(council):
    request = council.ask(b"a")
    council.deliver()
    assert council.receive(2, 3, request) == []


def test_a_backup_passes_a_clients_request_on_and_watches_the_leader(council):
    request = signed_request(b"a", 1)
    effects = council.receive(2, -1, request)
    assert [(e.to, e.kind) for e in effects if isinstance(e, Send)] == [((0,), "request")]
    assert sent(effects) == [request]
    assert ("view",) in council.timers[2]


def test_a_request_that_a_replica_passed_on_is_not_passed_on_again(council):
    effects = council.receive(2, 1, signed_request(b"a", 1))
    assert not sent(effects)


@pytest.mark.parametrize(
    "request_",
    [
        Request(CLIENT, 1, b"a", b"none"),
        Request(CLIENT, 2, b"a", signed_request(b"a", 1).signature),
        Request(CLIENT, -1, b"a", b"none"),
        Request(OTHER, 1, b"a", signed_request(b"a", 1).signature),
        Request(b"", 1, b"a", b""),
    ],
)
def test_a_request_with_a_false_signature_goes_nowhere(council, request_):
    assert council.receive(0, -1, request_) == []
    assert council.receive(1, -1, request_) == []


def test_a_request_that_the_application_refuses_is_not_even_kept(council):
    council.ask(b"no", to=range(4))
    council.deliver()
    assert all(len(replica.requests) == 0 for replica in council.replicas)


def test_two_requests_of_one_client_in_the_wrong_order_execute_the_newer_only(council):
    council.ask(b"second", timestamp=2)
    council.ask(b"first", timestamp=1)
    council.deliver()
    assert council[1].application.lines == [b"second"]


def test_a_request_that_is_decided_twice_is_executed_once(council):
    request = signed_request(b"a", 1)
    for seq in (1, 2):
        proposal = council.proposal(0, 0, seq, request)
        for place in (1, 2, 3):
            council.receive(place, 0, proposal)
        council.deliver()
        for place in (1, 2, 3):
            council.receive(place, 0, council.vote(0, COMMIT, 0, seq, proposal.digest))
    council.deliver()
    assert council[1].executed == 2
    assert council[1].application.lines == [b"a"]
    assert council.decided[1][2].results == (b"",)


# -- 4.2: pre-prepare ----------------------------------------------------------------------------------------


def test_a_backup_makes_batch_and_vote_durable_before_it_sends_the_vote(council):
    effects = council.receive(1, 0, council.proposal(0, 0, 1, signed_request(b"a", 1)))
    kinds = [type(effect) for effect in effects if isinstance(effect, Persist | Send)]
    assert kinds == [Persist, Persist, Send]
    assert votes(effects)[0].phase == PREPARE


def test_the_leader_makes_its_vote_durable_before_it_proposes(council):
    council.saw = lambda place, effect: log.append(type(effect))
    log = []
    council.ask(b"a")
    order = [kind for kind in log if kind in (Persist, Send)]
    assert order == [Persist, Persist, Send]


def test_the_leaders_proposal_is_its_vote(council):
    effects = council.receive(0, -1, signed_request(b"a", 1))
    (proposal,) = sent(effects)
    vote = council.vote(0, PREPARE, 0, 1, proposal.digest)
    assert proposal.signature == vote.signature
    assert council[0].slots[1].votes[PREPARE, 0, proposal.digest].signers == 0b1


def test_a_second_proposal_for_a_number_in_a_view_is_ignored(council):
    council.receive(1, 0, council.proposal(0, 0, 1, signed_request(b"a", 1)))
    assert council.receive(1, 0, council.proposal(0, 0, 1, signed_request(b"b", 1))) == []


def test_even_a_good_proposal_is_ignored_after_a_bad_one(council):
    council.receive(1, 0, council.proposal(0, 0, 1, Request(CLIENT, 1, b"a", b"false")))
    assert not votes(council.receive(1, 0, council.proposal(0, 0, 1, signed_request(b"a", 1))))


@pytest.mark.parametrize(
    "proposal",
    [
        pytest.param(lambda c: c.proposal(1, 0, 1, signed_request(b"a", 1)), id="signed by another replica"),
        pytest.param(lambda c: c.proposal(1, 1, 1, signed_request(b"a", 1)), id="of a view that has not begun"),
        pytest.param(lambda c: c.proposal(0, 0, 0, signed_request(b"a", 1)), id="at the low watermark"),
        pytest.param(lambda c: c.proposal(0, 0, 33, signed_request(b"a", 1)), id="above the high watermark"),
        pytest.param(lambda c: c.proposal(0, 0, 1, signed_request(b"a", 1), epoch=1), id="of another epoch"),
        pytest.param(lambda c: c.proposal(0, 0, 1, Request(CLIENT, 1, b"a", b"none")), id="with a false client"),
        pytest.param(lambda c: c.proposal(0, 0, 1, signed_request(b"no", 1)), id="refused by the application"),
        pytest.param(
            lambda c: of_batch(c, encode(Batch(1, (encode(signed_request(b"a", 1)),)))), id="of another view"
        ),
        pytest.param(lambda c: of_batch(c, b"no batch"), id="no batch"),
        pytest.param(lambda c: of_batch(c, encode(Batch(0, (b"no request",)))), id="no request"),
        pytest.param(lambda c: of_batch(c, b""), id="the null batch"),
        pytest.param(
            lambda c: of_batch(c, encode(Batch(0, (encode(signed_request(b"a", 1)),) * 300))), id="too many"
        ),
        pytest.param(lambda c: of_batch(c, encode(Batch(0, ())), digest=A), id="another batch than the signed one"),
    ],
)
def test_a_backup_does_not_vote_for_a_proposal(council, proposal):
    assert not votes(council.receive(1, 0, proposal(council)))
    assert (PREPARE, 0, 1) not in council[1].signed


def of_batch(council, batch, digest=None):
    digest = digest or batch_digest(batch)
    return Proposal(0, 0, 1, digest, batch, b"", len(batch), council.vote(0, PREPARE, 0, 1, digest).signature)


def test_a_proposal_may_come_from_anybody_as_long_as_the_leader_signed_it(council):
    assert votes(council.receive(1, 3, council.proposal(0, 0, 1, signed_request(b"a", 1))))


def test_a_forged_request_with_the_number_of_one_that_waits_is_found_out(council):
    """The backup has checked the client's real request, and must not take that for a check of this one."""
    council.receive(1, -1, signed_request(b"pay 1", 1))
    effects = council.receive(1, 0, council.proposal(0, 0, 1, Request(CLIENT, 1, b"pay 1000", b"")))
    assert not votes(effects)
    assert refusals(council) == ["a request that no client signed"]


def test_the_leader_stops_at_the_high_watermark():
    council = Council(period=2, window=4, in_flight=100)
    council.lost = lambda sender, to, data, kind: kind == "checkpoint"
    for number in range(1, 8):
        council.decide(b"%d" % number)
    assert [replica.executed for replica in council.replicas] == [4] * 4
    assert max(council[0].slots) == 4
    assert len(council[0].requests) == 3, "they wait for the window to open"


def test_the_leader_has_at_most_so_many_numbers_under_way():
    council = Council(in_flight=2)
    for number in range(1, 6):
        council.ask(b"%d" % number)
    assert sorted(council[0].slots) == [1, 2]
    council.deliver()
    # What waited meanwhile goes into one batch.
    assert council[0].executed == 3
    assert council[0].application.lines == [b"1", b"2", b"3", b"4", b"5"]


def test_a_batch_holds_at_most_so_many_requests():
    council = Council(in_flight=1, batch_requests=2)
    for number in range(1, 6):
        council.ask(b"%d" % number)
    council.deliver()
    assert [len(council.decided[1][seq].requests) for seq in sorted(council.decided[1])] == [1, 2, 2]


# -- 4.2: prepare --------------------------------------------------------------------------------------------


def proposed(council, place=1):
    proposal = council.proposal(0, 0, 1, signed_request(b"a", 1))
    council.receive(place, 0, proposal)
    return proposal.digest


def test_a_quorum_of_prepare_votes_makes_a_replica_commit(council):
    digest = proposed(council)
    effects = council.receive(1, 2, council.vote(2, PREPARE, 0, 1, digest))
    assert [vote.phase for vote in votes(effects)] == [COMMIT]
    certificate = council[1].slots[1].prepared
    assert certificate == council.bundle((0, 1, 2), PREPARE, 0, 1, digest)


def test_the_prepared_certificate_is_durable_before_the_commit_vote_leaves(council):
    digest = proposed(council)
    effects = council.receive(1, 2, council.vote(2, PREPARE, 0, 1, digest))
    order = [
        type(decode(e.record if isinstance(e, Persist) else e.data)) for e in effects if not isinstance(e, Noted)
    ]
    assert order == [Bundle, Vote, Vote], "certificate and vote written, then the vote sent"
    assert isinstance(effects[-1], Send)


@pytest.mark.parametrize(
    "vote",
    [
        pytest.param(lambda c, d: c.vote(0, PREPARE, 0, 1, d), id="the leader's, which came with the proposal"),
        pytest.param(lambda c, d: c.vote(1, PREPARE, 0, 1, d), id="its own"),
        pytest.param(lambda c, d: c.vote(2, PREPARE, 0, 1, B), id="for another digest"),
        pytest.param(lambda c, d: c.vote(2, PREPARE, 1, 1, d), id="of another view"),
        pytest.param(lambda c, d: c.vote(2, PREPARE, 0, 2, d), id="of another number"),
        pytest.param(lambda c, d: c.vote(2, PREPARE, 0, 1, d, epoch=1), id="of another epoch"),
        pytest.param(lambda c, d: c.vote(2, COMMIT, 0, 1, d), id="of another phase"),
        pytest.param(lambda c, d: c.vote(4, PREPARE, 0, 1, d), id="of no member"),
        pytest.param(lambda c, d: Vote(PREPARE, 0, 0, 1, d, -1, b"none"), id="of nobody"),
        pytest.param(lambda c, d: Vote(PREPARE, 0, 0, 1, d, 2, b"none"), id="with a false signature"),
        pytest.param(lambda c, d: c.bundle((0, 1), PREPARE, 0, 1, d), id="a bundle of signers that were counted"),
    ],
)
def test_a_vote_that_adds_no_signer_makes_nothing_prepared(council, vote):
    digest = proposed(council)
    council.receive(1, 2, vote(council, digest))
    assert council[1].slots[1].prepared is None


def test_votes_may_come_before_the_proposal(council):
    proposal = council.proposal(0, 0, 1, signed_request(b"a", 1))
    for signer in (2, 3):
        council.receive(1, signer, council.vote(signer, PREPARE, 0, 1, proposal.digest))
    effects = council.receive(1, 0, proposal)
    assert [vote.phase for vote in votes(effects)] == [PREPARE, COMMIT]


def test_a_replica_that_votes_twice_is_heard_once_and_told_of(council):
    council.receive(1, 2, council.vote(2, PREPARE, 0, 1, A))
    council.receive(1, 2, council.vote(2, PREPARE, 0, 1, B))
    assert council[1].slots[1].votes[PREPARE, 0, A].signers == 0b100
    assert (PREPARE, 0, B) not in council[1].slots[1].votes
    assert [note.detail for _, note in council.notes if note.what == "evidence"] == [
        "replica 2 signed two digests in view 0"
    ]


def test_it_takes_no_more_than_one_vote_of_each_member_into_memory(council):
    for number in range(200):
        council.receive(1, 2, council.vote(2, PREPARE, 0, 1, bytes([number]) * 32))
    assert len(council[1].slots[1].votes) == 1


# -- certificates and bundles --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bundle",
    [
        pytest.param(lambda c, d: c.bundle((0, 1), COMMIT, 0, 1, d), id="two signers"),
        pytest.param(
            lambda c, d: Bundle(COMMIT, 0, 0, 1, d, b"\x03", c.bundle((0, 1, 1), COMMIT, 0, 1, d).signature),
            id="a signer repeated",
        ),
        pytest.param(
            lambda c, d: Bundle(COMMIT, 0, 0, 1, d, b"\x07\x00", c.bundle((0, 1, 2), COMMIT, 0, 1, d).signature),
            id="a bit set with a trailing zero",
        ),
        pytest.param(lambda c, d: c.bundle((0, 1, 4), COMMIT, 0, 1, d), id="a stray bit"),
        pytest.param(lambda c, d: c.bundle((0, 1, 3, 60), COMMIT, 0, 1, d), id="a bit far out"),
        pytest.param(lambda c, d: c.bundle((0, 1, 2), COMMIT, 0, 1, d, epoch=1), id="of another epoch"),
        pytest.param(lambda c, d: c.bundle((0, 1, 2), PREPARE, 0, 1, d), id="of the wrong phase"),
        pytest.param(
            lambda c, d: Bundle(COMMIT, 0, 0, 1, d, b"\x07", c.bundle((0, 1, 2), PREPARE, 0, 1, d).signature),
            id="signatures of another phase",
        ),
        pytest.param(
            lambda c, d: Bundle(COMMIT, 0, 0, 1, d, b"\x07", c.bundle((0, 1, 2), COMMIT, 1, 1, d).signature),
            id="signatures of another view",
        ),
    ],
)
def test_what_is_no_commit_certificate_decides_nothing(council, bundle):
    digest = proposed(council)
    council.receive(1, 2, bundle(council, digest))
    assert council[1].executed == 0
    assert council[1].slots[1].committed is None


def test_a_commit_certificate_decides_in_whatever_view_it_was_made(council):
    digest = proposed(council)
    council.receive(1, 2, council.bundle((0, 2, 3), COMMIT, 7, 1, digest))
    assert council[1].executed == 1


def test_bundles_of_some_votes_add_up(council):
    digest = proposed(council)
    council.receive(1, 2, council.bundle((2, 3), PREPARE, 0, 1, digest))
    assert council[1].slots[1].prepared == council.bundle((0, 1, 2, 3), PREPARE, 0, 1, digest)


# -- 4.2: commit and execution -------------------------------------------------------------------------------


def test_a_prepared_number_is_not_executed(council):
    digest = proposed(council)
    council.receive(1, 2, council.vote(2, PREPARE, 0, 1, digest))
    council.receive(1, 2, council.vote(2, COMMIT, 0, 1, digest))
    assert council[1].executed == 0
    council.receive(1, 3, council.vote(3, COMMIT, 0, 1, digest))
    assert council[1].executed == 1


def test_numbers_are_executed_in_order_whatever_is_decided_first(council):
    proposals = [council.proposal(0, 0, seq, signed_request(b"%d" % seq, seq)) for seq in (1, 2, 3)]
    for proposal in proposals:
        council.receive(1, 0, proposal)
    for proposal in reversed(proposals):
        assert council[1].executed == 0
        council.receive(1, 2, council.bundle((0, 2, 3), COMMIT, 0, proposal.seq, proposal.digest))
    assert council[1].application.lines == [b"1", b"2", b"3"]
    assert list(council.decided[1]) == [1, 2, 3]


def test_a_decided_batch_that_is_not_here_is_fetched_from_those_who_signed(council):
    proposal = council.proposal(0, 0, 1, signed_request(b"a", 1))
    for place in (0, 2, 3):
        council.receive(place, 0, proposal)
    council.queue.clear()
    effects = council.receive(1, 2, council.bundle((0, 2, 3), COMMIT, 0, 1, proposal.digest))
    (fetch,) = [e for e in effects if isinstance(e, Send)]
    assert fetch.kind == "sync"
    assert fetch.to[0] in (0, 2, 3)
    council.deliver()
    assert council[1].application.lines == [b"a"]


def test_content_with_another_digest_is_not_taken(council):
    digest = batch_digest(b"real")
    council.receive(1, 2, council.bundle((0, 2, 3), COMMIT, 0, 1, digest))
    council.receive(1, 3, Content(1, b"false"))
    assert council[1].batches == {}


def test_an_executed_null_batch_changes_nothing_but_the_number(council):
    council.receive(1, 2, council.bundle((0, 2, 3), COMMIT, 1, 1, NULL))
    assert (council[1].executed, council[1].application.lines) == (1, [])
    assert council.decided[1][1].requests == ()


def test_a_leader_that_equivocates_divides_the_votes_and_decides_nothing(council):
    one = council.proposal(0, 0, 1, signed_request(b"a", 1))
    other = council.proposal(0, 0, 1, signed_request(b"b", 1))
    council.crash(0)
    council.receive(1, 0, one)
    council.receive(2, 0, other)
    council.receive(3, 0, other)
    council.deliver()
    # The equivocator's own vote makes `other` prepared at 2 and 3, whose two COMMIT votes are no quorum.
    assert [council[place].executed for place in (1, 2, 3)] == [0, 0, 0]
    assert council[1].slots[1].prepared is None
    assert council[2].slots[1].prepared is not None


def test_the_admin_is_not_asked_of_the_application(council):
    council.ask(b"no", to=(0,), client=ADMIN)
    council.deliver()
    assert council[1].executed == 1
    assert council[1].replies[ADMIN].result == b"refused: not a member list"


def test_checkpoint_votes_of_a_view_are_no_checkpoint_votes(council):
    council.receive(1, 2, council.vote(2, CHECKPOINT, 1, 16, A))
    assert not council[1].slots[16].votes
