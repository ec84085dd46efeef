"""Rows in memory: ids, keys that requests and layouts speak of, and payload columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError
from shards.scalar import ID, Kind, kind_of

if TYPE_CHECKING:
    import torch

Rows = NDArray[np.int64] | NDArray[np.bool_] | slice


@dataclass(frozen=True, eq=False)
class Ragged:
    """A column whose cells differ in length.

    Attributes
    ----------
    values : NDArray
        The cells one after another, shape (total, ...).
    offsets : NDArray[np.int64]
        Where each cell starts, and at last where the last one ends, shape (n + 1,), rising from 0 to `total`.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        """Return one cell."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each cell, shape (n,)."""
        return np.diff(self.offsets)

    def take(self, rows: Rows) -> "Ragged":
        """Return the named cells, copied."""
        starts, lengths = self.offsets[:-1][rows], self.lengths[rows]
        offsets = _offsets(lengths)
        inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(self.values[np.repeat(starts, lengths) + inside], offsets)

    @staticmethod
    def concat(parts: "Sequence[Ragged]") -> "Ragged":
        """Return the cells of all parts, in order."""
        lengths = np.concatenate([part.lengths for part in parts])
        return Ragged(np.concatenate([part.values for part in parts]), _offsets(lengths))


Column = NDArray[Any] | Ragged


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with an identity, keys and payload; one row is one record.

    Attributes
    ----------
    ids : NDArray[np.int64]
        Record ids, shape (n,), unique.
    keys : Mapping[str, NDArray]
        What requests and layouts speak of, each of shape (n,) and of kind int64, float64, bool, datetime64[us] (UTC)
        or str; no value is missing.
    columns : Mapping[str, NDArray | Ragged]
        Payload: a numeric array (n, ...), a str array (n,), or `Ragged`.

    Notes
    -----
    The constructor trusts its arguments; `validate` checks what comes from outside.
    """

    ids: NDArray[np.int64]
    keys: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each key, the record id among them."""
        return {ID: "int64", **{name: kind_of(key.dtype) or "str" for name, key in self.keys.items()}}

    def key(self, name: str) -> NDArray[Any]:
        """Return a key by name; ``id`` is the record id."""
        return self.ids if name == ID else self.keys[name]

    def take(self, rows: Rows) -> "Table":
        """Return the named rows: row numbers, one flag per row, or a slice."""
        return Table(
            self.ids[rows],
            {name: key[rows] for name, key in self.keys.items()},
            {name: take(column, rows) for name, column in self.columns.items()},
        )

    def sorted_by_id(self) -> "Table":
        """Return the rows in canonical order, by increasing id; this table itself if so already."""
        return self if _rising(self.ids) else self.take(np.argsort(self.ids, kind="stable"))

    def row_bytes(self) -> NDArray[np.int64]:
        """Bytes of each row, shape (n,): what costs are counted in.

        A fixed-width value counts its own width, a text 8 + its UTF-8 length, a ragged cell 8 + its values. The sum
        over rows is therefore the same however they are cut; files add a header and may code texts more tightly.
        """
        sizes = np.full(len(self), self.ids.itemsize, np.int64)
        for column in (*self.keys.values(), *self.columns.values()):
            sizes += _cell_bytes(column)
        return sizes

    @property
    def nbytes(self) -> int:
        """The sum of `row_bytes`."""
        return int(self.row_bytes().sum())

    def tensors(self) -> "dict[str, torch.Tensor]":
        """Return the numeric payload columns as torch tensors on the same memory, nothing copied."""
        import torch

        return {
            name: torch.from_numpy(column)
            for name, column in self.columns.items()
            if isinstance(column, np.ndarray) and column.dtype.kind != "U"
        }


def take(column: Column, rows: Rows) -> Column:
    """Return the named cells of a column."""
    return column.take(rows) if isinstance(column, Ragged) else column[rows]


def concat(tables: Sequence[Table]) -> Table:
    """Return the rows of all tables, which have the same keys and columns, by increasing id."""
    first, *others = tables
    if not others:
        return first.sorted_by_id()
    ids = np.concatenate([table.ids for table in tables])
    order: Rows = slice(None) if _rising(ids) else np.argsort(ids, kind="stable")

    def joined(parts: Sequence[Column]) -> Column:  # one column at a time, so that only one is held twice
        ragged = [part for part in parts if isinstance(part, Ragged)]
        arrays = [part for part in parts if not isinstance(part, Ragged)]
        return take(Ragged.concat(ragged) if ragged else np.concatenate(arrays), order)

    return Table(
        ids[order],
        {name: np.concatenate([table.keys[name] for table in tables])[order] for name in first.keys},
        {name: joined([table.columns[name] for table in tables]) for name in first.columns},
    )


