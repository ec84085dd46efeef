import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.regions import Regions, group
from consensus.regrouping import Outlook, latency_us, mean_latency_us, ordered, reconnecting_us, regroup
from consensus.rtt import clipped
from consensus.simulation.latency import load
from shards.controller import Policy

SEATTLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "latency" / "netlatency-data" / "Seattle"

OUTLOOK = Outlook(leader=0, decisions=1000)


def clustered(n, k, near=4_000, far=80_000):
    home = np.arange(n) % k
    rtt = np.where(home[:, None] == home, near, far)
    np.fill_diagonal(rtt, 0)
    return rtt


def scattered(n, seed):
    points = np.random.default_rng(seed).integers(0, 100_000, (n, 2))
    return np.abs(points[:, None] - points).sum(axis=2) + 1000 * ~np.eye(n, dtype=bool)


def by_hand(rtt, regions, heads, leader, bundle):
    """The same model as a plain walk over messages."""
    n = regions.n
    q = (n + (n - 1) // 3) // 2 + 1
    home = regions.region_of()
    head_of = {place: heads[home[place]] for place in home}
    ready = {p: rtt[leader, head_of[p]] // 2 + rtt[head_of[p], p] // 2 for p in home}
    for _ in range(2):
        arrival = {p: ready[p] + rtt[p, head_of[p]] // 2 for p in home}
        certified = {}
        for index, head in enumerate(heads):
            known = []
            for p in home:
                if home[p] == index:
                    known.append(arrival[p])
                    continue
                other = head_of[p]
                last = max(arrival[m] for m in regions.members[home[p]])
                leaves = max(arrival[p], min(last, ready[other] + bundle))
                known.append(leaves + rtt[other, head] // 2)
            certified[index] = sorted(known)[q - 1]
        ready = {p: certified[home[p]] + rtt[head_of[p], p] // 2 for p in home}
    return sorted(ready.values())[q - 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 20), st.integers(0, 10**6), st.integers(0, 60_000), st.data())
def test_the_modelled_latency_is_that_of_a_walk_over_the_messages(n, seed, bundle, data):
    rtt = scattered(n, seed)
    regions = group(rtt, data.draw(st.integers(1, n)))
    leader = data.draw(st.integers(0, n - 1))
    heads = [leader if leader in region else region[0] for region in regions.members]
    assert latency_us(rtt, regions, heads, leader, bundle) == by_hand(rtt, regions, heads, leader, bundle)


def test_a_decision_takes_three_far_and_five_near_ways():
    regions = group(clustered(40, 4), 4)
    heads = [region[0] for region in regions.members]
    latency = latency_us(clustered(40, 4), regions, heads, heads[0], 50_000)
    assert latency == 3 * 40_000 + 5 * 2_000


def test_nothing_is_looked_into_where_nothing_has_changed():
    rtt = scattered(20, 1)
    bad = group(scattered(20, 2), 4)  # though another map would be better
    decision = regroup(bad, rtt, rtt, range(20), OUTLOOK)
    assert (decision.kind, decision.regions, decision.triggers) == ("keep", bad, ())


def test_drifted_round_trips_lead_to_a_recut_that_pays():
    order = np.random.default_rng(1).permutation(40)
    before = clustered(40, 4)
    now = before[np.ix_(order, order)]  # everybody is somewhere else
    current = group(before, 4)
    decision = regroup(current, before, now, range(40), OUTLOOK)
    assert decision.kind == "recut"
    assert decision.triggers == ("drift",)
    assert decision.latency_us == mean_latency_us(now, decision.regions, OUTLOOK) < decision.kept_us
    assert {frozenset(region) for region in decision.regions.members} == {
        frozenset(region) for region in group(now, 4).members
    }
    assert (decision.kept_us - decision.latency_us) * OUTLOOK.decisions > 1.1 * decision.switching_us


def test_a_change_waits_until_enough_decisions_pay_for_it():
    before, now = scattered(30, 1), scattered(30, 2)
    current = group(before, 4)
    kinds = [
        regroup(current, before, now, range(30), replace(OUTLOOK, decisions=decisions)).kind
        for decisions in (1, 1000)
    ]
    assert kinds[0] == "keep"
    assert kinds[1] != "keep"
    dear = regroup(current, before, now, range(30), OUTLOOK, policy=Policy(alpha=1e6))
    assert dear.kind == "keep"
    assert "worth its switching" in dear.reason


def test_a_head_with_strikes_is_replaced_within_its_region():
    rtt = clustered(40, 4)
    current = group(rtt, 4)
    head = current.head(2)
    soon = replace(OUTLOOK, decisions=16)
    decision = regroup(current, rtt, rtt, range(40), soon, struck=frozenset({head}))
    assert (decision.kind, decision.triggers) == ("move", ("strikes",))
    assert decision.kept_us == decision.latency_us + soon.fallback_us
    assert decision.regions.head(2) != head
    assert set(decision.regions.members[2]) == set(current.members[2])
    whole_rotation = regroup(current, rtt, rtt, range(40), OUTLOOK, struck=frozenset({head}))
    assert whole_rotation.kind == "keep"  # its turn as a head comes anyway, whatever the order


def test_members_that_left_or_came_are_fitted_in_first():
    rtt = clustered(41, 4)
    current = group(rtt[:40, :40], 4)
    places = [place for place in range(41) if place != 5]
    decision = regroup(current, rtt, rtt, places, OUTLOOK)
    assert decision.triggers == ("churn",)
    assert sorted(place for region in decision.regions.members for place in region) == places
    assert decision.regions == current.covering(places)  # one of ten that is far off holds up no quorum
    home = decision.regions.region_of()
    assert home[40] == current.region_of()[5]


def test_the_coming_turn_meets_the_most_central_member_first():
    rtt = scattered(30, 3)
    plain = group(rtt, 4)
    for turn in (0, 1, 7, 100):
        turned = ordered(plain, rtt, replace(OUTLOOK, turn=turn), frozenset())
        assert [turned.head(region, turn) for region in range(4)] == [region[0] for region in plain.members]
        assert [turned.head(region, turn + 1) for region in range(4)] == [region[1] for region in plain.members]


def test_connections_cost_two_round_trips_of_the_slowest_that_gets_another_head():
    rtt = np.array([[0, 10, 20, 90], [10, 0, 30, 40], [20, 30, 0, 50], [90, 40, 50, 0]])
    old, new = Regions(((0, 1), (2, 3))), Regions(((0, 3), (2, 1)))
    assert reconnecting_us(old, new, rtt, OUTLOOK) == 2 * 90
    assert reconnecting_us(old, old, rtt, OUTLOOK) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(10, 30), st.integers(0, 10**6), st.integers(0, 50))
def test_a_decision_is_the_same_for_the_same_arguments_and_never_worse_than_keeping(n, seed, turn):
    before, now = scattered(n, seed), scattered(n, seed + 1)
    outlook = Outlook(leader=n - 1, decisions=200, turn=turn)
    current = group(before)
    decision = regroup(current, before, now, range(n), outlook)
    assert decision.to_json() == regroup(current, before, now, range(n), outlook).to_json()
    assert sorted(place for region in decision.regions.members for place in region) == list(range(n))
    assert decision.regions.k == current.k
    saved = (decision.kept_us - decision.latency_us) * outlook.decisions
    assert saved > decision.switching_us or decision.kind == "keep"


def test_a_decision_is_committed_as_data():
    rtt = scattered(12, 1)
    written = json.loads(regroup(group(rtt), rtt, scattered(12, 2), range(12), OUTLOOK).to_json())
    assert set(written) == {"kind", "regions", "triggers", "latency_us", "kept_us", "switching_us", "reason"}
    assert Regions.from_json(json.dumps({"regions": written["regions"]["members"]})).n == 12


def test_struck_heads_cost_the_fallback():
    rtt = clustered(40, 4)
    regions = group(rtt, 4)
    one = replace(OUTLOOK, decisions=16)
    free = mean_latency_us(rtt, regions, one)
    assert mean_latency_us(rtt, regions, one, frozenset({regions.head(1)})) == free + one.fallback_us
    two_turns = replace(OUTLOOK, decisions=32)
    assert mean_latency_us(rtt, regions, two_turns, frozenset({regions.head(1)})) == pytest.approx(
        free + one.fallback_us / 2
    )


@pytest.mark.skipif(not SEATTLE.is_dir(), reason="the Seattle slices are not on this machine")
@pytest.mark.parametrize("decisions", [16, 128])
def test_on_48_slices_of_home_devices_the_controller_beats_never_and_always(decisions):
    directed = [
        np.rint(load(SEATTLE / f"SeattleData_{index}").rtt_ms * 1000).astype(np.int64) for index in range(1, 49)
    ]
    reported = [clipped(slice_us) for slice_us in directed]
    true = [np.maximum(slice_us, slice_us.T) * ~np.eye(99, dtype=bool) for slice_us in directed]
    leader = int(np.argmin(reported[0].sum(axis=1)))
    first = group(reported[0], 4)
    made_with, maps = reported[0], {"never": first, "always": first, "controller": first}
    waited = dict.fromkeys(maps, 0)
    for at in range(1, 48):
        outlook = Outlook(leader, decisions, turn=at * decisions // 16)
        decision = regroup(maps["controller"], made_with, reported[at - 1], range(99), outlook)
        made_with = made_with if decision.kind == "keep" else reported[at - 1]
        recut = ordered(group(reported[at - 1], 4), reported[at - 1], outlook, frozenset())
        for policy, chosen in (("never", first), ("always", recut), ("controller", decision.regions)):
            if chosen != maps[policy]:
                waited[policy] += mean_latency_us(true[at], maps[policy], outlook)
                waited[policy] += reconnecting_us(maps[policy], chosen, true[at], outlook)
            maps[policy] = chosen
            waited[policy] += mean_latency_us(true[at], chosen, outlook) * decisions
    assert waited["controller"] < waited["never"]
    assert waited["controller"] < waited["always"]
