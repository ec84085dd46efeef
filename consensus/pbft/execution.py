"""Carrying out what was decided: execution in order, checkpoints, state transfer, the end of an epoch."""

import hashlib

from msgspec.structs import replace

from consensus.machine import Answer, Application, Decided, Forget
from consensus.messages import (
    CHECKPOINT,
    NULL,
    Bundle,
    Content,
    Fetch,
    Handoff,
    Reply,
    Request,
    State,
    decode_as,
    decode_batch,
    encode,
    reply_statement,
    signers_to_bytes,
)
from consensus.pbft import state as states
from consensus.pbft.config import Config, SchemeFactory
from consensus.pbft.core import Core
from consensus.pbft.epoch import Epoch
from consensus.pbft.membership import change_of
from consensus.pbft.slots import Slot
from consensus.pbft.state import Answered, Header, Image
from consensus.quorum import members_of
from consensus.reputation import Standing, advance


class Execution(Core):
    """The layer that executes.

    Attributes
    ----------
    replies : dict
        Every client's newest executed request with its result; part of the state.
    image, handoffs : Image or None, tuple of Handoff
        The state at the last stable checkpoint and the ends of all epochs so far: what a lagging replica is sent.
    wanted : Bundle or None
        A checkpoint certificate ahead of what was executed, whose state is being fetched.
    """

    def __init__(self, config: Config, schemes: SchemeFactory, application: Application) -> None:
        super().__init__(config, schemes, application)
        self.replies: dict[bytes, Answered] = {}
        self.image: Image | None = None
        self.handoffs: tuple[Handoff, ...] = ()
        self.wanted: Bundle | None = None
        self._images: dict[int, Image] = {}  # at checkpoints that are not stable yet
        self._tries = 0  # turns to another replica each time something is fetched again

    # -- batches ------------------------------------------------------------------------------------------------

    def batch(self, digest: bytes) -> bytes | None:
        """Give an encoded batch, if it is here; the null batch always is."""
        return b"" if digest == NULL else self.batches.get(digest)

    def keep_batch(self, seq: int, digest: bytes, encoded: bytes) -> None:
        """Remember a batch, durably."""
        if digest not in self.batches:
            self.batches[digest] = encoded
            self.persist(seq, Content(seq, encoded))

    def fetch_missing(self) -> None:
        """Ask one holder for what stands in the way of the next number; another one each time."""
        self._tries += 1
        if self.wanted is not None:
            self._ask(self.wanted)
        elif (slot := self.slots.get(self.executed + 1)) and slot.committed is not None:
            self._ask(slot.committed)
        for slot in self.slots.values():
            if slot.gather is not None and slot.proposal is not None:  # chunks were lost, or are withheld
                self._ask_one(self.others, slot.seq, slot.proposal.digest)

    def _ask(self, certificate: Bundle) -> None:
        if self.batch(certificate.digest) is None:
            holders = tuple(p for p in members_of(self.epoch.signers(certificate)) if p != self.own)
            self._ask_one(holders or self.others, certificate.seq, certificate.digest)

    def _ask_one(self, holders: tuple[int, ...], seq: int, digest: bytes) -> None:
        holder = holders[(self.own + self._tries) % len(holders)]
        self.send((holder,), encode(Fetch(seq, digest, self.own)), "sync")

    def on_fetch(self, sender: int, fetch: Fetch) -> None:
        """Answer with a batch or a state, if it is here."""
        if (batch := self.batches.get(fetch.digest)) is not None:
            self.send((sender,), encode(Content(fetch.seq, batch)), "sync")
        elif self.stable is not None and fetch.digest == self.stable.digest:
            self.send_state(sender)

    def send_state(self, to: int) -> None:
        """Send the last stable checkpoint, with all that proves it."""
        if self.stable is not None and self.image is not None:
            self.send((to,), encode(State(self.handoffs, self.stable, states.encode(self.image))), "sync")

    # -- execution ----------------------------------------------------------------------------------------------

    def execute_ready(self) -> None:
        """Execute decided numbers as far as they follow without a gap and their batches are here."""
        while (slot := self.slots.get(self.executed + 1)) is not None and slot.committed is not None:
            batch = self.batch(slot.committed.digest)
            if batch is None:
                self.fetch_missing()
                self.watch()
                return
            self._execute(slot, slot.committed, batch)

    def _execute(self, slot: Slot, certificate: Bundle, encoded: bytes) -> None:
        batch = decode_batch(encoded) if encoded else None
        requests = batch.requests if batch else ()
        block = hashlib.sha256(self.header.block + slot.seq.to_bytes(8, "big") + certificate.digest).digest()
        self.header = replace(self.header, seq=slot.seq, block=block)
        if batch and batch.view > self.header.last_view:
            # The same at every replica, whenever it learnt of it: which leaders brought nothing is in the batches.
            order = self.header.standing.order
            passed = range(max(self.header.last_view, batch.view - len(order)), batch.view)
            failed = tuple(order[view % len(order)] for view in passed)
            self.header = replace(self.header, last_view=batch.view, failed=self.header.failed + failed)
        if batch and batch.stable is not None:
            seen = int.from_bytes(self.header.seen, "little") | self.epoch.signers(batch.stable)
            self.header = replace(self.header, seen=signers_to_bytes(seen))
        results = tuple(self._carry_out(request) for request in requests)
        self.executed = slot.seq
        self.effects.append(
            Decided(
                slot.seq,
                certificate.epoch,
                certificate.view,
                certificate.digest,
                requests,
                encode(certificate),
                results,
                encoded,
            )
        )
        if slot.seq % self.config.period == 0:
            self._checkpoint(slot.seq)
        self.path.decided(slot.seq)
        self.progressed()

    def _carry_out(self, encoded: bytes) -> bytes:
        request = decode_as(Request, encoded)
        assert request is not None, "a batch is voted for only if all its requests decode"
        last = self.replies.get(request.client)
        if last is not None and request.timestamp <= last.timestamp:
            return b""
        if self.config.admin and request.client == self.config.admin:
            self.header, result = change_of(self.header, request.operation, self.config)
        else:
            result = self.application.execute(request.operation)
        self.replies[request.client] = Answered(request.client, request.timestamp, result)
        self.executed_request(request)
        if self.member:
            self.answer(request.client)
        return result

    def answer(self, client: bytes) -> None:
        """Send a client the result of its newest executed request."""
        done = self.replies[client]
        about = reply_statement(self.config.chain, client, done.timestamp, done.result)
        signature = self.epoch.scheme.sign(about)
        reply = Reply(client, done.timestamp, self.view, self.own, done.result, signature)
        self.effects.append(Answer(client, encode(reply)))

    def executed_request(self, request: Request) -> None:
        """Hear that a request was executed."""
        raise NotImplementedError

    # -- checkpoints --------------------------------------------------------------------------------------------

    def _checkpoint(self, seq: int) -> None:
        header = self.header
        if seq == header.until:
            fresh = tuple(place for place, key in enumerate(header.coming) if key)
            standing = Standing.initial(fresh)
            header = Header(seq, header.epoch + 1, header.coming, standing, base=seq, block=header.block)
        else:
            seen = int.from_bytes(header.seen, "little")
            standing = advance(header.standing, seen, header.failed, header.last_view)
            header = replace(header, standing=standing, failed=(), seen=b"")
        self.header = header
        replies = tuple(self.replies[client] for client in sorted(self.replies))
        image = Image(states.encode(header), replies, self.application.snapshot())
        self._images[seq] = image
        self.cast(CHECKPOINT, 0, seq, image.digest())
        if self.wanted is not None and self.wanted.seq == seq and self.wanted.digest == image.digest():
            self._stabilise(self.wanted, image)  # it got here by itself meanwhile

    def cast(self, phase: int, view: int, seq: int, digest: bytes) -> None:
        """Vote, if this replica may."""
        raise NotImplementedError

    def on_checkpoint(self, certificate: Bundle) -> None:
        """Take in a quorum's checkpoint certificate: collect garbage, or find out that this replica lags."""
        if certificate.seq <= self.low:
            return
        image = self._images.get(certificate.seq)
        if image is not None and image.digest() == certificate.digest:
            self._stabilise(certificate, image)
        elif self.wanted is None or certificate.seq > self.wanted.seq:
            # Not there yet, or there with another state than a quorum's: then this replica's state is wrong.
            self.wanted = certificate
            self.note("transfer", certificate.seq, f"executed only {self.executed}")
            self.fetch_missing()
            self.watch()

    def _stabilise(self, certificate: Bundle, image: Image) -> None:
        header = states.decode_header(image.header)
        assert header is not None, "images are decoded whole before they are kept"
        seq = certificate.seq
        self.stable, self.image, self.low = certificate, image, seq
        if self.wanted is not None and self.wanted.seq <= seq:
            self.wanted = None
        self._images = {at: kept for at, kept in self._images.items() if at > seq}
        live = {slot.digest for at, slot in self.slots.items() if at > seq}
        live |= {kept.digest for at, slot in self.slots.items() if at > seq and (kept := slot.prepared)}
        self.batches = {digest: batch for digest, batch in self.batches.items() if digest in live}
        if header.epoch > self.epoch.number:
            ended = self.handoffs[-1].certificate.epoch if self.handoffs else -1
            if certificate.epoch > ended:
                self.handoffs += (Handoff(certificate, image.header, image.rest()),)
            self.begin_epoch(Epoch(self.config, self.schemes, header))
            self.note("epoch", header.epoch, f"{len(self.epoch.places)} members from number {seq + 1} on")
        else:
            self.slots = {at: slot for at, slot in self.slots.items() if at > seq}
            self.signed = {key: digest for key, digest in self.signed.items() if key[2] > seq}
            self.epoch.forget(seq)
            self.epoch.order = header.standing.order
        self.persist(seq + 1, State(self.handoffs, certificate, states.encode(image)))
        self.persist_view()
        self.effects.append(Forget(seq))
        self.note("checkpoint", seq)
        self.after_checkpoint()
        self.path.entered()

    def persist_view(self) -> None:
        """Record the view and whether it has begun."""
        raise NotImplementedError

    def after_checkpoint(self) -> None:
        """Hear that the window moved, or that an epoch began."""
        raise NotImplementedError

    # -- state transfer -----------------------------------------------------------------------------------------

    def on_state(self, message: State) -> None:
        """Take over a checkpoint's state if it is ahead and everything that should vouch for it does."""
        image = states.decode_image(message.state)
        own, certificate = self._images.get(message.certificate.seq), message.certificate
        if own is not None and own.digest() == certificate.digest:
            if certificate.phase == CHECKPOINT and self.epoch.certifies(certificate):
                self._stabilise(certificate, own)  # it was here already, and only its votes had been missed
            return
        # A state that is not ahead is wanted only by a replica whose own one a quorum contradicts.
        contradicted = self.wanted is not None and self.wanted.seq <= self.executed
        if image is None or (message.certificate.seq <= self.executed and not contradicted):
            return
        header = states.decode_header(image.header)
        if header is None or message.certificate.seq <= self.low or image.digest() != message.certificate.digest:
            return
        handoffs = self.handoffs
        epoch = self.epoch
        for handoff in message.handoffs:
            if handoff.certificate.epoch < epoch.number:
                continue
            ahead = states.decode_header(handoff.header)
            digest = states.state_digest(handoff.header, handoff.rest)
            if ahead is None or ahead.epoch != epoch.number + 1 or digest != handoff.certificate.digest:
                return
            if handoff.certificate.phase != CHECKPOINT or not epoch.certifies(handoff.certificate):
                return
            if handoff.certificate.seq < message.certificate.seq:
                epoch, handoffs = Epoch(self.config, self.schemes, ahead), (*handoffs, handoff)
        if message.certificate.phase != CHECKPOINT or not epoch.certifies(message.certificate):
            return
        if epoch is not self.epoch:
            self.begin_epoch(epoch)
        self.handoffs = handoffs
        self._restore(header, image)
        self._stabilise(message.certificate, image)
        self.note("transfer", header.seq, "taken over")
        self.progressed()
        self.execute_ready()

    def _restore(self, header: Header, image: Image) -> None:
        self.header, self.executed = header, header.seq
        self.replies = {done.client: done for done in image.replies}
        self.application.restore(image.application)
        self.forget_answered()

    def forget_answered(self) -> None:
        """Drop pending requests that the state says were executed."""
        raise NotImplementedError

    def recover_state(self, message: State) -> None:
        """Take back the state from this replica's own log, which needs no proof."""
        image = states.decode_image(message.state)
        header = states.decode_header(image.header) if image else None
        assert image, "the log returns what was appended"
        assert header, "an image is kept only with its header"
        self.handoffs = message.handoffs
        self._restore(header, image)
        self.stable, self.image, self.low = message.certificate, image, header.seq
        if header.epoch != self.epoch.number:
            self.begin_epoch(Epoch(self.config, self.schemes, header))
        self.epoch.order = header.standing.order
        self.slots = {at: slot for at, slot in self.slots.items() if at > self.low}
