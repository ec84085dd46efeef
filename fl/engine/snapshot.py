"""Snapshots: the whole state of a run at one moment, after which earlier replies are no longer needed."""

import json
from dataclasses import dataclass
from pathlib import Path

from fl.engine.record import ReplyRecord, pack, read_frames, unpack
from shards.disk import write_atomically
from shards.errors import InputError


@dataclass(frozen=True)
class Snapshot:
    """What a resumed run starts from.

    Attributes
    ----------
    server : bytes
        The ServerApp's encoded state.
    counters : dict[int, int]
        Messages sent to each node so far; message ids and seeds go on from there.
    states : dict[int, bytes]
        The encoded state of each node that has one.
    """

    server: bytes
    counters: dict[int, int]
    states: dict[int, bytes]


class SnapshotStore:
    """Keeps the newest snapshot of a run, and the record of the replies since.

    The record's file is named by the snapshot it follows, so one rename commits both: replies recorded before
    it are in the old file, which goes away once the new snapshot is durable.

    Parameters
    ----------
    folder : Path
        The run folder.
    max_record_bytes : int
        Cap on the size of each record.
    """

    def __init__(self, folder: Path, max_record_bytes: int) -> None:
        self._folder, self._max_record_bytes = folder, max_record_bytes
        self._path = folder / "snapshot.bin"
        self._number, self._latest = 0, None
        if self._path.exists():
            self._number, self._latest = _read(self._path)
        for record in folder.glob("replies-*.log"):
            if int(record.stem.partition("-")[2]) > self._number:
                raise InputError(
                    f"{self._path}: missing, or older than {record.name}; restore it, or start a new run"
                )

    def latest(self) -> Snapshot | None:
        """Return the newest snapshot, or None before the first."""
        return self._latest

    def open_record(self) -> ReplyRecord:
        """Open the record of the replies since the newest snapshot, and remove those of older ones."""
        current = self._folder / f"replies-{self._number}.log"
        for path in self._folder.glob("replies-*.log"):
            if path != current:
                path.unlink()
        return ReplyRecord(current, self._max_record_bytes)

    def save(self, snapshot: Snapshot, record: ReplyRecord | None) -> ReplyRecord:
        """Commit a snapshot and return the record that follows it; `record` is closed and removed."""
        header = json.dumps({"number": self._number + 1, "counters": list(snapshot.counters.items())})
        nodes = [part for node, state in snapshot.states.items() for part in (str(node).encode(), state)]
        write_atomically(self._path, b"".join(pack([header.encode(), snapshot.server, *nodes])))
        self._number += 1
        if record is not None:
            record.close()
        return self.open_record()


def _read(path: Path) -> tuple[int, Snapshot]:
    frames = list(read_frames(path))
    if len(frames) != 1:
        raise InputError(f"{path}: damaged; this run cannot be resumed from it (restore it, or start a new run)")
    header_text, server, *nodes = unpack(frames[0][1])
    header = json.loads(header_text)
    states = {int(node): state for node, state in zip(nodes[::2], nodes[1::2], strict=True)}
    return header["number"], Snapshot(server, {int(n): int(c) for n, c in header["counters"]}, states)
