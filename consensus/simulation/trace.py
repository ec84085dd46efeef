"""What happened in a simulation: one hash over all events, and on request a line about each for a person to read."""

import hashlib
import struct
from typing import IO

import msgspec
from msgspec import Struct

from consensus.machine import Decided, Timer
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    PREPARE,
    Bundle,
    Message,
    NewView,
    Proposal,
    Repeat,
    Reply,
    Request,
    Signed,
    ViewChange,
    Vote,
    decode,
)

PHASES = {PREPARE: "prepare", COMMIT: "commit", CHECKPOINT: "checkpoint"}

_entry = struct.Struct(">qchh8s")


def fingerprint(data: bytes) -> bytes:
    """Give 8 bytes that stand for a message in a trace."""
    return hashlib.blake2b(data, digest_size=8).digest()


class Line(Struct, frozen=True, omit_defaults=True):
    """One event of a recorded trace.

    Attributes
    ----------
    at : int
        Nanoseconds since the beginning.
    what : str
        ``message``, ``timer``, ``decided``, ``crash`` or ``restart``.
    node : int
        To whom it happened.
    sender : int
        Of a message; -1 for a client.
    about : str
        For a person.
    digest : str
        `fingerprint` of the message, or of the decided batch's digest, in hexadecimal.
    """

    at: int
    what: str
    node: int
    sender: int = -1
    about: str = ""
    digest: str = ""


def describe(message: Message | None) -> str:
    """Say what a message is, in a few words."""
    match message:
        case Vote():
            return f"{PHASES.get(message.phase, '?')} vote of {message.signer}, {_place(message)}"
        case Bundle():
            count = int.from_bytes(message.signers, "little").bit_count()
            return f"{PHASES.get(message.phase, '?')} bundle of {count}, {_place(message)}"
        case Proposal():
            return f"proposal, {_place(message)}, {message.size} bytes"
        case Signed():
            return f"{describe(decode(message.body))}, signed by {message.signer}"
        case ViewChange():
            return f"view change to {message.view} in epoch {message.epoch} with {len(message.prepared)} prepared"
        case NewView():
            return f"new view {message.view} in epoch {message.epoch} from {len(message.changes)} view changes"
        case Request() | Reply():
            return f"{type(message).__name__.lower()} {message.timestamp} of client {message.client.hex()[:8]}"
        case Repeat():
            return f"again: {describe(decode(message.message))}"
        case None:
            return "not a message"
        case _:
            return type(message).__name__.lower()


def _place(message: Vote | Bundle | Proposal) -> str:
    return f"epoch {message.epoch} view {message.view} number {message.seq} batch {message.digest.hex()[:8]}"


class Trace:
    """Hashes every event, whatever ``PYTHONHASHSEED``, and writes lines where there is somewhere to write.

    Parameters
    ----------
    out : binary file, optional
        Where JSON lines go.
    """

    def __init__(self, out: IO[bytes] | None = None) -> None:
        self.recording = out is not None
        self._out = out
        self._hash = hashlib.blake2b(digest_size=16)
        self._encoder = msgspec.json.Encoder()

    def message(self, at: int, node: int, sender: int, digest: bytes, data: bytes) -> None:
        """Take note of a message's arrival."""
        self._hash.update(_entry.pack(at, b"m", node, sender, digest))
        if self.recording:
            self._write(Line(at, "message", node, sender, describe(decode(data)), digest.hex()))

    def timer(self, at: int, node: int, timer: Timer) -> None:
        """Take note of a timer that fires."""
        name = " ".join(str(part) for part in timer)
        self._hash.update(_entry.pack(at, b"t", node, -1, fingerprint(name.encode())))
        if self.recording:
            self._write(Line(at, "timer", node, about=name))

    def decided(self, at: int, node: int, effect: Decided) -> None:
        """Take note of a decision."""
        digest = fingerprint(effect.digest + effect.seq.to_bytes(8, "big"))
        self._hash.update(_entry.pack(at, b"d", node, -1, digest))
        if self.recording:
            about = f"number {effect.seq} in epoch {effect.epoch} view {effect.view}: {len(effect.requests)} requests"
            self._write(Line(at, "decided", node, about=about, digest=digest.hex()))

    def fault(self, at: int, node: int, what: str, about: str = "") -> None:
        """Take note of a crash or a restart."""
        self._hash.update(_entry.pack(at, b"f", node, -1, fingerprint(what.encode())))
        if self.recording:
            self._write(Line(at, what, node, about=about))

    def _write(self, line: Line) -> None:
        assert self._out is not None
        self._out.write(self._encoder.encode(line) + b"\n")

    def hexdigest(self) -> str:
        """Give the hash of everything so far: 32 hexadecimal digits."""
        return self._hash.copy().hexdigest()
