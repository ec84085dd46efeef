"""A client over TLS: it signs requests and believes what a weak set of replicas, and so a correct one, says."""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consensus.messages import Reply, Request, decode_as, encode, request_statement
from consensus.network.frames import FrameError, FrameReader, frame
from consensus.network.genesis import Genesis, Member, public_bytes
from consensus.network.links import Link, client_context, hello_statement
from consensus.protocols import find
from consensus.quorum import bits_of
from shards.errors import FedshardError


class UnansweredError(FedshardError):
    """Too few replicas answered in time; the request may have been executed all the same."""


class ClientLink(Link):
    """A client's connection to one replica: it answers the challenge, then sends and hears."""

    def __init__(
        self,
        peer: Member,
        context: ssl.SSLContext,
        hello: Callable[[bytes], bytes],
        received: Callable[[bytes], None],
    ) -> None:
        super().__init__(peer, context)
        self.ready = asyncio.Event()
        self._hello, self._received = hello, received
        self._reader = FrameReader()

    def connected(self) -> None:
        """Wait for the challenge before anything is sent."""
        self._reader = FrameReader()

    def data_received(self, data: bytes) -> None:
        """Answer the challenge, and hand on what follows."""
        try:
            messages = self._reader.feed(data)
        except FrameError:
            messages = []
            if self._transport is not None:
                self._transport.abort()
        if messages and not self.ready.is_set() and self._transport is not None:
            self._transport.write(self._hello(messages.pop(0)))
            self.ready.set()
            super().connected()
        for message in messages:
            self._received(message)

    def connection_lost(self, exception: Exception | None) -> None:
        """Expect another challenge next time."""
        self.ready.clear()
        super().connection_lost(exception)


