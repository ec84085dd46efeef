import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.identity import Null
from consensus.pbft.votes import VoteSet
from consensus.quorum import bits_of, members_of

ABOUT = b"what the votes are about"


class Added:
    """A scheme like BLS, by arithmetic: a signature is 1000^signer in digits, a bundle their sum, never split."""

    splittable = False

    def combine(self, parts):
        return str(sum(int(signature) for _, signature in parts)).encode()

    def verify_all(self, signers, statement, signature):
        return signature == added(signers)


def added(signers):
    return str(sum(1000**signer for signer in members_of(signers))).encode()


def listed(*signers):
    scheme = Null(0, 8)
    return scheme.combine([(1 << signer, Null(signer, 8).sign(ABOUT)) for signer in signers])


def test_single_votes_add_up_to_a_certificate_in_the_order_of_signers():
    votes = VoteSet(Null(0, 8), ABOUT)
    for signer in (3, 0, 2):
        votes.add(1 << signer, listed(signer))
    assert votes.signers == 0b1101
    assert votes.combined() == (0b1101, listed(0, 2, 3))


def test_the_same_vote_twice_counts_once():
    votes = VoteSet(Null(0, 8), ABOUT)
    votes.add(0b1, listed(0))
    votes.add(0b1, listed(0))
    assert votes.signers == 0b1
    assert votes.combined() == (0b1, listed(0))


def test_overlapping_lists_are_taken_apart():
    votes = VoteSet(Null(0, 8), ABOUT)
    votes.add(0b0111, listed(0, 1, 2))
    votes.add(0b1110, listed(1, 2, 3))
    votes.add(0b0010, listed(1))
    assert votes.combined() == (0b1111, listed(0, 1, 2, 3))


def test_a_part_of_a_list_can_be_taken():
    votes = VoteSet(Null(0, 8), ABOUT)
    votes.add(0b0111, listed(0, 1, 2))
    votes.add(0b1000, listed(3))
    assert votes.combined(0b1010) == (0b1010, listed(1, 3))
    assert votes.combined(0b10000) == (0, b"")


@given(st.lists(st.sets(st.integers(0, 7), min_size=1), min_size=1, max_size=8), st.integers(1, 255))
def test_lists_combine_to_all_signers_that_were_added(groups, within):
    votes, union = VoteSet(Null(0, 8), ABOUT), 0
    for group in groups:
        votes.add(bits_of(group), listed(*sorted(group)))
        union |= bits_of(group)
    assert votes.signers == union
    wanted = sorted(members_of(union & within))
    assert votes.combined(within) == (union & within, listed(*wanted))


def test_disjoint_sums_are_added():
    votes = VoteSet(Added(), ABOUT)
    votes.add(0b0011, added(0b0011))
    votes.add(0b1100, added(0b1100))
    assert votes.combined() == (0b1111, added(0b1111))


def test_of_overlapping_sums_the_largest_is_taken_and_what_fits_beside_it():
    votes = VoteSet(Added(), ABOUT)
    votes.add(0b00011, added(0b00011))
    votes.add(0b01110, added(0b01110))
    votes.add(0b10000, added(0b10000))
    assert votes.signers == 0b11111
    assert votes.combined() == (0b11110, added(0b11110))


def test_sums_that_reach_beyond_are_left_out():
    votes = VoteSet(Added(), ABOUT)
    votes.add(0b0111, added(0b0111))
    votes.add(0b1000, added(0b1000))
    assert votes.combined(0b1011) == (0b1000, added(0b1000))


def test_a_false_sum_is_found_out_and_the_rest_stands():
    votes = VoteSet(Added(), ABOUT)
    votes.add(0b0001, added(0b0001))
    votes.add(0b0110, b"666", checked=False)
    votes.add(0b1000, added(0b1000), checked=False)
    assert votes.combined() == (0b1001, added(0b1001))
    assert votes.signers == 0b1001, "the false one's signers count no more"


def test_only_false_sums_give_nothing():
    votes = VoteSet(Added(), ABOUT)
    votes.add(0b0110, b"666", checked=False)
    assert votes.combined() == (0, b"")
    assert votes.signers == 0


def test_a_checked_sum_is_not_verified_again():
    class Once(Added):
        def verify_all(self, signers, statement, signature):
            raise AssertionError("checked before")

    votes = VoteSet(Once(), ABOUT)
    votes.add(0b01, added(0b01))
    votes.add(0b10, added(0b10))
    assert votes.combined() == (0b11, added(0b11))


def test_a_good_sum_is_verified_once():
    class Counting(Added):
        count = 0

        def verify_all(self, signers, statement, signature):
            self.count += 1
            return super().verify_all(signers, statement, signature)

    scheme = Counting()
    votes = VoteSet(scheme, ABOUT)
    votes.add(0b01, added(0b01), checked=False)
    votes.add(0b10, added(0b10), checked=False)
    assert votes.combined() == votes.combined() == (0b11, added(0b11))
    assert scheme.count == 1


def test_real_sums_behave_like_the_arithmetic_here():
    bls = pytest.importorskip("consensus.bls", exc_type=Exception)
    pairs = [bls.keypair(bytes([number]) * 32) for number in range(1, 5)]
    schemes = [bls.Bls(key, [p for _, p in pairs], [bls.prove(k) for k, _ in pairs]) for key, _ in pairs]
    single = [scheme.sign(ABOUT) for scheme in schemes]
    votes = VoteSet(schemes[0], ABOUT)
    votes.add(0b0011, schemes[0].combine([(1, single[0]), (2, single[1])]), checked=False)
    votes.add(0b0110, schemes[0].combine([(2, single[1]), (4, single[2])]), checked=False)
    votes.add(0b1000, single[0], checked=False)  # not replica 3's
    signers, signature = votes.combined()
    assert signers == 0b0011
    assert schemes[3].verify_all(signers, ABOUT, signature)
    votes.add(0b1000, single[3])
    signers, signature = votes.combined()
    assert signers == 0b1011
    assert schemes[3].verify_all(signers, ABOUT, signature)
