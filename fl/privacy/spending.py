"""What each record of one client has spent: a pure fold over charges, by distinct history.

Records that took part in the same events share one history, so the arithmetic of Rényi costs is done
per history, of which there are few, and not per record.
"""

import numpy as np
from numpy.typing import NDArray

from fl.privacy.accounting import ORDERS, Mechanism, epsilons, rdp

History = tuple[tuple[Mechanism, int], ...]
"""How many events of each mechanism a record was eligible for, in a canonical order."""

# A look-up table by record id is used while it has at most this many entries per record.
_TABLE_ENTRIES_PER_RECORD = 16


class Spending:
    """Charges of one client added up per record; records never charged have spent nothing."""

    def __init__(self) -> None:
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)  # sorted
        self._history: NDArray[np.int64] = np.empty(0, np.int64)  # index into _histories, per id
        self._histories: list[History] = [()]
        self._index: dict[History, int] = {(): 0}
        self._table: NDArray[np.int64] | None = None  # id - _ids[0] -> position in _ids, or -1

    def add(self, record_ids: NDArray[np.int64], mechanism: Mechanism, events: int) -> None:
        """Charge a set of records.

        Parameters
        ----------
        record_ids : NDArray[np.int64]
            Ids of the records, shape (n,), sorted and unique.
        mechanism : Mechanism
            What one event costs.
        events : int
            How many such events, at least 1.
        """
        positions = self._positions(record_ids)
        if (positions < 0).any():
            self._admit(record_ids[positions < 0])
            positions = self._positions(record_ids)
        before = self._history[positions]
        successor = np.zeros(len(self._histories), np.int64)
        for history in np.flatnonzero(np.bincount(before, minlength=len(self._histories))):
            successor[history] = self._intern(_extended(self._histories[history], mechanism, events))
        self._history[positions] = successor[before]

    def costs(self, record_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return accumulated RDP of each record, shape (n, len(ORDERS)); zeros for ids never charged."""
        distinct, row = self._distinct(record_ids)
        return _costs(distinct)[row]

    def epsilons(
        self, record_ids: NDArray[np.int64], delta: float, extra: Mechanism | None = None
    ) -> NDArray[np.float64]:
        """Return ε of each record, shape (n,), after one more event of `extra` if given."""
        distinct, row = self._distinct(record_ids)
        costs = _costs(distinct)
        if extra is not None:
            costs = costs + rdp(extra)
        return epsilons(costs, delta)[row]

    def max_epsilon(self, delta: float) -> float:
        """Return the largest ε over all records ever charged, 0 if there is none."""
        distinct, _ = self._distinct(self._ids)
        return float(epsilons(_costs(distinct), delta).max(initial=0.0))

    def _distinct(self, record_ids: NDArray[np.int64]) -> tuple[list[History], NDArray[np.int64]]:
        """Return the distinct histories of these records, and which of them each record has."""
        positions = self._positions(record_ids)
        history = np.zeros(len(record_ids), np.int64)
        history[positions >= 0] = self._history[positions[positions >= 0]]
        present = np.flatnonzero(np.bincount(history, minlength=len(self._histories)))
        row = np.zeros(len(self._histories), np.int64)
        row[present] = np.arange(len(present))
        return [self._histories[index] for index in present], row[history]

    def _positions(self, record_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where each id stands in _ids, or -1; shape (n,)."""
        if not len(self._ids):
            return np.full(len(record_ids), -1, np.int64)
        if self._table is not None:
            # Clipping cannot hit a charged id by mistake: positions are compared with the id below.
            first, last = self._ids[0], self._ids[-1]
            positions = self._table[np.clip(record_ids, first, last) - first]
        else:
            positions = np.minimum(np.searchsorted(self._ids, record_ids), len(self._ids) - 1)
        return np.where(self._ids[positions] == record_ids, positions, -1)

    def _admit(self, new_ids: NDArray[np.int64]) -> None:
        """Take up records not seen before, with an empty history; `new_ids` is sorted."""
        ids = np.concatenate([self._ids, new_ids])
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        self._history = np.concatenate([self._history, np.zeros(len(new_ids), np.int64)])[order]
        self._table = None
        span = int(self._ids[-1]) - int(self._ids[0]) + 1  # Python integers: the span of int64 ids may overflow
        if span <= _TABLE_ENTRIES_PER_RECORD * len(self._ids):
            self._table = np.full(span, -1, np.int64)
            self._table[self._ids - self._ids[0]] = np.arange(len(self._ids))

    def _intern(self, history: History) -> int:
        """Return the index of a history, adding it if new."""
        index = self._index.setdefault(history, len(self._histories))
        if index == len(self._histories):
            self._histories.append(history)
        return index


def _extended(history: History, mechanism: Mechanism, events: int) -> History:
    """Return a history with some more events of a mechanism."""
    counts = dict(history)
    counts[mechanism] = counts.get(mechanism, 0) + events
    return tuple(sorted(counts.items(), key=_canonical))


def _canonical(item: tuple[Mechanism, int]) -> tuple[float, float, int]:
    """Order mechanisms by value, so that events in another order add up to the same bits."""
    mechanism, _ = item
    return mechanism.sampling_rate, mechanism.noise_multiplier, mechanism.steps


def _costs(histories: list[History]) -> NDArray[np.float64]:
    """Return accumulated RDP of each history, shape (len(histories), len(ORDERS))."""
    costs = np.zeros((len(histories), len(ORDERS)))
    for row, history in zip(costs, histories, strict=True):
        for mechanism, events in history:
            row += events * rdp(mechanism)
    return costs
