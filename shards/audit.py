"""The decision log: what a client's controller chose, from what, chained so that an edit shows and replayable.

Clients may share a file; each has its own chain, which depends on nothing another does. A chain proves that nothing
between its first kept and its last entry was edited, dropped or reordered. It can't prove that its end was not cut
off, nor that the whole was not written anew: for that, keep a copy of `DecisionLog.head` elsewhere.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.controller import Candidate, Decision, Policy, decide
from shards.journal import Journal, encode

GENESIS = "0" * 64
_SEAL = b',"digest":"%s"}\n'
_SEAL_BYTES = len(_SEAL % GENESIS.encode())


@dataclass(frozen=True)
class Entry:
    """One decision, with everything it was computed from.

    Attributes
    ----------
    client : str
        Who decided.
    sequence : int
        How many decisions the client had logged before.
    previous : str
        Digest of the client's entry before, `GENESIS` for its first.
    event : str
        When, for example ``"after round 3"``; a resumed run repeats events.
    state : mapping
        What the candidates were made from, as plain JSON.
    candidates : tuple of Candidate
        The ways to go on and their costs.
    policy : Policy
        When a change was worth its price.
    decision : Decision
        What was chosen.
    digest : str
        SHA-256 of the entry's line up to here, in hex.
    """

    client: str
    sequence: int
    previous: str
    event: str
    state: Mapping[str, Any]
    candidates: tuple[Candidate, ...]
    policy: Policy
    decision: Decision
    digest: str


def replay(entry: Entry) -> Decision:
    """Decide again from what the entry holds; the same decision, bit for bit, unless the entry was made up."""
    return decide(entry.candidates, entry.policy)


class DecisionLog:
    """Append-only log of decisions in one bounded file, which several clients and processes may share.

    When the file is full its older half goes away; the end of each dropped chain stays, in the file's first line, so
    that chains go on and can still be verified from there. A decision to change something is durable when `append`
    returns; one to keep may be lost with the power, together with nothing else.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.
    max_bytes : int
        The most it holds, the first line (about 100 bytes per client) not counted.
    """

    def __init__(self, path: Path, max_bytes: int = 8 << 20) -> None:
        self.path = path
        self._journal = Journal(path, max_bytes, carry=_anchors)

    def append(
        self,
        client: str,
        event: str,
        state: Mapping[str, Any],
        candidates: Sequence[Candidate],
        policy: Policy,
        decision: Decision,
    ) -> Entry:
        """Log one decision at the end of the client's chain.

        Raises
        ------
        DiskFullError
            If the disk is full; the log is as it was.
        InputError
            If the client's last entry cannot be read.
        """
        with self._journal.locked():
            sequence, previous = self._end(client)
            fields = {
                "client": client,
                "sequence": sequence,
                "previous": previous,
                "event": event,
                "state": state,
                "policy": asdict(policy),
                "candidates": [asdict(candidate) for candidate in candidates],
                "decision": asdict(decision),
            }
            line = _sealed(fields)
            self._journal.write(line, durable=decision.kind != "keep")
        return _entry(json.loads(line))

    def head(self, client: str) -> str:
        """Give the digest of the client's last entry, `GENESIS` when it has none."""
        return self._end(client)[1]

    def read(self, client: str | None = None) -> list[Entry]:
        """Give the entries kept, of one client or of all, oldest first.

        Raises
        ------
        InputError
            Naming the first line that is no entry.
        """
        entries = []
        wanted = b"" if client is None else _prefix(client)
        for number, line in enumerate(self._journal.read().splitlines(), 1):
            if line.startswith(wanted) and not line.startswith(b'{"anchors":'):
                try:
                    entries.append(_entry(json.loads(line)))
                except (ValueError, KeyError, TypeError) as error:
                    raise self._journal.damaged(number, f"not a decision: {error}") from error
        return entries

    def verify(self) -> None:
        """Check every line's digest, and that every chain is unbroken from its first entry kept.

        Raises
        ------
        InputError
            Naming the first line that is broken and what is wrong with it.
        """
        ends: dict[str, tuple[int, str]] = {}
        for number, line in enumerate(self._journal.read().splitlines(keepends=True), 1):
            digest = hashlib.sha256(line[:-_SEAL_BYTES]).hexdigest()
            if line[-_SEAL_BYTES:] != _SEAL % digest.encode():
                raise self._journal.damaged(number, "its content and its digest disagree")
            fields = json.loads(line)
            if number == 1 and "anchors" in fields:
                ends = {client: (end[0], end[1]) for client, end in fields["anchors"].items()}
                continue
            if "anchors" in fields:
                raise self._journal.damaged(number, "anchors stand in the first line only")
            client = fields.get("client")
            if (fields.get("sequence"), fields.get("previous")) != ends.get(client, (0, GENESIS)):
                raise self._journal.damaged(number, f"it does not follow the entry before it of client {client!r}")
            ends[client] = (fields["sequence"] + 1, digest)

    def _end(self, client: str) -> tuple[int, str]:
        """Give the next sequence number and the last digest of a chain."""
        content = self._journal.read()
        start = content.rfind(b"\n" + _prefix(client)) + 1  # 0 where only the first line can tell
        line = content[start : content.find(b"\n", start)]
        try:
            return _ends([line]).get(client, (0, GENESIS))
        except (ValueError, KeyError, TypeError) as error:
            number = content.count(b"\n", 0, start) + 1
            raise self._journal.damaged(number, f"not a decision: {error}") from error


def _ends(lines: list[bytes]) -> dict[str, tuple[int, str]]:
    """Give, for every client in the lines, the next sequence number and the last digest."""
    ends: dict[str, tuple[int, str]] = {}
    for line in filter(None, lines):
        fields = json.loads(line)
        if "anchors" in fields:
            ends.update({client: (end[0], end[1]) for client, end in fields["anchors"].items()})
        else:
            ends[fields["client"]] = (fields["sequence"] + 1, fields["digest"])
    return ends


def _anchors(dropped: list[bytes]) -> bytes:
    return _sealed({"anchors": dict(sorted(_ends(dropped).items()))})


def _sealed(fields: dict[str, Any]) -> bytes:
    body = encode(fields)[:-2]
    return body + _SEAL % hashlib.sha256(body).hexdigest().encode()


def _prefix(client: str) -> bytes:
    return encode({"client": client})[:-2] + b","


def _entry(fields: dict[str, Any]) -> Entry:
    return Entry(
        fields["client"],
        fields["sequence"],
        fields["previous"],
        fields["event"],
        fields["state"],
        tuple(Candidate(**candidate) for candidate in fields["candidates"]),
        Policy(**fields["policy"]),
        Decision(**fields["decision"]),
        fields["digest"],
    )
