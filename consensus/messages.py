"""What replicas say to each other: typed messages, one canonical encoding, and the statements that are signed.

Every message is a msgpack array whose first element names its type. A signature covers either a `statement` (votes)
or the encoded body exactly as it was received (everything else): nothing is ever encoded again to be verified.
"""

import hashlib
from functools import lru_cache
from typing import TypeVar

import msgspec
from msgspec import Struct

DOMAIN = b"fedshard/1"
NULL = bytes(32)  # the digest of the null batch, which fills a number that nobody may have used
LIMIT = 64 << 20  # the largest message that is decoded at all, in bytes
CACHED = 32 << 10  # the largest whose decoded form is kept for the next receiver, so that nobody can fill the cache

PREPARE, COMMIT, CHECKPOINT = 1, 2, 3


class Message(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything on the wire."""


class Vote(Message, frozen=True, tag=1):
    """One replica's signature of one statement.

    Attributes
    ----------
    phase : int
        `PREPARE`, `COMMIT` or `CHECKPOINT`.
    epoch, view, seq : int
        What the statement is about; the view of a checkpoint is 0.
    digest : bytes
        Of the batch, or of the state at a checkpoint.
    signer : int
        Index in the epoch's member list.
    signature : bytes
        Over `statement` of the fields above.
    """

    phase: int
    epoch: int
    view: int
    seq: int
    digest: bytes
    signer: int
    signature: bytes


class Bundle(Message, frozen=True, tag=2):
    """Several replicas' signatures of one statement; with a quorum of them it is a certificate.

    Attributes
    ----------
    phase, epoch, view, seq, digest
        As in `Vote`.
    signers : bytes
        Bit set of the signers, little-endian, without trailing zero bytes.
    signature : bytes
        What the scheme combined.
    """

    phase: int
    epoch: int
    view: int
    seq: int
    digest: bytes
    signers: bytes
    signature: bytes


class Request(Message, frozen=True, tag=3):
    """A client asks for an operation.

    Attributes
    ----------
    client : bytes
        The client's public key.
    timestamp : int
        Grows with every request of this client; a request is executed at most once.
    operation : bytes
        For the application.
    signature : bytes
        The client's, over `request_statement`.
    """

    client: bytes
    timestamp: int
    operation: bytes
    signature: bytes


class Reply(Message, frozen=True, tag=4):
    """A replica's answer to a client, who believes F+1 equal ones.

    Attributes
    ----------
    client : bytes
        Whom it is for.
    timestamp : int
        Of the request.
    view, signer : int
        The replica's view, so that the client finds the leader; and its index.
    result : bytes
        What the application returned.
    signature : bytes
        Of the replica, over `reply_statement`.
    """

    client: bytes
    timestamp: int
    view: int
    signer: int
    result: bytes
    signature: bytes


class Proposal(Message, frozen=True, tag=5):
    """PRE-PREPARE: the leader of a view proposes a batch; its PREPARE vote is part of it.

    Attributes
    ----------
    epoch, view, seq : int
        Where.
    digest : bytes
        `batch_digest` of the batch.
    batch : bytes
        The encoded `Batch`; empty when it travels in chunks.
    root : bytes
        Merkle root of the chunks; empty when the batch is inline.
    size : int
        Length of the encoded batch in bytes.
    signature : bytes
        The leader's PREPARE signature over the statement of `digest`.
    """

    epoch: int
    view: int
    seq: int
    digest: bytes
    batch: bytes
    root: bytes
    size: int
    signature: bytes


class Chunk(Message, frozen=True, tag=6):
    """One erasure-coded piece of a batch, with the proof that it belongs under the root.

    Attributes
    ----------
    epoch, view, seq : int
        The proposal's.
    root : bytes
        Merkle root over all chunks.
    index : int
        Which chunk.
    size : int
        Length of the encoded batch in bytes.
    data : bytes
        The chunk.
    proof : tuple of bytes
        Sibling digests from the leaf up.
    """

    epoch: int
    view: int
    seq: int
    root: bytes
    index: int
    size: int
    data: bytes
    proof: tuple[bytes, ...]


class ViewChange(Message, frozen=True, tag=7):
    """A replica leaves its view and says what it must not lose.

    Attributes
    ----------
    epoch, view : int
        The view it wants.
    stable : Bundle or None
        Certificate of its last stable checkpoint; None at the epoch's first.
    prepared : tuple of Bundle
        For every number above it: the prepared certificate of the highest view.
    voted : tuple of Vote
        In the fast protocol: for every number, its own PREPARE vote of the highest view.
    signer : int
        Who says so.
    """

    epoch: int
    view: int
    stable: Bundle | None
    prepared: tuple[Bundle, ...]
    voted: tuple[Vote, ...]
    signer: int


class NewView(Message, frozen=True, tag=8):
    """The new leader starts its view; what follows from the view changes is recomputed by everyone.

    Attributes
    ----------
    epoch, view : int
        The view that starts.
    changes : tuple of Signed
        A quorum of signed `ViewChange`.
    """

    epoch: int
    view: int
    changes: tuple["Signed", ...]


class Signed(Message, frozen=True, tag=9):
    """An encoded message with its signer's signature over `body_statement` of the bytes.

    Attributes
    ----------
    body : bytes
        The encoded message.
    signer : int
        Who signed.
    signature : bytes
        The signature.
    """

    body: bytes
    signer: int
    signature: bytes


class Status(Message, frozen=True, tag=10):
    """Where a replica stands, so that others send what it lacks; asks, and proves nothing.

    Attributes
    ----------
    epoch, view : int
        Its view.
    active : bool
        Whether it takes part in that view, or waits for its start.
    stable, executed : int
        Its last stable checkpoint and last executed number.
    signer : int
        Who says so.
    """

    epoch: int
    view: int
    active: bool
    stable: int
    executed: int
    signer: int


class Fetch(Message, frozen=True, tag=11):
    """A request for content by its digest: a batch, or the state at a checkpoint.

    Attributes
    ----------
    seq : int
        The number it is about.
    digest : bytes
        `batch_digest`, or the state digest of the checkpoint.
    signer : int
        Whom to send it to.
    """

    seq: int
    digest: bytes
    signer: int


class Content(Message, frozen=True, tag=12):
    """An encoded batch; its digest says whether it is the one that was wanted."""

    seq: int
    batch: bytes


class Handoff(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What proves who the next epoch's members are: the last checkpoint of an epoch, without its bulk.

    Attributes
    ----------
    certificate : Bundle
        The ending epoch's checkpoint certificate.
    header : bytes
        The encoded header of that checkpoint's state, which names the members.
    rest : bytes
        Digest of the state's other parts.
    """

    certificate: Bundle
    header: bytes
    rest: bytes


class State(Message, frozen=True, tag=13):
    """A checkpoint's whole state, with the certificates that vouch for it.

    Attributes
    ----------
    handoffs : tuple of Handoff
        The ends of all epochs so far, oldest first: the receiver may stand in an old one.
    certificate : Bundle
        The checkpoint's.
    state : bytes
        The encoded `consensus.pbft.state.Image`.
    """

    handoffs: tuple[Handoff, ...]
    certificate: Bundle
    state: bytes


class Committed(Message, frozen=True, tag=14):
    """A decided batch for somebody who lags: the commit certificate and the encoded batch."""

    certificate: Bundle
    batch: bytes


class Repeat(Message, frozen=True, tag=15):
    """Something sent again to whoever asked; how it comes says nothing about who should have sent it.

    Attributes
    ----------
    message : bytes
        An encoded `Proposal`, `Vote` or `Bundle`.
    """

    message: bytes


class Batch(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one sequence number decides.

    Attributes
    ----------
    view : int
        The view it was first proposed in: which leaders failed before it is then the same for everyone.
    requests : tuple of bytes
        Encoded `Request`, in the order of execution.
    stable : Bundle or None
        A checkpoint certificate, recorded once for each: who signed it is what reputation is made from.
    """

    view: int
    requests: tuple[bytes, ...]
    stable: Bundle | None = None


AnyMessage = (
    Vote | Bundle | Request | Reply | Proposal | Chunk | ViewChange | NewView | Signed
    | Status | Fetch | Content | State | Repeat | Committed
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)
_batch_decoder = msgspec.msgpack.Decoder(Batch)
M = TypeVar("M", bound=Message)


def encode(message: Message | Batch) -> bytes:
    """Give a message's canonical bytes."""
    return _encoder.encode(message)


@lru_cache(maxsize=512)  # in a simulation one broadcast reaches many receivers; messages are frozen
def _decode(data: bytes) -> AnyMessage:
    return _decoder.decode(data)


def decode(data: bytes) -> Message | None:
    """Read a message; None for anything that is not exactly one, whatever it is."""
    if len(data) > LIMIT:
        return None
    try:
        return _decode(data) if len(data) <= CACHED else _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def decode_as(kind: type[M], data: bytes) -> M | None:
    """Read a message of one kind; None for anything else."""
    message = decode(data)
    return message if isinstance(message, kind) else None


def decode_batch(data: bytes) -> Batch | None:
    """Read a batch; None for anything that is not exactly one in canonical form."""
    try:
        batch = _batch_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError):
        return None
    return batch if _encoder.encode(batch) == data else None


def batch_digest(encoded: bytes) -> bytes:
    """Digest of an encoded batch; `NULL` for the null batch, which is empty bytes."""
    return hashlib.sha256(encoded).digest() if encoded else NULL


def statement(chain: bytes, phase: int, epoch: int, view: int, seq: int, digest: bytes) -> bytes:
    """Bytes that a vote signs: domain, chain, epoch, phase, view, sequence number, digest; fixed widths."""
    numbers = epoch.to_bytes(8, "big") + phase.to_bytes(1, "big") + view.to_bytes(8, "big") + seq.to_bytes(8, "big")
    return DOMAIN + b"/vote/" + chain + numbers + digest


def body_statement(chain: bytes, body: bytes) -> bytes:
    """Bytes that `Signed` signs: domain, chain and the body as it travels (which names its type, epoch and view)."""
    return DOMAIN + b"/body/" + chain + hashlib.sha256(body).digest()


def request_statement(chain: bytes, timestamp: int, operation: bytes) -> bytes:
    """Bytes that a client signs."""
    return DOMAIN + b"/request/" + chain + timestamp.to_bytes(8, "big") + hashlib.sha256(operation).digest()


def reply_statement(chain: bytes, client: bytes, timestamp: int, result: bytes) -> bytes:
    """Bytes that a replica signs for a client."""
    return DOMAIN + b"/reply/" + chain + client + timestamp.to_bytes(8, "big") + hashlib.sha256(result).digest()


def signers_to_bytes(signers: int) -> bytes:
    """Encode a bit set without trailing zero bytes."""
    return signers.to_bytes((signers.bit_length() + 7) // 8, "little")


def signers_from_bytes(encoded: bytes, n: int) -> int:
    """Decode a bit set of n replicas; 0, which is no quorum, for one that is not canonical or names others."""
    signers = int.from_bytes(encoded, "little")
    return 0 if signers >> n or (encoded and not encoded[-1]) else signers
