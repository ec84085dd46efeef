import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.erasure import MOST, PRODUCT, chunk_length, decode, encode


@st.composite
def codes(draw):
    n = draw(st.integers(1, MOST))
    return draw(st.integers(1, n)), n


def slow_product(a, b):
    """Shift and add, as in a textbook."""
    total = 0
    while b:
        total ^= a if b & 1 else 0
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return total


def test_products_are_those_computed_by_hand():
    # 0x80·2 = x^8 = x^4+x^3+x^2+1 = 0x1d; 3·3 = (x+1)^2 = x^2+1 = 5; 0x53·2 = 0xa6 without carry;
    # 2^25 = 3 (log table of 0x11d); 0x8e = 1/2, since 2·0x8e = 0x11c - 0x11d = 1.
    assert PRODUCT[0x80, 2] == 0x1D
    assert PRODUCT[3, 3] == 5
    assert PRODUCT[0x53, 2] == 0xA6
    assert PRODUCT[0x8E, 2] == 1
    assert PRODUCT[0, 77] == PRODUCT[77, 0] == 0


def test_all_products_are_those_of_shift_and_add():
    expected = [[slow_product(a, b) for b in range(256)] for a in range(256)]
    assert np.array_equal(PRODUCT, np.array(expected))


def test_a_small_code_is_the_one_computed_by_hand():
    # t=2, n=3: the coded chunk is x0/(2^0) + x1/(2^1) = x0·0x8e + x1/3; 3·0xf4 = 0x1e8 - 0xf4 - 0x11d = 1.
    assert slow_product(3, 0xF4) == 1
    assert encode(b"\x02\x03", 2, 3) == [b"\x02", b"\x03", b"\x00"]  # 1 + 1
    assert encode(b"\x02\x00", 2, 3)[2] == b"\x01"
    assert encode(b"\x01\x01", 2, 3)[2] == bytes([0x8E ^ 0xF4])


def test_the_first_chunks_are_the_payload():
    assert encode(b"abcdefg", 3, 5)[:3] == [b"abc", b"def", b"g\0\0"]


@settings(deadline=None, max_examples=150)
@given(codes(), st.binary(max_size=2000), st.randoms(use_true_random=False))
def test_any_t_chunks_rebuild_the_payload(code, data, random):
    t, n = code
    chunks = encode(data, t, n)
    assert len(chunks) == n
    assert {len(chunk) for chunk in chunks} == {chunk_length(len(data), t)}
    kept = random.sample(range(n), random.randint(t, n))
    assert decode({i: chunks[i] for i in kept}, t, n, len(data)) == data


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_every_choice_of_chunks_rebuilds_small_codes(n):
    data = bytes(range(1, 24))
    for t in range(1, n + 1):
        chunks = encode(data, t, n)
        for choice in range(1 << n):
            if choice.bit_count() == t:
                assert decode({i: chunks[i] for i in range(n) if choice >> i & 1}, t, n, len(data)) == data


def test_blocks_of_columns_fit_together():
    data = np.random.default_rng(1).bytes(3 * 4096 * 2 + 17)
    chunks = encode(data, 2, 5)
    assert decode({3: chunks[3], 4: chunks[4]}, 2, 5, len(data)) == data
    assert [chunk[-9:] for chunk in chunks] == encode(chunks[0][-9:] + chunks[1][-9:], 2, 5)  # column by column


def test_one_wrong_byte_changes_what_is_rebuilt_or_what_it_encodes_to():
    data = bytes(range(90))
    chunks = dict(enumerate(encode(data, 3, 9)))
    chunks[5] = b"\xff" + chunks[5][1:]
    other = decode({i: chunks[i] for i in (4, 5, 6)}, 3, 9, 90)
    assert other != data
    assert encode(other, 3, 9)[7] != chunks[7]


@pytest.mark.parametrize(("t", "n"), [(0, 3), (4, 3), (1, 256), (-1, 1)])
def test_numbers_out_of_range_are_refused(t, n):
    with pytest.raises(ValueError, match="is needed"):
        encode(b"x", t, n)
    with pytest.raises(ValueError, match="is needed"):
        decode({0: b"x"}, t, n, 1)


@pytest.mark.parametrize(
    "chunks",
    [{}, {0: b"ab"}, {0: b"ab", 1: b"c"}, {0: b"ab", 1: b"abc"}, {-1: b"ab", 1: b"cd"}, {1: b"ab", 4: b"cd"}],
)
def test_too_few_or_malformed_chunks_are_refused(chunks):
    with pytest.raises(ValueError, match="2 chunks of 2 bytes with indices below 4"):
        decode(chunks, 2, 4, 4)
