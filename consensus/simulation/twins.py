"""Twins: Byzantine behaviour from unmodified replicas, two of which share a key, and from partitions round by round.

S. Bano et al., "Twins: BFT Systems Made Robust" (OPODIS 2021): two copies of one identity on different sides of a
partition equivocate, vote twice and forget, and every known attack on the protocols they tried is among the scenarios
of a few rounds. Leaders follow the views here, so that a scenario is: whose twins there are, and how the network is
split in each round; all of them are numbered.
"""

from random import Random

from consensus.simulation.network import Cut, Faults, partition
from consensus.simulation.scenarios import Scenario

VIEW = 0.5
Split = tuple[tuple[int, ...], tuple[int, ...]]


def count(n: int, twins: int, rounds: int) -> int:
    """Count the scenarios: a split of the ``n + twins`` nodes in two for every round, for each first twin."""
    return int(n * 2 ** ((n + twins - 1) * rounds))


def scenario(number: int, protocol: str, n: int = 4, twins: int = 1, rounds: int = 3) -> Scenario:
    """Give one of the scenarios.

    Parameters
    ----------
    number : int
        From 0 to ``count(n, twins, rounds) - 1``.
    protocol : str
        Name of the protocol.
    n, twins, rounds : int
        How many replicas; how many of them, one after another, have twins; how many rounds. With more twins than the
        protocol survives it is a control: some of the scenarios must break agreement.

    Raises
    ------
    ValueError
        For a number that is none.
    """
    if not 0 <= number < count(n, twins, rounds):
        raise ValueError(f"scenario {number}: there are {count(n, twins, rounds)}")
    regions = tuple(tuple(range(n))[index::2] for index in range(2))
    number, first = divmod(number, n)
    doubled = tuple(sorted((first + turn) % n for turn in range(twins)))
    cuts: list[Cut] = []
    begin = 0.0
    for turn in range(rounds):
        number, split = divmod(number, 2 ** (n + twins - 1))
        end = begin + VIEW * (turn + 1.1)  # long enough for the wait in this round, which is so many times as long
        cuts += partition(begin, end, _sides(split, n + twins))
        begin = end
    originals, copies = sum(1 << place for place in doubled), sum(1 << n + turn for turn in range(twins))
    for client, deaf in enumerate((copies, originals)):  # so that two twins that lead propose different batches
        cuts.append(Cut(0.0, begin, 1 << n + twins + client, deaf))
    return Scenario(
        seed=first,
        protocol=protocol,
        regions=regions,
        twins=doubled,
        faults=Faults(cuts=tuple(cuts), heal=begin),
        rtt=0.002,
        jitter=0.1,
        clients=2,
        requests=2,
        to_all=True,
        batch=1,
        view=VIEW,
    )


def _sides(split: int, nodes: int) -> Split:
    """Put the last node on the first side, and every other one where its bit says."""
    first = tuple(node for node in range(nodes) if not split >> node & 1)
    return first, tuple(node for node in range(nodes) if split >> node & 1)


def sampled(seed: int, protocol: str, n: int, twins: int, rounds: int) -> Scenario:
    """Draw one of the scenarios by a seed, where there are too many for all of them."""
    return scenario(Random(f"twins/{seed}").randrange(count(n, twins, rounds)), protocol, n, twins, rounds)
