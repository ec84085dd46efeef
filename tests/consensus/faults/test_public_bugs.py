"""Bugs that others shipped, as scenarios: each passes here, and fails on a replica that makes the same mistake."""

from contextlib import nullcontext
from unittest.mock import patch

import pytest
from broken import AnyNewView, NoSuchQuorum, Resets, WithoutViews
from council import ADMIN, CHAIN, CLIENT, VIEW, Council, key, sent, signed_request

from consensus.machine import Answer
from consensus.messages import (
    COMMIT,
    NULL,
    PREPARE,
    Proposal,
    Reply,
    Request,
    Vote,
    decode,
    encode,
    reply_statement,
)
from consensus.pbft.config import Protocol
from consensus.pbft.membership import change
from consensus.pbft.replica import Replica
from consensus.pbft.view_change import newest_stable, prescribed
from consensus.protocols.two_layer import TWO_LAYER
from consensus.quorum import Threshold, TwoLayer, bits_of
from consensus.simulation.scenarios import Scenario, run


def made_of(replica):
    return patch("council.Replica", replica)


def decided_twice(council):
    """Numbers for which two replicas decided different batches."""
    digests = {}
    for decided in council.decided:
        for seq, effect in decided.items():
            digests.setdefault(seq, set()).add(effect.digest)
    return [seq for seq, different in digests.items() if len(different) > 1]


def only_replica_2_decides(council, operation=b"first"):
    """Let number 1 be prepared by all but decided by replica 2 alone, which is then cut off from the others."""
    council.lost = lambda sender, to, data, kind: (
        isinstance(v := decode(data), Vote) and v.phase == COMMIT and to != 2
    )
    council.decide(operation)
    assert [list(decided) for decided in council.decided] == [[], [], [1], []]
    council.crash(2)
    council.lost = lambda *message: False


def say(council, signer, message):
    for place in range(council.n):
        if place not in council.down and place != signer:
            council.receive(place, signer, message)


# -- concord-bft, pull request 50: an invalid certificate in one view change hid the valid ones of others ----------


def highest_or_null(changes, epoch, low):
    """Take for every number the certificate of the highest view, and null when that one turns out to be invalid."""
    best = {}
    for certificate in (one for each in changes for one in each.prepared):
        if certificate.seq > low and (certificate.seq not in best or best[certificate.seq].view <= certificate.view):
            best[certificate.seq] = certificate
    return {seq: one.digest if epoch.certifies(one) else NULL for seq, one in best.items()}


def an_invalid_certificate_among_valid_ones():
    council = Council(4)
    only_replica_2_decides(council)
    council.crash(3)  # what it says from here on is made up
    council.fire(VIEW, 0, 1)
    council.deliver()
    false = council.bundle((3,), PREPARE, 0, 1, b"x" * 32)
    say(council, 3, council.view_change(3, 1, prepared=[false]))
    say(council, 3, council.view_change(3, 1))
    council.deliver()
    return council


def test_an_invalid_certificate_hides_no_valid_one():
    council = an_invalid_certificate_among_valid_ones()
    for place in (0, 1):
        assert council[place].prescribed == {1: council.decided[2][1].digest}


def test_where_claims_are_believed_first_an_invalid_certificate_hides_valid_ones():
    with (
        patch("consensus.pbft.views.well_founded", lambda *claim: True),
        patch("consensus.pbft.views.prescribed", highest_or_null),
    ):
        council = an_invalid_certificate_among_valid_ones()
    assert council[0].prescribed == {1: NULL}, "what replica 2 decided is lost"


# -- raijin, issue 8: prepares and commits were dropped at a view change -------------------------------------------


@pytest.mark.parametrize(("replica", "forked"), [(Replica, []), (Resets, [1])])
def test_what_was_prepared_survives_a_view_change(replica, forked):
    with made_of(replica):
        council = Council(4)
        only_replica_2_decides(council)
        council.ask(b"second", to=(0, 1, 3))
        council.lost = lambda sender, to, data, kind: isinstance(decode(data), Proposal) and sender == 0
        council.queue.clear()
        council.fire(VIEW, 0, 1, 3)
        council.deliver()
    assert council[1].active
    assert decided_twice(council) == forked


# -- concord-bft, pull request 805: a restarted replica forgot the view that it was waiting for --------------------


@pytest.mark.parametrize(("replica", "views"), [(Replica, []), (WithoutViews, [0])])
def test_a_replica_that_waits_for_a_view_still_does_after_a_restart(replica, views):
    with made_of(replica):
        council = Council(4)
        council.decide(b"first")
        council.ask(b"second", to=(3,))
        council.fire(VIEW, 3)
        council.queue.clear()
        council.crash(3)
        again = council.restart(3)
        council.queue.clear()
        proposal = council.proposal(0, 0, 2, signed_request(b"third", 9))
        effects = council.receive(3, 0, proposal)
    assert [vote.view for vote in sent(effects, Vote)] == views
    assert again.view == (0 if views else 1)


