"""Who leads next and who is head: integer scores from the ledger alone, changed at checkpoints only.

Everything here is a function of committed data, so every replica that has executed a checkpoint holds the same
standing. It orders and rotates; no quorum ever depends on it.

What a Byzantine leader can do with it. A leader chooses which ``q`` of the signatures it holds go into the block that
records a certificate, so the ledger cannot tell "did not sign" from "was left out". Therefore:

- One recorded certificate is enough to be seen, and each must hold a quorum: in one period at most ``n - q`` replicas
  (F, or F+1 at n = 3F+3) can be made to look absent. Each loses one point of at most `MOST`.
- Once certificates are honest again, as many periods as it cost give all points back.
- Nobody gains by it: scores are capped, and whoever signs regularly stands at the cap.
- Strikes weigh more than scores and cannot be invented: a failed leader is one whose view a quorum left, and a
  complaint counts with more than F signers, so with an honest one.
- Any order is a permutation, so of any F+1 leaders in a row one is correct. The worst order costs F failed views
  once, as a fixed order does; those F then stand at the end for as long as their strikes last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from consensus.regions import Regions

MOST = 8
"""Scores and strikes lie from 0 to this."""
STRIKE = 4
"""What one failure adds; a period without one takes 1 away."""


@dataclass(frozen=True)
class Standing:
    """The state at a checkpoint; part of what the checkpoint certifies.

    Attributes
    ----------
    scores : tuple of int
        By place: how regularly a replica's signature is seen; from 0 to `MOST`.
    strikes : tuple of int
        By place: recent failures as leader or head; from 0 to `MOST`.
    order : tuple of int
        A permutation of the members' places: view v is led by ``order[v % n]``.
    rotations : tuple of int
        By region: how often its head has rotated; see `Regions.head`.
    """

    scores: tuple[int, ...]
    strikes: tuple[int, ...]
    order: tuple[int, ...]
    rotations: tuple[int, ...]

    @classmethod
    def initial(cls, places: Sequence[int], regions: Regions) -> "Standing":
        """Begin an epoch: full scores, no strikes, leaders in the order of places, no head rotated."""
        slots = max(places) + 1
        return cls((MOST,) * slots, (0,) * slots, tuple(sorted(places)), (0,) * regions.k)


@dataclass(frozen=True)
class Period:
    """What the ledger holds between two checkpoints.

    Attributes
    ----------
    certificates : tuple of int
        The bit set of signers of each commit certificate that a block records.
    failed : tuple of int
        Leaders whose views ended without a decision, each as often as that happened.
    complaints : tuple of tuple of int and int
        Heads that members complained of, each with the bit set of all who signed a complaint.
    """

    certificates: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    complaints: tuple[tuple[int, int], ...] = ()


def advance(standing: Standing, period: Period, view: int, regions: Regions) -> Standing:
    """Apply one period at its checkpoint.

    Parameters
    ----------
    standing : Standing
        At the checkpoint before.
    period : Period
        What was committed since.
    view : int
        The view at the checkpoint. Its leader goes on: only who follows is reordered.
    regions : Regions
        The map in use; another number of regions than before starts their rotations anew.

    Returns
    -------
    Standing
        Seen replicas gain a point, the others lose one (nobody does where no certificate is recorded). Leaders follow
        one another by strikes, then scores, then the order they had. Every head rotates to the next member without
        strikes, or to the next if all have some.
    """
    faults = (len(standing.order) - 1) // 3
    seen = 0
    for signers in period.certificates:
        seen |= signers
    scores = list(standing.scores)
    failures = [0] * len(scores)
    for place in period.failed:
        failures[place] += 1
    for place, accusers in period.complaints:
        failures[place] += accusers.bit_count() > faults
    if period.certificates:
        scores = [_bounded(score + (1 if seen >> place & 1 else -1)) for place, score in enumerate(scores)]
    strikes = tuple(
        _bounded(strikes + STRIKE * count if count else strikes - 1)
        for strikes, count in zip(standing.strikes, failures, strict=True)
    )
    scored = replace(standing, scores=tuple(scores), strikes=strikes)
    return replace(scored, order=_order(scored, view), rotations=_rotations(scored, regions))


def _bounded(value: int) -> int:
    return max(0, min(MOST, value))


def _order(standing: Standing, view: int) -> tuple[int, ...]:
    n, at = len(standing.order), view % len(standing.order)
    leader, *others = standing.order[at:] + standing.order[:at]  # as they would follow
    others.sort(key=lambda place: (standing.strikes[place], -standing.scores[place]))  # stable: ties keep their turns
    following = [leader, *others]
    return tuple(following[(turn - at) % n] for turn in range(n))


def _rotations(standing: Standing, regions: Regions) -> tuple[int, ...]:
    if len(standing.rotations) != regions.k:
        return (0,) * regions.k
    turned = []
    for region, rotation in enumerate(standing.rotations):
        turns = range(rotation + 1, rotation + 1 + regions.sizes[region])
        turned.append(next((turn for turn in turns if not standing.strikes[regions.head(region, turn)]), turns[0]))
    return tuple(turned)
