"""Robust rules: aggregates that a minority of poisoned updates cannot move far. Float64, one thread, fixed order."""

from collections.abc import Callable

import numpy as np

from fl.aggregation.arrays import Vector

Rule = Callable[[Vector], Vector]
"""Maps updates, shape (n, size), to one, shape (size,)."""


def median(updates: Vector) -> Vector:
    """Take the median of each coordinate (Yin et al., "Byzantine-robust distributed learning", ICML 2018).

    With fewer than half of the updates poisoned, each coordinate stays within the range of the honest ones.
    """
    ordered = np.sort(updates, axis=0)
    below, above = (len(updates) - 1) // 2, len(updates) // 2
    middle: Vector = (ordered[below] + ordered[above]) / 2
    return middle


def trimmed_mean(updates: Vector, share: float = 0.2) -> Vector:
    """Average each coordinate without its ``floor(share * n)`` smallest and largest values (Yin et al.).

    Parameters
    ----------
    updates : ndarray of shape (n, size)
        At least one.
    share : float
        From 0 to below 0.5; as many poisoned updates are survived.
    """
    cut = int(share * len(updates))
    ordered = np.sort(updates, axis=0)[cut : len(updates) - cut]
    total = np.zeros(updates.shape[1])
    for row in ordered:  # row by row: NumPy's own sums may add in another order on another processor
        total += row
    return total / len(ordered)


def krum(updates: Vector) -> Vector:
    """Choose the update that is nearest to its neighbours (Blanchard et al., NeurIPS 2017).

    Its score is the sum of squared distances to the ``n - f - 2`` nearest others, where ``f = (n - 3) // 2`` is the
    most that the rule survives; with equal scores the first one is chosen.
    """
    n = len(updates)
    distances = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            distances[i, j] = distances[j, i] = _sum((updates[i] - updates[j]) ** 2)
    nearest = max(1, n - max(0, (n - 3) // 2) - 2)
    scores = [_sum(np.sort(np.delete(row, i))[:nearest]) for i, row in enumerate(distances)]
    chosen: Vector = updates[int(np.argmin(scores))]
    return chosen


def _sum(values: Vector) -> float:
    return float(np.add.accumulate(values)[-1]) if len(values) else 0.0  # one after the other, on every processor
