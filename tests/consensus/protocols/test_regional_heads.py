import numpy as np
import pytest

from consensus.bench import Case, measure
from consensus.simulation.latency import network
from consensus.simulation.scenarios import Scenario, run


@pytest.mark.parametrize("protocol", ["regional", "regional-fast"])
@pytest.mark.parametrize("faults", ["heads", "silent"])
def test_heads_that_fail_cost_one_fallback_and_are_passed_over_by_everybody(protocol, faults):
    faulty = 6 if protocol == "regional" else 3
    usual = measure(Case(protocol, 20, network("earth"), "earth", rounds=3))
    figures = measure(Case(protocol, 20, network("earth"), "earth", rounds=8, faults=faults, faulty=faulty))
    first, *later = figures.client
    assert first > 1.5 * usual.client.max()
    assert np.median(later) < 1.3 * usual.client.max()
    assert sum(latency > 1.3 * usual.client.max() for latency in later) <= 1


@pytest.mark.parametrize("regions", [((0, 2), (1, 3)), ((0, 3), (1, 4), (2, 5, 6))])
def test_a_region_whose_head_is_first_to_know_a_checkpoint_does_not_hold_up_the_others(regions):
    for seed in range(6):
        scenario = Scenario(seed, "regional", regions, rtt=0.002, jitter=0.5, requests=60, period=16, window=32)
        outcome = run(scenario)
        assert outcome.violations == ()
        assert max(outcome.latencies) < 0.1
        assert "backup" not in outcome.sent
