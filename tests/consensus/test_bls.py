import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.identity import Scheme, keypair
from consensus.quorum import bits_of
from shards.errors import InputError

blspy = pytest.importorskip("blspy", reason="the extra 'bls' is not installed")

from consensus import bls  # noqa: E402

STATEMENT = b"epoch 0, view 1, seq 2"
KEYS = [bls.keypair(bytes([i]) * 32) for i in range(1, 6)]
PUBLICS = [public for _, public in KEYS]
PROOFS = [bls.prove(private) for private, _ in KEYS]
SCHEMES: list[Scheme] = [bls.Bls(private, PUBLICS, PROOFS) for private, _ in KEYS]
SINGLE = [scheme.sign(STATEMENT) for scheme in SCHEMES]

NO_SIGNATURES = [
    b"",
    b"x",
    bytes(96),
    b"\xff" * 96,
    bytes(48),
    bytes([0xC0]) + bytes(95),  # infinity
    bytes([0x80]) + bytes(94) + b"\x02",  # on the curve, outside the group
    SINGLE[0][:-1],
    SINGLE[0] + b"\0",
]


def test_signatures_are_those_of_the_standard():
    # A vector of ethereum/bls12-381-tests, which all Ethereum clients share: `sign`, 32 zero bytes, this key.
    private = blspy.PrivateKey.from_bytes(
        bytes.fromhex("263dbd792f5b1be47ed85f8938c0f29586af0d3ac7b977f21c278fe1462040e3")
    )
    public = bytes(private.get_g1())
    assert public.hex() == (
        "a491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20fd6e10c1b77654d067c0618f6e5a7f79a"
    )
    assert bls.Bls(private, [public], [bls.prove(private)]).sign(bytes(32)).hex() == (
        "b6ed936746e01f8ecf281f020953fbf1f01debd5657c4a383940b020b26507f6076334f91e2366c96e9ab279fb515809"
        "0352ea1c5b0c9274504f4f0e7053af24802e51e4568d164fe986834f41e55c8e850ce1f98458c0cfc9ab380b55285a55"
    )


def test_a_signature_verifies_for_its_signer_and_statement_only():
    for verifier in SCHEMES[:2]:
        for signer in range(5):
            assert verifier.verify(signer, STATEMENT, SINGLE[2]) == (signer == 2)
        assert not verifier.verify(2, b"another", SINGLE[2])
        assert not verifier.verify(5, STATEMENT, SINGLE[2])
        assert not verifier.verify(-1, STATEMENT, SINGLE[2])


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 4), min_size=1), st.data())
def test_bundles_of_bundles_verify_for_exactly_their_signers(members, data):
    cut = data.draw(st.integers(0, len(members)))
    left, right = sorted(members)[:cut], sorted(members)[cut:]
    scheme = SCHEMES[0]
    parts = [(bits_of(some), scheme.combine([(1 << i, SINGLE[i]) for i in some])) for some in (left, right) if some]
    bundle = scheme.combine(parts)
    claimed = data.draw(st.integers(0, 40))
    assert len(bundle) == 96
    assert scheme.verify_all(bits_of(members), STATEMENT, bundle)
    assert scheme.verify_all(claimed, STATEMENT, bundle) == (claimed == bits_of(members))
    assert not scheme.verify_all(bits_of(members), b"another", bundle)


def test_signers_beyond_the_members_are_refused():
    assert not SCHEMES[0].verify_all(1 << 5 | 1, STATEMENT, SINGLE[0])
    assert not SCHEMES[0].verify_all(-1, STATEMENT, SINGLE[0])
    assert not SCHEMES[0].verify_all(0, STATEMENT, SCHEMES[0].combine([]))


@pytest.mark.parametrize("bad", NO_SIGNATURES)
def test_bytes_that_are_no_signature_are_never_an_exception(bad):
    scheme = SCHEMES[0]
    assert not scheme.verify(0, STATEMENT, bad)
    assert not scheme.verify_all(3, STATEMENT, bad)
    assert not bls.verify_possession(PUBLICS[0], bad)
    assert not bls.verify_possession(bad, PROOFS[0])
    assert not scheme.verify_all(3, STATEMENT, scheme.combine([(1, SINGLE[0]), (2, bad)]))


