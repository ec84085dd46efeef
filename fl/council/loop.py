"""Replicas in one process: a deterministic event loop with delays and without a clock of its own."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from consensus.machine import (
    Answer,
    CancelTimer,
    Decided,
    Effect,
    Event,
    Fired,
    Noted,
    Received,
    Send,
    SetTimer,
    StateMachine,
    Timer,
)
from consensus.messages import Bundle, decode, encode
from fl.council.faults import LYING_HEAD, SILENT
from shards.errors import FedshardError

Nanos = int
MOST_EVENTS = 2_000_000
UNDECIDED = 1 << 62  # beyond every sequence number
"""A decision that takes more than this is none: more replicas must be faulty than the protocol survives."""


@dataclass
class Seen:
    """What was seen of one decision, in simulated nanoseconds.

    Attributes
    ----------
    decided : dict
        What each replica decided, in order.
    done : dict
        When each replica decided what was asked for.
    notes : list of (int, int, Noted)
        Time, replica, note.
    refused : list of (int, str)
        For every proposal that a replica did not vote for: the leader whose it was, and why.
    answers : dict
        When each replica's answer reached the client, for the first of its answers.
    messages, bytes : Counter
        Messages and their bytes by kind.
    """

    decided: dict[int, list[Decided]] = field(default_factory=dict)
    done: dict[int, Nanos] = field(default_factory=dict)
    notes: list[tuple[Nanos, int, Noted]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    answers: dict[int, Nanos] = field(default_factory=dict)
    messages: "Counter[str]" = field(default_factory=Counter)
    bytes: "Counter[str]" = field(default_factory=Counter)


class Loop:
    """Drives replicas: messages arrive after the delay between two, timers fire, and nothing is lost.

    Processing takes no simulated time. Records are not made durable: the replicas of one process live and die
    together, and what a run needs to go on is in its ledger.

    Parameters
    ----------
    machines : sequence of StateMachine
        The replicas, by number.
    delays : array of int64, shape (n, n)
        One-way delays in nanoseconds.
    leader : callable
        Tells who leads the view that a replica is in.
    faulty : mapping of int to str
        Kinds of `fl.council.faults` by replica.
    """

    def __init__(
        self,
        machines: Sequence[StateMachine],
        delays: NDArray[np.int64],
        leader: Callable[[int], int],
        faulty: Mapping[int, str],
    ) -> None:
        self._machines, self._leader, self._faulty = machines, leader, faulty
        self._delays: list[list[int]] = delays.tolist()
        self._queue: list[tuple[Nanos, int, int, Event, int]] = []
        self._timers: dict[tuple[int, Timer], int] = {}
        self._count = 0
        self._under_way = 0  # messages in the queue
        self._client, self._request, self._decided_at = 0, b"", UNDECIDED
        self.now: Nanos = 0
        self.seen = Seen()
        for number, machine in enumerate(machines):
            self._carry_out(number, machine.start())

    def begin(self, client: int, request: bytes) -> None:
        """Begin to watch for the decision about a request, of a client beside a replica."""
        self.seen, self._client, self._request, self._decided_at = Seen(), client, request, UNDECIDED

    def submit(self, replicas: Sequence[int]) -> None:
        """Let the client send its request to replicas."""
        for replica in replicas:
            at = self.now + self._delays[self._client][replica]
            self._push(at, replica, Received(-1, self._request))

    def run_until(self, replicas: Sequence[int], deadline: Nanos) -> bool:
        """Run until all these replicas have decided, or until the deadline; says whether they have.

        Raises
        ------
        FedshardError
            If that takes more than `MOST_EVENTS`.
        """
        missing = set(replicas) - set(self.seen.done)
        for _ in range(MOST_EVENTS):
            if not missing:
                return True
            if not self._queue or self._queue[0][0] > deadline:
                self.now = deadline
                return False
            missing.discard(self._step())
        raise FedshardError("the council does not come to a decision: more replicas are faulty than it survives")

    def settle(self) -> None:
        """Deliver the messages that are still under way, and let no more time pass than that takes."""
        while self._under_way:
            self._step()

    def _step(self) -> int:
        """Handle the next event; returns the replica that it happened to."""
        self.now, _, number, event, generation = heappop(self._queue)
        if isinstance(event, Received):
            self._under_way -= 1
        elif self._timers.get((number, event.timer)) != generation:
            return -1
        self._carry_out(number, self._machines[number].step(event))
        return number if number in self.seen.done else -1

    def _carry_out(self, number: int, effects: Sequence[Effect]) -> None:
        kind = self._faulty.get(number)
        for effect in effects:
            match effect:
                case Send() if kind != SILENT:
                    self._send(number, effect, kind)
                case SetTimer(timer, seconds):
                    self._count += 1
                    self._timers[number, timer] = self._count
                    self._push(self.now + round(seconds * 1e9), number, Fired(timer), self._count)
                case CancelTimer(timer):
                    self._timers.pop((number, timer), None)
                case Decided():
                    self.seen.decided.setdefault(number, []).append(effect)
                    if self._request in effect.requests:
                        self._decided_at = effect.seq
                        self.seen.done[number] = self.now
                case Noted():
                    self.seen.notes.append((self.now, number, effect))
                    if effect.what == "checkpoint" and effect.seq >= self._decided_at:
                        self.seen.done.setdefault(number, self.now)  # also if it took the state over from others
                    if effect.what == "refused" and number not in self._faulty:
                        self.seen.refused.append((self._leader(number), effect.detail))
                case Answer() if kind != SILENT:
                    self.seen.messages["answer"] += 1
                    self.seen.answers.setdefault(number, self.now + self._delays[number][self._client])
                case _:  # durable records: see the class
                    pass

    def _send(self, source: int, effect: Send, kind: str | None) -> None:
        data = _forged(effect.data) if kind == LYING_HEAD else effect.data
        self.seen.messages[effect.kind] += len(effect.to)
        self.seen.bytes[effect.kind] += len(effect.to) * len(data)
        event = Received(source, data)
        for target in effect.to:
            self._push(self.now + self._delays[source][target], target, event)

    def _push(self, at: Nanos, number: int, event: Event, generation: int = 0) -> None:
        self._count += 1
        self._under_way += isinstance(event, Received)
        heappush(self._queue, (at, self._count, number, event, generation))


def _forged(data: bytes) -> bytes:
    """Spoil the signatures of a bundle that a lying head passes on; its own votes are left alone."""
    message = decode(data)
    if not isinstance(message, Bundle):
        return data
    spoilt = bytes(byte ^ 0xFF for byte in message.signature)
    return encode(
        Bundle(message.phase, message.epoch, message.view, message.seq, message.digest, message.signers, spoilt)
    )
