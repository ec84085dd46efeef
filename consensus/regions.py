"""Which replica is in which region: found from round trips, the same at everybody who has the same round trips.

In the protocols that count individual signatures a map of regions is a route for votes and no more; as the
aggregation map, which says who sums with whom, it is committed before its round.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import msgspec
import networkx as nx
import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError

Micros = NDArray[np.int64]

FLAT_BELOW = 10
"""With fewer replicas four regions save little, or lose: at n = 4 they take 27 messages and flat 24."""
AUTO = 4
"""``5n - 4k - 1 + 2k(k-1)`` grows with k from k = 2 on: of all k ≥ 4 it is least at 4, whatever n."""
SITE_US = 7_500
"""Replicas within this round trip are at one site: zones of one AWS region are up to 7.1 ms apart, two of its regions
at least 7.6 ms."""


@dataclass(frozen=True)
class Regions:
    """A map of regions.

    Attributes
    ----------
    members : tuple of tuple of int
        The replicas of each region; its first is the one nearest to all others of the region, its head unless heads
        have rotated, and the rest follow in the order in which they would be heads.

    Raises
    ------
    InputError
        If a region is empty, or a replica is in two.
    """

    members: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        everyone = [replica for region in self.members for replica in region]
        if not self.members or not all(self.members):
            raise InputError("regions: one of them is empty; leave it out")
        if len(set(everyone)) < len(everyone) or min(everyone) < 0:
            raise InputError("regions: replicas are numbers from 0, each in one region only")

    @property
    def k(self) -> int:
        """The number of regions. A single one means: use the flat protocol."""
        return len(self.members)

    @property
    def n(self) -> int:
        """The number of replicas."""
        return sum(map(len, self.members))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of replicas of each region."""
        return tuple(map(len, self.members))

    def head(self, region: int, rotation: int = 0) -> int:
        """Return a region's head after so many rotations."""
        own = self.members[region]
        return own[rotation % len(own)]

    def region_of(self) -> dict[int, int]:
        """Return the region of every replica."""
        return {replica: index for index, region in enumerate(self.members) for replica in region}

    def covering(self, places: Sequence[int]) -> "Regions":
        """Fit the map to an epoch's members: who left is dropped, who is new joins the smallest region."""
        present = set(places)
        kept = [[replica for replica in region if replica in present] for region in self.members]
        known = {replica for region in kept for replica in region}
        regions = [region for region in kept if region] or [[]]
        for place in sorted(present - known):
            min(regions, key=len).append(place)
        return Regions(tuple(map(tuple, regions)))

    def renamed(self, places: Sequence[int]) -> "Regions":
        """Turn a map of 0, 1, 2, … into one of these places."""
        return Regions(tuple(tuple(places[replica] for replica in region) for region in self.members))

    def to_json(self) -> bytes:
        """Give the canonical form that is committed and signed."""
        return msgspec.json.encode({"regions": self.members})

    @classmethod
    def from_json(cls, data: bytes | str) -> "Regions":
        """Read `to_json`'s form.

        Raises
        ------
        InputError
            If it is anything else.
        """
        try:
            return cls(msgspec.json.decode(data, type=_Written).regions)
        except msgspec.MsgspecError as error:
            raise InputError(f'regions: {error}; {{"regions": [[0, 1], [2, 3]]}} is needed') from None


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    regions: tuple[tuple[int, ...], ...]


def group(rtt_us: Micros, regions: int | Literal["auto", "sites"] = "auto") -> Regions:
    """Group replicas by their round trips.

    Parameters
    ----------
    rtt_us : array of int64, shape (n, n)
        Symmetric round trips in microseconds, 0 on the diagonal; see `consensus.rtt.clipped`.
    regions : int or str
        How many. ``"auto"``: `AUTO`, or a single one below `FLAT_BELOW` replicas. ``"sites"``: as many as there are
        sites, of whatever size; see `sites`.

    Returns
    -------
    Regions
        With a number given: k-medoids, sizes between a half and one and a half times n/k. The regions are in the
        order of their lowest replica.

    Raises
    ------
    InputError
        If there can't be so many regions.
    """
    n = len(rtt_us)
    if regions == "sites":
        found = sites(rtt_us)
    else:
        k = (AUTO if n >= FLAT_BELOW else 1) if regions == "auto" else int(regions)
        if not 1 <= k <= n:
            raise InputError(f"regions is {k}: a number from 1 to {n}, the number of replicas, is needed")
        found = _balanced(rtt_us, medoids(rtt_us, k))
    return Regions(tuple(by_centrality(rtt_us, region) for region in sorted(map(sorted, found))))


