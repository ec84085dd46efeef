"""What a protocol is to the world around it: a state machine that takes events and returns effects.

A replica opens no socket, reads no clock, draws no random number and touches no file. The simulator and the real
network drive the very same objects, so what was tested in one is what runs in the other.
"""

from typing import Protocol

from msgspec import Struct

Timer = tuple[str | int, ...]
"""A timer's name: what it is for, then what it is about, e.g. ``("fallback", 17)``."""


class Received(Struct, frozen=True):
    """Bytes arrived over an authenticated link.

    Attributes
    ----------
    sender : int
        The replica at the other end of the link, as the transport authenticated it; -1 for anybody else (a client).
        Whoever signed the content may be somebody else.
    data : bytes
        One message, as it was sent.
    """

    sender: int
    data: bytes


class Fired(Struct, frozen=True):
    """A timer ran out that had not been cancelled or set again since."""

    timer: Timer


Event = Received | Fired


class Send(Struct, frozen=True):
    """Send one message to each of some replicas, never to oneself; the order of `to` is the order of sending.

    Attributes
    ----------
    to : tuple of int
        Replicas.
    data : bytes
        The encoded message.
    kind : str
        What is counted: ``vote`` for the vote path (proposals, votes, bundles, certificates in the normal case),
        ``backup`` for its copies after a timeout, ``chunk`` for payloads, ``checkpoint``, ``view`` for view changes,
        ``sync`` for status and state transfer, ``request`` for forwarded client requests.
    """

    to: tuple[int, ...]
    data: bytes
    kind: str


class Answer(Struct, frozen=True):
    """Send a reply to a client, named by its public key."""

    client: bytes
    data: bytes


class SetTimer(Struct, frozen=True):
    """Fire `timer` after `seconds` on the replica's own clock; a timer of that name that runs already starts anew."""

    timer: Timer
    seconds: float


class CancelTimer(Struct, frozen=True):
    """Forget a timer; no such timer is no mistake."""

    timer: Timer


class Persist(Struct, frozen=True):
    """Append one record to the durable log. Every send that follows in the same list waits until it is durable.

    Attributes
    ----------
    seq : int
        The sequence number the record is about; records of numbers up to a stable checkpoint are forgotten.
    record : bytes
        An encoded record, given back to `Replica.recover` in the order of appending.
    """

    seq: int
    record: bytes


class Forget(Struct, frozen=True):
    """Remove all records about sequence numbers up to `seq` from the durable log (those persisted before this)."""

    seq: int


class Decided(Struct, frozen=True):
    """A batch was committed and executed; told once per number and life of a replica, in order and without gaps.

    Attributes
    ----------
    seq, epoch, view : int
        Where it was decided.
    digest : bytes
        Digest of the batch; 32 zero bytes for a null batch.
    requests : tuple of bytes
        The encoded client requests, in order.
    certificate : bytes
        The encoded commit certificate.
    results : tuple of bytes
        What the application returned for each request; empty bytes for one that was executed before.
    batch : bytes
        The encoded batch that `digest` is of; empty for the null batch.
    """

    seq: int
    epoch: int
    view: int
    digest: bytes
    requests: tuple[bytes, ...]
    certificate: bytes
    results: tuple[bytes, ...]
    batch: bytes = b""


class Noted(Struct, frozen=True):
    """Something worth knowing that changes nothing: a phase reached, a strike, evidence of a double vote.

    Attributes
    ----------
    what : str
        ``proposed``, ``prepared``, ``committed``, ``view``, ``checkpoint``, ``fallback``, ``strike``, ``transfer``,
        ``evidence``, ``epoch``, ``refused``.
    seq : int
        The sequence number it is about, or the view, for ``view``.
    detail : str
        For a person.
    """

    what: str
    seq: int
    detail: str = ""


Effect = Send | Answer | SetTimer | CancelTimer | Persist | Forget | Decided | Noted


class StateMachine(Protocol):
    """The interface of every protocol; implement it to plug in one of your own."""

    def start(self) -> list[Effect]:
        """Begin, or begin again after `recover`; called once before any event."""
        ...

    def recover(self, records: list[bytes]) -> None:
        """Take back the state that the durable log holds; called once, before `start`, after a crash."""
        ...

    def step(self, event: Event) -> list[Effect]:
        """Take one event; the effects are to be carried out in order, and none may be left out."""
        ...


class Application(Protocol):
    """What a council agrees about: a deterministic service, the same at every replica."""

    def check(self, operation: bytes) -> str:
        """Say why an operation must not be voted for; empty when it may. Must not depend on local state alone."""
        ...

    def execute(self, operation: bytes) -> bytes:
        """Carry out a committed operation and return its result. Never raises, whatever the operation says."""
        ...

    def snapshot(self) -> bytes:
        """Return the whole state as canonical bytes: equal states give equal bytes."""
        ...

    def restore(self, snapshot: bytes) -> None:
        """Replace the state by a snapshot's."""
        ...
