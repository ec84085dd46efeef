"""What a training event costs: Rényi differential privacy of DP-SGD, and its conversion to (ε, δ).

The figures are Opacus'; this module adds validation, caching, a vectorised conversion and a
calibration that never lands above its target.
"""

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from fl.privacy._opacus import RDPAccountant, compute_rdp, get_privacy_spent
from shards.errors import InputError

ORDERS: tuple[float, ...] = tuple(float(order) for order in RDPAccountant.DEFAULT_ALPHAS)
"""Rényi orders α at which every cost is kept: those of Opacus' `RDPAccountant`, 1.1 to 63.

The largest order limits how small an ε can be certified: 0.10 at δ = 1e-5, however much noise is added.
"""

# Relative step by which calibrate() may exceed the smallest noise multiplier.
_CALIBRATION_TOLERANCE = 1e-3
# Kept between a calibrated ε and its target, so that the same cost added up event by event, in another
# order of additions, does not pass the target by a rounding error.
_ROUNDING_MARGIN = 1e-9
# Below this the mechanism hides nothing (ε in the thousands) and above it Opacus' series for fractional
# orders takes minutes.
_NOISE_RANGE = (0.05, 1000.0)


@dataclass(frozen=True)
class Mechanism:
    """One training event: steps of the Poisson-subsampled Gaussian mechanism.

    Neighbouring data sets differ by adding or removing one record, which changes a sum of clipped
    gradients by at most the clipping norm C. Replacing a record is a removal and an addition: up to
    twice the cost.

    Attributes
    ----------
    sampling_rate : float
        Probability q, in (0, 1], with which each eligible record enters a step, independently.
    noise_multiplier : float
        Standard deviation σ of the noise on a step's sum of gradients, in units of C; positive, finite.
    steps : int
        Number of steps T of the event, at least 1.

    Raises
    ------
    InputError
        If a field is outside its range.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        _check_rate(self.sampling_rate)
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise InputError(f"noise multiplier is {self.noise_multiplier}; give a positive number, such as 1.0")
        _check_steps(self.steps)


def rdp(mechanism: Mechanism) -> NDArray[np.float64]:
    """Return what one event costs each eligible record, by Rényi order.

    Parameters
    ----------
    mechanism : Mechanism
        The event.

    Returns
    -------
    NDArray[np.float64]
        RDP ε(α) in nats for each of `ORDERS`, shape (len(ORDERS),); costs of several events add up.

    Notes
    -----
    Opacus' `compute_rdp`: Mironov, Talwar and Zhang, *Rényi Differential Privacy of the Sampled
    Gaussian Mechanism* (2019), section 3.3, times the number of steps.
    """
    cost: NDArray[np.float64] = _rdp_per_step(mechanism.sampling_rate, mechanism.noise_multiplier) * mechanism.steps
    return cost


@lru_cache(maxsize=256)
def _rdp_per_step(sampling_rate: float, noise_multiplier: float) -> NDArray[np.float64]:
    """Return the RDP of one step, shape (len(ORDERS),), read-only because it is shared."""
    cost = compute_rdp(q=sampling_rate, noise_multiplier=noise_multiplier, steps=1, orders=ORDERS)
    # The log-space series leaves rounding noise of about 1e-13 around costs that are nearly zero.
    cost = np.maximum(np.asarray(cost, dtype=np.float64), 0.0)
    cost.flags.writeable = False
    return cost


def epsilons(costs: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """Convert accumulated RDP to ε, row by row.

    Parameters
    ----------
    costs : NDArray[np.float64]
        Accumulated RDP, shape (n, len(ORDERS)).
    delta : float
        The δ of (ε, δ)-differential privacy, in (0, 1).

    Returns
    -------
    NDArray[np.float64]
        ε of each row, shape (n,): the smallest over `ORDERS`, at least 0. A row of zeros, a record no
        event has touched, is exactly 0.

    Raises
    ------
    InputError
        If `delta` is outside (0, 1).

    Notes
    -----
    Balle et al., *Hypothesis Testing Interpretations and Rényi Differential Privacy* (2020), theorem 21,
    as computed by Opacus' `get_privacy_spent`. At each order it adds a term that depends on δ alone, so the
    term is asked of Opacus once and added to every row.
    """
    result: NDArray[np.float64] = np.maximum((costs + _conversion(delta)).min(axis=1), 0.0)
    result[~costs.any(axis=1)] = 0.0
    return result


def epsilon(cost: NDArray[np.float64], delta: float) -> float:
    """Convert one accumulated RDP vector, shape (len(ORDERS),), to ε; see `epsilons`."""
    return float(epsilons(cost[np.newaxis], delta)[0])


@lru_cache(maxsize=64)
def _conversion(delta: float) -> NDArray[np.float64]:
    """Return what the conversion to ε adds to the RDP at each order, shape (len(ORDERS),), read-only."""
    _check_delta(delta)
    with warnings.catch_warnings():
        # Asked of one order at a time, Opacus always finds the best one at the edge of the range.
        warnings.filterwarnings("ignore", message="Optimal order is the")
        terms = np.array([get_privacy_spent(orders=[order], rdp=[0.0], delta=delta)[0] for order in ORDERS])
    terms.flags.writeable = False
    return terms


def calibrate(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Find the smallest noise multiplier that keeps a fixed number of steps within a budget.

    Parameters
    ----------
    epsilon : float
        The budget ε, positive.
    delta : float
        The budget δ, in (0, 1).
    sampling_rate : float
        Poisson sampling rate q per step, in (0, 1].
    steps : int
        All steps one record will be eligible for, over all events, at least 1.

    Returns
    -------
    float
        A noise multiplier whose ε is at most `epsilon`, within a relative 1e-3 of the smallest such.

    Raises
    ------
    InputError
        If an argument is outside its range, or no noise multiplier from 0.05 to 1000 meets the budget
        exactly.

    Notes
    -----
    Opacus' `get_noise_multiplier` stops within 0.01 of the budget's ε: near ε = 0.1 that wastes a tenth
    of the budget. A root of log ε in log σ needs fewer evaluations and bounds σ itself.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise InputError(f"privacy budget epsilon is {epsilon}; give a positive number, such as 8.0")
    _check_rate(sampling_rate)
    _check_steps(steps)
    target = epsilon * (1 - _ROUNDING_MARGIN)

    def excess(log_noise: float) -> float:
        """Return log(ε / target) at a noise multiplier: falling in it, zero at the answer."""
        cost = _rdp_per_step(sampling_rate, math.exp(log_noise)) * steps
        return math.log(max(float(epsilons(cost[np.newaxis], delta)[0]), 1e-300) / target)

    # The bracket grows from σ = 1: far from the answer Opacus' series is slow, so no wide bracket to start
    # with.
    high = 0.0
    while excess(high) > 0:
        high += math.log(2)
        if high > math.log(_NOISE_RANGE[1]):
            raise InputError(
                f"no noise multiplier up to {_NOISE_RANGE[1]:g} keeps {steps} steps at sampling rate "
                f"{sampling_rate} within epsilon {epsilon} at delta {delta}; raise the budget or "
                "train fewer steps"
            )
    low = high - math.log(2)
    while excess(low) <= 0:
        high, low = low, low - math.log(2)
        if low < math.log(_NOISE_RANGE[0]):
            raise InputError(
                f"epsilon {epsilon} is met even by a noise multiplier of {math.exp(high):.2g}, which "
                "protects nothing; lower the budget, or set the noise multiplier yourself"
            )
    # brentq may stop on either side of the root by xtol + rtol·|root|; one such step up is on the safe side.
    xtol, rtol = _CALIBRATION_TOLERANCE / 4, 1e-12
    root = float(brentq(excess, low, high, xtol=xtol, rtol=rtol))
    return math.exp(root + xtol + rtol * abs(root))


def _check_rate(rate: float) -> None:
    if not 0 < rate <= 1:
        raise InputError(f"sampling rate is {rate}; give a probability above 0 and at most 1")


def _check_steps(steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps per training event is {steps}; give an integer of at least 1")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta}; give a probability between 0 and 1, below 1 over the number of records")
