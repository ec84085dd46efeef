"""What lives on the simulated network: nodes that run machines, other endpoints, and those who watch."""

from collections import deque
from typing import Protocol

from consensus.machine import Decided, Effect, Event, Forget, Noted, Persist, Send, StateMachine, Timer
from consensus.simulation.disk import Disk
from consensus.simulation.schemes import Meter


class Endpoint(Protocol):
    """Somebody on the network who is no replica: a client."""

    def receive(self, now: int, sender: int, data: bytes) -> None:
        """Take a message from a replica."""
        ...


class Observer:
    """Hears of everything that happens; the base class ignores it all."""

    def started(self, now: int, node: "Node") -> None:
        """Hear that a node begins a life, before its first event."""

    def crashed(self, now: int, node: "Node") -> None:
        """Hear that a node's life ended."""

    def leaves(self, now: int, node: "Node", send: Send) -> None:
        """Hear of a send whose records are durable, as it is carried out."""

    def persisted(self, now: int, node: "Node", record: Persist | Forget) -> None:
        """Hear of a record that is durable now."""

    def decided(self, now: int, node: "Node", effect: Decided) -> None:
        """Hear of a decision."""

    def noted(self, now: int, node: "Node", effect: Noted) -> None:
        """Hear of whatever a machine finds worth noting."""


class Node:
    """A place where a machine runs: its disk, timers, processor and queue.

    Attributes
    ----------
    index : int
        The node's number.
    identity : int
        The replica that it is; twins are two nodes of one identity.
    machine : StateMachine
        Of the current life.
    life : int
        How many lives ended; what was scheduled in an earlier one is void.
    up : bool
        Whether it is alive.
    stopped : bool
        Whether its disk was full; it never comes back.
    busy : int
        Until when its processor has work.
    work : int
        Nanoseconds of work so far.
    rate : float
        How fast its clock runs; 1.05 makes its timers late by 5 %.
    """

    __slots__ = (
        "busy", "disk", "identity", "inbox", "index", "life", "machine", "meter", "outbox", "rate", "stopped",
        "syncing", "timers", "unsynced", "up", "waking", "work",
    )  # fmt: skip

    def __init__(self, index: int, identity: int, machine: StateMachine) -> None:
        self.index = index
        self.identity = identity
        self.machine = machine
        self.disk = Disk()
        self.meter = Meter()
        self.timers: dict[Timer, int] = {}
        self.inbox: deque[tuple[Event, int]] = deque()  # with a timer's token
        self.outbox: deque[Effect] = deque()
        self.unsynced: list[Persist | Forget] = []
        self.syncing = 0  # how many effects at the head of the outbox the sync under way covers
        self.life = 0
        self.up = False
        self.stopped = False
        self.waking = False
        self.busy = 0
        self.work = 0
        self.rate = 1.0
