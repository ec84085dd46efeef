"""The conditions that requests are made of. Each speaks of one key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.scalar import Kind, Scalar, bind, bind_bound, from_json, is_in, known_kind, to_json
from shards.zone import KeyZone


@dataclass(frozen=True)
class Between:
    """``low <= key < high``; None leaves a side open."""

    key: str
    low: Scalar | None
    high: Scalar | None

    def bind(self, kinds: Mapping[str, Kind]) -> "Between":
        """Return the condition with bounds of the key's kind."""
        kind = known_kind(self.key, kinds)
        low, high = (None if bound is None else bind_bound(bound, kind, self.key) for bound in (self.low, self.high))
        return Between(self.key, low, high)

    def mask(self, column: NDArray[Any]) -> NDArray[np.bool_]:
        """Return for each value whether it meets the condition."""
        met = np.ones(len(column), np.bool_)
        if self.low is not None:
            met &= column >= self.low
        if self.high is not None:
            met &= column < self.high
        return met

    def may_match(self, zone: KeyZone) -> bool:
        """Return whether some value may meet the condition."""
        if zone.counts is not None:
            return any(self._holds(value) for value in zone.counts)
        return self._above(zone.high) and self._below(zone.low)

    def covers(self, zone: KeyZone) -> bool:
        """Return whether every value meets the condition."""
        return self._above(zone.low) and self._below(zone.high)

    def _holds(self, value: Any) -> bool:
        return self._above(value) and self._below(value)

    def _above(self, value: Any) -> bool:
        return self.low is None or bool(value >= self.low)

    def _below(self, value: Any) -> bool:
        return self.high is None or bool(value < self.high)

    def to_json(self) -> dict[str, Any]:
        """Return the condition as JSON values."""
        bounds = {"low": self.low, "high": self.high}
        return {"key": self.key, **{side: to_json(bound) for side, bound in bounds.items() if bound is not None}}


@dataclass(frozen=True)
class OneOf:
    """The key is one of the values, which are sorted, each once."""

    key: str
    values: tuple[Scalar, ...]

    @staticmethod
    def of(key: str, values: Iterable[Scalar]) -> "OneOf":
        """Return the condition, its values in canonical order."""
        once = {(type(value).__name__, value) for value in values}
        return OneOf(key, tuple(value for _, value in sorted(once)))

    def bind(self, kinds: Mapping[str, Kind]) -> "OneOf":
        """Return the condition with values of the key's kind."""
        kind = known_kind(self.key, kinds)
        return OneOf.of(self.key, (bind(value, kind, self.key) for value in self.values))

    def mask(self, column: NDArray[Any]) -> NDArray[np.bool_]:
        """Return for each value whether it meets the condition."""
        return is_in(column, self.values)

    def may_match(self, zone: KeyZone) -> bool:
        """Return whether some value may meet the condition."""
        if zone.counts is not None:
            return any(value in zone.counts for value in self.values)
        low: Any = zone.low
        high: Any = zone.high
        return any(low <= value <= high for value in self.values)

    def covers(self, zone: KeyZone) -> bool:
        """Return whether every value meets the condition."""
        return zone.counts is not None and set(zone.counts) <= set(self.values)

    def to_json(self) -> dict[str, Any]:
        """Return the condition as JSON values."""
        return {"key": self.key, "in": [to_json(value) for value in self.values]}


@dataclass(frozen=True)
class Window:
    """The key lies in the trailing window of a clock: nothing can be read before the clock is given."""

    key: str
    microseconds: int

    def resolve(self, now: np.datetime64) -> Between:
        """Return the window that ends at `now`, which itself is outside."""
        return Between(self.key, now - np.timedelta64(self.microseconds, "us"), now)

    def to_json(self) -> dict[str, Any]:
        """Return the condition as JSON values."""
        return {"key": self.key, "last_us": self.microseconds}


Condition = Between | OneOf | Window


def condition_from_json(data: Mapping[str, Any]) -> Condition:
    """Return the condition that `to_json` wrote."""
    key = data["key"]
    if "last_us" in data:
        return Window(key, int(data["last_us"]))
    if "in" in data:
        return OneOf.of(key, map(from_json, data["in"]))
    return Between(key, *(from_json(data[side]) if side in data else None for side in ("low", "high")))
