"""Keep, move or recut: the choice between what is and what could be, made on costs alone.

It knows no data shards. Whoever owns something that is cut into parts says what each way to go on would cost; this
file weighs the costs. A choice is a function of its arguments, so it can be replayed from the decision log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

from shards.errors import InputError

Kind = Literal["keep", "move", "recut"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Candidate:
    """One way to go on, and what it costs.

    Attributes
    ----------
    kind : str
        ``"keep"`` what is, ``"move"`` a part, or ``"recut"`` the whole or most of it.
    state : mapping
        What would be afterwards, as plain JSON; the controller hands it through unread.
    running_cost : int
        Cost of operating over the horizon once there, in the owner's unit (bytes read, for data shards).
    switching_cost : int
        Cost of getting there (bytes written, for data shards). More than nothing for keep when upkeep is due.
    early_cost : int, optional
        The part of the running cost that falls into the first `Policy.early` of the horizon; every candidate has one,
        or none has.
    """

    kind: Kind
    state: Mapping[str, Any]
    running_cost: int
    switching_cost: int
    early_cost: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.switching_cost < 0 or not 0 <= (self.early_cost or 0) <= self.running_cost:
            raise ValueError(
                f"costs of a {self.kind} candidate are below 0, or early_cost above running_cost: {self}"
            )


@dataclass(frozen=True)
class Policy:
    """When a change is worth its price.

    Attributes
    ----------
    alpha : float
        Price of one unit of switching cost in units of running cost, > 0. Measured for local files: 2 with a cold
        page cache, 20 with a hot one.
    hysteresis : float
        How many times its price a change must save, ≥ 1; above 1 it keeps two near-equal choices from alternating.
    early : float
        Share of the horizon, from its start, in which a change must earn that same share of its price, from 0 to 1.
        What would only pay later can wait, at no loss, until it is known better.
    """

    alpha: float = 2.0
    hysteresis: float = 1.1
    early: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.alpha < float("inf"):
            raise InputError(f"planner alpha is {self.alpha}: a price above 0 is needed, for example 2")
        if not 1 <= self.hysteresis < float("inf"):
            raise InputError(f"planner hysteresis is {self.hysteresis}: at least 1 is needed, for example 1.1")
        if not 0 <= self.early <= 1:
            raise InputError(f"planner early is {self.early}: a share from 0 to 1 is needed, for example 0.25")


@dataclass(frozen=True)
class Decision:
    """The candidate chosen, its costs as predicted, and why.

    Attributes
    ----------
    kind : str
        ``"keep"``, ``"move"`` or ``"recut"``.
    index : int
        Position of the chosen candidate in the list that was given.
    running_cost, switching_cost : int
        The chosen candidate's costs, to be compared with what then happens.
    reason : str
        One sentence for a person.
    """

    kind: Kind
    index: int
    running_cost: int
    switching_cost: int
    reason: str


def decide(candidates: Sequence[Candidate], policy: Policy) -> Decision:
    """Choose the cheapest candidate whose saving pays for its price; keep otherwise.

    A candidate is worth its price when ``running(keep) - running > hysteresis · alpha · (switching -
    switching(keep))``, and where early costs are given also when the early part of the saving exceeds `early` times
    the right-hand side. Among those that are, the one with the least ``running + alpha · switching`` is chosen; ties
    go to keep, then to a move, then to the cheaper to run, then to the first in the list. Arithmetic is exact.

    A guard on the worst case belongs in front of this call: it narrows the candidates to those it can still afford.

    Parameters
    ----------
    candidates : sequence of Candidate
        Exactly one of them is of kind keep.
    policy : Policy
        When a change is worth its price.

    Returns
    -------
    Decision
        The same for the same arguments, always.

    Raises
    ------
    ValueError
        If there is not exactly one candidate of kind keep.
    """
    keeps = [candidate for candidate in candidates if candidate.kind == "keep"]
    if len(keeps) != 1:
        raise ValueError(f"exactly one candidate must be of kind keep, not {len(keeps)}")
    keep, alpha = keeps[0], Fraction(policy.alpha)
    threshold = Fraction(policy.hysteresis) * alpha

    def worth(candidate: Candidate) -> bool:
        price = threshold * (candidate.switching_cost - keep.switching_cost)
        if candidate is keep or keep.running_cost - candidate.running_cost <= price:
            return candidate is keep
        if candidate.early_cost is None or keep.early_cost is None:
            return True
        return keep.early_cost - candidate.early_cost > Fraction(policy.early) * price

    def rank(index: int) -> tuple[Fraction, int, int, int]:
        candidate = candidates[index]
        total = candidate.running_cost + alpha * candidate.switching_cost
        return total, KINDS.index(candidate.kind), candidate.running_cost, index

    index = min((i for i, candidate in enumerate(candidates) if worth(candidate)), key=rank)
    chosen = candidates[index]
    return Decision(chosen.kind, index, chosen.running_cost, chosen.switching_cost, _reason(chosen, keep, candidates))


def _reason(chosen: Candidate, keep: Candidate, candidates: Sequence[Candidate]) -> str:
    if chosen is not keep:
        saved, extra = keep.running_cost - chosen.running_cost, chosen.switching_cost - keep.switching_cost
        return f"saves {saved} running for {extra} more switching"
    best = min(candidate.running_cost for candidate in candidates)
    if best >= keep.running_cost:
        return "nothing runs cheaper"
    return f"no saving, of at most {keep.running_cost - best} running, is worth its switching yet"
