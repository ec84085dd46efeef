"""What the columns of a user's files mean: the ``[tool.flwr.app.config.columns]`` table, read once and checked."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from shards.errors import InputError
from shards.nearest import suggest

Value = str | int | float | bool

DATA_PREFIX = "columns."
"""Every configuration key that `DataSpec` owns starts with it."""

KEY_ROLES = ("time", "region", "class", "user")
"""Columns that become keys of the same names."""

_ROLES = ("target", *KEY_ROLES, "id", "client")
_TABLES = ("bounds", "categories", "fill")
DATA_KEYS = tuple(
    f"{DATA_PREFIX}{name}" for name in (*_ROLES, "features", "missing", *(f"{table}.<column>" for table in _TABLES))
)
"""The keys, for messages that list them; ``<column>`` stands for any column of the user's."""

MISSING_POLICIES = ("error", "drop", "indicate")


@dataclass(frozen=True)
class DataSpec:
    """The meaning of columns, each named as in the file's header.

    All of it is configuration, so it is public: nothing here is computed from records, and neither is any scaling.

    Attributes
    ----------
    target : str
        What is learned: class indices or declared categories, or, for regression, real numbers.
    features : tuple of str
        Model inputs in this order; empty for every numeric column without another role, in the file's order.
    time, region, class_, user : str
        Key columns, empty for none. Time becomes UTC, the others text.
    id : str
        Column of record ids, whole numbers or text. Empty: an id derives from file name and row number.
    client : str
        Column that says whose row it is. Empty: files, or the partitioner, decide.
    missing : "error", "drop" or "indicate"
        What an empty value without a fill does: end the run, or drop its record. ``indicate`` adds, for each
        numeric feature with a fill, one that is 1 where the value was missing.
    bounds : tuple of (str, (float, float))
        Public bounds of features, which are scaled by them to [0, 1] and clipped.
    categories : tuple of (str, tuple of str)
        Public values of text columns: a feature is one-hot over them, the target is the position among them.
    fill : tuple of (str, str or float)
        Public constants that stand for missing values of features.
    """

    target: str = ""
    features: tuple[str, ...] = ()
    time: str = ""
    region: str = ""
    class_: str = ""
    user: str = ""
    id: str = ""
    client: str = ""
    missing: Literal["error", "drop", "indicate"] = "error"
    bounds: tuple[tuple[str, tuple[float, float]], ...] = ()
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    fill: tuple[tuple[str, str | float], ...] = ()

    @classmethod
    def read(cls, config: Mapping[str, Value], where: str = "[tool.flwr.app.config]") -> "DataSpec":
        """Take the keys under `DATA_PREFIX` from a run configuration; all others are left to others.

        Parameters
        ----------
        config : Mapping[str, str | int | float | bool]
            The flattened run configuration.
        where : str
            Names the configuration in errors.

        Returns
        -------
        DataSpec
            Hashable, and equal for equal configurations.

        Raises
        ------
        InputError
            For a key that is unknown (suggesting the near one), a value that does not parse, or keys that
            contradict each other.
        """
        values: dict[str, str | tuple[str, ...]] = {}
        tables: dict[str, list[tuple[str, object]]] = {table: [] for table in _TABLES}
        for key, value in config.items():
            if not key.startswith(DATA_PREFIX):
                continue
            name, _, column = key.removeprefix(DATA_PREFIX).partition(".")
            said = f"{where}: {key} = {value!r}"
            if name in _TABLES:
                if not column:
                    raise InputError(f"{said}: name the column, as in columns.{name}.<column>")
                tables[name].append((column, _PARSERS[name](value, said)))
            elif name == "scale":
                raise InputError(
                    f"{said}: features are scaled by public bounds alone, columns.bounds.<column>; statistics of the "
                    "records would have to be charged to their privacy budget, which is not built yet"
                )
            elif key not in DATA_KEYS:
                raise InputError(f"{where}: unknown key '{key}'; {suggest(key, DATA_KEYS)}")
            elif name == "features":
                values[name] = _names(value, said)
            elif not isinstance(value, str):
                raise InputError(f"{said}: expected a {'word' if name == 'missing' else 'column name'}")
            elif name != "missing" or value in MISSING_POLICIES:
                values["class_" if name == "class" else name] = value.strip()
            else:
                raise InputError(f"{said}: {suggest(value, MISSING_POLICIES)}")
        spec = cls(**values, **{table: tuple(sorted(pairs)) for table, pairs in tables.items()})  # type: ignore[arg-type]
        spec._check(where)
        return spec

    @property
    def keys(self) -> dict[str, str]:
        """The key columns: from key name to column name."""
        roles = {role: getattr(self, "class_" if role == "class" else role) for role in KEY_ROLES}
        return {role: column for role, column in roles.items() if column}

    @property
    def roles(self) -> dict[str, str]:
        """Every column with a role other than feature: from configuration key to column name."""
        named = {"target": self.target, **self.keys, "id": self.id, "client": self.client}
        return {f"{DATA_PREFIX}{role}": column for role, column in named.items() if column}

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield (table, column) for every entry of bounds, categories and fill."""
        for table in _TABLES:
            for column, _ in getattr(self, table):
                yield table, column

    def __bool__(self) -> bool:
        """Whether anything was configured."""
        return any(getattr(self, field.name) != field.default for field in fields(self))

    def _check(self, where: str) -> None:
        """Raise for keys that contradict each other."""
        for name in self.features:
            if name == self.target:
                raise InputError(
                    f"{where}: columns.features names the target {name!r}; a model would copy it; remove it"
                )
        for table, name in self.described():
            if name == self.target and table != "categories":
                raise InputError(f"{where}: columns.{table}.{name}: the target is never changed; remove it")
            if self.features and name not in (*self.features, self.target):
                raise InputError(f"{where}: columns.{table}.{name}: not a feature; {suggest(name, self.features)}")
        both = dict(self.bounds).keys() & dict(self.categories).keys()
        if both:
            raise InputError(f"{where}: column {min(both)!r} has both bounds and categories; remove one")
        categories, bounds = dict(self.categories), dict(self.bounds)
        for name, value in self.fill:
            if name in categories and str(value) not in categories[name]:
                raise InputError(
                    f"{where}: columns.fill.{name} = {value!r}: not among its categories; "
                    f"{suggest(str(value), categories[name])}"
                )
            if name not in categories and isinstance(value, str):
                raise InputError(f"{where}: columns.fill.{name} = {value!r}: expected a number")
            if name in bounds and not bounds[name][0] <= float(value) <= bounds[name][1]:
                raise InputError(f"{where}: columns.fill.{name} = {value!r}: outside columns.bounds.{name}")


def _names(value: Value, said: str) -> tuple[str, ...]:
    """Split a comma-separated list of column names."""
    names = tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else None
    if names is None or len(set(names)) < len(names):
        raise InputError(f"{said}: expected different column names with commas between, such as 'age, weight'")
    return names


def _bounds(value: Value, said: str) -> tuple[float, float]:
    """Parse ``low..high``."""
    try:
        low, high = (float(end) for end in str(value).split("..", 1))
    except ValueError:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:  # NaN fails this too
        raise InputError(f"{said}: expected 'low..high' with low below high, such as '0..200'")
    return low, high


def _categories(value: Value, said: str) -> tuple[str, ...]:
    """Split values at bars."""
    names = tuple(name.strip() for name in str(value).split("|"))
    if not all(names) or len(set(names)) < len(names):
        raise InputError(f"{said}: expected different values with bars between, such as 'f|m'")
    return names


def _fill(value: Value, said: str) -> str | float:
    """Check a constant."""
    if isinstance(value, bool) or (not isinstance(value, str) and not math.isfinite(value)):
        raise InputError(f"{said}: expected a finite number or a category")
    return value


_PARSERS = {"bounds": _bounds, "categories": _categories, "fill": _fill}
