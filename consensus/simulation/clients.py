"""Simulated clients: they sign requests, repeat them until enough replicas give the same reply, and keep the time."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from consensus.identity import Scheme, keypair, null_client_signature
from consensus.messages import Reply, Request, decode_as, encode, reply_statement, request_statement
from consensus.quorum import QuorumSystem
from consensus.simulation.events import Simulation
from consensus.simulation.network import NANO


@dataclass(frozen=True)
class Load:
    """What a client asks for.

    Attributes
    ----------
    requests : int
        How many; one is under way at a time.
    size : int
        Bytes of each operation, at least 20.
    think : float
        Closed loop: seconds from an answer to the next request.
    rate : float
        Open loop, where it is above 0: requests per second, at random times; one that finds the client busy waits,
        and its latency counts from when it came.
    timeout : float
        Seconds until a request is sent again, to all replicas; each further wait is that much longer.
    to_all : bool
        Send to all replicas at once, instead of the leader.
    """

    requests: int = 10
    size: int = 64
    think: float = 0.0
    rate: float = 0.0
    timeout: float = 1.0
    to_all: bool = False


@dataclass(frozen=True)
class Key:
    """A client's identity.

    Attributes
    ----------
    public : bytes
        Its public key, 32 bytes.
    sign : callable
        Signs bytes.
    """

    public: bytes
    sign: Callable[[bytes], bytes]


def ed25519_key(name: int) -> Key:
    """Make the key of a client with real signatures."""
    private, public = keypair(hashlib.sha256(b"simulated client" + name.to_bytes(16, "big")).digest())
    return Key(public, private.sign)


def null_key(name: int) -> Key:
    """Make the key of a client that signs with checksums; its public key is that of `ed25519_key`."""
    public = ed25519_key(name).public
    return Key(public, lambda data: null_client_signature(public, data))


class Client:
    """One client with a key of its own.

    Parameters
    ----------
    simulation : Simulation
        Where it lives.
    key : Key
        Who it is.
    chain : bytes
        Name of the chain.
    quorums : QuorumSystem
        A weak set of equal replies is believed.
    scheme : Scheme
        Verifies replicas' signatures.
    load : Load
        What it asks for.
    seed : int
        Of the times of an open loop.
    replicas : int
        To how many replicas it sends; to those of `quorums` by default.
    operations : sequence of bytes
        What it asks for, in place of operations made up.

    Attributes
    ----------
    node : int
        Its number on the network.
    latencies : list of float
        Seconds from request to belief, in order.
    asked : list of float
        When each request was first sent, in seconds.
    believed : list of float
        When its reply was.
    results : list of bytes
        What was believed.
    """

    def __init__(
        self,
        simulation: Simulation,
        key: Key,
        chain: bytes,
        quorums: QuorumSystem,
        scheme: Scheme,
        load: Load,
        seed: int = 0,
        replicas: int = 0,
        operations: Sequence[bytes] = (),
    ) -> None:
        self.key = key
        self.node = simulation.join(self, key.public)
        self.latencies: list[float] = []
        self.asked: list[float] = []
        self.believed: list[float] = []
        self.results: list[bytes] = []
        self.on_done: Callable[[], None] | None = None
        self._simulation = simulation
        self._chain = chain
        self._quorums = quorums
        self._scheme = scheme
        self._load = load
        self._everyone: Sequence[int] = range(replicas or quorums.n)
        self._operations = operations
        self._random = Random(f"{seed}/client/{self.node}")
        self._filler = key.public * (load.size // len(key.public) + 1)
        self._timestamp = 0
        self._came = 0  # when the request under way came, in nanoseconds
        self._due = 0.0  # when the next request of an open loop comes, in seconds
        self._view = 0
        self._replies: dict[bytes, int] = {}

    @property
    def done(self) -> bool:
        """Whether all its requests were answered."""
        return len(self.results) == self._load.requests

    def longest_after(self, second: float) -> float:
        """Give the longest wait for a reply so far, of which only what came after some second counts."""
        now = self._simulation.now / NANO
        ends = [*self.believed, now][: len(self.asked)]
        return max((end - max(begin, second) for begin, end in zip(self.asked, ends, strict=True)), default=0.0)

    def start(self) -> None:
        """Ask for the first time."""
        if self._load.requests:
            self._next()

    def _next(self) -> None:
        now = self._simulation.now / NANO
        if self._load.rate:
            self._due += self._random.expovariate(self._load.rate)
            self._simulation.at(max(now, self._due), lambda: self._ask(round(self._due * NANO)))
        else:
            pause = self._load.think if self._timestamp else 0.0
            self._simulation.after(pause, lambda: self._ask(self._simulation.now))

    def _ask(self, came: int) -> None:
        self._came = came
        self.asked.append(self._simulation.now / NANO)
        self._timestamp += 1
        self._replies = {}
        if self._operations:
            operation = self._operations[self._timestamp - 1]
        else:
            operation = (self._timestamp.to_bytes(8, "big") + self._filler)[: max(self._load.size, 20)]
        signature = self.key.sign(request_statement(self._chain, self._timestamp, operation))
        data = encode(Request(self.key.public, self._timestamp, operation, signature))
        first = self._everyone if self._load.to_all else (self._view % self._quorums.n,)
        self._simulation.post(self.node, first, data)
        self._wait(self._timestamp, data, 1)

    def _wait(self, timestamp: int, data: bytes, attempt: int) -> None:
        def again() -> None:
            if self._timestamp == timestamp and len(self.results) < timestamp:
                self._simulation.post(self.node, self._everyone, data)
                self._wait(timestamp, data, attempt + 1)

        self._simulation.after(self._load.timeout * attempt, again)

    def receive(self, now: int, sender: int, data: bytes) -> None:
        """Count a reply; believe it when a weak set of replicas says the same."""
        reply = decode_as(Reply, data)
        if reply is None or reply.timestamp != self._timestamp or len(self.results) >= self._timestamp:
            return
        about = reply_statement(self._chain, self.key.public, reply.timestamp, reply.result)
        if reply.signer != sender or not self._scheme.verify(sender, about, reply.signature):
            return
        signers = self._replies.get(reply.result, 0) | 1 << sender
        self._replies[reply.result] = signers
        if not self._quorums.is_weak(signers):
            return
        self._view = max(self._view, reply.view)
        self.results.append(reply.result)
        self.believed.append(now / NANO)
        self.latencies.append((now - self._came) / NANO)
        if not self.done:
            self._next()
        elif self.on_done:
            self.on_done()
