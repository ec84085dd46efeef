"""Deliberately broken variants of the consensus core, each with seeded runs in which it must be caught.

A variant is a subclass, a protocol or a patch, never a change to the package. What the checkers know about quorums
and statements is broken along with the replicas where a bug is about those, so that it shows in what is decided.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from unittest.mock import patch

import msgspec
from attacks import ATTACKS

from consensus import messages
from consensus.identity import Scheme
from consensus.machine import Application, Persist, StateMachine
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    NULL,
    PREPARE,
    Bundle,
    Message,
    NewView,
    Proposal,
    Signed,
    State,
    ViewChange,
    Vote,
    decode,
    decode_as,
)
from consensus.pbft import state as states
from consensus.pbft.config import Config, Protocol, SchemeFactory
from consensus.pbft.replica import Replica
from consensus.pbft.view_change import prescribed
from consensus.pbft.views import VIEW
from consensus.pbft.votes import VoteSet
from consensus.protocols.flat import FLAT
from consensus.protocols.regional import REGIONAL
from consensus.quorum import QuorumSystem, Threshold, TwoLayer, members_of
from consensus.simulation import twins
from consensus.simulation.adversaries import KINDS
from consensus.simulation.network import Cut, Faults
from consensus.simulation.scenarios import MakeReplica, Outage, Outcome, Scenario, random_scenario, run

Patch = tuple[str, Any]
"""Dotted name of what is replaced, and by what."""


def drawn(protocol: str = "", n: int = 0, kind: str = "", **changes: Any) -> Callable[[int], Scenario]:
    """Draw scenarios by seed, with some things fixed; with a kind, all faults that are survived are of it."""

    def draw(seed: int) -> Scenario:
        scenario = random_scenario(seed, protocol, n)
        if kind:
            random = Random(f"faulty/{seed}")
            bound = len(scenario.faulty) or 1
            bound = max(bound, REGIONAL.quorums(scenario.regions).bound if protocol in ("flat", "regional") else 1)
            changes["faulty"] = tuple((place, kind) for place in sorted(random.sample(range(scenario.n), bound)))
        return msgspec.structs.replace(scenario, **changes)

    return draw


def crashing(protocol: str = "", n: int = 0) -> Callable[[int], Scenario]:
    """Draw scenarios in which every replica crashes while it writes, some of them for good parts of a run."""

    def draw(seed: int) -> Scenario:
        random = Random(f"crashing/{seed}")
        outages = tuple(
            Outage(place, 0.0, random.randint(1, 30), random.random() * 2, random.choice(("lost", "kept", "torn")))
            for place in range(n)
        )
        faults = Faults(loss=0.1, reorder=0.2, reorder_s=0.5, heal=8.0)
        return msgspec.structs.replace(random_scenario(seed, protocol, n), outages=outages, faults=faults, faulty=())

    return draw


def cut(protocol: str, n: int, kind: str = "", **changes: Any) -> Callable[[int], Scenario]:
    """Draw scenarios of short rounds, in each of which many links between correct replicas are cut, one way."""

    def draw(seed: int) -> Scenario:
        random, rounds = Random(f"cut/{seed}"), 10
        faulty = ((random.randrange(n), kind),) if kind else ()
        correct = [place for place in range(n) if (place, kind) not in faulty]
        cuts = tuple(
            Cut(turn * 0.6, turn * 0.6 + 0.6, 1 << source, 1 << target)
            for turn in range(rounds)
            for source in correct
            for target in correct
            if source != target and random.random() < 0.4
        )
        fixed = {
            "faulty": faulty,
            "faults": Faults(cuts=cuts, heal=rounds * 0.6),
            "outages": (),
            "clients": 3,
            "requests": 6,
            "to_all": True,
            "rtt": 0.002,
            "view": 0.5,
            "period": 4,
            "window": 12,
            "batch": 1,
        }
        return msgspec.structs.replace(random_scenario(seed, protocol, n), **(fixed | changes))

    return draw


@dataclass(frozen=True)
class Bug:
    """A broken variant.

    Attributes
    ----------
    what : str
        What is wrong, in a line.
    draw : callable
        The scenario of a seed.
    replica : callable
        Makes the broken replica.
    protocol : Protocol, optional
        A broken protocol, which the checkers believe in too.
    patches : sequence of Patch
        What else is replaced while it runs.
    """

    what: str
    draw: Callable[[int], Scenario]
    replica: MakeReplica = Replica
    protocol: Protocol | None = None
    patches: Sequence[Patch] = ()

    def run(self, seed: int, *, broken: bool = True) -> Outcome:
        """Run a seed's scenario, on the broken core or (with the same attacks) on the real one."""
        with ExitStack() as stack:
            stack.enter_context(patch.dict(KINDS, ATTACKS))
            if not broken:
                return run(self.draw(seed))
            for name, value in self.patches:
                stack.enter_context(patch(name, value))
            return run(self.draw(seed), replica=self.replica, protocol=self.protocol)


