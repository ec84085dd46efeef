"""Signature schemes for simulations: what they cost is charged, what they prove is a checksum."""

import zlib
from collections.abc import Sequence
from functools import lru_cache

from consensus.identity import Listed, Scheme, null_client_signature
from consensus.quorum import members_of
from consensus.simulation.costs import Signatures


class Meter:
    """Modelled seconds of one replica's processor, added up until somebody takes them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def take(self) -> float:
        """Give the seconds since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class Metered:
    """Any scheme, with the modelled price of every operation charged to a meter.

    Parameters
    ----------
    scheme : Scheme
        What does the work.
    prices : Signatures
        What it is to cost.
    meter : Meter
        Where it is charged.
    client_s : float
        Seconds to check a client's signature.
    """

    def __init__(self, scheme: Scheme, prices: Signatures, meter: Meter, client_s: float = 0.0) -> None:
        self.splittable = scheme.splittable
        self._scheme = scheme
        self._prices = prices
        self._meter = meter
        self._client_s = client_s

    def sign(self, statement: bytes) -> bytes:
        """Sign, and charge one signature."""
        self._meter.seconds += self._prices.sign_s
        return self._scheme.sign(statement)

    def verify(self, signer: int, statement: bytes, signature: bytes) -> bool:
        """Check, and charge one check."""
        self._meter.seconds += self._prices.verify_s
        return self._scheme.verify(signer, statement, signature)

    def verify_client(self, public: bytes, statement: bytes, signature: bytes) -> bool:
        """Check, and charge what a client's signature takes."""
        self._meter.seconds += self._client_s
        return self._scheme.verify_client(public, statement, signature)

    def combine(self, parts: Sequence[tuple[int, bytes]]) -> bytes:
        """Combine, and charge for every part."""
        self._meter.seconds += self._prices.combine(len(parts))
        return self._scheme.combine(parts)

    def split(self, signers: int, signature: bytes) -> list[bytes]:
        """Take apart, which costs nothing."""
        return self._scheme.split(signers, signature)

    def verify_all(self, signers: int, statement: bytes, signature: bytes) -> bool:
        """Check a bundle, and charge for all its signers."""
        self._meter.seconds += self._prices.verify_all(signers.bit_count())
        return self._scheme.verify_all(signers, statement, signature)


class _NullClients:
    """The checksums of clients."""

    def verify_client(self, public: bytes, statement: bytes, signature: bytes) -> bool:
        """Compare a client's checksum."""
        return signature == null_client_signature(public, statement)


class PaddedNull(_NullClients, Listed):
    """Checksums as long as a real scheme's signatures, so that messages have their real sizes.

    Parameters
    ----------
    own : int
        The replica that signs.
    n : int
        Number of replicas.
    length : int
        Bytes per signature, at least 4.
    """

    def __init__(self, own: int, n: int, length: int) -> None:
        self.length = length
        self._own, self._n = own, n

    def sign(self, statement: bytes) -> bytes:
        """Return the own checksum of a statement, padded."""
        return _checksum(self._own, statement).ljust(self.length, b"\0")

    def verify(self, signer: int, statement: bytes, signature: bytes) -> bool:
        """Compare the signer's checksum."""
        return 0 <= signer < self._n and signature == _checksum(signer, statement).ljust(self.length, b"\0")

    def verify_all(self, signers: int, statement: bytes, signature: bytes) -> bool:
        """Compare every signer's checksum."""
        return not signers >> self._n and signature == _listed(signers, statement, self.length)


class NullSum(_NullClients):
    """Checksums that add up like BLS signatures: a bundle is one, whose parts cannot be told apart any more.

    Parameters
    ----------
    own : int
        The replica that signs.
    n : int
        Number of replicas.
    length : int
        Bytes per signature, at least 8.
    """

    splittable = False

    def __init__(self, own: int, n: int, length: int) -> None:
        self._own, self._n, self._length = own, n, length

    def sign(self, statement: bytes) -> bytes:
        """Return the own checksum of a statement, padded."""
        return _sum(1 << self._own, statement).ljust(self._length, b"\0")

    def verify(self, signer: int, statement: bytes, signature: bytes) -> bool:
        """Compare the signer's checksum."""
        return 0 <= signer < self._n and signature == _sum(1 << signer, statement).ljust(self._length, b"\0")

    def combine(self, parts: Sequence[tuple[int, bytes]]) -> bytes:
        """Add checksums up; of malformed ones the sum is malformed too."""
        total = sum(int.from_bytes(signature[:8], "big") for _, signature in parts)
        return (total % (1 << 64)).to_bytes(8, "big").ljust(self._length, b"\0")

    def split(self, signers: int, signature: bytes) -> list[bytes]:
        """Refuse: a sum has no parts."""
        raise TypeError("a sum of signatures cannot be taken apart")

    def verify_all(self, signers: int, statement: bytes, signature: bytes) -> bool:
        """Compare the sum of every signer's checksum."""
        return not signers >> self._n and signature == _sum(signers, statement).ljust(self._length, b"\0")


def simulated(prices: Signatures, own: int, n: int) -> Scheme:
    """Make the checksum scheme that has the size and the bundles of a real one."""
    scheme: Scheme = NullSum(own, n, max(prices.length, 8)) if prices.sums else PaddedNull(own, n, prices.length)
    return scheme


def _checksum(signer: int, statement: bytes) -> bytes:
    return zlib.crc32(statement, signer).to_bytes(4, "big")


@lru_cache(maxsize=1024)  # all receivers of one certificate check the same one
def _listed(signers: int, statement: bytes, length: int) -> bytes:
    return b"".join(_checksum(signer, statement).ljust(length, b"\0") for signer in members_of(signers))


@lru_cache(maxsize=4096)
def _sum(signers: int, statement: bytes) -> bytes:
    # Every checksum is spread over 64 bits: plain CRCs are linear, and sums of them collide.
    total = sum(zlib.crc32(statement, signer) * 0x9E3779B97F4A7C15 for signer in members_of(signers))
    return (total % (1 << 64)).to_bytes(8, "big")
