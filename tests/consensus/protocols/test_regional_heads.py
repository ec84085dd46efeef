import numpy as np
import pytest

from consensus.bench import Case, measure
from consensus.simulation.latency import network


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
