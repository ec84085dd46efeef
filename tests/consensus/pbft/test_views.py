"""View changes (Castro and Liskov, section 4.4) and liveness (4.5.2), one replica's behaviour at a time."""

import pytest
from council import CLIENT, STATUS, VIEW, Council, sent, signed_request

from consensus.machine import Persist, Send, SetTimer
from consensus.messages import COMMIT, NULL, PREPARE, NewView, Request, Signed, Status, ViewChange, Vote, decode_as
from consensus.pbft.config import Timing

A, B = b"a" * 32, b"b" * 32
OTHER = b"other client".ljust(32)


@pytest.fixture
def council():
    return Council()


def wanted(effects):
    return [body.view for message in sent(effects, Signed) if (body := decode_as(ViewChange, message.body))]


def begun(effects):
    return [body.view for message in sent(effects, Signed) if (body := decode_as(NewView, message.body))]


def waits(effects):
    return [effect.seconds for effect in effects if isinstance(effect, SetTimer) and effect.timer == VIEW]


def changes(council, *signers, view=1, prepared=()):
    return [council.view_change(signer, view, prepared=prepared) for signer in signers]


# -- wanting another view ------------------------------------------------------------------------------------


def test_a_replica_that_waits_for_nothing_runs_no_view_timer(council):
    council.decide(b"a")
    assert not any(VIEW in timers for timers in council.timers)


def test_a_replica_that_waits_in_vain_wants_the_next_view_and_votes_no_more(council):
    council.receive(1, -1, signed_request(b"a", 1))
    council.fire(VIEW, 1)
    assert (council[1].view, council[1].active) == (1, False)
    proposal = council.proposal(0, 0, 1, signed_request(b"a", 1))
    assert not sent(council.receive(1, 0, proposal), Vote)
    for signer in (0, 2, 3):
        council.receive(1, signer, council.vote(signer, PREPARE, 0, 1, proposal.digest))
    assert not [key for key in council[1].signed if key[0] == COMMIT]


def test_a_view_change_is_durable_before_it_is_sent(council):
    log = []
    council.receive(1, -1, signed_request(b"a", 1))
    council.saw = lambda place, effect: log.append(type(effect))
    council.fire(VIEW, 1)
    assert log.index(Persist) < log.index(Send)


def test_one_view_change_moves_nobody_but_f_plus_one_do(council):
    council.receive(1, 2, changes(council, 2)[0])
    assert council[1].view == 0
    effects = council.receive(1, 3, changes(council, 3)[0])
    assert wanted(effects) == [1]


def test_the_smallest_of_the_views_that_f_plus_one_want_is_joined(council):
    council.receive(1, 2, changes(council, 2, view=7)[0])
    effects = council.receive(1, 3, changes(council, 3, view=4)[0])
    assert wanted(effects) == [4]


def test_two_view_changes_of_one_replica_are_one_replica(council):
    council.receive(1, 2, changes(council, 2, view=1)[0])
    council.receive(1, 2, changes(council, 2, view=2)[0])
    assert council[1].view == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: Signed(changes(c, 3)[0].body, 3, b"none"), id="with a false signature"),
        pytest.param(lambda c: Signed(changes(c, 3)[0].body, 2, c.sign(2, b"")), id="signed by another"),
        pytest.param(lambda c: c.signed(3, ViewChange(0, 1, None, (), (), 2)), id="in another's name"),
        pytest.param(lambda c: c.view_change(3, 1, epoch=1), id="of another epoch"),
        pytest.param(lambda c: c.view_change(4, 1), id="of no member"),
        pytest.param(
            lambda c: c.view_change(3, 1, prepared=[c.bundle((0, 1), PREPARE, 0, 1, A)]), id="that proves nothing"
        ),
    ],
)
def test_a_view_change_does_not_count(council, change):
    council.receive(1, 2, changes(council, 2)[0])
    council.receive(1, 3, change(council))
    assert council[1].view == 0


def test_the_timer_of_a_new_view_starts_when_a_quorum_wants_it(council):
    council.receive(1, -1, signed_request(b"a", 1))
    council.fire(VIEW, 1)
    assert VIEW not in council.timers[1]
    assert waits(council.receive(1, 2, changes(council, 2)[0])) == []
    council.lost = lambda sender, to, data, kind: True
    assert waits(council.receive(1, 3, changes(council, 3)[0]))[0] == 2 * Timing().view, "the second wait in a row"


