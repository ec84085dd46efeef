import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shards.cost import CodedRows, imbalance, rewritten, scan_bytes
from shards.request import Request
from shards.table import Table
from shards.zone import Zone

START = np.datetime64("2024-01-01T00:00:00", "us")


def table(n, seed=0, payload=3):
    rng = np.random.default_rng(seed)
    keys = {
        "time": START + rng.integers(0, 200, n).astype("timedelta64[h]"),
        "region": np.array(["north", "sud", "øst"])[rng.integers(0, 3, n)],
        "score": rng.normal(size=n).round(1),
        "smoker": rng.random(n) < 0.5,
        "label": rng.integers(-2, 3, n),
    }
    return Table(np.arange(n) * 7 - 20, keys, {"x": rng.normal(size=(n, payload)).astype(np.float32)})


labels = hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 5))


@given(labels, st.integers(0, 3))
def test_the_zones_of_coded_rows_are_the_zones_of_the_parts(part, seed):
    rows = table(len(part), seed)
    zones = CodedRows.of(rows, rows.row_bytes()).zones(part)
    assert zones == [Zone.of(rows.take(part == label)) for label in np.unique(part)]


def test_values_are_counted_up_to_64_of_them_and_ids_never():
    rows = Table(np.arange(130), {"a": np.arange(130) // 2, "b": np.arange(130)})
    part = np.repeat([3, 9], [128, 2])
    first, second = CodedRows.of(rows, rows.row_bytes()).zones(part)
    assert first.keys["a"].counts == dict.fromkeys(range(64), 2)
    assert (first.keys["b"].counts, first.keys["b"].low, first.keys["b"].high) == (None, 0, 127)
    assert (second.keys["id"].counts, second.keys["id"].low) == (None, 128)


def test_no_rows_have_no_zones_and_cost_nothing():
    rows = CodedRows.of(Table(np.empty(0, np.int64), {"a": np.empty(0)}), np.empty(0, np.int64))
    nothing = np.empty(0, np.int64)
    assert rows.zones(nothing) == []
    assert rewritten(nothing, nothing).tolist() == []
    assert imbalance([]) == 1


def test_a_scan_costs_the_bytes_of_the_parts_that_may_match():
    rows = Table(np.arange(4), {"label": np.array([0, 1, 5, 9])})
    zones = CodedRows.of(rows, np.array([1, 10, 100, 1000])).zones(np.array([0, 0, 1, 1]))
    cost = {name: scan_bytes(Request.everything().where(label=name).bind(rows.kinds), zones) for name in (0, 5, 7)}
    assert cost == {0: 11, 5: 1100, 7: 0}
    assert scan_bytes(Request.everything(), zones) == 1111
    assert imbalance(zones) == pytest.approx(1100 / 555.5)


def rewritten_by_hand(before, after):
    parts = {frozenset(np.flatnonzero(before == label)) for label in before}
    written = {frozenset(np.flatnonzero(after == label)) for label in after} - parts
    return [any(row in part for part in written) for row in range(len(before))]


@given(labels, st.data())
def test_the_rows_to_write_are_those_of_the_parts_that_did_not_exist_before(before, data):
    after = data.draw(hnp.arrays(np.int64, len(before), elements=st.integers(-3, 4)))
    if data.draw(st.booleans()):  # mostly the same cut, numbered anew
        after = np.where(before > 2, before + 10, after)
    assert rewritten(before, after).tolist() == rewritten_by_hand(before, after)


def test_the_same_cut_under_other_numbers_needs_no_writing():
    before = np.array([0, 0, 1, 2, 2])
    assert not rewritten(before, np.array([7, 7, 3, 1, 1])).any()
    assert rewritten(before, np.array([7, 7, 3, 1, 3])).tolist() == [False, False, True, True, True]
