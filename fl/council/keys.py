"""Keys of a simulated council: derived from the run's seed, kept in the run's private folder, checked once."""

from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consensus.identity import Ed25519, keypair
from fl.engine.seeding import derive
from shards.disk import write_atomically

FILE = "council-keys.json"
SERVER = "server"
"""Label of the ServerApp's own key, by which it asks the council."""

_Known = set[tuple[bytes, bytes, bytes]]


def derived_key(seed: int, label: int | str) -> tuple[Ed25519PrivateKey, bytes]:
    """Derive a replica's key from a seed; returns it with its 32 public bytes. Whoever has the seed has the key."""
    return keypair(derive(seed, "council", label, bits=256).to_bytes(32, "big"))


def keep(folder: Path, seed: int, count: int) -> None:
    """Write the private keys to the run's private folder, readable by its owner alone."""
    secrets = {
        str(label): derive(seed, "council", label, bits=256).to_bytes(32, "big").hex() for label in _labels(count)
    }
    path = folder / FILE
    write_atomically(path, msgspec.json.format(msgspec.json.encode(secrets), indent=1) + b"\n")
    path.chmod(0o600)


def _labels(count: int) -> list[int | str]:
    return [*range(count), SERVER]


class SharedScheme(Ed25519):
    """Ed25519 signatures of one replica among several in one process, which remembers what it knows to be valid.

    A signature that was made, or found valid, in this process is valid: no other replica here computes that again.
    Anything else (a forgery) is checked for real, as clients and ``fedshard ledger verify`` check everything.

    Parameters
    ----------
    private, publics
        See `Ed25519`.
    own : bytes
        This replica's public key.
    known : set
        Shared by all replicas of the process.
    """

    def __init__(self, private: Ed25519PrivateKey, own: bytes, publics: tuple[bytes, ...], known: _Known) -> None:
        super().__init__(private, publics)
        self._own, self._keys, self._known = own, publics, known

    def sign(self, statement: bytes) -> bytes:
        """Sign, and remember that the signature is valid."""
        signature = super().sign(statement)
        self._known.add((self._own, statement, signature))
        return signature

    def verify(self, signer: int, statement: bytes, signature: bytes) -> bool:
        """Check one replica's signature, unless it is known to be valid."""
        if not 0 <= signer < len(self._keys):
            return False
        key = (self._keys[signer], statement, signature)
        if key in self._known:
            return True
        if not super().verify(signer, statement, signature):
            return False
        self._known.add(key)
        return True

    def verify_client(self, public: bytes, statement: bytes, signature: bytes) -> bool:
        """Check a client's signature, unless it is known to be valid."""
        key = (public, statement, signature)
        if key not in self._known:
            if not super().verify_client(public, statement, signature):
                return False
            self._known.add(key)
        return True
