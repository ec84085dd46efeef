"""Uneven splits: Dirichlet draws over labels or over sizes, that leave no client short."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError

Rows = NDArray[np.int64]
Labels = NDArray[np.int64] | NDArray[np.float32]
Keys = Mapping[str, NDArray[Any]]

# Here a draw is equal shares to four digits already; near the float limit the shares would be NaN.
MAX_ALPHA = 1e9

# Whole draws tried before rows are moved. Low alpha with many clients almost never succeeds by luck,
# so more tries would cost time and still end in moving rows.
DRAWS = 10


@dataclass(frozen=True)
class _Skew:
    """The fields that Dirichlet and Quantity share, checked on construction."""

    alpha: float
    min_records: int = 1

    def __post_init__(self) -> None:
        name = type(self).__name__.lower()
        if not 0 < self.alpha <= MAX_ALPHA:  # NaN fails this too
            raise InputError(
                f"partition: {name} alpha is {self.alpha}; give a number above 0 and at most {MAX_ALPHA:g}"
            )
        if self.min_records < 1:
            raise InputError(f"partition: {name} min_records is {self.min_records}; give at least 1")


@dataclass(frozen=True)
class Dirichlet(_Skew):
    """Label skew: the rows of each class are shared among clients in Dirichlet(alpha) proportions.

    The per-class draw of Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks"
    (2019), so clients differ in size too. Not the draw of Hsu, Qi and Brown, "Measuring the Effects of
    Non-Identical Data Distribution" (2019), where each of equally large clients draws its class mix from
    Dirichlet(alpha times the class frequencies): equal alphas of the two do not mean equal skew.

    When a draw leaves a client with fewer than `min_records`, the whole draw is repeated with the same
    generator, ten draws in all. If none will do, as is usual with low alpha and many clients, rows of the
    last draw are moved one at a time from the largest client to the smallest (ties: the lowest client
    number), a random row of the largest each time. Nobody is then left short, and the split is a little
    less skewed than alpha alone would make it.

    Attributes
    ----------
    alpha : float
        Concentration, in (0, 1e9]: small means clients with few classes, large approaches `fl.data.Iid`.
    min_records : int
        Rows every client gets at least; at least 1.

    Raises
    ------
    InputError
        On construction, if a field is out of range.
    """

    def assign(self, labels: Labels, keys: Keys, num_clients: int, seed: int) -> list[Rows]:
        """Deal rows as `fl.data.Partitioner.assign` says; `keys` play no part.

        Raises
        ------
        InputError
            Also if the labels are real numbers, of which there are no classes to share out.
        """
        if labels.dtype.kind == "f":
            raise InputError("partition: 'dirichlet' shares out classes and a regression has none; use 'quantity'")
        check_enough(len(labels), num_clients, self.min_records)
        rng = np.random.default_rng(seed)
        for _ in range(DRAWS):
            parts = self._draw(labels, num_clients, rng)
            if min(len(rows) for rows in parts) >= self.min_records:
                break
        else:
            parts = _top_up(parts, self.min_records, rng)
        return [np.sort(rows) for rows in parts]

    def _draw(self, labels: Labels, num_clients: int, rng: np.random.Generator) -> list[Rows]:
        """Share out each class once; clients may be left with no rows."""
        pieces: list[list[Rows]] = [[] for _ in range(num_clients)]
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            cuts = _cuts(self.alpha, num_clients, len(rows), rng)
            for client, piece in zip(pieces, np.split(rows, cuts), strict=True):
                client.append(piece)
        return [np.concatenate(client) for client in pieces]


@dataclass(frozen=True)
class Quantity(_Skew):
    """Size skew: labels are dealt at random, sizes follow one Dirichlet(alpha) draw.

    Every client first gets `min_records` rows; the draw shares out the rest.

    Attributes
    ----------
    alpha : float
        Concentration, in (0, 1e9]: small means a few clients hold most rows.
    min_records : int
        Rows every client gets at least; at least 1.

    Raises
    ------
    InputError
        On construction, if a field is out of range.
    """

    def assign(self, labels: Labels, keys: Keys, num_clients: int, seed: int) -> list[Rows]:
        """Deal rows as `fl.data.Partitioner.assign` says; `labels` are only counted."""
        check_enough(len(labels), num_clients, self.min_records)
        rng = np.random.default_rng(seed)
        spare = len(labels) - self.min_records * num_clients
        cuts = _cuts(self.alpha, num_clients, spare, rng)
        cuts += self.min_records * np.arange(1, num_clients)
        return [np.sort(rows) for rows in np.split(rng.permutation(len(labels)), cuts)]


def check_enough(num_records: int, num_clients: int, min_records: int) -> None:
    """Check that there are clients, and rows enough for each.

    Parameters
    ----------
    num_records : int
        Rows to deal.
    num_clients : int
        Clients to deal them to.
    min_records : int
        Rows each client must get, at least 1.

    Raises
    ------
    InputError
        If there is no client, or some client would get too few.
    """
    if num_clients < 1:
        raise InputError(f"partition: num_clients is {num_clients}; give at least 1")
    if num_records < num_clients * min_records:
        most = num_records // min_records
        fix = f"use at most {most} clients" if most else "lower min_records"
        raise InputError(
            f"partition: {num_records} records cannot give {num_clients} clients at least {min_records} each; {fix}"
        )


def _cuts(alpha: float, num_clients: int, total: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw Dirichlet shares and return where to cut `total` rows for them."""
    ends = np.cumsum(rng.dirichlet(np.full(num_clients, alpha)))[:-1] * total
    # One random offset for all cuts (systematic sampling) makes each part's expected size exactly its share.
    # Rounding down, as is common, would give the last client half a row too much per class, which with
    # 100 classes and small clients doubles it.
    return np.floor(ends + rng.random()).astype(np.int64).clip(max=total)


def _top_up(parts: list[Rows], min_records: int, rng: np.random.Generator) -> list[Rows]:
    """Move rows from the largest part to the smallest until all have `min_records`."""
    # Shuffled first, so that taking the last row takes a random one and no class is favoured.
    stacks = [rng.permutation(rows).tolist() for rows in parts]
    while len(smallest := min(stacks, key=len)) < min_records:
        smallest.append(max(stacks, key=len).pop())
    return [np.array(stack, dtype=np.int64) for stack in stacks]
