"""BLS multi-signatures over BLS12-381: the signatures of one statement add up to a single one of 96 bytes [1]_.

Public keys are in G1 (48 bytes), signatures in G2 (96 bytes). Whoever may choose a public key after seeing others'
could choose one that cancels theirs, and sign for all of them (a rogue key). So every key comes with a proof of
possession [2]_: a signature of the key itself, under a domain of its own. Keys without one are refused.

Needs blspy, which ``pip install 'fedshard[bls]'`` brings.

References
----------
.. [1] D. Boneh et al., "BLS Signatures", draft-irtf-cfrg-bls-signature-05, section 3.3 (proof of possession).
.. [2] T. Ristenpart and S. Yilek, "The power of proofs-of-possession", EUROCRYPT 2007.
"""

from collections.abc import Sequence

from consensus.identity import verify_with
from consensus.quorum import members_of
from shards.errors import InputError

try:
    from blspy import G1Element, G2Element, PopSchemeMPL, PrivateKey
except ImportError as error:
    raise InputError("BLS signatures need blspy: pip install 'fedshard[bls]', or choose ed25519") from error


def keypair(seed: bytes) -> tuple[PrivateKey, bytes]:
    """Make a key from 32 bytes of entropy; returns it with its 48 public bytes."""
    private = PopSchemeMPL.key_gen(seed)
    return private, bytes(private.get_g1())


def prove(private: PrivateKey) -> bytes:
    """Prove possession of a private key: 96 bytes that go with its public key."""
    return bytes(PopSchemeMPL.pop_prove(private))


def verify_possession(public: bytes, proof: bytes) -> bool:
    """Say whether whoever made a proof holds the private key of `public`; False for anything malformed."""
    try:
        return bool(PopSchemeMPL.pop_verify(G1Element.from_bytes(public), G2Element.from_bytes(proof)))
    except ValueError:
        return False


class Bls:
    """BLS signatures; a bundle is their sum, 96 bytes however many signed. Clients sign with Ed25519.

    Parameters
    ----------
    private : PrivateKey
        This replica's own key.
    publics : sequence of bytes
        All members' public keys, 48 bytes each, in the order of the member list.
    proofs : sequence of bytes
        Their proofs of possession, 96 bytes each; proof and key of a vacated place are empty.

    Raises
    ------
    InputError
        Naming the member, when a key lacks a valid proof or is another member's too (a copied key comes with a
        copied proof, and would let one signature count twice).
    """

    splittable = False

    def __init__(self, private: PrivateKey, publics: Sequence[bytes], proofs: Sequence[bytes]) -> None:
        if len(publics) != len(proofs):
            raise InputError(f"{len(publics)} BLS keys with {len(proofs)} proofs of possession: every key needs one")
        for member, (public, proof) in enumerate(zip(publics, proofs, strict=True)):
            if not public:  # a vacated place
                continue
            if (first := publics.index(public)) != member:
                raise InputError(f"member {member}: has the BLS key of member {first}; every member needs its own")
            if not verify_possession(public, proof):
                raise InputError(f"member {member}: no valid proof that it possesses its BLS key")
        self._private = private
        self._publics = [G1Element.from_bytes(public) if public else None for public in publics]

    def sign(self, statement: bytes) -> bytes:
        """Sign with this replica's own key."""
        return bytes(PopSchemeMPL.sign(self._private, statement))

    def verify(self, signer: int, statement: bytes, signature: bytes) -> bool:
        """Check one replica's signature."""
        return signer >= 0 and self.verify_all(1 << signer, statement, signature)

    def verify_client(self, public: bytes, statement: bytes, signature: bytes) -> bool:
        """Check a client's Ed25519 signature."""
        return verify_with(public, statement, signature)

    def combine(self, parts: Sequence[tuple[int, bytes]]) -> bytes:
        """Add the parts' signatures; bytes that are no point of the curve make the whole empty, which nobody accepts.

        Whether a part lies in the group of signatures is not asked, which saves 50 µs of 85: `verify_all` asks it of
        the sum, so a stray part spoils a sum as a wrong signature does.
        """
        try:
            points = [G2Element.from_bytes_unchecked(signature) for _, signature in parts]
            return bytes(PopSchemeMPL.aggregate(points))
        except ValueError:
            return b""

    def split(self, signers: int, signature: bytes) -> list[bytes]:
        """Refuse: a sum cannot be taken apart.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("a sum of BLS signatures cannot be split")

    def verify_all(self, signers: int, statement: bytes, signature: bytes) -> bool:
        """Check that a sum holds the signature of every member of a bit set; False for the empty set."""
        if not 0 < signers < 1 << len(self._publics):
            return False
        try:
            total = G2Element.from_bytes(signature)
        except ValueError:
            return False
        publics = [self._publics[signer] for signer in members_of(signers)]
        if None in publics:
            return False
        return bool(PopSchemeMPL.fast_aggregate_verify(publics, statement, total))
