"""The columns of a store: what every table appended to it must have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shards.errors import InputError
from shards.scalar import ID, Kind
from shards.table import Column, Ragged, Table


@dataclass(frozen=True)
class ColumnType:
    """The type of a payload column.

    Attributes
    ----------
    kind : {"array", "text", "ragged"}
        How its cells are kept.
    dtype : str
        NumPy's name of the dtype of a value; ``str`` for texts.
    shape : tuple of int
        Of one row of an array, or of one value of a ragged cell.
    """

    kind: Literal["array", "text", "ragged"]
    dtype: str
    shape: tuple[int, ...]

    @staticmethod
    def of(column: Column) -> "ColumnType":
        """Return the type of a column."""
        if isinstance(column, Ragged):
            return ColumnType("ragged", column.values.dtype.name, column.values.shape[1:])
        if column.dtype.kind == "U":
            return ColumnType("text", "str", ())
        return ColumnType("array", column.dtype.name, column.shape[1:])

    def empty(self) -> Column:
        """Return the column of no rows."""
        if self.kind == "text":
            return np.empty(0, "U1")
        values = np.empty((0, *self.shape), self.dtype)
        return values if self.kind == "array" else Ragged(values, np.zeros(1, np.int64))

    def __str__(self) -> str:
        return f"{self.kind} {self.dtype}{list(self.shape) or ''}"


@dataclass(frozen=True)
class Schema:
    """Names and types of keys and payload columns, in the order in which tables are given back."""

    keys: Mapping[str, Kind]
    columns: Mapping[str, ColumnType]

    @staticmethod
    def of(table: Table) -> "Schema":
        """Return the schema of a valid table."""
        kinds = {name: kind for name, kind in table.kinds.items() if name in table.keys}
        return Schema(kinds, {name: ColumnType.of(column) for name, column in table.columns.items()})

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each key, the record id among them."""
        return {ID: "int64", **self.keys}

    def check(self, table: Table, who: str) -> None:
        """Raise unless a valid table has this schema.

        Raises
        ------
        InputError
            Naming the first key or column that differs.
        """
        other = Schema.of(table)
        pairs = (("key", self.keys, other.keys), ("column", self.columns, other.columns))
        for what, mine, theirs in pairs:
            for name in [*mine, *theirs]:
                if mine.get(name) != theirs.get(name):
                    raise InputError(
                        f"{who}: {what} {name!r} is {theirs.get(name, 'missing')} in these rows and "
                        f"{mine.get(name, 'missing')} in the store; give every part of the data the same columns"
                    )

    def arranged(self, table: Table) -> Table:
        """Return a table of this schema with keys and columns in the schema's order."""
        columns = {name: table.columns[name] for name in self.columns}
        return Table(table.ids, {name: table.keys[name] for name in self.keys}, columns)

    def empty(self) -> Table:
        """Return the table of no rows."""
        keys = {name: np.empty(0, "U1" if kind == "str" else kind) for name, kind in self.keys.items()}
        return Table(np.empty(0, np.int64), keys, {name: kind.empty() for name, kind in self.columns.items()})

    def to_json(self) -> dict[str, Any]:
        """Return the schema as JSON values."""
        columns = {name: [kind.kind, kind.dtype, list(kind.shape)] for name, kind in self.columns.items()}
        return {"keys": dict(self.keys), "columns": columns}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Schema":
        """Return the schema that `to_json` wrote."""
        columns = {
            name: ColumnType(kind, dtype, tuple(shape)) for name, (kind, dtype, shape) in data["columns"].items()
        }
        return Schema(data["keys"], columns)
