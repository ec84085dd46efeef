import pytest
from council import CHAIN, Council, key
from hypothesis import given
from hypothesis import strategies as st

from consensus.identity import Ed25519, Null, keypair, null_client_signature, verify_with
from consensus.messages import PREPARE, Request, request_statement, statement
from consensus.quorum import bits_of

ABOUT = statement(b"c" * 32, PREPARE, 0, 0, 1, b"d" * 32)
KEYS = [keypair(bytes([number]) * 32) for number in range(5)]
PUBLICS = [public for _, public in KEYS]


def ed25519(own, n=4):
    return Ed25519(KEYS[own][0], PUBLICS[:n])


SCHEMES = {"ed25519": ed25519, "null": lambda own, n=4: Null(own, n)}


@pytest.fixture(params=sorted(SCHEMES))
def scheme(request):
    return SCHEMES[request.param]


def signatures(scheme, *signers, about=ABOUT):
    return [(1 << signer, scheme(signer).sign(about)) for signer in signers]


def test_everybody_verifies_anybody(scheme):
    for signer in range(4):
        signature = scheme(signer).sign(ABOUT)
        assert all(scheme(own).verify(signer, ABOUT, signature) for own in range(4))
        assert not any(scheme(0).verify(other, ABOUT, signature) for other in range(4) if other != signer)
        assert not scheme(0).verify(signer, ABOUT + b"!", signature)


def test_a_stranger_has_no_signature(scheme):
    signature = scheme(4, 5).sign(ABOUT)
    assert not scheme(0).verify(4, ABOUT, signature)
    assert not scheme(0).verify(-1, ABOUT, scheme(3).sign(ABOUT)), "a place is not counted from the end"


def test_a_bundle_holds_the_signatures_of_exactly_its_signers(scheme):
    bundle = scheme(0).combine(signatures(scheme, 0, 2, 3))
    assert scheme(1).verify_all(0b1101, ABOUT, bundle)
    assert not any(scheme(1).verify_all(bits, ABOUT, bundle) for bits in range(1, 16) if bits != 0b1101)
    assert not scheme(1).verify_all(0b1101, ABOUT + b"!", bundle)


def test_a_bundle_with_one_false_signature_is_false(scheme):
    for false in range(3):
        parts = signatures(scheme, 0, 1, 2)
        parts[false] = (parts[false][0], scheme(false).sign(b"something else"))
        assert not scheme(3).verify_all(0b111, ABOUT, scheme(0).combine(parts))


def test_bundles_combine_in_any_order_to_the_same_bytes(scheme):
    one, two, three = signatures(scheme, 0, 1, 3)
    pair = (0b1010, scheme(0).combine([three, two]))
    whole = scheme(0).combine([one, two, three])
    assert scheme(0).combine([pair, one]) == whole == scheme(0).combine([three, one, two])


def test_a_list_is_cut_in_the_order_of_signers(scheme):
    parts = signatures(scheme, 3, 0, 2)
    assert scheme(0).split(0b1101, scheme(0).combine(parts)) == [parts[1][1], parts[2][1], parts[0][1]]


def test_signers_beyond_the_members_make_a_bundle_false(scheme):
    bundle = scheme(0).combine(signatures(scheme, 0, 1, 2))
    assert not scheme(0).verify_all(0b10011, ABOUT, bundle)
    assert not scheme(0).verify_all(0b111 | 1 << 70, ABOUT, bundle + b"x" * 64)


@given(st.binary(max_size=260), st.integers(0, 1 << 9), st.integers(-3, 1 << 20), st.sampled_from(sorted(SCHEMES)))
def test_malformed_signatures_are_false_and_never_raise(signature, signers, signer, name):
    scheme = SCHEMES[name](0)
    assert scheme.verify(signer, ABOUT, signature) is False
    assert scheme.verify_all(signers, ABOUT, signature) in ({False} if signers else {True, False})
    assert scheme.verify_client(signature[:32], ABOUT, signature) is False
    assert isinstance(scheme.split(signers, signature), list)


def test_clients_sign_with_keys_of_their_own():
    private, public = keypair(b"k" * 32)
    assert ed25519(0).verify_client(public, ABOUT, private.sign(ABOUT))
    assert not ed25519(0).verify_client(PUBLICS[0], ABOUT, private.sign(ABOUT))
    assert verify_with(public, ABOUT, private.sign(ABOUT))
    assert Null(0, 4).verify_client(public, ABOUT, null_client_signature(public, ABOUT))
    assert not Null(0, 4).verify_client(PUBLICS[0], ABOUT, null_client_signature(public, ABOUT))


@pytest.mark.parametrize("public", [b"", b"k", b"k" * 31, b"k" * 33, bytes(32), b"\xff" * 32])
def test_what_is_no_key_verifies_nothing(public):
    assert verify_with(public, ABOUT, b"s" * 64) is False


def test_keys_come_from_their_seed_alone():
    assert keypair(b"k" * 32)[1] == keypair(b"k" * 32)[1] != keypair(b"l" * 32)[1]


@pytest.mark.parametrize(("protocol", "regions"), [("flat", 1), ("regional", 2), ("star", 1)])
def test_real_signatures_and_checksums_decide_the_same(protocol, regions):
    """Message for message: the same council, once with Ed25519 and once with checksums."""
    private, client = keypair(b"client".ljust(32))
    runs = []
    for real in (False, True):
        schemes = (lambda members, own: ed25519(own, len(members))) if real else (lambda members, own: Null(own, 4))
        trace = []
        council = Council(4, protocol, regions, schemes=schemes, period=2, window=4)
        council.saw = lambda replica, effect, trace=trace: trace.append((replica, type(effect).__name__))
        for number, operation in enumerate([b"a", b"b", b"c"], 1):
            about = request_statement(CHAIN, number, operation)
            sign = private.sign if real else lambda data: null_client_signature(client, data)
            council.receive(0, -1, Request(client, number, operation, sign(about)))
            council.deliver()
        books = [replica.application.lines for replica in council.replicas]
        assert books == [[b"a", b"b", b"c"]] * 4
        runs.append((trace, [sorted(decided) for decided in council.decided], [r.low for r in council.replicas]))
    assert runs[0] == runs[1]


def test_a_council_counts_signatures_of_its_members_only():
    council = Council()
    assert council[0].epoch.scheme.verify_all(
        bits_of(range(4)), b"x", b"".join(council.sign(i, b"x") for i in range(4))
    )
    assert not council[0].epoch.scheme.verify(4, b"x", council.sign(4, b"x"))
    assert council[0].epoch.members == tuple(key(place) for place in range(4))
