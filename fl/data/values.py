"""From one column as a file has it to numbers, text, times or ids; every error names the place."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.data.blocks import Raw
from shards.errors import InputError

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""Texts that mean "no value", in any case."""

At = Callable[[int], str]
"""From a row's index in the block to the words that name its place."""

_ROW_BITS = 33
_KINDS = {"epoch": "epoch seconds", "naive": "a time without zone", "zoned": "a time with zone"}


def missing(values: Raw) -> NDArray[np.bool_]:
    """Return which values are missing, shape (n,); for an array per row, rows with any NaN."""
    if not isinstance(values, np.ndarray):
        words = {value for value in set(values) if value.strip().lower() in MISSING}
        return np.array([value in words for value in values]) if words else np.zeros(len(values), dtype=np.bool_)
    match values.dtype.kind:
        case "f":
            return np.asarray(np.isnan(values).reshape(len(values), -1).any(axis=1))
        case "M":
            return np.isnat(values)
        case "U":
            return missing(values.tolist())
        case "O":
            return np.array([value is None or value != value or _text(value).lower() in MISSING for value in values])
    return np.zeros(len(values), dtype=np.bool_)


def is_numeric(values: Raw) -> bool:
    """Whether a column holds numbers: some value is one, or there are none but missing ones."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return True
    if isinstance(values, np.ndarray) and values.dtype.kind not in "UO":
        return False
    known = [value for value, gap in zip(values, missing(values), strict=True) if not gap]
    return not known or any(_is_number(value) for value in known)


def numbers(values: Raw, at: At) -> NDArray[Any]:
    """Return real numbers: float64, shape (n,), NaN where missing; an array of numbers as it is.

    Raises
    ------
    InputError
        Naming the first value that is not a number, or infinite.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        found: NDArray[Any] = values
    else:
        try:
            found = np.array(values, dtype=np.float64)
        except (ValueError, TypeError):
            found = _numbers_with_gaps(values, at)
    infinite = np.isinf(found).reshape(len(found), -1).any(axis=1)
    if infinite.any():
        row = int(infinite.argmax())
        raise InputError(f"{at(row)}: infinite; correct it, or leave it empty if it is missing")
    return found


def texts(values: Raw) -> NDArray[np.str_]:
    """Return text, shape (n,), without blanks around it; a whole number reads the same from every format."""
    if isinstance(values, np.ndarray) and values.dtype.kind not in "UO":
        values = values.tolist()
    return np.array([_text(value) for value in values], dtype=np.str_)


def times(values: Raw, at: At) -> tuple[NDArray[np.datetime64], str]:
    """Return UTC times, datetime64[us], and how they were written: "epoch", "naive" (read as UTC) or "zoned".

    Text is ISO 8601 or seconds since 1970; no value may be missing.

    Raises
    ------
    InputError
        Naming the first value that is no time, or is written in another way than the first one.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        return values.astype("datetime64[us]"), "naive"
    parsed = [_time(value, row, at) for row, value in enumerate(_scalars(values))]
    kind = parsed[0][1] if parsed else "naive"
    for row, (_, other) in enumerate(parsed):
        if other != kind:
            raise InputError(mixed_times(at(row), other, at(0), kind))
    return np.array([moment for moment, _ in parsed], dtype="datetime64[us]"), kind


def mixed_times(place: str, kind: str, first_place: str, first_kind: str) -> str:
    """Word the error for times written in two ways."""
    return f"{place}: {_KINDS[kind]}, but {first_place} has {_KINDS[first_kind]}; write all times alike"


def record_ids(values: Raw) -> NDArray[np.int64]:
    """Return ids: a whole number is itself, any other text 63 bits of its BLAKE2b digest.

    Each id is a function of its own value alone, so that it means the same record in every run.
    """
    return np.array([_record_id(text) for text in texts(values).tolist()], dtype=np.int64)


def derived_ids(identity: str, first: int, count: int) -> NDArray[np.int64]:
    """Return ids of rows without an id column: 30 bits for the table, 33 for the row, so increasing by row.

    Parameters
    ----------
    identity : str
        Names the table, see `fl.data.blocks.BlockSource`.
    first, count : int
        Number of the first row in the table, from 0, and how many rows.
    """
    table = _digest(identity) >> _ROW_BITS
    return (table << _ROW_BITS) + np.arange(first, first + count, dtype=np.int64)


def _numbers_with_gaps(values: Raw, at: At) -> NDArray[np.float64]:
    """Convert where some value is missing or no number."""
    known = ["nan" if gap else value for value, gap in zip(values, missing(values), strict=True)]
    try:
        return np.array(known, dtype=np.float64)
    except (ValueError, TypeError) as error:
        row = next(row for row, value in enumerate(known) if not _is_number(value))
        raise InputError(
            f"{at(row)}: {_text(known[row])!r} is not a number; correct it, or declare all values it may have in "
            "columns.categories.<column>"
        ) from error


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError):
        return False
    return True


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _scalars(values: Raw) -> Iterable[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _time(value: Any, row: int, at: At) -> tuple[datetime, str]:
    """Parse one time; eight digits that look like a date are refused, since they are seconds just as well."""
    try:
        if isinstance(value, datetime):
            moment = value
        elif _is_number(value) and not (len(_text(value)) == 8 and _text(value)[:2] in ("19", "20")):
            return datetime.fromtimestamp(float(value), UTC).replace(tzinfo=None), "epoch"
        else:
            moment = datetime.fromisoformat("" if _is_number(value) else value.strip())
        if moment.tzinfo is None:
            return moment, "naive"
        return moment.astimezone(UTC).replace(tzinfo=None), "zoned"
    except (ValueError, OverflowError, OSError, AttributeError) as error:
        raise InputError(
            f"{at(row)}: {value!r} is not a time; write it as 2017-03-01T12:00 or as seconds since 1970"
        ) from error


def _record_id(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        return _digest(text)
    return number if -(2**63) <= number < 2**63 else _digest(text)


def _digest(text: str) -> int:
    """Return 63 bits that nobody chose."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
