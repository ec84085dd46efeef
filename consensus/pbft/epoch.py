"""One epoch: who its members are, how they sign, and how many signatures decide."""

from functools import cached_property

from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    PREPARE,
    Bundle,
    Signed,
    ViewChange,
    Vote,
    body_statement,
    decode_as,
    signers_from_bytes,
    signers_to_bytes,
    statement,
)
from consensus.payload import Scatter
from consensus.pbft.config import Config, SchemeFactory
from consensus.pbft.state import Header
from consensus.quorum import bits_of

MOST = 1 << 63  # views and sequence numbers are below


class Epoch:
    """What stays fixed from one membership change to the next.

    Parameters
    ----------
    config : Config
        The replica's configuration.
    schemes : callable
        Makes a scheme for a member list.
    header : Header
        Names the epoch and its members.

    Attributes
    ----------
    number : int
        The epoch.
    places : tuple of int
        The members' places.
    order : tuple of int
        The places in the order in which they lead; changes at checkpoints.
    """

    def __init__(self, config: Config, schemes: SchemeFactory, header: Header) -> None:
        self._chain, self._own = config.chain, config.own
        self.number = header.epoch
        self.members = header.members
        self._taken = bits_of(header.places)
        self.places = header.places
        self.order = header.standing.order
        self.regions = config.regions(self.places)
        self.quorums = config.protocol.quorums(self.regions)
        self.scheme = schemes(header.members, config.own)
        # Certificates found valid before, by what they are about; emptied of old numbers at checkpoints.
        self._checked: dict[tuple[int, int, int, bytes], tuple[bytes, bytes]] = {}

    def has(self, place: int) -> bool:
        """Say whether a member is at a place."""
        return place >= 0 and bool(self._taken >> place & 1)

    @cached_property
    def scatter(self) -> Scatter:
        """Say who holds which chunk of a large batch."""
        return Scatter(len(self.places), self.quorums.bound)

    @cached_property
    def own_chunk(self) -> int:
        """Give the index of this replica's own chunk; it must be a member."""
        return self.scatter.index(self.places.index(self._own))

    def statement(self, phase: int, view: int, seq: int, digest: bytes) -> bytes:
        """Give the bytes that a vote of this epoch signs."""
        return statement(self._chain, phase, self.number, view, seq, digest)

    def valid_vote(self, vote: Vote) -> bool:
        """Check one vote's signature."""
        if not _plausible(vote) or not self.has(vote.signer):
            return False
        about = self.statement(vote.phase, vote.view, vote.seq, vote.digest)
        return self.scheme.verify(vote.signer, about, vote.signature)

    def signers(self, bundle: Bundle) -> int:
        """Read a bundle's bit set of signers; 0 for one that is malformed or of another epoch."""
        if bundle.epoch != self.number or not _plausible(bundle):
            return 0
        signers = signers_from_bytes(bundle.signers, len(self.members))
        return 0 if signers & ~self._taken else signers

    def valid_bundle(self, bundle: Bundle) -> bool:
        """Check all of a bundle's signatures."""
        about = self.statement(bundle.phase, bundle.view, bundle.seq, bundle.digest)
        return self.scheme.verify_all(self.signers(bundle), about, bundle.signature)

    def certifies(self, bundle: Bundle) -> bool:
        """Check that a bundle is a quorum's certificate; one that was checked before costs nothing."""
        key = (bundle.phase, bundle.view, bundle.seq, bundle.digest)
        if self._checked.get(key) == (bundle.signers, bundle.signature):
            return bundle.epoch == self.number
        if not self.quorums.is_quorum(self.signers(bundle)) or not self.valid_bundle(bundle):
            return False
        self._checked[key] = (bundle.signers, bundle.signature)
        return True

    def certificate(self, phase: int, view: int, digest: bytes, seq: int, signers: int, signature: bytes) -> Bundle:
        """Make a certificate of a quorum's signatures that were verified one by one."""
        bundle = Bundle(phase, self.number, view, seq, digest, signers_to_bytes(signers), signature)
        self._checked[phase, view, seq, digest] = (bundle.signers, signature)
        return bundle

    def forget(self, seq: int) -> None:
        """Drop what was remembered of numbers up to one."""
        self._checked = {key: value for key, value in self._checked.items() if key[2] > seq}

    def view_change(self, signed: Signed) -> ViewChange | None:
        """Open a signed view change; None unless its own signer signed it in this epoch."""
        body = decode_as(ViewChange, signed.body)
        if body is None or body.signer != signed.signer or body.epoch != self.number:
            return None
        return body if self.valid_body(signed) else None

    def valid_body(self, signed: Signed) -> bool:
        """Check the signature of a signed message."""
        return self.has(signed.signer) and self.scheme.verify(
            signed.signer, body_statement(self._chain, signed.body), signed.signature
        )


def _plausible(message: Vote | Bundle) -> bool:
    """Say whether numbers are in range and the digest has its length, so that there is a statement to verify."""
    in_range = message.phase in (PREPARE, COMMIT, CHECKPOINT) and 0 <= message.view < MOST and 0 <= message.seq < MOST
    return in_range and len(message.digest) == 32
