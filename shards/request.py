"""Requests: which records a round, an evaluation or an unlearning order reads, said over keys.

A request is a conjunction of conditions, with the origin of what it was derived from. Only a request that is a
function of public things is public; see law 4 in the architecture.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shards.conditions import Between, Condition, OneOf, Window, condition_from_json
from shards.errors import InputError
from shards.scalar import Kind, Scalar, scalar, utc
from shards.table import Table
from shards.zone import Zone

Origin = Literal["config", "calendar", "committed", "release", "local"]
"""What a request was derived from. All but ``local`` (raw losses, drift scores, local counts) are public."""

_ORIGINS: tuple[Origin, ...] = ("config", "calendar", "committed", "release", "local")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d+(?:\.\d+)?) ?([smhdw])")
_LAST = re.compile(r"last (\S+(?: ?[smhdw])?)(?: of (\S+))?")
_CLAUSES = re.compile(r"""(?:[^;'"]|'[^']*'|"[^"]*"|['"])+""")
_CLAUSE = re.compile(r"([^=<>!]+?)\s*([=<>!]+)\s*(.+)")
_WORD = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|([^,'"]+?))\s*(?:,|$)""")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Request:
    """Which records to read: those that meet all conditions.

    Attributes
    ----------
    conditions : tuple of Condition
        In canonical order, each once.
    origin : str
        The most private thing that it was derived from; see `Origin`.
    """

    conditions: tuple[Condition, ...] = ()
    origin: Origin = "config"

    @staticmethod
    def everything() -> "Request":
        """Return the request for all records."""
        return Request()

    @staticmethod
    def window(span: str, key: str = "time") -> "Request":
        """Return the request for the trailing window of a clock, such as ``"7d"``; units are s, m, h, d, w.

        Raises
        ------
        InputError
            If `span` is no span.
        """
        found = _SPAN.fullmatch(span.strip())
        microseconds = round(float(found[1]) * _UNITS[found[2]] * 1e6) if found else 0
        if not 0 < microseconds < 2**62:
            raise InputError(f"window {span!r}: write a number and a unit, one of s, m, h, d, w, such as '7d'")
        return Request((Window(key, microseconds),))

    def where(self, **keys: object) -> "Request":
        """Return the request that also asks each key to have the value, or one of the values, given.

        Raises
        ------
        InputError
            If a value cannot be one of a key.
        """
        many = {
            key: wanted if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
            for key, wanted in keys.items()
        }
        return self._with(OneOf.of(key, map(scalar, wanted)) for key, wanted in many.items())

    def between(self, key: str, low: object = None, high: object = None) -> "Request":
        """Return the request that also asks for ``low <= key < high``; None leaves a side open.

        Raises
        ------
        InputError
            If a bound cannot be compared with a key.
        """
        bounds = [None if bound is None else scalar(bound) for bound in (low, high)]
        return self._with([Between(key, *bounds)])

    def derived_from(self, origin: Origin) -> "Request":
        """Return the request marked with a further origin; the more private one is kept."""
        return replace(self, origin=max(self.origin, origin, key=_ORIGINS.index))

    def __and__(self, other: "Request") -> "Request":
        """Return the request for records that both ask for, as private as the more private of them."""
        return self._with(other.conditions).derived_from(other.origin)

    @property
    def public(self) -> bool:
        """Whether the request is a function of public things alone."""
        return self.origin != "local"

    @property
    def keys(self) -> frozenset[str]:
        """The keys that are spoken of."""
        return frozenset(condition.key for condition in self.conditions)

    def resolve(self, now: datetime | np.datetime64 | str) -> "Request":
        """Return the request with every window made absolute: ``now - span <= key < now``."""
        end = utc(now)
        absolute = [c.resolve(end) if isinstance(c, Window) else c for c in self.conditions]
        moved = any(isinstance(condition, Window) for condition in self.conditions)
        return Request(_canonical(absolute), self.origin).derived_from("calendar" if moved else self.origin)

    def bind(self, kinds: Mapping[str, Kind]) -> "Request":
        """Return the request with every value of the kind of its key.

        Raises
        ------
        InputError
            If a key is unknown, a value is of another kind, or a window was not resolved.
        """
        return replace(self, conditions=_canonical(condition.bind(kinds) for condition in self._absolute()))

    def mask(self, table: Table) -> NDArray[np.bool_]:
        """Return for each row whether it is asked for, shape (n,).

        Raises
        ------
        InputError
            As `bind`.
        """
        wanted = np.ones(len(table), np.bool_)
        for condition in self.bind(table.kinds)._absolute():
            wanted &= condition.mask(table.key(condition.key))
        return wanted

    def may_match(self, zone: Zone) -> bool:
        """Return False only if no row of the shard is asked for. The request must be bound."""
        return all(condition.may_match(zone.keys[condition.key]) for condition in self._absolute())

    def covers(self, zone: Zone) -> bool:
        """Return True only if every row of the shard is asked for. The request must be bound."""
        return all(condition.covers(zone.keys[condition.key]) for condition in self._absolute())

    def to_json(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        return {"origin": self.origin, "conditions": [condition.to_json() for condition in self.conditions]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Request":
        """Return the request that `to_json` wrote.

        Raises
        ------
        InputError
            If it is none.
        """
        try:
            origin = _ORIGINS[_ORIGINS.index(data["origin"])]
            return Request(_canonical(condition_from_json(condition) for condition in data["conditions"]), origin)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{data!r} is not a request written by fedshard: {error}") from error

    @staticmethod
    def parse(text: str) -> "Request":
        """Read a request from a line of configuration, clauses separated by ``;``.

        ``everything``, ``last 7d``, ``last 7d of stamp``, ``region = north, south``, ``time >= 2024-03-01``,
        ``age < 65``. A text that looks like a number, a date or a bool is put in quotes.

        Raises
        ------
        InputError
            If a clause cannot be read.
        """
        request = Request.everything()
        for clause in filter(None, map(str.strip, _CLAUSES.findall(text))):
            request &= _clause(clause, text)
        return request

    def _absolute(self) -> tuple[Between | OneOf, ...]:
        """Return the conditions, of which none may be relative to a clock."""
        for condition in self.conditions:
            if isinstance(condition, Window):
                raise InputError(f"a window of {condition.key!r} is relative to a clock; call resolve(now) first")
        return tuple(condition for condition in self.conditions if not isinstance(condition, Window))

    def _with(self, more: Iterable[Condition]) -> "Request":
        return replace(self, conditions=_canonical([*self.conditions, *more]))


def _canonical(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return the conditions sorted, each once, so that equal requests are equal values."""
    by_text = {json.dumps(condition.to_json(), sort_keys=True): condition for condition in conditions}
    return tuple(by_text[text] for text in sorted(by_text))


def _clause(clause: str, text: str) -> Request:
    if clause == "everything":
        return Request.everything()
    if last := _LAST.fullmatch(clause):
        return Request.window(last[1], last[2] or "time")
    found = _CLAUSE.fullmatch(clause)
    if not found:
        raise InputError(f"request {text!r}: cannot read {clause!r}; write 'last 7d', 'key = a, b' or 'key >= value'")
    key, sign, rest = found.groups()
    values = _values(rest, text)
    if sign == "=":
        return Request.everything().where(**{key: values})
    if sign not in (">=", "<"):
        raise InputError(
            f"request {text!r}: {sign!r} is not known; use '=' or, as intervals are half-open, '>=' and '<'"
        )
    if len(values) != 1:
        raise InputError(f"request {text!r}: {key} {sign} takes one value, got {len(values)}")
    low, high = (values[0], None) if sign == ">=" else (None, values[0])
    return Request.everything().between(key, low, high)


def _values(rest: str, text: str) -> list[Scalar]:
    values: list[Scalar] = []
    at = 0
    while at < len(rest):
        found = _WORD.match(rest, at)
        if not found:
            raise InputError(
                f"request {text!r}: cannot read {rest[at:].strip()!r}; separate values by commas, "
                "and put a text that holds a quote into quotes of the other kind"
            )
        single, double, bare = found.groups()
        values.append(_word(bare) if bare is not None else (single if double is None else double))
        at = found.end()
    return values


def _word(word: str) -> Scalar:
    """Read a bare word as an integer, a float, a bool, a time or else a text."""
    if word in ("true", "false"):
        return word == "true"
    if _DATE.match(word):
        return utc(word)
    for read in (int, float):
        try:
            return scalar(read(word))
        except ValueError:
            continue
    return word