def sites(rtt_us: Micros) -> list[list[int]]:
    """Find the sites: groups within which everybody has a next one near (single linkage).

    Near is within `SITE_US`. Where that is true of nobody, the network has another scale: then it is what lies below
    the widest gap, as a ratio and at least 2, between the sorted lengths of the minimum spanning tree. Without such a
    gap all is one site.
    """
    n = len(rtt_us)
    tree = _spanning_tree(np.maximum(rtt_us, 1))
    lengths = sorted(length for _, _, length in tree)
    near = SITE_US
    if lengths and lengths[0] > near:
        ratio, shorter = max((longer / length, length) for length, longer in pairwise([*lengths, lengths[-1]]))
        near = shorter if ratio >= 2 else lengths[-1]
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from((a, b) for a, b, length in tree if length <= near)
    return [list(component) for component in nx.connected_components(graph)]


def medoids(rtt_us: Micros, k: int) -> list[int]:
    """Choose the k replicas from which the sum of all round trips to the nearest one is least (k-medoids).

    PAM: greedy BUILD, then the best swap of a medoid for another replica while one helps. Ties go to the lowest
    replica. Kaufman and Rousseeuw 1987; the swap is evaluated for all medoids at once as in Schubert and Rousseeuw,
    "Faster k-medoids clustering", 2019.
    """
    chosen = [int(np.argmin(rtt_us.sum(axis=1)))]
    nearest = rtt_us[chosen[0]].copy()
    while len(chosen) < k:
        gains = np.maximum(nearest - rtt_us, 0).sum(axis=1)
        gains[chosen] = -1
        chosen.append(int(np.argmax(gains)))
        nearest = np.minimum(nearest, rtt_us[chosen[-1]])
    while (swap := _best_swap(rtt_us, chosen)) is not None:
        chosen[swap[0]] = swap[1]
    return sorted(chosen)


def by_centrality(rtt_us: Micros, region: Iterable[int]) -> tuple[int, ...]:
    """Order replicas by the sum of their round trips to the others of the region; ties by place."""
    own = sorted(region)
    sums = rtt_us[np.ix_(own, own)].sum(axis=1).tolist()
    return tuple(replica for _, replica in sorted(zip(sums, own, strict=True)))


def _best_swap(rtt_us: Micros, chosen: list[int]) -> tuple[int, int] | None:
    k = len(chosen)
    to_medoids = rtt_us[chosen]
    owner = np.argmin(to_medoids, axis=0)
    ranked = np.sort(to_medoids, axis=0)
    first, second = ranked[0], ranked[1] if k > 1 else np.full(len(rtt_us), np.iinfo(np.int64).max // len(rtt_us))
    shared = np.minimum(rtt_us - first, 0).sum(axis=1)  # what candidate c wins if no medoid leaves
    changes = np.empty((k, len(rtt_us)), dtype=np.int64)
    for index in range(k):  # medoid `index` leaves: its own go to c or to their second nearest
        own = owner == index
        stay = np.minimum(rtt_us[:, own] - first[own], 0).sum(axis=1)
        changes[index] = shared - stay + (np.minimum(rtt_us[:, own], second[own]) - first[own]).sum(axis=1)
    changes[:, chosen] = 0
    best = int(np.argmin(changes))
    return divmod(best, len(rtt_us)) if changes.flat[best] < 0 else None


def _balanced(rtt_us: Micros, heads: list[int]) -> list[list[int]]:
    """Give every region half its even share in turns, then everybody else to the nearest that has room."""
    n, k = len(rtt_us), len(heads)
    most = -(-3 * n // (2 * k))
    regions = [[head] for head in heads]
    free = [replica for replica in range(n) if replica not in heads]
    for _ in range(n // (2 * k) - 1):
        for head, region in zip(heads, regions, strict=True):
            nearest = min(free, key=lambda replica, head=head: (rtt_us[head, replica], replica))  # type: ignore[misc]
            free.remove(nearest)
            region.append(nearest)
    to_heads = rtt_us[heads]
    for replica in sorted(free, key=lambda replica: (to_heads[:, replica].min(), replica)):
        room = [index for index in range(k) if len(regions[index]) < most]
        regions[min(room, key=lambda index: (to_heads[index, replica], len(regions[index]), index))].append(replica)
    return regions


def _spanning_tree(lengths: Micros) -> list[tuple[int, int, int]]:
    """Prim's algorithm on a complete graph; networkx would need all n² edges as objects."""
    n = len(lengths)
    outside = np.ones(n, dtype=bool)
    distance, via = lengths[0].copy(), np.zeros(n, dtype=np.intp)
    outside[0] = False
    tree: list[tuple[int, int, int]] = []
    for _ in range(n - 1):
        new = int(np.argmin(np.where(outside, distance, np.iinfo(np.int64).max)))
        tree.append((int(via[new]), new, int(distance[new])))
        outside[new] = False
        closer = lengths[new] < distance
        distance, via = np.where(closer, lengths[new], distance), np.where(closer, new, via)
    return tree