# -- concord-bft, pull request 1177: a replica that lagged when a view began never entered it ----------------------


class EntersOnlyUpToDate(Replica):
    """Puts a new view off while it lacks the state of that view's checkpoint, and never comes back to it."""

    put_off = False

    def _proven(self, signed, message):
        changes = super()._proven(signed, message)
        if changes and newest_stable(changes, self.header_base)[0] > self.executed:
            self.put_off = True
        return None if self.put_off else changes


@pytest.mark.parametrize(("replica", "active"), [(Replica, True), (EntersOnlyUpToDate, False)])
def test_a_replica_that_lagged_when_a_view_began_enters_it_once_it_has_the_state(replica, active):
    with made_of(replica):
        council = Council(4, period=2, window=4)
        council.lost = lambda sender, to, data, kind: 3 in (sender, to)
        council.decide(b"1", b"2", b"3", b"4")
        council.lost = lambda sender, to, data, kind: False
        council.ask(b"5", to=(1, 2, 3))
        council.queue.clear()
        council.fire(VIEW, 1, 2, 3)
        council.deliver()
        council.crash(0)  # from now on replica 3 is needed
        council.ask(b"6", to=(1, 2, 3))
        council.deliver()
    assert council[3].active == active
    assert (b"6" in council[1].application.lines) == active


# -- concord-bft, pull requests 912 and 927: what a late replica needed was gone after a stop ----------------------


class LeavesTheLateBehind(Replica):
    """Answers nobody of an epoch that is over."""

    def _on_status(self, status):
        if status.epoch >= self.epoch.number:
            super()._on_status(status)


@pytest.mark.parametrize(("replica", "epoch"), [(Replica, 1), (LeavesTheLateBehind, 0)])
def test_a_replica_that_missed_the_end_of_an_epoch_is_brought_along(replica, epoch):
    with made_of(replica):
        council = Council(4, spare=1, period=2, window=4)
        council.lost = lambda sender, to, data, kind: 3 in (sender, to)
        members = (*(key(place) for place in range(4)), key(4))
        council.ask(change(members), client=ADMIN)
        council.deliver()
        assert [council[place].epoch.number for place in (0, 1, 2, 3)] == [1, 1, 1, 0]
        council.lost = lambda sender, to, data, kind: False
        council.crash(3)
        council.restart(3)
        council.deliver()
    assert council[3].epoch.number == epoch


# -- Zyzzyva and FaB (Abraham et al., 2017), and Fast-HotStuff: the fast path in a view change ----------------------


def a_fast_decision_that_only_one_saw():
    """Five votes of six decide at replica 2; the faulty leader says later that its own was for something else."""
    council = Council(6, "regional-fast")
    council.lost = lambda sender, to, data, kind: True
    proposal = council.proposal(0, 0, 1, signed_request(b"first", 1))
    council.crash(0)
    for place in (1, 2, 3, 4):
        council.receive(place, 0, proposal)
    votes = council.bundle((0, 1, 2, 3, 4), PREPARE, 0, 1, proposal.digest)
    council.receive(2, 0, votes)
    assert list(council.decided[2]) == [1]
    council.crash(2)
    council.queue.clear()
    council.lost = lambda sender, to, data, kind: False
    council.ask(b"second", to=(1, 3, 4, 5))
    council.queue.clear()
    council.fire(VIEW, 1, 3, 4, 5)
    say(council, 0, council.view_change(0, 1, voted=[council.vote(0, PREPARE, 0, 1, b"y" * 32)]))
    council.deliver()
    return council, proposal.digest


def test_a_value_that_may_have_been_decided_fast_is_voted_on_again():
    council, digest = a_fast_decision_that_only_one_saw()
    assert council[1].active
    assert council[1].prescribed == {1: digest}
    assert decided_twice(council) == []


def test_where_votes_in_view_changes_do_not_count_a_fast_decision_is_lost():
    with patch("consensus.pbft.view_change.FastThreshold", NoSuchQuorum):
        council, digest = a_fast_decision_that_only_one_saw()
    assert 1 not in council[1].prescribed
    council.restart(2)
    assert council[1].slots[1].digest != digest, "the new leader proposed something else for number 1"


def waits_for_proof(changes, epoch, low):
    """Prescribe, but only once every number that anybody voted on has a value with enough votes (FaB's mistake)."""
    chosen = prescribed(changes, epoch, low)
    open_numbers = {vote.seq for each in changes for vote in each.voted} - set(chosen)
    if open_numbers:
        raise LookupError(f"no value is proven for {open_numbers}")
    return chosen


