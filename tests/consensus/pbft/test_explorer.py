"""Every execution of four replicas at one number in two views, as far as a quick suite can go; the rest is slow.

`python -m benchmarks.explore` publishes the counts of the whole.
"""

import pytest

from consensus.pbft import views
from consensus.pbft.config import Protocol
from consensus.pbft.path import VotePath
from consensus.quorum import Threshold
from consensus.simulation.explorer import Explorer

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
