"""CSV files, plain or gzipped, read line by line so that an error names the line an editor shows.

The standard library's parser is used because it alone counts lines (pyarrow and pandas count rows, and pandas
fills short rows up in silence). About two million values a second.
"""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from fl.data.blocks import BLOCK_VALUES, Block
from shards.errors import InputError


class CsvFile:
    """A CSV file with a header line, in UTF-8, its fields separated by commas.

    Parameters
    ----------
    path : Path
        ``*.csv`` or ``*.csv.gz``.

    Raises
    ------
    InputError
        If the file cannot be read, or its first line does not name every column once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name
        self.identity = path.name.removesuffix(".gz").removesuffix(".csv")
        header = next(self._records(), None)
        if header is None:
            raise InputError(f"{path}: the file is empty; its first line must name the columns")
        self.columns = tuple(name.strip() for name in header[1])
        self._check_header()

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Yield all rows in order as text; blank lines are passed over.

        Raises
        ------
        InputError
            If there is no row, or naming the line that is not CSV, not UTF-8, or has another number of fields.
        """
        wanted = {name: self.columns.index(name) for name in columns}
        size = max(1, BLOCK_VALUES // len(self.columns))
        lines: list[int] = []
        rows: list[list[str]] = []
        records = self._records()
        next(records)
        found = False
        for line, fields in records:
            if not fields:
                continue
            found = True
            if len(fields) != len(self.columns):
                raise InputError(
                    f"{self.name}, line {line}: fields: {len(fields)}, but line 1 names {len(self.columns)} columns; "
                    "correct the line, and put quotes around values with commas"
                )
            lines.append(line)
            rows.append(fields)
            if len(rows) == size:
                yield self._block(lines, rows, wanted)
                lines, rows = [], []
        if rows:
            yield self._block(lines, rows, wanted)
        if not found:
            raise InputError(f"{self._path}: only a header line, no rows")

    def _block(self, lines: list[int], rows: list[list[str]], wanted: dict[str, int]) -> Block:
        return Block(self.name, "line", lines, {name: [row[place] for row in rows] for name, place in wanted.items()})

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (first line, fields) of every record, the header too."""
        line = 0
        try:
            with gzip.open(self._path) if self._path.suffix == ".gz" else self._path.open("rb") as file:
                reader = csv.reader(self._decoded(file), strict=True)
                for fields in reader:
                    yield line + 1, fields
                    line = reader.line_num
        except csv.Error as error:
            raise InputError(f"{self.name}, line {line + 1}: {error}; look for a quote that is not closed") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{self._path}: damaged gzip after line {line} ({error}); copy the file again"
            ) from error
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read ({error.strerror})") from error

    def _decoded(self, file: Iterator[bytes]) -> Iterator[str]:
        """Decode line by line: a decoder of the whole file could not tell the line."""
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self.name}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x}); save the file as UTF-8"
                ) from error

    def _check_header(self) -> None:
        names = self.columns
        if len(names) == 1 and (other := next((sign for sign in ";\t|" if sign in names[0]), None)):
            raise InputError(f"{self.name}, line 1: fields are separated by {other!r}; save the file with commas")
        if "" in names:
            raise InputError(f"{self.name}, line 1: column {names.index('') + 1} has no name; give it one")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{self.name}, line 1: two columns are named {twice!r}; rename one")
