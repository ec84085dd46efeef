"""Signatures of one statement, gathered until they are a quorum."""

from consensus.identity import Scheme
from consensus.quorum import members_of


class VoteSet:
    """The signatures of one statement that a replica holds; every one of them was verified.

    Attributes
    ----------
    signers : int
        Bit set of those whose signatures are held.
    """

    __slots__ = ("_parts", "_scheme", "signers")

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self.signers = 0
        # Bit sets with their signatures; disjoint where the scheme can split bundles. Sums (BLS) that overlap cannot
        # be added, so they are kept side by side and `combined` chooses among them.
        self._parts: dict[int, bytes] = {}

    def add(self, signers: int, signature: bytes) -> bool:
        """Take in the signature of a bit set; says whether somebody in it was missing before."""
        if not signers & ~self.signers:
            return False
        if signers & self.signers and self._scheme.splittable:
            singles = zip(members_of(signers), self._scheme.split(signers, signature), strict=True)
            self._parts.update((1 << signer, single) for signer, single in singles if not self.signers >> signer & 1)
        else:
            self._parts[signers] = signature
        self.signers |= signers
        return True

    def combined(self, within: int = -1) -> tuple[int, bytes]:
        """Combine what is held of the signers in `within` (all by default) into one bundle.

        Of sums that overlap or reach beyond `within` only some can be taken, the largest first, so the bit set that
        is returned may be smaller than ``signers & within``.
        """
        inside: list[tuple[int, bytes]] = []
        for part, signature in self._parts.items():
            if not part & ~within:
                inside.append((part, signature))
            elif part & within and self._scheme.splittable:
                singles = zip(members_of(part), self._scheme.split(part, signature), strict=True)
                inside.extend((1 << signer, single) for signer, single in singles if within >> signer & 1)
        if not self._scheme.splittable:
            inside.sort(key=lambda item: (-item[0].bit_count(), item[0]))
        union, chosen = 0, []
        for part, signature in inside:
            if not part & union:
                union |= part
                chosen.append((part, signature))
        return (union, chosen[0][1]) if len(chosen) == 1 else (union, self._scheme.combine(chosen))
