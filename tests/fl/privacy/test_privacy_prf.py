"""Keyed streams: fixed values, distribution, independence; and the secret they grow from."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from scipy import stats

from fl.privacy import Stream, client_secret, event_streams, simulated_secret, stream
from shards.errors import InputError

SECRET = bytes(range(32))


def test_golden_values():
    assert stream(SECRET, "noise", 3, b"\x00").take(16).hex() == "f4032beff73f3734e2c099c5652abf1c"
    assert stream(SECRET, "noise", 3, b"\x00").uniform(2).tolist() == [0.20396804621774944, 0.11229195580162987]
    np.testing.assert_allclose(
        stream(SECRET, "noise", 3, b"\x00").gaussian(2), [-1.2703273600697902, -1.5879751617673936], rtol=1e-14
    )
    assert simulated_secret(7, 2).hex() == "03cba45b0d6871dbafe77c46eaec3892bf1cd869761b1efd9b76c654488bb1a0"


def test_keystream_is_the_published_chacha20():
    # RFC 8439, appendix A.1, test vector 1: zero key, zero nonce, block 0.
    assert Stream(bytes(32)).take(16).hex() == "76b8e0ada0f13d90405d6ae55386bd28"
    cipher = Cipher(ChaCha20(SECRET, bytes(16)), mode=None).encryptor()
    assert Stream(SECRET).take(1000) == cipher.update(bytes(1000))


@pytest.mark.parametrize("draw", ["uniform", "gaussian"])
def test_chunks_change_nothing(draw):
    whole = getattr(stream(SECRET, draw), draw)(7)
    parts = stream(SECRET, draw)
    assert np.array_equal(whole, np.concatenate([getattr(parts, draw)(3), getattr(parts, draw)(4)]))
    assert getattr(parts, draw)(0).shape == (0,)


def test_uniform_moments_and_shape():
    values = stream(SECRET, "uniform").uniform(200_000)
    assert values.min() > 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_gaussian_moments_and_shape():
    values = stream(SECRET, "gaussian").gaussian(200_000)
    assert abs(values.mean()) < 4 / np.sqrt(len(values))
    assert values.var() == pytest.approx(1, abs=0.02)
    assert stats.kurtosis(values) == pytest.approx(0, abs=0.05)
    assert stats.kstest(values, "norm").pvalue > 0.01


class Fixed(Stream):
    """A stream of given words."""

    def __init__(self, *words):
        self._bytes = b"".join(word.to_bytes(8, "little") for word in words)

    def take(self, n):
        return self._bytes[:n]


def test_extreme_words_stay_in_range():
    words = (0, 2**64 - 1, 1, 2**64 - 2)
    low, high, *_ = Fixed(*words).uniform(4)
    assert (low, high) == (2.0**-53, 1 - 2.0**-53)
    extremes = Fixed(*words).gaussian(4)
    assert extremes[0] == -extremes[2] == pytest.approx(-8.2926, abs=1e-3)
    assert extremes[3] == -extremes[1] == pytest.approx(0, abs=1e-15)
    assert extremes[1] != 0


def test_distinct_labels_open_unrelated_streams():
    labels = [(), ("a",), ("a", "b"), ("ab",), ("a", ""), ("", "a"), (1,), ("1",), (b"1",), (11,), (1, 1), (-1,)]
    draws = [stream(SECRET, *label).uniform(2000) for label in labels]
    for first, second in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
    assert not np.array_equal(draws[0], stream(bytes(32)).uniform(2000))


def test_one_bit_of_the_secret_changes_everything():
    flipped = bytes([SECRET[0] ^ 1]) + SECRET[1:]
    first, second = stream(SECRET, "x").take(4096), stream(flipped, "x").take(4096)
    differing = np.unpackbits(np.frombuffer(first, np.uint8) ^ np.frombuffer(second, np.uint8)).mean()
    assert differing == pytest.approx(0.5, abs=0.02)


def test_event_streams_depend_on_event_and_request():
    opened = [event_streams(SECRET, event, request) for event in ("r1", "r2") for request in (b"a", b"b")]
    starts = {half.take(32) for pair in opened for half in pair}
    assert len(starts) == 8
    assert event_streams(SECRET, "r1", b"a").noise.take(32) in starts


@pytest.mark.parametrize("label", [True, 1.5, None])
def test_other_labels_are_refused(label):
    with pytest.raises(TypeError, match="stream label"):
        stream(SECRET, label)


def test_short_secret_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        stream(b"short")


def test_simulated_secrets_differ():
    secrets = {simulated_secret(seed, client) for seed in range(20) for client in range(20)}
    assert len(secrets) == 400
    assert {len(secret) for secret in secrets} == {32}


def test_client_secret_is_made_once_and_private(tmp_path):
    secret = client_secret(tmp_path)
    assert len(secret) == 32
    assert client_secret(tmp_path) == secret
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_racing_first_uses_get_one_secret(tmp_path):
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(client_secret, [folder] * 8))) == 1


def test_damaged_or_exposed_secret_is_refused(tmp_path):
    client_secret(tmp_path)
    (file,) = tmp_path.iterdir()
    file.chmod(0o644)
    if os.name == "posix":
        with pytest.raises(InputError, match="can be read by others"):
            client_secret(tmp_path)
    file.chmod(0o600)
    file.write_bytes(b"short")
    with pytest.raises(InputError, match="5 bytes, not 32"):
        client_secret(tmp_path)
    with pytest.raises(InputError, match="may write to"):
        client_secret(tmp_path / "missing")
