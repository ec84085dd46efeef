"""A model's arrays as one vector and back, and the digest over their canonical bytes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Vector = NDArray[np.float64]


def arrays_digest(arrays: Arrays) -> bytes:
    """Return the SHA-256 over names, types, shapes and little-endian values, in the order of names (32 bytes)."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.asarray(arrays[name])
        plain = values.astype(values.dtype.newbyteorder("<"), order="C", copy=False)
        header = f"{len(name)}:{name}|{plain.dtype.str}|{plain.shape}|"
        digest.update(header.encode())
        digest.update(plain.tobytes())
    return digest.digest()


@dataclass(frozen=True)
class Layout:
    """Where each array of a model lies in one vector.

    Attributes
    ----------
    names : tuple of str
        In the model's own order.
    shapes, dtypes : tuple
        Of each.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, arrays: Arrays) -> "Layout":
        """Read the layout of a model."""
        names = tuple(arrays)
        shapes = tuple(tuple(arrays[name].shape) for name in names)
        return cls(names, shapes, tuple(arrays[name].dtype.str for name in names))

    def fits(self, arrays: Arrays) -> bool:
        """Say whether other arrays are numbers with the same names and shapes, in whatever order."""
        shapes = {name: tuple(values.shape) for name, values in arrays.items()}
        numbers = all(values.dtype.kind in "fiu" for values in arrays.values())
        return numbers and shapes == dict(zip(self.names, self.shapes, strict=True))

    def vector(self, arrays: Arrays) -> Vector:
        """Put a model of this layout into one vector of float64, shape (size,)."""
        parts = [np.asarray(arrays[name], np.float64).ravel() for name in self.names]
        return np.concatenate(parts) if parts else np.zeros(0)

    def arrays(self, vector: Vector) -> dict[str, NDArray[Any]]:
        """Cut a vector into arrays. Floats keep their type; a mean of integers is float64, as in Flower."""
        arrays: dict[str, NDArray[Any]] = {}
        start = 0
        for name, shape, dtype in zip(self.names, self.shapes, self.dtypes, strict=True):
            size = int(np.prod(shape, dtype=np.int64))
            kind = np.dtype(dtype) if np.dtype(dtype).kind == "f" else np.dtype(np.float64)
            arrays[name] = vector[start : start + size].reshape(shape).astype(kind)
            start += size
        return arrays