def test_every_wait_in_a_row_is_longer_by_the_same_time(council):
    seconds = waits(council.receive(3, -1, signed_request(b"a", 1)))
    for view in (1, 2, 4):
        for signer in (0, 1):
            seconds += waits(council.receive(3, signer, council.view_change(signer, view)))
    assert seconds == [2.0, 4.0, 6.0, 8.0]


def test_a_decision_makes_replicas_patient_again(council):
    for place in (1, 2, 3):
        council.receive(place, -1, signed_request(b"a", 1))
    council.crash(0)
    council.queue.clear()
    council.fire(VIEW, 1, 2, 3)
    assert [council[place].attempts for place in (1, 2, 3)] == [1, 1, 1]
    council.deliver()
    assert [council[place].executed for place in (1, 2, 3)] == [1, 1, 1]
    assert [council[place].attempts for place in (1, 2, 3)] == [0, 0, 0]


def test_a_leader_that_serves_everybody_but_one_client_is_replaced(council):
    """The timer belongs to the request that waits longest, whatever else is executed meanwhile."""
    starved = signed_request(b"starved", 1, OTHER)
    for place in (1, 2, 3):
        council.receive(place, -1, starved)
    council.queue.clear()  # the leader "never got" what the backups passed on
    timers = []
    council.saw = lambda place, effect: timers.append((place, type(effect), getattr(effect, "timer", None)))
    council.decide(b"a", b"b", b"c")
    assert council[1].application.lines == [b"a", b"b", b"c"]
    backups = [timer for place, _, timer in timers if place]
    assert VIEW not in backups, "neither stopped nor started again"
    council.fire(VIEW, 1, 2, 3)
    council.deliver()
    assert council[1].view == 1
    assert council[1].application.lines[-1] == b"starved"


# -- beginning a view ----------------------------------------------------------------------------------------


def test_the_leader_of_a_view_begins_it_with_a_quorum_and_says_so_durably(council):
    council.receive(1, 2, changes(council, 2)[0])
    log = []
    council.saw = lambda place, effect: log.append(effect)
    effects = council.receive(1, 3, changes(council, 3)[0])
    assert begun(effects) == [1]
    records = [e for e in log if isinstance(e, Persist)]
    assert decode_as(NewView, decode_as(Signed, records[1].record).body) is not None
    assert (council[1].view, council[1].active) == (1, True)


def test_nobody_but_the_leader_begins_a_view(council):
    council.receive(2, 1, changes(council, 1)[0])
    effects = council.receive(2, 3, changes(council, 3)[0])
    assert begun(effects) == []
    assert (council[2].view, council[2].active) == (1, False)


def new_view(council, *, leader=1, view=1, of=None, signer=None):
    message = NewView(0, view, tuple(of if of is not None else changes(council, 0, 1, 3, view=view)))
    return council.signed(leader if signer is None else signer, message)


def test_a_valid_new_view_is_entered_at_once(council):
    council.receive(2, 1, new_view(council))
    assert (council[2].view, council[2].active) == (1, True)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(lambda c: new_view(c, signer=3), id="of another replica than the leader"),
        pytest.param(lambda c: Signed(new_view(c).body, 1, b"none"), id="with a false signature"),
        pytest.param(lambda c: new_view(c, of=changes(c, 0, 1)), id="with too few view changes"),
        pytest.param(lambda c: new_view(c, of=changes(c, 0, 1, 1)), id="with one replica's twice"),
        pytest.param(lambda c: new_view(c, of=[*changes(c, 0, 1, 3), *changes(c, 1)]), id="with four of three"),
        pytest.param(lambda c: new_view(c, of=[*changes(c, 0, 1), *changes(c, 3, view=2)]), id="of different views"),
        pytest.param(lambda c: new_view(c, of=[*changes(c, 0, 1), *changes(c, 4)]), id="with a stranger's"),
        pytest.param(
            lambda c: new_view(c, of=[*changes(c, 0, 1), Signed(changes(c, 3)[0].body, 3, b"none")]),
            id="with a forged one",
        ),
        pytest.param(
            lambda c: new_view(
                c, of=[*changes(c, 0, 1), *changes(c, 3, prepared=[c.bundle((0, 1), PREPARE, 0, 1, A)])]
            ),
            id="with one that proves nothing",
        ),
        pytest.param(lambda c: c.signed(1, NewView(1, 1, tuple(changes(c, 0, 1, 3)))), id="of another epoch"),
        pytest.param(lambda c: new_view(c, of=[]), id="with none at all"),
    ],
)
def test_a_new_view_with_a_wrong_set_is_ignored(council, message):
    council.receive(2, 1, message(council))
    assert (council[2].view, council[2].active) == (0, True)


