"""Single key values: their kinds, their JSON, and their conversion to the kind of the key they are compared with."""

import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError
from shards.nearest import suggest

Scalar = bool | int | float | str | np.datetime64
"""A value of a key. Times are `numpy.datetime64` in microseconds, UTC."""

Kind = Literal["bool", "int64", "float64", "str", "datetime64[us]"]
"""What a key holds."""

ID = "id"
"""The name under which requests and zones speak of the record id."""

_INT64 = np.iinfo(np.int64)


def kind_of(dtype: np.dtype[Any]) -> Kind | None:
    """Return the kind of a key of this dtype, or None where it is none of the five."""
    if dtype.kind == "U":
        return "str"
    kinds: dict[str, Kind] = {
        "bool": "bool", "int64": "int64", "float64": "float64", "datetime64[us]": "datetime64[us]",
    }  # fmt: skip
    return kinds.get(dtype.name)


def scalar(value: object) -> Scalar:
    """Return the value as a plain Python scalar or a `numpy.datetime64` in microseconds.

    Raises
    ------
    InputError
        If it is no scalar, not finite, or not a time.
    """
    if isinstance(value, datetime | np.datetime64):
        return utc(value)
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, bool | int | float | str):
        raise InputError(f"{value!r} cannot be compared with a key; give a number, a text, a bool or a time")
    if isinstance(plain, float) and not math.isfinite(plain):
        raise InputError(f"{value!r} cannot be compared with a key; leave the bound out for no bound")
    return plain


def utc(value: datetime | np.datetime64 | str) -> np.datetime64:
    """Return a time in UTC, in microseconds; one without a zone is taken as UTC, a text must be ISO 8601.

    Raises
    ------
    InputError
        If it is no time.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InputError(
                f"{value!r} is not a time; write it like 2024-03-01 or 2024-03-01T12:00+01:00"
            ) from error
    if isinstance(value, datetime):
        value = np.datetime64(value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value, "us")
    if np.isnat(value):
        raise InputError("NaT is not a time; leave the bound out for no bound")
    moment: np.datetime64 = value.astype("datetime64[us]")
    return moment


def bind(value: Scalar, kind: Kind, key: str) -> Scalar:
    """Return the value as the kind of a key, never changing what it means.

    Raises
    ------
    InputError
        If the value cannot equal any value of that kind.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "datetime64[us]" and isinstance(value, str | np.datetime64):
        return utc(value)
    if kind == "float64" and number:
        return float(value)
    if kind == "int64" and number and float(value).is_integer():
        if not _INT64.min <= int(value) <= _INT64.max:
            raise InputError(f"key {key!r}: {value} does not fit into int64")
        return int(value)
    if (kind == "str" and isinstance(value, str)) or (kind == "bool" and isinstance(value, bool)):
        return value
    hint = "; put it in quotes" if kind == "str" else ""
    raise InputError(f"key {key!r} holds {kind}, and {value!r} is {type(value).__name__}{hint}")


def bind_bound(value: Scalar, kind: Kind, key: str) -> Scalar:
    """Like `bind`, for a bound of an interval.

    Raises
    ------
    InputError
        If the value cannot be compared with values of that kind, or the kind has no order.
    """
    if kind == "bool":
        raise InputError(f"key {key!r} holds bool, which has no order; name the values instead")
    if kind == "int64" and isinstance(value, float):
        value = math.ceil(value)  # between two integers, the next one means the same for `<` and for `>=`
    return bind(value, kind, key)


def is_in(column: NDArray[Any], values: Collection[Scalar]) -> NDArray[np.bool_]:
    """Return for each value of a key whether it is one of `values`, which are of the key's kind."""
    dtype = np.dtype("U") if column.dtype.kind == "U" else column.dtype  # "U": as wide as the widest
    return np.isin(column, np.array(list(values), dtype))


def known_kind(key: str, kinds: Mapping[str, Kind]) -> Kind:
    """Return the kind of a key.

    Raises
    ------
    InputError
        If there is no such key; the message suggests the nearest.
    """
    if key not in kinds:
        raise InputError(f"no key {key!r}: {suggest(key, kinds)}")
    return kinds[key]


def to_json(value: Scalar) -> Any:
    """Return what stands for the value in JSON; a time is ``{"time": "2024-03-01T00:00:00.000000"}``."""
    return {"time": str(value)} if isinstance(value, np.datetime64) else value


def from_json(value: Any) -> Scalar:
    """Return the value that `to_json` wrote.

    Raises
    ------
    InputError
        If it is no value of a key.
    """
    return np.datetime64(value["time"], "us") if isinstance(value, dict) else scalar(value)
