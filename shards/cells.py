"""Rows grouped so finely that no cut and no condition tells the rows of a group apart, and boxes made of such groups.

Scoring every possible cut of a box then takes a few small matrix products, however many rows there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.conditions import Between, Condition, OneOf, Window
from shards.cost import CodedRows
from shards.layout import Cut, Layout, Node
from shards.request import Request
from shards.scalar import Scalar, is_in
from shards.zone import MAX_COUNTED

Question = tuple[str, Scalar | frozenset[Scalar]]
"""A cut without its branches: a key, and a value (is the key below it?) or a set (is the key in it?)."""


@dataclass(frozen=True, eq=False)
class Box:
    """Some cells as one box of a layout.

    Attributes
    ----------
    inside : NDArray[np.int64]
        Which cells.
    bytes : float
        Of their rows.
    scanned : float
        Bytes read for all requests.
    saved : float
        How many fewer they would be after the best cut; 0 where no cut saves anything.
    question : int
        The best cut.
    parts : int
        Shards that a keyed hash makes of the box.
    fresh : bool
        Whether its shards are to be written anyway.
    """

    inside: NDArray[np.int64]
    bytes: float
    scanned: float
    saved: float
    question: int
    parts: int
    fresh: bool


@dataclass(frozen=True, eq=False)
class Cells:
    """C groups of rows, Q cuts that may be made, D different conditions, R requests.

    Attributes
    ----------
    questions : tuple of Question
        Where cuts may be made: where the layout cuts today, and at the bounds of the requests' conditions.
    answers : NDArray[np.float64]
        1 where a cell's rows answer yes, shape (C, Q).
    met : NDArray[np.float64]
        1 where a cell's rows meet the condition, shape (C, D).
    needs : NDArray[np.float64]
        1 where the request is made of the condition, among others, shape (D, R).
    rows, bytes : NDArray[np.float64]
        Size of each cell, whole numbers, shape (C,).
    min_rows : int
        No cut makes a box of fewer rows.
    """

    questions: tuple[Question, ...]
    answers: NDArray[np.float64]
    met: NDArray[np.float64]
    needs: NDArray[np.float64]
    rows: NDArray[np.float64]
    bytes: NDArray[np.float64]
    min_rows: int

    @staticmethod
    def of(rows: CodedRows, requests: Sequence[Request], layout: Layout, min_rows: int) -> "Cells":
        """Group rows for requests and a layout, both bound to the keys' kinds."""
        conditions = list(dict.fromkeys(c for request in requests for c in request.conditions))
        questions = list(dict.fromkeys([*_cuts(layout.root), *(q for c in conditions for q in _bounds(c))]))
        keys = [key for key, _ in questions] + [condition.key for condition in conditions]
        cell = np.zeros(len(rows), np.int64)
        truths: dict[int, NDArray[np.bool_]] = {}
        for key in sorted(set(keys)):
            values = rows.values[key]
            places = [place for place, name in enumerate(keys) if name == key]
            for place in places:
                asked = place < len(questions)
                truths[place] = (
                    _answers(questions[place][1], values) if asked
                    else _mask(conditions[place - len(questions)], values)
                )  # fmt: skip
            packed = np.packbits(np.stack([truths[place] for place in places], axis=1), axis=1)
            _, pattern = np.unique(packed.view(f"V{packed.shape[1]}").ravel(), return_inverse=True)
            pair = cell * (int(pattern.max(initial=0)) + 1) + pattern[rows.codes[key]]
            _, cell = np.unique(pair, return_inverse=True)
        _, first = np.unique(cell, return_index=True)
        table = np.zeros((len(first), len(keys)))
        for place, key in enumerate(keys):
            table[:, place] = truths[place][rows.codes[key][first]]
        needs = np.array([[c in request.conditions for request in requests] for c in conditions], float)
        return Cells(
            tuple(questions),
            table[:, : len(questions)],
            table[:, len(questions) :],
            needs.reshape(len(conditions), len(requests)),
            np.bincount(cell, minlength=len(first)).astype(float),
            np.bincount(cell, rows.sizes, minlength=len(first)).astype(float),
            min_rows,
        )

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.rows)

    def box(self, inside: NDArray[np.int64], parts: int = 1, fresh: bool = True) -> Box:
        """Score cells as one box, and find its best cut.

        A request reads a box when each of its conditions is met by some row there, the same one or another: what a
        zone map can tell (but for gaps in a range of more values than a zone counts).
        """
        answers, sizes, rows = self.answers[inside], self.bytes[inside], self.rows[inside]
        met = self.met[inside]
        met_yes, total = answers.T @ met, float(sizes.sum())
        scanned = float(self._reading(met.sum(0)[None])[0]) * total
        bytes_yes, rows_yes = answers.T @ sizes, answers.T @ rows
        reading_yes, reading_no = self._reading(met_yes), self._reading(met.sum(0) - met_yes)
        saved = scanned - reading_yes * bytes_yes - reading_no * (total - bytes_yes)
        saved[np.minimum(rows_yes, rows.sum() - rows_yes) < self.min_rows] = 0
        question = int(saved.argmax()) if len(saved) else 0
        return Box(inside, total, scanned, max(float(saved.max(initial=0)), 0.0), question, parts, fresh)

    def split(self, inside: NDArray[np.int64], question: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Part cells by a question: those that answer yes, and those that answer no."""
        yes = self.answers[inside, question] > 0
        return inside[yes], inside[~yes]

    def _reading(self, met: NDArray[np.float64]) -> NDArray[np.float64]:
        """Count the requests that read each part, given how many of its cells meet each condition: (parts, D)."""
        counts: NDArray[np.float64] = (((met > 0) @ self.needs) == self.needs.sum(0)).sum(1).astype(float)
        return counts


def _cuts(node: Node) -> Iterator[Question]:
    if isinstance(node, Cut):
        yield node.key, node.at
        yield from _cuts(node.yes)
        yield from _cuts(node.no)


def _bounds(condition: Condition) -> Iterator[Question]:
    """Yield the cuts that a condition suggests; a long list of values would make a layout as long, so none there."""
    if isinstance(condition, Between):
        yield from ((condition.key, bound) for bound in (condition.low, condition.high) if bound is not None)
    elif isinstance(condition, OneOf) and len(condition.values) <= MAX_COUNTED:
        yield condition.key, frozenset(condition.values)


def _answers(at: Scalar | frozenset[Scalar], values: NDArray[Any]) -> NDArray[np.bool_]:
    return is_in(values, at) if isinstance(at, frozenset) else np.asarray(values < at)


def _mask(condition: Condition, values: NDArray[Any]) -> NDArray[np.bool_]:
    assert not isinstance(condition, Window), "windows were resolved when the request was bound"
    return condition.mask(values)
