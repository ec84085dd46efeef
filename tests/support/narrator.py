"""Tells what replicas do in words that a person learning PBFT can read; see `tests/consensus/transcripts`."""

from consensus.machine import Answer, Decided, Noted, Persist, Send
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    NULL,
    PREPARE,
    Bundle,
    Committed,
    Content,
    Fetch,
    NewView,
    Proposal,
    Repeat,
    Reply,
    Request,
    Signed,
    State,
    Status,
    ViewChange,
    Vote,
    batch_digest,
    decode,
    decode_as,
    decode_batch,
    signers_from_bytes,
)
from consensus.pbft import state as states
from consensus.quorum import QuorumSystem, members_of

PHASES = {PREPARE: "PREPARE", COMMIT: "COMMIT", CHECKPOINT: "CHECKPOINT"}
UNTOLD = {"proposed", "prepared", "committed", "checkpoint"}  # the messages say it


def members(places):
    return " ".join(str(place) for place in places)


def signers(bundle):
    return list(members_of(signers_from_bytes(bundle.signers, 256)))


def operations(encoded):
    batch = decode_batch(encoded)
    requests = [decode_as(Request, item) for item in batch.requests] if batch else []
    names = [r.operation.decode() if r.operation.isascii() and r.operation.isalnum() else "members" for r in requests]
    return f"[{' '.join(names)}]"


class Narrator:
    """Hears effects and keeps lines about them.

    Attributes
    ----------
    lines : list of str
        What happened since they were taken last.
    writes : bool
        Whether durable records are told too.
    """

    def __init__(self, quorums: QuorumSystem):
        self._quorums = quorums
        self._names = {NULL: "null"}
        self.lines = []
        self.writes = False

    def take(self):
        lines, self.lines = self.lines, []
        return lines

    def saw(self, replica, effect):
        match effect:
            case Send(to, data, kind):
                told = self.told(decode(data), replica)
                self.lines.append(f"{replica} → {members(to)}  {told}" + (" (backup)" if kind == "backup" else ""))
            case Persist(_, record) if self.writes:
                self.lines.append(f"{replica} writes {self.told(decode(record), replica)}")
            case Answer(_, data):
                reply = decode_as(Reply, data)
                result = reply.result.decode()
                self.lines.append(f"{replica} → client  REPLY to request {reply.timestamp}: {result}")
            case Decided(seq, epoch, view, _, requests, _, _):
                names = operations_of(requests) if requests else "nothing"
                epoch = f" of epoch {epoch}" if epoch else ""
                self.lines.append(f"{replica} executes #{seq}{epoch}: {names}, decided in view {view}")
            case Noted(what, seq, detail) if what not in UNTOLD:
                number = seq if what in ("view", "epoch") else f"#{seq}"
                self.lines.append(f"{replica} {what} {number}" + (f": {detail}" if detail else ""))

    def _named(self, digest, name):
        """Name a digest by what it is of, so that transcripts outlive changes of the encoding."""
        if digest not in self._names:
            while name in self._names.values():
                name += "'"
            self._names[digest] = name
        return self._names[digest]

    def _about(self, message):
        checkpoint = isinstance(message, Vote | Bundle) and message.phase == CHECKPOINT
        epoch = f"e{message.epoch} " if message.epoch else ""
        view = "" if checkpoint else f"v{message.view} "
        name = self._named(message.digest, f"state{message.seq}" if checkpoint else "d?")
        return f"{epoch}{view}#{message.seq} {name}"

    def _certificate(self, bundle):
        return f"{self._about(bundle)} by {members(signers(bundle))}"

    def told_of(self, data, sender):
        return self.told(decode(data), sender)

    def lost(self, sender, to, told):
        """Tell of a lost message, on one line with the same one to others just before."""
        before, _, same = self.lines[-1].partition("  lost: ") if self.lines else ("", "", "")
        if same == told and before.startswith(f"{sender} → "):
            self.lines[-1] = f"{before} {to}  lost: {told}"
        else:
            self.lines.append(f"{sender} → {to}  lost: {told}")

    def told(self, message, sender):
        match message:
            case Vote():
                by = "" if message.signer == sender else f" by {message.signer}"
                return f"{PHASES[message.phase]} {self._about(message)}{by}"
            case Bundle():
                whole = self._quorums.is_quorum(signers_from_bytes(message.signers, self._quorums.n))
                return f"{PHASES[message.phase]} {'certificate' if whole else 'bundle'} {self._certificate(message)}"
            case Request():
                return f"REQUEST {message.timestamp} {message.operation.decode()}"
            case Proposal():
                batch = operations(message.batch)
                self._named(message.digest, f"d{batch}")
                return f"PRE-PREPARE {self._about(message)}: {batch}"
            case Signed(body, _, _):
                return self.told(decode(body), sender)
            case ViewChange(epoch, view, stable, prepared, voted, signer):
                epoch = f"e{epoch} " if epoch else ""
                claims = [f"stable #{stable.seq if stable else 0}"]
                claims += [f"prepared {self._certificate(bundle)}" for bundle in prepared]
                claims += [f"voted {self._about(vote)}" for vote in voted]
                by = "" if signer == sender else f" by {signer}"
                return f"VIEW-CHANGE {epoch}to v{view}: {', '.join(claims)}{by}"
            case NewView(epoch, view, changes):
                epoch = f"e{epoch} " if epoch else ""
                return f"NEW-VIEW {epoch}v{view} from the view changes of {members(item.signer for item in changes)}"
            case Status(epoch, view, active, stable, executed, _):
                waits = "" if active else " (not begun)"
                return f"STATUS epoch {epoch}, view {view}{waits}, stable #{stable}, executed #{executed}"
            case Fetch(seq, digest, _):
                return f"FETCH #{seq} {self._named(digest, 'd?')}"
            case Content(seq, batch):
                self._named(batch_digest(batch), f"d{operations(batch)}")
                return f"CONTENT #{seq} {operations(batch)}"
            case State(handoffs, stable, image):
                ends = "".join(
                    f", epoch {h.certificate.epoch} ended by {self._certificate(h.certificate)}" for h in handoffs
                )
                header = states.decode_header(states.decode_image(image).header)
                return f"STATE {self._certificate(stable)}, next epoch {header.epoch}{ends}"
            case Repeat(again):
                return f"again: {self.told_of(again, sender)}"
            case Committed(bundle, batch):
                return f"COMMITTED {self._certificate(bundle)} {operations(batch)}"
        raise AssertionError(f"no words for {message!r}")


def operations_of(requests):
    return " ".join(
        op.decode() if op.isascii() and op.isalnum() else "the change of members"
        for op in (decode_as(Request, item).operation for item in requests)
    )
