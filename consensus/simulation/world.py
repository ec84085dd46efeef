"""A scenario and its run: who takes part, what goes wrong and when. Equal scenarios are equal runs, bit for bit."""

import hashlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import IO

from msgspec import Struct

from consensus.identity import Ed25519, Null, Scheme, keypair
from consensus.machine import Application, Decided, StateMachine
from consensus.messages import COMMIT, PREPARE, Request, decode_as
from consensus.pbft.config import Config, Protocol, RegionMap, SchemeFactory, Timing
from consensus.pbft.membership import change
from consensus.pbft.replica import Replica
from consensus.protocols import find
from consensus.quorum import QuorumSystem, bits_of
from consensus.simulation.adversaries import KINDS
from consensus.simulation.adversary import Setting
from consensus.simulation.application import Chain
from consensus.simulation.clients import Client, Key, Load, ed25519_key, null_key
from consensus.simulation.costs import costs
from consensus.simulation.disk import DiskFault
from consensus.simulation.events import Node, Observer, Simulation
from consensus.simulation.invariants import Invariants, Violation
from consensus.simulation.network import NANO, Faults, Network
from consensus.simulation.schemes import Meter, Metered, NullSum
from consensus.simulation.trace import Trace

CHAIN = hashlib.sha256(b"simulated chain").digest()
DISK_KINDS = ("disk-rot", "disk-full")
"""Kinds of faulty replicas that run the honest code on a disk that fails."""

ADMIN = 1 << 32  # the number of the client that may change the membership
STEPS = 3_000_000  # more than any run takes that gets anywhere

MakeReplica = Callable[[Config, SchemeFactory, Application], StateMachine]


class Outage(Struct, frozen=True):
    """A replica crashes and comes back.

    Attributes
    ----------
    node : int
        Which.
    at : float
        When, in seconds; unused where `write` is given.
    write : int
        During which write to its disk, counted from 1; 0 for a crash between two events.
    down : float
        Seconds until it is started again.
    fault : str
        What becomes of writes that were not durable: see `consensus.simulation.disk`.
    """

    node: int
    at: float
    write: int
    down: float
    fault: DiskFault


class Pause(Struct, frozen=True):
    """A replica's processor stops for a while."""

    node: int
    at: float
    seconds: float


