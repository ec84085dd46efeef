"""The ways in which simulated replicas are faulty, by name.

Every one is an honest replica with a change; what it signs, it signs with its own key (colluders also with each
other's). `KINDS` is the table.
"""

from collections import deque
from collections.abc import Sequence

from msgspec.structs import asdict, replace

from consensus.machine import Effect, Event, Fired, Received, Send
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    PREPARE,
    Bundle,
    Fetch,
    Message,
    NewView,
    Proposal,
    Request,
    Signed,
    Status,
    ViewChange,
    Vote,
    decode,
    decode_as,
    decode_batch,
    encode,
    signers_to_bytes,
)
from consensus.quorum import members_of
from consensus.simulation.adversary import Adversary, Setting, heard
from consensus.simulation.forgeries import (
    CorruptTransfer,
    FalseCheckpoint,
    Forge,
    LyingViewChange,
    StaleNewView,
    WrongNewView,
)


class Silent(Adversary):
    """Says nothing, ever."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Say nothing."""
        return []


class Crash(Adversary):
    """Says nothing any more after a while."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._left = self.random.randrange(1, 400)

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Speak a limited number of times."""
        self._left -= 1
        return [send] if self._left > 0 else []


class Amnesia(Adversary):
    """Now and then forgets everything that it ever said."""

    def adds(self, event: Event) -> list[Effect]:
        """Begin with an empty past."""
        if self.random.random() > 0.01:
            return []
        self.machine = self.setting.make()
        return self.machine.start()


class Twin(Adversary):
    """Is two honest replicas with one key; each talks with one half of the others, or with an overlapping part."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._copies = (self.machine, setting.make())
        self._audience = tuple(setting.some(setting.others) for _ in self._copies)
        if self.random.random() < 0.5:
            first = setting.half(setting.others)
            self._audience = (first, tuple(place for place in setting.others if place not in first))
        self._owner: dict[tuple[str | int, ...], int] = {}

    def start(self) -> list[Effect]:
        """Start both."""
        return self._of(0, self._copies[0].start()) + self._of(1, self._copies[1].start())

    def step(self, event: Event) -> list[Effect]:
        """Let those copies take an event whom it concerns; clients speak with both."""
        if isinstance(event, Fired):
            copy, *timer = event.timer
            return self._of(int(copy), self._copies[int(copy)].step(Fired(tuple(timer))))
        return [
            effect
            for copy in (0, 1)
            if event.sender < 0 or event.sender in self._audience[copy]
            for effect in self._of(copy, self._copies[copy].step(event))
        ]

    def _of(self, copy: int, effects: Sequence[Effect]) -> list[Effect]:
        changed: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send):
                to = tuple(place for place in effect.to if place in self._audience[copy])
                changed += [replace(effect, to=to)] if to else []
            elif hasattr(effect, "timer"):
                changed.append(replace(effect, timer=(copy, *effect.timer)))
            elif copy == 0:
                changed.append(effect)
        return changed


class Equivocate(Adversary):
    """As leader proposes one batch to some and another to the others; some may get both."""

    overlapping = False

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._requests: deque[bytes] = deque(maxlen=16)

    def hears(self, event: Event) -> Event | None:
        """Remember requests for other batches."""
        if isinstance(heard(event), Request) and isinstance(event, Received):
            self._requests.append(event.data)
        return event

    def another(self, proposal: Proposal) -> Proposal | None:
        """Make a proposal of another batch for the same place, each request validly signed."""
        batch = decode_batch(proposal.batch)
        if batch is None:
            return None
        requests = batch.requests[::-1]
        if len(requests) < 2:
            requests = (self.random.choice(self._requests),) if self._requests else requests * 2
        if requests == batch.requests:
            requests *= 2
        return self.setting.proposal(proposal, seq=proposal.seq, batch=self.setting.batch(batch.view, requests))

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Split the audience of own proposals."""
        if not isinstance(message, Proposal) or not self._own(message) or (other := self.another(message)) is None:
            return [send]
        first = self.setting.half(send.to)
        second = tuple(place for place in send.to if place not in first)
        if self.overlapping:
            second += self.setting.some(first)
        return [*([replace(send, to=first)] if first else []), *self.send(second, other)]

    def _own(self, proposal: Proposal) -> bool:
        about = (PREPARE, proposal.epoch, proposal.view, proposal.seq, proposal.digest)
        return proposal.signature == self.setting.vote(*about).signature


