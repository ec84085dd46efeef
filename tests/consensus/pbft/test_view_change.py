"""The pure part of a view change: what view changes prove, and what a new view must vote on again."""

import pytest
from council import Council
from hypothesis import given
from hypothesis import strategies as st

from consensus.messages import CHECKPOINT, COMMIT, NULL, PREPARE, Bundle, ViewChange, Vote
from consensus.pbft.view_change import newest_stable, prescribed, well_founded

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32
COUNCIL = Council(4)
EPOCH = COUNCIL[0].epoch
FAST = Council(6, "regional-fast")
WINDOW = 8


def prepared(seq, view=0, digest=A, signers=(0, 1, 2), phase=PREPARE, epoch=0):
    return COUNCIL.bundle(signers, phase, view, seq, digest, epoch)


def stable(seq, signers=(0, 1, 2), phase=CHECKPOINT):
    return COUNCIL.bundle(signers, phase, 0, seq, C)


def change(signer=0, view=3, stable=None, prepared=(), voted=(), epoch=0):
    return ViewChange(epoch, view, stable, tuple(prepared), tuple(voted), signer)


def founded(given_change, base=0):
    return well_founded(given_change, EPOCH, base, WINDOW)


# -- what one view change proves -----------------------------------------------------------------------------


def test_a_replica_that_knows_of_nothing_proves_nothing_and_is_believed():
    assert founded(change())


def test_numbers_in_order_within_the_window_are_believed():
    assert founded(change(prepared=[prepared(1), prepared(2, 2), prepared(8)]))
    assert founded(change(stable=stable(4), prepared=[prepared(5), prepared(12)]))


@pytest.mark.parametrize(
    "false",
    [
        pytest.param(change(prepared=[prepared(9)]), id="beyond the window"),
        pytest.param(change(stable=stable(4), prepared=[prepared(13)]), id="beyond the window above a checkpoint"),
        pytest.param(change(stable=stable(4), prepared=[prepared(4)]), id="at the checkpoint"),
        pytest.param(change(prepared=[prepared(0)]), id="below the first number"),
        pytest.param(change(prepared=[prepared(2), prepared(1)]), id="out of order"),
        pytest.param(change(prepared=[prepared(1), prepared(1, 1)]), id="one number twice"),
        pytest.param(change(prepared=[prepared(1, 3)]), id="prepared in the view that is only wanted"),
        pytest.param(change(prepared=[prepared(1, 4)]), id="prepared in a later view"),
        pytest.param(change(prepared=[prepared(1, signers=(0, 1))]), id="too few signers"),
        pytest.param(change(prepared=[prepared(1, phase=COMMIT)]), id="of another phase"),
        pytest.param(change(prepared=[prepared(1, epoch=1)]), id="of another epoch"),
        pytest.param(change(stable=stable(4, signers=(0, 1))), id="a checkpoint with too few signers"),
        pytest.param(change(stable=stable(4, phase=COMMIT)), id="a checkpoint of another phase"),
        pytest.param(change(prepared=[Bundle(PREPARE, 0, -1, 1, A, b"\x07", bytes(12))]), id="a view below 0"),
        pytest.param(change(prepared=[Bundle(PREPARE, 0, 0, 1, b"", b"\x07", bytes(12))]), id="no digest"),
        pytest.param(change(prepared=[Bundle(PREPARE, 0, 0, 1, A, b"\x07", bytes(12))]), id="no signatures"),
        pytest.param(change(prepared=[prepared(1), Bundle(PREPARE, 0, 0, 2, A, b"\x07", b"")]), id="one of two"),
    ],
)
def test_a_view_change_with_a_false_claim_is_not_believed(false):
    assert not founded(false)


def test_an_epoch_begins_without_a_checkpoint_of_its_own():
    assert founded(change(prepared=[prepared(21)]), base=20)
    assert founded(change(stable=stable(20, signers=()), prepared=[prepared(28)]), base=20)
    assert not founded(change(prepared=[prepared(29)]), base=20)
    assert not founded(change(prepared=[prepared(20)]), base=20)
    assert not founded(change(stable=stable(16), prepared=[prepared(21)]), base=20), "before the epoch began"


def vote(seq, view=0, digest=A, signer=0, phase=PREPARE, epoch=0):
    return COUNCIL.vote(signer, phase, view, seq, digest, epoch)


@pytest.mark.parametrize(
    ("voted", "believed"),
    [
        ([vote(1), vote(2, 2), vote(8)], True),
        ([vote(1, signer=1)], False),
        ([vote(9)], False),
        ([vote(0)], False),
        ([vote(2), vote(1)], False),
        ([vote(1), vote(1, 1)], False),
        ([vote(1, 3)], False),
        ([vote(1, phase=COMMIT)], False),
        ([vote(1, epoch=1)], False),
        ([Vote(PREPARE, 0, 0, 1, A, 0, b"....")], False),
        ([Vote(PREPARE, 0, -1, 1, A, 0, b"....")], False),
    ],
)
def test_the_votes_of_the_fast_protocol_are_the_signers_own_in_order(voted, believed):
    assert founded(change(voted=voted)) is believed


