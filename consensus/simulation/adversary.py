"""What every simulated Byzantine replica is made of: an honest one, whose messages are changed on their way out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from msgspec.structs import replace

from consensus.identity import Scheme
from consensus.machine import Effect, Event, Fired, Received, Send, SetTimer, StateMachine
from consensus.messages import (
    PREPARE,
    Batch,
    Message,
    NewView,
    Proposal,
    Repeat,
    Signed,
    ViewChange,
    Vote,
    batch_digest,
    body_statement,
    decode,
    encode,
    statement,
)
from consensus.pbft.config import Config
from consensus.quorum import QuorumSystem


@dataclass(frozen=True)
class Setting:
    """What a faulty replica knows and has.

    Attributes
    ----------
    config : Config
        Its own configuration.
    quorums : QuorumSystem
        How many signatures decide.
    schemes : mapping
        The schemes of all faulty replicas, by place: colluders sign for each other.
    make : callable
        Makes an honest replica with this identity and an empty past.
    random : Random
        Its own chance.
    side : int
        Bit set of the replicas on one side of the first partition that is to come: the faulty ones know the schedule
        of the network. 0 where there is none.
    """

    config: Config
    quorums: QuorumSystem
    schemes: Mapping[int, Scheme]
    make: Callable[[], StateMachine]
    random: Random
    side: int = 0

    @property
    def own(self) -> int:
        """Its place."""
        return self.config.own

    @property
    def n(self) -> int:
        """Number of replicas."""
        return len(self.config.members)

    @property
    def others(self) -> tuple[int, ...]:
        """All places but its own."""
        return tuple(place for place in range(self.n) if place != self.own)

    @property
    def smallest_quorum(self) -> int:
        """How many signatures the smallest quorum of the first replicas holds."""
        return next(size for size in range(1, self.n + 1) if self.quorums.is_quorum((1 << size) - 1))

    def vote(self, phase: int, epoch: int, view: int, seq: int, digest: bytes, signer: int | None = None) -> Vote:
        """Sign a vote, as itself or as another faulty replica."""
        signer = self.own if signer is None else signer
        signature = self.schemes[signer].sign(statement(self.config.chain, phase, epoch, view, seq, digest))
        return Vote(phase, epoch, view, seq, digest, signer, signature)

    def body(self, message: ViewChange | NewView) -> Signed:
        """Sign a view change or the start of a view."""
        data = encode(message)
        return Signed(data, self.own, self.schemes[self.own].sign(body_statement(self.config.chain, data)))

    def proposal(self, proposal: Proposal, *, seq: int, batch: bytes) -> Proposal:
        """Change a proposal's number and batch, and sign it again."""
        digest = batch_digest(batch)
        vote = self.vote(PREPARE, proposal.epoch, proposal.view, seq, digest)
        return replace(proposal, seq=seq, digest=digest, batch=batch, size=len(batch), signature=vote.signature)

    def batch(self, view: int, requests: tuple[bytes, ...]) -> bytes:
        """Encode a batch."""
        return encode(Batch(view, requests))

    def half(self, places: tuple[int, ...]) -> tuple[int, ...]:
        """Choose those of the places that are on one side of the network, or some by chance where it has no sides."""
        return tuple(place for place in places if self.side >> place & 1) if self.side else self.some(places)

    def some(self, places: tuple[int, ...]) -> tuple[int, ...]:
        """Choose some of the places by chance, in their order; possibly none or all."""
        return tuple(place for place in places if self.random.random() < 0.5)

    def sign_again(self, message: Message) -> Message:
        """Sign a changed message again, as far as it is this replica's own to sign."""
        match message:
            case Vote() if message.signer == self.own:
                return self.vote(message.phase, message.epoch, message.view, message.seq, message.digest)
            case Proposal():
                about = (PREPARE, message.epoch, message.view, message.seq, message.digest)
                return replace(message, signature=self.vote(*about).signature)
            case Signed() if message.signer == self.own and isinstance(
                body := decode(message.body), ViewChange | NewView
            ):
                return self.body(body)
        return message


class Adversary:
    """An honest replica with changes; the base class changes nothing.

    A subclass overrides `hears` (what reaches the honest part), `says` (what becomes of its sends) or `adds` (what is
    done besides).

    Parameters
    ----------
    setting : Setting
        What it knows.

    Attributes
    ----------
    left : int
        How many effects it may still add: adversaries that provoke each other would never end.
    """

    def __init__(self, setting: Setting) -> None:
        self.left = 2000
        self.setting = setting
        self.random = setting.random
        self.machine = setting.make()
        self._held: dict[int, list[Effect]] = {}
        self._holds = 0

    def recover(self, records: list[bytes]) -> None:
        """Pass the durable state on."""
        self.machine.recover(records)

    def start(self) -> list[Effect]:
        """Start the honest part."""
        return self._changed(self.machine.start())

    def step(self, event: Event) -> list[Effect]:
        """Let the honest part take an event, and change what it does."""
        if isinstance(event, Fired) and event.timer[0] == "adversary":
            return self._held.pop(int(event.timer[1]), [])
        heard = self.hears(event)
        effects = self._changed(self.machine.step(heard)) if heard else []
        if self.left > 0:
            added = self.adds(event)
            self.left -= len(added)
            effects += added
        return effects

    def _changed(self, effects: list[Effect]) -> list[Effect]:
        changed: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send):
                message = decode(effect.data)
                if isinstance(message, Repeat):  # what it says again it may change as what it says first
                    effect = replace(effect, data=message.message)
                    message = decode(effect.data)
                changed += self.says(effect, message)
            else:
                changed.append(effect)
        return changed

    def hears(self, event: Event) -> Event | None:
        """Give the event that reaches the honest part."""
        return event

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Give what is sent in place of a send, whose decoded message comes along."""
        return [send]

    def adds(self, event: Event) -> list[Effect]:
        """Give what is done besides, after an event."""
        return []

    # -- tools for subclasses -----------------------------------------------------------------------------------

    def later(self, seconds: float, effects: list[Effect]) -> list[Effect]:
        """Hold effects back."""
        self._holds += 1
        self._held[self._holds] = effects
        return [SetTimer(("adversary", self._holds), seconds)]

    def send(self, to: tuple[int, ...], message: Message, kind: str = "vote") -> list[Effect]:
        """Send a message, unless to nobody."""
        return [Send(to, encode(message), kind)] if to else []


def heard(event: Event) -> Message | None:
    """Decode the message of an event; None for a timer."""
    return decode(event.data) if isinstance(event, Received) else None
