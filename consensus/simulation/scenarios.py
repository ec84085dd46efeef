"""Scenarios by seed; the same seed is the same run, bit for bit."""

from random import Random

from consensus.pbft.config import RegionMap
from consensus.protocols import PROTOCOLS, find
from consensus.simulation.adversaries import KINDS
from consensus.simulation.disk import DISK_FAULTS
from consensus.simulation.network import Cut, Faults, partition
from consensus.simulation.world import DISK_KINDS, MakeReplica, Outage, Outcome, Pause, Scenario, World, run

__all__ = ["DISK_KINDS", "SIZES", "MakeReplica", "Outage", "Outcome", "Pause", "Scenario", "World", "random_scenario", "run"]  # fmt: skip  # noqa: E501

SIZES = (4, 5, 6, 7, 10, 13, 16)


def random_scenario(seed: int, protocol: str = "", n: int = 0) -> Scenario:
    """Draw a scenario: at most as many faulty replicas as the protocol survives, and a network that heals.

    Parameters
    ----------
    seed : int
        The scenario's number.
    protocol, n : str, int, optional
        Fixed instead of drawn.
    """
    random = Random(f"scenario/{seed}")
    protocol = protocol or random.choice(sorted(PROTOCOLS))
    n = n or random.choice(SIZES)
    regions = _random_regions(random, n)
    bound = find(protocol).quorums(regions).bound
    kinds = (*KINDS, *DISK_KINDS)
    faulty = sorted(random.sample(range(n), random.randint(0, bound)))
    kind = random.choice(kinds)  # often all of one kind: colluders, bad heads
    chosen = tuple((place, kind if random.random() < 0.5 else random.choice(kinds)) for place in faulty)
    heal = random.choice((0.0, 5.0, 15.0))
    rtt = random.choice((0.001, 0.02, 0.1))
    view = 2.0 if rtt == 0.1 else random.choice((0.5, 2.0))  # as an operator would: 20 round trips or more
    correct = [place for place in range(n) if place not in faulty]
    return Scenario(
        seed=seed,
        protocol=protocol,
        regions=regions,
        faulty=chosen,
        faults=_random_faults(random, n, faulty, heal),
        rtt=rtt,
        jitter=random.choice((0.0, 0.1, 0.5)),
        outages=tuple(
            _random_outage(random, correct, heal) for _ in range(random.choice((0, 0, 1, 3)) if heal else 0)
        ),
        pauses=tuple(
            Pause(random.choice(correct), random.random() * heal, random.random() * 2 * view)
            for _ in range(random.choice((0, 0, 2)) if heal else 0)
        ),
        rates=tuple(random.uniform(0.95, 1.05) for _ in range(n)) if random.random() < 0.5 else (),
        clients=random.randint(1, 3),
        requests=random.randint(2, 10),
        rate=random.choice((0.0, 0.0, 5.0)),
        sync=random.choice((0.0, 0.0, 0.004)),
        profile=random.choice(("free", "free", "server")),
        scheme=random.choice(("null", "null", "sum")),
        period=(period := random.choice((2, 4))),
        window=period * random.choice((2, 3)),
        in_flight=random.randint(1, 4),
        batch=random.randint(1, 4),
        inline=random.choice((1 << 14, 1 << 14, 0)),
        view=view,
    )


def _random_regions(random: Random, n: int) -> RegionMap:
    order = random.sample(range(n), n)
    k = random.randint(1, min(4, n // 2))
    return tuple(tuple(sorted(order[index::k])) for index in range(k))


def _random_faults(random: Random, n: int, faulty: list[int], heal: float) -> Faults:
    if not heal:
        return Faults(heal=0.0)
    cuts: list[Cut] = []
    for _ in range(random.choice((0, 1, 3))):
        begin = random.random() * heal
        end = min(heal, begin + random.random() * heal)
        groups: tuple[list[int], list[int]] = ([], [])
        for place in range(n):
            if place not in faulty:  # the faulty reach both sides: the scheduler is on theirs
                groups[random.randrange(2)].append(place)
        both = partition(begin, end, groups)
        cuts += random.choice((both, both[:1]))
    return Faults(
        loss=random.choice((0.0, 0.02, 0.2)),
        duplicate=random.choice((0.0, 0.1)),
        reorder=random.choice((0.0, 0.2)),
        reorder_s=random.random(),
        tail=random.choice((0.0, 0.05)),
        tail_s=random.random(),
        cuts=tuple(cuts),
        heal=heal,
    )


def _random_outage(random: Random, correct: list[int], heal: float) -> Outage:
    return Outage(
        node=random.choice(correct),
        at=random.random() * heal,
        write=random.choice((0, random.randint(1, 60))),
        down=random.random() * heal / 2,
        fault=random.choice(DISK_FAULTS),
    )
