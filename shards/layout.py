"""Layouts: trees of cuts that send each record to one of at most K boxes."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError
from shards.scalar import Kind, Scalar, bind, bind_bound, from_json, is_in, known_kind, to_json
from shards.table import Table


@dataclass(frozen=True)
class Leaf:
    """The end of a branch: one box, or `parts` boxes among which a keyed hash of the record id chooses."""

    parts: int = 1

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise InputError(f"layout: a leaf of {self.parts} parts; give at least 1")


@dataclass(frozen=True)
class Cut:
    """A question about one key, and where a record goes by its answer.

    Attributes
    ----------
    key : str
        Which key is asked for.
    at : Scalar or frozenset of Scalar
        A value: is the key below it? A set: is the key in it?
    yes, no : Cut or Leaf
        Where records go for which the answer is yes, or no.
    """

    key: str
    at: Scalar | frozenset[Scalar]
    yes: "Cut | Leaf"
    no: "Cut | Leaf"


Node = Cut | Leaf


@dataclass(frozen=True)
class Layout:
    """A cut of one client's records into boxes, disjoint and covering by construction.

    A record's box is a function of its own keys and id alone. Boxes are numbered as the tree is read from left
    (`yes`) to right (`no`).

    Attributes
    ----------
    root : Cut or Leaf
        The tree.
    salt : bytes
        Key of the hash that splits leaves of several parts, at most 64 bytes.
    """

    root: Node = field(default_factory=Leaf)
    salt: bytes = b""

    @staticmethod
    def single() -> "Layout":
        """Return the layout of one box."""
        return Layout()

    @staticmethod
    def hashed(parts: int, salt: bytes = b"") -> "Layout":
        """Return the layout that cuts by a hash of the record id alone."""
        return Layout(Leaf(parts), salt)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves from left to right."""
        return tuple(_leaves(self.root))

    @property
    def boxes(self) -> int:
        """How many boxes there are, those that no record falls into among them."""
        return sum(leaf.parts for leaf in self.leaves)

    def bind(self, kinds: Mapping[str, Kind]) -> "Layout":
        """Return the layout with every cut of the kind of its key.

        Raises
        ------
        InputError
            If a key is unknown or a cut is of another kind.
        """
        return replace(self, root=_bind(self.root, kinds))

    def assign(self, table: Table) -> NDArray[np.int64]:
        """Return the box of each row, shape (n,); payload columns are not looked at.

        Raises
        ------
        InputError
            If a key is unknown or a cut is of another kind.
        """
        root = _bind(self.root, table.kinds)
        boxes = np.empty(len(table), np.int64)
        first = 0
        for leaf, rows in _reached(root, table, np.arange(len(table))):
            boxes[rows] = first + (self._parts(table.ids[rows], leaf.parts) if leaf.parts > 1 else 0)
            first += leaf.parts
        return boxes

    def _parts(self, ids: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
        """Choose a part for each id: BLAKE2b keyed by the salt, over the id's eight bytes, modulo `parts`."""
        data = ids.astype("<i8").tobytes()
        digests = b"".join(
            hashlib.blake2b(data[at : at + 8], key=self.salt, digest_size=8).digest() for at in range(0, len(data), 8)
        )
        return (np.frombuffer(digests, "<u8") % np.uint64(parts)).astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON values."""
        return {"salt": self.salt.hex(), "root": _node_to_json(self.root)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Layout":
        """Return the layout that `to_json` wrote."""
        return Layout(_node_from_json(data["root"]), bytes.fromhex(data["salt"]))


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        yield from _leaves(node.yes)
        yield from _leaves(node.no)


def _bind(node: Node, kinds: Mapping[str, Kind]) -> Node:
    if isinstance(node, Leaf):
        return node
    kind = known_kind(node.key, kinds)
    at: Scalar | frozenset[Scalar]
    if isinstance(node.at, frozenset):
        at = frozenset(bind(value, kind, node.key) for value in node.at)
    else:
        at = bind_bound(node.at, kind, node.key)
    return Cut(node.key, at, _bind(node.yes, kinds), _bind(node.no, kinds))


def _reached(node: Node, table: Table, rows: NDArray[np.int64]) -> Iterator[tuple[Leaf, NDArray[np.int64]]]:
    """Yield each leaf with the rows that reach it."""
    if isinstance(node, Leaf):
        yield node, rows
        return
    values = table.key(node.key)[rows]
    yes = is_in(values, node.at) if isinstance(node.at, frozenset) else values < node.at
    yield from _reached(node.yes, table, rows[yes])
    yield from _reached(node.no, table, rows[~yes])


def _node_to_json(node: Node) -> Any:
    if isinstance(node, Leaf):
        return node.parts
    if isinstance(node.at, frozenset):
        values = sorted(node.at, key=lambda value: (type(value).__name__, value))
        question: dict[str, Any] = {"in": [to_json(value) for value in values]}
    else:
        question = {"below": to_json(node.at)}
    return {"key": node.key, **question, "yes": _node_to_json(node.yes), "no": _node_to_json(node.no)}


def _node_from_json(data: Any) -> Node:
    if isinstance(data, int):
        return Leaf(data)
    at = frozenset(map(from_json, data["in"])) if "in" in data else from_json(data["below"])
    return Cut(data["key"], at, _node_from_json(data["yes"]), _node_from_json(data["no"]))
