"""`two-layer`: regions agree inside, their heads agree above; the published scheme, as a baseline.

Members send their votes to all of their region, as in PBFT inside it; the head sends the region's certificate to the
other heads, and theirs come back to the members. A quorum is q_m members in each of q_k regions: it survives only
``(f_m+1)(f_k+1) - 1`` faulty replicas, near n/9. Commit votes above carry region certificates too, which costs n-k
messages more than the published count and is what that bound takes: with bare heads, f_k + 1 faulty ones would do.
"""

from consensus.messages import Bundle, Vote, encode
from consensus.pbft.config import Protocol
from consensus.pbft.path import kind_of
from consensus.pbft.slots import Slot
from consensus.protocols.regional import RegionalPath
from consensus.quorum import Threshold, TwoLayer


class TwoLayerPath(RegionalPath):
    """Everybody to everybody inside a region, certificates among heads."""

    def cast(self, vote: Vote) -> None:
        """Send the own vote to the whole region."""
        self._send_inside(vote)
        if self._is_head(vote.seq):
            self._acting.add((vote.seq, vote.phase))
            self._collect(self.replica.slots[vote.seq], vote.phase, vote.view, vote.digest)

    def _collects(self, seq: int) -> bool:
        """Whether this replica is the head: members always send to everybody in the region."""
        return self._is_head(seq)

    def _heard_past_head(self, vote: Vote, certificate: Bundle | None) -> None:
        """Do nothing: here members always send their votes to the whole region."""

    def _send_inside(self, vote: Vote) -> None:
        if vote.seq in self.fallback:
            self.replica.send(self.replica.others, encode(vote), "backup")
        else:
            self.replica.send(self._members(), encode(vote), kind_of(vote.phase))

    def _collect(self, slot: Slot, phase: int, view: int, digest: bytes) -> None:
        """Send the region's certificate once it is one; what comes later adds nothing to it."""
        votes = slot.votes.get((phase, view, digest))
        about = (slot.seq, phase)
        if votes is None or about not in self._acting or about in self._bundled or not self._is_head(slot.seq):
            return
        if Threshold(self.own_bits.bit_count()).is_quorum(votes.signers & self.own_bits):
            self._send_bundle(slot, phase, view, digest)


TWO_LAYER = Protocol("two-layer", TwoLayer, TwoLayerPath)
