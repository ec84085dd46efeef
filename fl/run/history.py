"""What a run's ``metrics.jsonl`` says, as tables: metrics by round and by client, and what the time went into."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fl.run.reads import by_name

ByRound = Mapping[int, float]

WEIGHTS = ("num-examples", "num_examples")
"""What replies carry for the strategy's average; not a figure of how well anything went."""

SERVER = "server"
"""The phase that is left when clients are not at work: aggregation, test, snapshot."""


@dataclass(frozen=True)
class History:
    """A run as its log tells it.

    Attributes
    ----------
    rounds : dict
        Round → metric → value, as the ServerApp reported them.
    clients : dict
        Metric (``evaluate accuracy``) → client → round → value, as the clients reported them.
    seconds : dict
        Phase → round → seconds. Phases do not overlap.
    sent, failed : dict
        Round → messages sent to clients, and those without a usable reply.
    errors : tuple of str
        The first failure of each exchange that had one, with its round, in order.
    """

    rounds: Mapping[int, Mapping[str, float]]
    clients: Mapping[str, Mapping[str, ByRound]]
    seconds: Mapping[str, ByRound]
    sent: Mapping[int, int]
    failed: Mapping[int, int]
    errors: tuple[str, ...]

    @classmethod
    def of(cls, lines: Sequence[Mapping[str, Any]]) -> "History":
        """Fold the lines of a log; a resumed run repeats some of them, and the last word counts.

        Parameters
        ----------
        lines : sequence of dict
            What `fl.run.folder.read_metrics` returns. Lines of other kinds, or without a round, are passed over.
        """
        numbered = [line for line in lines if isinstance(line.get("server_round"), int)]
        exchanges = _exchanges(numbered)
        clients: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        sent: dict[int, int] = defaultdict(int)
        failed: dict[int, int] = defaultdict(int)
        for line in exchanges:
            sent[line["server_round"]] += line.get("sent", 0)
            failed[line["server_round"]] += line.get("failed", 0)
            for client, metrics in line.get("clients", {}).items():
                for name, value in metrics.items():
                    if name not in WEIGHTS:
                        clients[f"{line['message_type']} {name}"][client][line["server_round"]] = value
        return cls(
            rounds=_by_round(numbered, "round"),
            clients={name: by_name(values) for name, values in clients.items()},
            seconds=_seconds(numbered, exchanges),
            sent=dict(sorted(sent.items())),
            failed=dict(sorted(failed.items())),
            errors=tuple(
                f"round {e['server_round']}, {e['message_type']}: {e['error']}" for e in exchanges if "error" in e
            ),
        )


def _by_round(lines: Iterable[Mapping[str, Any]], kind: str) -> dict[int, dict[str, float]]:
    """Collect what lines of a kind say of each round."""
    rounds: dict[int, dict[str, float]] = {}
    for line in lines:
        if line["kind"] == kind:
            values = {name: value for name, value in line.items() if name not in ("kind", "time", "server_round")}
            rounds.setdefault(line["server_round"], {}).update(values)
    return dict(sorted(rounds.items()))


def _exchanges(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Select the exchanges, each once: a replayed one counts where the log lost the original to a crash."""
    exchanges = [line for line in lines if line["kind"] == "exchange"]
    fresh = {(line["server_round"], line["message_type"]) for line in exchanges if not line.get("replayed")}
    return [e for e in exchanges if not e.get("replayed") or (e["server_round"], e["message_type"]) not in fresh]


def _seconds(
    lines: Sequence[Mapping[str, Any]], exchanges: Iterable[Mapping[str, Any]]
) -> dict[str, dict[int, float]]:
    """Split each round's time into exchanges by kind, what the ServerApp names, and the rest of its work."""
    spans: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in exchanges:
        if not line.get("replayed"):
            spans[line["message_type"]][line["server_round"]].append((_start(line), line["time"]))
    seconds = {kind: {number: _union(parts) for number, parts in rounds.items()} for kind, rounds in spans.items()}
    server = _server_seconds(lines)
    named: dict[str, dict[int, float]] = defaultdict(dict)
    for number, phases in _by_round(lines, "phases").items():
        for phase, value in phases.items():
            named[phase][number] = value
        server[number] = max(0.0, server.get(number, 0.0) - sum(phases.values()))
    return {**seconds, **named, **({f"other {SERVER}" if named else SERVER: server} if server else {})}


def _start(line: Mapping[str, Any]) -> float:
    return float(line["time"]) - float(line.get("seconds", 0.0))


def _union(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of a union of intervals: a legacy server's exchanges overlap."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _server_seconds(lines: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Sum, by round, the time between one line and the start of the next in which no client was at work.

    The time between two attempts of a resumed run is nobody's: the second begins by repeating lines of the first.
    """
    seconds: dict[int, float] = defaultdict(float)
    reported: set[int] = set()
    reached, number = None, None
    for line in lines:
        ends_round = line["kind"] == "round"
        repeated = line.get("replayed") or (ends_round and line["server_round"] in reported)
        if line["kind"] == "exchange" or ends_round:
            if reached is not None and not repeated:
                counted = number if ends_round and number is not None else line["server_round"]
                seconds[counted] += max(0.0, _start(line) - reached)
            reached = line["time"] if repeated or reached is None else max(reached, line["time"])
            number = line["server_round"]
        if ends_round:
            reported.add(line["server_round"])
    return dict(sorted(seconds.items()))
