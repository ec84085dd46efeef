"""What will be asked next, said plainly: the same as before, and a window that was moving moves on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from shards.conditions import Between, Condition
from shards.request import Request
from shards.scalar import Scalar


def repeat(history: Sequence[Request], count: int) -> list[Request]:
    """Forecast the next requests: the last `count` in the same order, each interval moved on by its own pace.

    Requests that differ only by where their intervals lie are of one family. Where a family's interval moved in one
    direction only, it goes on at its mean pace per request (the drift method: Hyndman & Athanasopoulos, *Forecasting:
    Principles and Practice*, 3rd edition, section 5.2); else it stays where it was.

    Parameters
    ----------
    history : sequence of Request
        What was asked, oldest first, windows resolved, bound to the keys' kinds. All of it shows the pace.
    count : int
        How many requests to forecast.

    Returns
    -------
    list of Request
        `count` of them; none when there is no history.
    """
    families: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, request in enumerate(history):
        families[tuple(map(_shape, request.conditions))].append(index)
    forecast = []
    period = min(len(history), count)
    for step in range(count if history else 0):
        index = len(history) - period + step % period
        request = history[index]
        family = families[tuple(map(_shape, request.conditions))]
        moved = [
            _moved(condition, [history[i].conditions[place] for i in family], family, len(history) + step - index)
            for place, condition in enumerate(request.conditions)
        ]
        forecast.append(replace(request, conditions=tuple(moved)))
    return forecast


def _shape(condition: Condition) -> object:
    """Give what stays of a condition wherever its interval lies."""
    if isinstance(condition, Between):
        low, high = _number(condition.low), _number(condition.high)
        if low is not None and high is not None:
            return condition.key, high - low
        if low is not None or high is not None:
            return condition.key, low is None, high is None
    return condition


def _moved(condition: Condition, past: Sequence[Condition], at: Sequence[int], ahead: int) -> Condition:
    """Move an interval on by `ahead` requests, given where its family's intervals lay and at which requests."""
    if not isinstance(condition, Between) or len(at) < 2:
        return condition
    places = [_number(c.high if c.low is None else c.low) for c in past if isinstance(c, Between)]
    steps = [after - before for before, after in pairwise(places) if before is not None and after is not None]
    if not steps or min(steps) < 0 < max(steps):
        return condition
    way = sum(steps) * ahead
    shift = way // (at[-1] - at[0]) if isinstance(way, int) else way / (at[-1] - at[0])
    return replace(condition, low=_shifted(condition.low, shift), high=_shifted(condition.high, shift))


def _number(bound: Scalar | None) -> Any:
    """Give a bound as a number, a time in microseconds; None where it is open or has no distances."""
    if isinstance(bound, np.datetime64):
        return int(bound.astype(np.int64))
    return None if isinstance(bound, str) else bound


def _shifted(bound: Scalar | None, shift: Any) -> Scalar | None:
    number = _number(bound)
    if number is None:
        return bound
    return np.datetime64(number + shift, "us") if isinstance(bound, np.datetime64) else number + shift