class Scenario(Struct, frozen=True):
    """Everything that a run depends on.

    Attributes
    ----------
    seed : int
        Of all chance within the run.
    protocol : str
        Name of the protocol.
    regions : tuple of tuple of int
        The replicas of each region.
    faulty : tuple of (int, str)
        Faulty replicas and how they are: a name of `adversaries.KINDS` or one of `DISK_KINDS`.
    twins : tuple of int
        Replicas that run twice with one key; their second nodes come after all first ones. They are faulty too.
    spare, changes : int, tuple of (float, tuple of int)
        Replicas that are no members at first, next after the members; and who is to be a member from when on: the
        admin asks for one change after the other, each so many seconds after the last was done.
    faults : Faults
        Of the network, until they heal.
    rtt, jitter : float
        Largest round-trip time in seconds, and spread of delays.
    outages, pauses, rates : tuple
        What happens to correct replicas; how fast each clock runs.
    clients, requests, rate, to_all : int, int, float, bool
        How many clients, requests of each, and requests per second of an open loop (0: closed); whether they send to
        all replicas at once.
    sync : float
        Seconds a write takes.
    profile : str
        What processors cost: see `consensus.simulation.costs`.
    scheme : str
        ``null``, ``sum`` (bundles like those of BLS) or ``ed25519``.
    period, window, in_flight, batch, inline : int
        As in `Config`.
    view : float
        The view timer; the others follow from it.
    """

    seed: int
    protocol: str
    regions: RegionMap
    faulty: tuple[tuple[int, str], ...] = ()
    twins: tuple[int, ...] = ()
    spare: int = 0
    changes: tuple[tuple[float, tuple[int, ...]], ...] = ()
    faults: Faults = Faults(heal=0.0)
    rtt: float = 0.05
    jitter: float = 0.0
    outages: tuple[Outage, ...] = ()
    pauses: tuple[Pause, ...] = ()
    rates: tuple[float, ...] = ()
    clients: int = 1
    requests: int = 5
    rate: float = 0.0
    to_all: bool = False
    sync: float = 0.0
    profile: str = "free"
    scheme: str = "null"
    period: int = 4
    window: int = 8
    in_flight: int = 2
    batch: int = 4
    inline: int = 1024
    view: float = 2.0

    @property
    def n(self) -> int:
        """Number of replicas."""
        return sum(len(region) for region in self.regions)


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes
    ----------
    violations : tuple of Violation
        Broken invariants; empty if all is well.
    decisions : tuple of (int, bytes)
        Numbers and digests of batches, in order.
    sent : dict
        Messages and bytes by kind.
    steps : int
        Events that replicas took.
    seconds : float
        Simulated time.
    latencies : tuple of float
        Of all requests, in seconds.
    trace : str
        Hash over all events.
    """

    violations: tuple[Violation, ...]
    decisions: tuple[tuple[int, bytes], ...]
    sent: dict[str, tuple[int, int]]
    steps: int
    seconds: float
    latencies: tuple[float, ...]
    trace: str


class World(Observer):
    """A scenario as it is run: the simulation with its replicas, clients, watchers and planned faults.

    Parameters
    ----------
    scenario : Scenario
        What is to happen.
    replica : callable
        Makes a replica from its configuration, schemes and application.
    protocol : Protocol, optional
        In place of the scenario's, by name.
    record : binary file, optional
        Where the trace is written.

    Attributes
    ----------
    quorums : QuorumSystem
        Of the first epoch.
    epochs : dict
        The members of every epoch so far, by number.
    correct : tuple of int
        The replicas that are to keep the rules.
    applications : dict
        By node: what its machine executes.
    """

    def __init__(
        self,
        scenario: Scenario,
        replica: MakeReplica = Replica,
        protocol: Protocol | None = None,
        record: IO[bytes] | None = None,
    ) -> None:
        n = scenario.n
        self.scenario = scenario
        self.protocol = protocol or find(scenario.protocol)
        self.quorums: QuorumSystem = self.protocol.quorums(scenario.regions)
        self.epochs = {0: tuple(range(n))}
        self.applications: dict[int, Chain] = {}
        self._replica = replica
        self._kinds = dict(scenario.faulty)
        self._replicas = n + scenario.spare
        self._identities = (*range(self._replicas), *scenario.twins)
        self._costs = costs(scenario.profile)
        self._keys = [keypair(hashlib.sha256(b"replica %d" % place).digest()) for place in range(self._replicas)]
        self._publics = tuple(public for _, public in self._keys)
        faulty = {*self._kinds, *scenario.twins}
        self.correct = tuple(place for place in range(self._replicas) if place not in faulty)
        self.invariants = Invariants(
            CHAIN,
            lambda epoch: self.protocol.quorums(self._regions(self.epochs[epoch])),
            self._scheme(0, self._publics),
            self.correct,
            decisive=PREPARE if self.protocol.fast else COMMIT,
            window=scenario.window,
            places=lambda epoch: bits_of(self.epochs[epoch]),
        )
        self.simulation = Simulation(
            self._make,
            self._identities,
            self._network(),
            costs=self._costs,
            sync=scenario.sync,
            observers=(self.invariants, self),
            trace=Trace(record),
            seed=scenario.seed,
        )
        self.clients = [self._client(name) for name in range(scenario.clients)]
        if scenario.changes:
            self.clients.append(self._client(ADMIN, self._changes()))
        self._plan()

    def _network(self) -> Network:
        scenario, places = self.scenario, Random(f"{self.scenario.seed}/places")
        nodes = len(self._identities) + scenario.clients + bool(scenario.changes)
        at = [complex(places.random(), places.random()) for _ in range(nodes)]
        return Network(
            nodes,
            lambda a, b: scenario.rtt * (0.05 + abs(at[a] - at[b]) / 2**0.5),
            jitter=scenario.jitter,
            faults=scenario.faults,
            seed=scenario.seed,
        )

    def _regions(self, places: tuple[int, ...]) -> RegionMap:
        """Leave members where they are; newcomers go to one region after the other."""
        n, regions = self.scenario.n, self.scenario.regions
        joined = [
            tuple(place for place in places if place in region or (place >= n and place % len(regions) == index))
            for index, region in enumerate(regions)
        ]
        return tuple(region for region in joined if region)

    def _scheme(self, own: int, members: tuple[bytes, ...]) -> Scheme:
        match self.scenario.scheme:
            case "ed25519":
                scheme: Scheme = Ed25519(self._keys[own][0], members)
            case "sum":
                scheme = NullSum(own, len(members), 8)
            case _:
                scheme = Null(own, len(members))
        return scheme

    def _make(self, index: int, meter: Meter) -> StateMachine:
        if index in self._kinds and self._kinds[index] not in DISK_KINDS:
            return KINDS[self._kinds[index]](self._setting(index, meter))
        return self._honest(index, meter)

    def _honest(self, index: int, meter: Meter) -> StateMachine:
        prices = self._costs.signatures("bls" if self.scenario.scheme == "sum" else "ed25519", self.scenario.n)
        client_s = self._costs.ed25519_verify
        application = self.applications[index] = Chain()
        return self._replica(
            self._config(self._identities[index]),
            lambda members, own: Metered(self._scheme(own, members), prices, meter, client_s),
            application,
        )

    def _config(self, index: int) -> Config:
        scenario = self.scenario
        return Config(
            chain=CHAIN,
            own=index,
            members=self._publics[: scenario.n],
            protocol=self.protocol,
            regions=self._regions,
            admin=self._key(ADMIN).public if scenario.changes else b"",
            period=scenario.period,
            window=scenario.window,
            in_flight=scenario.in_flight,
            batch_requests=scenario.batch,
            inline=scenario.inline,
            timing=Timing(scenario.view, scenario.view / 4, scenario.view / 40, scenario.view / 4),
        )

    def _setting(self, index: int, meter: Meter) -> Setting:
        return Setting(
            config=self._config(index),
            quorums=self.quorums,
            schemes={place: self._scheme(place, self._publics) for place in sorted(self._kinds)},
            make=lambda: self._honest(index, meter),
            random=Random(f"{self.scenario.seed}/adversary/{index}"),
            side=next((cut.sources for cut in self.scenario.faults.cuts), 0),
        )

    def _key(self, name: int) -> Key:
        return (ed25519_key if self.scenario.scheme == "ed25519" else null_key)(name)

    def _client(self, name: int, operations: tuple[bytes, ...] = ()) -> Client:
        scenario = self.scenario
        load = Load(scenario.requests, rate=scenario.rate, timeout=scenario.view, to_all=scenario.to_all)
        if operations:
            load = Load(len(operations), think=scenario.changes[0][0], timeout=scenario.view)
        client = Client(
            self.simulation,
            self._key(name),
            CHAIN,
            self.quorums,
            self._scheme(0, self._publics),
            load,
            scenario.seed,
            self._replicas,
            operations,
        )
        client.on_done = self._client_done
        return client

    def _changes(self) -> tuple[bytes, ...]:
        lists = (members for _, members in self.scenario.changes)
        return tuple(
            change(tuple(self._publics[place] if place in members else b"" for place in range(max(members) + 1)))
            for members in lists
        )

    def decided(self, now: int, node: Node, effect: Decided) -> None:
        """Hear which membership changes were decided, and so who the next epoch's members are."""
        for encoded, result in zip(effect.requests, effect.results, strict=True):
            request = decode_as(Request, encoded) if result.startswith(b"ok ") and self.scenario.changes else None
            if request is not None and request.client == self._key(ADMIN).public:
                _, members = self.scenario.changes[request.timestamp - 1]
                self.epochs[effect.epoch + 1] = members

    def _client_done(self) -> None:
        if all(client.done for client in self.clients):
            self.simulation.stop()

    # -- planned faults -----------------------------------------------------------------------------------------

    def _plan(self) -> None:
        scenario, simulation = self.scenario, self.simulation
        for place, rate in enumerate(scenario.rates):
            simulation.nodes[place].rate = rate
        for outage in scenario.outages:
            if outage.write:
                simulation.nodes[outage.node].disk.crash_at = outage.write
                simulation.nodes[outage.node].disk.fault = outage.fault
            else:
                simulation.at(outage.at, lambda outage=outage: simulation.crash(outage.node, outage.fault))  # type: ignore[misc]
        for pause in scenario.pauses:
            simulation.at(pause.at, lambda pause=pause: simulation.pause(pause.node, pause.seconds))  # type: ignore[misc]
        random = Random(f"{scenario.seed}/disks")
        for place, kind in scenario.faulty:
            if kind == "disk-full":
                simulation.nodes[place].disk.capacity = random.randrange(1, 1 << 14)
            elif kind == "disk-rot":
                simulation.at(random.random() * 10, lambda place=place: self._rot(place, random))  # type: ignore[misc]
        simulation.at(scenario.faults.heal, self._heal)

    def _rot(self, place: int, random: Random) -> None:
        self.simulation.crash(place)
        self.simulation.nodes[place].disk.rot(random)
        self.simulation.restart(place)

    def _heal(self) -> None:
        for node in self.simulation.nodes:
            node.disk.crash_at = 0
            self.simulation.restart(node.index)

    def crashed(self, now: int, node: Node) -> None:
        """Start a crashed replica again after its time."""
        down = next((outage.down for outage in self.scenario.outages if outage.node == node.index), 0.0)
        self.simulation.after(down, lambda: self.simulation.restart(node.index))

    # -- running ------------------------------------------------------------------------------------------------

    @property
    def patience(self) -> float:
        """Seconds after stabilisation, or after it was asked, until a request must be done.

        Timers grow linearly, so before the network heals a replica can have come to wait a times the view timer, with
        ``a (a+1) / 2`` timers in that time. From there on, every one of `bound` faulty leaders may use up one timer
        more, one more may be spent in joining the others, and a client may sit out its own timer once.
        """
        view, heal = self.scenario.view, self.scenario.faults.heal
        grown = int((2 * heal / view) ** 0.5) + 1
        waits = sum(grown + turn for turn in range(1, self.quorums.bound + 3))
        return float(1.06 * view * (waits + grown) + 10 * view)

    def run(self) -> Outcome:
        """Run until every client is served, or should have been."""
        scenario, simulation, invariants = self.scenario, self.simulation, self.invariants
        violations = invariants.violations
        try:
            simulation.start()
            for client in self.clients:
                client.start()
            last = scenario.faults.heal + scenario.requests * (self.patience + 1 / (scenario.rate or 1))
            if not simulation.run(last, STEPS):
                violations.append(Violation(simulation.now, -1, "storm", f"more than {STEPS} steps"))
            simulation.run(
                simulation.now / NANO + scenario.view, 100_000
            )  # what is under way may still break something
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
            violations.append(Violation(simulation.now, -1, "exception", detail))
        self._check_liveness(violations)
        states = {place: self.applications[place] for place in self.correct}
        invariants.finish(simulation.now, {place: (app.count, app.snapshot()) for place, app in states.items()})
        return Outcome(
            violations=tuple(violations),
            decisions=tuple((seq, invariants.history[seq].digest) for seq in sorted(invariants.history)),
            sent={kind: (count, size) for kind, (count, size) in sorted(simulation.sent.items())},
            steps=simulation.steps,
            seconds=simulation.now / NANO,
            latencies=tuple(latency for client in self.clients for latency in client.latencies),
            trace=simulation.trace.hexdigest(),
        )

    def _check_liveness(self, violations: list[Violation]) -> None:
        for number, client in enumerate(self.clients):
            waited = client.longest_after(self.scenario.faults.heal)
            if waited > self.patience:
                detail = f"client {number} waited {waited:.1f} s, {self.patience:.1f} s are the bound"
                violations.append(Violation(self.simulation.now, -1, "liveness", detail))
            elif not client.done:
                violations.append(Violation(self.simulation.now, -1, "liveness", f"client {number} is not done"))


def run(
    scenario: Scenario,
    *,
    replica: MakeReplica = Replica,
    protocol: Protocol | None = None,
    record: IO[bytes] | None = None,
) -> Outcome:
    """Run a scenario: see `World` for the parameters."""
    return World(scenario, replica, protocol, record).run()
