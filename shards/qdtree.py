"""Trees of cuts that skip the most bytes for given requests, grown from nothing or changed step by step.

The tree is the Qd-tree of Yang et al. (SIGMOD 2020) with its greedy construction: cuts are made where requests begin
and end. Changing a tree by small steps, priced by what each rewrites, is ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from shards.cells import Box, Cells
from shards.layout import Cut, Layout, Leaf, Node


@dataclass(frozen=True, eq=False)
class Fork:
    """A cut: a question, and where yes and no lead."""

    question: int
    yes: "Fork | Box"
    no: "Fork | Box"


Tree = Fork | Box


def grow(cells: Cells, max_boxes: int) -> Tree:
    """Cut the box whose best cut saves most, until there are `max_boxes` or nothing can be saved."""
    tree: Tree = cells.box(np.arange(len(cells)))
    while size(tree) < max_boxes:
        box = max(boxes(tree), key=lambda box: box.saved)
        if box.saved == 0:
            break
        tree = _cut(cells, tree, box)
    return tree


def load(cells: Cells, layout: Layout, fresh: frozenset[int]) -> Tree:
    """Give a layout, whose cuts are among the questions, as a tree; `fresh` are boxes to be written anyway."""
    places = {question: place for place, question in enumerate(cells.questions)}
    numbers = count()

    def tree(node: Node, inside: NDArray[np.int64]) -> Tree:
        if isinstance(node, Leaf):
            return cells.box(inside, node.parts, fresh.issuperset(islice(numbers, node.parts)))
        question = places[node.key, node.at]
        yes, no = cells.split(inside, question)
        return Fork(question, tree(node.yes, yes), tree(node.no, no))

    return tree(layout.root, np.arange(len(cells)))


def step(cells: Cells, tree: Tree, max_boxes: int, alpha: float) -> Tree | None:
    """Make the one change that pays best: cut a box, and drop another cut where the boxes are used up.

    Parameters
    ----------
    cells : Cells
        What the tree is made of.
    tree : Fork or Box
        What to change; it stays as it is.
    max_boxes : int
        The most boxes there may be.
    alpha : float
        Price of writing a byte, in bytes read for all requests.

    Returns
    -------
    Fork or Box or None
        The changed tree; None where no change pays.
    """

    def cost(tree: Tree) -> tuple[float, float]:
        scanned = sum(box.scanned for box in boxes(tree))
        return scanned - alpha * sum(map(_unwritten, boxes(tree))), scanned

    changed: list[Tree] = []
    for start in [tree] if size(tree) < max_boxes else _with_a_cut_dropped(cells, tree):
        box = max(boxes(start), key=lambda box: box.saved - alpha * _unwritten(box))
        if box.saved > 0:
            changed.append(_cut(cells, start, box))
    best = min(changed, key=cost, default=tree)
    return best if cost(best) < cost(tree) else None


def to_layout(cells: Cells, tree: Tree, salt: bytes) -> Layout:
    """Give a tree as a layout."""

    def node(tree: Tree) -> Node:
        if isinstance(tree, Box):
            return Leaf(tree.parts)
        return Cut(*cells.questions[tree.question], node(tree.yes), node(tree.no))

    return Layout(node(tree), salt)


def boxes(tree: Tree) -> Iterator[Box]:
    """Yield the boxes from left to right."""
    if isinstance(tree, Box):
        yield tree
    else:
        yield from boxes(tree.yes)
        yield from boxes(tree.no)


def size(tree: Tree) -> int:
    """Count the shards that a tree makes."""
    return sum(box.parts for box in boxes(tree))


def _cut(cells: Cells, tree: Tree, box: Box) -> Tree:
    """Give the tree with a box of it cut in two by its best question."""
    if tree is box:
        yes, no = cells.split(box.inside, box.question)
        return Fork(box.question, cells.box(yes), cells.box(no))
    if isinstance(tree, Box):
        return tree
    return Fork(tree.question, _cut(cells, tree.yes, box), _cut(cells, tree.no, box))


def _with_a_cut_dropped(cells: Cells, tree: Tree) -> Iterator[Tree]:
    """Yield the tree without one of its cuts, for each that has a box on a side; the box goes to the other side."""
    if isinstance(tree, Fork):
        for side, other in ((tree.yes, tree.no), (tree.no, tree.yes)):
            if isinstance(side, Box):
                yield _absorb(cells, other, side.inside)
        yield from (Fork(tree.question, yes, tree.no) for yes in _with_a_cut_dropped(cells, tree.yes))
        yield from (Fork(tree.question, tree.yes, no) for no in _with_a_cut_dropped(cells, tree.no))


def _absorb(cells: Cells, tree: Tree, inside: NDArray[np.int64]) -> Tree:
    """Give the tree with further cells in it, where its cuts send them; boxes that get none stay as they are."""
    if len(inside) == 0:
        return tree
    if isinstance(tree, Box):
        return cells.box(np.concatenate([tree.inside, inside]), tree.parts)
    yes, no = cells.split(inside, tree.question)
    return Fork(tree.question, _absorb(cells, tree.yes, yes), _absorb(cells, tree.no, no))


def _unwritten(box: Box) -> float:
    """Bytes that would have to be written if the box were changed, and else would not."""
    return 0.0 if box.fresh else box.bytes
