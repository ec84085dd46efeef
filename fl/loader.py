"""A loader of the app's own: ``data`` says where its files are, its code says how they are read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.data.csv_file import CsvFile
from fl.data.spec import Value
from fl.data.values import numbers, texts
from shards.errors import InputError
from shards.nearest import suggest


@dataclass(frozen=True)
class Place:
    """What a loader is told beside which client it loads.

    Attributes
    ----------
    folder : Path
        What ``data`` names; a relative path starts at the app's folder.
    seed : int
        The ``data-seed``: decides test rows and whatever else is drawn.
    options : tuple of (str, value)
        The app's own keys, without their prefix ``user.``, sorted.
    """

    folder: Path
    seed: int
    options: tuple[tuple[str, Value], ...] = ()

    @property
    def user(self) -> Mapping[str, Value]:
        """The app's own keys as a mapping."""
        return dict(self.options)


@dataclass(frozen=True)
class Loader:
    """A `load` function of the protocol made from ``load(client, num_clients, place)``."""

    function: Callable[..., object]
    place: Place

    def __call__(self, client: int, num_clients: int) -> object:
        """Return what the function does for this client."""
        return self.function(client, num_clients, self.place)


@dataclass(frozen=True)
class TestLoader:
    """A `load_test` function made from ``load_test(place)``."""

    function: Callable[..., object]
    place: Place

    def __call__(self) -> object:
        """Return what the function does."""
        return self.function(self.place)


def read_columns(path: Path, numeric: Sequence[str], text: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read columns of a CSV file with a header, plain or gzipped.

    Parameters
    ----------
    path : Path
        The file.
    numeric : sequence of str
        Columns of numbers: float64, shape (n,), NaN where missing.
    text : sequence of str
        Columns of text, shape (n,).

    Returns
    -------
    dict of str to NDArray
        The columns, by name.

    Raises
    ------
    InputError
        Naming file, line and column of what is missing or no number.
    """
    file = CsvFile(path)
    for name in (*numeric, *text):
        if name not in file.columns:
            raise InputError(f"{path}, line 1: no column {name!r}; {suggest(name, file.columns)}")
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in (*numeric, *text)}
    for block in file.blocks(list(parts)):
        for name in numeric:
            parts[name].append(numbers(block.columns[name], partial(block.at, column=name)))
        for name in text:
            parts[name].append(texts(block.columns[name]))
    return {name: np.concatenate(found) for name, found in parts.items()}
