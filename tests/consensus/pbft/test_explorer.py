"""Every execution of four replicas at one number in two views, as far as a quick suite can go; the rest is slow.

`python -m benchmarks.explore` publishes the counts of the whole.
"""

from random import Random

import pytest

from consensus.identity import Null
from consensus.machine import Fired, Received
from consensus.messages import COMMIT, PREPARE, Vote, encode, statement
from consensus.pbft import views
from consensus.pbft.config import Protocol
from consensus.pbft.path import VotePath
from consensus.quorum import Threshold
from consensus.simulation.explorer import CHAIN, SEQ, TIMER, Explorer, N, fingerprint

EVERYBODY = (0, 1, 2)  # the leader of view 0, that of view 1, and one that leads neither (3 is like 2)


class TwoOfFour(Threshold):
    """Quorums of 2f, which may meet in a faulty replica alone."""

    def __init__(self, regions):
        super().__init__(4)
        self.quorum = 2


@pytest.mark.parametrize("byzantine", EVERYBODY)
def test_nothing_that_can_happen_in_one_view_breaks_agreement(byzantine):
    found = Explorer(byzantine, views=1).run()
    assert found.complete
    assert found.deciding > 50
    assert found.violation == ()


@pytest.mark.parametrize("byzantine", EVERYBODY)
def test_the_first_states_of_two_views_agree(byzantine):
    found = Explorer(byzantine).run(most=4_000)
    assert found.states >= 4_000
    assert found.deciding > 100
    assert found.violation == ()


@pytest.mark.slow
@pytest.mark.parametrize("byzantine", EVERYBODY)
def test_nothing_that_can_happen_in_two_views_breaks_agreement(byzantine):
    found = Explorer(byzantine).run()
    assert found.complete
    assert found.deciding > 10_000
    assert found.violation == ()


@pytest.mark.parametrize(("byzantine", "views_"), [(0, 1), (1, 2), (2, 2)])
def test_too_small_a_quorum_is_seen_to_fail(byzantine, views_):
    found = Explorer(byzantine, views=views_, protocol=Protocol("2f", TwoOfFour, VotePath)).run(most=20_000)
    assert len(found.violation) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("byzantine", EVERYBODY)
def test_a_new_view_that_forgets_what_was_prepared_is_seen_to_fail(byzantine, monkeypatch):
    monkeypatch.setattr(views, "prescribed", lambda changes, epoch, low: {})
    assert len(Explorer(byzantine).run(most=400_000).violation) >= 8


def test_the_way_to_a_disagreement_is_told_step_by_step():
    found = Explorer(0, views=1, protocol=Protocol("2f", TwoOfFour, VotePath)).run()
    one, other = (line.split()[6] for line in found.violation if "proposal" in line)
    assert one != other
    assert list(found.violation) == [
        f"replica 1 takes the proposal of {one} in view 0",
        f"replica 1 takes the COMMIT certificate of {one} in view 0",
        f"replica 2 takes the proposal of {other} in view 0",
        f"replica 2 takes the COMMIT certificate of {other} in view 0",
    ]


def test_the_same_exploration_finds_the_same_states():
    assert Explorer(1).run(most=1_500) == Explorer(1).run(most=1_500)


class Walk:
    """A random execution without the reductions: votes and view changes are delivered one by one, in any order."""

    def __init__(self, explorer, seed):
        self.explorer = explorer
        self.random = Random(seed)
        self.replicas, self.sent = {}, {}
        for place in explorer.correct:
            self.replicas[place], effects = explorer._fresh(place)
            self.sent[place] = explorer._sent(place, effects)

    def events(self, place):
        explorer = self.explorer
        steps = {step for sent in self.sent.values() for step in sent}
        possible = explorer._possible(tuple(self.sent.values()))[explorer.correct.index(place)]
        yield from (event for step in sorted(possible) for event in explorer._events(place, step) if step != TIMER)
        if TIMER in possible and self.replicas[place].view == 0:
            yield Fired(("view",))
        for kind, phase, view, digest in sorted(steps):
            if kind in ("vote", "proposal"):
                phases = (phase,) if kind == "vote" else (PREPARE, COMMIT)
                for of in phases:
                    about = statement(CHAIN, of, 0, view, SEQ, digest)
                    signers = [
                        p for p, sent in self.sent.items() if ("vote", of, view, digest) in sent and p != place
                    ]
                    for signer in [*signers, explorer.byzantine]:
                        vote = Vote(of, 0, view, SEQ, digest, signer, Null(signer, N).sign(about))
                        yield Received(signer, encode(vote))
            elif kind == "change":
                yield Received(phase, explorer._bytes[kind, phase, view, digest])

    def step(self):
        place = self.random.choice(self.explorer.correct)
        event = self.random.choice(list(self.events(place)))
        effects = self.replicas[place].step(event)
        self.sent[place] |= self.explorer._sent(place, effects)
        return place


def walks(explorer, seeds, length):
    """Check that whatever walks reach is known; gives how many different states of replicas they reached."""
    reached = set()
    for seed in range(seeds):
        walk = Walk(explorer, seed)
        for _ in range(length):
            place = walk.step()
            state = fingerprint(walk.replicas[place]), walk.sent[place]
            assert state in explorer._known[place], f"seed {seed}: replica {place} in a state that was not explored"
            reached.add((place, explorer._known[place][state]))
    return len(reached)


@pytest.mark.parametrize("byzantine", EVERYBODY)
def test_no_walk_in_one_view_leaves_what_was_explored(byzantine):
    explorer = Explorer(byzantine, views=1)
    found = explorer.run()
    assert walks(explorer, 100, 15) > found.local * 0.5


@pytest.mark.slow
@pytest.mark.parametrize("byzantine", EVERYBODY)
def test_no_walk_in_two_views_leaves_what_was_explored(byzantine):
    explorer = Explorer(byzantine)
    explorer.run()
    assert walks(explorer, 2_000, 40) > 100
