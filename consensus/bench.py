"""One protocol under one load on one simulated network, measured: latency by phase, messages, bytes, processor time.

The replicas are those that run on real machines; time, network and processors are modelled (`consensus.simulation`).
Every figure is a function of its `Case`, and names it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from consensus.machine import StateMachine
from consensus.messages import LIMIT, PREPARE, Batch, Proposal, Reply, Request, Vote, encode
from consensus.payload import Scatter
from consensus.pbft.config import Config, Protocol, Timing
from consensus.pbft.replica import Replica
from consensus.protocols import find
from consensus.quorum import QuorumSystem, Threshold
from consensus.regions import Regions, group
from consensus.simulation.application import Chain
from consensus.simulation.clients import Client, Load, null_key
from consensus.simulation.costs import SERVER, Costs, Signatures
from consensus.simulation.events import Simulation
from consensus.simulation.latency import Latency, Placing, assign
from consensus.simulation.measured import Coding, Recorder, Silent
from consensus.simulation.network import NANO, Network
from consensus.simulation.schemes import Meter, Metered, simulated
from consensus.simulation.vectorised import Decision, Flat, decide
from shards.errors import InputError

Leader = Literal["first", "best", "worst"]
LEADERS: tuple[Leader, ...] = ("first", "best", "worst")
PROTOCOLS = ("flat", "flat-mac", "regional", "regional-fast", "two-layer", "star")
FAULTS = ("none", "silent", "heads", "slow-leader")
KINDS = ("vote", "backup", "chunk", "checkpoint", "view", "sync", "request", "client", "reply")

BLS_FROM = 40
"""Replicas from which bundles are BLS sums by default (one sum costs less than 13 single checks)."""
IN_FLIGHT = 128  # numbers a leader may have under way: the processors, not the window, limit a saturated run
MOST = 2000
INLINE = 16 << 10  # payloads up to so many bytes travel in the proposal in any case
CLIENT_SIGNATURE = 4  # bytes of a simulated client's; a real one has 64
STALL = 0.5  # seconds for which a slow leader stands still when a request comes


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes
    ----------
    protocol : str
        One of `PROTOCOLS`, or one of your own as ``module:NAME``; ``flat-mac`` is ``flat`` with HMACs in place of
        signatures.
    n : int
        Number of replicas, at least 4.
    latency : Latency
        Round trips between sites.
    network : str
        Its name, for the record.
    regions : int or str
        How many, ``"auto"`` or ``"sites"``; see `consensus.regions.group`.
    placing : str
        How replicas are placed on sites; see `consensus.simulation.latency.assign`.
    leader : str
        ``first``: the replica placed first. ``best``, ``worst``: the one whose round trip to its q-th nearest replica
        is least or greatest. The same for all protocols.
    chunks : bool
        Whether payloads travel in erasure-coded chunks, or inline from the leader.
    payload : int
        Bytes of each request's operation.
    link : float
        Bits per second of every replica's and client's uplink; downlinks are as fast.
    signatures : str
        ``auto``, ``ed25519`` or ``bls``. ``auto``: BLS where votes travel in bundles and n is at least `BLS_FROM`.
    costs : Costs
        What processors take.
    jitter : bool
        Whether messages stray from the median as the network's figures say.
    faults : str
        One of `FAULTS`.
    faulty : int
        How many are silent, for ``silent`` and ``heads``.
    rounds : int
        Requests, one after another, or altogether where there is a load.
    rate : float
        Requests per second at random times; 0 for one after another, inf for all at once.
    seed : int
        Of everything random.
    """

    protocol: str
    n: int
    latency: Latency
    network: str
    regions: int | Literal["auto", "sites"] = "auto"
    placing: Placing = "even"
    leader: Leader = "best"
    chunks: bool = True
    payload: int = 1000
    link: float = 1e9
    signatures: str = "auto"
    costs: Costs = SERVER
    jitter: bool = False
    faults: str = "none"
    faulty: int = 0
    rounds: int = 5
    rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            find(self.protocol)
        if self.n < 4:
            raise InputError(f"nodes is {self.n}: at least 4 are needed to survive one fault")
        if self.n > MOST:
            raise InputError(f"nodes is {self.n}: at most {MOST} are simulated, each as a replica of its own")
        if self.faults not in FAULTS:
            raise InputError(f"faults {self.faults!r}: not known; use {', '.join(FAULTS)}")
        if self.signatures not in ("auto", "ed25519", "bls"):
            raise InputError(f"signatures {self.signatures!r}: not known; use auto, ed25519 or bls")
        if self.payload > LIMIT // 2:
            raise InputError(f"payload is {self.payload:,} bytes: a batch holds at most {LIMIT // 2:,}")
        if min(self.payload, self.link, self.rounds) <= 0:
            raise InputError("payload, link and rounds must all be above 0")

    @property
    def name(self) -> str:
        """The protocol, and how payloads travel."""
        return self.protocol if self.chunks else f"{self.protocol} inline"


