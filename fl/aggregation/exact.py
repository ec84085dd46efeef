"""Sums of vectors that are exact, so that no order and no grouping of the summands changes a bit."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fl.aggregation.arrays import Vector

Limbs = NDArray[np.int64]

_BITS = 32
_MASK = (1 << _BITS) - 1
_SIGN = 1 << (_BITS - 1)


class ExactSum:
    """The exact sum of vectors of float64, as integers in places of 32 bits.

    Sums of sums are again exact: the members of regions sum what they hold, and the total over the regions equals, to
    the bit, the total over everybody.

    Parameters
    ----------
    size : int
        Length of the vectors.

    Notes
    -----
    A superaccumulator (Kulisch): every summand is cut, without rounding, into multiples of powers of 2**32, and
    places are added as int64. They hold 2**31 summands without overflow. Only places that some summand touches
    exist: three or four for the weights of a model, 8 bytes per weight each.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._places: dict[int, Limbs] = {}

    @classmethod
    def of(cls, parts: Sequence["ExactSum"]) -> "ExactSum":
        """Sum some sums, at least one, of as many values each."""
        whole = cls(parts[0]._size)
        for part in parts:
            whole.merge(part)
        return whole

    def add(self, values: Vector) -> None:
        """Add one vector, shape (size,).

        Raises
        ------
        ValueError
            If it has another length, or a value that is not finite.
        """
        if values.shape != (self._size,):
            raise ValueError(f"a vector of shape {values.shape} cannot be added to a sum of {self._size} values")
        if not np.isfinite(values).all():
            raise ValueError("only finite values have a sum")
        rest = np.array(values, np.float64)
        largest = float(np.abs(rest).max(initial=0.0))
        place = (int(np.frexp(largest)[1]) - 1) // _BITS
        while rest.any():
            whole = np.trunc(_scaled(rest, -_BITS * place))  # exact where it counts: scaling by a power of two
            rest -= _scaled(whole, _BITS * place)
            self._add_place(place, whole.astype(np.int64))
            place -= 1

    def merge(self, other: "ExactSum") -> None:
        """Add another sum of as many values."""
        if other._size != self._size:
            raise ValueError(f"a sum of {other._size} values cannot be added to one of {self._size}")
        for place, limbs in other._places.items():
            self._add_place(place, limbs)

    def values(self) -> Vector:
        """Round the sum to float64, shape (size,); infinite where it is larger than any.

        The result is a function of the exact sum alone, and within two units in its last place.
        """
        places = self._canonical()
        negative = places[max(places)] < 0
        total = np.zeros(self._size)
        for place, limbs in reversed(_magnitude(places, negative).items()):
            with np.errstate(over="ignore"):
                total += np.ldexp(limbs.astype(np.float64), _BITS * place)
        return np.where(negative, -total, total)

    def digest(self) -> bytes:
        """Return the SHA-256 of the exact sum (32 bytes): equal sums have equal digests, however they came about."""
        digest = hashlib.sha256(self._size.to_bytes(8, "big"))
        for place, limbs in self._canonical().items():
            digest.update(place.to_bytes(8, "big", signed=True))
            digest.update(limbs.astype("<i8").tobytes())
        return digest.digest()

    def _add_place(self, place: int, limbs: Limbs) -> None:
        held = self._places.get(place)
        self._places[place] = limbs.copy() if held is None else held + limbs

    def _canonical(self) -> dict[int, Limbs]:
        """Give the one form of this sum: two's complement over the fewest places, the lowest first.

        All places but the highest are in [0, 2**32); the highest is in [-2**31, 2**31) and carries the sign.
        """
        if not any(limbs.any() for limbs in self._places.values()):
            return {0: np.zeros(self._size, np.int64)}
        low, high = min(self._places), max(self._places)
        places: dict[int, Limbs] = {}
        carry = np.zeros(self._size, np.int64)
        for place in range(low, high + 1):
            total = carry + self._places[place] if place in self._places else carry
            places[place] = total & _MASK
            carry = total >> _BITS
        places[high + 1] = carry
        return _trimmed(places)


def _scaled(values: Vector, power: int) -> Vector:
    """Multiply by a power of two; in the middle of the range by one multiplication, which is much faster."""
    return values * 2.0**power if -1000 < power < 1000 else np.ldexp(values, power)


def _trimmed(places: dict[int, Limbs]) -> dict[int, Limbs]:
    """Drop the highest places that only repeat the sign of the one below, and the lowest that are 0."""
    while len(places) > 1:
        top = max(places)
        below = places[top - 1]
        signed = np.where(below & _SIGN, below - (1 << _BITS), below)
        if not np.array_equal(places[top], np.where(signed < 0, -1, 0)):
            break
        del places[top]
        places[top - 1] = signed
    while len(places) > 1 and not places[min(places)].any():
        del places[min(places)]
    return places if any(limbs.any() for limbs in places.values()) else {0: places[min(places)]}


def _magnitude(places: Mapping[int, Limbs], negative: NDArray[np.bool_]) -> dict[int, Limbs]:
    """Negate the negative sums, so that rounding sees no cancellation; the lowest place first."""
    magnitude: dict[int, Limbs] = {}
    carry = negative.astype(np.int64)
    for place, limbs in places.items():
        total = np.where(negative, (limbs ^ _MASK) & _MASK, limbs & _MASK) + carry
        magnitude[place] = total & _MASK
        carry = total >> _BITS
    return magnitude
