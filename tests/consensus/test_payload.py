import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus import erasure, merkle
from consensus.messages import LIMIT, Chunk
from consensus.payload import Gather, Scatter
from shards.errors import InputError


def chunks_of(scatter, batch):
    root, pieces = scatter.split(batch)
    return root, [Chunk(0, 0, 1, root, index, len(batch), *piece) for index, piece in enumerate(pieces)]


def gather(scatter, root, size, chunks):
    gathered = Gather(root, size, scatter)
    assert all(gathered.add(chunk) for chunk in chunks)
    assert gathered.ready
    return gathered.rebuild()


def dishonest(scatter, size, pieces):
    """What a leader sends that encodes nothing, under a root that is right."""
    tree = merkle.Tree([size.to_bytes(8, "big") + piece for piece in pieces])
    return tree.root, [
        Chunk(0, 0, 1, tree.root, index, size, piece, tree.proof(index)) for index, piece in enumerate(pieces)
    ]


def test_up_to_255_replicas_each_hold_a_chunk_of_their_own():
    for n in range(1, 256):
        faults = (n - 1) // 3
        scatter = Scatter(n, faults)
        assert (scatter.chunks, scatter.needed) == (n, n - 2 * faults)
        assert [scatter.index(replica) for replica in range(n)] == list(range(n))


@pytest.mark.parametrize(
    ("n", "faults", "chunks", "needed"),
    # n=256 has 128 chunks of 2 holders, 170 absent, 85 vanish. n=301: 151 chunks, one with one holder; of 200
    # absent ones, one takes that, and 199 take 99 others. n=1000: 250 chunks of 4 holders, 666 absent, 166 vanish.
    [(256, 85, 128, 43), (301, 100, 151, 51), (1000, 333, 250, 84), (400, 133, 200, 67)],
)
def test_more_replicas_share_chunks(n, faults, chunks, needed):
    scatter = Scatter(n, faults)
    assert (scatter.chunks, scatter.needed) == (chunks, needed)


@pytest.mark.parametrize("most", [2, 3, 4, 255])
def test_t_is_exactly_what_the_fewest_chunks_left_are(most, monkeypatch):
    monkeypatch.setattr(erasure, "MOST", most)
    for n in range(1, 11):
        for faults in range((n - 1) // 2 + 1):
            scatter = Scatter(n, faults)
            fewest = min(
                len({scatter.index(replica) for replica in present})
                for present in itertools.combinations(range(n), n - 2 * faults)
            )
            assert scatter.needed == fewest >= 1
            assert scatter.chunks <= most


def test_greedy_removal_agrees_for_every_larger_number():
    for n in range(256, 1300, 7):
        faults = (n - 1) // 3
        scatter = Scatter(n, faults)
        holders = [0] * scatter.chunks
        for replica in range(n):
            holders[scatter.index(replica)] += 1
        absent, left = 2 * faults, sorted(holders)
        while left and left[0] <= absent:
            absent -= left.pop(0)
        assert scatter.needed == len(left)


def test_without_a_majority_of_correct_replicas_nothing_is_promised():
    with pytest.raises(InputError, match="2 faulty of 4 replicas"):
        Scatter(4, 2)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.binary(min_size=1, max_size=500), st.randoms(use_true_random=False))
