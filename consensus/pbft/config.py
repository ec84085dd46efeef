"""What a replica is told before it starts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consensus.identity import Scheme
from consensus.quorum import QuorumSystem

if TYPE_CHECKING:
    from consensus.pbft.path import VotePath
    from consensus.pbft.replica import Replica

RegionMap = tuple[tuple[int, ...], ...]
"""The replicas of each region; a routing hint, except in the two-layer protocol."""

SchemeFactory = Callable[[tuple[bytes, ...], int], Scheme]
"""Makes a replica's scheme from an epoch's member list and the replica's own place in it."""


@dataclass(frozen=True)
class Timing:
    """How long a replica waits, in seconds of its own clock.

    Attributes
    ----------
    view : float
        For a decision before it wants another leader; the i-th wait in a row is i times as long.
    fallback : float
        For a decision before votes go to everybody; at most a quarter of `view`. The backup head is tried at half.
    bundle : float
        For a region's last votes before a head sends those it has.
    status : float
        Between two requests for what is missing.
    """

    view: float = 2.0
    fallback: float = 0.5
    bundle: float = 0.05
    status: float = 0.5

    def __post_init__(self) -> None:
        if min(self.view, self.fallback, self.bundle, self.status) <= 0:
            raise ValueError(f"every time must be above 0: {self}")
        if self.fallback > self.view / 4:
            raise ValueError(f"fallback is {self.fallback} s, more than a quarter of view, {self.view} s")


@dataclass(frozen=True)
class Protocol:
    """What makes a protocol: whose signatures decide, and who sends them to whom.

    Attributes
    ----------
    name : str
        As a user writes it.
    quorums : callable
        Makes the quorum system for regions of replicas.
    path : callable
        Makes the vote path of a replica.
    fast : bool
        Whether a quorum of PREPARE votes decides, without a COMMIT round.
    """

    name: str
    quorums: Callable[[RegionMap], QuorumSystem]
    path: Callable[["Replica"], "VotePath"]
    fast: bool = False


@dataclass(frozen=True)
class Config:
    """Everything a replica is told; equal at all replicas of a chain but for `own`.

    Attributes
    ----------
    chain : bytes
        32 bytes that name the chain; part of everything signed.
    own : int
        This replica's place in the member list, now or once a membership change has put it there.
    members : tuple of bytes
        Public keys of the first epoch's members. A place, once vacated (empty bytes), keeps its number.
    protocol : Protocol
        See `consensus.protocols`.
    regions : callable
        Which replica is in which region, from the list of members' places: ``regions((0, 1, 2, …))``.
    admin : bytes
        Public key of the client whose requests may change the membership; empty when nobody may.
    period, window : int
        A checkpoint is taken every `period` numbers; at most `window` numbers lie between the last stable checkpoint
        and the newest proposal. ``window >= 2 * period``.
    in_flight : int
        How many numbers a leader has under way at once.
    batch_requests, batch_bytes : int
        The most one batch may hold.
    inline : int
        Batches up to so many bytes travel in the proposal; larger ones in erasure-coded chunks.
    timing : Timing
        How long it waits.
    """

    chain: bytes
    own: int
    members: tuple[bytes, ...]
    protocol: Protocol
    regions: Callable[[tuple[int, ...]], RegionMap] = field(default=lambda places: (places,))
    admin: bytes = b""
    period: int = 16
    window: int = 32
    in_flight: int = 4
    batch_requests: int = 256
    batch_bytes: int = 32 << 20
    inline: int = 16 << 10
    timing: Timing = Timing()

    def __post_init__(self) -> None:
        if len(self.chain) != 32:
            raise ValueError(f"a chain is named by 32 bytes, not {len(self.chain)}")
        keys = [key for key in self.members if key]
        if len(set(keys)) < len(keys):
            raise ValueError("two members have the same key: one signature would count twice")
        if self.own < 0:
            raise ValueError(f"own is {self.own}: a place from 0 on is needed")
        if not 0 < 2 * self.period <= self.window:
            raise ValueError(f"window is {self.window}: at least twice the period, {self.period}, is needed")