# -- how many signatures decide ---------------------------------------------------------------------------------


def counting(quorum: Callable[[Threshold], int], protocol: Protocol = FLAT) -> Protocol:
    """Give a protocol whose quorums are of another size."""

    def quorums(regions: Any) -> Threshold:
        threshold = Threshold(sum(len(region) for region in regions))
        threshold.quorum = quorum(threshold)
        return threshold

    return replace(protocol, quorums=quorums)


class EverySignature:
    """A scheme that takes a certificate for valid when each of its signatures is somebody's among the signers."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheme, name)

    def verify_all(self, signers: int, statement: bytes, signature: bytes) -> bool:
        """Check that there are enough valid signatures, whoever made them."""
        singles = self._scheme.split(signers, signature)
        return all(any(self._scheme.verify(who, statement, one) for who in members_of(signers)) for one in singles)


def duplicates_counted(config: Config, schemes: SchemeFactory, application: Application) -> StateMachine:
    """Make a replica that counts one signer's signatures as several."""
    return Replica(config, lambda members, own: EverySignature(schemes(members, own)), application)


class TrustsCertificates(Replica):
    """Takes whatever names enough signers for a certificate."""

    def begin_epoch(self, epoch: Any) -> None:
        """Check certificates by their size alone."""
        super().begin_epoch(epoch)
        epoch.certifies = lambda bundle: epoch.quorums.is_quorum(epoch.signers(bundle))


class Overlapping(VoteSet):
    """Adds up sums that have signers in common, and so counts these twice."""

    __slots__ = ()

    def _chosen(self, within: int) -> list[tuple[int, bytes]]:
        return [(part, signature) for part, signature in self._parts.items() if not part & ~within]


# -- what is signed ---------------------------------------------------------------------------------------------

_statement = messages.statement


def without_phase(chain: bytes, phase: int, epoch: int, view: int, seq: int, digest: bytes) -> bytes:
    """Give a statement that says nothing about its phase."""
    return _statement(chain, CHECKPOINT if phase == CHECKPOINT else PREPARE, epoch, view, seq, digest)


STATEMENTS = (
    "consensus.pbft.epoch.statement",
    "consensus.simulation.invariants.statement",
    "consensus.simulation.adversary.statement",
)


class SignsAgain(Replica):
    """Votes for whatever the leader proposes, also the second time."""

    def sign_vote(self, phase: int, view: int, seq: int, digest: bytes) -> Vote | None:
        """Forget what was signed before."""
        self.signed.pop((phase, view, seq), None)
        return super().sign_vote(phase, view, seq, digest)

    def on_proposal(self, sender: int, proposal: Proposal, encoded: bytes) -> None:
        """Take a second proposal as if it were the first."""
        slot = self.slot(proposal.seq)
        if slot is not None and proposal.digest != slot.digest and slot.committed is None:
            slot.view, slot.proposal = -1, None
        super().on_proposal(sender, proposal, encoded)


