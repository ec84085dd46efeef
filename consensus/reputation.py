"""Who leads next: integer scores from the ledger alone, changed at checkpoints only.

Everything here is a function of committed data, so every replica that has executed a checkpoint holds the same
standing. It orders leaders; no quorum ever depends on it.

What a Byzantine leader can do with it. A leader chooses which ``q`` of the signatures it holds go into the block that
records a certificate, so the ledger cannot tell "did not sign" from "was left out". Therefore:

- One recorded certificate is enough to be seen, and each must hold a quorum: in one period at most ``n - q`` replicas
  (F, or F+1 at n = 3F+3) can be made to look absent. Each loses one point of at most `MOST`.
- Once certificates are honest again, as many periods as it cost give all points back.
- Nobody gains by it: scores are capped, and whoever signs regularly stands at the cap.
- Strikes weigh more than scores and cannot be invented: a failed leader is one whose view a quorum left.
- Any order is a permutation, so of any F+1 leaders in a row one is correct. The worst order costs F failed views
  once, as a fixed order does; those F then stand at the end for as long as their strikes last.
"""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

MOST = 8
"""Scores and strikes lie from 0 to this."""
STRIKE = 4
"""What one failure adds; a period without one takes 1 away."""


class Standing(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The state at a checkpoint; part of what the checkpoint certifies.

    Attributes
    ----------
    scores : tuple of int
        By place: how regularly a replica's signature is seen; from 0 to `MOST`.
    strikes : tuple of int
        By place: recent failures as leader; from 0 to `MOST`.
    order : tuple of int
        A permutation of the members' places: view v is led by ``order[v % n]``.
    """

    scores: tuple[int, ...]
    strikes: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def initial(cls, places: Sequence[int]) -> "Standing":
        """Begin an epoch: full scores, no strikes, leaders in the order of places."""
        slots = max(places) + 1
        return cls((MOST,) * slots, (0,) * slots, tuple(sorted(places)))


def advance(standing: Standing, seen: int, failed: Sequence[int], view: int) -> Standing:
    """Apply, at a checkpoint, what the ledger holds since the one before.

    Parameters
    ----------
    standing : Standing
        At the checkpoint before.
    seen : int
        Bit set of those who signed a certificate that a batch records; 0 where none does.
    failed : sequence of int
        Leaders whose views ended without a decision, each as often as that happened.
    view : int
        The view of the newest batch. Its leader goes on: only who follows is reordered.

    Returns
    -------
    Standing
        Seen replicas gain a point, the others lose one (nobody does where no certificate is recorded). Leaders follow
        one another by strikes, then scores, then the order they had.
    """
    scores, failures = standing.scores, Counter(failed)
    if seen:
        scores = tuple(_bounded(score + (1 if seen >> place & 1 else -1)) for place, score in enumerate(scores))
    strikes = tuple(
        _bounded(strikes + STRIKE * failures[place] if failures[place] else strikes - 1)
        for place, strikes in enumerate(standing.strikes)
    )
    n, at = len(standing.order), view % len(standing.order)
    leader, *others = standing.order[at:] + standing.order[:at]  # as they would follow
    others.sort(key=lambda place: (strikes[place], -scores[place]))  # stable: ties keep their turns
    following = [leader, *others]
    return Standing(scores, strikes, tuple(following[(turn - at) % n] for turn in range(n)))


def _bounded(value: int) -> int:
    return max(0, min(MOST, value))
