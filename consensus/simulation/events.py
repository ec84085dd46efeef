"""The simulator's event loop: drives state machines over a simulated network, disks and clocks.

Time is whole nanoseconds; what happens at the same time happens in the order in which it was scheduled. A node takes
one event at a time: with a cost model, its processor is busy until it has received the message, done the scheme's
work and sent its effects one after another, and what arrives meanwhile waits. Effects are carried out in order; a
send waits until all that was persisted before it is durable. While a sync is under way, later effects queue up
behind it and their records share the next one (group commit).
"""

import heapq
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from consensus.machine import (
    Answer,
    CancelTimer,
    Decided,
    Effect,
    Event,
    Fired,
    Forget,
    Noted,
    Persist,
    Received,
    Send,
    SetTimer,
    StateMachine,
    Timer,
)
from consensus.simulation.costs import FREE, Costs
from consensus.simulation.disk import DiskFault
from consensus.simulation.network import NANO, Network, nanos
from consensus.simulation.node import Endpoint, Node, Observer
from consensus.simulation.schemes import Meter
from consensus.simulation.trace import Trace, fingerprint

_ARRIVES, _THROUGH, _FIRES, _CALLS, _SYNCED, _WAKES = range(6)

__all__ = ["Node", "Observer", "Simulation"]


