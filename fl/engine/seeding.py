"""Seeds as data: every random stream of a run is a pure function of the run's seed and of what it is for."""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *labels: int | str, bits: int = 64) -> int:
    """Derive an independent seed for a purpose.

    Parameters
    ----------
    seed : int
        The run's seed.
    *labels : int or str
        What the derived seed is for, e.g. ``"node", 3``. Distinct label tuples give unrelated seeds.
    bits : int, default 64
        Width of the result, at most 512.

    Returns
    -------
    int
        An integer in ``[0, 2**bits)``: the head of BLAKE2b over the JSON list of the seed and the labels.
    """
    text = json.dumps([seed, *labels])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=64).digest(), "big") >> (512 - bits)


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed % 2**63)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators for a block, then put back what was there.

    Not for use from two threads at once: the generators belong to the process.
    """
    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    seed_generators(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.random.set_rng_state(before[2])
