"""One round as the council sees it: what is proposed, and what a replica must find before it votes.

Replicas of one process share its memory: a recomputation over the same inputs (by digest) is done once, and every
replica compares with it. ``shared=False`` makes each of them compute for itself, to the same end.
"""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from msgspec.structs import replace

from consensus.quorum import Threshold
from fl.aggregation import Part, TwoStep, Vector
from fl.council import outcome
from fl.council.council import Council
from fl.council.faults import LYING_HEAD, SILENT
from fl.council.outcome import (
    Assignment,
    Outcome,
    Reception,
    RegionSum,
    Update,
    reception_statement,
    region_statement,
)

T = TypeVar("T")
Digests = tuple[bytes, bytes]
"""Of a new global model, and of its metrics (empty where the council does not vouch for them)."""


FALSE = -10.0  # what a lying head multiplies its region's updates by


def forge(operation: bytes) -> bytes:
    """Make the outcome that a lying leader proposes: another model under the same inputs. Round 0 is left alone."""
    true = outcome.decode(operation)
    if true is None or true.server_round == 0:
        return operation
    return outcome.encode(replace(true, aggregate=hashlib.sha256(b"false" + true.aggregate).digest()))


@dataclass(frozen=True, eq=False)
class Teaching:
    """What one client taught: its update, its digest, the model as a vector, and the weight it states."""

    update: Update
    vector: Vector
    weight: float


@dataclass(frozen=True, eq=False)
class _Stated:
    """A region's part with its digest."""

    part: Part
    digest: bytes


class _Judged:
    """Remembers what was computed, and verdicts about operations, where replicas share them."""

    def __init__(self, shared: bool) -> None:
        self._shared = shared
        self._verdicts: dict[bytes, str] = {}
        self._computed: dict[Hashable, Any] = {}

    def once(self, inputs: Hashable, compute: Callable[[], T]) -> T:
        """Compute something, or return what it came to before with the same inputs."""
        if not self._shared or inputs not in self._computed:
            self._computed[inputs] = compute()
        found: T = self._computed[inputs]
        return found

    def judge(self, replica: int, operation: bytes) -> str:
        """Say why a replica must not vote for an operation; empty when it may."""
        if not self._shared or operation not in self._verdicts:
            found = outcome.decode(operation)
            self._verdicts[operation] = self.objection(found) if found else "not an outcome of a round"
        return self._verdicts[operation]

    def objection(self, found: Outcome) -> str:
        """Say what is wrong with an outcome; empty for nothing."""
        raise NotImplementedError


