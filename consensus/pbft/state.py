"""The replicated state at a checkpoint: what the application knows, and what the protocol must not forget.

Its digest covers the reply table, so that a replica restored from it executes nothing twice, and the membership, so
that a checkpoint certificate also proves who decides next.
"""

import hashlib

import msgspec
from msgspec import Struct

from consensus.reputation import Standing


class Header(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The small part of the state.

    Attributes
    ----------
    seq : int
        Everything up to this number is executed.
    epoch : int
        The epoch that decides the numbers after it.
    members : tuple of bytes
        That epoch's members.
    standing : Standing
        Who leads after whom, and the record that this follows from.
    base : int
        The checkpoint at which the epoch began.
    coming : tuple of bytes
        The members after the next change; empty when none is decided.
    until : int
        The last number of this epoch when a change is decided, else 0.
    block : bytes
        Head of the chain of executed batches: ``sha256(previous head, seq, batch digest)``.
    last_view : int
        The view in which the newest batch was first proposed; with `failed`, what the next order is made from.
    failed : tuple of int
        Places whose views passed without a batch since the last checkpoint.
    seen : bytes
        Bit set of those whose signatures were recorded since then.
    """

    seq: int
    epoch: int
    members: tuple[bytes, ...]
    standing: Standing
    base: int = 0
    coming: tuple[bytes, ...] = ()
    until: int = 0
    block: bytes = bytes(32)
    last_view: int = 0
    failed: tuple[int, ...] = ()
    seen: bytes = b""

    @property
    def places(self) -> tuple[int, ...]:
        """The places that are taken, in increasing order."""
        return tuple(place for place, key in enumerate(self.members) if key)


class Answered(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A client's newest executed request: its timestamp and result."""

    client: bytes
    timestamp: int
    result: bytes


class Image(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The whole state, as it is transferred.

    Attributes
    ----------
    header : bytes
        An encoded `Header`.
    replies : tuple of Answered
        One per client, in increasing order of their keys.
    application : bytes
        The application's snapshot.
    """

    header: bytes
    replies: tuple[Answered, ...]
    application: bytes

    def rest(self) -> bytes:
        """Digest of everything but the header."""
        return hashlib.sha256(
            hashlib.sha256(encode(self.replies)).digest() + hashlib.sha256(self.application).digest()
        ).digest()

    def digest(self) -> bytes:
        """Digest of the state."""
        return state_digest(self.header, self.rest())


_encoder = msgspec.msgpack.Encoder()
_image_decoder = msgspec.msgpack.Decoder(Image)
_header_decoder = msgspec.msgpack.Decoder(Header)


def encode(value: Struct | tuple[Answered, ...]) -> bytes:
    """Give the canonical bytes of a part of the state."""
    return _encoder.encode(value)


def decode_image(data: bytes) -> Image | None:
    """Read an image; None for anything else."""
    try:
        image = _image_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError):
        return None
    return image if decode_header(image.header) is not None else None


def decode_header(data: bytes) -> Header | None:
    """Read a header; None for anything else."""
    try:
        return _header_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError):
        return None


def state_digest(header: bytes, rest: bytes) -> bytes:
    """Digest of a state from its encoded header and the digest of the rest."""
    return hashlib.sha256(hashlib.sha256(header).digest() + rest).digest()
