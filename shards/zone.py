"""What the manifest knows of a shard without opening it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.scalar import ID, Scalar, from_json, scalar, to_json
from shards.table import Table

MAX_COUNTED = 64
"""Distinct values up to which a key's exact counts are kept."""


@dataclass(frozen=True)
class KeyZone:
    """The values of one key in a shard.

    Attributes
    ----------
    low, high : Scalar
        Smallest and greatest value; texts by code point.
    counts : Mapping[Scalar, int] or None
        Rows per value, or None where there are more than `MAX_COUNTED` values, or the key is the record id.
    """

    low: Scalar
    high: Scalar
    counts: Mapping[Scalar, int] | None = None

    @staticmethod
    def of(key: NDArray[Any], counted: bool = True) -> "KeyZone":
        """Describe a key's values, of which there is at least one."""
        if not counted or _clearly_varied(key):
            return KeyZone(scalar(key.min()), scalar(key.max()))
        values, numbers = np.unique(key, return_counts=True)
        few = zip(values, numbers, strict=True) if len(values) <= MAX_COUNTED else None
        counts = None if few is None else {scalar(value): int(number) for value, number in few}
        return KeyZone(scalar(values[0]), scalar(values[-1]), counts)

    def to_json(self) -> list[Any]:
        """Return ``[low, high]`` or ``[[value, count], ...]``."""
        if self.counts is None:
            return [to_json(self.low), to_json(self.high)]
        return [[to_json(value), count] for value, count in self.counts.items()]

    @staticmethod
    def from_json(data: list[Any]) -> "KeyZone":
        """Return the zone that `to_json` wrote."""
        if not isinstance(data[0], list):
            return KeyZone(from_json(data[0]), from_json(data[1]))
        counts = {from_json(value): int(count) for value, count in data}
        values = list(counts)  # written in increasing order
        return KeyZone(values[0], values[-1], counts)


def _clearly_varied(key: NDArray[Any]) -> bool:
    """Return whether some of the values show that there are more than `MAX_COUNTED`, which spares sorting all."""
    return key.dtype.kind != "U" and len(np.unique(key[: 4 * MAX_COUNTED])) > MAX_COUNTED


@dataclass(frozen=True)
class Zone:
    """What is known of a shard: enough to tell that it cannot match a request, and to plan with.

    Attributes
    ----------
    rows : int
        At least 1.
    bytes : int
        `Table.nbytes` of the rows.
    keys : Mapping[str, KeyZone]
        By key, the record id (``id``) among them.
    """

    rows: int
    bytes: int
    keys: Mapping[str, KeyZone]

    @staticmethod
    def of(table: Table) -> "Zone":
        """Describe a table of at least one row."""
        keys = {ID: KeyZone.of(table.ids, counted=False), **{n: KeyZone.of(key) for n, key in table.keys.items()}}
        return Zone(len(table), table.nbytes, keys)

    def to_json(self) -> dict[str, Any]:
        """Return the zone as JSON values."""
        keys = {name: zone.to_json() for name, zone in self.keys.items()}
        return {"rows": self.rows, "bytes": self.bytes, "keys": keys}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Zone":
        """Return the zone that `to_json` wrote."""
        keys = {name: KeyZone.from_json(zone) for name, zone in data["keys"].items()}
        return Zone(int(data["rows"]), int(data["bytes"]), keys)