class Client:
    """One client of a chain, with one request at a time under way.

    Parameters
    ----------
    genesis : Genesis
        The chain.
    key : Ed25519PrivateKey
        Its own key: its name.
    patience : float, optional
        Seconds after which a request goes to all replicas, and then again.

    Notes
    -----
    Replies count by the connection they came on: TLS shows which replica is there, so their signatures, which are for
    third parties, are not verified again.
    """

    def __init__(self, genesis: Genesis, key: Ed25519PrivateKey, patience: float = 1.0) -> None:
        self._genesis, self._key, self._patience = genesis, key, patience
        self.public = public_bytes(key)
        self._quorums = find(genesis.protocol).quorums(genesis.regions_of(tuple(range(len(genesis.members)))))
        self._links = [
            ClientLink(member, client_context(member), self._hello(place), self._hearing(place))
            for place, member in enumerate(genesis.members)
        ]
        self._keeping: list[asyncio.Task[None]] = []
        self._timestamp = 0
        self._views = [0] * len(genesis.members)  # as each replica said last
        self._said: dict[int, bytes] = {}  # by place: its first result of the request under way
        self._result: asyncio.Future[bytes] | None = None
        self._one = asyncio.Lock()

    async def connect(self, seconds: float = 10.0) -> int:
        """Connect to all replicas; returns to how many, once all are there or the time is up."""
        self._keeping = [asyncio.create_task(link.keep()) for link in self._links]
        waits = [asyncio.create_task(link.ready.wait()) for link in self._links]
        await asyncio.wait(waits, timeout=seconds)
        for wait in waits:
            wait.cancel()
        return sum(link.ready.is_set() for link in self._links)

    async def close(self) -> None:
        """Disconnect."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)

    async def submit(self, operation: bytes, seconds: float = 60.0) -> bytes:
        """Have an operation executed; returns its result.

        The request goes to the leader, and after `patience` to all replicas, again and again.

        Raises
        ------
        UnansweredError
            If no result is vouched for within so many seconds.
        """
        async with self._one:
            self._timestamp = max(self._timestamp + 1, time.time_ns())
            signature = self._key.sign(request_statement(self._genesis.chain, self._timestamp, operation))
            framed = frame(encode(Request(self.public, self._timestamp, operation, signature)))
            self._said.clear()
            self._result = asyncio.get_running_loop().create_future()
            deadline = time.monotonic() + seconds
            for attempt in count():
                for link in self._links if attempt else (self._leader(),):
                    link.send(framed)
                    link.flush()
                left = min(self._patience, deadline - time.monotonic())
                done, _ = await asyncio.wait((self._result,), timeout=max(left, 0))
                if done:
                    return self._result.result()
                if time.monotonic() >= deadline:
                    break
            raise UnansweredError(
                f"no result after {seconds:g} s: of {len(self._links)} replicas "
                f"{sum(link.ready.is_set() for link in self._links)} are connected, "
                f"{max(Counter(self._said.values()).values(), default=0)} gave the same result"
            )

    def _leader(self) -> ClientLink:
        """Guess the leader: of the highest view that a weak set of replicas, and so a correct one, has reached."""
        view = 0
        for candidate in sorted(set(self._views)):
            if self._quorums.is_weak(bits_of(place for place, own in enumerate(self._views) if own >= candidate)):
                view = candidate
        return self._links[view % len(self._links)]

    def _hello(self, place: int) -> Callable[[bytes], bytes]:
        def hello(challenge: bytes) -> bytes:
            return self.public + self._key.sign(hello_statement(self._genesis.chain, place, challenge))

        return hello

    def _hearing(self, place: int) -> Callable[[bytes], None]:
        def heard(data: bytes) -> None:
            reply = decode_as(Reply, data)
            if reply is None or reply.signer != place or reply.client != self.public:
                return
            self._views[place] = reply.view
            if reply.timestamp == self._timestamp and self._result is not None and not self._result.done():
                result = self._said.setdefault(place, reply.result)
                if self._quorums.is_weak(bits_of(other for other, said in self._said.items() if said == result)):
                    self._result.set_result(result)

        return heard


@dataclass(frozen=True)
class Load:
    """What a closed loop of clients saw.

    Attributes
    ----------
    latencies : tuple of float
        Seconds from sending to believing, of every operation, in the order of completion.
    results : tuple of bytes
        The result of every operation, in the same order.
    finished : tuple of float
        When each was done, in seconds since the start.
    seconds : float
        From the first request to the last result.
    """

    latencies: tuple[float, ...]
    results: tuple[bytes, ...]
    finished: tuple[float, ...]
    seconds: float

    @property
    def throughput(self) -> float:
        """Operations per second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """Give the latency, in seconds, that so large a share of the operations stayed within."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def connected_clients(genesis: Genesis, number: int, patience: float = 1.0) -> list[Client]:
    """Connect so many clients, each with a new key."""
    clients = [Client(genesis, Ed25519PrivateKey.generate(), patience) for _ in range(number)]
    await asyncio.gather(*(client.connect() for client in clients))
    return clients


async def closed_loop(
    clients: list[Client], operations: int, operation: bytes = b"", done: Callable[[int], None] = lambda number: None
) -> Load:
    """Let clients submit one operation after the other, each waiting for its result, until all are done.

    Parameters
    ----------
    clients : list of Client
        Connected.
    operations : int
        How many there are in all.
    operation : bytes, optional
        What each of them is.
    done : callable, optional
        Hears after every operation how many are done.

    Raises
    ------
    UnansweredError
        If one is not answered.
    """
    seen: list[tuple[float, float, bytes]] = []
    numbers = iter(range(operations))
    began = time.perf_counter()

    async def one(client: Client) -> None:
        for _ in numbers:
            start = time.perf_counter()
            result = await client.submit(operation)
            end = time.perf_counter()
            seen.append((end - start, end - began, result))
            done(len(seen))

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(one(client))
    latencies, finished, results = zip(*seen, strict=True)
    return Load(latencies, results, finished, time.perf_counter() - began)
