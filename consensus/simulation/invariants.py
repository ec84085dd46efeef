"""What must hold whatever happens, checked after every event as far as that event can have broken it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from consensus.identity import Scheme
from consensus.machine import Decided, Forget, Noted, Persist, Send
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    PREPARE,
    Bundle,
    Proposal,
    Request,
    State,
    Vote,
    decode,
    decode_as,
    request_statement,
    signers_from_bytes,
    statement,
)
from consensus.quorum import QuorumSystem
from consensus.simulation.events import Node, Observer


@dataclass(frozen=True)
class Violation:
    """An invariant that was broken.

    Attributes
    ----------
    at : int
        Nanoseconds of simulated time.
    node : int
        Where it showed; -1 where it is nobody's in particular.
    invariant : str
        Which one.
    detail : str
        For a person.
    """

    at: int
    node: int
    invariant: str
    detail: str


class Invariants(Observer):
    """Watches the correct replicas of a simulation.

    ======================  ==========================================================================================
    ``agreement``           no two decide different batches, or results, for a number
    ``prefix``              a replica decides number after number; only a state transfer or a new life leaps
    ``client signature``    every decided request is signed by its client
    ``exactly once``        no request is executed twice
    ``certificate``         what certifies a decision are signatures of distinct members that form a quorum
    ``one vote``            none signs two digests for one (epoch, view, number, phase), in all its lives together
    ``views``               none votes anew in a view below one it voted in, within an epoch
    ``checkpoint``          all sign the same digest at a checkpoint
    ``window``              none votes beyond the high watermark
    ``persist, then send``  a vote leaves only when a durable record holds it
    ``hand-over``           all that enter an epoch enter it at the same number with as many members
    ``final state``         replicas that executed the same numbers are in the same state (`finish`)
    ======================  ==========================================================================================

    Parameters
    ----------
    chain : bytes
        Name of the chain.
    quorums : callable
        The quorum system of an epoch.
    scheme : Scheme
        Verifies anybody's signatures.
    correct : collection of int
        The replicas that must keep the rules.
    decisive : int
        The phase whose certificate decides: `COMMIT`, or `PREPARE` in the fast protocol.
    window : int
        Length of the log window.
    places : callable, optional
        Bit set of an epoch's members; by default the first n places.

    Attributes
    ----------
    violations : list of Violation
        In the order in which they showed.
    history : dict
        By number: what the first replica that decided it said.
    """

    def __init__(
        self,
        chain: bytes,
        quorums: Callable[[int], QuorumSystem],
        scheme: Scheme,
        correct: Collection[int],
        *,
        decisive: int = COMMIT,
        window: int = 32,
        places: Callable[[int], int] | None = None,
    ) -> None:
        self.violations: list[Violation] = []
        self.history: dict[int, Decided] = {}
        self._chain = chain
        self._quorums = quorums
        self._scheme = scheme
        self._correct = frozenset(correct)
        self._decisive = decisive
        self._window = window
        self._places = places or (lambda epoch: (1 << quorums(epoch).n) - 1)
        self._handovers: dict[int, tuple[str, int]] = {}
        self._executed: dict[tuple[bytes, int], int] = {}  # number by client and timestamp
        self._certificates: set[bytes] = set()
        self._last: dict[int, int] = {}  # decided number by node, in this life; absent before the first
        self._best: dict[int, int] = {}  # the same, of all lives
        self._leaps: dict[int, set[int]] = {}  # checkpoints that a node fetched
        self._votes: dict[int, dict[tuple[int, int, int, int], bytes]] = {}  # by identity: what left
        self._durable: dict[int, set[tuple[int, int, int, int, bytes]]] = {}
        self._views: dict[tuple[int, int], int] = {}  # by identity and epoch
        self._low: dict[int, int] = {}  # by node: up to which number it forgot
        self._checkpoints: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._now = 0

    def _fail(self, node: int, invariant: str, detail: str) -> None:
        self.violations.append(Violation(self._now, node, invariant, detail))

    # -- decisions ----------------------------------------------------------------------------------------------

    def started(self, now: int, node: Node) -> None:
        """Let a new life decide again, from somewhere at or below where the last one was."""
        self._last.pop(node.index, None)

    def decided(self, now: int, node: Node, effect: Decided) -> None:
        """Check a decision against what is known."""
        if node.identity not in self._correct:
            return
        self._now = now
        seq, index = effect.seq, node.index
        last, best = self._last.get(index), self._best.get(index, 0)
        follows = seq <= best + 1 if last is None else seq == last + 1
        if not follows and (seq <= (last or 0) or seq - 1 not in self._leaps.get(index, ())):
            self._fail(index, "prefix", f"number {seq} follows {best if last is None else last}")
        self._last[index] = seq
        self._best[index] = max(seq, self._best.get(index, 0))
        known = self.history.get(seq)
        if known is None:
            self.history[seq] = effect
            self._check_content(node, effect)
        elif (known.digest, known.requests) != (effect.digest, effect.requests):
            self._fail(index, "agreement", f"number {seq}: {effect.digest.hex()[:8]} and {known.digest.hex()[:8]}")
        elif known.results != effect.results:
            self._fail(index, "agreement", f"number {seq}: results differ")
        if effect.certificate not in self._certificates:
            self._certificates.add(effect.certificate)
            self._check_certificate(node, effect)

    def _check_content(self, node: Node, effect: Decided) -> None:
        for encoded, result in zip(effect.requests, effect.results, strict=True):
            request = decode_as(Request, encoded)
            if request is None or not self._signed_by_client(request):
                self._fail(node.index, "client signature", f"number {effect.seq}")
                continue
            name = (request.client, request.timestamp)
            before = self._executed.setdefault(name, effect.seq) if result else effect.seq
            if before != effect.seq:
                self._fail(node.index, "exactly once", f"numbers {before} and {effect.seq}")
        names = [encoded for encoded, result in zip(effect.requests, effect.results, strict=True) if result]
        if len(set(names)) != len(names):
            self._fail(node.index, "exactly once", f"twice within number {effect.seq}")

    def _signed_by_client(self, request: Request) -> bool:
        about = request_statement(self._chain, request.timestamp, request.operation)
        return self._scheme.verify_client(request.client, about, request.signature)

    def _check_certificate(self, node: Node, effect: Decided) -> None:
        bundle = decode_as(Bundle, effect.certificate)
        if bundle is None or (bundle.epoch, bundle.seq, bundle.digest, bundle.phase) != (
            effect.epoch,
            effect.seq,
            effect.digest,
            self._decisive,
        ):
            self._fail(node.index, "certificate", f"number {effect.seq}: it is about something else")
            return
        quorums = self._quorums(bundle.epoch)
        places = self._places(bundle.epoch)
        signers = signers_from_bytes(bundle.signers, places.bit_length())
        about = statement(self._chain, bundle.phase, bundle.epoch, bundle.view, bundle.seq, bundle.digest)
        if signers & ~places:
            self._fail(node.index, "certificate", f"number {effect.seq}: a signer is no member")
        elif not quorums.is_quorum(signers):
            self._fail(node.index, "certificate", f"number {effect.seq}: {signers.bit_count()} signers are no quorum")
        elif not self._scheme.verify_all(signers, about, bundle.signature):
            self._fail(node.index, "certificate", f"number {effect.seq}: a signature is wrong")

    def noted(self, now: int, node: Node, effect: Noted) -> None:
        """Remember where a replica may go on after a state transfer; compare how epochs begin."""
        if effect.what == "transfer":
            self._leaps.setdefault(node.index, set()).add(effect.seq)
        elif effect.what == "epoch" and node.identity in self._correct:
            self._now = now
            said, first = self._handovers.setdefault(effect.seq, (effect.detail, node.index))
            if said != effect.detail:
                self._fail(node.index, "hand-over", f"epoch {effect.seq}: {effect.detail}; at {first}: {said}")

    # -- votes --------------------------------------------------------------------------------------------------

    def persisted(self, now: int, node: Node, record: Persist | Forget) -> None:
        """Remember which votes are durable."""
        if type(record) is Forget:
            self._low[node.index] = max(record.seq, self._low.get(node.index, 0))
        elif type(record) is Persist:
            message = decode(record.record)
            if type(message) is Vote and message.signer == node.identity:
                self._now = now
                self._check_durable(node, message)
            elif type(message) is State:  # what a life after a crash may begin from
                seq = message.certificate.seq
                self._leaps.setdefault(node.index, set()).add(seq)
                self._low[node.index] = max(seq, self._low.get(node.index, 0))

    def _check_durable(self, node: Node, vote: Vote) -> None:
        about = (vote.phase, vote.epoch, vote.view, vote.seq, vote.digest)
        self._durable.setdefault(node.index, set()).add(about)
        if node.identity not in self._correct or vote.phase == CHECKPOINT:
            return
        highest = self._views.get((node.identity, vote.epoch), 0)
        if vote.view < highest:
            self._fail(node.index, "views", f"votes in view {vote.view} after {highest}")
        self._views[node.identity, vote.epoch] = max(vote.view, highest)
        low = self._low.get(node.index, 0)
        if vote.seq > low + self._window:
            self._fail(node.index, "window", f"number {vote.seq} with watermark {low}")

    def leaves(self, now: int, node: Node, send: Send) -> None:
        """Check the own votes in what a replica sends."""
        if node.identity not in self._correct:
            return
        message = decode(send.data)
        kind = type(message)
        if kind is Vote:
            own = message.signer == node.identity  # type: ignore[union-attr]
            phase = message.phase  # type: ignore[union-attr]
        elif kind is Bundle:
            own = bool(int.from_bytes(message.signers, "little") >> node.identity & 1)  # type: ignore[union-attr]
            phase = message.phase  # type: ignore[union-attr]
        elif kind is Proposal:
            # Passed on by a head it is another leader's; then the signature is not this replica's.
            about = statement(
                self._chain, PREPARE, message.epoch, message.view, message.seq, message.digest  # type: ignore[union-attr]
            )  # fmt: skip
            own = self._scheme.verify(node.identity, about, message.signature)  # type: ignore[union-attr]
            phase = PREPARE
        else:
            return
        if own:
            self._now = now
            self._check_vote(node, phase, message)  # type: ignore[arg-type]

    def _check_vote(self, node: Node, phase: int, message: Vote | Bundle | Proposal) -> None:
        epoch, view, seq, digest = message.epoch, message.view, message.seq, message.digest
        votes = self._votes.setdefault(node.identity, {})
        key = (phase, epoch, view, seq)
        before = votes.get(key)
        if before == digest:
            return
        if before is not None:
            self._fail(node.index, "one vote", f"phase {phase}, epoch {epoch}, view {view}, number {seq}")
            return
        votes[key] = digest
        if (phase, epoch, view, seq, digest) not in self._durable.get(node.index, ()):
            self._fail(node.index, "persist, then send", f"phase {phase}, epoch {epoch}, view {view}, number {seq}")
        if phase == CHECKPOINT:
            agreed, first = self._checkpoints.setdefault((epoch, seq), (digest, node.index))
            if agreed != digest:
                self._fail(node.index, "checkpoint", f"number {seq}: another state than at {first}")

    # -- at the end ---------------------------------------------------------------------------------------------

    def finish(self, now: int, states: dict[int, tuple[int, bytes]]) -> None:
        """Compare the final states of correct replicas: by node, the last executed number and the snapshot."""
        self._now = now
        by_number: dict[int, tuple[int, bytes]] = {}
        for index, (executed, state) in sorted(states.items()):
            first, agreed = by_number.setdefault(executed, (index, state))
            if agreed != state:
                self._fail(index, "final state", f"after number {executed} another one than at {first}")
