"""Rules in two steps: what a region's updates come to, and what the regions come to."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fl.aggregation.arrays import Vector
from fl.aggregation.exact import ExactSum
from fl.aggregation.robust import Rule


class Part(Protocol):
    """What one region's updates come to."""

    def digest(self) -> bytes:
        """Return a digest that equal parts share (32 bytes)."""
        ...


class TwoStep(Protocol):
    """A rule that regions begin and the council finishes."""

    def part(self, updates: Vector, weights: Vector) -> Part:
        """Begin with a region's updates, shape (n, size), and their weights, shape (n,)."""
        ...

    def total(self, parts: Sequence[Part]) -> Vector:
        """Finish with every region's part, shape (size,)."""
        ...


class WeightedMean:
    """The mean by weights. Which updates are in which region does not change a bit of it."""

    def part(self, updates: Vector, weights: Vector) -> ExactSum:
        """Sum ``weight * update``, and the weights behind them, exactly."""
        part = ExactSum(updates.shape[1] + 1)
        for update, weight in zip(updates, weights, strict=True):
            part.add(np.append(weight * update, weight))
        return part

    def total(self, parts: Sequence[Part]) -> Vector:
        """Divide the sum over all regions by its weights."""
        whole = ExactSum.of([part for part in parts if isinstance(part, ExactSum)])
        values = whole.values()
        mean: Vector = values[:-1] / values[-1]
        return mean


@dataclass(frozen=True, eq=False)
class Value:
    """A region's value under a robust rule."""

    vector: Vector

    def digest(self) -> bytes:
        """Return the SHA-256 over its values."""
        return hashlib.sha256(self.vector.astype("<f8").tobytes()).digest()


@dataclass(frozen=True)
class InsideAndAcross:
    """A robust rule inside every region and again across them.

    Of k regions of m updates, the median survives fewer than ``ceil(m/2) * ceil(k/2)`` poisoned ones wherever they
    are: so many are needed to take half of the regions by half of their updates each.
    """

    rule: Rule

    def part(self, updates: Vector, weights: Vector) -> Value:
        """Apply the rule inside a region. Weights, which clients state themselves, do not count."""
        return Value(self.rule(updates))

    def total(self, parts: Sequence[Part]) -> Vector:
        """Apply the rule across the regions."""
        return self.rule(np.stack([part.vector for part in parts if isinstance(part, Value)]))
