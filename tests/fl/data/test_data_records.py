import numpy as np
import pytest

from fl.data import Records, validate
from shards.errors import InputError


def make(n=4, **changed):
    columns = {
        "features": np.arange(2 * n, dtype=np.float32).reshape(n, 2),
        "labels": np.arange(n) % 2,
        "ids": np.arange(n)[::-1] * 10,
        "keys": {"time": np.linspace(0.0, 1.0, n)},
    }
    return Records(**(columns | changed))


def error_of(records, num_classes=None, who="client 3 of 20"):
    with pytest.raises(InputError) as caught:
        validate(records, who, num_classes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_select_takes_masks_and_row_numbers_and_keeps_columns_together():
    records = make()
    by_mask = records.select(np.array([True, False, False, True]))
    by_number = records.select(np.array([3, 0]))
    assert len(records) == 4
    assert by_mask.ids.tolist() == [30, 0]
    assert by_number.ids.tolist() == [0, 30]
    assert by_number.features.tolist() == [[6, 7], [0, 1]]
    assert by_number.labels.tolist() == [1, 0]
    assert by_number.keys["time"].tolist() == [1.0, 0.0]


def test_select_may_keep_nothing_and_refuses_rows_that_are_not_there():
    records = make()
    assert len(records.select(np.zeros(4, dtype=bool))) == 0
    with pytest.raises(IndexError):
        records.select(np.array([4]))
    with pytest.raises(IndexError):
        records.select(np.array([True]))


def test_sorting_by_id_moves_whole_rows_and_is_free_when_sorted():
    records = make().sorted_by_id()
    assert records.ids.tolist() == [0, 10, 20, 30]
    assert records.features[:, 0].tolist() == [6, 4, 2, 0]
    assert records.labels.tolist() == [1, 0, 1, 0]
    assert records.sorted_by_id() is records


def test_validate_returns_canonical_rows():
    given = make(features=np.arange(8.0).reshape(4, 2), labels=np.array([0, 1, 0, 1], dtype=np.uint8))
    checked = validate(given, "client 0 of 1", num_classes=2)
    assert (checked.features.dtype, checked.labels.dtype, checked.ids.dtype) == (
        np.float32,
        np.int64,
        np.int64,
    )
    assert checked.ids.tolist() == [0, 10, 20, 30]
    assert checked.labels.tolist() == [1, 0, 1, 0]
    assert checked.features[0].tolist() == [6.0, 7.0]


def test_validated_rows_are_read_only_but_the_callers_are_not():
    given = make(ids=np.arange(4))
    checked = validate(given, "client 0 of 1")
    assert np.shares_memory(checked.features, given.features)
    for column in (checked.features, checked.labels, checked.ids, checked.keys["time"]):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0
    given.features[0] = 0


def test_not_records():
    assert error_of((1, 2)) == (
        "client 3 of 20: expected fl.data.Records, got tuple; return Records(features, labels, ids, keys)"
    )


def test_no_rows():
    assert error_of(make().select(np.zeros(4, dtype=bool))) == (
        "client 3 of 20 has no rows: use fewer clients, or a partition that leaves every client some"
    )


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"labels": np.zeros(3, int)},
            "labels has 3 rows but ids has 4; give every column one row per record",
        ),
        (
            {"features": np.zeros((5, 2))},
            "features has 5 rows but ids has 4; give every column one row per record",
        ),
        (
            {"keys": {"user": np.zeros(2)}},
            "key 'user' has 2 rows but ids has 4; give every column one row per record",
        ),
        ({"keys": {"user": np.zeros((4, 1))}}, "key 'user' has shape (4, 1); give one value per record"),
        (
            {"features": np.zeros(4)},
            "features has shape (4,); make it (records, values), for example with reshape(len(ids), -1)",
        ),
        ({"features": [[1, 2], [3]]}, "features is not an array; give every row the same shape"),
        ({"keys": [1, 2]}, "keys is list; give a mapping of column name to values"),
        ({"labels": np.zeros(4)}, "labels are float64, not integers; convert them with .astype('int64')"),
        ({"ids": np.array(list("abcd"))}, "ids are <U1, not integers; convert them with .astype('int64')"),
        (
            {"ids": np.array([1, 2, 3, 2**63], dtype=np.uint64)},
            "ids hold 9223372036854775808, too big for int64; renumber them",
        ),
        (
            {"features": np.array([["a"], ["b"], ["c"], ["d"]])},
            "features are <U1, not real numbers; encode them as float32",
        ),
    ],
)
def test_columns_that_do_not_fit(changed, line):
    assert error_of(make(**changed)) == f"client 3 of 20: {line}"


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_feature_not_finite_names_first_record_by_id_and_column(value, word):
    features = np.zeros((4, 2), dtype=np.float32)
    features[0, 0] = value  # record 30
    features[2, 1] = value  # record 10
    assert error_of(make(features=features)) == (
        f"client 3 of 20: record 10 has {word} in feature column 1; drop the record or fill in the value"
    )


