"""Clients' requests that wait to be ordered."""

from collections.abc import Callable

from consensus.identity import Scheme
from consensus.messages import Request, decode_as, decode_batch, request_statement

PER_CLIENT = 64  # a client that sends more at once is not listened to until some are done
MOST = 16384  # nor is anybody while so many wait in all


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
        self._of: dict[bytes, set[int]] = {}  # timestamps that wait, by client

    def __len__(self) -> int:
        return len(self._waiting)

    def holds(self, request: Request, encoded: bytes) -> bool:
        """Say whether this very request waits: a faulty client may sign two with one timestamp."""
        return self._waiting.get((request.client, request.timestamp)) == encoded

    def valid(self, request: Request, scheme: Scheme) -> bool:
        """Check a client's signature."""
        if not 0 <= request.timestamp < 1 << 63:
            return False
        about = request_statement(self._chain, request.timestamp, request.operation)
        return scheme.verify_client(request.client, about, request.signature)

    def add(self, request: Request, encoded: bytes) -> bool:
        """Let a request wait; False for one too many, or another with the timestamp of one that waits."""
        key = (request.client, request.timestamp)
        if key in self._waiting or len(self._of.get(request.client, ())) >= PER_CLIENT or len(self._waiting) >= MOST:
            return False
        self._waiting[key] = encoded
        self._of.setdefault(request.client, set()).add(request.timestamp)
        return True

    def take(self, most: int, size: int, refused: Callable[[Request], str]) -> tuple[bytes, ...]:
        """Take the next requests for a proposal: at most so many, of at most so many bytes (but at least one).

        Those that are refused by now are dropped: nobody would vote for them.
        """
        chosen: list[bytes] = []
        for key, encoded in list(self._waiting.items()):
            if key in self._taken:
                continue
            if (chosen and size < len(encoded)) or len(chosen) == most:
                break
            request = decode_as(Request, encoded)
            if request is None or refused(request):
                self._remove(key)
                continue
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

    def oldest(self) -> bytes | None:
        """Give the request that waits longest, encoded."""
        return next(iter(self._waiting.values()), None)

    def waiting(self) -> tuple[bytes, ...]:
        """Give all requests that wait, encoded."""
        return tuple(self._waiting.values())

    def done(self, client: bytes, timestamp: int) -> None:
        """Drop a client's requests up to a timestamp; the older ones can never be executed any more."""
        for waiting in sorted(self._of.get(client, ())):
            if waiting <= timestamp:
                self._remove((client, waiting))

    def _remove(self, key: tuple[bytes, int]) -> None:
        client, timestamp = key
        del self._waiting[key]
        self._taken.discard(key)
        self._of[client].discard(timestamp)
        if not self._of[client]:
            del self._of[client]
