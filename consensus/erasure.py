"""Erasure coding: a payload becomes n chunks, any t of which rebuild it (Reed–Solomon over GF(256), systematic).

Own code, since what can be installed does not fit: zfec is under the GPL, pyeclib stops at 32 fragments, and reedsolo
works byte by byte in Python.

The first t chunks are the payload itself, cut into rows of equal length; the others are the rows times a Cauchy
matrix [1]_. Every square part of a Cauchy matrix can be inverted, so any t chunks determine the rows.

References
----------
.. [1] J. Blömer et al., "An XOR-based erasure-resilient coding scheme", ICSI TR-95-048, 1995.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.uint8]

MOST = 255
"""The largest number of chunks."""

_POLYNOMIAL = 0x11D  # x^8 + x^4 + x^3 + x^2 + 1, of which 2 is a generator
_WORD = 8  # products that one table look-up yields
_BLOCK = 4096  # columns whose sums stay in the cache


def _field() -> tuple[Matrix, Matrix]:
    powers = [1]
    while len(powers) < 255:
        doubled = powers[-1] << 1
        powers.append(doubled ^ _POLYNOMIAL if doubled > 255 else doubled)
    exponential = np.array(powers, np.uint8)
    logarithm = np.zeros(256, np.intp)
    logarithm[exponential] = np.arange(255)
    product = exponential[np.add.outer(logarithm, logarithm) % 255]
    product[0], product[:, 0] = 0, 0
    return product, exponential[-logarithm % 255]


PRODUCT, _INVERSE = _field()
"""``PRODUCT[a, b]`` is a·b in GF(256), shape (256, 256)."""


def chunk_length(size: int, t: int) -> int:
    """Bytes of each chunk of a payload of `size` bytes, any `t` of which rebuild it."""
    return -(-size // t)


def encode(data: bytes, t: int, n: int) -> list[bytes]:
    """Make n chunks of a payload, any t of which rebuild it.

    Parameters
    ----------
    data : bytes
        The payload; padded with zeros to a multiple of t.
    t, n : int
        Chunks that suffice and chunks in all; ``1 <= t <= n <= 255``.

    Returns
    -------
    list of bytes
        n chunks of ``chunk_length(len(data), t)`` bytes.

    Raises
    ------
    ValueError
        For numbers out of range.
    """
    _check(t, n)
    rows = np.frombuffer(data.ljust(t * chunk_length(len(data), t), b"\0"), np.uint8).reshape(t, -1)
    coded = _multiply(_tables_of_code(t, n), rows)[: n - t]
    return [row.tobytes() for row in (*rows, *coded)]


def decode(chunks: Mapping[int, bytes], t: int, n: int, size: int) -> bytes:
    """Rebuild a payload from t of its chunks.

    Chunks of anything but `encode` give bytes that mean nothing; encode them again to find out.

    Parameters
    ----------
    chunks : mapping of int to bytes
        At least t chunks by index, each of ``chunk_length(size, t)`` bytes; of more, the t lowest indices are used.
    t, n : int
        As they were given to `encode`.
    size : int
        Length of the payload in bytes.

    Raises
    ------
    ValueError
        For numbers out of range, too few chunks, or chunks of the wrong length.
    """
    _check(t, n)
    used = sorted(chunks)[:t]
    length = chunk_length(size, t)
    if len(used) < t or not 0 <= used[0] <= used[-1] < n or any(len(chunks[i]) != length for i in used):
        raise ValueError(f"{t} chunks of {length} bytes with indices below {n} are needed")
    if missing := sorted(set(range(t)).difference(used)):
        given = np.frombuffer(b"".join(chunks[i] for i in used), np.uint8).reshape(t, length)
        rebuilt = _multiply(_tables(_solution(used, missing, t)), given)
        rows = {**chunks, **{row: rebuilt[i].tobytes() for i, row in enumerate(missing)}}
    else:
        rows = dict(chunks)
    return b"".join(rows[i] for i in range(t))[:size]


def _check(t: int, n: int) -> None:
    if not 1 <= t <= n <= MOST:
        raise ValueError(f"{t} of {n} chunks: 1 <= t <= n <= {MOST} is needed")


def _cauchy(rows: list[int], columns: list[int]) -> Matrix:
    """Coefficients 1/(x + y) of coded chunks x in terms of plain chunks y; no index is on both sides."""
    return _INVERSE[np.bitwise_xor.outer(np.array(rows, np.intp), np.array(columns, np.intp))]


def _solution(used: list[int], missing: list[int], t: int) -> Matrix:
    """Give the missing rows in terms of the chunks used, shape (missing, t).

    With plain rows P known, missing rows M and coded chunks C: ``C = A·P + B·M``, so ``M = B⁻¹·C + B⁻¹·A·P``.
    """
    plain, coded = [i for i in used if i < t], [i for i in used if i >= t]
    inverse = _inverse(_cauchy(coded, missing))
    rest = np.bitwise_xor.reduce(PRODUCT[inverse[:, :, None], _cauchy(coded, plain)[None]], axis=1)
    return np.concatenate([rest, inverse], axis=1)


def _inverse(matrix: Matrix) -> Matrix:
    """Invert by elimination; no pivot is zero, since every leading part of a Cauchy matrix can be inverted."""
    size = len(matrix)
    work = np.concatenate([matrix, np.eye(size, dtype=np.uint8)], axis=1)
    for i in range(size):
        work[i] = PRODUCT[_INVERSE[work[i, i]], work[i]]
        factors = work[:, i].copy()
        factors[i] = 0
        work ^= PRODUCT[factors[:, None], work[i]]
    return work[:, size:]


@lru_cache(maxsize=8)
def _tables_of_code(t: int, n: int) -> NDArray[np.uint64]:
    return _tables(_cauchy(list(range(t, n)), list(range(t))))


def _tables(matrix: Matrix) -> NDArray[np.uint64]:
    """Products of every byte with each column, eight rows to a word, shape (columns, 256, words)."""
    rows, columns = matrix.shape
    padded = np.zeros((columns, -(-rows // _WORD) * _WORD), np.uint8)
    padded[:, :rows] = matrix.T
    return np.ascontiguousarray(PRODUCT[padded].transpose(0, 2, 1)).view(np.uint64)


def _multiply(tables: NDArray[np.uint64], data: Matrix) -> Matrix:
    """Multiply a matrix, given by its tables, with rows of bytes; rows beyond the matrix's are zero."""
    out = np.empty((tables.shape[2] * _WORD, data.shape[1]), np.uint8)
    for start in range(0, data.shape[1], _BLOCK):
        piece = data[:, start : start + _BLOCK]
        total = np.zeros((piece.shape[1], tables.shape[2]), np.uint64)
        for table, row in zip(tables, piece, strict=True):
            total ^= table.take(row, axis=0)
        out[:, start : start + _BLOCK] = total.view(np.uint8).T
    return out
