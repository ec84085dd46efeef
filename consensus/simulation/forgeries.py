"""Simulated replicas that forge what others rely on: certificates, view changes, checkpoints, states."""

from collections import deque

from msgspec.structs import replace

from consensus.machine import Effect, Event, Send
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    PREPARE,
    Bundle,
    Committed,
    Content,
    Message,
    NewView,
    Proposal,
    Signed,
    State,
    ViewChange,
    Vote,
    decode_as,
    signers_to_bytes,
)
from consensus.simulation.adversary import Adversary, Setting, heard


def another_digest(digest: bytes) -> bytes:
    """Change a digest, of whatever length."""
    return bytes([digest[0] ^ 1]) + digest[1:] if digest else b"\1"


class Forge(Adversary):
    """Makes certificates out of its own signature: repeated, for others, for replicas that do not exist."""

    def adds(self, event: Event) -> list[Effect]:
        """Forge a certificate about what was just heard."""
        message = heard(event)
        if not isinstance(message, Vote | Bundle | Proposal) or self.random.random() > 0.3 or message.seq < 0:
            return []
        n, own = self.setting.n, self.setting.own
        phase = self.random.choice((PREPARE, COMMIT, CHECKPOINT))
        digest = self.random.choice((message.digest, another_digest(message.digest)))
        vote = self.setting.vote(phase, message.epoch, message.view, message.seq, digest)
        size = self.setting.smallest_quorum
        signers, signature = self.random.choice((
            (signers_to_bytes((1 << n) - 1), vote.signature * n),
            (signers_to_bytes((1 << size) - 1), vote.signature * size),
            (signers_to_bytes(1 << own), vote.signature * size),
            (signers_to_bytes(((1 << size) - 1) << n), vote.signature * size),
            (signers_to_bytes(1 << own) + b"\0", vote.signature),
            (signers_to_bytes((1 << n) - 1), b""),
        ))  # fmt: skip
        forged = Bundle(phase, message.epoch, message.view, message.seq, digest, signers, signature)
        return self.send(self.setting.others, forged)


class LyingViewChange(Adversary):
    """In view changes leaves out what it prepared, claims more, or sends nonsense."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Change the own view change."""
        if not isinstance(message, Signed) or message.signer != self.setting.own:
            return [send]
        change = decode_as(ViewChange, message.body)
        if change is None:
            return [send]
        lies = [
            replace(change, prepared=(), voted=()),
            replace(change, stable=None),
            replace(change, prepared=change.prepared[:-1]),
        ]
        for bundle in change.prepared[:1]:
            lies += [
                replace(change, prepared=(replace(bundle, view=bundle.view + 1), *change.prepared[1:])),
                replace(change, prepared=(replace(bundle, digest=bytes(32)), *change.prepared[1:])),
                replace(change, prepared=(*change.prepared, replace(bundle, seq=bundle.seq + 1))),
                replace(change, prepared=change.prepared * 2),
            ]
        for vote in change.voted[:1]:
            other = self.setting.vote(PREPARE, vote.epoch, vote.view + 1, vote.seq, another_digest(vote.digest))
            lies += [replace(change, voted=(other, *change.voted[1:])), replace(change, voted=change.voted * 2)]
        return self.send(send.to, self.setting.body(self.random.choice(lies)), send.kind)


class WrongNewView(Adversary):
    """As new leader starts views from too few, repeated or changed view changes."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Change the own start of a view."""
        start = decode_as(NewView, message.body) if isinstance(message, Signed) else None
        if start is None or not start.changes:
            return [send]
        changes = start.changes
        wrong = self.random.choice((
            changes[:-1],
            (changes[0],) * len(changes),
            changes[::-1],
            (replace(changes[0], signer=changes[-1].signer), *changes[1:]),
            (replace(changes[0], body=changes[0].body + b"\0"), *changes[1:]),
        ))  # fmt: skip
        return self.send(send.to, self.setting.body(replace(start, changes=wrong)), send.kind)


class StaleNewView(Adversary):
    """Starts later views from the view changes of earlier ones."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._starts: deque[NewView] = deque(maxlen=8)

    def adds(self, event: Event) -> list[Effect]:
        """Send an old start of a view under a new number."""
        message = heard(event)
        start = decode_as(NewView, message.body) if isinstance(message, Signed) else None
        if start is not None:
            self._starts.append(start)
        if not self._starts or self.random.random() > 0.05:
            return []
        stale = self.random.choice(self._starts)
        later = replace(stale, view=stale.view + self.random.randrange(1, self.setting.n + 1))
        return self.send(self.setting.others, self.setting.body(later), "view")


class FalseCheckpoint(Adversary):
    """Vouches for states that nobody is in."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Change the digest of checkpoint votes."""
        if not isinstance(message, Vote) or message.phase != CHECKPOINT:
            return [send]
        false = self.setting.vote(CHECKPOINT, message.epoch, 0, message.seq, another_digest(message.digest))
        return self.send(send.to, false, send.kind)


class CorruptTransfer(Adversary):
    """Sends states and batches with a wrong byte, and other ones than it was asked for."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Flip a byte of what is transferred."""
        match message:
            case State():
                return self.send(send.to, replace(message, state=self._flip(message.state)), send.kind)
            case Content():
                return self.send(send.to, replace(message, batch=self._flip(message.batch)), send.kind)
            case Committed():
                return self.send(send.to, replace(message, batch=self._flip(message.batch)), send.kind)
        return [send]

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return b"\0"
        at = self.random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1 :]
