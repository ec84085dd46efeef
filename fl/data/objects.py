"""Data sets that other libraries hold in memory: torch's map-style ``Dataset`` and Hugging Face ``datasets``.

They are recognised by what they can do, so neither library is imported here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fl.data.blocks import BLOCK_VALUES, Block
from fl.data.decode import Schema, read_tables
from fl.data.records import Records, Task
from fl.data.spec import DataSpec
from fl.data.values import derived_ids
from shards.errors import InputError

_PLAIN = (Records, list, tuple, str, bytes, dict, np.ndarray, type)
"""What can be indexed too, and is not a data set."""


@runtime_checkable
class HuggingFaceDataset(Protocol):
    """What is used of ``datasets.Dataset``."""

    column_names: list[str]

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def __getitem__(self, rows: slice) -> Mapping[str, Any]:
        """Return some rows, column by column."""
        ...


@runtime_checkable
class MapDataset(Protocol):
    """What is used of ``torch.utils.data.Dataset``."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def __getitem__(self, index: int) -> Any:
        """Return one item: (features, label)."""
        ...


def to_records(rows: object, who: str, identity: str, spec: DataSpec, task: Task) -> object:
    """Turn a data set of another library into records.

    Parameters
    ----------
    rows : object
        What a user's function returned.
    who : str
        Whose rows these are, to open the error line.
    identity : str
        What record ids derive from, with the row's number, unless the spec names a column of ids.
    spec : DataSpec
        What the columns of a Hugging Face data set mean; not consulted for items of a torch one, which are
        (features, label).
    task : "classification" or "regression"
        What the labels are.

    Returns
    -------
    object
        `Records`, to be checked by `fl.data.validate`; anything that is no data set comes back as it is.

    Raises
    ------
    InputError
        Naming the row, if a value or item cannot be used.
    """
    if isinstance(rows, _PLAIN):
        return rows
    if isinstance(rows, HuggingFaceDataset):
        if not spec.target:
            raise InputError(
                f"{who}: name the column to learn in columns.target; the data set has {rows.column_names}"
            )
        table = _HuggingFaceTable(rows, who, identity)
        return read_tables([table], spec, task, Schema.of(table, spec))
    return _from_items(rows, who, identity) if isinstance(rows, MapDataset) else rows


class _HuggingFaceTable:
    """A Hugging Face data set as a source of blocks."""

    def __init__(self, rows: HuggingFaceDataset, name: str, identity: str) -> None:
        self._rows = rows
        self.name, self.identity = name, identity
        self.columns = tuple(rows.column_names)
        if not len(rows):
            raise InputError(f"{name}: no rows")

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Yield all rows in order."""
        size = max(1, BLOCK_VALUES // len(self.columns))
        for first in range(0, len(self._rows), size):
            values = self._rows[first : first + size]
            arrays = {name: np.asarray(values[name]) for name in columns}
            count = len(arrays[columns[0]])
            yield Block(self.name, "row", range(first + 1, first + 1 + count), arrays)


def _from_items(rows: MapDataset, who: str, identity: str) -> Records:
    """Stack the items of a torch data set."""
    features: list[NDArray[Any]] = []
    labels: list[NDArray[Any]] = []
    for number in range(len(rows)):
        item = rows[number]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(f"{who}: item {number} is {type(item).__name__}; make every item (features, label)")
        features.append(np.atleast_1d(np.asarray(item[0])))
        labels.append(np.asarray(item[1]))
        if features[-1].shape != features[0].shape:
            raise InputError(
                f"{who}: item {number} has features of shape {features[-1].shape}, item 0 of {features[0].shape}; "
                "give all the same shape"
            )
    if not features:
        raise InputError(f"{who}: no rows")
    return Records(np.stack(features), np.stack(labels), derived_ids(identity, 0, len(features)))
