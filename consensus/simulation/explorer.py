"""Every execution of a small council: four replicas, one sequence number, two views, one of them Byzantine.

The correct replicas are `consensus.pbft.replica.Replica` itself. What is explored is every order in which messages,
lost or repeated or late, and view timers can reach them, while the Byzantine replica says anything to anybody.
Agreement is checked in every state. Four reductions keep the space small; none of them hides an execution:

1. **Messages stay.** What was sent can be delivered at any later time, any number of times, or never. So the network
   is no part of the state: it is what the replicas have sent, which only grows. Two replicas' steps therefore commute
   (neither disables the other's), and a replica's next state depends on its own state and on the event alone: it is
   computed once for each pair, by running the replica, and looked up ever after.
2. **Byzantine messages are always there.** Its proposals, votes and view changes can be delivered to anybody at any
   time, with two digests to choose from, contradictory ones to different replicas or to the same; a certificate or a
   NEW-VIEW can as soon as its parts exist. Other digests than those that some correct replica may vote for add
   nothing: with its one vote they never reach a quorum.
3. **Votes and view changes arrive in sets that do something.** A vote that completes no quorum changes nothing but
   the set it is put into, so only the delivery of a whole quorum is a step: as votes one by one, and as a
   certificate, which counts even when votes of its view do not any more. One view change moves nobody; two of other
   replicas make a replica join them, and make a quorum with its own.
4. **Silent steps wait.** A step after which a replica has sent nothing new and decided nothing new enables nothing
   and shows nothing. By 1 it can be put off until just before the same replica's next step that does, and left out if
   there is none. So states are those in which every replica's last step was such a one; a move of a replica is some
   silent steps and one more.

A state leaves out what nothing that is explored can depend on: sets that are no quorum yet, which signers formed a
quorum, clocks (a view timer may fire at any time in view 0), numbers other than the one explored, and of view 0, once
a replica has left it, all but what it sent and decided (only a third view would ask).

Not covered: restarts, more than two views, checkpoints (the number is far below the first), chunks and the bundles of
regional paths. The random scenarios and twins of `consensus.simulation` are there for these.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

from consensus.identity import Null, null_client_signature
from consensus.machine import Effect, Event, Fired, Received, Send
from consensus.messages import (
    COMMIT,
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
    decode_as,
    encode,
    request_statement,
    signers_to_bytes,
    statement,
)
from consensus.pbft.config import Config, Protocol
from consensus.pbft.replica import Replica
from consensus.pbft.slots import Slot
from consensus.pbft.views import VIEW
from consensus.protocols.flat import FLAT
from consensus.quorum import bits_of
from consensus.simulation.application import Chain

N, SEQ = 4, 1
CHAIN = b"explorer".ljust(32)
MEMBERS = tuple(b"replica %d".ljust(32) % place for place in range(N))

Step = tuple[str, int, int, bytes]
"""What is delivered: its kind, phase or signer, view, digest (empty for none)."""
State = tuple[int, ...]
"""The states of the correct replicas, by their numbers."""
TIMER: Step = ("timer", 0, 0, b"")


def _request(operation: bytes) -> bytes:
    client = b"client " + operation.ljust(25)
    return encode(
        Request(client, 1, operation, null_client_signature(client, request_statement(CHAIN, 1, operation)))
    )


OPERATIONS = (_request(b"a"), _request(b"b"))


@dataclass(frozen=True)
class Local:
    """A state of one replica.

    Attributes
    ----------
    before : int
        The state it was first reached from; -1 for the first.
    step : Step
        By which step.
    sent : frozenset of Step
        What it has sent so far.
    decided : bytes
        Digest of its commit certificate; empty without one.
    view : int
        The view it is in or wants.
    """

    before: int
    step: Step
    sent: frozenset[Step]
    decided: bytes
    view: int


@dataclass(frozen=True)
class Explored:
    """What an exploration found.

    Attributes
    ----------
    states, moves : int
        Different states of the whole council that were reached, and moves between them.
    local : int
        Different states of single replicas.
    deciding : int
        States in which somebody has decided.
    complete : bool
        Whether nothing was left to explore.
    violation : tuple of str
        The shortest way to a disagreement, one line a step; empty when there is none.
    """

    states: int
    moves: int
    local: int
    deciding: int
    complete: bool
    violation: tuple[str, ...]


class Explorer:
    """Breadth-first search over the states of a council.

    Parameters
    ----------
    byzantine : int
        Which replica is Byzantine: 0 leads view 0, 1 leads view 1, 2 and 3 lead neither.
    digests : int
        How many requests there are, one batch of each: 1 or 2.
    views : int
        1 for view 0 alone, where no timer fires and no view change is said; or 2.
    protocol : Protocol
        Whose quorums count. Votes go from everybody to everybody.
    """

    def __init__(self, byzantine: int, digests: int = 2, views: int = 2, protocol: Protocol = FLAT) -> None:
        self.byzantine = byzantine
        self.correct = tuple(place for place in range(N) if place != byzantine)
        self._operations = OPERATIONS[:digests]
        self._views = views
        self._configs = [Config(CHAIN, own, MEMBERS, protocol, in_flight=1) for own in range(N)]
        self._quorums = protocol.quorums((tuple(range(N)),))
        self._batches = {batch_digest(batch): batch for view in (0, 1) for batch in self._batches_of(view)}
        self._bytes: dict[Step, bytes] = {}  # one representative of what was sent or built, for each step
        self._local: list[list[Local]] = [[] for _ in range(N)]
        self._known: list[dict[object, int]] = [{} for _ in range(N)]
        self._next: list[dict[tuple[int, Step], int]] = [{} for _ in range(N)]
        self._moved: list[dict[tuple[int, frozenset[Step]], dict[int, tuple[Step, ...]]]] = [{} for _ in range(N)]
        self._pairs: dict[Step, tuple[Step, Step]] = {}
        self._deliverable: dict[tuple[frozenset[Step], ...], tuple[frozenset[Step], ...]] = {}

    def run(self, most: int = 1 << 62) -> Explored:
        """Explore until nothing is left, agreement is broken, or `most` states were seen."""
        first = tuple(self._begin(place) for place in self.correct)
        before: dict[State, State | None] = {first: None}
        queue, moves, deciding = deque([first]), 0, 0
        violation: tuple[str, ...] = ()
        while queue and not violation and len(before) < most:
            state = queue.popleft()
            possible = self._possible(tuple(local.sent for local in self._locals(state)))
            for at, (place, steps) in enumerate(zip(self.correct, possible, strict=True)):
                for moved in self._moves(place, state[at], steps):
                    moves += 1
                    after = (*state[:at], moved, *state[at + 1 :])
                    if after in before:
                        continue
                    before[after] = state
                    queue.append(after)
                    decided = {local.decided for local in self._locals(after)} - {b""}
                    deciding += bool(decided)
                    if len(decided) > 1:
                        violation = violation or self._way(before, after)
        local = sum(len(self._local[place]) for place in self.correct)
        return Explored(len(before), moves, local, deciding, not queue, violation)

    def _locals(self, state: State) -> list[Local]:
        return [self._local[place][at] for place, at in zip(self.correct, state, strict=True)]

    def _way(self, before: dict[State, State | None], end: State) -> tuple[str, ...]:
        """Tell how a state was reached, one line a move."""
        lines = []
        while (state := before[end]) is not None:
            at = next(at for at in range(len(end)) if end[at] != state[at])
            place = self.correct[at]
            possible = self._possible(tuple(local.sent for local in self._locals(state)))[at]
            steps = self._moves(place, state[at], possible)[end[at]]
            lines.append(f"replica {place} takes {', then '.join(map(_told, steps))}")
            end = state
        return tuple(reversed(lines))

    # -- what can happen ------------------------------------------------------------------------------------------

    def _moves(self, place: int, at: int, possible: frozenset[Step]) -> dict[int, tuple[Step, ...]]:
        """Give the states that a replica can be moved to, with the steps that lead there."""
        known = self._moved[place].get((at, possible))
        if known is not None:
            return known
        start, moves = self._local[place][at], dict[int, tuple[Step, ...]]()
        ways: dict[int, tuple[Step, ...]] = {at: ()}
        queue = deque([at])
        while queue:
            now = queue.popleft()
            for step in sorted(possible):
                if step == TIMER and self._local[place][now].view:
                    continue
                after = self._after(place, now, step)
                local, way = self._local[place][after], (*ways[now], step)
                if (local.sent, local.decided) != (start.sent, start.decided):
                    moves.setdefault(after, way)
                elif after not in ways:
                    ways[after] = way
                    queue.append(after)
        self._moved[place][at, possible] = moves
        return moves

    def _possible(self, sent: tuple[frozenset[Step], ...]) -> tuple[frozenset[Step], ...]:
        """Tell what may be delivered to each correct replica, from what each has sent."""
        if (known := self._deliverable.get(sent)) is not None:
            return known
        votes: dict[tuple[int, int, bytes], int] = {}
        for place, steps in zip(self.correct, sent, strict=True):
            for kind, phase, view, digest in steps:
                if kind in ("vote", "proposal"):
                    about = (PREPARE if kind == "proposal" else phase, view, digest)
                    votes[about] = votes.get(about, 1 << self.byzantine) | 1 << place
        common = [TIMER] if self._views == 2 else []
        for (phase, view, digest), signers in sorted(votes.items()):
            if self._quorums.is_quorum(signers):
                common.append(self._certificate(phase, view, digest, signers))
                common.append(("votes", signers << 2 | phase, view, digest))
        common += self._byzantine_steps(set().union(*sent), common)
        result = tuple(
            frozenset(
                self._in_sets(
                    common + [step for at, steps in enumerate(sent) if self.correct[at] != place for step in steps]
                )
            )
            for place in self.correct
        )
        self._deliverable[sent] = result
        return result

    def _in_sets(self, steps: list[Step]) -> Iterator[Step]:
        """Yield what is delivered alone, and pairs of the rest."""
        yield from (step for step in steps if step[0] not in ("vote", "change"))
        for one, other in combinations(sorted(step for step in steps if step[0] == "change"), 2):
            if one[1] != other[1]:
                pair = ("changes", one[1] * N + other[1], 1, one[3].ljust(32) + other[3].ljust(32))
                self._pairs[pair] = (one, other)
                yield pair

    def _certificate(self, phase: int, view: int, digest: bytes, signers: int) -> Step:
        step = ("certificate", phase, view, digest)
        if step not in self._bytes:
            about = statement(CHAIN, phase, 0, view, SEQ, digest)
            signature = b"".join(Null(place, N).sign(about) for place in range(N) if signers >> place & 1)
            self._bytes[step] = encode(Bundle(phase, 0, view, SEQ, digest, signers_to_bytes(signers), signature))
        return step

    def _byzantine_steps(self, sent: set[Step], certificates: list[Step]) -> list[Step]:
        own = self.byzantine
        steps = [self._proposal(own, batch) for batch in self._batches_of(own)] if own < self._views else []
        if self._views == 1:
            return steps
        prepared = [step for step in certificates if step[:3] == ("certificate", PREPARE, 0)]
        changes = [self._change(own, None), *(self._change(own, certificate) for certificate in prepared)]
        steps += changes
        if own == 1:
            heard = {step[1]: step for step in sent if step[0] == "change"}
            for mine in (None, *changes):
                for chosen in product(*((None, step) for _, step in sorted(heard.items()))):
                    steps += self._start([step for step in (mine, *chosen) if step is not None])
        return sorted(set(steps))

    def _change(self, signer: int, certificate: Step | None) -> Step:
        step = ("change", signer, 1, certificate[3] if certificate else b"")
        if step not in self._bytes:
            prepared = (decode_as(Bundle, self._bytes[certificate]),) if certificate else ()
            body = ViewChange(0, 1, None, tuple(filter(None, prepared)), (), signer)
            self._bytes[step] = encode(self._signed(signer, body))
        return step

    def _proposal(self, leader: int, batch: bytes) -> Step:
        digest = batch_digest(batch)
        step = ("proposal", 0, leader, digest)  # replica 0 leads view 0, replica 1 view 1
        if step not in self._bytes:
            signature = Null(leader, N).sign(statement(CHAIN, PREPARE, 0, leader, SEQ, digest))
            self._bytes[step] = encode(Proposal(0, leader, SEQ, digest, batch, b"", len(batch), signature))
        return step

    def _start(self, changes: list[Step]) -> list[Step]:
        """Give the NEW-VIEW of these view changes, if they are a quorum: known by what it prescribes."""
        if not self._quorums.is_quorum(bits_of(signer for _, signer, _, _ in changes)):
            return []
        step = ("start", 0, 1, max(digest for *_, digest in changes))
        if step not in self._bytes:
            signed = tuple(item for change in changes if (item := decode_as(Signed, self._bytes[change])))
            self._bytes[step] = encode(self._signed(self.byzantine, NewView(0, 1, signed)))
        return [step]

    def _signed(self, signer: int, body: Message) -> Signed:
        data = encode(body)
        return Signed(data, signer, Null(signer, N).sign(body_statement(CHAIN, data)))

    def _batches_of(self, view: int) -> list[bytes]:
        return [encode(Batch(view, (operation,))) for operation in self._operations]

    # -- one replica ----------------------------------------------------------------------------------------------

    def _fresh(self, place: int) -> tuple[Replica, list[Effect]]:
        """Make a replica; the leaders have a request each: the first one in view 0, the last one in view 1."""
        replica = Replica(self._configs[place], lambda members, own: Null(own, len(members)), Chain())
        effects = replica.start()
        if place in (0, 1):
            effects += replica.step(Received(2 + place, self._operations[-place]))
        return replica, effects

    def _begin(self, place: int) -> int:
        replica, effects = self._fresh(place)
        return self._state(place, replica, -1, ("begin", 0, 0, b""), self._sent(place, effects))

    def _after(self, place: int, at: int, step: Step) -> int:
        after = self._next[place].get((at, step))
        if after is None:
            replica, effects = self._rebuilt(place, at), []
            for event in self._events(place, step):
                effects += replica.step(event)
            sent = self._local[place][at].sent | self._sent(place, effects)
            after = self._next[place][at, step] = self._state(place, replica, at, step, sent)
        return after

    def _rebuilt(self, place: int, at: int) -> Replica:
        """Bring a new replica into a state by the steps that led there first."""
        steps = []
        while at > 0:
            local = self._local[place][at]
            steps.append(local.step)
            at = local.before
        replica, _ = self._fresh(place)
        for step in reversed(steps):
            for event in self._events(place, step):
                replica.step(event)
        return replica

    def _events(self, place: int, step: Step) -> list[Event]:
        kind, number, view, digest = step
        if kind == "timer":
            return [Fired(VIEW)]
        if kind == "votes":
            phase, signers = number & 3, number >> 2
            about = statement(CHAIN, phase, 0, view, SEQ, digest)
            return [
                Received(signer, encode(Vote(phase, 0, view, SEQ, digest, signer, Null(signer, N).sign(about))))
                for signer in range(N)
                if signers >> signer & 1 and signer != place
            ]
        return [Received(self.byzantine, self._bytes[part]) for part in self._pairs.get(step, (step,))]

    def _sent(self, place: int, effects: list[Effect]) -> frozenset[Step]:
        """Read what a replica says from its effects: what is sent again was there before."""
        steps = set()
        for effect in effects:
            step = self._read(decode(effect.data)) if isinstance(effect, Send) else None
            if step is not None and isinstance(effect, Send):
                self._bytes.setdefault(step, effect.data)
                steps.add(step)
        return frozenset(steps)

    def _read(self, message: Message | None) -> Step | None:
        match message:
            case Vote(phase, _, view, seq, digest) if seq == SEQ and phase in (PREPARE, COMMIT):
                return ("vote", phase, view, digest)
            case Proposal(_, view, seq, digest) if seq == SEQ:
                return ("proposal", 0, view, digest)
            case Signed(body):
                return self._read_body(decode(body))
        return None

    def _read_body(self, body: Message | None) -> Step | None:
        if isinstance(body, ViewChange):
            return ("change", body.signer, body.view, _prepared(body))
        if isinstance(body, NewView):
            opened = [change for item in body.changes if (change := decode_as(ViewChange, item.body))]
            return ("start", 0, body.view, max(_prepared(change) for change in opened))
        return None

    def _state(self, place: int, replica: Replica, before: int, step: Step, sent: frozenset[Step]) -> int:
        slot = replica.slots.get(SEQ)
        decided = slot.committed.digest if slot and slot.committed else b""
        key = (fingerprint(replica), sent)
        known = self._known[place].setdefault(key, len(self._local[place]))
        if known == len(self._local[place]):
            self._local[place].append(Local(before, step, sent, decided, replica.view))
        return known


def _told(step: Step) -> str:
    """Describe a step for a person."""
    kind, number, view, digest = step
    name, phases = digest.hex()[:8], {PREPARE: "PREPARE", COMMIT: "COMMIT"}
    match kind:
        case "timer":
            return "its view timer"
        case "changes":
            return f"the VIEW-CHANGEs of {number // N} and {number % N}"
        case "start":
            return f"NEW-VIEW 1 {'prescribing ' + name if digest else 'prescribing nothing'}"
        case "proposal":
            return f"the proposal of {name} in view {view}"
        case "votes":
            return f"{phases[number & 3]} votes for {name} in view {view}"
        case _:
            return f"the {phases[number]} certificate of {name} in view {view}"


def _prepared(change: ViewChange) -> bytes:
    return next((certificate.digest for certificate in change.prepared if certificate.seq == SEQ), b"")


def fingerprint(replica: Replica) -> tuple[object, ...]:
    """Give what a replica's later answers depend on, besides what it has sent, but for what a state leaves out."""
    slot, view = replica.slots.get(SEQ, Slot(SEQ)), replica.view
    number = (
        slot.digest if slot.view == view else None,
        slot.proposal.digest if slot.proposal is not None and slot.proposal.view == view else None,
        slot.prepared.digest if slot.prepared is not None and view == 0 else None,
        slot.committed.digest if slot.committed is not None else None,
        frozenset(about for about in slot.certificates if about[1] >= view),
    )
    to_lead = replica.own == 1 and not (view == 1 and replica.active)
    leader = (replica.executed, len(replica.requests), frozenset(replica.batches)) if to_lead else ()
    return view, replica.active, replica.prescribed.get(SEQ), number, leader
