"""One byte form for what travels between server and workers and for what is kept on disk.

A record dictionary becomes a JSON header (names, types, scalars) followed by the raw array buffers, so an
array costs one copy, no size limit applies and reading never executes code. What the ServerApp sees live was
decoded from the very bytes that a resumed run replays.

Layout: ``header length (8 bytes, big endian) | header (JSON, UTF-8) | array buffers in header order``.
"""

import base64
import json
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from numpy.typing import NDArray

from fl.engine.flower import PLAIN_TYPES, SType, numpy_header

_LENGTH_BYTES = 8
_BYTES_TAG = "$b64"
EMPTY = b""
"""The encoding of an empty record dictionary."""


class DecodedArray(Array):
    """An array read from the wire, quick to turn into NumPy: what a small model's messages spend most time on."""

    def __init__(self, dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> None:
        vars(self).update(dtype=dtype, shape=shape, stype=stype, data=data)

    def numpy(self) -> NDArray[Any]:
        """Return a writable copy of the values, as the base class does."""
        view = values(self)
        return super().numpy() if view is None else view.reshape(self.shape).copy()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in ("dtype", "shape", "stype", "data"))

    __hash__ = None  # type: ignore[assignment]


DecodedArray.__name__ = DecodedArray.__qualname__ = "Array"  # part of what Flower hashes to identify an object


def values(array: Array) -> NDArray[Any] | None:
    """View an array's values in place, flat; None where only NumPy's own reader can tell.

    NumPy parses its text header anew for each array, which takes longer than copying a small one.
    """
    if array.dtype not in PLAIN_TYPES or array.stype != SType.NUMPY:
        return None
    header = numpy_header(array.dtype, array.shape)
    return np.frombuffer(array.data, array.dtype, offset=len(header)) if array.data.startswith(header) else None


def encode(content: RecordDict) -> bytes:
    """Encode a record dictionary.

    Parameters
    ----------
    content : RecordDict
        Any mixture of array, metric and config records.

    Returns
    -------
    bytes
        ``b""`` for an empty dictionary; otherwise the layout of the module's docstring.
    """
    if not content:
        return EMPTY
    buffers: list[bytes] = []
    records = [[name, *_describe(record, buffers)] for name, record in content.items()]
    header = json.dumps(records, separators=(",", ":"), default=_tag_bytes).encode()
    return b"".join([len(header).to_bytes(_LENGTH_BYTES, "big"), header, *buffers])


def decode(data: bytes | memoryview) -> RecordDict:
    """Rebuild the record dictionary that `encode` was given.

    Parameters
    ----------
    data : bytes or memoryview
        What `encode` returned.

    Returns
    -------
    RecordDict
        Equal to the original, array bytes included; shares no memory with `data`.

    Raises
    ------
    ValueError
        If the bytes do not have the layout of this module.
    """
    if not data:
        return RecordDict()
    view = memoryview(data)
    offset = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "big")
    header = json.loads(bytes(view[_LENGTH_BYTES:offset]), object_hook=_untag_bytes)
    content = RecordDict()
    for name, kind, body in header:
        if kind == "array":
            content[name] = arrays = ArrayRecord()
            for key, dtype, shape, stype, size in body:
                arrays[key] = DecodedArray(dtype, tuple(shape), stype, bytes(view[offset : offset + size]))
                offset += size
        elif kind == "metric":
            content[name] = MetricRecord(dict(body))
        else:
            content[name] = ConfigRecord(dict(body))
    if offset != len(view):
        raise ValueError(f"expected {offset} bytes of records, found {len(view)}")
    return content


def encode_error(error: Error) -> bytes:
    """Encode an error reply (the code and the reason)."""
    return json.dumps([error.code, error.reason]).encode()


def decode_error(data: bytes | memoryview) -> Error:
    """Rebuild the error that `encode_error` was given."""
    code, reason = json.loads(bytes(data))
    return Error(code=code, reason=reason)


def _describe(record: Any, buffers: list[bytes]) -> tuple[str, list[Any]]:
    if isinstance(record, ArrayRecord):
        body = []
        for key, array in record.items():
            buffers.append(array.data)
            body.append([key, array.dtype, array.shape, array.stype, len(array.data)])
        return "array", body
    return ("metric" if isinstance(record, MetricRecord) else "config"), list(record.items())


def _tag_bytes(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES_TAG: base64.b64encode(value).decode()}
    if hasattr(value, "item"):  # a NumPy scalar that is not a Python number
        return value.item()
    raise TypeError(f"cannot encode {type(value).__name__}")


def _untag_bytes(value: dict[str, Any]) -> Any:
    return base64.b64decode(value[_BYTES_TAG])
