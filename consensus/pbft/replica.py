"""A replica: the layers together, what it answers to events, and how it comes back after a crash."""

from consensus.machine import Application, Decided, Effect, Event, Fired, Persist, Received
from consensus.messages import (
    PREPARE,
    Bundle,
    Chunk,
    Committed,
    Content,
    Fetch,
    NewView,
    Proposal,
    Repeat,
    Request,
    Signed,
    State,
    Status,
    ViewChange,
    Vote,
    batch_digest,
    decode,
    encode,
)
from consensus.pbft.config import Config, SchemeFactory
from consensus.pbft.views import STATUS, VIEW, Views

NOBODY = -1  # stands for a sender where how a message came means nothing
MOST_SENT = 8  # decided batches sent to a lagging replica for one status message


class Replica(Views):
    """One member of a council that agrees on a sequence of batches (Castro and Liskov, OSDI 1999).

    A pure state machine: see `consensus.machine`. Safe as long as the faulty members are within the bound of the
    protocol's quorum system, whatever the network does; live once the network delivers in time.

    Parameters
    ----------
    config : Config
        Everything a replica is told.
    schemes : callable
        Makes the signature scheme of an epoch: ``schemes(members, own)``.
    application : Application
        What is agreed about.
    """

    def __init__(self, config: Config, schemes: SchemeFactory, application: Application) -> None:
        super().__init__(config, schemes, application)
        self.path = config.protocol.path(self)

    def start(self) -> list[Effect]:
        """Begin, or begin again: ask the others what was missed."""
        self.awake = True
        self._send_status()
        if self.busy or not self.member:
            self.watch()
        self.vote_again()
        if not self.active:
            self.send(self.others, encode(self.changes[self.own][1]), "view")
        return self._taken()

    def step(self, event: Event) -> list[Effect]:
        """Take one event and return its effects, in order."""
        if isinstance(event, Received):
            self._receive(event.sender, event.data)
        else:
            self._fired(event)
        return self._taken()

    def _taken(self) -> list[Effect]:
        effects, self.effects = self.effects, []
        return effects

    def _fired(self, event: Fired) -> None:
        if event.timer == VIEW:
            self.on_view_timer()
        elif event.timer == STATUS:
            self._on_status_timer()
        else:
            self.path.fired(event.timer)

    def _receive(self, sender: int, data: bytes) -> None:
        match decode(data):
            case Vote() as vote:
                self.on_vote(sender, vote)
            case Bundle() as bundle:
                self.on_bundle(sender, bundle)
            case Request() as request:
                self.on_request(sender, request, data)
            case Proposal() as proposal:
                self.on_proposal(sender, proposal, data)
            case Chunk() as chunk:
                self.on_chunk(sender, chunk)
            case Signed() as signed:
                self.on_view_change(sender, signed)
                self.on_new_view(signed)
            case Status() as status if status.signer == sender >= 0:
                self._on_status(status)
            case Fetch() as fetch if fetch.signer == sender >= 0:
                self.on_fetch(sender, fetch)
            case Content() as content:
                self.on_content(content)
            case State() | Committed() as message:
                self._catch_up(sender, message)
            case Repeat(again) if isinstance(decode(again), Proposal | Vote | Bundle):
                self._receive(NOBODY, again)

    # -- status -------------------------------------------------------------------------------------------------

    def _send_status(self, to: tuple[int, ...] | None = None) -> None:
        stable = self.stable.seq if self.stable else 0
        status = Status(self.epoch.number, self.view, self.active, stable, self.executed, self.own)
        self.send(self.others if to is None else to, encode(status), "sync")

    def _catch_up(self, sender: int, message: State | Committed) -> None:
        """Take in what was decided without this replica, and ask whoever knew it whether there is more."""
        before = self.executed
        if isinstance(message, State):
            self.on_state(message)
        else:
            self.path.overtaken(message, sender)
            self.on_committed(message)
        if self.executed > before and not self.busy and sender >= 0:
            self._send_status((sender,))

    def _on_status_timer(self) -> None:
        stuck, self._stood = self._stood == self.standing, None
        if self.busy or self.behind or not self.member:  # whoever may become a member follows those who are
            if stuck:
                self.behind = False
                self._send_status()
                self.fetch_missing()
            self.remind_leader()
            self.watch()

    def _on_status(self, status: Status) -> None:
        """Send a replica what it lacks; what it says is believed, since it only costs this replica some messages."""
        to = (status.signer,)
        if status.epoch < self.epoch.number:
            self.send_state(status.signer)
            return
        if status.epoch > self.epoch.number:
            self.hear_of_more()
            return
        if self.stable is not None and status.stable < self.low:
            self.send(to, encode(self.stable), "sync")
        if status.view < self.view or (status.view == self.view and not status.active):
            if not self.active:
                self.send(to, encode(self.changes[self.own][1]), "sync")
            elif self.new_view is not None:
                self.send(to, encode(self.new_view), "sync")
        for seq in range(max(status.executed, self.low) + 1, min(self.executed, status.executed + MOST_SENT) + 1):
            certificate = self.slots[seq].committed
            if certificate is not None and (batch := self.batch(certificate.digest)) is not None:
                self.send(to, encode(Committed(certificate, batch)), "sync")
        if status.view == self.view and status.active and self.active:
            self._send_live(status.signer, max(status.executed, self.executed))

    def _send_live(self, to: int, above: int) -> None:
        """Send again what this replica said about numbers under way."""
        for seq in sorted(self.slots):
            slot = self.slots[seq]
            if seq > above:
                if slot.proposal is not None and slot.proposal.view == self.view:
                    self._repeat(to, slot.proposal)
                for certificate in (slot.prepared, slot.committed):
                    if certificate is not None:
                        self._repeat(to, certificate)
            for vote in slot.own_votes.values():
                if seq > above or vote.seq % self.config.period == 0:
                    self._repeat(to, vote)

    def _repeat(self, to: int, message: Proposal | Bundle | Vote) -> None:
        self.send((to,), encode(Repeat(encode(message))), "sync")

    # -- recovery -----------------------------------------------------------------------------------------------

    def recover(self, records: list[bytes]) -> None:
        """Take back what the durable log holds, in the order in which it was written."""
        messages = [decode(record) for record in records]
        states = [message for message in messages if isinstance(message, State)]
        if states:  # first, since what lies above the newest one may have been written before it
            self.recover_state(states[-1])
        for message in messages:
            match message:
                case Content() as content:
                    self.batches[batch_digest(content.batch)] = content.batch
                case Vote() as vote:
                    self._recover_vote(vote)
                case Bundle() as certificate:
                    self._recover_certificate(certificate)
                case Signed() as signed:
                    self._recover_view(signed)
        self.execute_ready()
        self.proposed = max([self.low, *(seq for seq, slot in self.slots.items() if slot.view == self.view)])
        # Votes and answers are asked for again, timers start anew; what was decided is told again.
        self.effects = [effect for effect in self.effects if isinstance(effect, Persist | Decided)]
        self.path = self.config.protocol.path(self)
        self.forget_timers()

    def _recover_vote(self, vote: Vote) -> None:
        slot = self.slot(vote.seq)
        if slot is None or vote.epoch != self.epoch.number:
            return
        self.signed[vote.phase, vote.view, vote.seq] = vote.digest
        slot.remember_own(vote)
        slot.vote_set((vote.phase, vote.view, vote.digest), self.epoch).add(1 << vote.signer, vote.signature)
        slot.seen[vote.phase, vote.view] = slot.heard(vote.phase, vote.view) | 1 << vote.signer
        if vote.phase == PREPARE and vote.view >= slot.view:
            slot.view, slot.digest = vote.view, vote.digest

    def _recover_certificate(self, certificate: Bundle) -> None:
        slot = self.slot(certificate.seq)
        if slot is None or certificate.epoch != self.epoch.number:
            return
        slot.certificates[certificate.phase, certificate.view, certificate.digest] = certificate
        if certificate.phase == PREPARE and (slot.prepared is None or certificate.view > slot.prepared.view):
            slot.prepared = certificate
        if self.decides(certificate):
            slot.committed = certificate

    def _recover_view(self, signed: Signed) -> None:
        match decode(signed.body):
            case ViewChange() as change if change.epoch == self.epoch.number and change.view >= self.view:
                self.view, self.active = change.view, False
                self.changes[self.own] = (change, signed)
            case NewView() as message if message.epoch == self.epoch.number and message.view >= self.view:
                self.view, self.active, self.new_view = message.view, True, signed
                self.prescribe(message)
