"""Signatures of one statement, gathered until they are a quorum."""

from consensus.identity import Scheme
from consensus.quorum import members_of


class VoteSet:
    """The signatures of one statement that a replica holds.

    Where bundles are sums (BLS), signatures may be taken in unchecked: `combined` checks the sum, once, and only if
    that fails looks for the one to blame. Where they are lists, everything was checked before it comes here.

    Parameters
    ----------
    scheme : Scheme
        How they are signed.
    statement : bytes
        What they sign.

    Attributes
    ----------
    signers : int
        Bit set of those whose signatures are held.
    """

    __slots__ = ("_parts", "_scheme", "_statement", "_unchecked", "signers")

    def __init__(self, scheme: Scheme, statement: bytes) -> None:
        self._scheme, self._statement = scheme, statement
        self.signers = 0
        # Bit sets with their signatures; disjoint where the scheme can split bundles. Sums that overlap cannot be
        # added, so they are kept side by side and `combined` chooses among them.
        self._parts: dict[int, bytes] = {}
        self._unchecked: set[int] = set()

    def add(self, signers: int, signature: bytes, *, checked: bool = True) -> None:
        """Take in the signature of a bit set."""
        if self._scheme.splittable and signers & self.signers:
            singles = zip(members_of(signers), self._scheme.split(signers, signature), strict=True)
            self._parts.update((1 << signer, single) for signer, single in singles if not self.signers >> signer & 1)
        elif signers not in self._parts or not self._stands(signers):
            self._parts[signers] = signature
            if not checked:
                self._unchecked.add(signers)
        self.signers |= signers

    def combined(self, within: int = -1) -> tuple[int, bytes]:
        """Combine what is held of the signers in `within` (all by default) into one valid bundle.

        Of sums that overlap or reach beyond `within` only some can be taken, the largest first, so the bit set that
        is returned may be smaller than ``signers & within``; it is 0 when nothing valid is left.
        """
        while chosen := self._chosen(within):
            union = 0
            for part, _ in chosen:
                union |= part
            signature = chosen[0][1] if len(chosen) == 1 else self._scheme.combine(chosen)
            unchecked = [part for part, _ in chosen if part in self._unchecked]
            if not unchecked:
                return union, signature
            if self._scheme.verify_all(union, self._statement, signature):
                self._parts[union] = signature  # its parts stay: a head still needs those of its own region alone
                self._unchecked.discard(union)
                return union, signature
            for part in unchecked:
                self._unchecked.discard(part)
                if not self._scheme.verify_all(part, self._statement, self._parts[part]):
                    self._drop(part)
            self.signers = 0
            for part in self._parts:
                self.signers |= part
        return 0, b""

    def _stands(self, part: int) -> bool:
        """Say whether a part is valid: a wrong one, taken in unchecked, must not keep the right one out."""
        if part in self._unchecked and self._scheme.verify_all(part, self._statement, self._parts[part]):
            self._unchecked.discard(part)
        return part not in self._unchecked

    def _drop(self, part: int) -> None:
        del self._parts[part]
        self._unchecked.discard(part)

    def _chosen(self, within: int) -> list[tuple[int, bytes]]:
        inside: list[tuple[int, bytes]] = []
        for part, signature in self._parts.items():
            if not part & ~within:
                inside.append((part, signature))
            elif part & within and self._scheme.splittable:
                singles = zip(members_of(part), self._scheme.split(part, signature), strict=True)
                inside.extend((1 << signer, single) for signer, single in singles if within >> signer & 1)
        if self._scheme.splittable:
            return inside
        inside.sort(key=lambda item: (-item[0].bit_count(), item[0]))
        union, chosen = 0, []
        for part, signature in inside:
            if not part & union:
                union |= part
                chosen.append((part, signature))
        return chosen