def test_strays_that_cancel_prove_no_more_than_what_both_signed():
    stray = blspy.G2Element.from_bytes_unchecked(NO_SIGNATURES[6])
    first, second = (blspy.G2Element.from_bytes(signature) for signature in SINGLE[:2])
    parts = [(1, bytes(first + stray)), (2, bytes(second + stray.negate()))]
    scheme = SCHEMES[0]
    assert not any(scheme.verify_all(bits, STATEMENT, part) for bits, part in parts)
    assert scheme.verify_all(3, STATEMENT, scheme.combine(parts))
    assert scheme.combine(parts) == scheme.combine([(1, SINGLE[0]), (2, SINGLE[1])])


def test_clients_sign_with_ed25519():
    private, public = keypair(b"c" * 32)
    assert SCHEMES[0].verify_client(public, STATEMENT, private.sign(STATEMENT))
    assert not SCHEMES[0].verify_client(public, b"another", private.sign(STATEMENT))
    assert not SCHEMES[0].verify_client(PUBLICS[0], STATEMENT, SINGLE[0])


def test_sums_cannot_be_split():
    assert not SCHEMES[0].splittable
    with pytest.raises(TypeError, match="cannot be split"):
        SCHEMES[0].split(1, SINGLE[0])


def rogue_key():
    """A key that cancels those of members 0 to 3: its holder, who knows `secret` alone, signs for all five."""
    secret, public = bls.keypair(b"r" * 32)
    rogue = blspy.G1Element.from_bytes(public)
    for honest in PUBLICS[:4]:
        rogue = rogue + blspy.G1Element.from_bytes(honest).negate()
    return secret, bytes(rogue)


def test_a_rogue_key_would_sign_for_everybody_without_proofs():
    secret, rogue = rogue_key()
    forged = blspy.PopSchemeMPL.sign(secret, STATEMENT)
    publics = [blspy.G1Element.from_bytes(public) for public in [*PUBLICS[:4], rogue]]
    assert blspy.PopSchemeMPL.fast_aggregate_verify(publics, STATEMENT, forged)


def test_a_rogue_key_is_refused_whatever_its_holder_offers_as_a_proof():
    secret, rogue = rogue_key()
    cancelled = blspy.G2Element.from_bytes(bls.prove(secret))  # what adds up, if proofs were made of one message
    for proof in PROOFS[:4]:
        cancelled = cancelled + blspy.G2Element.from_bytes(proof).negate()
    of_the_key = bytes(blspy.PopSchemeMPL.sign(secret, rogue))  # under the domain of votes
    for proof in [bls.prove(secret), *PROOFS, bytes(cancelled), of_the_key, *NO_SIGNATURES]:
        with pytest.raises(InputError, match="member 4: no valid proof"):
            bls.Bls(secret, [*PUBLICS[:4], rogue], [*PROOFS[:4], proof])


def test_a_vote_for_ones_own_key_is_no_proof():
    private, public = KEYS[0]
    assert bls.verify_possession(public, bls.prove(private))
    assert not bls.verify_possession(public, SCHEMES[0].sign(public))
    assert not SCHEMES[0].verify(0, public, bls.prove(private))


def test_the_key_at_infinity_is_refused():
    infinity = bytes(blspy.G1Element())
    with pytest.raises(InputError, match="member 0: no valid proof"):
        bls.Bls(KEYS[0][0], [infinity], [bytes(blspy.G2Element())])


def test_a_copied_key_is_refused():
    with pytest.raises(InputError, match="member 3: has the BLS key of member 1"):
        bls.Bls(KEYS[0][0], [*PUBLICS[:3], PUBLICS[1]], [*PROOFS[:3], PROOFS[1]])


def test_every_key_needs_a_proof():
    with pytest.raises(InputError, match="5 BLS keys with 4 proofs"):
        bls.Bls(KEYS[0][0], PUBLICS, PROOFS[:4])


def test_without_blspy_one_line_says_what_to_install():
    code = """
import sys
sys.modules["blspy"] = None
from shards.errors import InputError
try:
    import consensus.bls
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "BLS signatures need blspy: pip install 'fedshard[bls]', or choose ed25519\n"