def test_a_new_view_that_is_over_is_ignored(council):
    council.receive(2, 3, new_view(council, leader=3, view=3))
    council.receive(2, 1, new_view(council))
    assert council[2].view == 3


def test_a_second_new_view_for_a_view_is_ignored(council):
    council.receive(2, 1, new_view(council))
    again = changes(council, 0, 1, 2, prepared=[council.bundle((0, 1, 3), PREPARE, 0, 1, A)])
    council.receive(2, 1, new_view(council, of=again))
    assert council[2].prescribed == {}


def test_everybody_votes_again_for_what_was_prepared_and_for_null_in_between(council):
    prepared = [council.bundle((0, 1, 3), PREPARE, 0, 2, A)]
    effects = council.receive(2, 1, new_view(council, of=changes(council, 0, 1, 3, prepared=prepared)))
    assert [(v.phase, v.view, v.seq, v.digest) for v in sent(effects, Vote)] == [
        (PREPARE, 1, 1, NULL),
        (PREPARE, 1, 2, A),
    ]


def test_a_proposal_for_a_number_that_the_new_view_prescribes_is_ignored(council):
    prepared = [council.bundle((0, 1, 3), PREPARE, 0, 1, A)]
    council.receive(2, 1, new_view(council, of=changes(council, 0, 1, 3, prepared=prepared)))
    assert not sent(council.receive(2, 1, council.proposal(1, 1, 1, signed_request(b"b", 1))), Vote)
    assert sent(council.receive(2, 1, council.proposal(1, 1, 2, signed_request(b"b", 1))), Vote)


def test_what_was_executed_is_voted_on_again_but_not_executed_again(council):
    council.decide(b"a")
    digest = council.decided[2][1].digest
    prepared = [council.bundle((0, 1, 3), PREPARE, 0, 1, digest)]
    effects = council.receive(2, 1, new_view(council, of=changes(council, 0, 1, 3, prepared=prepared)))
    assert [(vote.seq, vote.digest) for vote in sent(effects, Vote)] == [(1, digest)]
    for signer in (0, 1, 3):
        for phase in (PREPARE, COMMIT):
            council.receive(2, signer, council.vote(signer, phase, 1, 1, digest))
    assert council[2].application.lines == [b"a"]


def test_votes_of_the_old_view_do_not_add_to_those_of_the_new(council):
    council.receive(2, 0, council.vote(0, PREPARE, 0, 1, A))
    council.receive(2, 3, council.vote(3, PREPARE, 0, 1, A))
    prepared = [council.bundle((0, 1, 3), PREPARE, 0, 1, A)]
    council.receive(2, 1, new_view(council, of=changes(council, 0, 1, 3, prepared=prepared)))
    assert council[2].slots[1].votes[PREPARE, 1, A].signers == 0b100


def test_votes_of_the_next_view_may_come_before_it_begins(council):
    council.receive(2, 3, council.vote(3, PREPARE, 1, 1, A))
    council.receive(2, 1, council.vote(1, PREPARE, 1, 1, A))
    prepared = [council.bundle((0, 1, 3), PREPARE, 0, 1, A)]
    effects = council.receive(2, 1, new_view(council, of=changes(council, 0, 1, 3, prepared=prepared)))
    assert [vote.phase for vote in sent(effects, Vote)] == [PREPARE, COMMIT]


def test_a_certificate_that_came_before_the_view_began_is_followed_by_a_commit_vote(council):
    council.receive(2, 3, council.bundle((0, 1, 3), PREPARE, 1, 1, A))
    prepared = [council.bundle((0, 1, 3), PREPARE, 0, 1, A)]
    effects = council.receive(2, 1, new_view(council, of=changes(council, 0, 1, 3, prepared=prepared)))
    assert [vote.phase for vote in sent(effects, Vote)] == [PREPARE, COMMIT]


