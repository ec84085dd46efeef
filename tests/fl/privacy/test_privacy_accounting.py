"""Costs and conversions against Opacus and published values."""

import logging

import numpy as np
import pytest
from opacus.accountants import RDPAccountant
from opacus.accountants.utils import get_noise_multiplier

from fl.privacy import ORDERS, Mechanism, calibrate, epsilon, epsilons, rdp
from fl.privacy._opacus import _root_logger_kept
from shards.errors import InputError

EVENT = Mechanism(sampling_rate=0.05, noise_multiplier=1.0, steps=20)


def opacus_epsilon(history, delta):
    accountant = RDPAccountant()
    accountant.history = history
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize(("events", "expected"), [(1, 2.481), (10, 5.368), (14, 6.253), (22, 7.780), (50, 11.980)])
def test_known_values(events, expected):
    assert epsilon(events * rdp(EVENT), 1e-5) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
def test_equals_opacus_for_mixed_histories(delta):
    history = [(1.0, 0.05, 60), (2.5, 0.01, 500), (0.8, 1.0, 1)]
    cost = sum(rdp(Mechanism(rate, noise, steps)) for noise, rate, steps in history)
    assert epsilon(cost, delta) == pytest.approx(opacus_epsilon(history, delta), abs=1e-9)


def test_rows_convert_as_they_do_alone(recwarn):
    costs = np.outer([0, 1, 5, 400], rdp(EVENT))
    together = epsilons(costs, 1e-5)
    assert together.tolist() == [epsilon(row, 1e-5) for row in costs]
    assert together[0] == 0.0
    assert (np.diff(together) > 0).all()
    assert not recwarn.list


def test_no_rows_convert_to_no_values():
    assert epsilons(np.empty((0, len(ORDERS))), 1e-5).shape == (0,)


def test_epsilon_is_never_negative():
    faint = rdp(Mechanism(1e-6, 1000.0, 1))
    assert (faint >= 0).all()
    assert epsilon(faint, 0.5) == 0.0


def test_shared_values_cannot_be_changed():
    cost = rdp(EVENT)
    cost += 1.0
    assert not np.array_equal(cost, rdp(EVENT))


@pytest.mark.parametrize(
    ("budget", "delta", "rate", "steps"),
    [(8.0, 1e-5, 0.05, 1000), (1.0, 1e-5, 0.05, 1000), (3.0, 1e-6, 0.01, 5000), (8.0, 1e-5, 1.0, 10)],
)
def test_calibrated_noise_is_the_smallest_within_budget(budget, delta, rate, steps):
    noise = calibrate(budget, delta, rate, steps)
    assert epsilon(rdp(Mechanism(rate, noise, steps)), delta) <= budget
    assert epsilon(rdp(Mechanism(rate, noise / 1.001, steps)), delta) > budget


def test_calibration_survives_adding_event_by_event():
    noise = calibrate(2.0, 1e-5, 0.05, 700)
    total = sum(rdp(Mechanism(0.05, noise, 7)) for _ in range(100))
    assert epsilon(total, 1e-5) <= 2.0


@pytest.mark.filterwarnings("ignore:Optimal order is the largest")
def test_calibration_is_tighter_than_opacus_for_small_budgets():
    options = {"target_epsilon": 0.2, "target_delta": 1e-5, "sample_rate": 0.01, "steps": 100}
    coarse = get_noise_multiplier(**options)
    ours = calibrate(0.2, 1e-5, 0.01, 100)
    assert ours < coarse
    assert opacus_epsilon([(ours, 0.01, 100)], 1e-5) <= 0.2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Mechanism(0.0, 1.0, 1), "sampling rate is 0.0"),
        (lambda: Mechanism(1.5, 1.0, 1), "sampling rate is 1.5"),
        (lambda: Mechanism(float("nan"), 1.0, 1), "sampling rate is nan"),
        (lambda: Mechanism(0.1, 0.0, 1), "noise multiplier is 0.0"),
        (lambda: Mechanism(0.1, float("inf"), 1), "noise multiplier is inf"),
        (lambda: Mechanism(0.1, 1.0, 0), "steps per training event is 0"),
        (lambda: Mechanism(0.1, 1.0, 2.5), "steps per training event is 2.5"),
        (lambda: epsilon(rdp(EVENT), 0.0), "delta is 0.0"),
        (lambda: calibrate(0.0, 1e-5, 0.1, 10), "epsilon is 0.0"),
        (lambda: calibrate(1.0, 1.0, 0.1, 10), "delta is 1.0"),
        (lambda: calibrate(0.05, 1e-5, 0.1, 10), "no noise multiplier up to 1000"),
        (lambda: calibrate(1e9, 1e-5, 0.1, 10), "protects nothing"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_importing_opacus_leaves_the_root_logger_alone():
    root = logging.getLogger()
    before = list(root.handlers), root.level
    with _root_logger_kept():
        root.addHandler(logging.NullHandler())
        root.setLevel(logging.DEBUG)
    assert (list(root.handlers), root.level) == before
