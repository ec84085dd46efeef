"""``fedshard consensus replay``: run a recorded simulation again and compare it event by event."""

import argparse

from consensus.simulation.replay import record, replay
from consensus.simulation.scenarios import random_scenario
from fl.run.summary import to_json
from shards.disk import disk_error
from shards.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    """Record the scenario of a seed if there is one, run the trace again; 1 if anything differs or went wrong."""
    path = arguments.trace
    if arguments.seed is not None:
        try:
            record(random_scenario(int(arguments.seed)), path)
        except OSError as error:
            known = disk_error(path, error)
            if known is error:
                known = InputError(f"{path}: cannot be written: {error.strerror}")
            raise known from error
    found = replay(path)
    scenario, outcome = found.scenario, found.outcome
    violations = [str(violation) for violation in outcome.violations]
    if arguments.json:
        figures = {
            "protocol": scenario.protocol,
            "replicas": scenario.n,
            "seed": scenario.seed,
            "events": found.events,
            "same": not found.difference,
            "difference": found.difference,
            "trace_hash": outcome.trace,
            "violations": violations,
        }
        print(to_json(figures))
    else:
        print(f"{scenario.protocol}, {scenario.n} replicas, seed {scenario.seed}: {found.events:,} events")
        print(found.difference or f"the same to the bit: {outcome.trace}")
        for violation in violations:
            print(violation)
    return 1 if found.difference or violations else 0