def test_the_new_leader_proposes_above_what_the_view_prescribes(council):
    council.receive(1, -1, signed_request(b"b", 1))
    prepared = [council.bundle((0, 2, 3), PREPARE, 0, 3, A)]
    council.receive(1, 2, council.view_change(2, 1, prepared=prepared))
    council.receive(1, 3, council.view_change(3, 1))
    assert council[1].leading
    assert sorted(council[1].slots) == [1, 2, 3, 4]
    assert council[1].slots[4].proposal is not None
    assert council[1].prescribed == {1: NULL, 2: NULL, 3: A}


def test_requests_that_wait_are_passed_on_to_the_new_leader(council):
    request = signed_request(b"a", 1)
    council.receive(2, -1, request)
    effects = council.receive(2, 1, new_view(council))
    assert [(e.to, e.kind) for e in effects if isinstance(e, Send) and e.kind == "request"] == [((1,), "request")]
    assert sent(effects, Request) == [request]


def test_a_replica_that_missed_the_start_of_a_view_is_sent_its_proof(council):
    start = new_view(council)
    council.receive(2, 1, start)
    assert sent(council.receive(2, 3, Status(0, 0, True, 0, 0, 3)), Signed) == [start]
    assert sent(council.receive(2, 3, council.view_change(3, 1)), Signed) == [start]
    assert sent(council.receive(2, 3, Status(0, 1, True, 0, 0, 3)), Signed) == []


def test_a_replica_that_waits_for_a_view_sends_its_view_change_to_who_asks(council):
    council.receive(2, -1, signed_request(b"a", 1))
    council.fire(VIEW, 2)
    effects = council.receive(2, 3, Status(0, 0, True, 0, 0, 3))
    assert wanted(effects) == [1]


# -- the whole of it -----------------------------------------------------------------------------------------


def fail(council, *leaders):
    """Crash leaders and let everybody else lose patience until somebody leads."""
    for leader in leaders:
        council.crash(leader)
    for _ in leaders:
        council.deliver()
        alive = [place for place in range(council.n) if place not in council.down and VIEW in council.timers[place]]
        council.fire(VIEW, *alive)
    council.deliver()


@pytest.mark.parametrize(
    ("n", "protocol", "regions"), [(4, "flat", 1), (7, "flat", 1), (7, "star", 1), (10, "regional", 3)]
)
def test_f_dead_leaders_in_a_row_delay_a_request_and_do_not_lose_it(n, protocol, regions):
    council = Council(n, protocol, regions)
    faults = council[0].epoch.quorums.bound
    council.ask(b"a", to=range(faults, n))
    council.queue.clear()
    fail(council, *range(faults))
    for _ in range(4):  # in the regional protocols votes to a dead head go to everybody after a while
        for place in range(faults, n):
            for timer in [timer for timer in council.timers[place] if timer[:2] == ("path", "fallback")]:
                council.fire(timer, place)
        council.deliver()
    assert [replica.application.lines for replica in council.replicas[faults:]] == [[b"a"]] * (n - faults)
    assert {replica.view for replica in council.replicas[faults:]} == {faults}


def test_what_one_replica_decided_all_decide_whatever_is_lost(council):
    """Only replica 3 hears COMMIT votes; then the leader dies and replica 3 is silent too."""
    council.lost = lambda sender, to, data, kind: (
        (vote := decode_as(Vote, data)) is not None and vote.phase == COMMIT and to != 3
    )
    council.decide(b"a")
    assert [len(decided) for decided in council.decided] == [0, 0, 0, 1]
    council.lost = lambda sender, to, data, kind: sender == 3
    for place in (0, 1, 2):
        council.receive(place, -1, signed_request(b"b", 2))
    council.queue.clear()
    council.fire(VIEW, 0, 1, 2)
    council.deliver()
    assert council[1].view == 1
    assert council.decided[1][1].digest == council.decided[3][1].digest
    assert council[1].application.lines[0] == b"a"


def test_a_request_that_nobody_prepared_is_asked_for_again_in_the_new_view(council):
    council.ask(b"a", to=range(4))
    council.queue.clear()
    fail(council, 0)
    assert [council[place].application.lines for place in (1, 2, 3)] == [[b"a"]] * 3
    assert council[1].replies[CLIENT].timestamp == 1


def test_status_timers_run_only_while_something_is_under_way(council):
    council.decide(b"a")
    council.fire(STATUS, *[place for place in range(4) if STATUS in council.timers[place]])
    assert not any(STATUS in timers for timers in council.timers)
