import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from tables import DAY0, layouts, table

from shards.errors import InputError
from shards.layout import Cut, Layout, Leaf
from shards.table import Table

ROWS = table(range(60))


def test_boxes_are_numbered_from_left_to_right():
    north = Cut("region", frozenset({"north"}), Leaf(), Leaf())
    layout = Layout(Cut("time", DAY0 + np.timedelta64(10, "D"), north, Leaf()))
    early = ROWS.keys["time"] < DAY0 + np.timedelta64(10, "D")
    expected = np.where(early, np.where(ROWS.keys["region"] == "north", 0, 1), 2)
    assert layout.boxes == 3
    assert set(expected) == {0, 1, 2}
    np.testing.assert_array_equal(layout.assign(ROWS), expected)


@given(layouts())
def test_every_record_has_one_box_that_depends_on_itself_alone(layout):
    boxes = layout.assign(ROWS)
    assert boxes.min() >= 0
    assert boxes.max() < layout.boxes
    shuffled = np.random.default_rng(0).permutation(60)[:31]
    np.testing.assert_array_equal(layout.assign(ROWS.take(shuffled)), boxes[shuffled])


@given(layouts())
def test_json_brings_back_the_same_layout(layout):
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
    assert layout.bind(ROWS.kinds).bind(ROWS.kinds) == layout.bind(ROWS.kinds)


def test_parts_are_chosen_by_a_keyed_hash_of_the_id():
    ids = np.arange(-3, 4000)
    boxes = Layout.hashed(4, b"salt").assign(Table(ids))
    digest = hashlib.blake2b((17).to_bytes(8, "little"), key=b"salt", digest_size=8).digest()
    assert boxes[20] == int.from_bytes(digest, "little") % 4
    assert np.bincount(boxes).min() > 0.9 * len(ids) / 4
    assert (boxes != Layout.hashed(4, b"other").assign(Table(ids))).any()


def test_no_rows_have_no_boxes():
    assert Layout.hashed(3).assign(table([])).tolist() == []


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (Layout(Cut("tmie", 3, Leaf(), Leaf())), "no key 'tmie': did you mean 'time'?"),
        (Layout(Cut("label", "a", Leaf(), Leaf())), "key 'label' holds int64, and 'a' is str"),
        (Layout(Cut("sick", True, Leaf(), Leaf())), "key 'sick' holds bool, which has no order"),
    ],
)
def test_a_cut_that_does_not_fit_the_keys_is_refused(layout, expected):
    with pytest.raises(InputError, match="key") as error:
        layout.assign(ROWS)
    assert expected in str(error.value)


def test_a_leaf_has_at_least_one_part():
    with pytest.raises(InputError, match="give at least 1"):
        Leaf(0)
