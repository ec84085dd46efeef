"""What the ledger charges, returns and adds up."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.privacy import ORDERS, Mechanism, RecordLedger, ReleaseConflictError, epsilon, rdp
from fl.privacy.cohort import decode, encode
from fl.privacy.spending import Spending
from shards.errors import InputError

EVENT = Mechanism(0.05, 1.0, 20)
OTHER = Mechanism(0.1, 2.0, 5)
DELTA = 1e-5


def ids(*values):
    return np.array(values, dtype=np.int64)


@pytest.fixture
def ledger(tmp_path):
    return RecordLedger(tmp_path / "ledger.db")


def test_an_empty_ledger_has_spent_nothing(ledger):
    assert ledger.rdp("a", ids(1, 2)).shape == (2, len(ORDERS))
    assert ledger.epsilons("a", ids(1, 2), DELTA).tolist() == [0.0, 0.0]
    assert ledger.epsilons("a", ids(), DELTA).shape == (0,)
    assert ledger.max_epsilon(DELTA) == 0.0
    assert ledger.released("a", "r1", b"q") is None


def test_charges_add_up_per_record(ledger):
    ledger.charge("a", "r1", b"q", b"one", EVENT, ids(3, 1, 2))
    ledger.charge("a", "r2", b"q", b"two", OTHER, ids(2, 9))
    ledger.charge("a", "r3", b"q", b"three", EVENT, ids(2, 3))
    ledger.charge("b", "r1", b"q", b"four", OTHER, ids(1))
    expected = [rdp(EVENT), 2 * rdp(EVENT) + rdp(OTHER), 2 * rdp(EVENT), rdp(OTHER), 0 * rdp(EVENT)]
    np.testing.assert_allclose(ledger.rdp("a", ids(1, 2, 3, 9, 7)), expected, rtol=1e-15)
    assert ledger.epsilons("a", ids(9, 2), DELTA) == pytest.approx(
        [epsilon(rdp(OTHER), DELTA), epsilon(expected[1], DELTA)], abs=1e-12
    )
    assert ledger.epsilons("b", ids(1), DELTA) == pytest.approx([epsilon(rdp(OTHER), DELTA)], abs=1e-12)
    assert ledger.max_epsilon(DELTA) == pytest.approx(epsilon(expected[1], DELTA), abs=1e-12)


def test_repeating_a_charge_is_free(ledger):
    for _ in range(3):
        assert ledger.charge("a", "r1", b"q", b"bytes", EVENT, ids(1)) == b"bytes"
    np.testing.assert_array_equal(ledger.rdp("a", ids(1))[0], rdp(EVENT))


def test_other_bytes_for_a_released_event_are_refused(ledger):
    ledger.charge("a", "r1", b"q", b"bytes", EVENT, ids(1))
    with pytest.raises(ReleaseConflictError, match="client a, event r1: other bytes were released"):
        ledger.charge("a", "r1", b"q", b"other", EVENT, ids(1))
    assert ledger.released("a", "r1", b"q") == b"bytes"
    np.testing.assert_array_equal(ledger.rdp("a", ids(1))[0], rdp(EVENT))


def test_another_request_is_another_charge(ledger):
    ledger.charge("a", "r1", b"q1", b"bytes", EVENT, ids(1))
    ledger.charge("a", "r1", b"q2", b"other", EVENT, ids(1))
    assert ledger.released("a", "r1", b"q1") == b"bytes"
    assert ledger.released("a", "r1", b"q2") == b"other"
    np.testing.assert_array_equal(ledger.rdp("a", ids(1))[0], 2 * rdp(EVENT))


def test_only_the_newest_event_keeps_its_bytes(ledger):
    ledger.charge("a", "r1", b"q", b"one", EVENT, ids(1))
    ledger.charge("b", "r1", b"q", b"else", EVENT, ids(1))
    ledger.charge("a", "r2", b"q", b"two", EVENT, ids(1))
    assert ledger.released("a", "r1", b"q") is None
    assert ledger.released("a", "r2", b"q") == b"two"
    assert ledger.released("b", "r1", b"q") == b"else"
    # The digest remains: equal bytes stay free, others stay refused.
    assert ledger.charge("a", "r1", b"q", b"one", EVENT, ids(1)) == b"one"
    with pytest.raises(ReleaseConflictError):
        ledger.charge("a", "r1", b"q", b"changed", EVENT, ids(1))
    np.testing.assert_array_equal(ledger.rdp("a", ids(1))[0], 2 * rdp(EVENT))


def test_no_eligible_record_is_a_charge_too(ledger):
    assert ledger.charge("a", "r1", b"q", b"noise", EVENT, ids()) == b"noise"
    assert ledger.released("a", "r1", b"q") == b"noise"
    assert ledger.max_epsilon(DELTA) == 0.0


def test_a_repeated_record_id_is_refused(ledger):
    with pytest.raises(InputError, match="client a: record id 4 occurs more than once"):
        ledger.charge("a", "r1", b"q", b"bytes", EVENT, ids(4, 1, 4))
    assert ledger.released("a", "r1", b"q") is None


def test_affordable_looks_one_event_ahead(ledger):
    for number in range(3):
        ledger.charge("a", f"r{number}", b"q", b"x", EVENT, ids(1, 2)[: 2 - number // 2])
    after = [epsilon(count * rdp(EVENT), DELTA) for count in (4, 3, 1)]  # records 1, 2 and a new one
    budget = (after[0] + after[1]) / 2
    assert ledger.affordable("a", ids(1, 2, 3), EVENT, budget, DELTA).tolist() == [False, True, True]
    assert ledger.affordable("a", ids(1, 2, 3), EVENT, after[2] / 2, DELTA).tolist() == [False] * 3


def test_instances_see_each_others_charges_and_survive_reopening(ledger, tmp_path):
    second = RecordLedger(tmp_path / "ledger.db")
    for number in range(4):
        (ledger, second)[number % 2].charge("a", f"r{number}", b"q", b"x", EVENT, ids(number, 10))
        for reader in (ledger, second, pickle.loads(pickle.dumps(ledger))):
            np.testing.assert_array_equal(reader.rdp("a", ids(10))[0], (number + 1) * rdp(EVENT))
    ledger.close()
    assert ledger.released("a", "r3", b"q") == b"x"


def test_equal_record_sets_are_stored_once(ledger, tmp_path):
    everyone = np.arange(0, 10_000_000, 1000)
    for number in range(300):
        ledger.charge("a", f"r{number}", b"q", b"x", EVENT, everyone)
    ledger.close()
    assert (tmp_path / "ledger.db").stat().st_size < 200_000


@given(st.sets(st.integers(-(2**63), 2**63 - 1), max_size=40))
def test_packed_sets_come_back(values):
    records = np.array(sorted(values), dtype=np.int64)
    assert np.array_equal(decode(encode(records)), records)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sets(st.one_of(st.integers(0, 30), st.sampled_from([-(2**63), 2**63 - 1])), min_size=1),
            st.sampled_from([EVENT, OTHER]),
            st.integers(1, 3),
        ),
        max_size=8,
    )
)
def test_spending_equals_a_plain_sum(charges):
    spending, everyone = Spending(), ids(*range(31), -(2**63), 2**63 - 1)
    expected = {int(record): np.zeros(len(ORDERS)) for record in everyone}
    for members, mechanism, events in charges:
        spending.add(ids(*sorted(members)), mechanism, events)
        for record in members:
            expected[record] = expected[record] + events * rdp(mechanism)
    np.testing.assert_allclose(spending.costs(everyone), list(expected.values()), rtol=1e-12)
    worst = max(epsilon(cost, DELTA) for cost in expected.values())
    assert spending.max_epsilon(DELTA) == pytest.approx(worst, abs=1e-9)


def test_order_of_events_does_not_change_a_bit():
    forward, backward = Spending(), Spending()
    charges = [(EVENT, 3), (OTHER, 2), (Mechanism(0.2, 1.5, 7), 1)]
    for mechanism, events in charges:
        forward.add(ids(1), mechanism, events)
    for mechanism, events in reversed(charges):
        backward.add(ids(1), mechanism, events)
    assert np.array_equal(forward.costs(ids(1)), backward.costs(ids(1)))


def test_the_path_may_have_any_name(tmp_path):
    ledger = RecordLedger(Path(tmp_path) / "a b;'ü?.db")
    ledger.charge("o'neil", "r;1", b"q", b"x", EVENT, ids(1))
    assert ledger.released("o'neil", "r;1", b"q") == b"x"
