"""Crashes in a sample of a run's writes; all of them: `python -m benchmarks.crashes`."""

import pytest
from crashing import FAULTS, crash, points, reference


@pytest.mark.parametrize(("protocol", "n"), [("flat", 4), ("regional", 4)])
def test_a_replica_that_crashes_in_any_write_comes_back_and_breaks_nothing(protocol, n):
    scenario = reference(protocol, n)
    sample = list(points(scenario))[::17]
    assert {outage.fault for outage in sample} == set(FAULTS)
    assert {outage.node for outage in sample} == set(range(n))
    assert {outage: crash(scenario, outage) for outage in sample} == dict.fromkeys(sample, (True, []))
