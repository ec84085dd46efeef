"""Clients' requests that wait to be ordered."""

from consensus.identity import Scheme
from consensus.messages import Request, decode_as, decode_batch, request_statement

PER_CLIENT = 64  # a client that sends more at once is not listened to until some are done


class Requests:
    """Requests with valid signatures that were not executed yet, in the order of arrival.

    Parameters
    ----------
    chain : bytes
        What their signatures name.
    """

    def __init__(self, chain: bytes) -> None:
        self._chain = chain
        self._waiting: dict[tuple[bytes, int], bytes] = {}
        self._taken: set[tuple[bytes, int]] = set()  # those in proposals of the current view
        self._count: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request: Request) -> bool:
        return (request.client, request.timestamp) in self._waiting

    def valid(self, request: Request, scheme: Scheme) -> bool:
        """Check a client's signature."""
        if not 0 <= request.timestamp < 1 << 63:
            return False
        about = request_statement(self._chain, request.timestamp, request.operation)
        return scheme.verify_client(request.client, about, request.signature)

    def add(self, request: Request, encoded: bytes) -> bool:
        """Let a request wait; False for one too many of its client, or one that waits already."""
        key = (request.client, request.timestamp)
        if key in self._waiting or self._count.get(request.client, 0) >= PER_CLIENT:
            return False
        self._waiting[key] = encoded
        self._count[request.client] = self._count.get(request.client, 0) + 1
        return True

    def take(self, most: int, size: int) -> tuple[bytes, ...]:
        """Take the next requests for a proposal: at most so many, of at most so many bytes (but at least one)."""
        chosen: list[bytes] = []
        for key, encoded in self._waiting.items():
            if key in self._taken:
                continue
            if (chosen and size < len(encoded)) or len(chosen) == most:
                break
            self._taken.add(key)
            chosen.append(encoded)
            size -= len(encoded)
        return tuple(chosen)

    def take_those_of(self, batch: bytes) -> None:
        """Mark the requests of a batch that a new view votes on again, so that they are not proposed twice."""
        decoded = decode_batch(batch)
        for request in (decode_as(Request, encoded) for encoded in (decoded.requests if decoded else ())):
            if request is not None:
                self._taken.add((request.client, request.timestamp))

    def release(self) -> None:
        """Make all requests available again: proposals of an earlier view may be lost."""
        self._taken.clear()

    def waiting(self) -> tuple[bytes, ...]:
        """Give all requests that wait, encoded."""
        return tuple(self._waiting.values())

    def done(self, client: bytes, timestamp: int) -> None:
        """Drop a client's requests up to a timestamp; the older ones can never be executed any more."""
        if client not in self._count:
            return
        for key in [key for key in self._waiting if key[0] == client and key[1] <= timestamp]:
            del self._waiting[key]
            self._taken.discard(key)
            self._count[client] -= 1
        if not self._count[client]:
            del self._count[client]