def validate(table: Table, who: str) -> Table:
    """Check a table that comes from outside and put it into canonical form.

    Parameters
    ----------
    table : Table
        Any integer or float width of keys will do, and any unit of time; ids of any integer dtype.
    who : str
        Whose rows these are, to open the error line.

    Returns
    -------
    Table
        The same rows by increasing id, in the documented dtypes.

    Raises
    ------
    InputError
        If lengths differ, an id repeats, a key has a missing or infinite value or another kind, the name of a key is
        taken, or a column is neither numeric, text nor ragged.
    """
    ids = _integers(np.asarray(table.ids), f"{who}: ids")
    keys = {name: _key(np.asarray(key), f"{who}: key {name!r}") for name, key in table.keys.items()}
    columns = {name: _column(column, f"{who}: column {name!r}") for name, column in table.columns.items()}
    if ID in keys:
        raise InputError(f"{who}: key {ID!r} would hide the record id; rename it")
    for name, column in {**{f"key {k!r}": v for k, v in keys.items()}, **columns}.items():
        if len(column) != len(ids):
            raise InputError(f"{who}: {name} has {len(column)} rows but ids has {len(ids)}; give one per record")
    checked = Table(ids, keys, columns).sorted_by_id()
    repeated = np.flatnonzero(checked.ids[1:] == checked.ids[:-1])
    if len(repeated):
        raise InputError(
            f"{who}: record id {checked.ids[repeated[0]]} occurs more than once; give every record its own"
        )
    for name, key in checked.keys.items():
        _check_present(key, checked.ids, f"{who}: key {name!r}")
    return checked


def _rising(ids: NDArray[np.int64]) -> bool:
    return bool(np.all(ids[1:] > ids[:-1]))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _cell_bytes(column: Column) -> NDArray[np.int64] | int:
    """Bytes of each cell, or of any where all are alike."""
    if isinstance(column, Ragged):
        return 8 + column.lengths * (column.values.itemsize * int(np.prod(column.values.shape[1:])))
    if column.dtype.kind == "U":
        return 8 + utf8_lengths(column)
    return column.itemsize * int(np.prod(column.shape[1:]))


def utf8_lengths(texts: NDArray[np.str_]) -> NDArray[np.int64]:
    """Bytes of each text in UTF-8, shape (n,)."""
    points = np.ascontiguousarray(texts).view(np.uint32)
    if points.size == 0 or points.max() < 0x80:  # nine in ten columns are ASCII, and encoding costs 75 times as much
        return np.strings.str_len(texts).astype(np.int64)
    return np.strings.str_len(np.strings.encode(texts, "utf-8", "surrogatepass")).astype(np.int64)


def _integers(ids: NDArray[Any], what: str) -> NDArray[np.int64]:
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(f"{what} are {ids.dtype} of shape {ids.shape}; give one integer per record")
    if ids.dtype.kind == "u" and len(ids) and int(ids.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{what} hold {int(ids.max())}, too big for int64; renumber them")
    return ids.astype(np.int64, copy=False)


def _key(key: NDArray[Any], what: str) -> NDArray[Any]:
    if key.ndim != 1:
        raise InputError(f"{what} has shape {key.shape}; give one value per record")
    if key.dtype.kind in "iu":
        return _integers(key, what)
    if key.dtype.kind == "f":
        return key.astype(np.float64, copy=False)
    if key.dtype.kind == "M":
        return key.astype("datetime64[us]", copy=False)
    if key.dtype.kind == "O":
        raise InputError(f"{what} holds Python objects; convert it with .astype(str), fill in or drop missing values")
    if key.dtype.kind not in "bU":
        raise InputError(f"{what} is {key.dtype}; keys are integers, floats, bools, texts or times")
    return key.astype(key.dtype.newbyteorder("="), copy=False)


def _column(column: object, what: str) -> Column:
    if isinstance(column, Ragged):
        offsets = _integers(np.asarray(column.offsets), f"{what}: offsets")
        values = _payload(np.asarray(column.values), f"{what}: values")
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
            raise InputError(f"{what}: offsets must rise from 0 to {len(values)}, the number of values")
        return Ragged(values, offsets)
    return _payload(np.asarray(column), what)


def _payload(column: NDArray[Any], what: str) -> NDArray[Any]:
    if column.ndim == 0 or (column.dtype.kind == "U" and column.ndim > 1):
        raise InputError(f"{what} has shape {column.shape}; give one row per record, one text per row")
    if column.dtype.kind not in "biufU" or (column.dtype.itemsize > 8 and column.dtype.kind != "U"):
        raise InputError(f"{what} is {column.dtype}; columns are bools, integers, floats up to 64 bits, or texts")
    return column.astype(column.dtype.newbyteorder("="), copy=False)


def _check_present(key: NDArray[Any], ids: NDArray[np.int64], what: str) -> None:
    """Raise where values of a key are missing or infinite."""
    if key.dtype.kind not in "fM":
        return
    bad = np.isnat(key) if key.dtype.kind == "M" else ~np.isfinite(key)
    if len(bad) and bad.all():
        raise InputError(f"{what} has no value in any row; drop the key, or fill it in")
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"{what} is {key[row]} in record {ids[row]}; fill it in or drop the record")