@dataclass(frozen=True)
class Place:
    """Where a case's replicas are: replica 0 leads.

    Attributes
    ----------
    sites : array, shape (n,)
        Index of each replica's site.
    rtt_s : array, shape (n + 1, n + 1)
        Round trips in seconds; the last row is the client's, at the leader's site.
    regions : Regions
        The map of regions.
    """

    sites: NDArray[np.intp]
    rtt_s: NDArray[np.float64]
    regions: Regions

    @classmethod
    def of(cls, case: Case) -> "Place":
        """Place the replicas of a case, the leader first, and group them."""
        sites = assign(case.n, case.latency, case.placing, case.seed)
        if case.leader != "first":
            apart = case.latency.rtt_ms[np.ix_(sites, sites)].copy()
            np.fill_diagonal(apart, 0)
            reach = np.sort(apart, axis=1)[:, Threshold(case.n).quorum - 1]
            first = int(reach.argmin() if case.leader == "best" else reach.argmax())
            sites = np.concatenate([sites[first : first + 1], np.delete(sites, first)])
        at = np.append(sites, sites[0])
        rtt = case.latency.rtt_ms[np.ix_(at, at)] / 1000
        np.fill_diagonal(rtt, 0)
        micros = np.rint((rtt + rtt.T) * 5e5).astype(np.int64)[:-1, :-1]
        return cls(sites, rtt, group(micros, case.regions))


@dataclass(frozen=True)
class Figures:
    """What was measured; latencies in seconds, one per request, counts per decision.

    Attributes
    ----------
    case : Case
        Of what.
    scheme : str
        Signature scheme.
    ran : str
        The protocol that ran: ``flat`` for a regional one whose map has a single region.
    sizes : tuple of int
        Replicas of each region.
    bound : int
        Faulty replicas that are survived wherever they are.
    client : array
        From a request to the reply that makes a weak quorum at the client.
    commit : array
        From the proposal until ``q = (n+F)//2 + 1`` replicas have executed it, whatever the protocol's own quorum.
    phases : dict
        Means that add up to the client's: ``prepare`` from the proposal until one more replica is prepared than may
        be faulty, ``commit`` from there until as many have executed, ``client`` the rest: the request's way and the
        replies'.
    messages, bytes : dict
        Per decision by kind, see `consensus.machine.Send`; ``client`` are requests, ``reply`` replies.
    wide_bytes : float
        Bytes per decision between replicas of different sites.
    busiest : float
        Seconds of processor time per decision of the replica that needs most.
    decisions : int
        Decided numbers.
    throughput : float
        Decisions per second, from the first proposal until the last was executed.
    events : int
        Events that replicas took in all.
    """

    case: Case
    scheme: str
    ran: str
    sizes: tuple[int, ...]
    bound: int
    client: NDArray[np.float64]
    commit: NDArray[np.float64]
    phases: dict[str, float]
    messages: dict[str, float]
    bytes: dict[str, float]
    wide_bytes: float
    busiest: float
    decisions: int
    throughput: float
    events: int


