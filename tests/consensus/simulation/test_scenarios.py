import os
import subprocess
import sys

import pytest
from msgspec.structs import replace

from consensus.protocols import PROTOCOLS, find
from consensus.simulation import twins
from consensus.simulation.adversaries import KINDS
from consensus.simulation.epochs import epoch_scenario
from consensus.simulation.network import Faults, partition
from consensus.simulation.replay import record, replay
from consensus.simulation.scenarios import DISK_KINDS, SIZES, Outage, Scenario, World, random_scenario, run
from shards.errors import InputError

QUICK = 160  # seeds in the quick suite; `python -m benchmarks.seeds` runs as many as you like
REGIONS = {4: ((0, 1), (2, 3)), 7: ((0, 1, 2, 3), (4, 5, 6)), 10: ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9))}


@pytest.mark.parametrize("block", range(16))
def test_random_scenarios_break_nothing(block):
    failed = {}
    for seed in range(block, QUICK, 16):
        outcome = run(random_scenario(seed))
        if outcome.violations:
            failed[seed] = outcome.violations
    assert failed == {}


def test_scenarios_are_within_what_is_survived_and_of_every_sort():
    drawn = [random_scenario(seed) for seed in range(2000)]
    for scenario in drawn:
        assert len(scenario.faulty) <= find(scenario.protocol).quorums(scenario.regions).bound
        assert {outage.node for outage in scenario.outages}.isdisjoint(place for place, _ in scenario.faulty)
    assert {scenario.n for scenario in drawn} == set(SIZES)
    assert {scenario.protocol for scenario in drawn} == set(PROTOCOLS)
    assert {kind for scenario in drawn for _, kind in scenario.faulty} == {*KINDS, *DISK_KINDS}


@pytest.mark.parametrize("kind", [*KINDS, *DISK_KINDS])
def test_every_kind_of_faulty_leader_is_survived(kind):
    for protocol in ("flat", "regional"):
        scenario = Scenario(1, protocol, REGIONS[7], faulty=((0, kind), (1, kind)), clients=2, requests=4, view=0.5)
        outcome = run(scenario)
        assert outcome.violations == ()
        assert len(outcome.latencies) == 8


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_without_faults_every_request_is_served_in_the_first_view(protocol):
    outcome = run(Scenario(1, protocol, REGIONS[10], clients=3, requests=6, view=2.0))
    assert outcome.violations == ()
    assert len(outcome.latencies) == 18
    assert max(outcome.latencies) < 1
    assert "view" not in outcome.sent


@pytest.mark.parametrize("fault", ["lost", "torn", "flipped", "kept"])
def test_a_leader_can_crash_in_any_of_its_first_writes(fault):
    for write in range(1, 30, 3):
        outage = Outage(0, 0.0, write, 1.0, fault)
        outcome = run(
            Scenario(write, "flat", REGIONS[4], faults=Faults(heal=60), outages=(outage,), requests=6, view=0.5)
        )
        assert outcome.violations == (), write
        assert len(outcome.latencies) == 6


def test_one_faulty_replica_too_many_is_seen_to_break_agreement():
    broken = set()
    for seed in range(6):
        scenario = replace(
            random_scenario(seed, "flat", 4),
            faulty=((0, "collude"), (1, "collude")),
            faults=Faults(cuts=partition(0, 5, [[2], [3]]), heal=5.0),
            outages=(),
            pauses=(),
            clients=2,
            inline=1 << 14,
        )
        broken |= {violation.invariant for violation in run(scenario).violations}
    assert "agreement" in broken


def test_without_a_quorum_liveness_is_seen_to_fail():
    scenario = Scenario(1, "flat", REGIONS[4], faulty=((2, "silent"), (3, "silent")), requests=1, view=0.5)
    assert {violation.invariant for violation in run(scenario).violations} == {"liveness"}