class Simulation:
    """Replicas, clients and the world between them.

    Parameters
    ----------
    make : callable
        Makes the machine of a node: ``make(node, meter)``; called again for every restart.
    identities : int or sequence of int
        How many replicas there are; or which replica each node is, where some have twins.
    network : Network
        Has room for all nodes and all clients.
    costs : Costs
        What receiving and sending take; the machines charge their signatures to their meter themselves.
    sync : float
        Seconds until a write is durable.
    observers : sequence of Observer
        Who is told.
    trace : Trace
        What is hashed and recorded.
    seed : int
        Of what crashes leave on disks.

    Attributes
    ----------
    now : int
        Nanoseconds.
    nodes : list of Node
        By number.
    steps : int
        How many events machines took.
    sent : dict
        Per kind of message: how many went out and their bytes, one for each destination.
    """

    def __init__(
        self,
        make: Callable[[int, Meter], StateMachine],
        identities: int | Sequence[int],
        network: Network,
        *,
        costs: Costs = FREE,
        sync: float = 0.0,
        observers: Sequence[Observer] = (),
        trace: Trace | None = None,
        seed: int = 0,
    ) -> None:
        self.now = 0
        self.steps = 0
        self.network = network
        self.trace = trace or Trace()
        self.sent: dict[str, list[int]] = {}
        self._make = make
        self._costs = costs
        self._charging = costs.message > 0
        self._sync = nanos(sync)
        self._observers = tuple(observers)
        self._heap: list[tuple[int, int, int, int, Any, Any, Any]] = []
        self._order = 0
        self._running = False
        self._disks = Random(f"{seed}/disk")
        identities = range(identities) if isinstance(identities, int) else identities
        self.nodes: list[Node] = []
        self._nodes_of: list[tuple[int, ...]] = []
        for index, identity in enumerate(identities):
            meter = Meter()
            node = Node(index, identity, make(index, meter))
            node.meter = meter
            self.nodes.append(node)
        for identity in range(max(identities) + 1):
            self._nodes_of.append(tuple(node.index for node in self.nodes if node.identity == identity))
        self._endpoints: list[Endpoint] = []
        self._clients: dict[bytes, int] = {}

    # -- what a scenario does -----------------------------------------------------------------------------------

    def join(self, endpoint: Endpoint, key: bytes) -> int:
        """Put a client on the network; gives its node number, which follows the replicas'."""
        self._endpoints.append(endpoint)
        self._clients[key] = len(self.nodes) + len(self._endpoints) - 1
        return self._clients[key]

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something at a time, or now if that is past."""
        self._push(max(self.now, nanos(seconds)), _CALLS, -1, call)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something after some seconds."""
        self._push(self.now + nanos(seconds), _CALLS, -1, call)

    def start(self) -> None:
        """Start all nodes that are not alive yet."""
        for node in self.nodes:
            if not node.up:
                self._begin(node)

    def run(self, until: float, steps: int = 0) -> bool:
        """Go on until a time in seconds, or until `stop`, or for so many more steps.

        Returns
        -------
        bool
            False if the limit of steps ended it.
        """
        end = nanos(until)
        limit = self.steps + steps if steps else 1 << 62
        heap = self._heap
        self._running = True
        while self._running and heap and heap[0][0] <= end:
            if self.steps >= limit:
                return False
            now, _, code, index, first, second, third = heapq.heappop(heap)
            self.now = now
            if code == _ARRIVES:
                if self.network.downlink:
                    through = self.network.receive(now, index, len(second))
                    if through > now:
                        self._push(through, _THROUGH, index, first, second, third)
                        continue
                self._deliver(index, first, second, third)
            elif code == _THROUGH:
                self._deliver(index, first, second, third)
            elif code == _FIRES:
                self._fire(self.nodes[index], first, second)
            elif code == _CALLS:
                first()
            elif code == _SYNCED:
                self._synced(self.nodes[index], first)
            else:
                self._wake(self.nodes[index], first)
        if self._running:
            self.now = max(self.now, end)
        return True

    def stop(self) -> None:
        """End `run` after the event under way."""
        self._running = False

    def crash(self, index: int, fault: DiskFault = "lost") -> None:
        """End a node's life: everything that was not durable yet is lost, or damaged as `fault` says."""
        node = self.nodes[index]
        if not node.up:
            return
        node.up = False
        node.life += 1
        node.timers.clear()
        node.inbox.clear()
        node.outbox.clear()
        node.syncing = 0
        node.waking = False
        kept = node.disk.crash(fault, self._disks)
        del node.unsynced[kept:]
        self._durable(node)
        self.trace.fault(self.now, index, "crash", fault)
        for observer in self._observers:
            observer.crashed(self.now, node)

    def restart(self, index: int) -> None:
        """Begin a new life from what the disk holds; a node that lives, or whose disk is full, is left alone."""
        node = self.nodes[index]
        if node.up or node.stopped:
            return
        node.machine = self._make(index, node.meter)
        node.machine.recover(node.disk.records())
        self.trace.fault(self.now, index, "restart")
        self._begin(node)

    def pause(self, index: int, seconds: float) -> None:
        """Stop a node's processor for a while; what arrives waits."""
        node = self.nodes[index]
        node.busy = max(node.busy, self.now) + nanos(seconds)

    def post(self, source: int, targets: Sequence[int], data: bytes) -> None:
        """Send a message from a client's node to replicas."""
        digest = fingerprint(data)
        for target in targets:
            departs = self.network.depart(self.now, source, len(data))
            for index in self._nodes_of[target]:
                for arrival in self.network.arrivals(departs, source, index):
                    self._push(arrival, _ARRIVES, index, -1, data, digest)
        self._count("client", len(targets), len(data))

    # -- events -------------------------------------------------------------------------------------------------

    def _push(self, at: int, code: int, index: int, first: Any = None, second: Any = None, third: Any = None) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, code, index, first, second, third))

    def _begin(self, node: Node) -> None:
        node.up = True
        node.busy = max(node.busy, self.now)
        for observer in self._observers:
            observer.started(self.now, node)
        self._finish(node, node.machine.start(), 0.0)

    def _deliver(self, index: int, sender: int, data: bytes, digest: bytes) -> None:
        if index >= len(self.nodes):
            self._endpoints[index - len(self.nodes)].receive(self.now, sender, data)
            return
        node = self.nodes[index]
        if node.up:
            self.trace.message(self.now, index, sender, digest, data)
            self._take(node, Received(sender, data), 0)

    def _fire(self, node: Node, timer: Timer, token: int) -> None:
        if node.timers.get(timer) == token:
            self._take(node, Fired(timer), token)

    def _take(self, node: Node, event: Event, token: int) -> None:
        if node.busy > self.now or node.inbox:
            node.inbox.append((event, token))
            self._wake_later(node)
        else:
            self._step(node, event, token)

    def _wake_later(self, node: Node) -> None:
        if not node.waking:
            node.waking = True
            self._push(max(node.busy, self.now), _WAKES, node.index, node.life)

    def _wake(self, node: Node, life: int) -> None:
        if node.life != life:
            return
        node.waking = False
        if node.busy <= self.now:
            self._step(node, *node.inbox.popleft())
        if node.inbox:
            self._wake_later(node)

    def _step(self, node: Node, event: Event, token: int) -> None:
        if type(event) is Fired:
            if node.timers.get(event.timer) != token:  # cancelled or set again while this waited
                return
            del node.timers[event.timer]
            self.trace.timer(self.now, node.index, event.timer)
        self.steps += 1
        effects = node.machine.step(event)
        if self._charging:
            size = len(event.data) if type(event) is Received else 0
            self._finish(node, effects, self._costs.transfer(size) + self._costs.hash(size) if size else 0.0)
        elif effects:
            self._finish(node, effects, 0.0)

    def _finish(self, node: Node, effects: Sequence[Effect], seconds: float) -> None:
        """Charge a step's work, then carry out what it led to."""
        if self._charging:
            self._charge(node, seconds + node.meter.take())
        if node.syncing or (self._charging and node.busy > self.now):
            self._queue(node, effects)
            if not node.syncing:
                node.syncing = -1
                self._push(node.busy, _SYNCED, node.index, node.life)
        else:
            self._carry(node, effects)

    def _charge(self, node: Node, seconds: float) -> int:
        work = nanos(seconds)
        node.busy = max(node.busy, self.now) + work
        node.work += work
        return node.busy

    # -- effects ------------------------------------------------------------------------------------------------

    def _carry(self, node: Node, effects: Sequence[Effect]) -> None:
        """Carry effects out now; where syncing takes time, those from the first record on wait for that."""
        first = next((at for at, effect in enumerate(effects) if type(effect) is Persist), -1) if self._sync else -1
        if first >= 0:
            self._carry(node, effects[:first])
            self._queue(node, effects[first:])
            node.syncing = len(node.outbox)
            if all(self._write(node, effect) for effect in node.outbox if isinstance(effect, Persist | Forget)):
                self._push(self.now + self._sync, _SYNCED, node.index, node.life)
            return
        life = node.life
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self._send(node, effect)  # type: ignore[arg-type]
            elif kind is Persist or kind is Forget:
                if not self._write(node, effect):  # type: ignore[arg-type]
                    return
                self._sync_now(node)
            else:
                self._minor(node, effect)
            if node.life != life:
                return

    def _queue(self, node: Node, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, SetTimer | CancelTimer):  # a timer that was cancelled must not fire meanwhile
                self._minor(node, effect)
            else:
                node.outbox.append(effect)

    def _synced(self, node: Node, life: int) -> None:
        """Go on with effects that waited: for the processor (`syncing` is -1), or for a sync of the first of them."""
        if node.life != life:
            return
        covered, node.syncing = node.syncing, 0
        if covered > 0:
            self._sync_now(node)
            for _ in range(covered):
                effect = node.outbox.popleft()
                if type(effect) is Send:
                    self._send(node, effect)
                elif not isinstance(effect, Persist | Forget):
                    self._minor(node, effect)
                if node.life != life:
                    return
        if node.outbox:
            waiting = tuple(node.outbox)
            node.outbox.clear()
            self._carry(node, waiting)

    def _write(self, node: Node, operation: Persist | Forget) -> bool:
        node.unsynced.append(operation)
        if node.disk.write(operation):
            return True
        node.stopped = node.disk.writes != node.disk.crash_at
        self.crash(node.index, node.disk.fault)
        return False

    def _sync_now(self, node: Node) -> None:
        node.disk.sync()
        self._durable(node)

    def _durable(self, node: Node) -> None:
        for operation in node.unsynced:
            for observer in self._observers:
                observer.persisted(self.now, node, operation)
        node.unsynced = []

    def _send(self, node: Node, send: Send) -> None:
        data = send.data
        size = len(data)
        for observer in self._observers:
            observer.leaves(self.now, node, send)
        self._count(send.kind, len(send.to), size)
        digest = fingerprint(data)
        network = self.network
        departs = self.now
        for target in send.to:
            if self._charging:
                departs = self._charge(node, self._costs.transfer(size))
            left = network.depart(departs, node.index, size)
            for index in self._nodes_of[target]:
                for arrival in network.arrivals(left, node.index, index):
                    self._order += 1
                    heapq.heappush(self._heap, (arrival, self._order, _ARRIVES, index, node.identity, data, digest))

    def _count(self, kind: str, messages: int, size: int) -> None:
        count = self.sent.get(kind)
        if count is None:
            count = self.sent[kind] = [0, 0]
        count[0] += messages
        count[1] += messages * size

    def _minor(self, node: Node, effect: Effect) -> None:
        if type(effect) is SetTimer:
            self._order += 1
            node.timers[effect.timer] = token = self._order
            delay = int(effect.seconds * node.rate * NANO)
            self._push(self.now + delay, _FIRES, node.index, effect.timer, token)
        elif type(effect) is CancelTimer:
            node.timers.pop(effect.timer, None)
        elif type(effect) is Decided:
            self.trace.decided(self.now, node.index, effect)
            for observer in self._observers:
                observer.decided(self.now, node, effect)
        elif type(effect) is Noted:
            for observer in self._observers:
                observer.noted(self.now, node, effect)
        elif type(effect) is Answer:
            self._answer(node, effect)

    def _answer(self, node: Node, answer: Answer) -> None:
        self._count("reply", 1, len(answer.data))
        client = self._clients.get(answer.client)
        if client is None:
            return
        departs = self._charge(node, self._costs.transfer(len(answer.data))) if self._charging else self.now
        left = self.network.depart(departs, node.index, len(answer.data))
        for arrival in self.network.arrivals(left, node.index, client):
            self._push(arrival, _ARRIVES, client, node.identity, answer.data, b"")
