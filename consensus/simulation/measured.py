"""What a measured simulation adds to replicas: prices of coding, silence, and the keeping of times."""

from collections.abc import Sequence

from consensus.machine import Decided, Effect, Event, Noted, Persist, Received, Send
from consensus.payload import Scatter
from consensus.pbft.replica import Replica
from consensus.simulation.costs import Costs
from consensus.simulation.events import Node, Observer
from consensus.simulation.network import NANO
from consensus.simulation.schemes import Meter


class Coding:
    """A replica whose meter is also charged for what its scheme does not see.

    Whoever comes to hold a batch that travels in chunks has encoded it: the leader to scatter it, the others to check
    what they rebuilt from the first chunks to arrive, plain or coded as chance has it. A slow leader stands still for
    `stall` seconds whenever a request comes.
    """

    def __init__(self, replica: Replica, meter: Meter, costs: Costs, stall: float) -> None:
        self._replica, self._meter, self._costs, self._stall = replica, meter, costs, stall
        self._scatter = Scatter(replica.epoch.quorums.n, replica.epoch.quorums.bound)
        self._inline = replica.config.inline

    def start(self) -> list[Effect]:
        """Begin without greetings: at genesis nobody missed anything."""
        return [effect for effect in self._replica.start() if type(effect) is not Send]

    def recover(self, records: list[bytes]) -> None:
        """Give the replica its records."""
        self._replica.recover(records)

    def step(self, event: Event) -> list[Effect]:
        """Take a step and charge for it."""
        effects = self._replica.step(event)
        for effect in effects:
            if type(effect) is Persist and len(effect.record) > self._inline:
                size, needed, chunks = len(effect.record), self._scatter.needed, self._scatter.chunks
                self._meter.seconds += self._costs.encode(size, needed, chunks)
                if not self._replica.leading:
                    self._meter.seconds += self._costs.rebuild(size, needed * (chunks - needed) // chunks)
        if self._stall and type(event) is Received and event.sender < 0:
            self._meter.seconds += self._stall
        return effects


class Silent:
    """A replica that never says anything."""

    def start(self) -> list[Effect]:
        """Do nothing."""
        return []

    def recover(self, records: list[bytes]) -> None:
        """Do nothing."""

    def step(self, event: Event) -> list[Effect]:
        """Do nothing."""
        return []


class Recorder(Observer):
    """Notes when replicas pass the phases of each number, and what crosses between sites."""

    def __init__(self, sites: Sequence[int]) -> None:
        self._away = [[other != own for other in sites] for own in sites]
        self.times: dict[tuple[str, int], list[tuple[int, int]]] = {}  # by phase and number: when, who
        self.wide_bytes = 0

    def leaves(self, now: int, node: Node, send: Send) -> None:
        """Count bytes that leave the site."""
        away = self._away[node.index]
        self.wide_bytes += len(send.data) * sum(away[target] for target in send.to)

    def noted(self, now: int, node: Node, effect: Noted) -> None:
        """Note a phase."""
        if effect.what in ("proposed", "prepared"):
            self.times.setdefault((effect.what, effect.seq), []).append((now, node.index))

    def decided(self, now: int, node: Node, effect: Decided) -> None:
        """Note an execution."""
        self.times.setdefault(("executed", effect.seq), []).append((now, node.index))

    def reached(self, what: str, seq: int, count: int) -> float:
        """Seconds at which `count` replicas had passed a phase; nan if they never did."""
        times = self.times.get((what, seq), [])
        return sorted(times)[count - 1][0] / NANO if len(times) >= count else float("nan")

    def decisions(self, count: int) -> list[int]:
        """Numbers that `count` replicas executed, in order."""
        return sorted(seq for (what, seq), times in self.times.items() if what == "executed" and len(times) >= count)
