"""Who signs: schemes for votes that can be bundled, and what they cost.

A scheme signs short statements for one replica and verifies anybody's. Signatures of one statement by several
replicas combine into one bundle; what a bundle is made of is the scheme's business.
"""

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from consensus.quorum import members_of


class Scheme(Protocol):
    """One replica's view of the epoch's keys.

    Attributes
    ----------
    splittable : bool
        Whether a bundle can be taken apart into single signatures again (Ed25519), or is one sum (BLS).
    """

    splittable: bool

    def sign(self, statement: bytes) -> bytes:
        """Sign with this replica's own key."""
        ...

    def verify(self, signer: int, statement: bytes, signature: bytes) -> bool:
        """Check one replica's signature; False for anything malformed, never an exception."""
        ...

    def verify_client(self, public: bytes, statement: bytes, signature: bytes) -> bool:
        """Check a client's signature against its public key."""
        ...

    def combine(self, parts: Sequence[tuple[int, bytes]]) -> bytes:
        """Combine signatures of one statement by disjoint bit sets of signers into one for their union.

        A single signature of replica ``i`` is a part for the bit set ``1 << i``.
        """
        ...

    def split(self, signers: int, signature: bytes) -> list[bytes]:
        """Take a bundle apart, in increasing order of signers; only where `splittable`."""
        ...

    def verify_all(self, signers: int, statement: bytes, signature: bytes) -> bool:
        """Check that a bundle holds the signature of every member of a bit set."""
        ...


def keypair(seed: bytes) -> tuple[Ed25519PrivateKey, bytes]:
    """Make an Ed25519 key from 32 bytes of entropy; returns it with its 32 public bytes."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return private, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def verify_with(public: bytes, data: bytes, signature: bytes) -> bool:
    """Check an Ed25519 signature against 32 public bytes; False for anything malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


class Listed:
    """The bundle form of schemes whose signatures cannot be added: their list, in the order of signers."""

    splittable = True
    length: int

    def combine(self, parts: Sequence[tuple[int, bytes]]) -> bytes:
        """Put the parts' signatures into one list."""
        single: dict[int, bytes] = {}
        for signers, signature in parts:
            single.update(zip(members_of(signers), self.split(signers, signature), strict=True))
        return b"".join(single[signer] for signer in sorted(single))

    def split(self, signers: int, signature: bytes) -> list[bytes]:
        """Cut the list at every signature; the last of a malformed one may be short."""
        return [signature[i : i + self.length] for i in range(0, signers.bit_count() * self.length, self.length)]


class Ed25519(Listed):
    """Ed25519 signatures; a bundle is their list, 64 bytes each.

    Parameters
    ----------
    private : Ed25519PrivateKey
        This replica's own key.
    publics : sequence of bytes
        All members' public keys, 32 bytes each, in the order of the member list; empty for a vacated place.
    """

    length = 64

    def __init__(self, private: Ed25519PrivateKey, publics: Iterable[bytes]) -> None:
        self._private = private
        self._publics = [Ed25519PublicKey.from_public_bytes(public) if public else None for public in publics]

    def sign(self, statement: bytes) -> bytes:
        """Sign with this replica's own key."""
        return self._private.sign(statement)

    def verify(self, signer: int, statement: bytes, signature: bytes) -> bool:
        """Check one replica's signature."""
        public = self._publics[signer] if 0 <= signer < len(self._publics) else None
        if public is None:
            return False
        try:
            public.verify(signature, statement)
        except (InvalidSignature, ValueError):
            return False
        return True

    def verify_client(self, public: bytes, statement: bytes, signature: bytes) -> bool:
        """Check a client's signature."""
        return verify_with(public, statement, signature)

    def verify_all(self, signers: int, statement: bytes, signature: bytes) -> bool:
        """Check every signature of the list."""
        if len(signature) != signers.bit_count() * self.length:
            return False
        pairs = zip(members_of(signers), self.split(signers, signature), strict=True)
        return all(self.verify(signer, statement, single) for signer, single in pairs)


class Null(Listed):
    """Checksums in place of signatures: for simulations, where the cost model charges what real ones would take.

    A checksum depends on signer and statement, so a careless forgery is noticed; simulated adversaries are trusted
    not to compute those of correct replicas.
    """

    length = 4

    def __init__(self, own: int, n: int) -> None:
        self._own, self._n = own, n

    def sign(self, statement: bytes) -> bytes:
        """Return the own checksum of a statement."""
        return zlib.crc32(statement, self._own).to_bytes(4, "big")

    def verify(self, signer: int, statement: bytes, signature: bytes) -> bool:
        """Compare the signer's checksum."""
        return 0 <= signer < self._n and signature == zlib.crc32(statement, signer).to_bytes(4, "big")

    def verify_client(self, public: bytes, statement: bytes, signature: bytes) -> bool:
        """Compare a client's checksum."""
        return signature == null_client_signature(public, statement)

    def verify_all(self, signers: int, statement: bytes, signature: bytes) -> bool:
        """Compare every signer's checksum."""
        return not signers >> self._n and signature == _checksums(signers, statement)


def null_client_signature(public: bytes, statement: bytes) -> bytes:
    """Return a simulated client's checksum of a statement."""
    return zlib.crc32(statement, zlib.crc32(public)).to_bytes(4, "big")


@lru_cache(maxsize=1024)  # all receivers of one certificate check the same one
def _checksums(signers: int, statement: bytes) -> bytes:
    return b"".join(zlib.crc32(statement, signer).to_bytes(4, "big") for signer in members_of(signers))
