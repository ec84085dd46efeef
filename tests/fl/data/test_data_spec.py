import pytest

from fl.data import DATA_KEYS, DATA_PREFIX, DataSpec
from fl.data.values import MISSING
from shards.errors import InputError

EVERYTHING = {
    "columns.target": "disease",
    "columns.features": "age, sex ,chol",
    "columns.time": "visit",
    "columns.region": "ward",
    "columns.class": "kind",
    "columns.user": "patient",
    "columns.id": "number",
    "columns.client": "hospital",
    "columns.missing": "indicate",
    "columns.bounds.age": "0..120",
    "columns.bounds.chol": "-1e2..6.5e2",
    "columns.categories.sex": "f| m",
    "columns.fill.chol": 220,
    "columns.fill.sex": "f",
}


def error_of(**changes):
    config = {key.replace("__", "."): value for key, value in changes.items()}
    with pytest.raises(InputError) as caught:
        DataSpec.read(config, "app")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_key_is_read():
    spec = DataSpec.read(EVERYTHING | {"model": "m:build", "data": "csv:x", "num-server-rounds": 3})
    assert spec == DataSpec(
        target="disease",
        features=("age", "sex", "chol"),
        time="visit",
        region="ward",
        class_="kind",
        user="patient",
        id="number",
        client="hospital",
        missing="indicate",
        bounds=(("age", (0.0, 120.0)), ("chol", (-100.0, 650.0))),
        categories=(("sex", ("f", "m")),),
        fill=(("chol", 220), ("sex", "f")),
    )
    assert spec.keys == {"time": "visit", "region": "ward", "class": "kind", "user": "patient"}
    assert spec.roles["columns.client"] == "hospital"


def test_equal_configurations_in_any_order_are_equal_and_hash_alike():
    backwards = DataSpec.read(dict(reversed(EVERYTHING.items())))
    assert backwards == DataSpec.read(EVERYTHING)
    assert hash(backwards) == hash(DataSpec.read(EVERYTHING))


def test_other_keys_are_left_to_others_and_nothing_configured_is_false():
    assert DataSpec.read({"data": "sklearn:digits", "task": "regression"}) == DataSpec()
    assert not DataSpec()
    assert DataSpec(target="y")
    assert all(key.startswith(DATA_PREFIX) for key in DATA_KEYS)


def test_a_column_name_may_hold_dots_and_blanks():
    spec = DataSpec.read({"columns.bounds.PM2.5": "0..1000", "columns.fill.wind speed": 1.5})
    assert spec.bounds == (("PM2.5", (0.0, 1000.0)),)
    assert spec.fill == (("wind speed", 1.5),)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"columns__taget": "y"}, "app: unknown key 'columns.taget'; did you mean 'columns.target'?"),
        ({"columns__bound__age": "0..1"}, "app: unknown key 'columns.bound.age'; did you mean"),
        ({"columns__bounds": "0..1"}, "app: columns.bounds = '0..1': name the column, as in columns.bounds.<column>"),
        ({"columns__target": 3}, "app: columns.target = 3: expected a column name"),
        ({"columns__missing": True}, "app: columns.missing = True: expected a word"),
        ({"columns__missing": "dorp"}, "app: columns.missing = 'dorp': did you mean 'drop'?"),
        ({"columns__features": "a, b, a"}, "app: columns.features = 'a, b, a': expected different column names"),
        ({"columns__features": 1}, "app: columns.features = 1: expected different column names"),
        ({"columns__bounds__age": "0-200"}, "app: columns.bounds.age = '0-200': expected 'low..high'"),
        ({"columns__bounds__age": "9..3"}, "app: columns.bounds.age = '9..3': expected 'low..high'"),
        ({"columns__bounds__age": "0..inf"}, "app: columns.bounds.age = '0..inf': expected 'low..high'"),
        ({"columns__bounds__age": "nan..1"}, "app: columns.bounds.age = 'nan..1': expected 'low..high'"),
        ({"columns__categories__sex": "f||m"}, "app: columns.categories.sex = 'f||m': expected different values"),
        ({"columns__categories__sex": "f|f"}, "app: columns.categories.sex = 'f|f': expected different values"),
        ({"columns__fill__age": True}, "app: columns.fill.age = True: expected a finite number or a category"),
        ({"columns__fill__age": float("nan")}, "app: columns.fill.age = nan: expected a finite number"),
        ({"columns__fill__age": "old"}, "app: columns.fill.age = 'old': expected a number"),
        (
            {"columns__fill__age": 300, "columns__bounds__age": "0..200"},
            "app: columns.fill.age = 300: outside columns.bounds.age",
        ),
        (
            {"columns__fill__sex": "x", "columns__categories__sex": "f|m"},
            "app: columns.fill.sex = 'x': not among its categories; choose one of: f, m",
        ),
        (
            {"columns__bounds__sex": "0..1", "columns__categories__sex": "f|m"},
            "app: column 'sex' has both bounds and categories; remove one",
        ),
        (
            {"columns__target": "y", "columns__features": "x, y"},
            "app: columns.features names the target 'y'; a model would copy it; remove it",
        ),
        (
            {"columns__target": "y", "columns__bounds__y": "0..1"},
            "app: columns.bounds.y: the target is never changed; remove it",
        ),
        (
            {"columns__features": "age, sex", "columns__bounds__agee": "0..1"},
            "app: columns.bounds.agee: not a feature; did you mean 'age'?",
        ),
    ],
)
def test_configuration_that_cannot_be_used(changes, line):
    assert error_of(**changes).startswith(line)


def test_scaling_by_statistics_of_the_data_is_refused_and_says_what_to_do():
    assert error_of(columns__scale="standard") == (
        "app: columns.scale = 'standard': features are scaled by public bounds alone, columns.bounds.<column>; "
        "statistics of the records would have to be charged to their privacy budget, which is not built yet"
    )


def test_missing_words_are_lower_case():
    assert {word.lower() for word in MISSING} == MISSING
