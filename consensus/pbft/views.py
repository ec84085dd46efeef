"""Changing the leader: when to want another view, and how it begins without losing anything (PBFT, section 4.4)."""

from consensus.machine import Application
from consensus.messages import PREPARE, NewView, Signed, ViewChange, decode_as, encode
from consensus.pbft.config import Config, SchemeFactory
from consensus.pbft.ordering import Ordering
from consensus.pbft.view_change import newest_stable, prescribed, well_founded
from consensus.quorum import bits_of

VIEW, STATUS = ("view",), ("status",)


class Views(Ordering):
    """The layer that changes views.

    Attributes
    ----------
    changes : dict
        Of every member: the view change of the highest view it sent, checked, opened and as it was signed.
    prescribed : dict
        Digest by number: what the start of the current view made everyone vote for again.
    """

    def __init__(self, config: Config, schemes: SchemeFactory, application: Application) -> None:
        super().__init__(config, schemes, application)
        self.changes: dict[int, tuple[ViewChange, Signed]] = {}
        self.prescribed: dict[int, bytes] = {}
        self._view_timer = False
        self._awaited: bytes | None = None  # the request that the view timer runs for, if one waited
        self._stood: tuple[int, int, bool, int] | None = None  # where it stood when the status timer was set

    # -- watching the leader ------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether something is under way that others must help to finish."""
        return (
            not self.active
            or self.wanted is not None
            or len(self.requests) > 0
            or max((at for at, slot in self.slots.items() if slot.view >= 0 or slot.committed), default=0)
            > self.executed
            or any(slot.proposal is not None for at, slot in self.slots.items() if at > self.executed)
            or self.header.until > self.executed
        )

    def watch(self) -> None:
        """Run the timers that see to it that work is finished, if they do not run."""
        if self.active and self.member and not self._view_timer:
            self._start_view_timer()
        if self._stood is None:
            self._stood = self.standing
            self.set_timer(STATUS, self.config.timing.status)

    @property
    def standing(self) -> tuple[int, int, bool, int]:
        """What changes whenever this replica gets on."""
        return self.executed, self.view, self.active, self.low

    def _start_view_timer(self) -> None:
        self._view_timer = True
        self._awaited = self.requests.oldest()
        self.set_timer(VIEW, self.config.timing.view * (1 + self.attempts))

    def _stop_view_timer(self) -> None:
        if self._view_timer:
            self._view_timer = False
            self.cancel_timer(VIEW)

    def progressed(self) -> None:
        """Be patient again: the leader gets the full time for what is still under way.

        But for a request that waited already: a leader that serves everybody else must not starve one client. And a
        replica that waits for a view goes on waiting: what it executes meanwhile, others had decided before.
        """
        self.attempts = 0
        if self.active and (self._awaited is None or self._awaited != self.requests.oldest()):
            self._stop_view_timer()
        if self.busy:
            self.watch()
        self.propose()

    def after_checkpoint(self) -> None:
        """Forget view changes of an epoch that ended, and use the window that has opened."""
        self.changes = {signer: kept for signer, kept in self.changes.items() if kept[0].epoch == self.epoch.number}
        if self.view == 0 and self.header.base == self.low:
            self.requests.release()
            self.prescribed, self.proposed = {}, self.low
        # The order of leaders may have changed, and numbers that were out of reach may not be any more.
        under_way = [seq for seq, slot in self.slots.items() if slot.view == self.view]
        self.proposed = max(self.proposed, self.low, *under_way) if under_way else max(self.proposed, self.low)
        self.vote_again()
        self._try_to_begin()
        self.propose()

    def on_view_timer(self) -> None:
        """Give up on the leader."""
        self._view_timer = False
        if self.member and (self.busy or not self.active):
            self._want(self.view + 1)

    # -- leaving a view -----------------------------------------------------------------------------------------

    def _want(self, view: int) -> None:
        self.view, self.active = view, False
        self.attempts += 1
        self._stop_view_timer()
        live = [slot for seq, slot in sorted(self.slots.items()) if seq > self.low]
        prepared = tuple(slot.prepared for slot in live if slot.prepared is not None)
        voted = tuple(slot.own_votes[PREPARE] for slot in live if PREPARE in slot.own_votes)
        change = ViewChange(
            self.epoch.number,
            view,
            self.stable,
            prepared,
            voted if self.config.protocol.fast else (),
            self.own,
        )
        signed = self.sign_body(change)
        self.persist(self.low + 1, signed)
        self.note("view", view, "wanted")
        self.changes[self.own] = (change, signed)
        self.send(self.others, encode(signed), "view")
        self.watch()
        self._try_to_begin()

    def on_view_change(self, sender: int, signed: Signed) -> None:
        """Hear that a member wants another view."""
        change = self.epoch.view_change(signed)
        if change is None or change.signer == self.own or not self.member:
            return
        if change.view <= self.view and self.active:
            if self.new_view is not None and change.view == self.view:
                self.send((change.signer,), encode(self.new_view), "view")
            return
        known = self.changes.get(change.signer)
        if change.view < self.view or (known is not None and known[0].view >= change.view):
            return
        if not well_founded(change, self.epoch, self.header_base, self.config.window):
            self.note("evidence", change.view, f"replica {change.signer} sent a view change that proves nothing")
            return
        self.changes[change.signer] = (change, signed)
        ahead = [kept.view for kept, _ in self.changes.values() if kept.view > self.view]
        signers = bits_of(signer for signer, (kept, _) in self.changes.items() if kept.view > self.view)
        if ahead and self.epoch.quorums.is_weak(signers):
            self._want(min(ahead))
        else:
            self._try_to_begin()

    @property
    def header_base(self) -> int:
        """The number at which the current epoch began."""
        return self.handoffs[-1].certificate.seq if self.handoffs else 0

    # -- beginning a view ---------------------------------------------------------------------------------------

    def _try_to_begin(self) -> None:
        if self.active:
            return
        wanting = {signer: signed for signer, (change, signed) in self.changes.items() if change.view == self.view}
        beyond = bits_of(signer for signer, (change, _) in self.changes.items() if change.view >= self.view)
        if self.epoch.quorums.is_quorum(beyond) and not self._view_timer:
            # Enough have left the views before this one: now its leader can be expected to act, or else the next.
            # Some may want a later one already, and their change for this one may be lost.
            self._start_view_timer()
        if not self.epoch.quorums.is_quorum(bits_of(wanting)):
            return
        if self.leader(self.view) == self.own:
            message = NewView(self.epoch.number, self.view, tuple(wanting[signer] for signer in sorted(wanting)))
            signed = self.sign_body(message)
            self.persist(self.low + 1, signed)
            self.send(self.others, encode(signed), "view")
            self._begin(signed, [self.changes[signer][0] for signer in sorted(wanting)])

    def on_new_view(self, signed: Signed) -> None:
        """Check a new leader's proof, compute what follows from it, and begin."""
        message = decode_as(NewView, signed.body)
        if message is None or message.epoch != self.epoch.number:
            return
        if message.view < self.view or (message.view == self.view and self.active):
            return
        changes = self._proven(signed, message)
        if changes is not None:
            self.view = message.view
            self.persist(self.low + 1, signed)
            self._begin(signed, changes)

    def _proven(self, signed: Signed, message: NewView) -> list[ViewChange] | None:
        """Give the view changes of a valid NEW-VIEW of the view's leader; None for anything else."""
        if signed.signer != self.leader(message.view) or not self.epoch.valid_body(signed):
            return None
        changes = []
        for item in message.changes:
            known = next((kept for kept, kept_signed in self.changes.values() if kept_signed == item), None)
            change = known or self.epoch.view_change(item)
            if change is None or change.view != message.view:
                return None
            if known is None and not well_founded(change, self.epoch, self.header_base, self.config.window):
                return None
            changes.append(change)
        signers = [change.signer for change in changes]
        if len(set(signers)) != len(signers) or not self.epoch.quorums.is_quorum(bits_of(signers)):
            return None
        return changes

    def _begin(self, signed: Signed, changes: list[ViewChange]) -> None:
        self.active, self.new_view = True, signed
        self._stop_view_timer()
        self.note("view", self.view, f"led by replica {self.leader(self.view)}")
        base, stable = newest_stable(changes, self.header_base)
        self.prescribed = prescribed(changes, self.epoch, base)
        if stable is not None:
            self.on_checkpoint(stable)
        self.requests.release()
        for slot in self.slots.values():
            slot.forget_votes_before(self.view)
            slot.proposal, slot.gather = None, None
            slot.early.clear()
        self.proposed = max(base, self.low, *self.prescribed)
        self.path.entered()
        self.vote_again()
        if self.busy:
            self.watch()
        if self.leader(self.view) != self.own:
            for request in self.requests.waiting():
                self.send((self.leader(self.view),), request, "request")
        self.propose()

    def vote_again(self) -> None:
        """Vote for what the start of the view prescribed, as far as the window reaches."""
        if not self.active:
            return
        for seq, digest in self.prescribed.items():
            slot = self.slot(seq)
            if slot is None or slot.view == self.view:
                continue
            slot.view, slot.digest = self.view, digest
            if batch := self.batch(digest):
                self.requests.take_those_of(batch)
            self.cast(PREPARE, self.view, seq, digest)

    def prescribe(self, message: NewView) -> None:
        """Recall, from this replica's own log, what the start of the view prescribed."""
        changes = [change for item in message.changes if (change := decode_as(ViewChange, item.body))]
        base, _ = newest_stable(changes, self.header_base)
        self.prescribed = prescribed(changes, self.epoch, base)

    def forget_timers(self) -> None:
        """Take note that no timer runs."""
        self._view_timer, self._stood = False, None

    def persist_view(self) -> None:
        """Record anew what the records that are about to be forgotten say about the view."""
        if self.new_view is not None:
            self.persist(self.low + 1, self.new_view)
        if not self.active:
            self.persist(self.low + 1, self.changes[self.own][1])
