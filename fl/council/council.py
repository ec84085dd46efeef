"""A council simulated in one process: it makes its replicas, asks them, and keeps the chain of what they decide."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from consensus.ledger import Block, Genesis, Ledger
from consensus.machine import Effect, Event, Received
from consensus.messages import Request, decode_as, encode, request_statement
from consensus.pbft.config import Config, Protocol, Timing
from consensus.pbft.replica import Replica
from consensus.protocols import find
from consensus.regions import Regions, group
from consensus.simulation.latency import network, place
from fl.council import NETWORK, SIMULATED, keys
from fl.council.faults import FALSE_AGGREGATE, NO_FAULTS, Faults
from fl.council.keys import SharedScheme
from fl.council.loop import Loop, Seen
from shards.errors import FedshardError, InputError

LEAST, MOST = 4, 255
_TIMING = Timing(view=8.0, fallback=2.0, bundle=0.2, status=2.0)  # an earth apart: three WAN hops take half a second
_RETRY_NS = 2_000_000_000
_MOST_RETRIES = 400
_MILLI = 1e6  # nanoseconds

Judge = Callable[[int, bytes], str]
"""Says why a replica must not vote for an operation; empty when it may."""

Forge = Callable[[bytes], bytes]
"""Makes the false operation that a lying leader proposes in place of the true one."""


@dataclass(frozen=True)
class Decision:
    """How one operation was agreed on.

    Attributes
    ----------
    block : Block
        Of the chain.
    refused : tuple of (int, int, str)
        Leaders whose proposals were not voted for, by how many correct replicas, and why.
    phases_ms : dict
        Simulated milliseconds: ``order`` (until the proposal that was decided), ``prepare``, ``commit``, ``answer``.
    messages, bytes : dict
        By kind; see `consensus.machine.Send`.
    """

    block: Block
    refused: tuple[tuple[int, int, str], ...]
    phases_ms: Mapping[str, float]
    messages: Mapping[str, int]
    bytes: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Plan:
    """Who is in a council and where, before it exists.

    Attributes
    ----------
    protocol : Protocol
        How it agrees.
    delays : array, shape (n, n)
        One-way delays between its replicas, in seconds.
    regions : Regions
        The regions of its replicas.
    bound : int
        F, the most faulty replicas that it survives.
    faulty : dict
        Kind of fault by replica.
    """

    protocol: Protocol
    delays: NDArray[np.float64]
    regions: Regions
    bound: int
    faulty: Mapping[int, str]

    @classmethod
    def of(cls, size: int, protocol: str = "regional", faults: Faults = NO_FAULTS) -> "Plan":
        """Place replicas and their faults.

        Raises
        ------
        InputError
            If there can be no such council.
        """
        if not LEAST <= size <= MOST:
            raise InputError(f"a council of {size} replicas: it needs {LEAST} to {MOST}")
        kind, delays = find(protocol), place(size, network(NETWORK))
        regions = group(np.round(delays * 2e6).astype(np.int64))
        bound = kind.quorums(regions.members).bound
        return cls(kind, delays, regions, bound, faults.place(regions, bound))


class Council:
    """Replicas in this process that agree on operations, one after the other.

    Everything they do is a function of the arguments and of the operations: neither clock nor chance comes in.

    Parameters
    ----------
    plan : Plan
        Who is in it, and which replicas misbehave.
    folder : Path
        Where ``genesis.json`` and ``ledger.jsonl`` are kept.
    private : Path
        Where the keys are kept.
    seed : int
        The keys derive from it.
    forge : callable
        See `Forge`.

    Attributes
    ----------
    genesis : Genesis
        Who decides.
    ledger : Ledger
        All blocks, those of an earlier attempt of the run included.
    decided : int
        Blocks agreed on, or followed again, by these very replicas.
    regions : Regions
        The regions of the replicas.
    bound : int
        F.
    faulty : dict
        Kind of fault by replica.
    correct : tuple of int
        The other replicas.
    schemes : tuple of SharedScheme
        By replica.
    struck : set of int
        Heads whose region found them lying: passed over from then on.

    Raises
    ------
    InputError
        If the folder holds another council's chain.
    """

    def __init__(
        self, plan: Plan, folder: Path, private: Path, seed: int, forge: Forge = lambda operation: operation[::-1]
    ) -> None:
        self.regions, self.bound, self.faulty = plan.regions, plan.bound, plan.faulty
        size = plan.regions.n
        self.correct = tuple(replica for replica in range(size) if replica not in self.faulty)
        pairs = [keys.derived_key(seed, replica) for replica in range(size)]
        publics = tuple(public for _, public in pairs)
        self._client = keys.derived_key(seed, keys.SERVER)
        self.genesis = Genesis(
            plan.protocol.name,
            tuple(public.hex() for public in publics),
            self.regions.members,
            f"{SIMULATED}: all private keys derive from the run's seed and are kept in its private folder",
        )
        self.genesis.write(folder)
        keys.keep(private, seed, size)
        self.ledger = Ledger(folder)
        self.decided = 0
        self.struck: set[int] = set()
        self._known: set[tuple[bytes, bytes, bytes]] = set()
        self.schemes = tuple(SharedScheme(key, public, publics, self._known) for key, public in pairs)
        self._docket = _Docket()
        self._replicas = tuple(self._replica(own, publics, plan.protocol) for own in range(size))
        machines = [
            _LyingLeader(replica, self._false_request(own, forge))
            if self.faulty.get(own) == FALSE_AGGREGATE
            else replica
            for own, replica in enumerate(self._replicas)
        ]
        self._loop = Loop(machines, np.round(plan.delays * 1e9).astype(np.int64), self._leader_seen_by, self.faulty)

    @property
    def last(self) -> Block | None:
        """The newest block of these replicas."""
        return self.ledger.blocks[self.decided - 1] if self.decided else None

    def agree(self, operation: bytes, judge: Judge) -> Decision:
        """Ask the council to decide an operation, and append the block to the ledger, durably.

        Parameters
        ----------
        operation : bytes
            What is proposed.
        judge : callable
            What correct replicas think of operations.

        Raises
        ------
        FedshardError
            If the council comes to no decision, or decided otherwise in an earlier attempt.
        """
        request = self._request(operation)
        self._docket.judge = judge
        leader = self._leader_seen_by(max(self.correct, key=lambda replica: self._replicas[replica].view))
        loop, begin = self._loop, self._loop.now
        loop.begin(leader, request)
        to: Sequence[int] = (leader,)
        for _ in range(_MOST_RETRIES):
            loop.submit(to)
            if loop.run_until(self.correct, loop.now + _RETRY_NS):
                break
            to = range(len(self._replicas))  # in vain: from now on everybody is asked, and watches the leader
        else:
            raise FedshardError("the council comes to no decision: more replicas are faulty than it survives")
        loop.settle()
        block = self._append(loop.seen)
        self._known.clear()
        counts = Counter(loop.seen.refused)
        refused = tuple((liar, count, why) for (liar, why), count in sorted(counts.items()))
        phases = _phases(loop.seen, begin, self._replicas[self.correct[0]].leader(block.view), block.seq, self.bound)
        return Decision(block, refused, phases, dict(loop.seen.messages), dict(loop.seen.bytes))

    def follow(self, block: Block) -> None:
        """Go once more through how a block of the ledger was agreed on, so that the replicas stand where they stood.

        Raises
        ------
        FedshardError
            If they do not come to the very same block.
        """
        (operation,) = block.operations
        self.agree(operation, lambda replica, other: "" if other == operation else "not what the ledger says")

    def _append(self, seen: Seen) -> Block:
        """Append what was decided, and return the block with what was asked for.

        All correct replicas decided the same; one that took a state over from the others did not see all of it.
        """
        for decided in max((seen.decided.get(replica, []) for replica in self.correct), key=len):
            block = Block.following(self.last, self.genesis.chain, decided)
            self.ledger.append(block)
            self.decided += 1
        return block

    def _leader_seen_by(self, replica: int) -> int:
        return self._replicas[replica].leader(self._replicas[replica].view)

    def _request(self, operation: bytes) -> bytes:
        return _signed_request(*self._client, self.genesis.chain, self._loop.now, operation)

    def _false_request(self, own: int, forge: Forge) -> Callable[[Request], bytes | None]:
        """Give the way in which a lying leader turns a request into one of its own; None where it does not lie."""
        scheme, public, chain = self.schemes[own], self.genesis.publics[own], self.genesis.chain

        def lie(request: Request) -> bytes | None:
            operation = forge(request.operation)
            if operation == request.operation:
                return None
            signature = scheme.sign(request_statement(chain, request.timestamp, operation))
            return encode(Request(public, request.timestamp, operation, signature))

        return lie

    def _replica(self, own: int, publics: tuple[bytes, ...], protocol: Protocol) -> Replica:
        config = Config(
            self.genesis.chain,
            own,
            publics,
            protocol,
            regions=lambda places: self.regions.covering(places).members,
            timing=_TIMING,
        )
        application = _Application(own, self._docket, self.faulty.get(own) == FALSE_AGGREGATE)
        return Replica(config, lambda members, own: self.schemes[own], application)


class _Docket:
    """What is being decided: the same for all replicas of the process."""

    def __init__(self) -> None:
        self.judge: Judge = lambda replica, operation: "nothing is being decided"


class _Application:
    """What one replica executes: it only keeps the digest of all that was decided."""

    def __init__(self, own: int, docket: _Docket, approving: bool) -> None:
        self._own, self._docket, self._approving = own, docket, approving
        self._history = bytes(32)

    def check(self, operation: bytes) -> str:
        """Judge an operation; one that lies about the aggregate finds nothing wrong with any."""
        return "" if self._approving else self._docket.judge(self._own, operation)

    def execute(self, operation: bytes) -> bytes:
        """Take note of an operation."""
        self._history = hashlib.sha256(self._history + operation).digest()
        return self._history

    def snapshot(self) -> bytes:
        """Return the digest of everything executed."""
        return self._history

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot."""
        self._history = snapshot


