"""The simulated network: who hears whom, how late, and what goes wrong on the way.

Times are integer nanoseconds. One message of s bytes from a to b travels so:

1. it leaves a's uplink at ``departs = max(now, uplink free) + 8s / uplink``; the next one leaves after it;
2. its last bit reaches b at ``departs + rtt(a, b) / 2``, times a lognormal factor where there is jitter;
3. b's downlink lets it through at ``max(arrival - 8s / uplink + 8s / downlink, downlink free + 8s / downlink)``,
   never before it arrived: sending and receiving overlap (cut-through). Downlinks serve in the order of arrival.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from consensus.quorum import bits_of

NANO = 1_000_000_000

RoundTrip = Callable[[int, int], float]
"""Round-trip time in seconds from the first node to the second."""


def nanos(seconds: float) -> int:
    """Turn seconds into whole nanoseconds."""
    return round(seconds * NANO)


def uniform(rtt: float) -> RoundTrip:
    """Give every pair of nodes the same round-trip time, in seconds."""
    return lambda source, target: rtt


def placed(matrix: Sequence[Sequence[float]], sites: Sequence[int]) -> RoundTrip:
    """Look round-trip times up in a matrix of sites, in seconds; ``sites[i]`` is the row of node i."""
    return lambda source, target: matrix[sites[source]][sites[target]]


@dataclass(frozen=True)
class Cut:
    """Messages from some nodes to some others are lost for a time: half a partition.

    Attributes
    ----------
    begin, end : float
        Seconds of simulated time; lost is what is sent from `begin` until just before `end`.
    sources, targets : int
        Bit sets of nodes.
    """

    begin: float
    end: float
    sources: int
    targets: int


def partition(begin: float, end: float, groups: Sequence[Sequence[int]]) -> tuple[Cut, ...]:
    """Cut every group off from the others, in both directions; nodes in no group hear and reach everybody."""
    sets = [bits_of(group) for group in groups if group]
    return tuple(Cut(begin, end, a, b) for a in sets for b in sets if a != b)


@dataclass(frozen=True)
class Faults:
    """What goes wrong by chance on every link until `heal`.

    Attributes
    ----------
    loss, duplicate : float
        Probability that a message is lost; that it arrives twice.
    reorder, reorder_s : float
        Probability that a message is held back, and for up to how many seconds.
    tail, tail_s : float
        Probability that a message is late by a Pareto distributed time (shape 1.5), and its least value in seconds.
    cuts : tuple of Cut
        Partitions.
    heal : float
        From this second on (global stabilisation) nothing goes wrong any more.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.0
    tail: float = 0.0
    tail_s: float = 0.0
    cuts: tuple[Cut, ...] = ()
    heal: float = math.inf


class Network:
    """Links between nodes.

    Parameters
    ----------
    nodes : int
        Number of nodes: replicas first, then whatever else sends (twins, clients).
    rtt : callable
        Round-trip times; half of one is the one-way delay.
    jitter : float
        Standard deviation of the logarithm of a message's delay; its median stays ``rtt / 2``.
    uplink, downlink : float
        Bits per second of every node; 0 for no limit.
    faults : Faults
        What goes wrong.
    seed : int
        Of all chance here; every kind of chance has its own stream, so that one does not shift another.
    """

    def __init__(
        self,
        nodes: int,
        rtt: RoundTrip,
        *,
        jitter: float = 0.0,
        uplink: float = 0.0,
        downlink: float = 0.0,
        faults: Faults | None = None,
        seed: int = 0,
    ) -> None:
        self.jitter = jitter
        self.uplink = uplink
        self.downlink = downlink
        self.faults = faults or Faults()
        self._delay = [[nanos(rtt(a, b) / 2) for b in range(nodes)] for a in range(nodes)]
        self._sent = [0] * nodes  # when each uplink is free
        self._received = [0] * nodes  # when each downlink is free
        self._heal = nanos(self.faults.heal) if math.isfinite(self.faults.heal) else 1 << 62
        self._cuts = [(nanos(c.begin), nanos(c.end), c.sources, c.targets) for c in self.faults.cuts]
        self._jitter, self._loss, self._copies, self._order, self._tail = (
            Random(f"{seed}/{purpose}") for purpose in ("jitter", "loss", "duplicate", "reorder", "tail")
        )
        chances = (self.faults.loss, self.faults.duplicate, self.faults.reorder, self.faults.tail)
        self._plain = not (any(chances) or self._cuts or jitter)

    def depart(self, now: int, source: int, size: int) -> int:
        """Queue a message at a node's uplink; gives when its last bit has left."""
        if not self.uplink:
            return now
        departs = max(now, self._sent[source]) + nanos(8 * size / self.uplink)
        self._sent[source] = departs
        return departs

    def arrivals(self, departs: int, source: int, target: int) -> tuple[int, ...]:
        """Give when the copies of a message arrive that left at `departs`; none when it is lost."""
        delay = self._delay[source][target]
        if self._plain:
            return (departs + delay,)
        if self.jitter:
            delay = int(delay * self._jitter.lognormvariate(0.0, self.jitter))
        if departs >= self._heal:
            return (departs + delay,)
        for begin, end, sources, targets in self._cuts:
            if begin <= departs < end and sources >> source & 1 and targets >> target & 1:
                return ()
        faults = self.faults
        if faults.loss and self._loss.random() < faults.loss:
            return ()
        if faults.reorder and self._order.random() < faults.reorder:
            delay += nanos(self._order.random() * faults.reorder_s)
        if faults.tail and self._tail.random() < faults.tail:
            delay += nanos(self._tail.paretovariate(1.5) * faults.tail_s)
        if faults.duplicate and self._copies.random() < faults.duplicate:
            return (departs + delay, departs + delay + 1 + int(delay * self._copies.random()))
        return (departs + delay,)

    def receive(self, now: int, target: int, size: int) -> int:
        """Let a message whose last bit is here through a node's downlink; gives when it is through."""
        if not self.downlink:
            return now
        takes = nanos(8 * size / self.downlink)
        overlap = nanos(8 * size / self.uplink) if self.uplink else 0
        through = max(now, now - overlap + takes, self._received[target] + takes)
        self._received[target] = through
        return through
