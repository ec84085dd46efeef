"""What travels between the dispatcher and a worker process, and who owns a call that was sent ahead of its turn.

Both directions use one message form: a JSON header and byte strings. Small ones share a frame with the header, since
a frame costs more than its bytes; large ones follow in frames of their own, uncopied.
"""

import json
import os
from multiprocessing.connection import Connection
from typing import Any

_LENGTH_BYTES = 4
SMALL = 1 << 16
"""Bytes up to which a part shares the header's frame. Less than a socket buffers, so sending it never waits."""


def send(connection: Connection, header: dict[str, Any], *parts: bytes) -> None:
    """Send a header and byte strings; raises OSError where the other end is gone."""
    text = json.dumps({"sizes": [len(part) for part in parts], **header}).encode()
    small = [part for part in parts if len(part) <= SMALL]
    connection.send_bytes(b"".join([len(text).to_bytes(_LENGTH_BYTES, "big"), text, *small]))
    for part in parts:
        if len(part) > SMALL:
            connection.send_bytes(part)


def receive(connection: Connection) -> tuple[dict[str, Any], list[bytes]]:
    """Receive what `send` sent; raises EOFError or OSError where the other end is gone."""
    frame = connection.recv_bytes()
    offset = _LENGTH_BYTES + int.from_bytes(frame[:_LENGTH_BYTES], "big")
    header = json.loads(frame[_LENGTH_BYTES:offset])
    parts = []
    for size in header.pop("sizes"):
        if size > SMALL:
            parts.append(connection.recv_bytes())
        else:
            parts.append(frame[offset : offset + size])
            offset += size
    return header, parts


class Tokens:
    """One token per call sent: the worker that takes it executes the call, the dispatcher that takes it has it back.

    A token is one byte in a pipe that both ends read, so taking it is atomic: a call is never executed twice, nor
    lost, whatever the moment at which the dispatcher changes its mind. Calls are numbered from 0, modulo 256.

    Attributes
    ----------
    reader : int
        Non-blocking descriptor that tokens are taken from; a worker gets a copy of it.
    """

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)

    def put(self, number: int) -> None:
        """Put down the token of the call that is being sent."""
        os.write(self._writer, bytes([number % 256]))

    def take(self) -> int | None:
        """Take the oldest token back: the number (modulo 256) of a call that the worker has not begun, or None."""
        return _take(self.reader)

    def close(self) -> None:
        """Close both ends."""
        os.close(self.reader)
        os.close(self._writer)


class Claims:
    """The worker's end of `Tokens`."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._number = 0
        self._held: int | None = None  # a token already taken, which belongs to a later call

    def claim(self) -> bool:
        """Say whether the next call is this worker's to execute: False where the dispatcher has taken it back."""
        number, self._number = self._number, (self._number + 1) % 256
        if self._held is None:
            self._held = _take(self._reader)
        if self._held != number:
            return False
        self._held = None
        return True


def _take(reader: int) -> int | None:
    try:
        token = os.read(reader, 1)
    except BlockingIOError:
        return None
    return token[0] if token else None