class _LyingLeader:
    """A replica that, as leader, proposes what it made of a client's request; else it keeps requests to itself."""

    def __init__(self, replica: Replica, lie: Callable[[Request], bytes | None]) -> None:
        self._replica, self._lie = replica, lie

    def start(self) -> list[Effect]:
        """Begin."""
        return self._replica.start()

    def recover(self, records: list[bytes]) -> None:
        """Take back a state."""
        self._replica.recover(records)

    def step(self, event: Event) -> list[Effect]:
        """Take one event; a request is replaced or dropped."""
        request = decode_as(Request, event.data) if isinstance(event, Received) else None
        false = self._lie(request) if request is not None else None
        if false is None:
            return self._replica.step(event)
        return self._replica.step(Received(-1, false)) if self._replica.leading else []


def _signed_request(key: Ed25519PrivateKey, public: bytes, chain: bytes, timestamp: int, operation: bytes) -> bytes:
    signature = key.sign(request_statement(chain, timestamp, operation))
    return encode(Request(public, timestamp, operation, signature))


def _phases(seen: Seen, begin: int, leader: int, seq: int, bound: int) -> dict[str, float]:
    """Cut the time from the request to F+1 answers into phases, as the leader of the decided view saw them."""
    at = dict.fromkeys(("proposed", "prepared", "committed"), begin)
    for time, replica, note in seen.notes:
        if replica == leader and note.seq == seq and note.what in at:
            at[note.what] = time
    answered = sorted(seen.answers.values())[bound]
    marks = [begin]
    for mark in (at["proposed"], at["prepared"], at["committed"], answered):
        marks.append(max(mark, marks[-1]))
    names = ("order", "prepare", "commit", "answer")
    return {name: (marks[index + 1] - marks[index]) / _MILLI for index, name in enumerate(names)}
