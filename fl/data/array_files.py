"""Parquet and NumPy's ``.npz`` files."""

import importlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.data.blocks import BLOCK_VALUES, Block
from shards.errors import InputError


class ParquetFile:
    """A Parquet file of plain columns, read by pyarrow.

    Parameters
    ----------
    path : Path
        ``*.parquet``.

    Raises
    ------
    InputError
        If pyarrow is missing or the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            reader = importlib.import_module("pyarrow.parquet")  # an extra, and a second to import
        except ImportError as error:
            raise InputError(f"{path}: Parquet needs pyarrow; pip install 'fedshard[parquet]'") from error
        self.name = path.name
        self.identity = path.name.removesuffix(".parquet")
        try:
            self._file = reader.ParquetFile(path)
        except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
            raise InputError(f"{path}: cannot be read as Parquet ({_first_line(error)})") from error
        self.columns = tuple(self._file.schema_arrow.names)

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Yield all rows in order.

        Raises
        ------
        InputError
            If there is no row, a column is nested, or a part of the file is damaged.
        """
        size, row = max(1, BLOCK_VALUES // max(1, len(columns))), 1
        try:
            # No threads: this process may be forked later.
            for batch in self._file.iter_batches(size, columns=list(columns), use_threads=False):
                values = {name: self._array(name, batch.column(name)) for name in columns}
                yield Block(self.name, "row", range(row, row + batch.num_rows), values)
                row += batch.num_rows
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name}, after row {row - 1}: damaged ({_first_line(error)})") from error
        if row == 1:
            raise InputError(f"{self.name}: no rows")

    def _array(self, name: str, column: Any) -> NDArray[Any]:
        """Return an Arrow column as an array: nulls are NaN, NaT or None, times are UTC."""
        types = importlib.import_module("pyarrow.types")
        if types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if types.is_nested(column.type):
            raise InputError(f"{self.name}: column {name!r} is {column.type}; store one plain value per row")
        if types.is_date(column.type):
            column = column.cast("timestamp[us]")
        if types.is_decimal(column.type):
            column = column.cast("float64")
        return np.asarray(column.to_numpy(zero_copy_only=False))


class NpzFile:
    """A ``.npz`` file: each array is a column, its first axis the rows.

    Parameters
    ----------
    path : Path
        ``*.npz``, without pickled objects.

    Raises
    ------
    InputError
        If the file cannot be read or its arrays differ in length.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.identity = path.name.removesuffix(".npz")
        try:
            with np.load(path, allow_pickle=False) as file:
                self._arrays = {name: _as_text(np.asarray(file[name])) for name in file.files}
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: cannot be read as npz without pickles ({_first_line(error)})") from error
        self.columns = tuple(self._arrays)
        lengths = {name: len(array) if array.ndim else 0 for name, array in self._arrays.items()}
        if len(set(lengths.values())) > 1:
            parts = ", ".join(f"{name} {count}" for name, count in lengths.items())
            raise InputError(f"{self.name}: arrays differ in rows ({parts}); give each the same first axis")
        if not any(lengths.values()):
            raise InputError(f"{self.name}: no rows")

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Yield all rows at once: the file is in memory already."""
        chosen = {name: self._arrays[name] for name in columns}
        yield Block(self.name, "row", range(1, 1 + len(next(iter(self._arrays.values())))), chosen)


def _as_text(array: NDArray[Any]) -> NDArray[Any]:
    """Decode byte strings; every other array is returned as it is."""
    return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
