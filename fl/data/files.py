"""Clients whose rows are in files: a file or folder of each client's own, or rows that are dealt to clients."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl.data.array_files import NpzFile, ParquetFile
from fl.data.blocks import BlockSource
from fl.data.csv_file import CsvFile
from fl.data.decode import Schema, read_tables
from fl.data.partition import ByColumn, Partitioner
from fl.data.records import Records, Task
from fl.data.spec import DataSpec
from shards.errors import InputError

FORMATS: dict[str, tuple[Callable[[Path], BlockSource], tuple[str, ...]]] = {
    "csv": (CsvFile, (".csv", ".csv.gz")),
    "parquet": (ParquetFile, (".parquet",)),
    "npz": (NpzFile, (".npz",)),
}
"""From the word before the colon to the reader and the endings of its files."""


CLIENT = "{client}"
"""Stands in a path for the client's number, from 0."""


@dataclass(frozen=True)
class FileRows:
    """The rows in a file or folder: a `load` function of the protocol.

    Where the path holds ``{client}``, the client's number stands in its place and all rows there are the client's:
    on real machines each has its own. Otherwise clients are the values of the client column, sorted and dealt in
    turn; without such a column, the files of a folder, sorted by name and dealt in turn, or the parts that the
    partitioner makes of one file. One client alone has all rows.

    Attributes
    ----------
    form : str
        A key of `FORMATS`.
    path : Path
        A file or a folder; not looked at before rows are wanted, since on real machines the server has none.
    spec : DataSpec
        What the columns mean.
    task : "classification" or "regression"
        What the target is.
    partitioner : Partitioner
        Deals the rows of a single file without a client column.
    seed : int
        Of the partitioner.
    """

    form: str
    path: Path
    spec: DataSpec
    task: Task
    partitioner: Partitioner
    seed: int

    def __call__(self, client: int, num_clients: int) -> Records:
        """Return the rows of client `client` of `num_clients`.

        Raises
        ------
        InputError
            If files cannot be read or used, or there are fewer files, client names or rows than clients.
        """
        if CLIENT in str(self.path):
            return replace(self, path=Path(str(self.path).replace(CLIENT, str(client)))).everything()
        if num_clients == 1:
            return self.everything()
        if not self.spec.client and self.path.is_dir():
            paths = self.paths()
            if len(paths) < num_clients:
                raise InputError(
                    f"{self.path}: {len(paths)} files for {num_clients} clients; use at most {len(paths)} clients, "
                    "or name the column that tells clients apart in columns.client"
                )
            return self._read(paths[client::num_clients])
        rows = _everything(self)
        return rows.select(_dealt(self, num_clients)[client])

    def everything(self) -> Records:
        """Return the rows of all files; raises InputError if they cannot be read or used."""
        return self._read(self.paths())

    def _read(self, paths: Sequence[Path]) -> Records:
        return read_tables([self.open(path) for path in paths], self.spec, self.task, _schema(self))

    def open(self, path: Path) -> BlockSource:
        """Open one file; raises InputError if it cannot be read."""
        return FORMATS[self.form][0](path)

    def paths(self) -> list[Path]:
        """List the files, by name; raises InputError if there is none."""
        _, endings = FORMATS[self.form]
        try:
            if not self.path.is_dir():
                self.path.stat()
                return [self.path]
            paths = sorted(p for p in self.path.iterdir() if p.name.endswith(endings) and p.name[0] != ".")
        except FileNotFoundError as error:
            raise InputError(
                f"data {self.form}:{self.path}: no such file or folder; a relative path starts at the app's folder"
            ) from error
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror}); check its permissions") from error
        if not paths:
            raise InputError(f"{self.path}: no {' or '.join(endings)} file in this folder")
        return paths


@functools.lru_cache(maxsize=64)
def _schema(rows: FileRows) -> Schema:
    """Let the first file decide the features of all, once."""
    return Schema.of(rows.open(rows.paths()[0]), rows.spec)


@functools.lru_cache(maxsize=2)
def _everything(rows: FileRows) -> Records:
    """Read all rows once for the many clients a process simulates."""
    return rows.everything()


@functools.lru_cache(maxsize=2)
def _dealt(rows: FileRows, num_clients: int) -> list[NDArray[np.int64]]:
    """Deal the rows once per number of clients."""
    records = _everything(rows)
    partitioner = ByColumn("client") if rows.spec.client else rows.partitioner
    return partitioner.assign(records.labels, records.keys, num_clients, rows.seed)
