import random

import numpy as np
import torch

from fl.engine.seeding import derive, seeded


def draw():
    return random.random(), np.random.random(), torch.rand(1).item()


def test_derived_seeds_are_pinned():
    assert derive(7, "node", 3) == derive(7, "node", 3)
    assert derive(0, "run", bits=16) == derive(0, "run") >> 48


def test_labels_are_joined_unambiguously():
    labels = [(1, 23), (12, 3), (1, "23"), (1, 2, 3), (1, "2", 3), (1, "2", "3"), (1, '2", "3'), (1, "2,3")]
    assert len({derive(*parts) for parts in labels}) == len(labels)


def test_all_three_generators_are_seeded_and_restored():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with seeded(5):
        inside = draw()
    assert draw() == expected
    with seeded(5):
        assert draw() == inside
    with seeded(6):
        assert draw() != inside