# -- what is kept, and when -------------------------------------------------------------------------------------


class VotesFirst(Replica):
    """Sends its votes before they are durable."""

    def _taken(self) -> list[Any]:
        effects = super()._taken()
        return sorted(effects, key=lambda effect: isinstance(effect, Persist))


class WithoutRecords(Replica):
    """Starts after a crash without some of what it recorded."""

    lost: type[Message] = Vote

    def recover(self, records: list[bytes]) -> None:
        """Leave records out."""
        super().recover([record for record in records if decode_as(self.lost, record) is None])


class WithoutCertificates(WithoutRecords):
    """Starts without its prepared certificates."""

    lost = Bundle


class WithoutViews(WithoutRecords):
    """Starts in the view of its last checkpoint."""

    lost = Signed


class OldWindow(Replica):
    """Reads its log in the order of writing, so that what was voted for above the last checkpoint is forgotten."""

    def recover(self, records: list[bytes]) -> None:
        """Drop what was written before the newest checkpoint."""
        last = max((at for at, record in enumerate(records) if decode_as(State, record)), default=0)
        super().recover(records[last:])


# -- the window, execution, checkpoints -------------------------------------------------------------------------


class Boundless(Replica):
    """Votes for any number."""

    @property
    def high(self) -> int:
        """No end."""
        return 1 << 40

    def slot(self, seq: int) -> Any:
        """Give a slot to every number above the checkpoint."""
        window, low = self.config.window, self.low
        if seq <= low + window:
            return super().slot(seq)
        with patch.object(type(self.config), "window", 1 << 40, create=True):
            object.__setattr__(self.config, "window", 1 << 40)
            slot = super().slot(seq)
            object.__setattr__(self.config, "window", window)
        return slot


PREPARED = Protocol("flat", FLAT.quorums, FLAT.path, fast=True)
"""Decides on a prepared certificate: one round of votes, n >= 3f+1, and a view change made for two rounds."""


def without_replies(header: bytes, replies: tuple[Any, ...], application: bytes) -> states.Image:
    """Make an image that says nothing about what clients were answered."""
    return states.Image(header, (), application)


class AnyState(Replica):
    """Takes over a state without comparing its digest with the certificate's."""

    def on_state(self, message: State) -> None:
        """Believe the state."""
        image = states.decode_image(message.state)
        if image is None:
            return
        digest = message.certificate.digest
        with patch.object(states.Image, "digest", lambda self: digest):
            super().on_state(message)


class AnyCertifiedState(Replica):
    """Takes over a state without verifying the certificate's signatures."""

    def on_state(self, message: State) -> None:
        """Believe the certificate."""
        with patch.object(type(self.epoch), "certifies", lambda epoch, bundle: True):
            super().on_state(message)


# -- requests ---------------------------------------------------------------------------------------------------


def any_client(self: Any, request: Any, scheme: Scheme) -> bool:
    """Take every request for signed."""
    return True


# -- view changes -----------------------------------------------------------------------------------------------


class HidesPrepared(Replica):
    """Names only some of what it prepared in its view change."""

    kept = 1

    def _want(self, view: int) -> None:
        prepared = [slot for _, slot in sorted(self.slots.items()) if slot.prepared is not None]
        hidden = [(slot, slot.prepared) for slot in prepared[: len(prepared) - self.kept]]
        for slot, _ in hidden:
            slot.prepared = None
        super()._want(view)
        for slot, certificate in hidden:
            slot.prepared = slot.prepared or certificate


class Resets(HidesPrepared):
    """Drops what it prepared when it changes the view (raijin, issue 8)."""

    kept = 0


def without_nulls(changes: Any, epoch: Any, low: int) -> dict[int, bytes]:
    """Leave numbers out that nobody prepared."""
    return {seq: digest for seq, digest in prescribed(changes, epoch, low).items() if digest != NULL}


