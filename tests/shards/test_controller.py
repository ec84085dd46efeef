import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.controller import Candidate, Policy, decide
from shards.errors import InputError


def option(kind, running, switching):
    return Candidate(kind, {"layout": f"{kind} {running} {switching}"}, running, switching)


KEEP = option("keep", 1000, 0)
PLAIN = Policy(alpha=2, hysteresis=1)
costs = st.integers(0, 10**15)
changes = st.builds(option, st.sampled_from(["move", "recut"]), costs, costs)
policies = st.builds(Policy, st.floats(0.1, 50), st.floats(1, 4))


@st.composite
def choices(draw):
    candidates = draw(st.lists(changes, max_size=6))
    keep = option("keep", draw(costs), draw(st.integers(0, 1000)))
    candidates.insert(draw(st.integers(0, len(candidates))), keep)
    return candidates


def test_a_change_is_made_only_when_it_saves_more_than_its_price():
    assert decide([KEEP, option("recut", 399, 300)], PLAIN).kind == "recut"  # saves 601 for 2 · 300
    assert decide([KEEP, option("recut", 400, 300)], PLAIN).kind == "keep"  # saves 600: a tie
    assert decide([KEEP, option("recut", 399, 300)], Policy(2, 1.01)).kind == "keep"  # 601 < 606


def test_the_cheapest_in_all_wins_and_not_the_one_that_saves_most():
    decision = decide([option("recut", 100, 300), KEEP, option("move", 300, 100)], PLAIN)
    assert (decision.kind, decision.index, decision.running_cost, decision.switching_cost) == ("move", 2, 300, 100)
    assert decision.reason == "saves 700 running for 100 more switching"


def test_a_tie_goes_to_the_move_and_then_to_the_first():
    assert decide([KEEP, option("recut", 100, 10), option("move", 100, 10)], PLAIN).kind == "move"
    assert decide([KEEP, option("move", 100, 10), option("move", 100, 10)], PLAIN).index == 1


def test_upkeep_that_is_due_anyway_counts_for_keep_too():
    due = option("keep", 1000, 250)
    assert decide([due, option("recut", 850, 300)], PLAIN).kind == "recut"  # saves 150 for 2 · 50 more
    assert decide([KEEP, option("recut", 850, 300)], PLAIN).kind == "keep"


def test_the_reason_for_keeping_says_whether_anything_runs_cheaper():
    assert decide([KEEP, option("move", 1000, 1)], PLAIN).reason == "nothing runs cheaper"
    assert decide([KEEP, option("move", 900, 80)], PLAIN).reason == (
        "no saving, of at most 100 running, is worth its switching yet"
    )


def early(kind, running, switching, early_cost):
    return Candidate(kind, {}, running, switching, early_cost)


def test_a_change_that_pays_only_later_waits_until_its_early_part_pays():
    policy = Policy(alpha=2, hysteresis=1, early=0.25)
    keep = early("keep", 1000, 0, 200)
    assert decide([keep, early("recut", 100, 300, 50)], policy).kind == "keep"  # 150 of 0.25 · 600: a tie
    assert decide([keep, early("recut", 100, 300, 49)], policy).kind == "recut"
    assert decide([keep, early("recut", 401, 300, 0)], policy).kind == "keep"  # early enough, too little in all


@given(choices(), policies)
def test_a_decision_is_a_function_of_its_arguments(candidates, policy):
    assert decide(candidates, policy) == decide(list(candidates), policy)


@given(choices(), policies)
def test_the_choice_never_costs_more_than_keeping(candidates, policy):
    decision = decide(candidates, policy)
    keep = next(candidate for candidate in candidates if candidate.kind == "keep")
    chosen = candidates[decision.index]
    saved, extra = keep.running_cost - chosen.running_cost, chosen.switching_cost - keep.switching_cost
    assert chosen is keep or saved * 1.000001 >= policy.alpha * extra
    assert (decision.kind, decision.running_cost, decision.switching_cost) == (
        chosen.kind,
        chosen.running_cost,
        chosen.switching_cost,
    )


@given(st.lists(st.builds(option, st.just("move"), st.integers(1000, 9999), costs)), policies)
def test_keep_is_chosen_when_nothing_can_be_saved(candidates, policy):
    assert decide([*candidates, KEEP], policy).kind == "keep"


@given(choices(), policies, st.randoms(use_true_random=False))
def test_the_order_of_the_list_changes_no_cost(candidates, policy, random):
    shuffled = random.sample(candidates, len(candidates))
    first, second = decide(candidates, policy), decide(shuffled, policy)
    assert (first.kind, first.running_cost + policy.alpha * first.switching_cost) == (
        second.kind,
        pytest.approx(second.running_cost + policy.alpha * second.switching_cost),
    )


@pytest.mark.parametrize("candidates", [[], [option("move", 1, 1)], [KEEP, KEEP]])
def test_exactly_one_candidate_keeps(candidates):
    with pytest.raises(ValueError, match="exactly one"):
        decide(candidates, PLAIN)


def test_a_candidate_has_a_known_kind_and_costs_at_least_nothing():
    with pytest.raises(ValueError, match="'split' is none of keep, move, recut"):
        option("split", 1, 1)
    with pytest.raises(ValueError, match="below 0"):
        option("move", 1, -1)
    with pytest.raises(ValueError, match="early_cost above running_cost"):
        early("move", 1, 0, 2)


@pytest.mark.parametrize("fields", [{"alpha": 0}, {"alpha": float("nan")}, {"hysteresis": 0.9}, {"early": 1.1}])
def test_a_policy_that_cannot_be_meant_is_refused_in_one_line(fields):
    with pytest.raises(InputError, match=r"planner (alpha|hysteresis|early) is"):
        Policy(**fields)
