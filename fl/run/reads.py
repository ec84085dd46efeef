"""What clients read and decided in a run, as tables by round: made from the logs in its private folder."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.access import Access, AccessLog
from shards.audit import DecisionLog, Entry
from shards.controller import KINDS

ACCESS_LOG = "access.jsonl"
DECISION_LOG = "decisions.jsonl"
"""Names of the two logs in a run's private folder."""

ByRound = Mapping[int, float]


@dataclass(frozen=True)
class Reads:
    """The reads and decisions that the logs still hold; rounds are those that events name.

    Attributes
    ----------
    read, matching : dict
        Round → bytes that all clients read, and bytes of the rows they had asked for.
    by_client : dict
        Client → round → bytes read.
    shards : dict
        Client → round → shards its data was cut into.
    decisions : dict
        Kind of decision → round → how many clients decided so.
    outside : int
        Reads of which no round is known; they are in none of the tables.
    """

    read: ByRound
    matching: ByRound
    by_client: Mapping[str, ByRound]
    shards: Mapping[str, ByRound]
    decisions: Mapping[str, ByRound]
    outside: int = 0

    @classmethod
    def load(cls, private: Path) -> "Reads":
        """Read the logs in a run's private folder; empty tables where there are none.

        Raises
        ------
        InputError
            Naming the first damaged line.
        """
        return cls.of(AccessLog(private / ACCESS_LOG).read(), DecisionLog(private / DECISION_LOG).read())

    @classmethod
    def of(cls, accesses: Iterable[Access], entries: Iterable[Entry]) -> "Reads":
        """Sum reads and count decisions; of a decision that a resumed run made again, the last word counts."""
        read: dict[int, float] = defaultdict(int)
        matching: dict[int, float] = defaultdict(int)
        by_client: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(int))
        shards: dict[str, dict[int, float]] = defaultdict(dict)
        outside = 0
        for access in accesses:
            number = round_in(access.event)
            if number is None:
                outside += 1
                continue
            client = access.client.removeprefix("client-")
            read[number] += access.bytes_read
            matching[number] += access.bytes_matching
            by_client[client][number] += access.bytes_read
            shards[client][number] = access.shards_total
        decisions: dict[str, dict[int, float]] = {kind: defaultdict(int) for kind in KINDS}
        for (_, event), kind in {(entry.client, entry.event): entry.decision.kind for entry in entries}.items():
            if (number := round_in(event)) is not None:
                decisions[kind][number] += 1
        return cls(
            dict(sorted(read.items())),
            dict(sorted(matching.items())),
            by_name(by_client),
            by_name(shards),
            {kind: dict(sorted(counts.items())) for kind, counts in decisions.items() if counts},
            outside,
        )


def round_in(event: str) -> int | None:
    """Find the round that an event names, as in ``round 3 train`` and ``after round 3``."""
    found = re.search(r"\bround (\d+)\b", event)
    return int(found[1]) if found else None


def by_name(clients: Mapping[str, Any]) -> dict[str, Any]:
    """Order clients by name, numbers by their value."""
    return {name: clients[name] for name in sorted(clients, key=lambda name: (len(name), name))}
