"""Which records a round trains on: the configured request, its windows ended by a clock that each round moves on."""

from dataclasses import dataclass

import numpy as np

from shards.conditions import Window
from shards.errors import InputError
from shards.request import Request
from shards.scalar import utc


@dataclass(frozen=True)
class Schedule:
    """The request of every round; a function of configuration and round alone, hence public.

    Attributes
    ----------
    request : Request
        What each round reads; its windows end at the round's clock.
    start : np.datetime64
        Where the clock stands before round 1; UTC. Not a time where no window needs it.
    step : np.timedelta64
        How far each round moves it on.
    """

    request: Request
    start: np.datetime64
    step: np.timedelta64

    @classmethod
    def read(cls, request: str, clock_start: str, clock_step: str) -> "Schedule":
        """Read what the configuration says.

        Parameters
        ----------
        request : str
            As `Request.parse` takes it, such as ``last 30d``; empty for everything.
        clock_start : str
            A date or time, ISO 8601; empty where the request has no window.
        clock_step : str
            A span such as ``1d``; empty where the request has no window.

        Raises
        ------
        InputError
            If one cannot be read, or a window has no clock, or a clock no window.
        """
        try:
            parsed = Request.parse(request)
        except InputError as error:
            raise InputError(f"train-request = '{request}': {error}") from error
        if not any(isinstance(condition, Window) for condition in parsed.conditions):
            if clock_start or clock_step:
                raise InputError("clock-start and clock-step move windows on, but train-request has none: 'last 30d'")
            return cls(parsed, np.datetime64("NaT", "us"), np.timedelta64(0, "us"))
        if not (clock_start and clock_step):
            raise InputError(f"train-request = '{request}': a window needs clock-start and clock-step")
        try:
            return cls(parsed, utc(clock_start), _span(clock_step))
        except InputError as error:
            raise InputError(f"clock-start = '{clock_start}', clock-step = '{clock_step}': {error}") from error

    def at(self, server_round: int) -> Request:
        """Return the request of a round, counted from 1: windows end at ``start + round * step``."""
        return self.request if np.isnat(self.start) else self.request.resolve(self.clock(server_round))

    def eligible_rounds(self, rounds: int) -> int:
        """Return in how many of so many rounds one record can be asked for, at most: windows move on, and leave it.

        Public, like the schedule itself: it bounds what a record spends without looking at any.
        """
        spans = [condition.microseconds for condition in self.request.conditions if isinstance(condition, Window)]
        step = int(self.step / np.timedelta64(1, "us"))
        return min([rounds, *(-(-span // step) for span in spans)])

    def clock(self, server_round: int) -> np.datetime64:
        """Return where the clock stands in a round; the machine's own time where no window needs one. UTC."""
        return np.datetime64("now", "us") if np.isnat(self.start) else self.start + server_round * self.step


def _span(text: str) -> np.timedelta64:
    (window,) = Request.window(text).conditions
    assert isinstance(window, Window)
    return np.timedelta64(window.microseconds, "us")
