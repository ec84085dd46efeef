"""`star`: the leader collects all votes and sends back certificates, in two phases, as HotStuff-2 does.

It is the regional path with one region, whose head is the leader: ``5(n-1)`` messages a decision, 5 one-way delays.
Survives F < n/3 faulty replicas. View changes are PBFT's (Malkhi and Nayak, "HotStuff-2", have a linear one).
"""

from consensus.pbft.config import Protocol, RegionMap
from consensus.protocols.flat import count_all
from consensus.protocols.regional import RegionalPath


class StarPath(RegionalPath):
    """The path with everybody in the leader's region."""

    def _regions(self) -> RegionMap:
        return (self.replica.epoch.places,)


STAR = Protocol("star", count_all, StarPath)