def test_feature_not_finite_in_an_image_names_every_index():
    features = np.zeros((4, 1, 3, 3))
    features[3, 0, 2, 1] = np.nan
    assert "record 0 has nan in feature column 0, 2, 1;" in error_of(make(features=features))


def test_feature_too_big_for_float32_is_reported():
    features = np.zeros((4, 2))
    features[3, 1] = 1e300
    assert "record 0 has inf in feature column 1;" in error_of(make(features=features))


def test_key_not_finite():
    keys = {"time": np.array([0.0, np.nan, 1.0, 2.0])}
    assert error_of(make(keys=keys)) == (
        "client 3 of 20: record 20 has nan in key column 'time'; drop the record or fill in the value"
    )


def test_repeated_id():
    assert error_of(make(ids=np.array([7, 1, 7, 2]))) == (
        "client 3 of 20: record id 7 occurs more than once; give every record its own"
    )


def test_unknown_labels():
    labels = np.array([0, 5, 1, 0])
    assert error_of(make(labels=labels), num_classes=3) == (
        "client 3 of 20: record 20 has unknown label 5; labels are class indices, 0 to 2"
    )
    assert error_of(make(labels=-labels)) == (
        "client 3 of 20: record 10 has unknown label -1; labels are class indices, 0, 1, 2, ..."
    )
    assert len(validate(make(labels=labels), "client 0 of 1")) == 4


def test_regression_takes_any_finite_number_and_nothing_else():
    labels = np.array([-1.5, 1e7, 0, 3])
    checked = validate(make(labels=labels), "client 0 of 1", task="regression")
    assert checked.labels.dtype == np.float32
    assert checked.labels.tolist() == [3, 0, 1e7, -1.5]
    whole = validate(make(labels=np.array([9, 8, 7, 6])), "client 0 of 1", num_classes=2, task="regression")
    assert whole.labels.tolist() == [6, 7, 8, 9]
    for value, word in ((np.nan, "nan"), (1e300, "inf")):
        with pytest.raises(InputError) as caught:
            validate(make(labels=np.array([0, value, 0, 0])), "client 0 of 1", task="regression")
        assert str(caught.value) == (
            f"client 0 of 1: record 20 has {word} in labels; drop the record or fill in the value"
        )
    with pytest.raises(InputError, match="labels are <U1, not real numbers; give real numbers"):
        validate(make(labels=np.array(list("abcd"))), "client 0 of 1", task="regression")


def test_keys_take_the_one_dtype_of_their_kind():
    keys = {
        "small": np.arange(4, dtype=np.uint8),
        "single": np.arange(4, dtype=np.float32),
        "day": np.array(["2020-01-01"] * 4, dtype="datetime64[D]"),
        "flag": np.array([True, False, True, False]),
        "text": np.array(["a", "bc", "d", "e"], dtype=object),
    }
    checked = validate(make(keys=keys), "client 0 of 1").keys
    kinds = {name: str(column.dtype) for name, column in checked.items()}
    assert kinds == {"small": "int64", "single": "float64", "day": "datetime64[us]", "flag": "bool", "text": "<U2"}


@pytest.mark.parametrize(
    ("column", "line"),
    [
        (
            np.array(["2020-01-01", "NaT", "2020-01-01", "2020-01-01"], "datetime64[s]"),
            "record 20 has NaT in key column",
        ),
        (np.array([1, None, 2, 3], dtype=object), "key 'k' is object; a key is whole numbers, real numbers, true or"),
        (np.array([1j] * 4), "key 'k' is complex128; a key is whole numbers"),
    ],
)
def test_keys_of_another_kind_or_without_a_value(column, line):
    assert line in error_of(make(keys={"k": column}))


def test_records_go_to_the_shard_store_and_back_on_the_same_memory():
    records = validate(make(ids=np.arange(4)), "client 0 of 1")
    table = records.table()
    assert set(table.columns) == {"features", "labels"}
    again = Records.of(table.take(slice(1, 3)))
    assert again.ids.tolist() == [1, 2]
    assert np.array_equal(again.features, records.features[1:3])
    assert np.shares_memory(Records.of(table).features, records.features)
    assert again.keys["time"].tolist() == records.keys["time"][1:3].tolist()
