"""Checkpoints, watermarks and what may be forgotten (Castro and Liskov, section 4.3), and state transfer (5.3)."""

import msgspec
import pytest
from council import CHAIN, CLIENT, Council, key, sent, signed_request

from consensus.machine import Forget, Persist
from consensus.messages import CHECKPOINT, COMMIT, Bundle, Committed, Fetch, State, Status, decode_as
from consensus.pbft import state as states
from consensus.pbft.config import Config
from consensus.protocols import find

A = b"a" * 32


@pytest.fixture
def council():
    return Council(period=2, window=4)


@pytest.fixture
def lagging(council):
    """Replica 3 has missed everything up to a stable checkpoint at 4, which the others have forgotten."""
    council.lost = lambda sender, to, data, kind: to == 3
    council.decide(b"1", b"2", b"3", b"4")
    council.lost = lambda sender, to, data, kind: False
    assert [replica.low for replica in council.replicas] == [4, 4, 4, 0]
    return council


def the_state(council, place=0):
    council[place].send_state(3)
    (message,) = sent(council[place]._taken(), State)
    return message


# -- 4.3: checkpoints ----------------------------------------------------------------------------------------


def test_a_checkpoint_is_stable_with_a_quorum_of_equal_votes(council):
    council.lost = lambda sender, to, data, kind: kind == "checkpoint"
    council.decide(b"1", b"2")
    digest = council[1].slots[2].own_votes[CHECKPOINT].digest
    council.receive(1, 2, council.vote(2, CHECKPOINT, 0, 2, digest))
    assert council[1].low == 0
    council.receive(1, 3, council.vote(3, CHECKPOINT, 0, 2, A))
    assert council[1].low == 0, "another digest is no support"
    council.receive(1, 0, council.vote(0, CHECKPOINT, 0, 2, digest))
    assert council[1].low == 2


def test_the_state_is_durable_before_what_led_to_it_is_forgotten(council):
    log = []
    council.saw = lambda place, effect: log.append((place, effect))
    council.decide(b"1", b"2")
    mine = [effect for place, effect in log if place == 1]
    forget = mine.index(Forget(2))
    kept = [decode_as(State, effect.record) for effect in mine[:forget] if isinstance(effect, Persist)]
    assert any(kept)


def test_after_a_stable_checkpoint_nothing_of_the_past_is_kept(council):
    council.decide(b"1", b"2", b"3", b"4")
    for replica in council.replicas:
        assert replica.low == replica.stable.seq == 4
        assert not any(seq <= 4 for seq in replica.slots)
        assert not any(seq <= 4 for _, _, seq in replica.signed)
        assert replica.batches == {}
    assert [len(log) for log in council.logs] == [1] * 4, "the state, and nothing else"


def test_votes_for_forgotten_numbers_are_ignored(council):
    council.decide(b"1", b"2")
    assert council.receive(1, 2, council.vote(2, COMMIT, 0, 2, A)) == []
    assert council.receive(1, 2, council.bundle((0, 2, 3), COMMIT, 0, 2, A)) == []
    assert 2 not in council[1].slots


def test_the_window_moves_with_the_checkpoint(council):
    assert (council[1].low, council[1].high) == (0, 4)
    council.decide(b"1", b"2")
    assert (council[1].low, council[1].high) == (2, 6)
    assert council[1].slot(6) is not None
    assert council[1].slot(7) is None
    assert council[1].slot(2) is None


def test_the_memory_of_a_replica_does_not_grow_with_the_history(council):
    council.decide(*(b"%d" % number for number in range(1, 41)))
    for place, replica in enumerate(council.replicas):
        assert len(replica.slots) <= 4
        assert len(replica.replies) == 1
        assert len(replica.epoch._checked) <= 4
        assert len(council.logs[place]) <= 2


def test_the_window_must_hold_two_periods():
    members = tuple(map(key, range(4)))
    with pytest.raises(ValueError, match="window is 7: at least twice the period, 4, is needed"):
        Config(CHAIN, 0, members, find("flat"), period=4, window=7)


# -- state transfer ------------------------------------------------------------------------------------------


def test_a_quorums_checkpoint_ahead_makes_a_replica_fetch_its_state(lagging):
    effects = lagging.receive(3, 0, lagging[0].stable)
    (fetch,) = sent(effects, Fetch)
    assert (fetch.seq, fetch.digest) == (4, lagging[0].stable.digest)
    lagging.deliver()
    assert lagging[3].application.lines == [b"1", b"2", b"3", b"4"]
    assert lagging[3].stable == lagging[0].stable
    assert lagging[3].executed == lagging[3].low == 4


def test_a_replica_that_says_where_it_stands_is_sent_the_checkpoint(lagging):
    effects = lagging.receive(0, 3, Status(0, 0, True, 0, 0, 3))
    assert lagging[0].stable in sent(effects, Bundle)


def test_a_transferred_state_holds_the_reply_table_so_nothing_is_executed_twice(lagging):
    lagging.receive(3, 0, the_state(lagging))
    assert lagging[3].replies[CLIENT].timestamp == 4
    request = signed_request(b"4", 4)
    assert not sent(lagging.receive(3, -1, request)), "answered from the table"
    for place in range(4):
        lagging.receive(place, 0, lagging.proposal(0, 0, 5, request))
    lagging.deliver()
    assert lagging[3].executed == 5
    assert lagging[3].application.lines == [b"1", b"2", b"3", b"4"]


def test_requests_that_the_state_says_were_executed_wait_no_longer(lagging):
    for number in (3, 4, 9):
        lagging.receive(3, -1, signed_request(b"%d" % number, number))
    lagging.receive(3, 0, the_state(lagging))
    assert len(lagging[3].requests) == 1