def lowest_view(changes: Any, epoch: Any, low: int) -> dict[int, bytes]:
    """Choose the prepared certificate of the lowest view instead of the highest."""
    chosen = prescribed(changes, epoch, low)
    best: dict[int, Bundle] = {}
    for certificate in (one for change in changes for one in change.prepared):
        known = best.get(certificate.seq)
        if certificate.seq > low and (known is None or certificate.view < known.view):
            best[certificate.seq] = certificate
    return chosen | {seq: certificate.digest for seq, certificate in best.items()}


class NeverJoins(Replica):
    """Leaves a view only when its own timer runs out."""

    def on_view_change(self, sender: int, signed: Signed) -> None:
        """Ignore that others are ahead."""
        quorums = self.epoch.quorums
        with patch.object(type(quorums), "is_weak", lambda self, signers: False):
            super().on_view_change(sender, signed)


class Impatient(Replica):
    """Waits as long for the tenth leader as for the first."""

    def _start_view_timer(self) -> None:
        self._view_timer = True
        self.set_timer(VIEW, self.config.timing.view)


class CommitsLate(Replica):
    """Commits in a view that it has left."""

    def certified(self, slot: Any, certificate: Bundle) -> None:
        """Vote although the view is over."""
        new = (certificate.phase, certificate.view, certificate.digest) not in slot.certificates
        super().certified(slot, certificate)
        if new and certificate.phase == PREPARE and not (self.active and certificate.view == self.view):
            vote = self.sign_vote(COMMIT, certificate.view, slot.seq, certificate.digest)
            if vote is not None:
                slot.remember_own(vote)
                self._hold(slot, vote)
                self.path.cast(vote)


class AnyNewView(Replica):
    """Enters a view on its leader's word, whatever view changes come with it."""

    def _proven(self, signed: Signed, message: NewView) -> list[ViewChange] | None:
        if signed.signer != self.leader(message.view) or not self.epoch.valid_body(signed):
            return None
        changes = [decode(item.body) for item in message.changes]
        return [change for change in changes if isinstance(change, ViewChange)]


def any_claim(change: ViewChange, epoch: Any, base: int, window: int) -> bool:
    """Believe a view change without checking the certificates in it."""
    return True


class NoSuchQuorum:
    """Stands for `FastThreshold` where votes in view changes are to be ignored."""


def by_regions(regions: Any) -> QuorumSystem:
    """Count regions instead of signatures."""
    return TwoLayer(regions)