class EquivocateOverlapping(Equivocate):
    """As `Equivocate`; some get both proposals."""

    overlapping = True


class Few(Adversary):
    """Sends to one less than a quorum, or to just a weak set."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Choose whom to leave out."""
        bound = self.setting.quorums.bound
        most = self.random.choice((self.setting.smallest_quorum - 2, bound + 1, bound))
        to = tuple(sorted(self.random.sample(send.to, min(len(send.to), max(most, 0)))))
        return [replace(send, to=to)] if to else []


class Slow(Adversary):
    """Sends everything just before the others give up on it."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Hold a message back."""
        return self.later(self.setting.config.timing.view * 0.9, [send])


class Censor(Adversary):
    """Does as if one client did not exist."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._client = b""

    def hears(self, event: Event) -> Event | None:
        """Ignore the first client's requests."""
        message = heard(event)
        if not isinstance(message, Request):
            return event
        self._client = self._client or message.client
        return None if message.client == self._client else event


class Skip(Adversary):
    """As leader leaves numbers out, up to beyond the window."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Propose for a later number."""
        if not isinstance(message, Proposal) or self.random.random() < 0.5:
            return [send]
        seq = message.seq + self.random.choice((1, 2, self.setting.config.window))
        return self.send(send.to, self.setting.proposal(message, seq=seq, batch=message.batch), send.kind)


class BadRequest(Adversary):
    """As leader proposes requests that no client signed."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Change an operation inside a batch."""
        batch = decode_batch(message.batch) if isinstance(message, Proposal) else None
        if not isinstance(message, Proposal) or batch is None or not batch.requests:
            return [send]
        request = decode_as(Request, batch.requests[0])
        if request is None:
            return [send]
        forged = encode(replace(request, operation=request.operation + b"!"))
        changed = self.setting.batch(batch.view, (forged, *batch.requests[1:]))
        return self.send(send.to, self.setting.proposal(message, seq=message.seq, batch=changed), send.kind)


class Replay(Adversary):
    """Says old things again, its own and those of others, from views and epochs that are over."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._old: deque[bytes] = deque(maxlen=256)

    def adds(self, event: Event) -> list[Effect]:
        """Send something old now and then."""
        if isinstance(event, Received):
            self._old.append(event.data)
        if self.random.random() > 0.2 or not self._old:
            return []
        to = self.setting.some(self.setting.others)
        return [Send(to, self.random.choice(self._old), "vote")] if to else []


class BadHead(Adversary):
    """As head drops, delays, thins out or withholds what it should pass on."""

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Do one of them to a bundle, a certificate or a proposal."""
        if not isinstance(message, Bundle | Proposal):
            return [send]
        what = self.random.randrange(5)
        if what == 0:
            return []
        if what == 1:
            to = self.setting.some(send.to)
            return [replace(send, to=to)] if to else []
        if what == 2:
            return self.later(self.setting.config.timing.fallback * 2 * self.random.random(), [send])
        if what == 3 and isinstance(message, Bundle):
            return [part for place in send.to for part in self.send((place,), self._thinned(message), send.kind)]
        return [send]

    def _thinned(self, bundle: Bundle) -> Bundle:
        signers = list(members_of(int.from_bytes(bundle.signers, "little")))
        scheme = self.setting.schemes[self.setting.own]
        if not scheme.splittable:
            return bundle
        singles = scheme.split(int.from_bytes(bundle.signers, "little"), bundle.signature)
        kept = [pair for pair in zip(signers, singles, strict=True) if self.random.random() < 0.7]
        bits = sum(1 << signer for signer, _ in kept)
        return replace(bundle, signers=signers_to_bytes(bits), signature=b"".join(single for _, single in kept))


