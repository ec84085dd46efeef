"""Merkle trees: one digest for many pieces, and a short proof that a piece is one of them, at its place.

The tree of RFC 6962 [1]_ (a node without a sibling moves up as it is); the root also covers the number of leaves.
Leaves, inner nodes and roots are hashed under different first bytes, so none can pass for another; and since the
number of leaves fixes the shape, a leaf is proved at one place only.

References
----------
.. [1] B. Laurie et al., "Certificate Transparency", RFC 6962, section 2.1, 2013.
"""

import hashlib
from collections.abc import Sequence

_LEAF, _INNER, _ROOT = b"\0", b"\1", b"\2"
_DIGEST = 32


class Tree:
    """The tree over some leaves, built once for all proofs.

    Parameters
    ----------
    leaves : sequence of bytes
        At least one.

    Attributes
    ----------
    root : bytes
        Digest of all leaves and their order, 32 bytes.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [[_hash(_LEAF, leaf) for leaf in leaves]]
        while len(below := self._levels[-1]) > 1:
            pairs = [_hash(_INNER, below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
            self._levels.append(pairs + below[len(pairs) * 2 :])
        self.root = _root(self._levels[-1][0], len(leaves))

    def proof(self, index: int) -> tuple[bytes, ...]:
        """Give the siblings on the way from leaf `index` up."""
        siblings = []
        for level in self._levels:
            if index ^ 1 < len(level):
                siblings.append(level[index ^ 1])
            index >>= 1
        return tuple(siblings)


def verify(root: bytes, index: int, leaves: int, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether `leaf` is number `index` of the `leaves` under a root; False for anything malformed."""
    if not 0 <= index < leaves or any(len(sibling) != _DIGEST for sibling in proof):
        return False
    node, width, left = _hash(_LEAF, leaf), leaves, list(reversed(proof))
    while width > 1:
        if index ^ 1 < width:
            if not left:
                return False
            sibling = left.pop()
            node = _hash(_INNER, sibling, node) if index & 1 else _hash(_INNER, node, sibling)
        index, width = index >> 1, (width + 1) >> 1
    return not left and _root(node, leaves) == root


def _root(top: bytes, leaves: int) -> bytes:
    return _hash(_ROOT, leaves.to_bytes(8, "big"), top)


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
