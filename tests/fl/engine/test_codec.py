import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fl.engine import codec

scalars = st.one_of(st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary())
lists = st.one_of(
    st.lists(st.integers(-(2**40), 2**40)), st.lists(st.floats()), st.lists(st.text()), st.lists(st.binary())
)
configs = st.dictionaries(st.text(), st.one_of(scalars, lists))
metrics = st.dictionaries(st.text(), st.one_of(st.integers(-(2**40), 2**40), st.floats(), st.lists(st.floats())))


def same(left: object, right: object) -> bool:
    """Equality by type and bits: NaN equals itself, 1 differs from 1.0 and from True."""
    return repr(left) == repr(right)


@given(config=configs, metric=metrics)
def test_round_trip_keeps_names_types_and_bits(config, metric):
    content = RecordDict({"c": ConfigRecord(config), "m": MetricRecord(metric)})
    back = codec.decode(codec.encode(content))
    assert list(back) == ["c", "m"]
    assert same(dict(back["c"]), dict(content["c"]))
    assert same(dict(back["m"]), dict(content["m"]))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool", "complex64"])
def test_arrays_come_back_to_the_bit(dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    content = RecordDict({"a": ArrayRecord({"w": Array(array), "empty": Array(np.zeros((0, 2)))})})
    back = codec.decode(codec.encode(content))["a"]
    assert [(k, a.dtype, a.shape, a.stype, a.data) for k, a in back.items()] == [
        (k, a.dtype, a.shape, a.stype, a.data) for k, a in content["a"].items()
    ]


def test_empty_dictionary_has_an_empty_encoding():
    assert codec.encode(RecordDict()) == b""
    assert codec.decode(b"") == RecordDict()
    assert codec.decode(codec.encode(RecordDict({"a": ArrayRecord()}))) == RecordDict({"a": ArrayRecord()})


def test_truncated_bytes_are_refused():
    data = codec.encode(RecordDict({"a": ArrayRecord([np.ones(9)])}))
    with pytest.raises(ValueError, match="expected"):
        codec.decode(data[:-1])


def test_errors_round_trip():
    error = codec.decode_error(codec.encode_error(Error(code=2, reason="ε was NaN")))
    assert (error.code, error.reason) == (2, "ε was NaN")
