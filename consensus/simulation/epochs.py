"""Random scenarios in which the members change while everything else goes on."""

from random import Random

from msgspec.structs import replace

from consensus.protocols import find
from consensus.simulation.scenarios import Scenario, random_scenario

PROTOCOLS = ("flat", "regional", "regional-fast", "star")
SIZES = (4, 5, 6, 7)


def epoch_scenario(seed: int) -> Scenario:
    """Draw a scenario with one to three membership changes, each of one place.

    The faulty replicas stay within what each epoch survives.
    """
    random = Random(f"epochs/{seed}")
    scenario = random_scenario(seed, random.choice(PROTOCOLS), random.choice(SIZES))
    spare = random.randint(1, 2)
    members = tuple(range(scenario.n))
    outside = list(range(scenario.n, scenario.n + spare))
    bounds = [find(scenario.protocol).quorums((members,)).bound]
    changes: list[tuple[float, tuple[int, ...]]] = []
    pause = random.random() * 3
    for _ in range(random.randint(1, 3)):
        if outside and (len(members) <= 4 or random.random() < 0.5):
            members = (*members, outside.pop(0))
        elif len(members) > 4:
            gone = random.choice(members)
            members = tuple(place for place in members if place != gone)
        else:
            break
        changes.append((pause, members))
        bounds.append(find(scenario.protocol).quorums((members,)).bound)
    return replace(scenario, spare=spare, changes=tuple(changes), faulty=scenario.faulty[: min(bounds)], rates=())
