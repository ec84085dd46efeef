"""`flat`: PBFT as published. All replicas send every vote to all others; ``2n(n-1)`` messages a decision.

Survives F < n/3 faulty replicas, placed anywhere. The leader's PRE-PREPARE counts as its PREPARE vote.
"""

from consensus.pbft.config import Protocol, RegionMap
from consensus.pbft.path import VotePath
from consensus.quorum import Threshold


def count_all(regions: RegionMap) -> Threshold:
    """Count signatures of all replicas, whatever regions they are in."""
    return Threshold(sum(len(region) for region in regions))


FLAT = Protocol("flat", count_all, VotePath)