@pytest.mark.parametrize("careful", [False, True])
def test_a_view_begins_although_an_equivocating_leader_left_no_value_with_enough_votes(careful):
    with patch("consensus.pbft.views.prescribed", waits_for_proof) if careful else nullcontext():
        council = Council(6, "regional-fast")
        council.lost = lambda sender, to, data, kind: True
        one, other = (council.proposal(0, 0, 1, signed_request(text, 1)) for text in (b"one", b"other"))
        council.crash(0)
        for place, proposal in ((1, one), (2, one), (3, other), (4, other)):
            council.receive(place, 0, proposal)
        council.queue.clear()
        council.lost = lambda sender, to, data, kind: False
        council.ask(b"next", timestamp=2, to=(1, 2, 3, 4, 5))
        council.queue.clear()
        with pytest.raises(LookupError) if careful else nullcontext():
            council.fire(VIEW, 1, 2, 3, 4, 5)
            council.deliver()
    assert any(b"next" in council[place].application.lines for place in (1, 2, 3, 4, 5)) != careful


@pytest.mark.parametrize(("replica", "entered"), [(Replica, False), (AnyNewView, True)])
def test_a_new_leader_can_hide_no_certificate_behind_repeated_view_changes(replica, entered):
    with made_of(replica):
        council = Council(4)
        only_replica_2_decides(council)
        council.crash(1)  # the next leader, who shows only what it made up itself
        false = council.view_change(1, 1)
        council.receive(0, 1, council.new_view(1, 1, [false, false, false]))
    assert (council[0].view == 1) == entered
    assert council[0].prescribed == {}


# -- BFT-SMaRt: reads that are not ordered wait for a quorum of equal answers, which may never come ----------------


class AnswersReadsAtOnce(Replica):
    """Answers a read from the state that it happens to be in."""

    def on_request(self, sender: int, request: Request, encoded: bytes) -> None:
        if not request.operation.startswith(b"read"):
            super().on_request(sender, request, encoded)
            return
        result = str(len(self.application.lines)).encode()
        about = reply_statement(CHAIN, request.client, request.timestamp, result)
        signature = self.epoch.scheme.sign(about)
        reply = Reply(request.client, request.timestamp, self.view, self.own, result, signature)
        self.effects.append(Answer(request.client, encode(reply)))


@pytest.mark.parametrize(("replica", "answered"), [(Replica, True), (AnswersReadsAtOnce, False)])
def test_a_read_is_answered_alike_although_one_replica_lags_and_one_is_silent(replica, answered):
    with made_of(replica):
        council = Council(4)
        council.crash(3)
        council.lost = lambda sender, to, data, kind: to == 2 and getattr(decode(data), "phase", 0) == COMMIT
        council.decide(b"write")
        council.lost = lambda sender, to, data, kind: False
        council.answers.clear()
        council.ask(b"read", to=(0, 1, 2))
        for _ in range(3):  # the one that lags asks for what it missed
            for place in (0, 1, 2):
                if ("status",) in council.timers[place]:
                    council.fire(("status",), place)
            council.deliver()
    replies = {}
    for place, data in council.answers:
        reply = decode(data)
        if reply.timestamp == 2 and reply.client == CLIENT:
            replies.setdefault(reply.result, set()).add(place)
    needed = Threshold(4)
    decisive = needed.is_weak if replica is Replica else needed.is_quorum  # unordered, F+1 alike may be out of date
    assert any(decisive(bits_of(places)) for places in replies.values()) == answered


# -- GeoBFT: one region with more than f faulty members stops or breaks everything ----------------------------------


def every_region(regions):
    quorums = TwoLayer(regions)
    quorums._outer = Threshold(len(regions), 0)
    quorums._outer.quorum = len(regions)
    return quorums


FOUR_BY_FOUR = tuple(tuple(range(first, first + 4)) for first in range(0, 16, 4))
ALL_REGIONS = Protocol("all-regions", every_region, TWO_LAYER.path)


def served(faulty, protocol):
    name = protocol if isinstance(protocol, str) else "two-layer"
    scenario = Scenario(
        seed=1, protocol=name, regions=FOUR_BY_FOUR, faulty=tuple((place, "silent") for place in faulty), requests=2,
        view=0.5,
    )  # fmt: skip
    return not run(scenario, protocol=None if isinstance(protocol, str) else protocol).violations


def test_a_bad_region_is_survived_by_two_layers_but_not_where_every_region_must_answer():
    assert served((4, 5), "two-layer")
    assert not served((4, 5), ALL_REGIONS)


def test_two_bad_regions_stop_two_layers_and_not_a_quorum_of_all():
    assert TwoLayer(FOUR_BY_FOUR).bound == 3
    assert not served((4, 5, 8, 9), "two-layer")
    assert served((4, 5, 8, 9), "regional")