@pytest.mark.parametrize(
    "corrupt",
    [
        pytest.param(lambda image: msgspec.structs.replace(image, application=b"\x92\x00\x90"), id="the application"),
        pytest.param(lambda image: msgspec.structs.replace(image, replies=()), id="the reply table"),
        pytest.param(
            lambda image: msgspec.structs.replace(
                image,
                header=states.encode(msgspec.structs.replace(states.decode_header(image.header), last_view=5)),
            ),
            id="the header",
        ),
    ],
)
def test_a_corrupted_state_is_refused(lagging, corrupt):
    message = the_state(lagging)
    image = states.encode(corrupt(states.decode_image(message.state)))
    lagging.receive(3, 0, msgspec.structs.replace(message, state=image))
    assert (lagging[3].executed, lagging[3].application.lines) == (0, [])


@pytest.mark.parametrize(
    "false",
    [
        pytest.param(lambda c, digest: c.bundle((0, 1), CHECKPOINT, 0, 4, digest), id="too few signers"),
        pytest.param(lambda c, digest: c.bundle((0, 1, 2), COMMIT, 0, 4, digest), id="another phase"),
        pytest.param(lambda c, digest: c.bundle((0, 1, 2), CHECKPOINT, 0, 4, A), id="another digest"),
        pytest.param(lambda c, digest: c.bundle((0, 1, 2), CHECKPOINT, 0, 4, digest, epoch=1), id="another epoch"),
        pytest.param(lambda c, digest: Bundle(CHECKPOINT, 0, -1, 4, digest, b"\x07", bytes(12)), id="a view below 0"),
    ],
)
def test_a_state_without_a_quorums_certificate_is_refused(lagging, false):
    message = the_state(lagging)
    certificate = false(lagging, message.certificate.digest)
    lagging.receive(3, 0, msgspec.structs.replace(message, certificate=certificate))
    assert (lagging[3].executed, lagging[3].application.lines) == (0, [])


def test_an_image_that_is_none_is_refused(lagging):
    message = the_state(lagging)
    lagging.receive(3, 0, msgspec.structs.replace(message, state=b"not an image"))
    assert lagging[3].executed == 0


def test_a_state_that_is_behind_is_not_taken_over(council):
    council.decide(b"1", b"2", b"3")
    old = the_state(council)
    council.decide(b"4", b"5")
    council.receive(1, 0, old)
    assert council[1].executed == 5
    assert council[1].application.lines == [b"1", b"2", b"3", b"4", b"5"]


def test_a_holder_that_does_not_answer_is_not_asked_for_ever(lagging):
    lagging.lost = lambda sender, to, data, kind: to in (1, 2)
    lagging.receive(3, 0, lagging[0].stable)
    asked = set()
    for _ in range(4):
        asked |= {to for sender, to, data, kind in lagging.queue if decode_as(Fetch, data)}
        lagging.deliver()
        if lagging[3].executed:
            break
        lagging.fire(("status",), 3)
    assert 0 in asked
    assert lagging[3].executed == 4


def test_a_decided_batch_comes_with_the_certificate_that_proves_it(council):
    council.lost = lambda sender, to, data, kind: to == 3
    council.decide(b"1")
    council.lost = lambda sender, to, data, kind: False
    effects = council.receive(0, 3, Status(0, 0, True, 0, 0, 3))
    (committed,) = sent(effects, Committed)
    council.receive(3, 0, msgspec.structs.replace(committed, batch=committed.batch[:-1] + b"!"))
    assert council[3].executed == 0
    few = council.bundle((0, 1), COMMIT, 0, 1, committed.certificate.digest)
    council.receive(3, 0, msgspec.structs.replace(committed, certificate=few))
    assert council[3].executed == 0
    council.receive(3, 0, committed)
    assert council[3].application.lines == [b"1"]


def test_a_stranger_cannot_make_a_replica_send_to_nobody(lagging):
    for message in (Status(0, 0, True, 0, 0, -1), Fetch(4, lagging[0].stable.digest, -1)):
        assert lagging.receive(0, -1, message) == []


def test_what_somebody_else_asks_for_another_is_ignored(lagging):
    for message in (Status(0, 0, True, 0, 0, 3), Fetch(4, lagging[0].stable.digest, 3)):
        assert lagging.receive(0, 2, message) == []


def test_a_replica_with_a_wrong_state_takes_over_the_quorums(council):
    council[3].application.lines.append(b"a bit flipped")
    council.decide(b"1", b"2", b"3")
    assert council[3].application.lines == [b"1", b"2", b"3"]
    assert [replica.low for replica in council.replicas] == [2] * 4


@pytest.mark.parametrize("kind", ["committed", "certificate", "vote"])
def test_a_replica_that_was_idle_asks_when_it_hears_of_numbers_beyond_its_window(lagging, kind):
    lagging.lost = lambda sender, to, data, kind: to == 3
    lagging.decide(b"5")
    lagging.lost = lambda sender, to, data, kind: False
    slot = lagging[0].slots[5]
    known = {
        "committed": Committed(slot.committed, lagging[0].batch(slot.committed.digest)),
        "certificate": slot.committed,
        "vote": slot.own_votes[COMMIT],
    }
    assert not lagging[3].busy
    lagging.receive(3, 0, known[kind])
    for _ in range(3):
        if ("status",) in lagging.timers[3]:
            lagging.fire(("status",), 3)
            lagging.deliver()
    assert lagging[3].executed == 5
    assert ("status",) not in lagging.timers[3] or not lagging[3].behind
