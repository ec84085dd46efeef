"""How a split came out: rows per client, classes per client, label skew."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.data.records import Records
from shards.errors import InputError


def class_counts(clients: Sequence[Records]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count each client's records of each class.

    Parameters
    ----------
    clients : Sequence[Records]
        The rows of every client, at least one client with at least one row.

    Returns
    -------
    classes : NDArray[np.int64]
        The k labels that occur, increasing; for a regression, the tenths of all clients' targets, 0 to 9.
    counts : NDArray[np.int64]
        Shape (clients, k), in records.

    Raises
    ------
    InputError
        If there is no row at all.
    """
    if not sum(len(records) for records in clients):
        raise InputError("split: no client has a row; there is nothing to describe")
    labels: NDArray[Any] = np.concatenate([records.labels for records in clients])
    if labels.dtype.kind == "f":
        labels = np.searchsorted(np.quantile(labels, np.arange(1, 10) / 10), labels, side="right")
    classes, position = np.unique(labels, return_inverse=True)
    owner = np.repeat(np.arange(len(clients)), [len(records) for records in clients])
    counts = np.zeros((len(clients), len(classes)), dtype=np.int64)
    np.add.at(counts, (owner, position), 1)
    return classes, counts


def describe_split(clients: Sequence[Records]) -> dict[str, Any]:
    """Summarise how evenly records and labels fell among clients.

    Reads raw labels, so where privacy is on the result is for whoever owns all the data, as in a simulation.

    Parameters
    ----------
    clients : Sequence[Records]
        The rows of every client.

    Returns
    -------
    dict[str, Any]
        Ready for JSON: ``clients``, ``records`` and ``classes`` in total; ``records_per_client`` and
        ``classes_per_client``, each with ``min``, ``median`` and ``max``; ``shared_ids``, how many record
        ids more than one client holds (0 unless the source breaks its promise); and ``label_skew``, the
        mean over clients with rows, each counting once, of the total-variation distance
        ``0.5 * sum_c |p_client(c) - p_pooled(c)|``: 0 when all clients' labels are distributed alike,
        towards 1 when each holds classes few others hold.

    Raises
    ------
    InputError
        If there is no row at all.
    """
    classes, counts = class_counts(clients)
    sizes = counts.sum(axis=1)
    filled = counts[sizes > 0]
    shares = filled / filled.sum(axis=1, keepdims=True)
    pooled = counts.sum(axis=0) / counts.sum()
    _, holders = np.unique(np.concatenate([np.unique(records.ids) for records in clients]), return_counts=True)
    return {
        "clients": len(clients),
        "records": int(sizes.sum()),
        "classes": len(classes),
        "records_per_client": _spread(sizes),
        "classes_per_client": _spread((counts > 0).sum(axis=1)),
        "shared_ids": int((holders > 1).sum()),
        "label_skew": float(0.5 * np.abs(shares - pooled).sum(axis=1).mean()),
    }


def _spread(values: NDArray[np.int64]) -> dict[str, float]:
    """Return minimum, median and maximum as plain numbers."""
    return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}
