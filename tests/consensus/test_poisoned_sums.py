import pytest

from consensus import bls
from consensus.pbft.votes import VoteSet
from consensus.quorum import bits_of

STATEMENT = b"a statement"


@pytest.fixture(scope="module")
def schemes():
    pytest.importorskip("blspy")
    keys = [bls.keypair(bytes([i]) * 32) for i in range(4)]
    publics = [public for _, public in keys]
    proofs = [bls.prove(private) for private, _ in keys]
    return [bls.Bls(private, publics, proofs) for private, _ in keys]


def bundle(schemes, signers, statement=STATEMENT):
    return schemes[0].combine([(1 << i, schemes[i].sign(statement)) for i in signers])


def test_garbage_that_claims_the_signers_of_a_bundle_does_not_keep_it_out(schemes):
    votes = VoteSet(schemes[0], STATEMENT)
    votes.add(bits_of([0, 1]), bundle(schemes, [0, 1]), checked=False)
    votes.add(bits_of([2, 3]), bundle(schemes, [2, 3], b"another"), checked=False)
    votes.add(bits_of([2, 3]), bundle(schemes, [2, 3]), checked=False)
    signers, signature = votes.combined()
    assert signers == 0b1111
    assert schemes[0].verify_all(signers, STATEMENT, signature)


def test_garbage_that_comes_later_changes_nothing(schemes):
    votes = VoteSet(schemes[0], STATEMENT)
    votes.add(bits_of([2, 3]), bundle(schemes, [2, 3]), checked=False)
    votes.add(bits_of([2, 3]), bundle(schemes, [2, 3], b"another"), checked=False)
    assert votes.combined() == (0b1100, bundle(schemes, [2, 3]))
