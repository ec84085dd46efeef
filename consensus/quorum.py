"""How many signatures, and whose: quorum systems and sets of signers.

Sets of replicas are integers used as bit sets: bit ``i`` stands for replica ``i`` of the epoch's member list.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol


def members_of(bits: int) -> Iterator[int]:
    """Yield the members of a bit set in increasing order."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def bits_of(members: Iterable[int]) -> int:
    """Make a bit set of members; one named twice counts once."""
    bits = 0
    for member in members:
        bits |= 1 << member
    return bits


class QuorumSystem(Protocol):
    """Which sets of signers decide.

    Any two quorums meet in a weak set; a weak set holds at least one correct replica as long as the faults are
    within the system's bound; and the correct replicas then form a quorum.
    """

    n: int

    @property
    def bound(self) -> int:
        """The number of faulty replicas that is survived wherever they are."""
        ...

    def is_quorum(self, signers: int) -> bool:
        """Say whether a bit set decides."""
        ...

    def is_weak(self, signers: int) -> bool:
        """Say whether a bit set must hold a correct replica."""
        ...


class Threshold:
    """Count signatures, whoever gives them: quorums of ``q`` out of ``n`` replicas.

    Parameters
    ----------
    n : int
        Number of replicas, at least 1.
    faults : int, optional
        Faulty replicas to survive; ``F = (n-1)//3`` by default.

    Notes
    -----
    ``q = (n+F)//2 + 1``: two quorums share ``2q - n > F`` replicas. The familiar 2F+1 is right only for n = 3F+1: at
    n = 3F+3 two sets of 2F+1 can meet in F-1 (Castro and Liskov assume n = 3F+1; see `docs/consensus.md`).
    """

    def __init__(self, n: int, faults: int | None = None) -> None:
        self.n = n
        self.faults = (n - 1) // 3 if faults is None else faults
        self.quorum = (n + self.faults) // 2 + 1

    @property
    def bound(self) -> int:
        """F: that many faulty replicas are survived, wherever they are."""
        return self.faults

    def is_quorum(self, signers: int) -> bool:
        """Say whether at least q replicas signed."""
        return signers.bit_count() >= self.quorum

    def is_weak(self, signers: int) -> bool:
        """Say whether more than F replicas signed."""
        return signers.bit_count() > self.faults


class FastThreshold(Threshold):
    """Decide after one round of votes: quorums of ``n - f`` with ``f = (n-1)//5``.

    Notes
    -----
    Any ``n - f`` replicas hold at least ``n - 3f`` correct ones of any other ``n - f``, and ``2(n-3f) > n-f`` for
    n ≥ 5f+1, so a view change can recognise the only value that may have been decided (Kuznetsov, Tonkikh and Zhang,
    "Revisiting optimal resilience of fast Byzantine consensus", PODC 2021, discuss the bound).
    """

    def __init__(self, n: int, faults: int | None = None) -> None:
        super().__init__(n, (n - 1) // 5 if faults is None else faults)
        self.quorum = n - self.faults
        self.survivors = n - 3 * self.faults


class TwoLayer:
    """Let regions vote: a quorum is enough members in enough regions.

    Parameters
    ----------
    regions : sequence of sequence of int
        The members of each region; together all replicas, each once.

    Notes
    -----
    A region of m members votes with ``q_m`` of their signatures, ``q_k`` of the k regions decide. It is broken by
    faults in ``(f_m+1)`` members of ``(f_k+1)`` regions, near n/9 of all, and that many are its limit.
    """

    def __init__(self, regions: Sequence[Sequence[int]]) -> None:
        self.n = sum(len(region) for region in regions)
        self._inner = [(bits_of(region), Threshold(len(region))) for region in regions]
        self._outer = Threshold(len(regions))

    @property
    def bound(self) -> int:
        """``(f_m+1)(f_k+1) - 1`` over the regions that are easiest to capture."""
        cheapest = sorted(inner.faults + 1 for _, inner in self._inner)
        return sum(cheapest[: self._outer.faults + 1]) - 1

    def is_quorum(self, signers: int) -> bool:
        """Say whether q_k regions have q_m signers each."""
        return self._outer.is_quorum(self._having(signers, quorum=True))

    def is_weak(self, signers: int) -> bool:
        """Say whether more than f_k regions have more than f_m signers each."""
        return self._outer.is_weak(self._having(signers, quorum=False))

    def _having(self, signers: int, *, quorum: bool) -> int:
        return bits_of(
            index
            for index, (region, inner) in enumerate(self._inner)
            if (inner.is_quorum(signers & region) if quorum else inner.is_weak(signers & region))
        )
