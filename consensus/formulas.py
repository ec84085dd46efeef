"""What regions save and what they risk, in closed form: messages per decision, fault bounds, odds of capture.

A region of m replicas outvotes its honest members' safety with ``f_m + 1`` faults, ``f_m = (m-1)//3``; of k regions
``f_k = (k-1)//3`` may be lost. n is the number of all replicas, ``F = (n-1)//3``.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from scipy.stats import binom, hypergeom

Protocol = Literal["flat", "regional", "star", "regional-fast", "two-layer"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
Scheme = Protocol | Literal["representatives", "geo"]
SCHEMES: tuple[Scheme, ...] = (*PROTOCOLS, "representatives", "geo")
"""The protocols, and two published schemes that are here for their bounds alone: ``representatives``, two layers
whose heads vote without their region's certificate, and ``geo``, GeoBFT, where every region orders its own input."""


def third(n: int) -> int:
    """Return ``(n-1)//3``, the faults that n voters survive."""
    return (n - 1) // 3


def messages(protocol: Protocol, sizes: Sequence[int]) -> int:
    """Count the messages of the vote path for one decision without faults.

    Proposals, votes, bundles and certificates count, one per receiver; copies after a timeout, payload chunks, client
    and checkpoint traffic do not. The leader is a head and its proposal holds its PREPARE vote.

    Parameters
    ----------
    protocol : str
        One of `PROTOCOLS`.
    sizes : sequence of int
        The number of replicas in each region; only their sum matters to ``flat`` and ``star``.

    Notes
    -----
    ``two-layer``, with the leader in the first region, is ``n-k`` more than the published count since both phases of
    its upper layer carry region certificates, without which its bound would be that of ``representatives``; and
    ``n - m_1`` more since the proposal goes to all regions at once, not only when the leader's has agreed.
    """
    n, k = sum(sizes), len(sizes)
    match protocol:
        case "flat":
            return 2 * n * (n - 1)
        case "regional":
            return n - 1 + 4 * (n - k) + 2 * k * (k - 1)
        case "star":
            return 5 * (n - 1)
        case "regional-fast":
            return n - 1 + 2 * (n - k) + k * (k - 1)
        case "two-layer":
            inside = sum(2 * m * (m - 1) for m in sizes) - (sizes[0] - 1)
            return n - 1 + inside + 2 * k * (k - 1) + 2 * (n - k)


def bound(scheme: Scheme, sizes: Sequence[int]) -> int:
    """Return how many faults are survived wherever they are; one more, well placed, breaks the scheme.

    Notes
    -----
    ``flat``, ``regional``, ``star``: F, as individual signatures are counted. ``regional-fast``: ``(n-1)//5``.
    ``two-layer``: one less than ``f_m + 1`` in each of the ``f_k + 1`` regions that take fewest. ``representatives``:
    ``f_k`` heads. ``geo``: the ``f_m`` of the smallest region, as any one region can split the order.
    """
    n, k = sum(sizes), len(sizes)
    match scheme:
        case "flat" | "regional" | "star":
            return third(n)
        case "regional-fast":
            return (n - 1) // 5
        case "two-layer":
            return sum(sorted(third(m) + 1 for m in sizes)[: third(k) + 1]) - 1
        case "representatives":
            return third(k)
        case "geo":
            return third(min(sizes))


def captured(n: int, faulty: int, m: int) -> float:
    """Return the probability that a region of m replicas drawn at random has more than f_m of the faulty ones."""
    return float(hypergeom.sf(third(m), n, faulty, m))


def breaks(scheme: Scheme, sizes: Sequence[int], faulty: int) -> float:
    """Return the probability that faults at random places break a scheme.

    Parameters
    ----------
    scheme : str
        One of `SCHEMES`.
    sizes : sequence of int
        The number of replicas in each region.
    faulty : int
        How many of all replicas are faulty; every set of so many is equally likely. That is so where regions are
        drawn at random after the faults. Who may choose its region, or lie about its round trips, is no such draw:
        then `bound` is all there is.

    Returns
    -------
    float
        Exact up to rounding, small probabilities too; 0 or 1 where only the number of faults counts.
    """
    n, k = sum(sizes), len(sizes)
    match scheme:
        case "flat" | "regional" | "star" | "regional-fast":
            return float(faulty > bound(scheme, sizes))
        case "representatives":
            return float(hypergeom.sf(third(k), n, faulty, k))
        case "two-layer":
            return _regions_captured(sizes, faulty, third(k) + 1)
        case "geo":
            return _regions_captured(sizes, faulty, 1)


def _regions_captured(sizes: Sequence[int], faulty: int, least: int) -> float:
    """Probability that at least so many regions have more than f_m faults, given the number of all faults.

    Independent coins with any one bias, given their sum, are the hypergeometric draw. So the sum's distribution is
    convolved region by region, apart for 0, 1, … `least` captured regions (the last: or more), and read at `faulty`.
    """
    n = sum(sizes)
    if not 0 < faulty < n:
        return float(faulty >= n)
    sums = [np.zeros(faulty + 1) for _ in range(least + 1)]
    sums[0][0] = 1.0
    for m in sizes:
        share = binom.pmf(np.arange(m + 1), m, faulty / n)
        safe, lost = share.copy(), share.copy()
        safe[third(m) + 1 :] = 0
        lost[: third(m) + 1] = 0
        for count in range(least, -1, -1):
            total = np.convolve(sums[count], share if count == least else safe)
            if count:
                total += np.convolve(sums[count - 1], lost)
            sums[count] = total[: faulty + 1]
    return min(1.0, float(sums[least][faulty] / binom.pmf(faulty, n, faulty / n)))
