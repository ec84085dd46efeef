"""Ways to deal one data set's rows to clients; every split is a function of its arguments alone."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fl.data.skew import Dirichlet, Keys, Labels, Quantity, Rows, check_enough
from shards.errors import InputError
from shards.nearest import suggest


class Partitioner(Protocol):
    """A way to deal rows to clients. Implementations must be hashable, since splits are cached by them."""

    def assign(self, labels: Labels, keys: Keys, num_clients: int, seed: int) -> list[Rows]:
        """Deal every row to exactly one client.

        Parameters
        ----------
        labels : NDArray[np.int64] or NDArray[np.float32]
            Class, or target of a regression, of each row, shape (n,).
        keys : Mapping[str, NDArray]
            Key columns, each of shape (n,).
        num_clients : int
            Number of clients.
        seed : int
            The only source of chance; at least 0.

        Returns
        -------
        list[NDArray[np.int64]]
            Per client its row numbers, increasing. Disjoint, covering, none empty.

        Raises
        ------
        InputError
            If the rows cannot be dealt to that many clients.
        """
        ...


@dataclass(frozen=True)
class Iid:
    """A uniformly random split into parts whose sizes differ by at most one row."""

    def assign(self, labels: Labels, keys: Keys, num_clients: int, seed: int) -> list[Rows]:
        """Deal rows as `Partitioner.assign` says; `keys` play no part."""
        check_enough(len(labels), num_clients, 1)
        order = np.random.default_rng(seed).permutation(len(labels))
        return [np.sort(rows) for rows in np.array_split(order, num_clients)]


@dataclass(frozen=True)
class ByColumn:
    """A natural split: all rows that share a key's value go to one client.

    The distinct values, sorted, are dealt in turn: value i to client i modulo the number of clients.

    Attributes
    ----------
    column : str
        Name of the key column, such as ``"user"``.
    """

    column: str

    def assign(self, labels: Labels, keys: Keys, num_clients: int, seed: int) -> list[Rows]:
        """Deal rows as `Partitioner.assign` says; nothing is random, so `seed` plays no part.

        Raises
        ------
        InputError
            Also if the column is unknown or has fewer distinct values than there are clients.
        """
        check_enough(len(labels), num_clients, 1)
        if self.column not in keys:
            raise InputError(f"partition: there is no key column {self.column!r}; {suggest(self.column, keys)}")
        values, position = np.unique(keys[self.column], return_inverse=True)
        if len(values) < num_clients:
            raise InputError(
                f"partition: key column {self.column!r} has {len(values)} distinct values for "
                f"{num_clients} clients; use at most {len(values)} clients or another column"
            )
        owner = position % num_clients
        return [np.flatnonzero(owner == client) for client in range(num_clients)]


NAMES = ("iid", "dirichlet", "quantity", "column")


def make_partitioner(
    name: str, *, alpha: float = 0.5, column: str | None = None, min_records: int = 1
) -> Partitioner:
    """Build a partitioner from the words of a run's settings.

    Parameters
    ----------
    name : str
        ``"iid"``, ``"dirichlet"``, ``"quantity"`` or ``"column"``.
    alpha : float
        Concentration for ``"dirichlet"`` and ``"quantity"``, in (0, 1e9].
    column : str, optional
        Key column for ``"column"``.
    min_records : int
        Least rows per client for ``"dirichlet"`` and ``"quantity"``; the others never leave one empty.

    Returns
    -------
    Partitioner
        The partitioner; what its kind does not use is ignored.

    Raises
    ------
    InputError
        If the name is unknown, a field is out of range, or ``"column"`` has no column.
    """
    match name:
        case "iid":
            return Iid()
        case "dirichlet":
            return Dirichlet(alpha, min_records)
        case "quantity":
            return Quantity(alpha, min_records)
        case "column":
            if not column:
                raise InputError("partition: 'column' needs the name of a key column, such as 'user'")
            return ByColumn(column)
    raise InputError(f"partition: there is no partition {name!r}; {suggest(name, NAMES)}")
