import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tables import table

from shards.table import Table
from shards.zone import MAX_COUNTED, Zone


@given(st.lists(st.integers(-100, 100), unique=True, min_size=1, max_size=80))
def test_a_zone_knows_rows_bytes_and_the_range_of_every_key(ids):
    rows = table(ids)
    zone = Zone.of(rows)
    assert (zone.rows, zone.bytes) == (len(rows), rows.nbytes)
    for name in ["id", *rows.keys]:
        values = np.sort(rows.key(name))
        assert (zone.keys[name].low, zone.keys[name].high) == (values[0], values[-1])
    assert Zone.from_json(json.loads(json.dumps(zone.to_json()))) == zone


def test_values_are_counted_exactly_up_to_a_limit():
    def counts(distinct):
        return Zone.of(Table(np.arange(distinct * 2), {"k": np.arange(distinct).repeat(2)})).keys["k"].counts

    assert counts(MAX_COUNTED) == dict.fromkeys(range(MAX_COUNTED), 2)
    assert counts(MAX_COUNTED + 1) is None
