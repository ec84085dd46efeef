"""Tables, and random requests and layouts, for the tests of ``shards``."""

from functools import reduce
from operator import and_

import numpy as np
from hypothesis import strategies as st

from shards.layout import Cut, Layout, Leaf
from shards.request import Request
from shards.table import Ragged, Table

REGIONS = ("north", "south", "öst", "")
DAY0 = np.datetime64("2024-03-01", "us")


def table(ids, seed=0):
    """Return rows that are a function of their id and the seed, with keys and columns of every kind."""
    ids = np.asarray(ids, np.int64)
    mixed = (ids.astype(np.uint64)[:, None] + np.uint64(seed * 1000 + 1)) * np.array([3, 5, 7, 11], np.uint64)
    mixed = mixed * np.uint64(0x9E3779B97F4A7C15)
    draws = ((mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(11)) / 2**53
    lengths = (draws[:, 3] * 4).astype(np.int64)
    keys = {
        "time": DAY0 + (draws[:, 0] * 30 * 86_400e6).astype("timedelta64[us]"),
        "region": np.array(REGIONS)[(draws[:, 1] * len(REGIONS)).astype(int)],
        "label": (draws[:, 2] * 5).astype(np.int64) - 2,
        "score": draws[:, 3] - 0.5,
        "sick": draws[:, 0] > 0.7,
    }
    columns = {
        "features": draws.astype(np.float32).repeat(2, axis=1).reshape(-1, 2, 4),
        "note": np.array([f"π{i}" * int(n) for i, n in zip(ids, lengths, strict=True)], dtype="U"),
        "tokens": Ragged(np.repeat(ids, lengths).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)])),
    }
    return Table(ids, keys, columns)


def same(one, two):
    """Assert that two tables hold the same rows, bit for bit."""
    np.testing.assert_array_equal(one.ids, two.ids)
    assert (list(one.keys), list(one.columns)) == (list(two.keys), list(two.columns))
    for name in one.keys:
        assert one.keys[name].dtype.kind == two.keys[name].dtype.kind
        np.testing.assert_array_equal(one.keys[name], two.keys[name])
    for name, column in one.columns.items():
        other = two.columns[name]
        if isinstance(column, Ragged):
            np.testing.assert_array_equal(column.offsets, other.offsets)
            column, other = column.values, other.values
        assert (column.dtype.kind, column.shape[1:]) == (other.dtype.kind, other.shape[1:])
        np.testing.assert_array_equal(column, other)


def times():
    return st.integers(0, 30 * 24).map(lambda hour: DAY0 + np.timedelta64(hour, "h"))


def requests():
    """Draw conjunctions of up to three conditions."""
    none_or = lambda values: st.none() | values  # noqa: E731
    conditions = st.one_of(
        st.builds(lambda low, high: Request().between("time", low, high), none_or(times()), none_or(times())),
        st.builds(lambda low, high: Request().between("label", low, high), none_or(st.integers(-3, 3)),
                  none_or(st.floats(-3, 3))),
        st.builds(lambda low: Request().between("score", low), st.floats(-1, 1)),
        st.builds(lambda high: Request().between("region", None, high), st.text(max_size=3)),
        st.builds(lambda values: Request().where(region=values), st.lists(st.sampled_from([*REGIONS, "nowhere"]))),
        st.builds(lambda value: Request().where(sick=value), st.booleans()),
        st.builds(lambda values: Request().where(id=values), st.lists(st.integers(-5, 60))),
        st.builds(lambda day: Request.window("5d").resolve(DAY0 + np.timedelta64(day, "D")), st.integers(0, 40)),
    )  # fmt: skip
    return st.lists(conditions, max_size=3).map(lambda several: reduce(and_, several, Request.everything()))


def layouts():
    """Draw cut trees of up to about a dozen boxes."""
    cuts = st.one_of(
        st.tuples(st.just("time"), times()),
        st.tuples(st.just("label"), st.integers(-3, 3) | st.frozensets(st.integers(-3, 3))),
        st.tuples(st.just("region"), st.sampled_from(REGIONS) | st.frozensets(st.sampled_from(REGIONS))),
        st.tuples(st.just("score"), st.floats(-1, 1)),
        st.tuples(st.just("sick"), st.just(frozenset({True}))),
        st.tuples(st.just("id"), st.integers(-5, 60)),
    )
    nodes = st.recursive(
        st.integers(1, 3).map(Leaf),
        lambda inner: st.builds(lambda cut, yes, no: Cut(*cut, yes, no), cuts, inner, inner),
        max_leaves=6,
    )
    return st.builds(Layout, nodes, st.binary(max_size=16))
