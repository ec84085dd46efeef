"""Attacks on particular mistakes, as simulated replicas; a correct core survives them like any other fault."""

from msgspec.structs import replace

from consensus.machine import Effect, Event, Received, Send
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    PREPARE,
    Bundle,
    Message,
    NewView,
    Proposal,
    Signed,
    State,
    ViewChange,
    Vote,
    encode,
    signers_to_bytes,
)
from consensus.pbft import state as states
from consensus.simulation.adversary import Adversary, Setting, heard


class Relabel(Adversary):
    """As leader shows PREPARE signatures as COMMIT ones to a single replica, and then falls silent."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._votes: dict[tuple[int, int, int, bytes], dict[int, bytes]] = {}
        self._victim = self.random.choice(setting.others)
        self._silent = False

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Say nothing but proposals."""
        if self._silent or not isinstance(message, Proposal):
            return []
        self._votes.setdefault((message.epoch, message.view, message.seq, message.digest), {})[self.setting.own] = (
            message.signature
        )
        return [send]

    def adds(self, event: Event) -> list[Effect]:
        """Collect PREPARE votes until they can be shown as something else."""
        message = heard(event)
        if not isinstance(message, Vote) or message.phase != PREPARE:
            return []
        about = (message.epoch, message.view, message.seq, message.digest)
        votes = self._votes.get(about)
        if votes is None or self._silent:
            return []
        votes[message.signer] = message.signature
        bits = sum(1 << signer for signer in votes)
        if not self.setting.quorums.is_quorum(bits):
            return []
        self._silent = True
        scheme = self.setting.schemes[self.setting.own]
        signature = scheme.combine([(1 << signer, votes[signer]) for signer in sorted(votes)])
        return self.send((self._victim,), Bundle(COMMIT, *about, signers_to_bytes(bits), signature))


class ForgedState(Adversary):
    """Answers with states of its own making whose certificates nobody signed."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Change the application's state, and the certificate with it."""
        image = states.decode_image(message.state) if isinstance(message, State) else None
        if image is None or not isinstance(message, State):
            return [send]
        forged = states.Image(image.header, image.replies, bytes(len(image.application)))
        certificate = replace(message.certificate, digest=forged.digest())
        return self.send(send.to, replace(message, certificate=certificate, state=states.encode(forged)), send.kind)


class EmptyNewView(Adversary):
    """Starts a view of its own from view changes that it made up in the others' names."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._seen = 0

    def adds(self, event: Event) -> list[Effect]:
        """Depose the leader some time after it proposed."""
        message = heard(event)
        if not isinstance(message, Vote) or message.phase == CHECKPOINT:
            return []
        self._seen += 1
        n, own = self.setting.n, self.setting.own
        if self._seen % 20:
            return []
        view = message.view + (own - message.view) % n or n
        changes = []
        for signer in range(self.setting.smallest_quorum):
            change = encode(ViewChange(message.epoch, view, None, (), (), signer))
            changes.append(Signed(change, signer, b"none"))
        start = self.setting.body(NewView(message.epoch, view, tuple(changes)))
        return self.send(self.setting.others, start, "view") + self._changed(
            self.machine.step(Received(own, encode(start)))
        )


ATTACKS: dict[str, type[Adversary]] = {
    "relabel": Relabel,
    "forged-state": ForgedState,
    "empty-new-view": EmptyNewView,
}
"""Further ways to be faulty, by name."""
