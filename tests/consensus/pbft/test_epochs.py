"""Membership epochs: who decides may change, and it is never in doubt who decides what."""

import msgspec
import pytest
from council import ADMIN, STATUS, Council, key, sent, signed_request

from consensus.messages import CHECKPOINT, COMMIT, PREPARE, State, Status, Vote
from consensus.pbft import state as states
from consensus.pbft.membership import change

A = b"a" * 32


def members(*places):
    return tuple(key(place) if place is not None else b"" for place in places)


@pytest.fixture
def council():
    """Four members and a replica 4 that is to become one."""
    return Council(period=2, window=4, spare=1)


def reconfigure(council, *places):
    council.ask(change(members(*places)), client=ADMIN)
    council.deliver()


@pytest.fixture
def second(council):
    """The same council in epoch 1, with five members."""
    reconfigure(council, 0, 1, 2, 3, 4)
    council.fire(STATUS, 4)
    council.deliver()
    return council


def test_an_epoch_is_filled_up_to_its_end_and_the_next_one_begins_there(second):
    for place in range(5):
        replica = second[place]
        assert (replica.epoch.number, replica.low, replica.executed, replica.view) == (1, 6, 6, 0)
        assert replica.epoch.places == (0, 1, 2, 3, 4)
        assert replica.epoch.quorums.quorum == 4


def test_a_newcomer_takes_part_after_it_has_checked_the_hand_over(second):
    second.decide(b"a")
    assert [replica.application.lines for replica in second.replicas] == [[b"a"]] * 5
    assert second[4].signed.keys() == second[0].signed.keys()
    assert len({decided[7].digest for decided in second.decided}) == 1


def test_nobody_but_the_admin_changes_the_members(council):
    council.decide(change(members(0, 1, 2, 3, 4)))
    assert council[0].header.until == 0
    assert council[0].application.lines == [change(members(0, 1, 2, 3, 4))], "an operation like any other"


def test_requests_go_on_while_an_epoch_ends(council):
    council.ask(change(members(0, 1, 2, 3, 4)), client=ADMIN)
    for number in range(1, 8):
        council.ask(b"%d" % number)
    council.deliver()
    council.fire(STATUS, 4)
    council.deliver()
    assert [replica.application.lines for replica in council.replicas] == [[b"%d" % n for n in range(1, 8)]] * 5


def test_nothing_above_the_end_of_an_epoch_is_ordered_in_it(council):
    """All have executed the last number, but its checkpoint is not stable: nobody knows the new epoch for certain."""
    council.lost = lambda sender, to, data, kind: kind == "checkpoint" and council[sender].executed >= 6
    council.ask(change(members(0, 1, 2, 3, 4)), client=ADMIN)
    council.deliver()
    assert [council[place].executed for place in range(4)] == [6] * 4
    council.decide(b"a", b"b")
    assert [council[place].executed for place in range(4)] == [6] * 4
    proposal = council.proposal(0, 0, 7, signed_request(b"c", 9))
    assert not sent(council.receive(1, 0, proposal), Vote)
    assert not [vote for vote in council[1].signed if vote[2] > 6]


def test_a_backup_that_is_one_commit_behind_takes_the_batches_that_fill_an_epoch_up(council):
    held = []

    def late(sender, to, data, kind):
        vote = msgspec.msgpack.decode(data)
        return to == 2 and vote[:2] == [1, COMMIT] and vote[4] == 1 and not held.append((sender, data))

    council.lost = late
    council.ask(change(members(0, 1, 2, 3, 4)), client=ADMIN)
    council.deliver(40)
    council.lost = lambda sender, to, data, kind: False
    council.deliver()
    for sender, data in held:
        council.receive(2, sender, data)
    council.deliver()
    assert not [note for _, note in council.notes if note.what == "refused"]
    assert [council[place].epoch.number for place in range(4)] == [1] * 4


def test_votes_of_an_earlier_epoch_do_not_count_in_this_one(second):
    proposal = second.proposal(0, 0, 7, signed_request(b"a", 9), epoch=1)
    second.receive(1, 0, proposal)
    for signer in (2, 3, 4):
        second.receive(1, signer, second.vote(signer, PREPARE, 0, 7, proposal.digest, epoch=0))
    assert second[1].slots[7].prepared is None
    second.receive(1, 2, second.bundle((0, 1, 2, 3), COMMIT, 0, 7, proposal.digest, epoch=0))
    assert second[1].executed == 6
    # Not even with the number of this epoch written over it: the signature says which one it was.
    for signer in (2, 3, 4):
        old = second.vote(signer, PREPARE, 0, 7, proposal.digest, epoch=0)
        second.receive(1, signer, msgspec.structs.replace(old, epoch=1))
    assert second[1].slots[7].prepared is None


