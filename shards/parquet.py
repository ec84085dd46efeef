"""A store as one Parquet file, and back. Needs pyarrow, the ``parquet`` extra.

A file that a store was exported to holds its schema and layout, so that importing it gives the same store. Any other
file is imported by saying which columns are the record id and the keys; the others become payload.
"""

import importlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.disk import disk_error
from shards.errors import InputError
from shards.files import TEMPORARY, Files
from shards.layout import Layout
from shards.nearest import suggest
from shards.request import Request
from shards.scalar import ID
from shards.schema import Schema
from shards.store import Store
from shards.table import Column, Ragged, Table

_META = b"fedshard"


def export_parquet(store: Store, path: Path, request: Request | None = None) -> int:
    """Write the rows asked for, all by default, to a Parquet file, one row group per shard: readers can prune it.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    InputError
        If pyarrow is missing, the request does not fit, or a key and a column share a name.
    DiskFullError
        If the disk is full; a file that was there before is left as it was.
    """
    arrow, parquet = _arrow(path)
    temporary = path.with_name(path.name + TEMPORARY)
    rows = 0
    with store.pin() as snapshot:
        schema = snapshot.schema
        for name in {ID, *schema.keys} & set(schema.columns):
            raise InputError(
                f"{path}: {name!r} names a key and a column; Parquet needs two names, so rename the column"
            )
        meta = json.dumps({"schema": schema.to_json(), "layout": snapshot.layout.to_json()})
        kind = _to_arrow(schema.empty(), arrow).schema.with_metadata({_META: meta.encode()})
        try:
            with parquet.ParquetWriter(temporary, kind) as writer:
                for part in snapshot.parts(request or Request.everything()):
                    writer.write_table(_to_arrow(part, arrow).cast(kind), row_group_size=len(part))
                    rows += len(part)
            temporary.replace(path)
        except OSError as error:
            raise disk_error(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
    return rows


def import_parquet(
    path: Path,
    files: Files,
    keys: Collection[str] | None = None,
    record_id: str | None = None,
    layout: Layout | None = None,
) -> Store:
    """Create a store of a Parquet file's rows, which are held in memory meanwhile.

    Parameters
    ----------
    path : Path
        The file.
    files : Files
        Where the store is kept.
    keys : Collection of str, optional
        Columns that requests and layouts may speak of. By default those of the store that was exported, else none.
    record_id : str, optional
        The column of record ids. By default the exported ones, else the row's number from 0.
    layout : Layout, optional
        How to cut the rows. By default as the exported store was cut, else not at all.

    Raises
    ------
    InputError
        If pyarrow is missing, the file cannot be read, a column is missing or of a type that a store cannot hold, or
        for what `Store.create` refuses.
    """
    _, parquet = _arrow(path)
    try:
        rows = parquet.read_table(path, use_threads=False)  # this process may be forked later
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise InputError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    meta = json.loads((rows.schema.metadata or {}).get(_META, b"null"))
    exported = Schema.from_json(meta["schema"]) if meta else Schema({}, {})
    if meta and layout is None:
        layout = Layout.from_json(meta["layout"])
    names = exported.keys if keys is None else keys
    record_id = record_id or (ID if meta else None)
    for name in [*names, *([record_id] if record_id else [])]:
        if name not in rows.column_names:
            raise InputError(f"{path}: no column {name!r}: {suggest(name, rows.column_names)}")
    columns = {
        name: _from_arrow(rows[name].combine_chunks(), f"{path}: column {name!r}") for name in rows.column_names
    }
    ids: Any = columns.pop(record_id) if record_id else np.arange(len(rows))
    chosen: dict[str, Any] = {name: columns.pop(name) for name in names}
    return Store.create(files, Table(ids, chosen, columns), layout)


def _arrow(path: Path) -> tuple[Any, Any]:
    """Import pyarrow and its Parquet module, which take a second."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow; pip install 'fedshard[parquet]'") from error


def _to_arrow(table: Table, arrow: Any) -> Any:
    columns: dict[str, Column] = {ID: table.ids, **table.keys, **table.columns}
    return arrow.table({name: _column_to_arrow(column, arrow) for name, column in columns.items()})


def _column_to_arrow(column: Column, arrow: Any) -> Any:
    if isinstance(column, Ragged):
        return arrow.LargeListArray.from_arrays(column.offsets, _column_to_arrow(column.values, arrow))
    if column.dtype.kind == "M":
        return arrow.array(column, arrow.timestamp("us", "UTC"))
    values = arrow.array(column.reshape(-1))
    for size in reversed(column.shape[1:]):
        values = arrow.FixedSizeListArray.from_arrays(values, size)
    return values


def _from_arrow(array: Any, what: str) -> Column:
    """Return an Arrow array as a column.

    Raises
    ------
    InputError
        If a value is missing or the type is none that a store can hold.
    """
    types = importlib.import_module("pyarrow.types")
    if types.is_list(array.type) or types.is_large_list(array.type):
        _check_present(array, what)
        offsets = np.asarray(array.offsets).astype(np.int64)
        return Ragged(_values(array.flatten(), f"{what}, all lists joined"), offsets - offsets[0])
    return _values(array, what)


def _values(array: Any, what: str) -> NDArray[Any]:
    arrow, types = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.types")
    _check_present(array, what)
    if types.is_fixed_size_list(array.type):
        inner = _values(array.flatten(), f"{what}, all lists joined")
        return inner.reshape(len(array), array.type.list_size, *inner.shape[1:])
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_timestamp(array.type) or types.is_date(array.type):
        try:
            return np.asarray(array.cast(arrow.timestamp("us"))).astype("datetime64[us]")
        except ValueError as error:
            raise InputError(f"{what} holds parts of a microsecond; round its times") from error
    if types.is_string(array.type) or types.is_large_string(array.type):
        return np.asarray(array).astype("U")
    if types.is_boolean(array.type) or types.is_integer(array.type) or types.is_floating(array.type):
        return np.asarray(array)
    raise InputError(f"{what} is {array.type}; a store holds numbers, bools, texts, times and lists of numbers")


def _check_present(array: Any, what: str) -> None:
    if array.null_count:
        row = int(np.flatnonzero(np.asarray(array.is_null()))[0])
        raise InputError(f"{what}, row {row + 1}: no value; fill it in or drop the row")
