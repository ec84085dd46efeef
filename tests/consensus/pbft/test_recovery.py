"""Crash and recovery: a replica that forgets what it signed is as bad as a faulty one."""

import pytest
from council import STATUS, VIEW, Book, Council, null_schemes, sent, signed_request

from consensus.machine import Decided, Persist, Received, Send
from consensus.messages import COMMIT, NULL, PREPARE, Signed, ViewChange, Vote, decode_as, encode
from consensus.pbft.replica import Replica

A = b"a" * 32


@pytest.fixture
def council():
    return Council()


def no_commits(sender, to, data, kind):
    vote = decode_as(Vote, data)
    return vote is not None and vote.phase == COMMIT


def another_proposal(council, leader=0, view=0, seq=1):
    return council.proposal(leader, view, seq, signed_request(b"another", 9))


def test_a_replica_comes_back_with_what_it_decided(council):
    council.decide(b"a", b"b")
    effects = []
    council.saw = lambda place, effect: effects.append(effect)
    replica = council.restart(2)
    assert replica.application.lines == [b"a", b"b"]
    assert [effect.seq for effect in effects if isinstance(effect, Decided)] == [1, 2], "told once per life"


def test_it_never_signs_a_second_digest(council):
    council.lost = no_commits
    council.decide(b"a")
    before = dict(council[2].signed)
    replica = council.restart(2)
    assert replica.signed == before
    assert not sent(council.receive(2, 0, another_proposal(council)), Vote)
    assert replica.sign_vote(PREPARE, 0, 1, A) is None
    assert replica.sign_vote(COMMIT, 0, 1, A) is None


def test_a_vote_that_was_durable_but_not_sent_is_sent_again_after_the_restart(council):
    """A crash between persist and send."""
    effects = council[1].step(Received(0, encode(council.proposal(0, 0, 1, signed_request(b"a", 1)))))
    written = [effect for effect in effects if isinstance(effect, Persist)]
    assert not any(isinstance(effect, Send) for effect in effects[: effects.index(written[-1])])
    council.carry_out(1, written)
    replica = council.restart(1)
    (vote,) = replica.slots[1].own_votes.values()
    assert vote == decode_as(Vote, written[-1].record)
    council.deliver()  # the others say where they stand when they are asked
    assert not sent(council.receive(1, 0, another_proposal(council)), Vote)


def test_a_crash_before_anything_was_durable_leaves_the_replica_free(council):
    council[1].step(Received(0, encode(council.proposal(0, 0, 1, signed_request(b"a", 1)))))
    council.restart(1)
    assert sent(council.receive(1, 0, another_proposal(council)), Vote)


def test_a_leader_that_comes_back_proposes_nothing_else_for_a_number(council):
    council.lost = lambda sender, to, data, kind: True
    council.ask(b"a")
    digest = council[0].slots[1].digest
    council.deliver()
    replica = council.restart(0)
    council.lost = lambda sender, to, data, kind: False
    council.ask(b"b")
    assert replica.slots[1].digest == digest
    assert replica.slots[2].proposal is not None


def test_the_prepared_certificate_survives(council):
    council.lost = no_commits
    council.decide(b"a")
    certificate = council[2].slots[1].prepared
    council.restart(2)
    assert council[2].slots[1].prepared == certificate
    council.receive(2, -1, signed_request(b"b", 2))
    council[2].on_view_timer()
    (change,) = [body for m in sent(council[2]._taken(), Signed) if (body := decode_as(ViewChange, m.body))]
    assert change.prepared == (certificate,)


def test_a_view_that_was_wanted_is_still_wanted(council):
    """A restarted replica that takes part in a view it had left would break what its VIEW-CHANGE promised."""
    council.receive(2, -1, signed_request(b"a", 1))
    council.fire(VIEW, 2)
    effects = []
    council.saw = lambda place, effect: effects.append(effect)
    replica = council.restart(2)
    assert (replica.view, replica.active) == (1, False)
    assert [body.view for m in sent(effects, Signed) if (body := decode_as(ViewChange, m.body))] == [1]
    assert not sent(council.receive(2, 0, council.proposal(0, 0, 1, signed_request(b"a", 1))), Vote)


