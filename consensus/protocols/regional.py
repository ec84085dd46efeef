"""`regional`: votes travel member → head → all heads → members, in bundles that count individual signatures.

A decision takes ``n-1 + 4(n-k) + 2k(k-1)`` messages for k regions of n replicas. RegionMap only carry votes: a quorum
is ``q`` signatures of all n, so it survives F < n/3 faulty replicas placed anywhere, every head included; the map of
regions is a hint that replicas may even disagree about.

`regional-fast` decides after the PREPARE round, on n - f signatures with f = ⌊(n-1)/5⌋: ``n-1 + 2(n-k) + k(k-1)``.
"""

from typing import TYPE_CHECKING

from consensus.machine import Timer
from consensus.messages import CHECKPOINT, COMMIT, PREPARE, Bundle, Committed, Vote, encode, signers_to_bytes
from consensus.pbft.config import Protocol, RegionMap
from consensus.pbft.path import VotePath, kind_of
from consensus.pbft.slots import Slot
from consensus.protocols.flat import count_all
from consensus.quorum import FastThreshold, bits_of

if TYPE_CHECKING:
    from consensus.pbft.replica import Replica

Round = tuple[int, int]
"""Sequence number and phase: what a head bundles once."""

BACKUP_HEAD, EVERYBODY = 1, 2


