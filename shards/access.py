"""The access log: what every read of a client's data asked for, and how much had to be read for it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.errors import InputError
from shards.journal import Journal, encode
from shards.request import Request
from shards.scalar import utc

_COUNTS = ("generation", "shards_opened", "shards_total", "bytes_read", "bytes_matching", "rows")


@dataclass(frozen=True)
class Access:
    """One read.

    Attributes
    ----------
    client : str
        Whose data was read.
    event : str
        What for, for example ``"round 3 train"``; it names one read of the client, also when a run is resumed.
    clock : numpy.datetime64
        When, UTC: the run's clock where it has one, else the machine's.
    request : Request
        What was asked for, windows resolved; its origin says whether that was public.
    generation : int
        Generation of the store that was read.
    shards_opened, shards_total : int
        Shards that had to be opened, of how many.
    bytes_read, bytes_matching : int
        Bytes of the rows in the shards opened, and of the rows asked for.
    rows : int
        Rows asked for.
    """

    client: str
    event: str
    clock: np.datetime64
    request: Request
    generation: int
    shards_opened: int
    shards_total: int
    bytes_read: int
    bytes_matching: int
    rows: int


class AccessLog:
    """Append-only log of reads in one bounded file, which several clients and processes may share.

    When the file is full its older half goes away. A read is logged for good once the process that made it may be
    killed, not yet when the power may fail: no read waits for the disk.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.
    max_bytes : int
        The most it holds.
    """

    def __init__(self, path: Path, max_bytes: int = 8 << 20) -> None:
        self.path = path
        self._journal = Journal(path, max_bytes)

    def append(self, access: Access) -> None:
        """Log one read.

        Raises
        ------
        DiskFullError
            If the disk is full; the log is as it was.
        """
        named = {"client": access.client, "event": access.event, "clock": str(access.clock)}
        counts = {name: getattr(access, name) for name in _COUNTS}
        line = encode({**named, "request": access.request.to_json(), **counts})
        with self._journal.locked():
            self._journal.write(line)

    def read(self, client: str | None = None, last: int | None = None) -> list[Access]:
        """Give the reads kept, of one client or of all, oldest first.

        A read whose event comes again, in a round that was retried or resumed, counts once: the last word counts.

        Parameters
        ----------
        client : str, optional
            Whose reads; everybody's when left out.
        last : int, optional
            How many at most, the newest; all when left out.

        Raises
        ------
        InputError
            Naming the line that is no read.
        """
        wanted = b"" if client is None else encode({"client": client})[:-2] + b","
        lines = self._journal.read().splitlines()
        newest_first: dict[tuple[str, str], Access] = {}
        for number in range(len(lines), 0, -1):
            if last is not None and len(newest_first) >= last:
                break
            if lines[number - 1].startswith(wanted):
                access = self._decode(number, lines[number - 1])
                newest_first.setdefault((access.client, access.event), access)
        return list(newest_first.values())[::-1]

    def _decode(self, number: int, line: bytes) -> Access:
        try:
            fields = json.loads(line)
            counts = {name: int(fields[name]) for name in _COUNTS}
            clock, request = utc(fields["clock"]), Request.from_json(fields["request"])
            return Access(fields["client"], fields["event"], clock, request, **counts)
        except (ValueError, KeyError, TypeError, InputError) as error:
            raise self._journal.damaged(number, f"not a read: {error}") from error
