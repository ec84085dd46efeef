import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import same, table

from shards.errors import InputError
from shards.table import Ragged, Table, concat, validate


def refused(ids=(1, 2), keys=None, columns=None):
    with pytest.raises(InputError) as error:
        validate(Table(np.array(ids), keys or {}, columns or {}), "client 3")
    assert "\n" not in str(error.value)
    return str(error.value)


@given(st.lists(st.lists(st.integers(-50, 50), unique=True, max_size=8), min_size=1, max_size=5), st.randoms())
def test_rows_cut_apart_in_any_way_and_joined_again_are_the_same_rows(parts, random):
    ids = list({i for part in parts for i in part})
    whole = table(sorted(ids))
    random.shuffle(ids)
    cuts = sorted(random.randint(0, len(ids)) for _ in range(3))
    pieces = [table(ids[a:b]) for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    same(concat(pieces), whole)
    assert sum(piece.nbytes for piece in pieces) == whole.nbytes


def test_bytes_of_a_row_are_those_of_its_values_alone():
    rows = Table(
        np.array([1, 2]),
        {"time": np.array(["2024-03-01", "2024-03-02"], "datetime64[us]"), "region": np.array(["öst", ""])},
        {"x": np.zeros((2, 3), np.float32), "t": Ragged(np.zeros((3, 2), np.int16), np.array([0, 3, 3]))},
    )
    assert rows.row_bytes().tolist() == [8 + 8 + (8 + 4) + 12 + (8 + 12), 8 + 8 + 8 + 12 + 8]


def test_ragged_cells_are_taken_whole():
    cells = Ragged(np.arange(6), np.array([0, 2, 2, 6]))
    taken = cells.take(np.array([2, 1, 0]))
    assert [taken[row].tolist() for row in range(3)] == [[2, 3, 4, 5], [], [0, 1]]


def test_validation_widens_types_and_sorts_by_id():
    rows = Table(
        np.array([5, 3], np.uint8),
        {"age": np.array([1, 2], np.int16), "t": np.array(["2024-03-01", "2024-03-02"], "datetime64[D]")},
        {"x": np.array([1.5, 2.5])},
    )
    checked = validate(rows, "client 3")
    assert checked.ids.tolist() == [3, 5]
    assert checked.columns["x"].tolist() == [2.5, 1.5]
    assert checked.kinds == {"id": "int64", "age": "int64", "t": "datetime64[us]"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ids": (7, 7)}, "client 3: record id 7 occurs more than once; give every record its own"),
        ({"ids": (1.0, 2.0)}, "client 3: ids are float64 of shape (2,); give one integer per record"),
        ({"keys": {"age": np.array([np.nan, np.nan])}}, "key 'age' has no value in any row; drop the key, or fill"),
        ({"keys": {"age": np.array([1, np.nan])}}, "key 'age' is nan in record 2; fill it in or drop the record"),
        ({"keys": {"t": np.array(["NaT", "2024-03-01"], "datetime64[s]")}}, "key 't' is NaT in record 1"),
        ({"keys": {"r": np.array(["a", None], object)}}, "key 'r' holds Python objects"),
        ({"keys": {"id": np.array([1, 2])}}, "key 'id' would hide the record id; rename it"),
        ({"keys": {"z": np.array([1j, 2j])}}, "key 'z' is complex128"),
        ({"keys": {"z": np.zeros((2, 2))}}, "key 'z' has shape (2, 2)"),
        ({"keys": {"z": np.zeros(3)}}, "key 'z' has 3 rows but ids has 2"),
        ({"keys": {"u": np.array([0, 2**64 - 1], np.uint64)}}, "too big for int64"),
        ({"columns": {"x": np.zeros(3)}}, "x has 3 rows but ids has 2"),
        ({"columns": {"x": np.array([[1], [2]], object)}}, "column 'x' is object"),
        ({"columns": {"x": Ragged(np.arange(3), np.array([0, 4, 3]))}}, "offsets must rise from 0 to 3"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(arguments, said):
    assert said in refused(**arguments)
