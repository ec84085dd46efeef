"""The data plane: large batches travel in erasure-coded chunks; no uplink carries more than n/t times a batch.

The leader sends every replica one chunk, and each replica passes its own on to all others (as in AVID-M [1]_). A
batch is accepted only if encoding what was rebuilt gives the root that the leader announced: then all chunks under
this root are those of the same batch, and everyone who rebuilds from any t of them gets that batch; or nobody does.

References
----------
.. [1] L. Yang et al., "DispersedLedger", NSDI 2022, section 3.2.
"""

from consensus import erasure, merkle
from consensus.messages import LIMIT, Chunk
from shards.errors import InputError


class Scatter:
    """Which chunk each replica holds, and how many chunks suffice.

    Parameters
    ----------
    n : int
        Number of replicas.
    faults : int
        F, the number of faulty ones to survive; ``n > 2F``.

    Attributes
    ----------
    chunks : int
        c, the number of different chunks, at most 255. Above that, ``g = ⌈n/255⌉`` replicas share one:
        ``c = ⌈n/g⌉``, and replica r holds chunk ``r mod c``.
    needed : int
        t, how many chunks rebuild the batch: the number of different ones that any ``n - 2F`` replicas hold. (Any
        n - F replicas may have answered; F of these may be faulty.) ``t = n - 2F`` for n up to 255.

    Raises
    ------
    InputError
        When there are not more than 2F replicas.

    Notes
    -----
    A chunk has ``h = ⌊n/c⌋`` or h+1 holders, h+1 exactly for those below ``n mod c``. Of the absent replicas, 2F, it
    takes h for each of the ``s = c - (n mod c)`` cheaper chunks and h+1 for each other one to make it vanish, so at
    most ``v = min(s, ⌊2F/h⌋) + ⌊(2F - s·h)⁺/(h+1)⌋`` vanish, and some choice makes v vanish: ``t = c - v`` is exact.
    It is at least 1, since only all n replicas hold every copy, and 2F < n.
    """

    def __init__(self, n: int, faults: int) -> None:
        if n <= 2 * faults:
            raise InputError(f"{faults} faulty of {n} replicas: chunks need more than {2 * faults} replicas")
        self.chunks = -(-n // -(-n // erasure.MOST))
        holders, shared = divmod(n, self.chunks)
        cheap = self.chunks - shared
        vanished = min(cheap, 2 * faults // holders) + max(0, 2 * faults - cheap * holders) // (holders + 1)
        self.needed = self.chunks - vanished

    def index(self, replica: int) -> int:
        """Give the chunk that a replica holds."""
        return replica % self.chunks

    def split(self, batch: bytes) -> tuple[bytes, list[tuple[bytes, tuple[bytes, ...]]]]:
        """Encode a batch.

        Returns
        -------
        root : bytes
            Merkle root over the chunks, 32 bytes.
        pieces : list of tuple
            Every chunk's data, and the proof that it belongs under the root.
        """
        pieces = erasure.encode(batch, self.needed, self.chunks)
        tree = merkle.Tree([_leaf(len(batch), piece) for piece in pieces])
        return tree.root, [(piece, tree.proof(index)) for index, piece in enumerate(pieces)]

    def belongs(self, chunk: Chunk) -> bool:
        """Say whether a chunk is one of the batch that it names by root and size; False for anything malformed."""
        return (
            0 < chunk.size <= LIMIT
            and len(chunk.data) == erasure.chunk_length(chunk.size, self.needed)
            and merkle.verify(chunk.root, chunk.index, self.chunks, _leaf(chunk.size, chunk.data), chunk.proof)
        )


class Gather:
    """The chunks of one batch, until there are enough; never more than t of them, each of the length that fits.

    Parameters
    ----------
    root : bytes
        What the leader announced.
    size : int
        Length of the batch in bytes, as the leader announced it; nothing fits one of more than `messages.LIMIT`.
    scatter : Scatter
        Who holds which chunk.
    """

    def __init__(self, root: bytes, size: int, scatter: Scatter) -> None:
        self._root, self._size, self._scatter = root, size, scatter
        self._chunks: dict[int, bytes] = {}

    def add(self, chunk: Chunk) -> bool:
        """Take a chunk; False for one that is not of this batch, or is not needed any more."""
        if (chunk.root, chunk.size) != (self._root, self._size) or chunk.index in self._chunks or self.ready:
            return False
        if not self._scatter.belongs(chunk):
            return False
        self._chunks[chunk.index] = chunk.data
        return True

    @property
    def ready(self) -> bool:
        """Whether there are enough chunks."""
        return len(self._chunks) == self._scatter.needed

    def rebuild(self) -> bytes | None:
        """Return the batch; None when the leader's chunks are not those of any batch.

        Raises
        ------
        ValueError
            Before it is `ready`.
        """
        scatter = self._scatter
        batch = erasure.decode(self._chunks, scatter.needed, scatter.chunks, self._size)
        return batch if scatter.split(batch)[0] == self._root else None


def _leaf(size: int, data: bytes) -> bytes:
    return size.to_bytes(8, "big") + data  # the size too: zeros at a batch's end and its padding would look the same
