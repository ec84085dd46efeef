"""The rows a client holds, and the one check they pass before anything is learned from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError
from shards.table import Table

Task = Literal["classification", "regression"]


@dataclass(frozen=True, eq=False)
class Records:
    """Labelled rows with an identity and keys; one row is one record.

    Attributes
    ----------
    features : NDArray[np.float32]
        Model inputs, shape (n, ...), at least two-dimensional; unit set by the source.
    labels : NDArray[np.int64] or NDArray[np.float32]
        Shape (n,): class indices from 0, int64; or, for regression, real numbers in the target's unit, float32.
    ids : NDArray[np.int64]
        Record ids, shape (n,), unique within the federation's data. Privacy charges, sampling coins
        and summation order are all keyed by them, so an id must mean the same record in every run.
    keys : Mapping[str, NDArray]
        Columns that requests may select by (time, region, class, user, ...), each of shape (n,) and of kind
        int64, float64, bool, str or datetime64[us] (UTC), without nulls.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.float32]
    ids: NDArray[np.int64]
    keys: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.ids)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> "Records":
        """Keep some rows.

        Parameters
        ----------
        rows : NDArray[np.bool_] or NDArray[np.integer]
            A mask of shape (n,), or row numbers in the order wanted.

        Returns
        -------
        Records
            Copies of the chosen rows; possibly none.

        Raises
        ------
        IndexError
            If the mask is not n long or a row number is outside the rows.
        """
        return Records(
            self.features[rows],
            self.labels[rows],
            self.ids[rows],
            {name: column[rows] for name, column in self.keys.items()},
        )

    def sorted_by_id(self) -> "Records":
        """Return the rows in canonical order, by increasing id; these records themselves if so already."""
        if bool(np.all(self.ids[1:] > self.ids[:-1])):
            return self
        return self.select(np.argsort(self.ids, kind="stable"))

    def table(self) -> Table:
        """Return the rows as the shard store keeps them, on the same memory: columns ``features`` and ``labels``."""
        return Table(self.ids, self.keys, {"features": self.features, "labels": self.labels})

    @classmethod
    def of(cls, table: Table) -> "Records":
        """Return the rows of such a table, on the same memory."""
        features, labels = table.columns["features"], table.columns["labels"]
        assert isinstance(features, np.ndarray)
        assert isinstance(labels, np.ndarray)
        return cls(features, labels, table.ids, table.keys)


def validate(records: object, who: str, num_classes: int | None = None, task: Task = "classification") -> Records:
    """Check what a data source returned and put it into canonical form.

    Parameters
    ----------
    records : object
        What the source returned. Any real feature dtype and any integer dtype of labels and ids will do.
    who : str
        Whose rows these are, to open the error line, such as ``"client 3 of 20"``.
    num_classes : int, optional
        Number of classes the model knows; labels must be below it. Not consulted for regression.
    task : "classification" or "regression"
        What the labels are: class indices, or real numbers of any finite value.

    Returns
    -------
    Records
        The same rows by increasing id, in the documented dtypes. The arrays are read-only, since one
        cached copy serves every round; arrays that needed no conversion share the caller's memory.

    Raises
    ------
    InputError
        If this is not a `Records`, the columns differ in length, there are no rows, a feature, label or key
        is NaN or infinite, a key is of another kind, an id repeats, or the label of a classification is not
        an integer in [0, `num_classes`).
    """
    if not isinstance(records, Records):
        raise InputError(
            f"{who}: expected fl.data.Records, got {type(records).__name__}; "
            "return Records(features, labels, ids, keys)"
        )
    ids, labels, features, keys = _columns(records, who)
    checked = Records(
        _float32(features, f"{who}: features", "encode them as float32"),
        _targets(labels, f"{who}: labels", task),
        _integers(ids, f"{who}: ids"),
        {name: _key(column, f"{who}: key {name!r}") for name, column in keys.items()},
    ).sorted_by_id()
    _check_ids(checked, who)
    _check_finite(checked, who)
    if task == "classification":
        _check_labels(checked, who, num_classes)
    return Records(
        _read_only(checked.features),
        _read_only(checked.labels),
        _read_only(checked.ids),
        {name: _read_only(column) for name, column in checked.keys.items()},
    )


