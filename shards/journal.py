"""Bounded, append-only files of JSON lines, shared by processes: what the access and the decision log are made of."""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.disk import disk_error, write_atomically
from shards.errors import InputError


def nothing(dropped: list[bytes]) -> bytes:
    """Carry nothing on from the lines that are dropped."""
    return b""


@dataclass(frozen=True)
class Journal:
    """One file of JSON lines that grows at its end and loses its older half when it is full.

    Each line is one ``O_APPEND`` write under an exclusive lock (on ``<name>.lock``): a line of one process is never
    torn by another's, and none lands in a file that has just been replaced. Readers need no lock. A killed process
    loses nothing it wrote. A line that a power failure cut short was never written: readers leave it out, and the
    next append removes it.

    Attributes
    ----------
    path : Path
        The file; its folder must exist.
    max_bytes : int
        The most bytes it holds, what `carry` gives not counted. The last line is always kept.
    carry : callable
        Gives a first line, newline included, that stands for the lines dropped.
    """

    path: Path
    max_bytes: int
    carry: Callable[[list[bytes]], bytes] = nothing

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other appender out, in this process and in others."""
        lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # said aloud: a child forked meanwhile has inherited the descriptor
            os.close(lock)

    def write(self, line: bytes, durable: bool = False) -> None:
        """Append one line; the caller holds the lock.

        Parameters
        ----------
        line : bytes
            The line, newline included.
        durable : bool
            Whether it, and all before it, must outlive a power failure from here on (one ``fsync``).

        Raises
        ------
        DiskFullError
            If the disk is full; the journal is as it was.
        """
        try:
            if self.path.exists() and self.path.stat().st_size + len(line) > self.max_bytes:
                self._drop_older_half(len(line))
            descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                _append_whole(descriptor, line)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise disk_error(self.path, error) from error

    def read(self) -> bytes:
        """Give the complete lines, oldest first; nothing when there is no file."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        return data[: data.rfind(b"\n") + 1]

    def damaged(self, number: int, why: str) -> InputError:
        """Say that a line cannot be used, and what to do."""
        return InputError(f"{self.path}: line {number} is damaged ({why}); move the file away to start a new log")

    def _drop_older_half(self, coming: int) -> None:
        lines = self.read().splitlines(keepends=True)
        keep_bytes, first = self.max_bytes // 2 - coming, len(lines)
        while first and keep_bytes >= len(lines[first - 1]):
            first -= 1
            keep_bytes -= len(lines[first])
        write_atomically(self.path, self.carry(lines[:first]) + b"".join(lines[first:]))


def encode(fields: dict[str, Any]) -> bytes:
    """Give the one canonical line of a JSON object: keys in their order, no spaces, floats as `repr` writes them."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _append_whole(descriptor: int, line: bytes) -> None:
    """Write all of a line or none of it, after removing what an append cut short by a power failure left."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        size = os.pread(descriptor, size, 0).rfind(b"\n") + 1
        os.ftruncate(descriptor, size)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, "short write")
    except OSError:
        os.ftruncate(descriptor, size)
        raise