class RegionRound(_Judged):
    """A round with ``verify = "region"``: members vouch for their region's sum, the council for the total.

    Parameters
    ----------
    council : Council
        Who decides.
    rule : TwoStep
        How updates become a total.
    finish : callable
        Turns a total into the digest of the new global model, on a snapshot of the strategy's state.
    frame : Outcome
        Round, rule and maps; without sums and aggregate.
    assignment : tuple of tuple of int
        The aggregation map that was committed before the round.
    teachings : sequence of Teaching
        All usable updates; the data plane, where replicas find what a digest names.
    shared : bool
        See the module.

    Attributes
    ----------
    notes : list of str
        False sums with who stated them, dissent, and regions left out.
    """

    def __init__(
        self,
        council: Council,
        rule: TwoStep,
        finish: Callable[[Vector], bytes],
        frame: Outcome,
        assignment: Assignment,
        teachings: Sequence[Teaching],
        shared: bool = True,
    ) -> None:
        super().__init__(shared)
        self._council, self._rule, self._finish, self._frame = council, rule, finish, frame
        self._assignment = assignment
        self._held = {teaching.update: teaching for teaching in teachings}
        self._clients = {teaching.update.client: teaching.update for teaching in teachings}
        self._parts: dict[bytes, Part] = {}  # by digest: what replicas fetch
        self.notes: list[str] = []

    def propose(self) -> bytes | None:
        """Let regions agree on their sums and put the outcome together; None where no region has one."""
        sums = [found for region in range(len(self._assignment)) if (found := self._region_sum(region)) is not None]
        if not sums:
            return None
        return outcome.encode(replace(self._frame, sums=tuple(sums), aggregate=self._aggregate(sums)))

    def objection(self, found: Outcome) -> str:
        """Check what anybody can check: certificates valid, total correct."""
        if replace(found, sums=(), aggregate=b"") != self._frame:
            return "it is about another round, rule or map"
        if not found.sums or any(a.region >= b.region for a, b in zip(found.sums, found.sums[1:], strict=False)):
            return "its regions are not in order"
        for item in found.sums:
            if why := self._sum_objection(item):
                return f"the sum of region {item.region}: {why}"
        if (right := self._aggregate(found.sums)) != found.aggregate:
            return f"aggregate {found.aggregate.hex()[:12]} is false: recomputed {right.hex()[:12]}"
        return ""

    def _aggregate(self, sums: Sequence[RegionSum]) -> bytes:
        digests = tuple(item.digest for item in sums)
        return self.once(digests, lambda: self._finish(self._rule.total([self._parts[it] for it in digests])))

    def _sum_objection(self, item: RegionSum) -> str:
        if not 0 <= item.region < len(self._assignment) or not item.updates:
            return "no such region"
        homes = set(self._assignment[item.region])
        if any(a.client >= b.client for a, b in zip(item.updates, item.updates[1:], strict=False)):
            return "a client counts twice"
        if any(update.client not in homes or update not in self._held for update in item.updates):
            return "an update is not of the region, or nobody has it"
        if item.digest not in self._parts:
            return "nobody has what it came to"
        if not self._certified(item):
            return "its certificate is not valid"
        return ""

    def _certified(self, item: RegionSum) -> bool:
        members = set(self._council.regions.members[item.region])
        signers = item.signers
        if len(signers) != len(item.signatures) or list(signers) != sorted(set(signers)):
            return False
        inside = members.issuperset(signers) and len(signers) >= Threshold(len(members)).quorum
        everybody = len(signers) >= Threshold(self._council.regions.n).quorum
        about = self._statement(item.region, item.updates, item.digest)
        scheme = self._council.schemes[self._council.correct[0]]
        return (inside or everybody) and all(
            scheme.verify(signer, about, signature)
            for signer, signature in zip(signers, item.signatures, strict=True)
        )

    # -- inside a region ----------------------------------------------------------------------------------------

    def _region_sum(self, region: int) -> RegionSum | None:
        """Let the region's members agree; where they cannot, the whole council stands in for them."""
        clients = self._assignment[region]
        updates = tuple(self._clients[client] for client in clients if client in self._clients)
        if not updates:
            return None
        members = self._council.regions.members[region]
        liars = [member for member in members if self._council.faulty.get(member) == LYING_HEAD]
        quorum = Threshold(len(members)).quorum
        if len(liars) >= quorum:
            return self._captured(region, updates, liars)
        correct = [member for member in members if member in self._council.correct]
        head = next((member for member in members if member not in self._council.struck), members[0])
        if head in liars:
            lie = self._part(updates, factor=FALSE).digest
            refusing = [member for member in correct if self._part(updates).digest != lie]
            self._council.struck.add(head)
            refused = f"{len(refusing)} of {len(members)} members refused it"
            self.notes.append(f"region {region}: head {head} stated a false sum; {refused}")
        signers: Sequence[int] = correct
        if len(correct) < quorum:
            signers, quorum = self._council.correct, Threshold(self._council.regions.n).quorum
            self.notes.append(f"region {region}: too few of its members signed; the whole council stood in for it")
        stated = self._part(updates)
        agreeing = [replica for replica in signers if self._part(updates).digest == stated.digest]
        if len(agreeing) < quorum:
            self.notes.append(f"region {region}: no certificate, left out")
            return None
        return self._signed(region, updates, stated, agreeing)

    def _captured(self, region: int, updates: tuple[Update, ...], liars: Sequence[int]) -> RegionSum:
        """Let faulty members that are a region's quorum certify what they like: the promise of a region ends here."""
        for member in self._council.regions.members[region]:
            if member in self._council.correct:
                self.notes.append(f"region {region}: replica {member} dissents: its own sum is another")
        return self._signed(region, updates, self._part(updates, factor=FALSE), liars)

    def _signed(self, region: int, updates: tuple[Update, ...], stated: _Stated, signers: Sequence[int]) -> RegionSum:
        self._parts[stated.digest] = stated.part
        about = self._statement(region, updates, stated.digest)
        who = tuple(sorted(signers))
        return RegionSum(
            region, updates, stated.digest, who, tuple(self._council.schemes[i].sign(about) for i in who)
        )

    def _statement(self, region: int, updates: tuple[Update, ...], digest: bytes) -> bytes:
        chain, server_round = self._council.genesis.chain, self._frame.server_round
        return region_statement(chain, server_round, self._assignment, region, updates, digest)

    def _part(self, updates: tuple[Update, ...], factor: float = 1.0) -> _Stated:
        def compute() -> _Stated:
            held = [self._held[update] for update in updates]
            vectors = factor * np.stack([teaching.vector for teaching in held])
            part = self._rule.part(vectors, np.array([teaching.weight for teaching in held]))
            return _Stated(part, part.digest())

        return self.once((updates, factor), compute)


