"""A council of replicas on a bench: messages in one queue, first in, first out; timers fire only when told to."""

from collections import deque
from collections.abc import Callable

from consensus.identity import Null, null_client_signature
from consensus.machine import (
    Answer,
    CancelTimer,
    Decided,
    Effect,
    Fired,
    Forget,
    Noted,
    Persist,
    Received,
    Send,
    SetTimer,
)
from consensus.messages import (
    PREPARE,
    Batch,
    Bundle,
    Message,
    NewView,
    Proposal,
    Request,
    Signed,
    ViewChange,
    Vote,
    batch_digest,
    body_statement,
    decode,
    decode_batch,
    encode,
    request_statement,
    signers_to_bytes,
    statement,
)
from consensus.pbft.config import Config
from consensus.pbft.replica import Replica
from consensus.protocols import find
from consensus.quorum import bits_of

CHAIN = b"chain".ljust(32)
ADMIN = b"admin".ljust(32)
CLIENT = b"client".ljust(32)
VIEW, STATUS = ("view",), ("status",)


def key(place, generation=0):
    return f"replica {place} key {generation}".encode().ljust(32)


class Book:
    """An application that writes down what it executes; whoever asks for `no` is refused."""

    def __init__(self):
        self.lines = []

    def check(self, operation):
        return "no means no" if operation == b"no" else ""

    def execute(self, operation):
        self.lines.append(operation)
        return b"done " + operation

    def snapshot(self):
        return encode(Batch(0, tuple(self.lines)))

    def restore(self, snapshot):
        self.lines = list(decode_batch(snapshot).requests)


def null_schemes(members, own):
    return Null(own, len(members))


class Council:
    """Replicas, what is under way between them, and what each one's log holds.

    `lost(sender, to, data, kind)` says what the network loses; `saw(replica, effect)` hears every effect.
    """

    def __init__(self, n=4, protocol="flat", regions=1, spare=0, schemes=null_schemes, saw=None, **options):
        members = tuple(key(place) for place in range(n))
        places = range(n + spare)
        self.configs = [
            Config(
                CHAIN, own, members, find(protocol), lambda p: tuple(p[i::regions] for i in range(regions)),
                admin=ADMIN, **options,
            )
            for own in places
        ]  # fmt: skip
        self.schemes = schemes
        self.saw: Callable[[int, Effect], None] = saw or (lambda replica, effect: None)
        self.lost: Callable[[int, int, bytes, str], bool] = lambda sender, to, data, kind: False
        self.queue: deque[tuple[int, int, bytes, str]] = deque()
        self.timers = [{} for _ in places]
        self.logs: list[list[tuple[int, bytes]]] = [[] for _ in places]
        self.decided: list[dict[int, Decided]] = [{} for _ in places]
        self.answers: list[tuple[int, bytes]] = []
        self.notes: list[tuple[int, Noted]] = []
        self.down: set[int] = set()
        self.replicas = [Replica(config, schemes, Book()) for config in self.configs]
        for place in places:
            self.carry_out(place, self.replicas[place].start())
        self.deliver()

    def __getitem__(self, place):
        return self.replicas[place]

    @property
    def n(self):
        return len(self.replicas)

    # -- driving --------------------------------------------------------------------------------------------------

    def carry_out(self, place, effects):
        for effect in effects:
            self.saw(place, effect)
            match effect:
                case Send(to, data, kind):
                    self.queue.extend((place, other, data, kind) for other in to)
                case SetTimer(timer, seconds):
                    self.timers[place][timer] = seconds
                case CancelTimer(timer):
                    self.timers[place].pop(timer, None)
                case Persist(seq, record):
                    self.logs[place].append((seq, record))
                case Forget(seq):
                    self.logs[place] = [kept for kept in self.logs[place] if kept[0] > seq]
                case Decided():
                    self.decided[place][effect.seq] = effect
                case Answer(_, data):
                    self.answers.append((place, data))
                case Noted():
                    self.notes.append((place, effect))

    def step(self, place, event):
        effects = self.replicas[place].step(event)
        self.carry_out(place, effects)
        return effects

    def receive(self, place, sender, message):
        """Hand one replica a message past the queue; gives the effects."""
        return self.step(place, Received(sender, message if isinstance(message, bytes) else encode(message)))

    def deliver(self, most=1_000_000):
        """Deliver the oldest messages, and what follows from them, until `most` were or none is left."""
        while self.queue and most:
            sender, to, data, kind = self.queue.popleft()
            if to not in self.down and not self.lost(sender, to, data, kind):
                most -= 1
                self.step(to, Received(sender, data))
        return not self.queue

    def fire(self, timer, *places):
        for place in places:
            del self.timers[place][timer]
            self.step(place, Fired(timer))

    def crash(self, place):
        self.down.add(place)
        self.timers[place].clear()
        self.queue = deque(item for item in self.queue if item[1] != place)

    def restart(self, place):
        """Begin another life with what the log holds."""
        self.down.discard(place)
        self.timers[place].clear()
        self.decided[place].clear()
        self.replicas[place] = replica = Replica(self.configs[place], self.schemes, Book())
        replica.recover([record for _, record in self.logs[place]])
        self.carry_out(place, replica.start())
        return replica

    def ask(self, operation, timestamp=None, to=(0,), client=CLIENT):
        request = signed_request(operation, timestamp or self.asked(), client)
        for place in to:
            if place not in self.down:
                self.receive(place, -1, request)
        return request

    def asked(self):
        self._asked = getattr(self, "_asked", 0) + 1
        return self._asked

    def decide(self, *operations, to=(0,)):
        for operation in operations:
            self.ask(operation, to=to)
            self.deliver()

    # -- what anybody with the keys could say ---------------------------------------------------------------------

    def sign(self, signer, data):
        return Null(signer, self.n).sign(data)

    def vote(self, signer, phase, view, seq, digest, epoch=0):
        return Vote(
            phase, epoch, view, seq, digest, signer,
            self.sign(signer, statement(CHAIN, phase, epoch, view, seq, digest)),
        )  # fmt: skip

    def bundle(self, signers, phase, view, seq, digest, epoch=0):
        signatures = [self.vote(signer, phase, view, seq, digest, epoch).signature for signer in sorted(signers)]
        return Bundle(phase, epoch, view, seq, digest, signers_to_bytes(bits_of(signers)), b"".join(signatures))

    def proposal(self, leader, view, seq, *requests, epoch=0):
        batch = encode(Batch(view, tuple(map(encode, requests))))
        digest = batch_digest(batch)
        signature = self.vote(leader, PREPARE, view, seq, digest, epoch).signature
        return Proposal(epoch, view, seq, digest, batch, b"", len(batch), signature)

    def signed(self, signer, body: Message):
        data = encode(body)
        return Signed(data, signer, self.sign(signer, body_statement(CHAIN, data)))

    def view_change(self, signer, view, stable=None, prepared=(), voted=(), epoch=0):
        return self.signed(signer, ViewChange(epoch, view, stable, tuple(prepared), tuple(voted), signer))

    def new_view(self, leader, view, changes, epoch=0):
        return self.signed(leader, NewView(epoch, view, tuple(changes)))


def signed_request(operation, timestamp, client=CLIENT):
    signature = null_client_signature(client, request_statement(CHAIN, timestamp, operation))
    return Request(client, timestamp, operation, signature)


def sent(effects, kind=Message):
    """The messages of a type among effects, decoded."""
    return [m for effect in effects if isinstance(effect, Send) and isinstance(m := decode(effect.data), kind)]
