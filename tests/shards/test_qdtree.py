import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.cells import Cells
from shards.cost import CodedRows, scan_bytes
from shards.layout import Cut, Layout, Leaf
from shards.qdtree import boxes, grow, load, size, step, to_layout
from shards.request import Request
from shards.table import Table


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    keys = {"day": np.sort(rng.integers(0, 40, n)), "region": np.array(["n", "s", "w"])[rng.integers(0, 3, n)]}
    return Table(np.arange(n), keys)


def coded(rows, seed=0):
    return CodedRows.of(rows, np.random.default_rng(seed).integers(1, 50, len(rows)))


days = st.tuples(st.integers(-5, 45), st.integers(1, 20))
requests = st.lists(
    st.builds(
        lambda span, regions: (
            (Request().between("day", span[0], sum(span)) if span else Request())
            & (Request().where(region=sorted(regions)) if regions else Request())
        ),
        st.none() | days,
        st.sets(st.sampled_from("nswx"), max_size=2),
    ),
    min_size=1,
    max_size=6,
)


def layouts():
    tree = st.recursive(
        st.builds(Leaf, st.integers(1, 2)),
        lambda below: (
            st.builds(Cut, st.just("day"), st.integers(0, 40), below, below)
            | st.builds(
                Cut, st.just("region"), st.frozensets(st.sampled_from("nsw"), min_size=1, max_size=2), below, below
            )
        ),
        max_leaves=6,
    )
    return st.builds(Layout, tree, st.just(b"salt"))


def scanned(rows, layout, asked):
    """What the layout's zones say that the requests read."""
    return sum(scan_bytes(request, rows.zones(layout.assign(rows.table))) for request in asked)


def by_hand(rows, layout, asked):
    """What the rows of each box say: a box is read when each condition is met by one of its rows."""
    total = 0
    labels = layout.assign(rows.table)
    for box, request in itertools.product(np.unique(labels), asked):
        part = rows.table.take(labels == box)
        if all(condition.mask(part.key(condition.key)).any() for condition in request.conditions):
            total += int(rows.sizes[labels == box].sum())
    return total


@settings(max_examples=60)
@given(st.integers(1, 80), requests, layouts(), st.integers(1, 10))
def test_a_loaded_layout_comes_back_and_is_scored_as_its_zones_say(n, asked, layout, min_rows):
    rows = coded(table(n))
    cells = Cells.of(rows, asked, layout, min_rows)
    tree = load(cells, layout, frozenset())
    assert to_layout(cells, tree, b"salt") == layout
    whole = [box for box in boxes(tree) if box.parts == 1]
    if len(whole) == layout.boxes:  # a box that a hash splits is scored as one
        assert sum(box.scanned for box in whole) == by_hand(rows, layout, asked) == scanned(rows, layout, asked)
    assert sum(box.bytes for box in boxes(tree)) == rows.sizes.sum()
    assert sorted(np.concatenate([box.inside for box in boxes(tree)])) == list(range(len(cells)))


@settings(max_examples=60)
@given(st.integers(0, 80), requests, st.integers(1, 9), st.integers(1, 10))
def test_a_grown_tree_keeps_its_bounds_and_is_scored_exactly(n, asked, max_boxes, min_rows):
    rows = coded(table(n))
    cells = Cells.of(rows, asked, Layout.single(), min_rows)
    tree = grow(cells, max_boxes)
    layout = to_layout(cells, tree, b"")
    assert layout.boxes == size(tree) <= max_boxes
    assert sum(box.scanned for box in boxes(tree)) == scanned(rows, layout, asked) <= scanned(rows, Layout(), asked)
    labels = layout.assign(rows.table)
    if layout.boxes > 1:
        assert np.bincount(labels, minlength=layout.boxes).min() >= min_rows
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@settings(max_examples=60)
@given(st.integers(1, 60), requests)
def test_the_first_cut_is_the_best_of_all_cuts_at_the_bounds(n, asked):
    rows = coded(table(n))
    cells = Cells.of(rows, asked, Layout.single(), 1)
    ways = [Layout()] + [Layout(Cut(key, at, Leaf(), Leaf())) for key, at in cells.questions]
    ways = [way for way in ways if way.boxes == 1 or len(np.unique(way.assign(rows.table))) == 2]
    best = min(scanned(rows, way, asked) for way in ways)
    assert scanned(rows, to_layout(cells, grow(cells, 2), b""), asked) == best


@settings(max_examples=60)
@given(st.integers(1, 80), requests, layouts(), st.floats(0, 3))
def test_every_step_pays_within_the_boxes_allowed(n, asked, layout, alpha):
    rows = coded(table(n))
    cells = Cells.of(rows, asked, layout, 1)
    tree, limit = load(cells, layout, frozenset()), layout.boxes + 1

    def cost(tree):
        return sum(box.scanned + alpha * box.bytes * box.fresh for box in boxes(tree))

    for _ in range(20):
        after = step(cells, tree, limit, alpha)
        if after is None:
            break
        assert cost(after) <= cost(tree) + 1e-6
        assert size(after) <= limit
        assert sorted(np.concatenate([box.inside for box in boxes(after)])) == list(range(len(cells)))
        tree = after


def test_a_window_is_cut_out_at_its_own_bounds():
    rows = coded(Table(np.arange(100), {"day": np.arange(100)}))
    asked = [Request.everything().between("day", 40, 60)]
    cells = Cells.of(rows, asked, Layout(), 1)
    layout = to_layout(cells, grow(cells, 16), b"")
    assert layout == Layout(Cut("day", 60, Cut("day", 40, Leaf(), Leaf()), Leaf()))


def test_an_old_cut_makes_room_for_a_new_one_and_only_its_neighbours_are_written():
    rows = CodedRows.of(Table(np.arange(100), {"day": np.arange(100)}), np.ones(100, np.int64))
    old = Layout(Cut("day", 5, Leaf(), Cut("day", 10, Leaf(), Cut("day", 50, Leaf(), Leaf()))))
    cells = Cells.of(rows, [Request.everything().between("day", 90, 100)] * 12, old, 1)
    after = step(cells, load(cells, old, frozenset()), 4, alpha=1)
    layout = to_layout(cells, after, b"")
    assert layout.boxes == 4
    labels = layout.assign(rows.table)
    assert [np.flatnonzero(labels == box)[[0, -1]].tolist() for box in range(4)] == [
        [0, 9],
        [10, 49],
        [50, 89],
        [90, 99],
    ]
    assert [box.fresh for box in boxes(after)] == [True, False, True, True]


def test_nothing_is_cut_for_requests_that_read_everything():
    rows = coded(table(50))
    cells = Cells.of(rows, [Request.everything()] * 3, Layout(), 1)
    assert size(grow(cells, 16)) == 1
    assert step(cells, load(cells, Layout(), frozenset()), 16, 0.1) is None


def test_a_long_list_of_values_suggests_no_cut():
    rows = coded(Table(np.arange(200), {"user": np.arange(200)}))
    few, many = (Request.everything().where(user=range(n)) for n in (64, 65))
    assert len(Cells.of(rows, [few], Layout(), 1).questions) == 1
    assert Cells.of(rows, [many], Layout(), 1).questions == ()


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_rows_are_no_special_case(n):
    rows = coded(table(n))
    cells = Cells.of(rows, [Request.everything().between("day", 1, 2)], Layout(), 1)
    assert size(grow(cells, 4)) == 1