BUGS: dict[str, Bug] = {
    "quorum 2F": Bug(
        "quorums of 2F signatures", drawn("flat", 4, "equivocate"), protocol=counting(lambda t: 2 * t.faults)
    ),
    "quorum 2F+1 at n=3F+3": Bug(
        "quorums of 2F+1 signatures of 6", drawn("flat", 6, faulty=()), protocol=counting(lambda t: 2 * t.faults + 1)
    ),
    "duplicate signer counted": Bug(
        "one signature, repeated, is a quorum", drawn("regional", 7, "forge", scheme="null"), duplicates_counted
    ),
    "certificate trusted": Bug("bundles are not verified", drawn("regional", 7, "forge"), TrustsCertificates),
    "bundle counted twice": Bug(
        "sums with common signers are added up",
        drawn("regional", 13, "bad-head", scheme="sum"),
        patches=[("consensus.pbft.slots.VoteSet", Overlapping)],
    ),
    "phase missing in signature": Bug(
        "a PREPARE signature passes for a COMMIT",
        cut("star", 4, "relabel"),
        patches=[(name, without_phase) for name in STATEMENTS],
    ),
    "votes twice": Bug(
        "a second proposal for a number is voted for", drawn("flat", 0, "equivocate-overlapping"), SignsAgain
    ),
    "vote before persist": Bug("sends leave before records are durable", drawn(), VotesFirst),
    "forgets votes on restart": Bug("votes are not read back", crashing("flat", 4), WithoutRecords),
    "forgets certificates on restart": Bug(
        "prepared certificates are not read back", crashing("flat", 4), WithoutCertificates
    ),
    "forgets its view on restart": Bug("a restarted replica is in view 0", crashing("flat", 4), WithoutViews),
    "log read in one pass": Bug("votes written before a checkpoint are lost", crashing("flat", 4), OldWindow),
    "accepts above the window": Bug("no high watermark", drawn("flat", 0, "skip"), Boundless),
    "executes on prepared": Bug("one round decides at n=3f+1", cut("flat", 4), protocol=PREPARED),
    "reply table not in checkpoint": Bug(
        "a transferred state lacks it",
        drawn("flat"),
        patches=[("consensus.pbft.execution.Image", without_replies)],
    ),
    "state digest ignored": Bug("a state is taken at its word", drawn("flat", 0, "corrupt-transfer"), AnyState),
    "state transfer unverified": Bug(
        "a state's certificate is not verified", drawn("flat", 0, "forged-state"), AnyCertifiedState
    ),
    "client signature unchecked": Bug(
        "requests are not verified",
        drawn("", 0, "bad-request"),
        patches=[("consensus.pbft.requests.Requests.valid", any_client)],
    ),
    "prepared numbers dropped": Bug("a view change forgets what was prepared", drawn("flat", 4), Resets),
    "only the last prepared number": Bug("a view change names only one", cut("flat", 4, in_flight=4), HidesPrepared),
    "no null fill": Bug(
        "gaps stay gaps in a new view", drawn("flat", 0), patches=[("consensus.pbft.views.prescribed", without_nulls)]
    ),
    "join rule missing": Bug("F+1 view changes move nobody", cut("flat", 4, "silent"), NeverJoins),
    "timer not growing": Bug("every view lasts as long", drawn("flat", 4, rtt=1.0, view=0.5, jitter=0.0), Impatient),
    "commits in a view it left": Bug("a late certificate is committed", drawn("flat"), CommitsLate),
    "NEW-VIEW unverified": Bug("a leader's word starts a view", drawn("flat", 4, "empty-new-view"), AnyNewView),
    "VIEW-CHANGE unverified": Bug(
        "claims of prepared numbers are believed",
        drawn("flat", 4, "lying-view-change"),
        patches=[("consensus.pbft.views.well_founded", any_claim)],
    ),
    "fast path ignored in view change": Bug(
        "votes in view changes do not count",
        drawn("regional-fast", 6),
        patches=[("consensus.pbft.view_change.FastThreshold", NoSuchQuorum)],
    ),
    "region map used in quorum": Bug(
        "regions are counted instead of signatures",
        drawn("regional", 7, "collude"),
        protocol=Protocol("regional", by_regions, REGIONAL.path),
    ),
}
"""All variants that seeded runs are to catch, by name."""

FAULTS = "tests/consensus/faults/"
SCENARIOS = {
    "highest-view rule inverted": FAULTS + "test_seeded_bugs.py",
    "no epoch in signature": FAULTS + "test_seeded_bugs.py",
    "restart forgets the start of a view": FAULTS + "test_seeded_bugs.py",
    "invalid certificates hide valid ones": FAULTS + "test_public_bugs.py",
    "enters a view only when up to date": FAULTS + "test_public_bugs.py",
    "leaves the late behind at an epoch's end": FAULTS + "test_public_bugs.py",
    "fast path waits for a proven value": FAULTS + "test_public_bugs.py",
    "reads are not ordered": FAULTS + "test_public_bugs.py",
    "every region must answer": FAULTS + "test_public_bugs.py",
    "BLS without proof of possession": "tests/consensus/test_bls.py",
}
"""Further variants, which a scripted scenario catches, and where: chance would need more than thousands of seeds."""


def too_many(seed: int, protocol: str, *, silent: bool) -> Scenario:
    """Draw a control, which must be able to fail: four replicas, two of them silent, or two with twins."""
    if not silent:
        return twins.sampled(seed, protocol, 4, 2, 3)
    return msgspec.structs.replace(random_scenario(seed, protocol, 4), faulty=((0, "silent"), (2, "silent")))
