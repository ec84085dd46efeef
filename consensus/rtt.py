"""Round trips that replicas report, some of which may be lies.

Every replica reports how far it finds the others; at most F of them lie. What comes out is what may steer leaders and
regions: a wrong figure costs time, never agreement.
"""

import numpy as np
from numpy.typing import NDArray

Micros = NDArray[np.int64]

LONGEST_US = 10_000_000
"""No round trip counts as longer; a pair that nobody measured counts as this far."""


def clipped(reports: Micros, faults: int | None = None) -> Micros:
    """Make one symmetric matrix of all reports that F liars can bend only so far.

    Parameters
    ----------
    reports : array of int64, shape (n, n)
        Row i is what replica i reports, in microseconds; 0 for what it did not measure.
    faults : int, optional
        F, the number of liars to withstand; ``(n-1)//3`` by default.

    Returns
    -------
    array of int64, shape (n, n)
        Symmetric, in microseconds, 0 on the diagonal, otherwise from 1 to `LONGEST_US`.

    Notes
    -----
    Let d be the true round trips, and let them obey the triangle rule. A ping carries a nonce, so nobody can answer
    early: an honest i reports at least ``d(i,j)``, exactly that if j is honest too. With
    ``s(i,j) = max(report of i, report of j)`` and k running over the n-2 others:

    - *Upper bound.* ``u(i,j)``: the (F+1)-th smallest of ``s(i,k) + s(k,j)``. One of those F+1 ways leads through an
      honest k, and both its legs have an honest end, so ``u(i,j) >= s(i,k) + s(k,j) >= d(i,k) + d(k,j) >= d(i,j)``,
      whatever i and j are.
    - *Lower bound.* ``l(i,j)``: the (F+1)-th largest of ``|s(i,k) - s(k,j)|``. One of those F+1 is of an honest k, so
      ``l(i,j) <= |d(i,k) - d(k,j)| <= d(i,j)`` if i and j are honest.

    The result is ``min(max(s, l), u)``. Hence:

    1. two honest replicas are exactly as far apart as they are;
    2. a liar never looks closer to an honest one than it is (``s >= d`` and ``u >= d``);
    3. to look further from one replica than ``x``, a liar must look at least ``x`` away by way of all but F of the
       others: it can pass for somebody remote, but not single out whom it is remote from;
    4. two liars look no closer than ``min(l, d)``: to seem neighbours they must seem equally far from all but F.

    A pair that nobody measured is as far apart as its upper bound, and tells nothing about lower ones.
    Where the network itself violates the triangle rule, an honest pair counts as far as its (F+1)-th best detour,
    which messages could take.
    """
    n = len(reports)
    faults = (n - 1) // 3 if faults is None else faults
    said = np.clip(reports, 0, LONGEST_US)
    said = np.maximum(said, said.T)
    unknown = (said == 0) & ~np.eye(n, dtype=bool)
    said[unknown] = LONGEST_US
    np.fill_diagonal(said, 0)
    if n - 2 <= faults:
        return said
    result = said.copy()
    legs = said.astype(np.int32)  # half the memory traffic; 2 * LONGEST_US fits
    for i in range(n - 1):
        a, b = legs[i], legs[i + 1 :]
        # k = i and k = j are no detours: sums and differences there are s(i,j) itself, moved to the harmless end
        ends = (np.arange(n - i - 1), np.arange(i + 1, n))
        detours = a + b
        detours[:, i] = detours[ends] = 2 * LONGEST_US
        upper = np.partition(detours, faults, axis=1)[:, faults]
        apart = np.abs(a - b)
        apart[:, i] = apart[ends] = 0
        apart[unknown[i] | unknown[i + 1 :]] = 0  # as far as can be is no difference that anybody saw
        lower = np.partition(apart, n - 1 - faults, axis=1)[:, n - 1 - faults]
        result[i, i + 1 :] = np.minimum(np.maximum(result[i, i + 1 :], lower), upper)
    return np.triu(result) + np.triu(result, 1).T