def test_a_view_that_began_has_begun(council):
    for place in (1, 2, 3):
        council.receive(place, -1, signed_request(b"a", 1))
    council.crash(0)
    council.queue.clear()
    council.fire(VIEW, 1, 2, 3)
    council.deliver()
    for place in (1, 2, 3):
        replica = council.restart(place)
        assert (replica.view, replica.active) == (1, True)
        assert replica.new_view is not None
        assert replica.application.lines == [b"a"]


def prescribing(council):
    """A NEW-VIEW of view 1 that prescribes null for 1 and A for 2."""
    prepared = [council.bundle((0, 1, 3), PREPARE, 0, 2, A)]
    return council.new_view(1, 1, [council.view_change(signer, 1, prepared=prepared) for signer in (0, 1, 3)])


def test_a_crash_right_after_the_new_view_was_written_loses_nothing_of_what_it_prescribes(council):
    """NEW-VIEW is durable, the votes that follow from it are not: it still admits no other digest."""
    effects = council[2].step(Received(1, encode(prescribing(council))))
    first = next(effect for effect in effects if isinstance(effect, Persist))
    council.carry_out(2, [first])
    effects = []
    council.saw = lambda place, effect: effects.append(effect)
    replica = council.restart(2)
    assert replica.prescribed == {1: NULL, 2: A}
    assert [(vote.seq, vote.digest) for vote in sent(effects, Vote)] == [(1, NULL), (2, A)]
    for seq in (1, 2):
        assert not sent(council.receive(2, 1, another_proposal(council, leader=1, view=1, seq=seq)), Vote)


def test_whatever_prefix_of_its_records_survives_a_replica_contradicts_no_vote_it_wrote(council):
    """Crash at every record of a run with decisions, a view change and a checkpoint."""
    council = Council(period=2, window=4)
    records = []
    council.saw = lambda place, effect: records.append(effect) if place == 2 and isinstance(effect, Persist) else None
    council.lost = no_commits
    council.decide(b"a")
    council.crash(0)
    council.lost = lambda sender, to, data, kind: False
    council.fire(VIEW, 1, 2, 3)
    council.deliver()
    council.decide(b"b", b"c", to=(1, 2, 3))
    assert council[2].low == 2
    assert len(records) > 10
    for end in range(len(records) + 1):
        replica = Replica(council.configs[2], null_schemes, Book())
        replica.recover([effect.record for effect in records[:end]])
        for vote in (vote for effect in records[:end] if (vote := decode_as(Vote, effect.record))):
            if vote.seq > replica.low:
                assert replica.signed[vote.phase, vote.view, vote.seq] == vote.digest
        assert replica.application.lines == [b"a", b"b", b"c"][: len(replica.application.lines)]


def test_votes_above_a_checkpoint_that_were_signed_before_it_survive():
    """They stand before the state in the log, at numbers beyond the first window."""
    council = Council(period=2, window=4, in_flight=8)
    council.decide(b"1", b"2")
    held = []
    council.lost = lambda sender, to, data, kind: kind == "checkpoint" and not held.append((sender, to, data))
    council.decide(b"3", b"4", b"5", b"6")
    assert [replica.low for replica in council.replicas] == [2] * 4
    council.lost = lambda sender, to, data, kind: False
    for sender, to, data in held:
        if decode_as(Vote, data).seq == 4:
            council.receive(to, sender, data)
    assert [replica.low for replica in council.replicas] == [4] * 4
    before = dict(council[1].signed)
    assert (PREPARE, 0, 6) in before
    replica = council.restart(1)
    assert replica.signed == before
    assert replica.application.lines == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_the_whole_council_may_crash_at_once(council):
    council.lost = no_commits
    council.decide(b"a")
    council.lost = lambda sender, to, data, kind: False
    for place in range(4):
        council.restart(place)
    council.deliver()
    for _ in range(2):
        council.fire(STATUS, *[place for place in range(4) if STATUS in council.timers[place]])
        council.deliver()
    assert [replica.application.lines for replica in council.replicas] == [[b"a"]] * 4


def test_a_restarted_replica_catches_up_with_what_it_missed(council):
    council.decide(b"a")
    council.crash(3)
    council.decide(b"b", b"c")
    council.restart(3)
    council.deliver()
    assert council[3].application.lines == [b"a", b"b", b"c"]


def test_an_empty_log_is_a_new_replica(council):
    replica = Replica(council.configs[0], null_schemes, Book())
    replica.recover([])
    assert (replica.executed, replica.view, replica.active, replica.signed) == (0, 0, True, {})
