"""When another map of regions pays: the controller's keep, move or recut, on modelled decision latency.

The outcome is data, to be committed as it stands: whoever executes it does not compute it again. All arithmetic is in
whole microseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from consensus.quorum import Threshold
from consensus.regions import Regions, by_centrality, group
from shards.controller import Candidate, Kind, Policy, decide

Micros = NDArray[np.int64]

DRIFT = 0.1
"""A round trip has drifted when it changed by more than this part since the map was made."""

POLICY = Policy(alpha=1.0, hysteresis=1.1, early=0.0)
"""Running and switching are both time in which decisions wait, so one costs as much as the other."""


@dataclass(frozen=True)
class Outlook:
    """What the map will be used for.

    Attributes
    ----------
    leader : int
        Who leads; always the head of its own region.
    decisions : int
        How many decisions the map is to serve: the horizon.
    period : int
        Decisions per checkpoint; heads rotate with every one.
    turn : int
        How often heads have rotated so far.
    bundle_us : int
        How long a head waits for its region's last votes.
    fallback_us : int
        How long replicas wait before they do without a head.
    """

    leader: int
    decisions: int
    period: int = 16
    turn: int = 0
    bundle_us: int = 50_000
    fallback_us: int = 500_000


@dataclass(frozen=True)
class Regrouping:
    """A decision about the map, ready to be committed.

    Attributes
    ----------
    kind : str
        ``"keep"``, ``"move"`` (the same regions with other members or another order of heads) or ``"recut"``.
    regions : Regions
        The map from now on.
    triggers : tuple of str
        What has changed since the map was made: ``"churn"``, ``"strikes"``, ``"drift"``. If nothing has, no cost is
        looked at: heads rotate on purpose, and a new map would begin with the central ones again.
    latency_us : int
        Modelled mean time of a decision with it.
    kept_us : int
        The same with the old map.
    switching_us : int
        What the change costs, once.
    reason : str
        One sentence for a person.
    """

    kind: Kind
    regions: Regions
    triggers: tuple[str, ...]
    latency_us: int
    kept_us: int
    switching_us: int
    reason: str

    def to_json(self) -> bytes:
        """Give the bytes to commit."""
        return msgspec.json.encode(self)


def regroup(
    current: Regions,
    made_with_us: Micros,
    rtt_us: Micros,
    places: Sequence[int],
    outlook: Outlook,
    struck: frozenset[int] = frozenset(),
    policy: Policy = POLICY,
) -> Regrouping:
    """Decide whether to keep the map, move replicas or heads within its regions, or cut it anew.

    Parameters
    ----------
    current : Regions
        The map in use.
    made_with_us, rtt_us : array of int64, shape (places, places)
        Round trips in microseconds when the map was made, and now; see `consensus.rtt.clipped`.
    places : sequence of int
        The members of the epoch. Those who left are dropped from the map, and new ones join, before anything else.
    outlook : Outlook
        What the map is for.
    struck : frozenset of int
        Replicas with strikes: no head while a member of their region has none.
    policy : Policy
        When a change is worth its price.

    Returns
    -------
    Regrouping
        A keep without modelling anything if there was no trigger.

    Notes
    -----
    Keep costs the modelled latency of all decisions; where a struck replica is head, each also waits for the
    fallback. A change costs one decision with the old map, to commit it, and two round trips to the new head for the
    slowest of those that get another one: a TCP and a TLS handshake.
    """
    kept, own = current.covering(places), np.ix_(places, places)
    triggers = tuple(
        name
        for name, pulled in (
            ("churn", kept != current),
            ("strikes", any(head in struck for head in _heads(kept, outlook, 0))),
            ("drift", _drifted(made_with_us[own], rtt_us[own])),
        )
        if pulled
    )
    if not triggers:
        return Regrouping("keep", kept, (), 0, 0, 0, "nothing has changed")
    fresh = group(rtt_us[own], kept.k).renamed(places)
    options: list[tuple[Kind, Regions]] = [
        ("keep", kept),
        ("move", ordered(kept, rtt_us, outlook, struck)),
        ("move", ordered(_nearest(kept, rtt_us), rtt_us, outlook, struck)),
        ("recut", ordered(fresh, rtt_us, outlook, struck)),
    ]
    latencies = [mean_latency_us(rtt_us, regions, outlook, struck) for _, regions in options]
    candidates = [
        Candidate(
            kind,
            {"regions": regions.members},
            latency * outlook.decisions,
            0 if kind == "keep" else latencies[0] + reconnecting_us(kept, regions, rtt_us, outlook),
        )
        for (kind, regions), latency in zip(options, latencies, strict=True)
    ]
    chosen = decide(candidates, policy)
    return Regrouping(
        chosen.kind, options[chosen.index][1], triggers, latencies[chosen.index], latencies[0],
        chosen.switching_cost, chosen.reason,
    )  # fmt: skip


def mean_latency_us(rtt_us: Micros, regions: Regions, outlook: Outlook, struck: frozenset[int] = frozenset()) -> int:
    """Model the mean time of a decision over the horizon, while heads rotate."""
    turns = min(-(-outlook.decisions // outlook.period), max(regions.sizes))
    total = 0
    for ahead in range(turns):
        heads = _heads(regions, outlook, ahead)
        total += latency_us(rtt_us, regions, heads, outlook.leader, outlook.bundle_us)
        total += outlook.fallback_us * any(head in struck for head in heads)
    return total // turns


def latency_us(rtt_us: Micros, regions: Regions, heads: Sequence[int], leader: int, bundle_us: int) -> int:
    """Model the time from a proposal until a quorum of replicas has decided, without faults or load.

    Parameters
    ----------
    rtt_us : array of int64
        Round trips between places in microseconds; each way takes half.
    regions : Regions
        Whose votes travel together.
    heads : sequence of int
        The head of each region; the leader's own is the leader.
    leader : int
        Who proposes.
    bundle_us : int
        A head sends when it has all its region's votes, or this long after its own; later votes go on as they come.

    Returns
    -------
    int
        Microseconds: proposal to heads and on to members; twice votes to the head, bundles between heads, and the
        certificate, once q signatures are there, to the members.
    """
    order = np.array([place for region in regions.members for place in region])
    home = np.repeat(np.arange(regions.k), regions.sizes)
    heads_at = np.array(heads)
    own_head = heads_at[home]
    to_head = rtt_us[order, own_head] // 2
    between = rtt_us[np.ix_(heads_at, heads_at)] // 2
    quorum = Threshold(len(order)).quorum
    ready = rtt_us[leader, own_head] // 2 + to_head
    for _ in range(2):
        arrival = ready + to_head
        by_head = np.full(regions.k, 0)
        np.maximum.at(by_head, home, arrival)
        start = np.zeros(regions.k, dtype=np.int64)
        start[home[order == own_head]] = ready[order == own_head]
        leaves = np.maximum(arrival, np.minimum(by_head, start + bundle_us)[home])
        known = leaves[None, :] + between[:, home]  # at each head, the vote of each replica
        own = home[None, :] == np.arange(regions.k)[:, None]
        known = np.where(own, arrival[None, :], known)
        certified = np.partition(known, quorum - 1, axis=1)[:, quorum - 1]
        ready = certified[home] + to_head
    return int(np.partition(ready, quorum - 1)[quorum - 1])


def _heads(regions: Regions, outlook: Outlook, ahead: int) -> list[int]:
    heads = [regions.head(region, outlook.turn + ahead) for region in range(regions.k)]
    heads[regions.region_of()[outlook.leader]] = outlook.leader
    return heads


def _drifted(before: Micros, now: Micros) -> bool:
    return bool((np.abs(now - before) > DRIFT * before).any())


def ordered(regions: Regions, rtt_us: Micros, outlook: Outlook, struck: frozenset[int]) -> Regions:
    """Let the coming turns meet the most central members first, those with strikes last."""
    members = []
    for region in regions.members:
        central = sorted(by_centrality(rtt_us, region), key=lambda place: place in struck)
        back = -outlook.turn % len(central)
        members.append((*central[back:], *central[:back]))
    return replace(regions, members=tuple(members))


def _nearest(regions: Regions, rtt_us: Micros) -> Regions:
    """Move everybody to the region whose most central member is nearest, within the sizes that there are now."""
    medoids = [by_centrality(rtt_us, region)[0] for region in regions.members]
    free = sorted(set(regions.region_of()) - set(medoids), key=lambda place: (min(rtt_us[medoids, place]), place))
    moved = [[medoid] for medoid in medoids]
    for place in free:
        room = [region for region in range(regions.k) if len(moved[region]) < regions.sizes[region]]
        moved[min(room, key=lambda region: (rtt_us[medoids[region], place], region))].append(place)
    return Regions(tuple(map(tuple, moved)))


def reconnecting_us(old: Regions, new: Regions, rtt_us: Micros, outlook: Outlook) -> int:
    """Return two round trips of the slowest replica that gets another head."""
    before, after = _heads(old, outlook, 0), _heads(new, outlook, 0)
    was = {place: before[region] for place, region in old.region_of().items()}
    moved = [(place, after[region]) for place, region in new.region_of().items() if was[place] != after[region]]
    return max((2 * int(rtt_us[place, head]) for place, head in moved), default=0)
