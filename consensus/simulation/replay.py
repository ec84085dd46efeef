"""Recorded runs: a file that says everything about a run, line by line, and runs again to the same lines."""

import io
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from consensus.simulation.scenarios import Outcome, Scenario, run
from shards.errors import InputError


class Head(Struct, frozen=True):
    """The first line of a recorded trace; `consensus.simulation.trace.Line` follow."""

    scenario: Scenario


@dataclass(frozen=True)
class Replayed:
    """What running a trace again gave.

    Attributes
    ----------
    scenario : Scenario
        What was run.
    outcome : Outcome
        What came of it now.
    events : int
        How many events are the same.
    difference : str
        The first event that is not as recorded, in one line; empty when all are.
    """

    scenario: Scenario
    outcome: Outcome
    events: int
    difference: str


def record(scenario: Scenario, path: Path) -> Outcome:
    """Run a scenario and write its trace: JSON lines, the scenario first, then one for every event."""
    with path.open("wb") as out:
        out.write(msgspec.json.encode(Head(scenario)) + b"\n")
        return run(scenario, record=out)


def replay(path: Path) -> Replayed:
    """Run a recorded trace again and compare event by event.

    Raises
    ------
    InputError
        When the file is no trace.
    """
    try:
        first, *recorded = path.read_bytes().splitlines()
        scenario = msgspec.json.decode(first, type=Head).scenario
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise InputError(f"{path}: no trace ({error}); `consensus replay FILE --seed 1` records one") from None
    out = io.BytesIO()
    outcome = run(scenario, record=out)
    now = out.getvalue().splitlines()
    same = next(
        (at for at, (a, b) in enumerate(zip(recorded, now, strict=False)) if a != b), min(len(recorded), len(now))
    )
    if same == len(recorded) == len(now):
        return Replayed(scenario, outcome, same, "")
    was, is_now = (lines[same].decode() if same < len(lines) else "nothing" for lines in (recorded, now))
    return Replayed(scenario, outcome, same, f"event {same + 1} was {was} and is {is_now}")