def test_any_t_chunks_give_the_batch(n, batch, random):
    scatter = Scatter(n, (n - 1) // 3)
    root, chunks = chunks_of(scatter, batch)
    assert all(scatter.belongs(chunk) for chunk in chunks)
    assert gather(scatter, root, len(batch), random.sample(chunks, scatter.needed)) == batch


@settings(deadline=None, max_examples=60)
@given(st.integers(4, 20), st.binary(min_size=1, max_size=200), st.randoms(use_true_random=False))
def test_chunks_that_encode_no_batch_are_found_out_whichever_are_seen(n, batch, random):
    scatter = Scatter(n, (n - 1) // 3)
    pieces = erasure.encode(batch, scatter.needed, scatter.chunks)
    wrong = random.randrange(n)
    pieces[wrong] = bytes([pieces[wrong][0] ^ random.randint(1, 255)]) + pieces[wrong][1:]
    root, chunks = dishonest(scatter, len(batch), pieces)
    assert all(scatter.belongs(chunk) for chunk in chunks)
    answers = {gather(scatter, root, len(batch), random.sample(chunks, scatter.needed)) for _ in range(6)}
    assert answers == {None}


def test_every_choice_of_chunks_gives_the_same_answer():
    scatter = Scatter(7, 2)
    for wrong in range(7):
        pieces = erasure.encode(b"a batch of some bytes", 3, 7)
        pieces[wrong] = bytes(len(pieces[wrong]))
        root, chunks = dishonest(scatter, 21, pieces)
        answers = {gather(scatter, root, 21, chosen) for chosen in itertools.combinations(chunks, 3)}
        assert answers == {None}


def test_padding_that_is_not_zero_is_no_batch():
    scatter = Scatter(4, 1)
    pieces = erasure.encode(b"abc\x01", 2, 4)
    root, chunks = dishonest(scatter, 3, pieces)
    assert gather(scatter, root, 3, chunks[2:]) is None


def test_the_size_is_part_of_the_root():
    scatter = Scatter(4, 1)
    short, long = scatter.split(b"abc"), scatter.split(b"abc\0")
    assert [piece for piece, _ in short[1]] == [piece for piece, _ in long[1]]
    assert short[0] != long[0]
    gathered = Gather(short[0], 4, scatter)
    assert not gathered.add(Chunk(0, 0, 1, short[0], 0, 4, *short[1][0]))


@pytest.fixture
def seven():
    scatter = Scatter(7, 2)
    return scatter, *chunks_of(scatter, bytes(range(100)))


@pytest.mark.parametrize(
    "change",
    [
        {"root": bytes(32)},
        {"root": b""},
        {"index": 1},
        {"index": -1},
        {"index": 7},
        {"index": 2**63},
        {"size": 101},
        {"size": 99},
        {"size": 0},
        {"size": -100},
        {"size": 2**63},
        {"data": b""},
        {"data": bytes(34)},
        {"data": bytes(35)},
        {"proof": ()},
        {"proof": (bytes(32),) * 3},
        {"proof": (b"",) * 3},
    ],
)
def test_a_chunk_that_is_not_of_the_batch_is_not_taken(seven, change):
    scatter, root, chunks = seven
    bad = replace(chunks[0], **change)
    gathered = Gather(root, 100, scatter)
    assert not scatter.belongs(bad)
    assert not gathered.add(bad)
    assert gathered.add(chunks[0])


def test_a_chunk_counts_once_and_no_more_are_kept_than_needed(seven):
    scatter, root, chunks = seven
    gathered = Gather(root, 100, scatter)
    assert [gathered.add(chunk) for chunk in (chunks[6], chunks[6], chunks[2], chunks[5], chunks[4])] == [
        True, False, True, True, False,
    ]  # fmt: skip
    assert gathered.rebuild() == bytes(range(100))


def test_rebuilding_too_early_is_a_mistake(seven):
    scatter, root, _ = seven
    gathered = Gather(root, 100, scatter)
    assert not gathered.ready
    with pytest.raises(ValueError, match="3 chunks of 34 bytes"):
        gathered.rebuild()


@pytest.mark.parametrize("size", [0, -1, LIMIT + 1, 2**63])
def test_a_size_that_no_batch_has_takes_no_memory(seven, size):
    scatter, root, chunks = seven
    tracemalloc.start()
    gathered = Gather(root, size, scatter)
    taken = [gathered.add(replace(chunk, size=size)) for chunk in chunks]
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    assert not any(taken)
    assert not gathered.ready