def _columns(records: Records, who: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]:
    """Return ids, labels, features and keys as arrays with one row per record, and at least one row."""
    if not isinstance(records.keys, Mapping):
        raise InputError(f"{who}: keys is {type(records.keys).__name__}; give a mapping of column name to values")
    ids = _array(records.ids, f"{who}: ids")
    labels = _array(records.labels, f"{who}: labels")
    features = _array(records.features, f"{who}: features")
    keys = {name: _array(column, f"{who}: key {name!r}") for name, column in records.keys.items()}
    if features.ndim < 2:
        raise InputError(
            f"{who}: features has shape {features.shape}; make it (records, values), "
            "for example with reshape(len(ids), -1)"
        )
    flat = {"ids": ids, "labels": labels} | {f"key {name!r}": column for name, column in keys.items()}
    for name, column in flat.items():
        if column.ndim != 1:
            raise InputError(f"{who}: {name} has shape {column.shape}; give one value per record")
    for name, column in {**flat, "features": features}.items():
        if len(column) != len(ids):
            raise InputError(
                f"{who}: {name} has {len(column)} rows but ids has {len(ids)}; give every column one row per record"
            )
    if len(ids) == 0:
        raise InputError(f"{who} has no rows: use fewer clients, or a partition that leaves every client some")
    return ids, labels, features, keys


def _array(column: object, what: str) -> NDArray[Any]:
    """Return the column as an array."""
    try:
        return np.asarray(column)
    except ValueError as error:  # a ragged nested list
        raise InputError(f"{what} is not an array; give every row the same shape") from error


def _integers(column: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Return the column as int64, refusing to round or wrap."""
    if column.dtype.kind not in "biu":
        raise InputError(f"{what} are {column.dtype}, not integers; convert them with .astype('int64')")
    if column.dtype.kind == "u" and int(column.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{what} hold {int(column.max())}, too big for int64; renumber them")
    return column.astype(np.int64, copy=False)


def _float32(column: NDArray[Any], what: str, fix: str) -> NDArray[np.float32]:
    """Return real numbers as float32; a value too big for float32 becomes infinite and is reported later."""
    if column.dtype.kind not in "biuf":
        raise InputError(f"{what} are {column.dtype}, not real numbers; {fix}")
    with np.errstate(over="ignore"):
        return column.astype(np.float32, copy=False)


def _targets(column: NDArray[Any], what: str, task: Task) -> NDArray[np.int64] | NDArray[np.float32]:
    """Return labels in the dtype of their task."""
    if task == "regression":
        return _float32(column, what, "give real numbers")
    return _integers(column, what)


def _key(column: NDArray[Any], what: str) -> NDArray[Any]:
    """Return a key column in the one dtype of its kind."""
    kind = column.dtype.kind
    if kind in "iu":
        return _integers(column, what)
    if kind == "O" and all(isinstance(value, str) for value in column):
        return column.astype(np.str_)
    if kind not in "fbUM":
        raise InputError(
            f"{what} is {column.dtype}; a key is whole numbers, real numbers, true or false, text, or datetime64"
        )
    return column.astype({"f": "float64", "M": "datetime64[us]"}.get(kind, column.dtype), copy=False)


def _check_ids(records: Records, who: str) -> None:
    """Raise if an id occurs twice; rows are sorted, so equal ids are neighbours."""
    repeated = np.flatnonzero(records.ids[1:] == records.ids[:-1])
    if len(repeated):
        raise InputError(
            f"{who}: record id {records.ids[repeated[0]]} occurs more than once; give every record its own"
        )


def _check_finite(records: Records, who: str) -> None:
    """Raise at the first NaN or infinite feature, label or key."""
    bad = np.argwhere(~np.isfinite(records.features))
    if len(bad):
        row, *place = (int(index) for index in bad[0])
        value = records.features[tuple(bad[0])]
        raise InputError(
            f"{who}: record {records.ids[row]} has {value} in feature column {', '.join(map(str, place))}; "
            "drop the record or fill in the value"
        )
    flat: dict[str, NDArray[Any]] = {"labels": records.labels}
    flat |= {f"key column {name!r}": column for name, column in records.keys.items()}
    for name, column in flat.items():
        if column.dtype.kind in "fM" and not np.isfinite(column).all():
            row = int(np.flatnonzero(~np.isfinite(column))[0])
            raise InputError(
                f"{who}: record {records.ids[row]} has {column[row]} in {name}; drop the record or fill in the value"
            )


def _check_labels(records: Records, who: str, num_classes: int | None) -> None:
    """Raise at the first label that is no class index."""
    top = np.iinfo(np.int64).max if num_classes is None else num_classes - 1
    bad = np.flatnonzero((records.labels < 0) | (records.labels > top))
    if len(bad):
        known = "0, 1, 2, ..." if num_classes is None else f"0 to {top}"
        raise InputError(
            f"{who}: record {records.ids[bad[0]]} has unknown label {records.labels[bad[0]]}; "
            f"labels are class indices, {known}"
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view, leaving the caller's own array writable."""
    view = array.view()
    view.flags.writeable = False
    return view
