"""Tables read piece by piece: what every file format gives, and where in it an error is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Raw = Sequence[str] | NDArray[Any]
"""One column of a block as the file has it: text, or an array of the file's own type, shape (n, ...)."""

BLOCK_VALUES = 2**18
"""About how many values a block holds, rows times columns: what reading needs beside the data itself."""


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a table.

    Attributes
    ----------
    file : str
        Name of the file, for errors.
    unit : str
        What `rows` counts: ``"line"`` or ``"row"``.
    rows : Sequence[int]
        Number of each row, from 1, as an editor shows it.
    columns : Mapping[str, Raw]
        The columns, by name, each one value per row.
    """

    file: str
    unit: str
    rows: Sequence[int]
    columns: Mapping[str, Raw]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def at(self, index: int, column: str) -> str:
        """Name a place for an error line: ``hospital.csv, line 5, column 'age'``."""
        return f"{self.file}, {self.unit} {self.rows[index]}, column {column!r}"

    def where(self, keep: NDArray[np.bool_]) -> "Block":
        """Return the rows of a mask of shape (n,)."""
        kept = np.flatnonzero(keep).tolist()
        columns = {
            name: raw[kept] if isinstance(raw, np.ndarray) else [raw[row] for row in kept]
            for name, raw in self.columns.items()
        }
        return Block(self.file, self.unit, [self.rows[row] for row in kept], columns)


class BlockSource(Protocol):
    """A file, or an object, that holds columns of equal length.

    Attributes
    ----------
    name : str
        Short name for errors, such as ``"hospital.csv"``.
    identity : str
        What ids of its rows derive from: the same wherever the table lies and however it is packed.
    columns : tuple of str
        Its column names, in its own order.
    """

    name: str
    identity: str
    columns: tuple[str, ...]

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Yield all rows in order, with the given columns only; raises InputError where they cannot be read."""
        ...