# -- members that change -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(4))
def test_membership_changes_break_nothing(block):
    failed = {}
    for seed in range(block, 40, 4):
        outcome = run(epoch_scenario(seed))
        if outcome.violations:
            failed[seed] = outcome.violations
    assert failed == {}


def test_members_change_in_these_scenarios():
    world = World(epoch_scenario(0))
    world.run()
    assert len(world.epochs) > 1
    reached = {node.machine.epoch.number for node in world.simulation.nodes if node.index in world.correct}
    assert max(reached) == len(world.epochs) - 1


# -- determinism ------------------------------------------------------------------------------------------------

HASHES = """
from consensus.simulation.scenarios import random_scenario, run
for seed in range({first}, {last}):
    print(seed, run(random_scenario(seed)).trace)
"""


def hashes(hash_seed, first, last):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    code = HASHES.format(first=first, last=last)
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout  # fmt: skip  # noqa: E501


def test_a_seed_gives_the_same_trace_whatever_the_hash_seed():
    first = hashes("1", 0, 6)
    assert len(set(first.split())) == 12
    assert hashes("2", 0, 6) == first


@pytest.mark.slow
def test_100_seeds_give_the_same_traces_twice_with_two_hash_seeds():
    runs = [hashes(hash_seed, 0, 100) for hash_seed in ("1", "1", "2", "2")]
    assert len(runs[0].splitlines()) == 100
    assert len(set(runs)) == 1


@pytest.mark.parametrize("protocol", ["flat", "regional", "star", "two-layer", "regional-fast"])
def test_real_signatures_give_the_same_decisions_as_checksums(protocol):
    scenario = Scenario(5, protocol, REGIONS[7], faulty=(), jitter=0.2, clients=2, requests=6)
    worlds = [World(replace(scenario, scheme=scheme)) for scheme in ("null", "ed25519")]
    first, second = (world.run() for world in worlds)
    assert (first.violations, second.violations) == ((), ())
    assert first.latencies == second.latencies
    states = [[world.applications[place].snapshot() for place in range(7)] for world in worlds]
    assert states[0] == states[1]  # a hash over all operations in the order of their execution


# -- traces -----------------------------------------------------------------------------------------------------


def test_a_recorded_trace_runs_again_to_the_same_events(tmp_path):
    path = tmp_path / "trace.jsonl"
    outcome = record(random_scenario(3), path)
    again = replay(path)
    assert again.difference == ""
    assert again.outcome == outcome
    assert again.events == len(path.read_bytes().splitlines()) - 1 > 100


def test_a_changed_trace_says_where(tmp_path):
    path = tmp_path / "trace.jsonl"
    record(random_scenario(3), path)
    lines = path.read_bytes().splitlines()
    lines[7] = lines[7].replace(b'"at":', b'"at":1')
    path.write_bytes(b"\n".join(lines))
    assert replay(path).difference.startswith("event 7 was")


@pytest.mark.parametrize("content", [None, b"", b"{}\n", b"\xff\xfe"])
def test_what_is_no_trace_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "trace.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"trace\.jsonl") as caught:
        replay(path)
    assert "\n" not in str(caught.value)


# -- twins ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "n", "count"), [("flat", 4, 60), ("regional", 4, 40), ("star", 4, 20), ("regional-fast", 6, 20)]
)
def test_twins_break_nothing(protocol, n, count):
    for seed in range(count):
        assert run(twins.sampled(seed, protocol, n, 1, 3)).violations == (), seed


def test_too_many_twins_are_seen_to_break_agreement():
    outcomes = [run(twins.sampled(seed, "flat", 4, 2, 2)) for seed in range(40)]
    assert any(violation.invariant == "agreement" for outcome in outcomes for violation in outcome.violations)


def test_twins_are_counted_and_all_different():
    total = twins.count(4, 1, 2)
    assert total == 4 * 16**2
    every = {twins.scenario(number, "flat", 4, 1, 2) for number in range(total)}
    assert len(every) == total
    with pytest.raises(ValueError, match="1024"):
        twins.scenario(total, "flat", 4, 1, 2)
