"""The ledger's SQLite file: connections, durability, schema, and errors in one line.

Several processes may use one file at a time. A connection is never used on the far side of a fork.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fl.privacy.errors import LedgerError
from shards.errors import InputError

_APPLICATION_ID = 0x66736864  # "fshd": tells a ledger from any other SQLite file
_SCHEMA_VERSION = 1
_BUSY_SECONDS = 30.0

# A release is the SHA-256 of the bytes sent. Records are stored once per distinct set. The reply stands
# last in its row, so that adding up charges does not read through the stored bytes.
_SCHEMA = """
CREATE TABLE cohort (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, records BLOB NOT NULL
) STRICT;
CREATE TABLE mechanism (
    id INTEGER PRIMARY KEY,
    sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,
    UNIQUE (sampling_rate, noise_multiplier, steps)
) STRICT;
CREATE TABLE charge (
    sequence INTEGER PRIMARY KEY,
    client TEXT NOT NULL, event TEXT NOT NULL, request BLOB NOT NULL, release BLOB NOT NULL,
    mechanism INTEGER NOT NULL REFERENCES mechanism (id), cohort INTEGER NOT NULL REFERENCES cohort (id),
    reply BLOB,
    UNIQUE (client, event, request)
) STRICT;
CREATE INDEX charge_by_client ON charge (client, sequence);
CREATE INDEX charge_with_reply ON charge (client) WHERE reply IS NOT NULL;
"""

# Connections opened before a fork. SQLite forbids even closing them in the child, and dropping the last
# reference would; the operating system takes them back when the child ends.
_inherited: list[sqlite3.Connection] = []


class LedgerFile:
    """One SQLite file, opened on first use and again after every fork.

    Parameters
    ----------
    path : Path
        The file; made on first use in a folder that must exist. SQLite keeps two companions beside it
        (``-wal``, ``-shm``) that belong to it. Network file systems do not work with either.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._pid = os.getpid()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the file's write lock for a block; commit durably at its end, or leave nothing of it.

        Raises
        ------
        InputError
            If the file is not a ledger, is damaged, or cannot be opened.
        LedgerError
            If the disk is full or fails, or another process held the lock for 30 seconds.
        """
        with self._exclusive(), self._errors():
            database = self._open()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read one consistent state of the file; raises what `transaction` raises."""
        with self._exclusive(), self._errors():
            database = self._open()
            database.execute("BEGIN")
            try:
                yield database
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    def close(self) -> None:
        """Close this process's connection; the next use opens another."""
        with self._exclusive():
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one thread of one process in; after a fork, start afresh."""
        if self._pid != os.getpid():
            if self._connection is not None:
                _inherited.append(self._connection)
                self._connection = None
            # The old lock may be held by a thread that exists only in the parent.
            self._lock = threading.RLock()
            self._pid = os.getpid()
        with self._lock:
            yield

    def _open(self) -> sqlite3.Connection:
        """Return this process's connection, making the file if need be."""
        if self._connection is None:
            if not self.path.exists():
                with suppress(OSError):  # SQLite says better what is wrong with the path
                    self.path.touch(mode=0o600)  # record ids and replies are the owner's affair
            # Threads take turns under _lock, which is what SQLite asks of a shared connection.
            database = sqlite3.connect(self.path, _BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                # FULL: a commit returns only after the log is on the disk, whatever befalls the machine next.
                database.execute("PRAGMA synchronous = FULL")
                database.execute("PRAGMA foreign_keys = ON")
                self._prepare(database)
                _use_write_ahead_log(database)
            except BaseException:
                database.close()
                raise
            self._connection = database
        return self._connection

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Make the tables in an empty file; check that any other file is a ledger of this version."""
        database.execute("BEGIN IMMEDIATE")
        try:
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (objects,) = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            if (application, version, objects) == (0, 0, 0):
                for statement in _SCHEMA.split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            elif application != _APPLICATION_ID:
                raise InputError(f"{self.path} is an SQLite file but not a privacy ledger; choose another path")
            elif version != _SCHEMA_VERSION:
                raise InputError(
                    f"{self.path} is a privacy ledger of version {version}, this fedshard reads version "
                    f"{_SCHEMA_VERSION}; use the fedshard that wrote it"
                )
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's errors into one line that names the file."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
            if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                message = f"{self.path} is damaged or no privacy ledger ({error}); restore it from a backup"
                raise InputError(message) from error
            if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
                raise InputError(f"{self.path} cannot be opened for writing ({error})") from error
            if isinstance(error, sqlite3.OperationalError | sqlite3.DataError):
                message = f"{self.path}: {error}; nothing was charged and nothing may be sent, so try again"
                raise LedgerError(message) from error
            raise


def _use_write_ahead_log(database: sqlite3.Connection) -> None:
    """Switch the file to write-ahead logging, which lets readers and one writer work side by side."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # While another process makes the switch, SQLite refuses at once instead of waiting.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
