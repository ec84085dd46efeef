"""Tables as safetensors files, and back as views on their bytes.

Tensors are named ``part/name``: ``ids/``, ``key/NAME`` and ``column/NAME`` hold values as they are; a ragged column
is ``column.values/NAME`` and ``column.ends/NAME``; a text is ``….bytes/NAME`` (UTF-8) and ``….ends/NAME``, and where
half of the texts or more are repetitions those are the distinct ones, chosen by ``….codes/NAME``.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.schema import Schema
from shards.table import Column, Ragged, Rows, Table, utf8_lengths

_DTYPES = {
    "BOOL": "?", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "u1", "U16": "<u2", "U32": "<u4",
    "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def encode(table: Table) -> list[memoryview]:
    """Return a table as the parts of a safetensors file, mostly its own memory; equal tables give equal bytes.

    The library's writer would join the parts and copy the whole once more: with the checksum, 111 and not 45 ms for
    51 MB in 16 shards.
    Format: the header's length in 8 bytes, little-endian; the header, a JSON object of dtype, shape and place per
    tensor, filled up with blanks to a multiple of 8; the tensors, the wide types first, so that all are aligned.
    """
    tensors = {"ids/": table.ids}
    for part, columns in (("key", table.keys), ("column", table.columns)):
        for name, column in columns.items():
            tensors.update((f"{part}{kind}/{name}", tensor) for kind, tensor in _tensors(column))
    header, data, end = {}, [], 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": tensor.shape, "data_offsets": [start, end]}
        data.append(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [memoryview(len(text).to_bytes(8, "little") + text), *data]


class Payload:
    """A shard's bytes, of which only what is asked for is looked at.

    Parameters
    ----------
    data : memoryview
        The bytes that `encode` gave. Payload that needs no decoding is a view on it.
    schema : Schema
        Of the table.

    Raises
    ------
    ValueError
        If the bytes are not safetensors.
    """

    def __init__(self, data: memoryview, schema: Schema) -> None:
        self._schema = schema
        self._tensors = _views(data)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Record ids, shape (n,), copied."""
        ids: NDArray[np.int64] = self._tensors["ids/"].copy()
        return ids

    def keys(self) -> Table:
        """Return the table without its payload columns, copied: kept keys shall not keep a shard mapped."""
        return Table(self.ids, {name: self._key(name) for name in self._schema.keys})

    def table(self) -> Table:
        """Return the whole table, writable; payload is not copied where the bytes are writable."""
        keys = self.keys()
        columns = {name: self._column(name, slice(None)) for name in self._schema.columns}
        return Table(keys.ids, keys.keys, columns)

    def take(self, rows: Rows) -> Table:
        """Return the named rows; those of a slice as `table`, others copied."""
        keys = self.keys().take(rows)
        return Table(keys.ids, keys.keys, {name: self._column(name, rows) for name in self._schema.columns})

    def _key(self, name: str) -> NDArray[Any]:
        if self._schema.keys[name] == "str":
            return self._texts("key", name, slice(None))
        key = self._tensors[f"key/{name}"].copy()
        return key.view("<M8[us]") if self._schema.keys[name] == "datetime64[us]" else key

    def _column(self, name: str, rows: Rows) -> Column:
        kind = self._schema.columns[name].kind
        if kind == "text":
            return self._texts("column", name, rows)
        if kind == "ragged":
            cells = Ragged(self._tensors[f"column.values/{name}"], self._tensors[f"column.ends/{name}"])
            return cells.take(rows)
        return _own(self._tensors[f"column/{name}"][rows])

    def _texts(self, part: str, name: str, rows: Rows) -> NDArray[np.str_]:
        codes = self._tensors.get(f"{part}.codes/{name}")
        texts = Ragged(self._tensors[f"{part}.bytes/{name}"], self._tensors[f"{part}.ends/{name}"])
        return _decode(texts.take(rows)) if codes is None else _decode(texts)[codes[rows]]


def _views(data: memoryview) -> dict[str, NDArray[Any]]:
    """Return the tensors of a safetensors file, on its own memory; the library's NumPy reader copies each."""
    start = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(bytes(data[8:start]))
    header.pop("__metadata__", None)
    views = {}
    for name, tensor in header.items():
        first, last = tensor["data_offsets"]
        values = np.frombuffer(data[start + first : start + last], _DTYPES[tensor["dtype"]])
        views[name] = values.reshape(tensor["shape"])
    return views


def _tensors(column: Column) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the tensors that stand for a key or column, each with what is added to its part's name."""
    if isinstance(column, Ragged):
        yield from ((".values", column.values), (".ends", column.offsets))
    elif column.dtype.kind == "U":
        words, codes = np.unique(column, return_inverse=True)
        repeated = 2 * len(words) <= len(column)
        if repeated:
            yield ".codes", codes.astype(np.min_scalar_type(len(words) - 1))
        texts = _encode(words if repeated else column)
        yield from ((".bytes", texts.values), (".ends", texts.offsets))
    else:
        yield "", column.view(np.int64) if column.dtype.kind == "M" else column


def _encode(texts: NDArray[np.str_]) -> Ragged:
    encoded = np.strings.encode(texts, "utf-8", "surrogatepass")
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(utf8_lengths(texts))])
    padded = encoded.view(np.uint8).reshape(len(texts), encoded.itemsize)
    return Ragged(padded[np.arange(encoded.itemsize) < np.diff(offsets)[:, None]], offsets)


def _decode(texts: Ragged) -> NDArray[np.str_]:
    lengths = texts.lengths
    padded = np.zeros((len(lengths), max(1, int(lengths.max(initial=0)))), np.uint8)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = texts.values
    decoded: NDArray[np.str_] = np.strings.decode(padded.view(f"S{padded.shape[1]}")[:, 0], "utf-8", "surrogatepass")
    return decoded


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array, or a copy of it where it cannot be written to: what is read belongs to the reader."""
    return array if array.flags.writeable else array.copy()
