"""Sets of record ids as bytes: what the ledger stores once per distinct set."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError


def canonical(record_ids: NDArray[np.int64], who: str) -> NDArray[np.int64]:
    """Bring a set of record ids into the one order all sets are kept in.

    Parameters
    ----------
    record_ids : NDArray[np.int64]
        Ids in any order, shape (n,); n may be 0.
    who : str
        Whose records these are, to open the error line.

    Returns
    -------
    NDArray[np.int64]
        The ids sorted, shape (n,).

    Raises
    ------
    InputError
        If an id repeats.
    """
    records = np.sort(np.asarray(record_ids, dtype=np.int64))
    repeated = records[1:][records[1:] == records[:-1]]
    if len(repeated):
        raise InputError(f"{who}: record id {repeated[0]} occurs more than once; give every record its own")
    return records


def encode(records: NDArray[np.int64]) -> bytes:
    """Pack a set of record ids.

    Parameters
    ----------
    records : NDArray[np.int64]
        Ids, sorted and unique, shape (n,); n may be 0.

    Returns
    -------
    bytes
        Nothing for the empty set; otherwise the width of a gap in bytes, the first id, and the gaps between
        neighbours in the narrowest unsigned type that fits, compressed. A run of ids takes next to no space.
    """
    if not len(records):
        return b""
    gaps = np.diff(records.view(np.uint64))  # modulo 2^64: a gap between int64 ids may not fit an int64
    kind: np.dtype[Any] = np.min_scalar_type(int(gaps.max(initial=0))).newbyteorder("<")
    first = int(records[0]).to_bytes(8, "little", signed=True)
    return bytes([kind.itemsize]) + first + zlib.compress(gaps.astype(kind).tobytes(), level=1)


def decode(encoded: bytes) -> NDArray[np.int64]:
    """Unpack what `encode` made.

    Parameters
    ----------
    encoded : bytes
        The packed set.

    Returns
    -------
    NDArray[np.int64]
        Ids, sorted and unique, shape (n,).

    Raises
    ------
    zlib.error
        If the bytes are damaged; the compressed part carries a checksum.
    """
    if not encoded:
        return np.empty(0, np.int64)
    gaps = np.frombuffer(zlib.decompress(encoded[9:]), dtype=f"<u{encoded[0]}")
    records = np.empty(len(gaps) + 1, np.uint64)
    records[0] = int.from_bytes(encoded[1:9], "little", signed=True) % 2**64
    np.cumsum(gaps, dtype=np.uint64, out=records[1:])
    records[1:] += records[0]
    return records.view(np.int64)
