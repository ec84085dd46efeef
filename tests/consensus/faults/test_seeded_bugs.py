"""A sample of the scoreboard (`benchmarks/scoreboard.py`): broken cores are caught, by seeds or by a scenario."""

from unittest.mock import patch

import pytest
from broken import BUGS, WithoutRecords, lowest_view, too_many
from council import VIEW, Council, null_schemes, signed_request
from msgspec.structs import replace

from consensus import messages
from consensus.messages import PREPARE, NewView, Signed, Vote, decode, decode_as
from consensus.pbft.epoch import Epoch
from consensus.pbft.replica import Replica
from consensus.simulation.scenarios import run

QUICK = (
    "bundle counted twice",
    "votes twice",
    "vote before persist",
    "forgets votes on restart",
    "log read in one pass",
    "accepts above the window",
    "state digest ignored",
    "client signature unchecked",
    "prepared numbers dropped",
    "timer not growing",
    "NEW-VIEW unverified",
)


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_core_is_caught_within_a_hundred_seeds_and_the_real_one_passes_them(name):
    bug = BUGS[name]
    caught = next((seed for seed in range(100) if bug.run(seed).violations), None)
    assert caught is not None, f"{bug.what}: nobody notices"
    assert bug.run(caught, broken=False).violations == ()


@pytest.mark.parametrize(("silent", "invariant"), [(False, "agreement"), (True, "liveness")])
def test_one_faulty_replica_more_than_is_survived_breaks_what_it_should(silent, invariant):
    outcomes = (run(too_many(seed, "flat", silent=silent)) for seed in range(60))
    assert any(one.invariant == invariant for outcome in outcomes for one in outcome.violations)


# -- caught by scenarios, since chance would take too long ---------------------------------------------------------


def of_epoch(council, number):
    header = replace(council[0].header, epoch=number)
    return Epoch(council.configs[0], null_schemes, header)


def relabelled(council):
    """Show a certificate of epoch 0 to epoch 1 under that epoch's number."""
    certificate = council.bundle((0, 1, 2), PREPARE, 0, 1, b"d" * 32)
    return of_epoch(council, 1).certifies(replace(certificate, epoch=1))


def test_a_certificate_of_one_epoch_is_none_in_the_next():
    assert not relabelled(Council(4))
    assert of_epoch(Council(4), 0).certifies(Council(4).bundle((0, 1, 2), PREPARE, 0, 1, b"d" * 32))


def test_where_no_epoch_is_signed_a_certificate_passes_from_one_to_the_next():
    real = messages.statement

    def without_epoch(chain, phase, epoch, *rest):
        return real(chain, phase, 0, *rest)

    with patch("consensus.pbft.epoch.statement", without_epoch), patch("council.statement", without_epoch):
        assert relabelled(Council(4))


class RecallsNoStart(WithoutRecords):
    """Starts in its view without what that view's start prescribed."""

    lost = Vote

    def prescribe(self, message: NewView) -> None:
        """Recall nothing."""


def voted_after_a_crash_between_new_view_and_votes(replica):
    """Crash replica 2 when the start of view 1 is durable but no vote in it; give what it votes for then."""
    with patch("council.Replica", replica):
        council = Council(4)
        council.lost = lambda sender, to, data, kind: getattr(decode(data), "phase", 0) == messages.COMMIT
        council.decide(b"first")
        council.lost = lambda sender, to, data, kind: False
        council.ask(b"second", to=(1, 2, 3))
        council.queue.clear()
        council.fire(VIEW, 1, 2, 3)
        council.deliver()
        log = council.logs[2]
        start = next(
            at
            for at, (_, record) in enumerate(log)
            if (signed := decode_as(Signed, record)) and decode_as(NewView, signed.body)
        )
        prescribed = next(iter(council[1].prescribed.values()))
        del log[start + 1 :]
        council.crash(2)
        again = council.restart(2)
        council.receive(2, 1, council.proposal(1, 1, 1, signed_request(b"other", 7)))
        return again.signed.get((PREPARE, 1, 1)), prescribed


def test_after_a_crash_a_replica_votes_in_its_view_for_nothing_but_what_was_prescribed():
    voted, prescribed = voted_after_a_crash_between_new_view_and_votes(Replica)
    assert voted == prescribed


def test_a_replica_that_does_not_recall_the_start_of_its_view_votes_for_something_else():
    voted, prescribed = voted_after_a_crash_between_new_view_and_votes(RecallsNoStart)
    assert voted not in (None, prescribed)


def two_certificates_for_one_number():
    """Let 3 prepare a batch in view 0, the others one in view 1, which 0 decides; begin view 2 without 0."""
    council = Council(4)
    council.lost = lambda sender, to, data, kind: to != 3 and getattr(decode(data), "phase", 0) == PREPARE
    council.decide(b"first")
    council.lost = lambda sender, to, data, kind: (
        3 in (sender, to) or (to != 0 and getattr(decode(data), "phase", 0) == messages.COMMIT)
    )
    council.fire(VIEW, 0, 1, 2)
    council.deliver()
    assert [1 in decided for decided in council.decided] == [True, False, False, False]
    council.crash(0)
    council.lost = lambda sender, to, data, kind: False
    council.fire(VIEW, 1, 2, 3)
    council.deliver()
    assert [council[place].view for place in (1, 2, 3)] == [2, 2, 2]
    return council


def test_of_two_certificates_that_of_the_highest_view_counts():
    council = two_certificates_for_one_number()
    assert council[1].prescribed[1] == council.decided[0][1].digest


def test_where_the_oldest_certificate_counts_a_decision_is_undone():
    with patch("consensus.pbft.views.prescribed", lowest_view):
        council = two_certificates_for_one_number()
    assert council.decided[1][1].digest != council.decided[0][1].digest
