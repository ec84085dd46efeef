import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.merkle import Tree, verify


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def test_a_tree_of_three_is_the_one_built_by_hand():
    a, b, c = (sha(b"\0", leaf) for leaf in (b"a", b"b", b"c"))
    ab = sha(b"\1", a, b)
    tree = Tree([b"a", b"b", b"c"])
    assert tree.root == sha(b"\2", (3).to_bytes(8, "big"), sha(b"\1", ab, c))
    assert [tree.proof(i) for i in range(3)] == [(b, c), (a, c), (ab,)]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 33, 100, 255, 256])
def test_every_leaf_is_proved_at_its_place_and_at_no_other(n):
    leaves = [b"same leaf"] * n
    tree = Tree(leaves)
    for index in range(n):
        proof = tree.proof(index)
        assert verify(tree.root, index, n, leaves[index], proof)
        assert len(proof) <= (n - 1).bit_length()
    for index in range(n):
        proof = tree.proof(index)
        assert not verify(tree.root, index, n, b"another leaf", proof)
        assert not verify(tree.root, n, n, leaves[index], proof)
        assert not verify(tree.root, -1, n, leaves[index], proof)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40, unique=True), st.data())
def test_a_leaf_passes_at_its_own_place_only(leaves, data):
    tree, n = Tree(leaves), len(leaves)
    index, place = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    assert verify(tree.root, place, n, leaves[index], tree.proof(index)) == (place == index)
    assert verify(tree.root, index, n, leaves[place], tree.proof(index)) == (place == index)


def test_an_inner_node_does_not_pass_for_a_leaf():
    leaves = [b"a", b"b", b"c", b"d"]
    tree = Tree(leaves)
    left = sha(b"\0", b"a") + sha(b"\0", b"b")
    right = sha(b"\1", sha(b"\0", b"c"), sha(b"\0", b"d"))
    for forged in (left, b"\1" + left):
        assert not verify(tree.root, 0, 2, forged, (right,))
        assert Tree([forged, b"c", b"d"]).root != tree.root


def test_the_number_of_leaves_is_part_of_the_root():
    tree = Tree([b"a", b"b", b"c"])
    assert verify(tree.root, 2, 3, b"c", tree.proof(2))
    assert not verify(tree.root, 1, 2, b"c", tree.proof(2))  # the same path, in a smaller tree
    assert Tree([b"a"]).root != Tree([b"a", b"a"]).root


@given(st.integers(1, 20), st.data())
def test_a_changed_proof_fails(n, data):
    tree = Tree([bytes([i]) for i in range(n)])
    index = data.draw(st.integers(0, n - 1))
    proof, leaf = list(tree.proof(index)), bytes([index])
    assert not verify(tree.root, index, n, leaf, [*proof, bytes(32)])
    assert not verify(sha(tree.root), index, n, leaf, proof)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        before, after = proof[:place], proof[place + 1 :]
        assert not verify(tree.root, index, n, leaf, proof[:-1])
        assert not verify(tree.root, index, n, leaf, [*before, bytes(32), *after])
        assert not verify(tree.root, index, n, leaf, [*before, proof[place][:-1], *after])
