"""The durable record of replies: what makes resume a replay.

A record is a file of frames, one per batch of replies handed to the ServerApp, each written and synced before
the ServerApp sees the batch. A crash can leave one incomplete frame at the end, which is cut off on opening:
its calls are executed again, from the same seeds and states, to the same bits.

Frame: ``magic (8) | payload length (8, big endian) | SHA-256 of the payload (32) | payload``.
Payload: one part after another, ``length (8) | bytes``.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fl.engine.worker import Reply
from shards.disk import disk_error
from shards.errors import InputError

_MAGIC = b"FSHDREC1"
_HEADER_BYTES = len(_MAGIC) + 8 + 32
_ZERO_TAIL = bytes(512)
_PIECES = 1024


@dataclass(frozen=True)
class Entry:
    """One delivered message: what was asked, and the reply (None where the ServerApp stopped waiting)."""

    message_id: str
    request_digest: str
    reply: Reply | None


def pack(parts: Sequence[bytes]) -> list[bytes]:
    """Make a checksummed frame of parts, in pieces: joining them would copy a round's replies."""
    pieces = [piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return [_MAGIC, sum(map(len, pieces)).to_bytes(8, "big"), digest.digest(), *pieces]


def unpack(payload: bytes) -> list[bytes]:
    """Split a frame's payload into its parts."""
    parts, offset = [], 0
    while offset < len(payload):
        start = offset + 8
        offset = start + int.from_bytes(payload[offset:start], "big")
        parts.append(payload[start:offset])
    return parts


def read_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(end offset, payload)`` of each frame, stopping before an incomplete last one.

    Raises
    ------
    InputError
        If a complete frame does not match its checksum: the file was damaged, not torn by a crash.
    """
    total = path.stat().st_size
    with path.open("rb") as file:
        while (start := file.tell()) < total:
            header = file.read(_HEADER_BYTES)
            size = int.from_bytes(header[8:16], "big")
            payload = file.read(min(size, total - start))
            whole = len(header) == _HEADER_BYTES and len(payload) == size
            if whole and header[:8] == _MAGIC and hashlib.sha256(payload).digest() == header[16:]:
                yield file.tell(), payload
                continue
            tail = header + payload + file.read()
            torn = not whole or tail.endswith(_ZERO_TAIL)  # pages of a crashed write may read as zeros
            if torn and _MAGIC not in tail[1:]:
                return
            raise InputError(
                f"{path}: damaged at byte {start}; this run cannot be resumed from it "
                "(restore the file from a copy, or start a new run)"
            )


class ReplyRecord:
    """An append-only record of delivered replies.

    Parameters
    ----------
    path : Path
        The file; created if missing, otherwise its complete batches are read and a torn tail is cut off.
    max_bytes : int
        Recording ends, loudly, before the file passes this size; the run goes on but cannot be resumed.

    Attributes
    ----------
    entries : dict[str, Entry]
        What was read on opening, by message id.
    full : bool
        Whether `max_bytes` was reached.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self.entries: dict[str, Entry] = {}
        self.full = False
        end = 0
        if path.exists():
            for offset, payload in read_frames(path):
                end = offset
                for entry in _decode_batch(unpack(payload)):
                    self.entries[entry.message_id] = entry
        self._file = path.open("ab", buffering=0)
        self._file.truncate(end)
        self._size = self._synced = end
        self._write_lock, self._sync_lock = threading.Lock(), threading.Lock()

    def append(self, batch: Sequence[Entry]) -> None:
        """Write one batch and make it durable before returning.

        Threads that append at the same time share one sync (legacy servers send each message from a thread).

        Raises
        ------
        DiskFullError
            If the disk is full; the file is cut back to the last complete batch.
        """
        frame = pack([part for entry in batch for part in _encode_entry(entry)])
        with self._write_lock:
            size = sum(map(len, frame))
            if self.full or self._size + size > self._max_bytes:
                self.full = True
                return
            try:
                _write(self._file.fileno(), frame)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), self._size)
                raise disk_error(self._path, error) from error
            self._size += size
            end = self._size
        with self._sync_lock:
            if self._synced < end:
                reached = self._size
                os.fsync(self._file.fileno())
                self._synced = reached

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # a full disk was reported when it was met
            self._file.close()


def _write(descriptor: int, pieces: Sequence[bytes]) -> None:
    """Write pieces one after another, without joining them; some systems take only so many at a time."""
    left = deque(memoryview(piece) for piece in pieces if piece)
    while left:
        written = os.writev(descriptor, list(islice(left, _PIECES)))
        while written:
            written, first = written - len(left[0]), left.popleft()
            if written < 0:
                left.appendleft(first[written:])
                written = 0


def _encode_entry(entry: Entry) -> list[bytes]:
    reply = entry.reply
    header = {"id": entry.message_id, "request": entry.request_digest}
    if reply is None:
        return [json.dumps(header).encode(), b"", b""]
    fields = {"metadata": reply.metadata, "failed": reply.failed, "has_state": reply.state is not None}
    return [json.dumps({**header, "reply": fields}).encode(), reply.body, reply.state or b""]


def _decode_batch(parts: Sequence[bytes]) -> Iterator[Entry]:
    for text, body, state in zip(*[iter(parts)] * 3, strict=True):
        header = json.loads(text)
        fields = header.get("reply")
        reply = fields and Reply(fields["metadata"], body, fields["failed"], state if fields["has_state"] else None)
        yield Entry(header["id"], header["request"], reply)
