"""The normal case: requests, proposals, votes, certificates (PBFT, section 4.2)."""

from consensus.machine import Application
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    NULL,
    PREPARE,
    Batch,
    Bundle,
    Chunk,
    Committed,
    Content,
    Proposal,
    Request,
    Vote,
    batch_digest,
    decode_as,
    decode_batch,
    encode,
)
from consensus.payload import Gather
from consensus.pbft.config import Config, SchemeFactory
from consensus.pbft.execution import Execution
from consensus.pbft.requests import Requests
from consensus.pbft.slots import Slot, Statement

UNCHECKED = 4  # so many bundles of one sender are added up before they are checked, for each phase and view


class Ordering(Execution):
    """The layer that orders.

    Attributes
    ----------
    requests : Requests
        What clients asked for and was not executed yet.
    proposed : int
        As leader: the last number proposed in this view, or prescribed by its start.
    """

    def __init__(self, config: Config, schemes: SchemeFactory, application: Application) -> None:
        super().__init__(config, schemes, application)
        self.requests = Requests(config.chain)
        self.proposed = 0
        self._recorded = 0  # the last checkpoint whose certificate is in one of the own proposals

    # -- requests -----------------------------------------------------------------------------------------------

    def on_request(self, sender: int, request: Request, encoded: bytes) -> None:
        """Take a client's request, answer one that was executed before, pass a new one on to the leader."""
        done = self.replies.get(request.client)
        if done is not None and request.timestamp <= done.timestamp:
            if request.timestamp == done.timestamp and sender < 0 and self.member:
                self.answer(request.client)
            return
        if not self.requests.holds(request, encoded) and not (
            self.requests.valid(request, self.epoch.scheme)
            and not self._unacceptable(request)  # else one client could have every correct leader's proposal refused
            and self.requests.add(request, encoded)
        ):
            return
        if self.leading:
            self.propose()
        elif sender < 0 and self.active:
            # From the client itself: it sends to everybody when it has waited in vain, so the leader is now watched.
            self.send({self.leader(self.view)} - {self.own}, encoded, "request")
        self.watch()

    def remind_leader(self) -> None:
        """Pass the oldest request on again: the leader may never have had it."""
        oldest = self.requests.oldest()
        if oldest is not None and self.active and self.leader(self.view) != self.own:
            self.send((self.leader(self.view),), oldest, "request")

    def executed_request(self, request: Request) -> None:
        """Forget a request that was executed."""
        self.requests.done(request.client, request.timestamp)

    def forget_answered(self) -> None:
        """Forget requests that a transferred state says were executed."""
        for done in self.replies.values():
            self.requests.done(done.client, done.timestamp)

    # -- proposals ----------------------------------------------------------------------------------------------

    def propose(self) -> None:
        """As leader, propose what waits, as far as the window and `in_flight` allow."""
        while self.awake and self.leading and self.proposed < min(self.high, self.executed + self.config.in_flight):
            requests = self.requests.take(self.config.batch_requests, self.config.batch_bytes, self._unacceptable)
            if not requests and not self.header.until:  # an epoch that ends is filled up to its end
                return
            self.proposed = max(self.proposed, self.low) + 1
            self._propose(self.proposed, encode(Batch(self.view, requests, self._unrecorded())))

    def _unrecorded(self) -> Bundle | None:
        """Give the last stable checkpoint's certificate the first time it is asked for."""
        if self.stable is None or self.stable.epoch != self.epoch.number or self.stable.seq <= self._recorded:
            return None
        self._recorded = self.stable.seq
        return self.stable

    def _propose(self, seq: int, batch: bytes) -> None:
        slot = self.slot(seq)
        assert slot is not None, "propose stays inside the window"
        digest = batch_digest(batch)
        self.keep_batch(seq, digest, batch)
        vote = self.sign_vote(PREPARE, self.view, seq, digest)
        if vote is None:  # this replica proposed something else here before a crash; the next view will settle it
            return
        inline = len(batch) <= self.config.inline
        scatter = None if inline else self.epoch.scatter
        root, chunks = scatter.split(batch) if scatter else (b"", [])
        body = batch if inline else b""
        proposal = Proposal(self.epoch.number, self.view, seq, digest, body, root, len(batch), vote.signature)
        slot.proposal, slot.view, slot.digest = proposal, self.view, digest
        slot.remember_own(vote)
        self._hold(slot, vote)
        self.note("proposed", seq)
        self.path.propose(seq, encode(proposal))
        if scatter:
            for position, place in enumerate(self.epoch.places):
                if place != self.own:
                    index = scatter.index(position)
                    self._send_chunk((place,), slot, root, index, len(batch), *chunks[index])
            index = self.epoch.own_chunk
            self._send_chunk(self.others, slot, root, index, len(batch), *chunks[index])
        self.watch()
        self._decide_quorum(slot, (PREPARE, self.view, digest))

    def _send_chunk(
        self,
        to: tuple[int, ...],
        slot: Slot,
        root: bytes,
        index: int,
        size: int,
        data: bytes,
        proof: tuple[bytes, ...],
    ) -> None:
        chunk = Chunk(self.epoch.number, self.view, slot.seq, root, index, size, data, proof)
        self.send(to, encode(chunk), "chunk")

    def on_proposal(self, sender: int, proposal: Proposal, encoded: bytes) -> None:
        """Take the first proposal of the view's leader for a number, whoever passed it on."""
        if proposal.epoch != self.epoch.number or proposal.view != self.view or not self.active:
            if proposal.epoch == self.epoch.number and proposal.view > self.view:
                self.hear_of_more()
            return
        slot = self.slot(proposal.seq) if proposal.seq <= self.high else None
        if slot is None:
            if proposal.seq > self.high:
                self.hear_of_more()
            return
        if slot.view == self.view or (slot.proposal is not None and slot.proposal.view == self.view):
            return
        leader = self.leader(proposal.view)
        vote = Vote(PREPARE, proposal.epoch, proposal.view, slot.seq, proposal.digest, leader, proposal.signature)
        if proposal.digest == NULL or vote.signer == self.own or not self.epoch.valid_vote(vote):
            return
        slot.proposal, slot.leaders_vote = proposal, vote
        self.watch()
        self.path.proposed(proposal.seq, encoded, sender)
        if (known := self.batches.get(proposal.digest)) is not None:
            self._accept(slot, proposal, known)
        elif not proposal.root:
            self._accept(slot, proposal, proposal.batch)
        else:
            slot.gather = Gather(proposal.root, proposal.size, self.epoch.scatter)
            early, slot.early = slot.early, {}
            for chunk in early.values():
                self._gather(slot, chunk)

    def on_chunk(self, sender: int, chunk: Chunk) -> None:
        """Take one chunk; pass the own one on when it comes from the leader."""
        if chunk.epoch != self.epoch.number or chunk.view != self.view or not self.active or not self.member:
            return
        slot = self.slot(chunk.seq)
        if slot is None or (slot.view == self.view and (slot.proposal is None or slot.proposal.root != chunk.root)):
            return
        leader = self.leader(self.view)
        own = sender == leader and chunk.index == self.epoch.own_chunk
        if own and slot.scattered < self.view and self.epoch.scatter.belongs(chunk):
            slot.scattered = self.view
            self.send([place for place in self.others if place != leader], encode(chunk), "chunk")
        if slot.view == self.view:
            return
        if slot.gather is not None:
            self._gather(slot, chunk)
        elif sum(1 for source, _ in slot.early if source == sender) < 2:
            slot.early[sender, chunk.index] = chunk

    def _gather(self, slot: Slot, chunk: Chunk) -> None:
        gather, proposal = slot.gather, slot.proposal
        if gather is None or proposal is None or chunk.view != proposal.view or not gather.add(chunk):
            return
        if gather.ready:
            slot.gather = None
            batch = gather.rebuild()
            if batch is not None:
                self._accept(slot, proposal, batch)

    def _accept(self, slot: Slot, proposal: Proposal, batch: bytes) -> None:
        if not self.active or proposal.view != self.view:
            return
        why = self._objection(proposal, batch)
        if why:
            self.note("refused", proposal.seq, why)
            return
        self.keep_batch(slot.seq, proposal.digest, batch)
        slot.view, slot.digest = proposal.view, proposal.digest
        if slot.leaders_vote is not None:
            self._hold(slot, slot.leaders_vote)
        self.cast(PREPARE, proposal.view, slot.seq, proposal.digest)
        self.execute_ready()

    def _objection(self, proposal: Proposal, encoded: bytes) -> str:
        if batch_digest(encoded) != proposal.digest or len(encoded) != proposal.size:
            return "the batch is not the one that the leader signed for"
        batch = decode_batch(encoded)
        if batch is None or batch.view != proposal.view:
            return "not a batch of this view"
        if len(batch.requests) > self.config.batch_requests:
            return f"a batch of {len(batch.requests)} requests"
        if batch.stable and (batch.stable.phase != CHECKPOINT or not self.epoch.certifies(batch.stable)):
            return "a record of a checkpoint that no quorum signed"
        for item in batch.requests:
            request = decode_as(Request, item)
            if request is None:
                return "something that is no request"
            if not self.requests.holds(request, item) and not self.requests.valid(request, self.epoch.scheme):
                return "a request that no client signed"
            if why := self._unacceptable(request):
                return why
        return ""

    def _unacceptable(self, request: Request) -> str:
        return "" if request.client == self.config.admin else self.application.check(request.operation)

    # -- votes --------------------------------------------------------------------------------------------------

    def cast(self, phase: int, view: int, seq: int, digest: bytes) -> None:
        """Sign a vote and send it on its way, if this replica is a member and never voted otherwise.

        Whoever has left a view, or waits for the next to begin, votes in neither: its view change has told its votes.
        """
        slot = self.slot(seq)
        current = phase == CHECKPOINT or (self.active and view == self.view)
        if slot is None or not self.member or not current:
            return
        vote = self.sign_vote(phase, view, seq, digest)
        if vote is not None:
            slot.remember_own(vote)
            self._hold(slot, vote)
            self.path.cast(vote)
            self._decide_quorum(slot, (phase, view, digest))
        early = phase == PREPARE and not self.config.protocol.fast and (phase, view, digest) in slot.certificates
        if early and (COMMIT, view, seq) not in self.signed:  # certified before the view began here
            self.cast(COMMIT, view, seq, digest)

    def on_vote(self, sender: int, vote: Vote) -> None:
        """Take one vote, unless it is known, unneeded or of no live view."""
        slot = self.slots.get(vote.seq) or self.slot(vote.seq)
        if slot is None or vote.epoch != self.epoch.number or vote.view < 0 or not 0 <= vote.signer < 1 << 16:
            if vote.seq > self.high or vote.epoch > self.epoch.number:
                self.hear_of_more()
            return
        about = (vote.phase, vote.view, vote.digest)
        if about in slot.certificates and not self.path.wants(vote):
            self.path.heard(vote, sender)  # not verified: nobody counts it any more
            return
        if not self._live(vote.phase, vote.view) or len(vote.digest) != 32:
            return
        if slot.heard(vote.phase, vote.view) >> vote.signer & 1:
            self._heard_again(slot, vote, sender)
        elif self._lazy and vote.signer == sender and self.epoch.has(sender):
            self._hold(slot, vote, checked=False)
            self.path.heard(vote, sender)
            self._decide_quorum(slot, about)
        elif self.epoch.valid_vote(vote):
            self._hold(slot, vote)
            self.path.heard(vote, sender)
            self._decide_quorum(slot, about)

    def _heard_again(self, slot: Slot, vote: Vote, sender: int) -> None:
        counted = slot.votes.get((vote.phase, vote.view, vote.digest))
        if counted is not None and counted.signers >> vote.signer & 1:
            self.path.heard(vote, sender)
        elif self.epoch.valid_vote(vote):
            self.note("evidence", vote.seq, f"replica {vote.signer} signed two digests in view {vote.view}")

    def _live(self, phase: int, view: int) -> bool:
        if phase == CHECKPOINT:
            return view == 0
        return phase in (PREPARE, COMMIT) and self.view <= view <= self.view + 1

    def on_bundle(self, sender: int, bundle: Bundle) -> None:
        """Take several votes at once; a certificate counts in whatever view it was made."""
        if bundle.phase == CHECKPOINT and bundle.view == 0 and bundle.seq > self.low + self.config.window:
            if self.epoch.certifies(bundle):
                self.on_checkpoint(bundle)
            return
        slot = self.slot(bundle.seq)
        if slot is None:
            if bundle.seq > self.low:
                self.hear_of_more()
            return
        about = (bundle.phase, bundle.view, bundle.digest)
        signers = self.epoch.signers(bundle)
        if about in slot.certificates or not signers:
            self.path.heard(bundle, sender)
            return
        if self.epoch.quorums.is_quorum(signers):
            if bundle.phase in (PREPARE, COMMIT, CHECKPOINT) and self.epoch.certifies(bundle):
                self.path.heard(bundle, sender)
                self.certified(slot, bundle)
        elif self._live(bundle.phase, bundle.view):
            self._on_partial(slot, bundle, signers, sender)

    def _on_partial(self, slot: Slot, bundle: Bundle, signers: int, sender: int) -> None:
        about = (bundle.phase, bundle.view, bundle.digest)
        heard = slot.heard(bundle.phase, bundle.view)
        if signers & ~heard:
            source = (bundle.phase, bundle.view, sender)
            trusted = self._lazy and slot.trusted[source] < UNCHECKED
            if not trusted and not self.epoch.valid_bundle(bundle):
                return
            if trusted:
                slot.trusted[source] += 1
            else:
                slot.seen[bundle.phase, bundle.view] = heard | signers
            slot.vote_set(about, self.epoch).add(signers, bundle.signature, checked=not trusted)
            self.path.heard(bundle, sender)
            self._decide_quorum(slot, about)
        else:
            self.path.heard(bundle, sender)

    @property
    def _lazy(self) -> bool:
        """Whether signatures are checked when they are combined: where one check covers a whole sum."""
        return not self.epoch.scheme.splittable

    def _hold(self, slot: Slot, vote: Vote, *, checked: bool = True) -> None:
        bit = 1 << vote.signer
        slot.seen[vote.phase, vote.view] = slot.heard(vote.phase, vote.view) | bit
        slot.vote_set((vote.phase, vote.view, vote.digest), self.epoch).add(bit, vote.signature, checked=checked)

    def _decide_quorum(self, slot: Slot, about: Statement) -> None:
        votes = slot.votes[about]
        if about in slot.certificates or not self.epoch.quorums.is_quorum(votes.signers):
            return
        signers, signature = votes.combined()
        if self.epoch.quorums.is_quorum(signers):
            self.certified(slot, self.epoch.certificate(*about, slot.seq, signers, signature))

    def certified(self, slot: Slot, certificate: Bundle) -> None:
        """Act on a quorum's certificate, once per statement."""
        about = (certificate.phase, certificate.view, certificate.digest)
        if about in slot.certificates:
            return
        slot.certificates[about] = certificate
        if certificate.phase == CHECKPOINT:
            self.path.certified(certificate)
            self.on_checkpoint(certificate)
            return
        if certificate.phase == PREPARE and (slot.prepared is None or certificate.view > slot.prepared.view):
            slot.prepared = certificate
            self.persist(slot.seq, certificate)
            self.note("prepared", slot.seq)
        self.path.certified(certificate)
        if self.decides(certificate):
            self._commit(slot, certificate)
        elif certificate.phase == PREPARE and self.active and certificate.view == self.view:
            self.cast(COMMIT, certificate.view, slot.seq, certificate.digest)

    def _commit(self, slot: Slot, certificate: Bundle) -> None:
        if slot.committed is not None:
            return
        slot.committed = certificate
        self.note("committed", slot.seq)
        self.execute_ready()
        # After the answers: the votes that made the certificate are durable at a quorum already.
        self.persist(slot.seq, certificate)

    # -- catching up --------------------------------------------------------------------------------------------

    def on_content(self, content: Content) -> None:
        """Take a batch that some live number waits for."""
        digest = batch_digest(content.batch)
        slot = self.slots.get(content.seq)
        if slot is None or not content.batch or digest in self.batches:
            return
        proposal = slot.proposal
        if slot.gather is not None and proposal is not None and proposal.digest == digest:
            slot.gather = None
            self._accept(slot, proposal, content.batch)
            return
        if digest in (slot.digest, slot.committed.digest if slot.committed else b""):
            self.keep_batch(content.seq, digest, content.batch)
            self.execute_ready()

    def on_committed(self, message: Committed) -> None:
        """Take a decided batch that somebody ahead sent."""
        certificate = message.certificate
        slot = self.slot(certificate.seq)
        if slot is None and certificate.seq > self.low:
            self.hear_of_more()
        if slot is None or not self.decides(certificate) or not self.epoch.certifies(certificate):
            return
        if certificate.digest != NULL and batch_digest(message.batch) == certificate.digest:
            self.keep_batch(slot.seq, certificate.digest, message.batch)
        self.certified(slot, certificate)
        self.execute_ready()