def measure(case: Case) -> Figures:
    """Simulate a case until all its requests are answered.

    Raises
    ------
    InputError
        If the case can't be: more faults than its protocol survives.
    """
    place = Place.of(case)
    protocol = protocol_of(case, place.regions)
    scheme = scheme_of(case, protocol)
    quorums = protocol.quorums(place.regions.members)
    silent = _silent(case, place.regions, quorums.bound)
    prices = case.costs.signatures(scheme, case.n)
    client_s = prices.verify_s if scheme == "mac" else case.costs.ed25519_verify
    timing = timing_for(case, place, prices)

    def make(index: int, meter: Meter) -> StateMachine:
        if index in silent:
            return Silent()
        config = Config(
            chain=bytes(32),
            own=index,
            members=tuple(b"replica".ljust(28) + own.to_bytes(4, "big") for own in range(case.n)),
            protocol=protocol,
            regions=lambda places: place.regions.members,
            period=IN_FLIGHT,
            window=2 * IN_FLIGHT,
            in_flight=IN_FLIGHT,
            batch_requests=1,
            inline=INLINE if case.chunks else LIMIT,
            timing=timing,
        )
        replica = Replica(
            config,
            lambda members, own: Metered(simulated(prices, own, len(members)), prices, meter, client_s),
            Chain(),
        )
        return Coding(replica, meter, case.costs, STALL if case.faults == "slow-leader" and index == 0 else 0.0)

    clients = min(case.rounds, IN_FLIGHT) if case.rate else 1
    at = [*range(case.n), *[case.n] * clients]
    rtt = place.rtt_s.tolist()
    network = Network(
        case.n + clients,
        lambda source, target: rtt[at[source]][at[target]],
        jitter=float(np.median(case.latency.jitter)) if case.jitter else 0.0,
        uplink=case.link,
        downlink=case.link,
        seed=case.seed,
    )
    recorder = Recorder(place.sites.tolist())
    simulation = Simulation(make, case.n, network, costs=case.costs, observers=[recorder], seed=case.seed)
    rate = 0.0 if math.isinf(case.rate) else case.rate / clients
    load = Load(requests=-(-case.rounds // clients), size=case.payload, rate=rate, timeout=1e6)
    reader = simulated(prices, 0, case.n)
    asking = [
        Client(simulation, null_key(index), bytes(32), quorums, reader, load, case.seed) for index in range(clients)
    ]
    simulation.start()
    for client in asking:
        client.on_done = lambda: simulation.stop() if all(client.done for client in asking) else None
        client.start()
    simulation.run(until=timing.view * (case.rounds + 100))
    if not all(client.done for client in asking):
        raise InputError(f"{case.name}, n = {case.n}, {case.faults}: requests went unanswered")
    # What is still on its way when the last client has its answer belongs to the decisions too.
    simulation.run(until=simulation.now / NANO + timing.bundle + 2 * float(place.rtt_s.max()) + timing.fallback / 4)
    return _figures(case, protocol, scheme, place, quorums, recorder, simulation, asking)


def vectorised(case: Case) -> tuple[Flat, Decision]:
    """Work out one decision of `flat` or `flat-mac` with inline payloads and neither faults nor jitter.

    Exactly what `measure` simulates for the first request, up to 128 replicas; above that the votes of replicas with
    larger numbers are one or two bytes longer, which is left out.
    """
    place = Place.of(case)
    scheme = scheme_of(case, find("flat"))
    prices = case.costs.signatures(scheme, case.n)
    signature, client, digest = bytes(prices.length), bytes(32), bytes(32)
    request = encode(Request(client, 1, bytes(case.payload), bytes(CLIENT_SIGNATURE)))
    batch = encode(Batch(0, (request,)))
    delay = np.rint(place.rtt_s[:-1, :-1] / 2 * NANO).astype(np.int64)
    flat = Flat(
        delay=delay,
        quorum=Threshold(case.n).quorum,
        leader=0,
        request=len(request),
        proposal=len(encode(Proposal(0, 0, 1, digest, batch, b"", len(batch), signature))),
        vote=len(encode(Vote(PREPARE, 0, 0, 1, digest, 1, signature))),
        reply=len(encode(Reply(client, 1, 0, 1, bytes(16), signature))),
        scheme=scheme,
        client_s=prices.verify_s if scheme == "mac" else case.costs.ed25519_verify,
        costs=case.costs,
        uplink=case.link,
        downlink=case.link,
    )
    return flat, decide(flat)


def protocol_of(case: Case, regions: Regions) -> Protocol:
    """Find the protocol that a case runs: with a single region the regional ones are of no use, and it is `flat`."""
    name = "flat" if case.protocol == "flat-mac" else case.protocol
    return find("flat" if regions.k == 1 and name in ("regional", "two-layer") else name)


def scheme_of(case: Case, protocol: Protocol) -> str:
    """Choose the signature scheme of a case."""
    if case.protocol == "flat-mac":
        return "mac"
    if case.signatures != "auto":
        return case.signatures
    return "bls" if protocol.name != "flat" and case.n >= BLS_FROM else "ed25519"


def timing_for(case: Case, place: Place, prices: Signatures) -> Timing:
    """Choose timers that no fault-free decision sets off: twice what the way, the links and the processors take."""
    rtt = place.rtt_s
    regions = (tuple(range(case.n)),) if case.protocol == "star" else place.regions.members
    needed = Scatter(case.n, Threshold(case.n).bound).needed
    carried = case.payload * case.n / (needed if case.chunks else 1) + 1000 * case.n
    work = case.n * (prices.verify_s + case.costs.message * 4) + case.costs.encode(case.payload, needed, case.n)
    busy = 8 * carried / case.link + work
    inside = max(float(rtt[np.ix_(region, region)].max()) for region in regions)
    wait = 4 * float(rtt.max()) + 4 * busy * (IN_FLIGHT if case.rate else 1) + STALL
    bundle = 2 * inside + 2 * busy * (IN_FLIGHT if case.rate else 1)
    return Timing(view=8 * wait, fallback=2 * wait, bundle=bundle, status=8 * wait)


def _silent(case: Case, regions: Regions, bound: int) -> frozenset[int]:
    if case.faults not in ("silent", "heads"):
        return frozenset()
    if case.faulty > bound:
        raise InputError(
            f"faults {case.faults}:{case.faulty}: {case.protocol} with {case.n} replicas survives {bound}; take fewer"
        )
    if case.faults == "silent":
        return frozenset(Random(f"{case.seed}/silent").sample(range(1, case.n), case.faulty))
    return frozenset([region[0] for region in regions.members if 0 not in region][: case.faulty])


def _figures(
    case: Case,
    protocol: Protocol,
    scheme: str,
    place: Place,
    quorums: QuorumSystem,
    recorder: Recorder,
    simulation: Simulation,
    clients: Sequence[Client],
) -> Figures:
    threshold = Threshold(case.n)
    weak = quorums.bound + 1
    seqs = recorder.decisions(weak)
    count = len(seqs)
    begun = np.array([recorder.reached("proposed", seq, 1) for seq in seqs])
    prepared = np.array([recorder.reached("prepared", seq, weak) for seq in seqs])
    executed = np.array([recorder.reached("executed", seq, weak) for seq in seqs])
    commit = np.array([recorder.reached("executed", seq, threshold.quorum) for seq in seqs]) - begun
    client = np.array([latency for asking in clients for latency in asking.latencies])
    phases = {"prepare": float((prepared - begun).mean()), "commit": float((executed - prepared).mean())}
    phases["client"] = float(client.mean()) - sum(phases.values())
    return Figures(
        case=case,
        scheme=scheme,
        ran=protocol.name,
        sizes=place.regions.sizes,
        bound=quorums.bound,
        client=client,
        commit=commit,
        phases=phases,
        messages={kind: number / count for kind, (number, _) in sorted(simulation.sent.items())},
        bytes={kind: size / count for kind, (_, size) in sorted(simulation.sent.items())},
        wide_bytes=recorder.wide_bytes / count,
        busiest=max(node.work for node in simulation.nodes) / NANO / count,
        decisions=count,
        throughput=count / float(executed.max() - begun.min()),
        events=simulation.steps,
    )