class Flood(Adversary):
    """Sends far too much: nonsense, large messages, everything several times, questions without end."""

    def adds(self, event: Event) -> list[Effect]:
        """Send nonsense now and then."""
        if isinstance(event, Fired) or self.random.random() > 0.1:
            return []
        own, others = self.setting.own, self.setting.others
        seq = self.random.choice((1, 1 << 20, (1 << 63) - 1, -1))
        nonsense = self.random.choice((
            self.random.randbytes(self.random.randrange(64)),
            self.random.randbytes(1 << 16),
            b"\x91" * 1000,
            event.data * 2,
            event.data[:-1],
            encode(Status(0, 1 << 40, True, 0, 0, own)),
            encode(Fetch(seq, self.random.randbytes(32), own)),
            encode(Vote(self.random.randrange(5), 0, 0, seq, bytes(32), own, b"")),
            encode(Bundle(COMMIT, 0, 0, seq, bytes(32), b"\xff" * 4, b"")),
            encode(Request(bytes(32), seq, self.random.randbytes(1 << 12), b"")),
        ))  # fmt: skip
        return [Send(others, nonsense, "vote")] * self.random.choice((1, 1, 20))


class Mutate(Adversary):
    """Changes one field a little, or to what it was before, and signs again (small-scope mutations, ByzzFuzz)."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._before: dict[str, deque[dict[str, object]]] = {}

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Change a message for some of its receivers."""
        if message is None:
            return [send]
        fields = asdict(message)
        past = self._before.setdefault(type(message).__name__, deque(maxlen=16))
        past.append(fields)
        if self.random.random() > 0.2:
            return [send]
        changed = self.setting.sign_again(self._mutated(message, fields, past))
        to = self.setting.some(send.to)
        rest = tuple(place for place in send.to if place not in to)
        return self.send(to, changed, send.kind) + ([replace(send, to=rest)] if rest else [])

    def _mutated(self, message: Message, fields: dict[str, object], past: Sequence[dict[str, object]]) -> Message:
        if isinstance(message, Signed) and isinstance(body := decode(message.body), ViewChange | NewView):
            inner = self._mutated(body, asdict(body), [asdict(body)])
            return replace(message, body=encode(inner))
        name = self.random.choice(sorted(fields))
        value = fields[name]
        if isinstance(value, bool):
            return replace(message, **{name: not value})
        if isinstance(value, int) and self.random.random() < 0.7:
            return replace(message, **{name: max(0, value + self.random.choice((-1, 1)))})
        return replace(message, **{name: self.random.choice(past)[name]})


class Collude(Equivocate):
    """Equivocates as leader; votes, with all keys of the coalition, for whatever anybody proposes or votes for."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._voted: set[tuple[int, int, int, bytes]] = set()

    def says(self, send: Send, message: Message | None) -> list[Effect]:
        """Vote for both of two own proposals."""
        said = super().says(send, message)
        for effect in list(said):
            proposal = decode_as(Proposal, effect.data) if isinstance(effect, Send) else None
            if proposal is not None:
                said += self._support(proposal)
        return said

    def adds(self, event: Event) -> list[Effect]:
        """Vote for everything."""
        message = heard(event)
        return self._support(message) if isinstance(message, Proposal | Vote) else []

    def _support(self, message: Proposal | Vote) -> list[Effect]:
        about = (message.epoch, message.view, message.seq, message.digest)
        phase = message.phase if isinstance(message, Vote) else PREPARE
        if phase == CHECKPOINT or about in self._voted or min(about[:3]) < 0:
            return []
        self._voted.add(about)
        return [
            effect
            for signer in sorted(self.setting.schemes)
            for kind in (PREPARE, COMMIT)
            for effect in self.send(self.setting.others, self.setting.vote(kind, *about, signer))
        ]


KINDS: dict[str, type[Adversary]] = {
    "silent": Silent,
    "crash": Crash,
    "amnesia": Amnesia,
    "twin": Twin,
    "equivocate": Equivocate,
    "equivocate-overlapping": EquivocateOverlapping,
    "few": Few,
    "slow": Slow,
    "censor": Censor,
    "skip": Skip,
    "bad-request": BadRequest,
    "replay": Replay,
    "forge": Forge,
    "lying-view-change": LyingViewChange,
    "wrong-new-view": WrongNewView,
    "stale-new-view": StaleNewView,
    "false-checkpoint": FalseCheckpoint,
    "corrupt-transfer": CorruptTransfer,
    "bad-head": BadHead,
    "flood": Flood,
    "mutate": Mutate,
    "collude": Collude,
}
"""Every way to be faulty, by name."""