def test_proposals_and_view_changes_of_an_earlier_epoch_are_ignored(second):
    assert not sent(second.receive(1, 0, second.proposal(0, 0, 7, signed_request(b"a", 9))), Vote)
    for signer in (2, 3, 4):
        second.receive(1, signer, second.view_change(signer, 1, epoch=0))
    assert second[1].view == 0


def test_a_removed_member_votes_no_more_but_hands_on_the_state(council):
    reconfigure(council, 0, 1, 2, None)
    assert [council[place].epoch.number for place in range(4)] == [1] * 4
    assert [replica.member for replica in council.replicas] == [True, True, True, False, False]
    council.decide(b"a")
    assert [council[place].executed for place in range(3)] == [7] * 3
    assert not council[3].signed
    assert sent(council.receive(3, 2, Status(0, 0, True, 0, 0, 2)), State)


def test_the_place_of_a_removed_member_can_be_given_to_another(council):
    reconfigure(council, 0, 1, 2, None)
    reconfigure(council, 0, 1, 2, None, 4)
    council.fire(STATUS, 4)
    council.deliver()
    council.decide(b"a")
    assert [council[place].application.lines for place in (0, 1, 2, 4)] == [[b"a"]] * 4
    assert council[4].epoch.number == 2


def test_a_replica_that_slept_through_two_epochs_enters_the_third_by_their_hand_offs(council):
    council.crash(3)
    reconfigure(council, 0, 1, 2, 3, 4)
    council.fire(STATUS, 4)
    council.deliver()
    council.decide(b"a")
    reconfigure(council, 0, 1, 2, 3)
    assert council[0].epoch.number == 2
    council.restart(3)
    council.deliver()
    assert council[3].epoch.number == 2
    assert [handoff.certificate.epoch for handoff in council[3].handoffs] == [0, 1]
    council.decide(b"b")
    assert council[3].application.lines == [b"a", b"b"]


def the_state(council, to=3):
    council[0].send_state(to)
    (message,) = sent(council[0]._taken(), State)
    return message


def forged(council, handoff):
    """The end of epoch 0 with another list of members, under a digest that fits but that nobody signed."""
    header = msgspec.structs.replace(states.decode_header(handoff.header), members=members(1, 2, 3, 4))
    encoded = states.encode(header)
    digest = states.state_digest(encoded, handoff.rest)
    return msgspec.structs.replace(
        handoff, header=encoded, certificate=council.bundle((0, 1), CHECKPOINT, 0, handoff.certificate.seq, digest)
    )


@pytest.mark.parametrize(
    "change_of",
    [
        pytest.param(lambda c, handoffs: (), id="none"),
        pytest.param(lambda c, handoffs: handoffs[1:], id="the first one missing"),
        pytest.param(lambda c, handoffs: (forged(c, handoffs[0]), *handoffs[1:]), id="forged members"),
        pytest.param(
            lambda c, handoffs: (msgspec.structs.replace(handoffs[0], rest=A), *handoffs[1:]), id="another state"
        ),
        pytest.param(
            lambda c, handoffs: (msgspec.structs.replace(handoffs[0], header=b"no header"), *handoffs[1:]),
            id="no header",
        ),
        pytest.param(lambda c, handoffs: handoffs[::-1], id="in the wrong order"),
    ],
)
def test_a_jump_over_epochs_without_every_hand_off_is_refused(council, change_of):
    council.crash(3)
    reconfigure(council, 0, 1, 2, 3, 4)
    council.fire(STATUS, 4)
    council.deliver()
    reconfigure(council, 0, 1, 2, 3)
    message = the_state(council)
    assert len(message.handoffs) == 2
    council.restart(3)
    council.queue.clear()
    council.receive(3, 0, msgspec.structs.replace(message, handoffs=change_of(council, message.handoffs)))
    assert (council[3].epoch.number, council[3].executed) == (0, 0)
    council.receive(3, 0, message)
    assert council[3].epoch.number == 2


def test_every_epoch_has_one_hand_over(second):
    assert len({replica.handoffs[0].header for replica in second.replicas}) == 1
    assert len({replica.handoffs[0].certificate.digest for replica in second.replicas}) == 1


def test_records_of_an_epoch_survive_a_restart(second):
    second.lost = lambda sender, to, data, kind: msgspec.msgpack.decode(data)[:2] == [1, COMMIT]
    second.decide(b"a")
    before = dict(second[2].signed)
    replica = second.restart(2)
    assert (replica.epoch.number, replica.low) == (1, 6)
    assert replica.signed == before
    assert not sent(second.receive(2, 0, second.proposal(0, 0, 7, signed_request(b"b", 9), epoch=1)), Vote)


def test_records_of_an_epoch_survive_a_restart_after_another_checkpoint(second):
    second.decide(b"a", b"b", b"c")
    before = dict(second[2].signed)
    assert {seq for _, _, seq in before} == {9}
    replica = second.restart(2)
    assert (replica.epoch.number, replica.low, replica.executed) == (1, 8, 9)
    assert replica.signed == before
    assert replica.application.lines == [b"a", b"b", b"c"]
