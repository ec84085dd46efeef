"""The task that every framework gets: NumPy only, since each brings its own idea of tensors."""

import functools
import time

import numpy as np
from numpy.typing import NDArray

FEATURES, CLASSES = 64, 10
RECORDS, SERVER_RECORDS = 80, 500
ROUNDS, LOCAL_EPOCHS, BATCH_SIZE, LEARNING_RATE = 10, 1, 16, 0.1
_SERVER = 1_000_000  # a client that does not exist
_SPREAD = 1.5

Table = tuple[NDArray[np.float32], NDArray[np.int64]]


def _records(client: int, count: int) -> Table:
    centres = np.random.default_rng(0).standard_normal((CLASSES, FEATURES))
    own = np.random.default_rng([1, client])
    labels = own.integers(CLASSES, size=count)
    features = centres[labels] + _SPREAD * own.standard_normal((count, FEATURES))
    return features.astype(np.float32), labels


@functools.cache
def client_records(client: int) -> Table:
    """Return a client's features and labels, made once per process."""
    return _records(client, RECORDS)


@functools.cache
def server_records() -> Table:
    """Return the features and labels that the server tests on."""
    return _records(_SERVER, SERVER_RECORDS)


def stamp(server_round: int, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """Test a model, ``features @ weight + bias``, and print the result and the time: the same for every framework."""
    features, labels = server_records()
    logits = features @ weight + bias
    logits -= logits.max(axis=1, keepdims=True)
    loss = float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]))
    accuracy = float(np.mean(logits.argmax(axis=1) == labels))
    print(f"[{time.perf_counter():.6f}] round {server_round}: {loss=:.6f} {accuracy=:.4f}", flush=True)
