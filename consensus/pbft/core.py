"""The bottom layer of a replica: its state, and how it signs, remembers and sends."""

from collections.abc import Iterable

from consensus.machine import Application, CancelTimer, Effect, Noted, Persist, Send, SetTimer, Timer
from consensus.messages import (
    COMMIT,
    PREPARE,
    Bundle,
    Message,
    NewView,
    Signed,
    ViewChange,
    Vote,
    body_statement,
    encode,
)
from consensus.pbft.config import Config, SchemeFactory
from consensus.pbft.epoch import Epoch
from consensus.pbft.path import VotePath
from consensus.pbft.slots import Slot
from consensus.pbft.state import Header
from consensus.reputation import Standing


class Core:
    """State of a replica, and the few ways to change it that everything else uses.

    Attributes
    ----------
    awake : bool
        Whether it has started; while it recovers it proposes nothing.
    behind : bool
        Whether something came from beyond its window, view or epoch since it last asked where the others stand.
    view : int
        The view it is in, or wants. Never shrinks within an epoch.
    active : bool
        Whether that view has begun here. While it has not, nothing is voted for.
    attempts : int
        Views in a row that brought no decision; the wait for the next grows with it.
    new_view : Signed or None
        What proves that the view began, for those who missed it; None in an epoch's view 0.
    header : Header
        Replicated bookkeeping as of the last executed number.
    stable : Bundle or None
        Certificate of the last stable checkpoint; None before the first.
    low : int
        Its number: the low watermark. Slots exist only in ``low < seq <= low + window``.
    executed : int
        The last executed number; never below `low`.
    slots : dict
        Live numbers.
    batches : dict
        Encoded batches by digest, of live numbers.
    signed : dict
        Digest of every vote ever signed in this epoch above the last stable checkpoint, by (phase, view, seq). A
        second digest for the same key is never signed, in whatever state the rest of this object is.
    """

    path: VotePath
    awake = False
    behind = False

    def __init__(self, config: Config, schemes: SchemeFactory, application: Application) -> None:
        self.config = config
        self.application = application
        self.schemes = schemes
        self.own = config.own
        self.effects: list[Effect] = []
        self.stable: Bundle | None = None
        self.low = self.executed = 0
        self.batches: dict[bytes, bytes] = {}
        places = tuple(place for place, key in enumerate(config.members) if key)
        self.header = Header(0, 0, config.members, Standing.initial(places))
        self.begin_epoch(Epoch(config, schemes, self.header))

    def begin_epoch(self, epoch: Epoch) -> None:
        """Enter view 0 of an epoch; nothing of the one before is live."""
        self.epoch = epoch
        self.others = tuple(place for place in epoch.places if place != self.own)
        self.member = self.own in epoch.places
        self.view = self.attempts = 0
        self.active = True
        self.new_view: Signed | None = None
        self.slots: dict[int, Slot] = {}
        self.signed: dict[tuple[int, int, int], bytes] = {}

    # -- who and where ------------------------------------------------------------------------------------------

    def leader(self, view: int) -> int:
        """Tell who leads a view; the order is fixed at checkpoints."""
        return self.epoch.order[view % len(self.epoch.order)]

    @property
    def leading(self) -> bool:
        """Whether this replica leads the view it is in."""
        return self.active and self.leader(self.view) == self.own

    @property
    def high(self) -> int:
        """The last number that may be voted for: the high watermark, or the end of the epoch."""
        if self.header.epoch != self.epoch.number:  # executed to the end, but that checkpoint is not stable yet
            return self.header.base
        high = self.low + self.config.window
        return min(high, self.header.until) if self.header.until else high

    def slot(self, seq: int) -> Slot | None:
        """Give the slot of a number; None outside the window."""
        slot = self.slots.get(seq)
        if slot is None and self.low < seq <= self.low + self.config.window:
            slot = self.slots[seq] = Slot(seq)
        return slot

    def decides(self, certificate: Bundle) -> bool:
        """Say whether a certificate is of the phase that decides: COMMIT, or PREPARE in the fast protocol."""
        return certificate.phase == (PREPARE if self.config.protocol.fast else COMMIT)

    # -- effects ------------------------------------------------------------------------------------------------

    def send(self, to: Iterable[int], data: bytes, kind: str) -> None:
        """Send a message to replicas other than this one."""
        if to := tuple(to):
            self.effects.append(Send(to, data, kind))

    def persist(self, seq: int, message: Message) -> None:
        """Make a record durable before anything that is sent after it."""
        self.effects.append(Persist(seq, encode(message)))

    def set_timer(self, timer: Timer, seconds: float) -> None:
        """Start a timer, anew if it runs."""
        self.effects.append(SetTimer(timer, seconds))

    def cancel_timer(self, timer: Timer) -> None:
        """Stop a timer."""
        self.effects.append(CancelTimer(timer))

    def note(self, what: str, seq: int, detail: str = "") -> None:
        """Tell the world something that changes nothing."""
        self.effects.append(Noted(what, seq, detail))

    # -- signing ------------------------------------------------------------------------------------------------

    def sign_vote(self, phase: int, view: int, seq: int, digest: bytes) -> Vote | None:
        """Sign a vote and make it durable; None when another digest was signed before, which stands for ever."""
        before = self.signed.get((phase, view, seq))
        if before is not None and before != digest:
            return None
        signature = self.epoch.scheme.sign(self.epoch.statement(phase, view, seq, digest))
        vote = Vote(phase, self.epoch.number, view, seq, digest, self.own, signature)
        if before is None:
            self.signed[phase, view, seq] = digest
            self.persist(seq, vote)
        return vote

    def sign_body(self, body: ViewChange | NewView) -> Signed:
        """Sign a message as it will travel."""
        data = encode(body)
        return Signed(data, self.own, self.epoch.scheme.sign(body_statement(self.config.chain, data)))

    def hear_of_more(self) -> None:
        """Note that others are somewhere this replica cannot follow, and ask soon; nothing need be under way here."""
        self.behind = True
        self.watch()

    # -- told by one layer, done by another ---------------------------------------------------------------------

    def watch(self) -> None:
        """See to it that work under way is finished: run the timers that ask for it."""
        raise NotImplementedError

    def progressed(self) -> None:
        """Hear that a number was executed or a state taken over."""
        raise NotImplementedError