class EverybodyRound(_Judged):
    """A round with ``verify = "all"``: every replica holds every update and recomputes everything.

    Parameters
    ----------
    council, frame, shared
        See `RegionRound`.
    recompute : callable
        Applies the strategy, on a snapshot of its state, to the replies of some clients (in this order).
    updates : sequence of Update
        What the clients sent.
    """

    def __init__(
        self,
        council: Council,
        recompute: Callable[[tuple[int, ...]], Digests],
        frame: Outcome,
        updates: Sequence[Update],
        shared: bool = True,
    ) -> None:
        super().__init__(shared)
        self._council, self._compute, self._frame = council, recompute, frame
        self._updates = tuple(sorted(updates, key=lambda update: update.client))
        self.notes: list[str] = []

    def propose(self) -> bytes:
        """Collect signed reception lists, and put the outcome together."""
        receptions = self._receptions()
        chosen = outcome.included(receptions, self._council.bound)
        aggregate, metrics = self._recompute(tuple(update.client for update in chosen))
        return outcome.encode(replace(self._frame, receptions=receptions, aggregate=aggregate, metrics=metrics))

    def objection(self, found: Outcome) -> str:
        """Recompute everything."""
        if replace(found, receptions=(), aggregate=b"", metrics=b"") != self._frame:
            return "it is about another round, rule or map"
        signers = [signer for reception in found.receptions for signer in reception.signers]
        if len(set(signers)) != len(signers) or len(signers) < Threshold(self._council.regions.n).quorum:
            return f"{len(set(signers))} replicas said what they received, which is no quorum"
        if not all(self._signed_by_all(reception) for reception in found.receptions):
            return "a reception list was not signed by whose it is"
        chosen = outcome.included(found.receptions, self._council.bound)
        if not set(chosen) <= set(self._updates):
            return "an update that must be in it cannot be fetched"
        right = self._recompute(tuple(update.client for update in chosen))
        if right != (found.aggregate, found.metrics):
            return f"aggregate {found.aggregate.hex()[:12]} is false: recomputed {right[0].hex()[:12]}"
        return ""

    def _recompute(self, clients: tuple[int, ...]) -> Digests:
        return self.once(clients, lambda: self._compute(clients))

    def _receptions(self) -> tuple[Reception, ...]:
        """Ask a quorum of replicas what they received; faulty ones that speak withhold the first update."""
        n, faulty = self._council.regions.n, self._council.faulty
        liars = [replica for replica, kind in faulty.items() if kind != SILENT]
        quorum = Threshold(n).quorum
        speaking = sorted([*liars, *self._council.correct][:quorum])
        lists: dict[tuple[Update, ...], list[int]] = {}
        for replica in speaking:
            lists.setdefault(self._updates[1:] if replica in liars else self._updates, []).append(replica)
        return tuple(self._reception(updates, signers) for updates, signers in lists.items())

    def _reception(self, updates: tuple[Update, ...], signers: Sequence[int]) -> Reception:
        about = reception_statement(self._council.genesis.chain, self._frame.server_round, updates)
        return Reception(updates, tuple(signers), tuple(self._council.schemes[i].sign(about) for i in signers))

    def _signed_by_all(self, reception: Reception) -> bool:
        about = reception_statement(self._council.genesis.chain, self._frame.server_round, reception.updates)
        scheme = self._council.schemes[self._council.correct[0]]
        return len(reception.signers) == len(reception.signatures) and all(
            scheme.verify(signer, about, signature)
            for signer, signature in zip(reception.signers, reception.signatures, strict=True)
        )
