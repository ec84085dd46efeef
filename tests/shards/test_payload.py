import numpy as np
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from tables import same, table

from shards.payload import Payload, encode
from shards.schema import Schema


@given(st.lists(st.integers(-50, 50), unique=True, min_size=1, max_size=12))
def test_the_safetensors_library_reads_what_is_written(ids):
    rows = table(sorted(ids))
    tensors = safetensors.numpy.load(b"".join(encode(rows)))
    np.testing.assert_array_equal(tensors["ids/"], rows.ids)
    np.testing.assert_array_equal(tensors["key/time"], rows.keys["time"].astype(np.int64))
    np.testing.assert_array_equal(tensors["column/features"], rows.columns["features"])
    np.testing.assert_array_equal(tensors["column.values/tokens"], rows.columns["tokens"].values)


def test_what_the_safetensors_library_writes_is_read():
    rows = table(range(20))
    tensors = safetensors.numpy.load(b"".join(encode(rows)))
    data = memoryview(safetensors.numpy.save(tensors, {"written": "elsewhere"}))
    same(Payload(data, Schema.of(rows)).table(), rows)


def test_every_value_is_aligned_and_texts_that_repeat_are_coded():
    rows = table(range(20))
    payload = b"".join(encode(rows))
    tensors = safetensors.numpy.load(payload)
    assert tensors["key.codes/region"].dtype == np.uint8
    assert len(tensors["key.ends/region"]) == len(np.unique(rows.keys["region"])) + 1
    assert "column.codes/note" not in tensors
    read = Payload(memoryview(bytearray(payload)), Schema.of(rows)).table()
    assert read.columns["features"].flags.aligned


def test_rows_are_taken_without_the_others():
    rows = table(range(20))
    payload = Payload(memoryview(b"".join(encode(rows))), Schema.of(rows))
    for chosen in (np.array([3, 17, 4]), rows.keys["label"] > 0, slice(5, 9)):
        same(payload.take(chosen), rows.take(chosen))
