"""What a replica knows about one sequence number."""

from collections import Counter

from consensus.messages import CHECKPOINT, Bundle, Chunk, Proposal, Vote
from consensus.payload import Gather
from consensus.pbft.epoch import Epoch
from consensus.pbft.votes import VoteSet

Statement = tuple[int, int, bytes]
"""Phase, view and digest: what the votes of one slot can be about."""


class Slot:
    """One sequence number between the last stable checkpoint and the end of the window.

    Attributes
    ----------
    seq : int
        The number.
    view : int
        The newest view in which a digest was accepted here; -1 before the first. Only grows.
    digest : bytes
        What was accepted in that view: the leader's proposal, or what the view change prescribed.
    proposal : Proposal or None
        The proposal of that view, while its leader has signed one.
    leaders_vote : Vote or None
        The PREPARE vote in it, of who led the view when it came: checkpoints may change the order of leaders.
    gather : Gather or None
        The chunks of that proposal, until the batch is whole.
    early : dict
        Chunks that came before their proposal, by sender and index; at most two per sender: a leader sends its own
        and the receiver's.
    prepared : Bundle or None
        The prepared certificate of the highest view. Invariant: it is durable before a COMMIT vote relies on it.
    committed : Bundle or None
        The commit certificate; final.
    certificates : dict
        Certificates by statement; each was acted on once.
    own_votes : dict
        The own vote of the highest view, by phase; what is sent again when somebody asks.
    """

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.view = -1
        self.digest = b""
        self.proposal: Proposal | None = None
        self.leaders_vote: Vote | None = None
        self.gather: Gather | None = None
        self.early: dict[tuple[int, int], Chunk] = {}
        self.scattered = -1  # the newest view in which the own chunk was passed on
        self.prepared: Bundle | None = None
        self.committed: Bundle | None = None
        self.certificates: dict[Statement, Bundle] = {}
        self.own_votes: dict[int, Vote] = {}
        self.votes: dict[Statement, VoteSet] = {}
        # Per phase and view: whose single votes were taken. A replica that votes twice is heard once, so memory stays
        # bounded whatever it sends.
        self.seen: dict[tuple[int, int], int] = {}
        # How many unchecked bundles each sender had taken in, by phase and view.
        self.trusted: Counter[tuple[int, int, int]] = Counter()

    def vote_set(self, about: Statement, epoch: Epoch) -> VoteSet:
        """Give the votes for a statement, an empty set at first."""
        votes = self.votes.get(about)
        if votes is None:
            phase, view, digest = about
            votes = self.votes[about] = VoteSet(epoch.scheme, epoch.statement(phase, view, self.seq, digest))
        return votes

    def heard(self, phase: int, view: int) -> int:
        """Give the bit set of those whose votes of a phase and view were counted."""
        return self.seen.get((phase, view), 0)

    def remember_own(self, vote: Vote) -> None:
        """Keep the own vote if its view is the highest so far."""
        known = self.own_votes.get(vote.phase)
        if known is None or vote.view >= known.view:
            self.own_votes[vote.phase] = vote

    def forget_votes_before(self, view: int) -> None:
        """Drop partial votes of views that are over; certificates stay."""
        self.votes = {
            about: votes for about, votes in self.votes.items() if about[1] >= view or about[0] == CHECKPOINT
        }
        self.seen = {
            about: signers for about, signers in self.seen.items() if about[1] >= view or about[0] == CHECKPOINT
        }
