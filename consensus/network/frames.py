"""Messages on a byte stream: a length of four bytes, big-endian, then so many bytes."""

import struct

from shards.errors import FedshardError

LIMIT = 64 << 20  # the largest frame, in bytes; a sender of more is cut off
_LENGTH = struct.Struct(">I")


class FrameError(FedshardError):
    """The other side does not keep to the format; nothing it sends further can be understood."""


def frame(data: bytes) -> bytes:
    """Put a message into a frame.

    Raises
    ------
    ValueError
        If it is longer than `LIMIT`.
    """
    if len(data) > LIMIT:
        raise ValueError(f"a message of {len(data)} bytes, more than {LIMIT}, cannot be sent")
    return _LENGTH.pack(len(data)) + data


class FrameReader:
    """Takes a stream in pieces of any size and gives back its frames.

    Parameters
    ----------
    limit : int, optional
        The largest frame that is accepted, in bytes.

    Notes
    -----
    The length is checked before anything is kept for it, and nothing is ever reserved ahead: the reader holds at most
    the bytes that arrived and are not given back yet, fewer than ``limit + 4`` between two calls.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._pending = bytearray()

    @property
    def pending(self) -> int:
        """The number of bytes held of a frame that is not whole yet."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; returns the frames they complete, in order.

        Raises
        ------
        FrameError
            If a frame is announced that is longer than the limit, then and at every further call: the connection is
            to be closed.
        """
        self._pending += data
        frames: list[bytes] = []
        start = length = 0
        with memoryview(self._pending) as view:
            while len(view) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(view, start)
                end = start + _LENGTH.size + length
                if length > self._limit or end > len(view):
                    break
                frames.append(bytes(view[start + _LENGTH.size : end]))
                start = end
        del self._pending[:start]
        if length > self._limit:
            del self._pending[_LENGTH.size :]
            raise FrameError(f"a frame of {length} bytes was announced, more than {self._limit}")
        return frames