class RegionalPath(VotePath):
    """One replica's part in carrying votes: member always, head of its region at times.

    Attributes
    ----------
    struck : set of int
        Replicas that failed their region as its head, as far as this one saw: passed over until all of a region are.
    silent : int
        Bit set of own members whose votes did not come in time last: not waited for until they come again.
    complaints : dict
        By number and region: bit set of the members that sent their votes past their head.
    working : set
        Numbers and regions whose head was heard from.
    fallback : dict
        By number: whether votes went to the backup head, or go to everybody since the usual way took too long.
    """

    def __init__(self, replica: "Replica") -> None:
        super().__init__(replica)
        self.struck: set[int] = set()
        self.silent = 0
        self._at = (-1, -1)  # epoch and view that the rest belongs to
        self.entered()

    def entered(self) -> None:
        """Start anew with a view or an epoch; at a checkpoint drop what it covers."""
        epoch, low = self.replica.epoch, self.replica.low
        self._heads: dict[int, list[int]] = {}
        if self._at != (epoch.number, self.replica.view):
            self._at = (epoch.number, self.replica.view)
            self.regions = self._regions()
            self.home = {place: index for index, region in enumerate(self.regions) for place in region}
            self.own_region = self.home.get(self.replica.own, -1)
            self.own_bits = bits_of(self.regions[self.own_region]) if self.own_region >= 0 else 0
            self.fallback: dict[int, int] = {}
            self.complaints: dict[Round, int] = {}
            self.working: set[Round] = set()
            self._armed: set[int] = set()
            self._acting: set[Round] = set()
            self._bundled: dict[Round, int] = {}
            self._waiting: set[Round] = set()  # bundles that a timer is running for
            self._reported: dict[Round, set[int]] = {}
            self._answered: dict[Round, int] = {}
            return
        self.fallback = {seq: stage for seq, stage in self.fallback.items() if seq > low}
        self._armed = {seq for seq in self._armed if seq > low}
        for rounds in (self._acting, self._waiting, self.working):
            rounds.difference_update([about for about in rounds if about[0] <= low])
        for table in (self._bundled, self._reported, self._answered, self.complaints):
            for about in [about for about in table if about[0] <= low]:
                del table[about]

    def _regions(self) -> RegionMap:
        return self.replica.epoch.regions

    # -- who is a head ------------------------------------------------------------------------------------------

    def head(self, index: int, seq: int, rank: int = 0) -> int:
        """Tell who is a region's head for a number, or its rank-th replacement.

        The leader is the head of its own region. Elsewhere heads rotate with every checkpoint period, and those that
        were struck are passed over.
        """
        region = self.regions[index]
        leader = self.replica.leader(self.replica.view)
        turn = (seq - 1) // self.replica.config.period % len(region)
        turned = region[turn:] + region[:turn]
        willing = [place for place in turned if place not in self.struck] or list(turned)
        if leader in region:
            willing = [leader, *(place for place in willing if place != leader)]
        return willing[rank % len(willing)]

    def heads(self, seq: int) -> list[int]:
        """Give every region's head for a number, in the order of regions."""
        period = (seq - 1) // self.replica.config.period
        if period not in self._heads:
            self._heads[period] = [self.head(index, seq) for index in range(len(self.regions))]
        return self._heads[period]

    def strike(self, index: int, seq: int) -> None:
        """Pass a region's head over from now on."""
        head = self.head(index, seq)
        if head == self.replica.leader(self.replica.view):
            return
        self.struck.add(head)
        if self.struck.issuperset(self.regions[index]):
            self.struck.difference_update(self.regions[index])
        self._heads.clear()
        self.replica.note("strike", seq, f"replica {head} as head of region {index}")

    def _other_heads(self, seq: int) -> list[int]:
        return [head for head in self.heads(seq) if head != self.replica.own]

    def _members(self) -> list[int]:
        return [place for place in self.regions[self.own_region] if place != self.replica.own]

    def _is_head(self, seq: int) -> bool:
        return self.own_region >= 0 and self.heads(seq)[self.own_region] == self.replica.own

    def _collects(self, seq: int) -> bool:
        """Whether members turn to this replica: as the head, or as its backup, to which they turn only in need."""
        return self._is_head(seq) or self.head(self.own_region, seq, 1) == self.replica.own

    # -- the way of a decision ----------------------------------------------------------------------------------

    def propose(self, seq: int, encoded: bytes) -> None:
        """Send the proposal to the other heads and to the own region; it carries the leader's vote."""
        self.replica.send(self._other_heads(seq) + self._members(), encoded, "vote")
        self._arm(seq)
        slot = self.replica.slots[seq]
        self._acting.add((seq, PREPARE))
        self._collect(slot, PREPARE, slot.view, slot.digest)

    def proposed(self, seq: int, encoded: bytes, sender: int) -> None:
        """Pass a proposal that came straight from the leader on to the own region."""
        leader = self.replica.leader(self.replica.view)
        if self.own_region < 0:
            return
        if sender == leader and self.home[leader] != self.own_region:
            self.replica.send(self._members(), encoded, "vote")
            if not self._is_head(seq):  # the leader turns to members only when it has waited for their heads in vain
                self._go_past_head(seq)
        elif sender == self.heads(seq)[self.own_region]:
            self.working.add((seq, self.own_region))
        self._arm(seq)

    def cast(self, vote: Vote) -> None:
        """Send the own vote to the head, or bundle it as the head."""
        replica, everybody = self.replica, self.fallback.get(vote.seq) == EVERYBODY
        if everybody:
            replica.send(replica.others, encode(vote), "backup")
        if self._is_head(vote.seq):
            self._acting.add((vote.seq, vote.phase))
            self._collect(replica.slots[vote.seq], vote.phase, vote.view, vote.digest)
        elif not everybody:
            replica.send((self.heads(vote.seq)[self.own_region],), encode(vote), kind_of(vote.phase))

    def wants(self, vote: Vote) -> bool:
        """Say whether a member's vote still goes into this head's bundle, for heads that lack it."""
        about = (vote.seq, vote.phase)
        return about in self._acting and bool((self.own_bits & ~self._bundled.get(about, 0)) >> vote.signer & 1)

    def heard(self, message: Vote | Bundle, sender: int) -> None:
        """Bundle what members sent; answer those who ask late."""
        about = (message.seq, message.phase)
        slot = self.replica.slots[message.seq]
        certificate = slot.certificates.get((message.phase, message.view, message.digest))
        if isinstance(message, Bundle):
            self._heard_bundle(about, certificate, sender)
        elif sender == message.signer and self.home.get(sender) == self.own_region:
            if self._collects(message.seq):
                self._acting.add(about)
                self._collect(slot, message.phase, message.view, message.digest)
            else:
                self._heard_past_head(message, certificate)
        elif sender == message.signer and sender in self.home:
            self._complained(message.seq, sender)
            if certificate is not None:
                self._answer(about, certificate, sender)

    def _heard_bundle(self, about: Round, certificate: Bundle | None, sender: int) -> None:
        region = self.home.get(sender)
        if region is None or region == self.own_region:
            return
        self._reported.setdefault(about, set()).add(region)
        self._acting.add(about)
        if self.heads(about[0])[region] == sender:
            self.working.add((about[0], region))
        elif certificate is not None:
            self._answer(about, certificate, sender)

    def _heard_past_head(self, vote: Vote, certificate: Bundle | None) -> None:
        """Answer a member of the own region that sends its vote to a replica that is not its head."""
        self._complained(vote.seq, vote.signer)
        if certificate is not None:
            self._answer((vote.seq, vote.phase), certificate, vote.signer)

    def _complained(self, seq: int, member: int) -> None:
        region = self.home[member]
        if self.heads(seq)[region] == member:
            self.working.add((seq, region))  # it waits in vain itself
        self._count_complaint(seq, member)

    def _count_complaint(self, seq: int, member: int) -> None:
        about = (seq, self.home[member])
        self.complaints[about] = self.complaints.get(about, 0) | 1 << member

    def _blame(self, seq: int) -> None:
        """Pass over the heads that were not heard from while more than f_m of their members went past them."""
        for (about, region), members in list(self.complaints.items()):
            enough = members.bit_count() > (len(self.regions[region]) - 1) // 3
            if about == seq and enough and (seq, region) not in self.working:
                self.strike(region, seq)

    def _answer(self, about: Round, certificate: Bundle, to: int) -> None:
        if not self._answered.get(about, 0) >> to & 1:
            self._answered[about] = self._answered.get(about, 0) | 1 << to
            self.replica.send((to,), encode(certificate), "backup")

    def certified(self, certificate: Bundle) -> None:
        """As a head, pass a certificate on to the own members."""
        about = (certificate.seq, certificate.phase)
        current = certificate.phase == CHECKPOINT or certificate.view == self.replica.view
        if current and self.own_region >= 0 and (about in self._acting or self._is_head(certificate.seq)):
            self.replica.send(self._members(), encode(certificate), kind_of(certificate.phase))
            if certificate.phase == CHECKPOINT and about not in self._bundled:
                # The number is forgotten now, so this region's bundle will never be whole; other heads may need it.
                self.replica.send(self._other_heads(certificate.seq), encode(certificate), "checkpoint")

    # -- bundles ------------------------------------------------------------------------------------------------

    def _collect(self, slot: Slot, phase: int, view: int, digest: bytes) -> None:
        """Send the region's bundle once all members that answer are in it; wait for late ones a moment."""
        about = (slot.seq, phase)
        votes = slot.votes.get((phase, view, digest))
        if votes is None or about not in self._acting:
            return
        held = votes.signers & self.own_bits
        self.silent &= ~held
        if not held & ~self._bundled.get(about, 0):
            return
        if not self.own_bits & ~self.silent & ~held:
            self._send_bundle(slot, phase, view, digest)
        elif about not in self._waiting:
            self._waiting.add(about)
            timer = ("path", "bundle", slot.seq, phase, view)
            self.replica.set_timer(timer, self.replica.config.timing.bundle)

    def _send_bundle(self, slot: Slot, phase: int, view: int, digest: bytes) -> None:
        about = (slot.seq, phase)
        if about in self._waiting:
            self._waiting.discard(about)
            self.replica.cancel_timer(("path", "bundle", slot.seq, phase, view))
        sent = self._bundled.get(about, 0)
        signers, signature = slot.votes[phase, view, digest].combined(self.own_bits & ~sent)
        self._bundled[about] = sent | signers
        if not signers:
            return
        bundle = Bundle(
            phase, self.replica.epoch.number, view, slot.seq, digest, signers_to_bytes(signers), signature
        )
        heads = self._other_heads(slot.seq)
        if self.own_region >= 0 and not self._is_head(slot.seq):
            # As backup head: the own head may be the one that failed.
            heads.remove(self.heads(slot.seq)[self.own_region])
        self.replica.send(heads, encode(bundle), kind_of(phase))

    def _bundle_late(self, seq: int, phase: int, view: int) -> None:
        self._waiting.discard((seq, phase))
        slot = self.replica.slots.get(seq)
        if slot is None:
            return
        for (of_phase, of_view, digest), votes in list(slot.votes.items()):
            held = votes.signers & self.own_bits & ~self._bundled.get((seq, phase), 0)
            if (of_phase, of_view) == (phase, view) and held:
                self.silent |= self.own_bits & ~votes.signers
                self._send_bundle(slot, phase, view, digest)

    # -- when the usual way takes too long ----------------------------------------------------------------------

    def _arm(self, seq: int) -> None:
        if seq not in self._armed:
            self._armed.add(seq)
            self.replica.set_timer(("path", "fallback", seq), self.replica.config.timing.fallback / 2)

    def _disarm(self, seq: int) -> None:
        if seq in self._armed:
            self._armed.discard(seq)
            self.replica.cancel_timer(("path", "fallback", seq))

    def decided(self, seq: int) -> None:
        """Stop waiting, unless a region is still to be heard from; all who saw a head fail pass it over alike."""
        self._blame(seq)
        if not self._missing_regions(seq):
            self._disarm(seq)

    def _missing_regions(self, seq: int) -> list[int]:
        last = next(((seq, phase) for phase in (COMMIT, PREPARE) if (seq, phase) in self._acting), None)
        if last is None or not self._is_head(seq):  # a backup head is sent no bundles
            return []
        reported = self._reported.get(last, set())
        return [index for index in range(len(self.regions)) if index != self.own_region and index not in reported]

    def overtaken(self, message: Committed, sender: int) -> None:
        """Blame the own head when the leader has to send what it should have passed on."""
        seq, leader = message.certificate.seq, self.replica.leader(self.replica.view)
        slot = self.replica.slots.get(seq)
        undecided = seq > self.replica.executed and (slot is None or slot.committed is None)
        if sender == leader and undecided and self.own_region not in (-1, self.home[leader]):
            self.strike(self.own_region, seq)

    def fired(self, timer: Timer) -> None:
        """Send what a head holds, or stop relying on heads."""
        _, what, seq, *rest = timer
        if what == "bundle":
            phase, view = rest
            if view in (0, self.replica.view):
                self._bundle_late(int(seq), int(phase), int(view))
        elif seq in self._armed:
            self._armed.discard(int(seq))
            self._waited_in_vain(int(seq))

    def _waited_in_vain(self, seq: int) -> None:
        replica, slot = self.replica, self.replica.slots.get(seq)
        if slot is None or not replica.member:
            return
        stage = self.fallback[seq] = self.fallback.get(seq, 0) + 1
        if slot.committed is not None:
            if stage < EVERYBODY:
                self._arm(seq)
            else:
                self._bring_up_to_date(slot)
            return
        votes = [vote for vote in slot.own_votes.values() if vote.view in (0, replica.view)]
        if stage == BACKUP_HEAD:
            backup = self.head(self.own_region, seq, 1)
            if not self._is_head(seq) and backup != replica.own:
                for vote in votes:
                    replica.send((backup,), encode(vote), "backup")
            self._arm(seq)
            return
        replica.note("fallback", seq)
        self._go_past_head(seq)
        if replica.leading and slot.proposal is not None:
            replica.send(replica.others, encode(slot.proposal), "backup")
        for vote in votes:
            replica.send(replica.others, encode(vote), "backup")

    def _go_past_head(self, seq: int) -> None:
        self.fallback[seq] = EVERYBODY
        self._count_complaint(seq, self.replica.own)

    def _bring_up_to_date(self, slot: Slot) -> None:
        """Pass over heads that were not heard from; as leader, give their regions the decision directly."""
        replica = self.replica
        for index in self._missing_regions(slot.seq):
            batch = replica.batch(slot.committed.digest) if slot.committed else None
            if replica.leading and slot.committed and batch is not None:
                replica.send(self.regions[index], encode(Committed(slot.committed, batch)), "backup")
            self.strike(index, slot.seq)


REGIONAL = Protocol("regional", count_all, RegionalPath)


def count_fast(regions: RegionMap) -> FastThreshold:
    """Count signatures of all replicas, n - f of them."""
    return FastThreshold(sum(len(region) for region in regions))


REGIONAL_FAST = Protocol("regional-fast", count_fast, RegionalPath, fast=True)
