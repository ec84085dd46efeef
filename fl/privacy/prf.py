"""Secret randomness as a function: every coin and every noise value follows from (client secret, purpose).

A resumed or retried client therefore draws the same bits again and resends the same bytes. Nobody
without the secret can tell them from fresh random bits.
"""

import hashlib
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray
from scipy.special import ndtri

SECRET_BYTES = 32
"""Length of a client secret in bytes."""

Label = str | int | bytes
"""One part of what a stream is for."""


class Stream:
    """A ChaCha20 keystream read as numbers; each number consumes eight bytes, so chunking changes nothing.

    Parameters
    ----------
    key : bytes
        The 32-byte key. A key must serve one stream only: make streams with `stream`.

    Notes
    -----
    One key gives at most 256 GiB (the cipher's 32-bit block counter), 3.4e10 numbers. Uniform values are
    the same bits on every platform; a Gaussian value also depends on the last bit of SciPy's `ndtri` and
    the machine's `log`, and is repeated to the bit on the same installation.
    """

    def __init__(self, key: bytes) -> None:
        # A fixed nonce is sound because HKDF makes the key itself unique to its purpose.
        self._keystream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def take(self, n: int) -> bytes:
        """Return the next `n` bytes of the keystream."""
        return self._keystream.update(b"\0" * n)

    def uniform(self, n: int) -> NDArray[np.float64]:
        """Draw from (0, 1), both ends excluded.

        Parameters
        ----------
        n : int
            How many values.

        Returns
        -------
        NDArray[np.float64]
            Odd multiples of 2⁻⁵³, shape (n,): the mid-points of 2⁵² equal cells, each exact in a float64.
        """
        return _midpoints(self._words(n)) * 2.0**-52

    def gaussian(self, n: int) -> NDArray[np.float64]:
        """Draw from the standard normal distribution.

        Parameters
        ----------
        n : int
            How many values.

        Returns
        -------
        NDArray[np.float64]
            Shape (n,), by inverse distribution function at the mid-points of 2⁵³ equal cells of (0, 1).

        Notes
        -----
        No value exceeds 8.29 in magnitude (Φ⁻¹(2⁻⁵⁴)); the mass cut off beyond is 1.1e-16 a value.
        """
        words = self._words(n)
        # Lower half by 52 bits and the sign by one: the upper half's mid-points are not float64 values, their
        # mirror images are, and ndtri is accurate near 0 but not near 1.
        values: NDArray[np.float64] = ndtri(_midpoints(words) * 2.0**-53)
        np.negative(values, out=values, where=(words & np.uint64(1)).astype(np.bool_))
        return values

    def _words(self, n: int) -> NDArray[np.uint64]:
        """Return the next n 64-bit words, little-endian on every machine."""
        return np.frombuffer(self.take(8 * n), dtype="<u8").astype(np.uint64, copy=False)


def _midpoints(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return k + 1/2 for the leading 52 bits k of each word, exactly."""
    values = (words >> np.uint64(12)).astype(np.float64)
    values += 0.5
    return values


class EventStreams(NamedTuple):
    """The two streams of one training event: sampling coins, and noise."""

    coins: Stream
    noise: Stream


def stream(secret: bytes, *labels: Label) -> Stream:
    """Open the stream of a purpose, at its start.

    Parameters
    ----------
    secret : bytes
        The client's 32-byte secret.
    *labels : str, int or bytes
        What the stream is for, such as ``"mask", round, peer``. Distinct tuples (by type, too: 1 is not
        "1") give streams that are unrelated to anybody without the secret.

    Returns
    -------
    Stream
        Equal arguments open equal streams.

    Raises
    ------
    ValueError
        If the secret is not 32 bytes long.
    TypeError
        If a label is neither str, int nor bytes; bool is not accepted.

    Notes
    -----
    The key is HKDF-SHA256 (RFC 5869) of the secret, with the labels as its context.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a client secret has {SECRET_BYTES} bytes, not {len(secret)}")
    return Stream(_derive(secret, b"fedshard stream 1", labels))


def event_streams(secret: bytes, event: str, request: bytes) -> EventStreams:
    """Open the coins and the noise of one training event.

    Parameters
    ----------
    secret : bytes
        The client's 32-byte secret.
    event : str
        Name of the training event, as the ledger charges it.
    request : bytes
        Canonical bytes of everything the server sent for it (model, round, predicate). They are part of the
        key: the same event asked with another model would otherwise cover two different values with one
        noise.

    Returns
    -------
    EventStreams
        Equal arguments open equal streams.

    Raises
    ------
    ValueError
        If the secret is not 32 bytes long.
    """
    digest = hashlib.sha256(request).digest()
    return EventStreams(stream(secret, "coins", event, digest), stream(secret, "noise", event, digest))


def simulated_secret(seed: int, client: int) -> bytes:
    """Make the secret of a simulated client: no secret, since whoever knows the seed can remove the noise.

    Parameters
    ----------
    seed : int
        The run's seed.
    client : int
        Index of the client.

    Returns
    -------
    bytes
        32 bytes, the same on every platform.
    """
    return _derive(str(seed).encode(), b"fedshard simulated secret 1", (client,))


def _derive(secret: bytes, purpose: bytes, labels: tuple[Label, ...]) -> bytes:
    """Return 32 bytes of HKDF-SHA256 over an unambiguous encoding of the labels."""
    context = b"".join(_encode(label) for label in labels)
    return HKDF(SHA256(), length=SECRET_BYTES, salt=purpose, info=context).derive(secret)


def _encode(label: Label) -> bytes:
    """Return a label as type, length and content, so that no two label tuples share an encoding."""
    match label:
        case bool():
            raise TypeError("a stream label is str, int or bytes, not bool")
        case str():
            kind, content = b"s", label.encode()
        case int():
            kind, content = b"i", str(label).encode()
        case bytes():
            kind, content = b"b", label
        case _:
            raise TypeError(f"a stream label is str, int or bytes, not {type(label).__name__}")
    return kind + len(content).to_bytes(8, "big") + content