# -- what all of them together prescribe ---------------------------------------------------------------------


def test_the_newest_proven_checkpoint_counts():
    changes = [change(0, stable=stable(4)), change(1), change(2, stable=stable(8)), change(3, stable=stable(4))]
    assert newest_stable(changes, 0) == (8, stable(8))
    assert newest_stable(changes[:2], 0) == (4, stable(4))
    assert newest_stable([change(1)], 0) == (0, None)
    assert newest_stable([change(1, stable=stable(4))], 4) == (4, None), "the epoch's base needs no proof"


def test_nothing_prepared_prescribes_nothing():
    assert prescribed([change(0), change(1), change(2)], EPOCH, 0) == {}


def test_one_certificate_is_enough():
    assert prescribed([change(0), change(1, prepared=[prepared(1)]), change(2)], EPOCH, 0) == {1: A}


def test_the_certificate_of_the_highest_view_wins_wherever_it_stands():
    old, new = change(0, prepared=[prepared(1, 0, A)]), change(1, prepared=[prepared(1, 2, B)])
    assert prescribed([old, new], EPOCH, 0) == prescribed([new, old], EPOCH, 0) == {1: B}


def test_numbers_that_nobody_prepared_are_filled_with_null():
    changes = [change(0, prepared=[prepared(2)]), change(1, prepared=[prepared(5, 1, B)])]
    assert prescribed(changes, EPOCH, 0) == {1: NULL, 2: A, 3: NULL, 4: NULL, 5: B}


def test_a_prepared_null_batch_stays_null():
    changes = [change(0, prepared=[prepared(1, 0, A)]), change(1, prepared=[prepared(1, 1, NULL)])]
    assert prescribed(changes, EPOCH, 0) == {1: NULL}


def test_every_live_number_counts_not_only_the_last():
    changes = [change(0, prepared=[prepared(1), prepared(2, 0, B)]), change(1, prepared=[prepared(2, 0, B)])]
    assert prescribed(changes, EPOCH, 0) == {1: A, 2: B}


def test_what_a_checkpoint_covers_is_not_voted_on_again():
    changes = [change(0, prepared=[prepared(3), prepared(4, 0, B), prepared(5, 0, C)])]
    assert prescribed(changes, EPOCH, 4) == {5: C}
    assert prescribed(changes, EPOCH, 5) == {}


def fast_vote(signer, digest, view=0, seq=1):
    return FAST.vote(signer, PREPARE, view, seq, digest)


def fast_changes(*digests):
    return [change(i, voted=[fast_vote(i, digest)] if digest else []) for i, digest in enumerate(digests)]


def test_the_fast_protocol_finds_what_may_have_been_decided_by_votes_alone():
    """n = 6, f = 1: decided by 5, of which any 5 view changes hold 3 honest ones."""
    epoch = FAST[0].epoch
    assert prescribed(fast_changes(A, A, A, B, B), epoch, 0) == {1: A}
    assert prescribed(fast_changes(B, A, B, A, B), epoch, 0) == {1: B}
    assert prescribed(fast_changes(A, A, B, B, b""), epoch, 0) == {}


def test_in_the_fast_protocol_a_certificate_stands_above_votes():
    certificate = FAST.bundle(range(5), PREPARE, 0, 1, B)
    changes = [*fast_changes(A, A, A, b""), change(4, prepared=[certificate])]
    assert prescribed(changes, FAST[0].epoch, 0) == {1: B}


def test_votes_below_the_checkpoint_are_no_votes():
    assert prescribed(fast_changes(A, A, A, A, A), FAST[0].epoch, 1) == {}


def test_votes_do_not_count_where_a_commit_round_decides():
    assert prescribed([change(i, voted=[vote(1, signer=i)]) for i in range(4)], EPOCH, 0) == {}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(0, 2)), max_size=12), st.integers(0, 6))
def test_prescribed_agrees_with_the_definition(claims, low):
    """Slow and by the book: for every number up to the highest, the certificate of the highest view, else null."""
    digest_of = {(seq, view): bytes([seq, view]) * 16 for seq in range(7) for view in range(3)}
    of = {signer: sorted({seq: view for s, seq, view in claims if s == signer}.items()) for signer in range(4)}
    changes = [
        change(signer, prepared=[prepared(seq, view, digest_of[seq, view]) for seq, view in kept])
        for signer, kept in of.items()
    ]
    held = [(seq, view) for kept in of.values() for seq, view in kept if seq > low]
    expected = {}
    for seq in range(low + 1, max((seq for seq, _ in held), default=low) + 1):
        views = [view for at, view in held if at == seq]
        expected[seq] = digest_of[seq, max(views)] if views else NULL
    assert prescribed(changes, EPOCH, low) == expected
