"""A replica's durable log: what it must never forget, since others rely on it having said so.

A commit returns once its records would survive a power cut. What was acknowledged is therefore found again, whatever
happens to the process; what was not is found whole or not at all.
"""

import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from consensus.wal import commits_cut_off
from shards.disk import DiskFullError, sync_folder
from shards.errors import FedshardError, InputError

CHECKPOINT_PAGES = 1000  # the side file is folded into the main one when it holds so many pages of 4 kB

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    place INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    record BLOB NOT NULL
)
"""


class LogError(FedshardError):
    """The log cannot be relied on: it is damaged, or the disk under it failed."""


class Log:
    """Records in the order of appending, in one sqlite file that one process holds at a time.

    Parameters
    ----------
    path : Path
        The file; created, with an empty log, if it is not there. Two side files stand next to it while it is open.

    Attributes
    ----------
    dropped : int
        Damaged records at the end that were left out on opening. A replica that lost some may vote again on what it
        voted on, so whoever runs it must count it among the faulty until the next checkpoint.

    Raises
    ------
    InputError
        If another process has it open, or the file is no log.
    LogError
        If a record other than the last ones is damaged, or the file as a whole.
    DiskFullError
        If the disk is full.

    Notes
    -----
    sqlite in WAL mode with ``synchronous=FULL`` syncs once per commit, and takes back a commit that a crash tore.
    The checksum of a record (CRC-32 over place, seq and bytes) finds what the disk itself changed afterwards.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dropped = 0
        fresh = not path.exists()
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise InputError(
                f"{path}: the log cannot be opened ({error}); is the folder there and writable?"
            ) from error
        try:
            with self._errors_named():
                self._open()
            if fresh:
                sync_folder(path.parent)
        except BaseException:
            self._db.close()
            raise

    def append(self, records: Sequence[tuple[int, bytes]]) -> None:
        """Append records durably, in order: all of them, or none if this raises.

        Parameters
        ----------
        records : sequence of (int, bytes)
            The sequence number each is about, and its bytes.

        Raises
        ------
        DiskFullError
            If the disk is full.
        LogError
            If the disk fails; the log must not be used further.
        """
        with self.transaction():
            (last,) = self._db.execute("SELECT coalesce(max(place), 0) FROM records").fetchone()
            self._db.executemany(
                "INSERT INTO records VALUES (?, ?, ?, ?)",
                [
                    (place, seq, _checksum(place, seq, record), record)
                    for place, (seq, record) in enumerate(records, last + 1)
                ],
            )

    def forget(self, seq: int) -> None:
        """Remove every record about a number up to `seq`, durably; raises as `append` does."""
        with self.transaction():
            self._db.execute("DELETE FROM records WHERE seq <= ?", (seq,))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything inside one commit: durable with one sync, or undone as a whole.

        Raises
        ------
        DiskFullError, LogError
            As `append`.
        """
        if self._db.in_transaction:  # part of the commit around it
            yield
            return
        with self._errors_named():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def records(self) -> list[bytes]:
        """Return all records in the order of appending."""
        with self._errors_named():
            return [record for (record,) in self._db.execute("SELECT record FROM records ORDER BY place")]

    def close(self) -> None:
        """Let another process open it."""
        self._db.close()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # held until the file is closed, by whatever end
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        with self.transaction():
            self._refuse_cut_off_commits()
            self._db.execute(_SCHEMA)
            (health,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if health != "ok":
                raise LogError(self._damaged(f"sqlite says: {health}"))
            self._drop_damaged_tail()
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what the next crash leaves shall be of this life alone

    def _refuse_cut_off_commits(self) -> None:
        side, evidence = (self.path.with_name(self.path.name + suffix) for suffix in ("-wal", "-damaged"))
        (page,) = self._db.execute("PRAGMA page_size").fetchone()
        if side.exists() and commits_cut_off(side.read_bytes(), page) > 1:
            os.link(side, evidence)  # sqlite will fold and remove the side file, and find nothing amiss next time
        if evidence.exists():
            raise LogError(self._damaged(f"commits are cut off, see {evidence.name}"))

    def _drop_damaged_tail(self) -> None:
        first_bad = 0
        with closing(self._db.execute("SELECT place, seq, checksum, record FROM records ORDER BY place")) as rows:
            for place, seq, checksum, record in rows:
                whole = (
                    isinstance(seq, int) and isinstance(record, bytes) and checksum == _checksum(place, seq, record)
                )
                if whole and first_bad:
                    raise LogError(self._damaged(f"record {first_bad} is, and record {place} after it is not"))
                first_bad = first_bad or (0 if whole else place)
        if first_bad:
            self.dropped = self._db.execute("DELETE FROM records WHERE place >= ?", (first_bad,)).rowcount

    def _damaged(self, how: str) -> str:
        return (
            f"{self.path}: the log is damaged ({how}); a replica must not vote from it: remove the replica's folder "
            "and let it join as a new member, or restore the disk"
        )

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without sqlite's finer distinctions
            if code == sqlite3.SQLITE_FULL:
                raise DiskFullError(
                    f"{self.path}: disk full; what was recorded before is intact, so free space and start it again"
                ) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InputError(
                    f"{self.path}: another process has this log open; a replica must run once, so end that one first"
                ) from error
            if code == sqlite3.SQLITE_NOTADB:
                raise InputError(f"{self.path}: this file is no log; name a folder of a replica") from error
            if code == sqlite3.SQLITE_CORRUPT:
                raise LogError(self._damaged(str(error))) from error
            raise LogError(
                f"{self.path}: the disk failed ({error}); end this replica and look at the disk"
            ) from error


def _checksum(place: int, seq: int, record: bytes) -> int:
    return zlib.crc32(record, zlib.crc32(b"%d %d" % (place, seq)))
