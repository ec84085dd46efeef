"""From a table's columns to `Records`, as a `DataSpec` says."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.data.blocks import Block, BlockSource, Raw
from fl.data.gather import Gathered
from fl.data.records import Records, Task
from fl.data.spec import DataSpec
from fl.data.values import derived_ids, is_numeric, missing, mixed_times, numbers, record_ids, texts, times
from shards.errors import InputError
from shards.nearest import suggest


@dataclass(frozen=True)
class Schema:
    """What one table decides for all tables of a data set.

    Attributes
    ----------
    file : str
        The table's name.
    columns : frozenset of str
        Its columns.
    features : tuple of str
        The columns that become model inputs, in order.
    """

    file: str
    columns: frozenset[str]
    features: tuple[str, ...]

    @classmethod
    def of(cls, table: BlockSource, spec: DataSpec) -> "Schema":
        """Take the features of the spec, or else the table's numeric columns and those with categories.

        A column counts as numeric if a value of the table's first block is a number, so that text among numbers is
        reported rather than passed over.

        Raises
        ------
        InputError
            If there is none, or bounds, categories or a fill are declared for what is none.
        """
        features, coded = spec.features, dict(spec.categories)
        if not features:
            taken = set(spec.roles.values())
            block = next(iter(table.blocks(table.columns)))
            free = [name for name in table.columns if name not in taken]
            features = tuple(name for name in free if name in coded or is_numeric(block.columns[name]))
        if not features:
            raise InputError(
                f"{table.name}: no column is left that holds numbers; declare text in columns.categories.<column>"
            )
        for described, name in spec.described():
            if name not in (*features, spec.target):
                raise InputError(
                    f"{table.name}: columns.{described}.{name}: no feature of that name; {suggest(name, features)}"
                )
        return cls(table.name, frozenset(table.columns), features)


def read_tables(tables: Sequence[BlockSource], spec: DataSpec, task: Task, schema: Schema) -> Records:
    """Read every row of some tables.

    Memory beyond the records themselves is a block of the table and a quarter of the features (twice the features
    where a column of ids is not in order).

    Parameters
    ----------
    tables : sequence of BlockSource
        At least one.
    spec : DataSpec
        What the columns mean.
    task : "classification" or "regression"
        What the target is.
    schema : Schema
        The features.

    Returns
    -------
    Records
        By increasing id. Features have shape (n, d), or that of the only column where it holds arrays; keys are
        those of the spec, ``"client"`` where it names such a column, and ``"class"``, the label, where it names no
        class column and the task is a classification.

    Raises
    ------
    InputError
        Naming file, row and column of the first value that cannot be used.
    """
    decoder, rows = _Decoder(spec, task, schema.features), Gathered()
    for table in sorted(tables, key=lambda table: int(derived_ids(table.identity, 0, 1)[0])):  # ids come in order
        _check_columns(table, spec, schema)
        first = 0
        for block in table.blocks(decoder.columns):
            ids = None if spec.id else derived_ids(table.identity, first, len(block))
            first += len(block)
            block = decoder.with_numbers(block)
            keep = decoder.complete(block)
            if not keep.all():
                block, ids = block.where(keep), None if ids is None else ids[keep]
            if len(block):
                rows.add(decoder.decode(block, ids), block, ids_may_repeat=bool(spec.id))
    if not rows.parts:
        names = ", ".join(table.name for table in tables)
        raise InputError(f"{names}: no row is complete, so columns.missing = 'drop' leaves none")
    rows.check_ids(spec.id)
    return rows.records().sorted_by_id()


def _check_columns(table: BlockSource, spec: DataSpec, schema: Schema) -> None:
    """Raise for a column that is configured but not there, or, where features go by default, is only in one table."""
    for key, name in (spec.roles | {f"columns.features, {name}": name for name in spec.features}).items():
        if name not in table.columns:
            raise InputError(f"{table.name}: no column {name!r} ({key}); {suggest(name, table.columns)}")
    for name in sorted(schema.columns ^ frozenset(table.columns)) if not spec.features else ():
        has, lacks = (schema.file, table.name) if name in schema.columns else (table.name, schema.file)
        raise InputError(
            f"{lacks}: no column {name!r}, which {has} has; give all files the same columns, or name those to use "
            "in columns.features"
        )


@dataclass
class _Decoder:
    """Turns blocks into records; remembers how the first time was written."""

    spec: DataSpec
    task: Task
    features: tuple[str, ...]
    written: tuple[str, str] | None = field(default=None, init=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column to read, once."""
        return tuple(dict.fromkeys((*self.features, *self.spec.roles.values())))

    def with_numbers(self, block: Block) -> Block:
        """Return the block with numbers for text where numbers are meant, NaN where missing; raises at other text."""
        coded, columns = dict(self.spec.categories), dict(block.columns)
        for name in (*self.features, self.spec.target):
            if name not in coded:
                columns[name] = numbers(block.columns[name], functools.partial(block.at, column=name))
        return Block(block.file, block.unit, block.rows, columns)

    def complete(self, block: Block) -> NDArray[np.bool_]:
        """Return which rows to keep, shape (n,): those with a value wherever no constant fills in.

        Raises
        ------
        InputError
            At the first missing value, unless incomplete rows are dropped.
        """
        fills, keep = dict(self.spec.fill), np.ones(len(block), dtype=np.bool_)
        for name in self.columns:
            if name in fills:
                continue
            gaps = missing(block.columns[name])
            if gaps.any() and (self.spec.missing != "drop" or name == self.spec.id):
                fill = f"set columns.fill.{name} to a public constant, or " if name in self.features else ""
                fix = f"{fill}set columns.missing = 'drop'" if name != self.spec.id else "give every row its id"
                raise InputError(f"{block.at(int(gaps.argmax()), name)}: no value; {fix}")
            keep &= ~gaps
        return keep

    def decode(self, block: Block, ids: NDArray[np.int64] | None) -> Records:
        """Decode complete rows; `ids` are given where no column holds them."""
        labels = self._labels(block)
        keys = {name: self._key(name, column, block) for name, column in self.spec.keys.items()}
        if self.spec.client:
            keys["client"] = texts(block.columns[self.spec.client])
        if self.task == "classification":
            keys.setdefault("class", labels)
        if ids is None:
            ids = record_ids(block.columns[self.spec.id])
        return Records(self._features(block), labels, ids, keys)

    def _features(self, block: Block) -> NDArray[np.float32]:
        spec = self.spec
        bounds, categories, fills = dict(spec.bounds), dict(spec.categories), dict(spec.fill)
        columns: list[NDArray[Any]] = []
        indicators: list[NDArray[Any]] = []
        for name in self.features:
            raw = block.columns[name]
            gaps = missing(raw) if name in fills else np.zeros(len(block), dtype=np.bool_)
            if name in categories:
                codes = _codes(block, name, raw, categories[name], fills.get(name), gaps)
                columns.append(np.eye(len(categories[name]), dtype=np.float32)[codes])
                continue
            values = np.asarray(raw)
            if gaps.any():
                values = np.where(np.isnan(values), float(fills[name]), values)
            if name in fills and spec.missing == "indicate":
                indicators.append(gaps)
            if name in bounds:
                low, high = bounds[name]
                values = ((values - low) / (high - low)).clip(0, 1)
            columns.append(_as_float32(block, name, values))
        if len(columns) == 1 and columns[0].ndim > 1 and not indicators:
            return columns[0]
        return np.concatenate([column.reshape(len(block), -1) for column in (*columns, *indicators)], axis=1).astype(
            np.float32, copy=False
        )

    def _labels(self, block: Block) -> NDArray[np.int64] | NDArray[np.float32]:
        name = self.spec.target
        raw = block.columns[name]
        categories = dict(self.spec.categories).get(name)
        if categories is not None:
            return _codes(block, name, raw, categories, None, np.zeros(len(block), dtype=np.bool_))
        values = np.asarray(raw)
        if values.ndim > 1:
            raise InputError(f"{block.file}: column {name!r} has shape {values.shape}; a target is one value per row")
        if self.task == "regression":
            return _as_float32(block, name, values)
        wrong = (values < 0) | (values != np.floor(values))
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{block.at(row, name)}: {values[row]:g} is not a class number (0, 1, 2, ...); declare "
                f"columns.categories.{name}, or set task = 'regression'"
            )
        return values.astype(np.int64)

    def _key(self, key: str, column: str, block: Block) -> NDArray[Any]:
        raw = block.columns[column]
        if key != "time":
            return texts(raw)
        moments, kind = times(raw, functools.partial(block.at, column=column))
        place = block.at(0, column)
        first_kind, first_place = self.written = self.written or (kind, place)
        if kind != first_kind:
            raise InputError(mixed_times(place, kind, first_place, first_kind))
        return moments


def _codes(
    block: Block,
    name: str,
    raw: Raw,
    categories: tuple[str, ...],
    fill: str | float | None,
    gaps: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return the position of each value among the declared ones, shape (n,)."""
    place = {value: position for position, value in enumerate(categories)}
    values = [str(fill) if gap else value for value, gap in zip(texts(raw).tolist(), gaps, strict=True)]
    codes = [place.get(value, -1) for value in values]
    if -1 in codes:
        row = codes.index(-1)
        raise InputError(
            f"{block.at(row, name)}: {values[row]!r} is not among columns.categories.{name}; "
            f"{suggest(values[row], categories)}"
        )
    return np.array(codes, dtype=np.int64)


def _as_float32(block: Block, name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values as float32; raises for one that is too big."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32, copy=False)
    too_big = np.isinf(narrow).reshape(len(narrow), -1).any(axis=1)
    if too_big.any():
        raise InputError(f"{block.at(int(too_big.argmax()), name)}: too big for a 32-bit number; change its unit")
    return narrow
