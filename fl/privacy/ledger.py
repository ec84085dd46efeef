"""The record ledger: who has spent what, charged durably before anything is sent.

The ledger follows the record. A charge names the records that were *eligible* for sampling in an event,
so a record moved between shards takes its past with it.
"""

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from sqlite3 import Connection

import numpy as np
from numpy.typing import NDArray

from fl.privacy.accounting import Mechanism
from fl.privacy.cohort import canonical
from fl.privacy.errors import ReleaseConflictError
from fl.privacy.ledger_file import LedgerFile
from fl.privacy.ledger_rows import cohort_id, load_cohort, load_mechanism, mechanism_id
from fl.privacy.spending import Spending
from shards.errors import InputError


class RecordLedger:
    """Durable charges per (client, record, training event, released bytes).

    Any number of processes may use one file at a time; an instance may be used on both sides of a fork,
    and pickled.

    Parameters
    ----------
    path : Path
        The ledger file, made on first use. Restoring an older copy forgets charges.

    Notes
    -----
    Every method raises `fl.errors.InputError` if the file is damaged or is no ledger, and
    `fl.privacy.LedgerError` if the disk is full or fails.
    """

    def __init__(self, path: Path) -> None:
        self._file = LedgerFile(path)
        # What this process has added up so far, per client, and the last charge in it. Charges are only ever
        # added, so a query folds in the new ones.
        self._spending: dict[str, tuple[int, Spending]] = {}

    def __reduce__(self) -> tuple[Callable[[Path], "RecordLedger"], tuple[Path]]:
        return RecordLedger, (self._file.path,)

    def close(self) -> None:
        """Close this process's connection; a later call opens another."""
        self._file.close()

    def charge(
        self,
        client: str,
        event: str,
        request: bytes,
        reply: bytes,
        mechanism: Mechanism,
        record_ids: NDArray[np.int64],
    ) -> bytes:
        """Charge an event and keep its reply, on disk, before the reply may be sent.

        Parameters
        ----------
        client : str
            The client's name.
        event : str
            Name of the training event.
        request : bytes
            Canonical bytes of what the server asked for. An event asked again with another request is another
            charge, so its noise must be keyed by the request as well (`event_streams` does it).
        reply : bytes
            The bytes to send, at most 10⁹ (SQLite's limit on a value).
        mechanism : Mechanism
            What the event costs each eligible record.
        record_ids : NDArray[np.int64]
            Ids of all records eligible for sampling, drawn or not, in any order, unique; shape (n,), n may
            be 0.

        Returns
        -------
        bytes
            The bytes to send. Repeating a call with equal bytes is free.

        Raises
        ------
        InputError
            If a record id repeats: two rows under one id would need twice the charge.
        ReleaseConflictError
            If this event and request were released with other bytes. Do not send; abandon the event.
        """
        records = canonical(record_ids, f"client {client}")
        key = (client, event, hashlib.sha256(request).digest())
        release = hashlib.sha256(reply).digest()
        with self._file.transaction() as database:
            known = database.execute(
                "SELECT release FROM charge WHERE (client, event, request) = (?, ?, ?)", key
            ).fetchone()
            if known is not None:
                if known[0] != release:
                    raise ReleaseConflictError(
                        f"client {client}, event {event}: other bytes were released before; the event is "
                        "abandoned, since one noise must not cover two values"
                    )
                return reply
            database.execute(
                "INSERT INTO charge (client, event, request, release, mechanism, cohort, reply) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*key, release, mechanism_id(database, mechanism), cohort_id(database, records), reply),
            )
            database.execute(
                "UPDATE charge SET reply = NULL WHERE client = ? AND reply IS NOT NULL AND event <> ?",
                (client, event),
            )
        return reply

    def released(self, client: str, event: str, request: bytes) -> bytes | None:
        """Return the bytes already charged for an event, to be sent again without training.

        Parameters
        ----------
        client, event : str
            Names of the client and the training event.
        request : bytes
            Canonical bytes of what the server asked for.

        Returns
        -------
        bytes or None
            None if the event was not charged, or if a newer event of the client was: then only a digest is
            kept, and training again on the same installation makes the same bytes.
        """
        with self._file.snapshot() as database:
            row: tuple[bytes | None] | None = database.execute(
                "SELECT reply FROM charge WHERE (client, event, request) = (?, ?, ?)",
                (client, event, hashlib.sha256(request).digest()),
            ).fetchone()
        return None if row is None else row[0]

    def charged(self, client: str, event: str, request: bytes) -> NDArray[np.int64] | None:
        """Return the ids of the records charged for an event, or None if it was not charged.

        A repetition of the event must take these as eligible: what is affordable by now may be fewer.
        """
        with self._file.snapshot() as database:
            row: tuple[int] | None = database.execute(
                "SELECT cohort FROM charge WHERE (client, event, request) = (?, ?, ?)",
                (client, event, hashlib.sha256(request).digest()),
            ).fetchone()
            return None if row is None else load_cohort(database, row[0])

    def rdp(self, client: str, record_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what records have spent, by Rényi order.

        Parameters
        ----------
        client : str
            The client's name.
        record_ids : NDArray[np.int64]
            Ids in any order, shape (n,).

        Returns
        -------
        NDArray[np.float64]
            Accumulated RDP in nats, shape (n, len(ORDERS)); zeros for a record never charged.
        """
        with self._file.snapshot() as database:
            return self._spent(database, client).costs(record_ids)

    def epsilons(self, client: str, record_ids: NDArray[np.int64], delta: float) -> NDArray[np.float64]:
        """Return what records have spent, as ε.

        Parameters
        ----------
        client : str
            The client's name.
        record_ids : NDArray[np.int64]
            Ids in any order, shape (n,).
        delta : float
            The δ of (ε, δ)-differential privacy, in (0, 1).

        Returns
        -------
        NDArray[np.float64]
            ε of each record, shape (n,); 0 for a record never charged.

        Notes
        -----
        It is a guarantee if the schedule was fixed in advance, and "spent, not a guarantee" otherwise; see
        `affordable`. It depends on keys of actual records: while these are private it stays on the client.
        """
        with self._file.snapshot() as database:
            return self._spent(database, client).epsilons(record_ids, delta)

    def affordable(
        self,
        client: str,
        record_ids: NDArray[np.int64],
        mechanism: Mechanism,
        budget_epsilon: float,
        delta: float,
    ) -> NDArray[np.bool_]:
        """Find the records that one more event leaves within the budget; the others must not be eligible.

        Parameters
        ----------
        client : str
            The client's name.
        record_ids : NDArray[np.int64]
            Ids of the records in question, shape (n,).
        mechanism : Mechanism
            The event to come.
        budget_epsilon, delta : float
            Each record's budget.

        Returns
        -------
        NDArray[np.bool_]
            Shape (n,); true where ε after the event is at most `budget_epsilon`.

        Notes
        -----
        The rule is valid for a schedule fixed in advance: when every event's mechanism and predicate follow
        from the configuration, which events a record enters, and the one at which it is dropped, follow
        from its own keys and the configuration alone, never from what was learned. Its costs are then
        constants, ordinary composition holds at every order at once, and the smallest ε over orders is a
        guarantee. If instead mechanisms or predicates are chosen after looking at earlier outputs, the
        costs are random, and so is the best order: the minimum is no longer valid. Such a plan needs a
        filter at one order (or with δ split over several) preset before the first event: Feldman and Zrnic,
        *Individual Privacy Accounting via a Rényi Filter* (2021).
        """
        with self._file.snapshot() as database:
            spent = self._spent(database, client)
            return spent.epsilons(record_ids, delta, extra=mechanism) <= budget_epsilon

    def max_epsilon(self, delta: float) -> float:
        """Return the largest ε over all records of all clients at `delta`; 0 for an empty ledger."""
        with self._file.snapshot() as database:
            clients = [client for (client,) in database.execute("SELECT DISTINCT client FROM charge")]
            return max((self._spent(database, client).max_epsilon(delta) for client in clients), default=0.0)

    def _spent(self, database: Connection, client: str) -> Spending:
        """Return the client's charges added up, with those other processes have made since the last call."""
        # Taken out while it changes: a failure half-way must not leave half-added charges behind.
        last, spending = self._spending.pop(client, (0, Spending()))
        rows = database.execute(
            "SELECT MAX(sequence), cohort, mechanism, COUNT(*) FROM charge WHERE client = ? AND sequence > ? "
            "GROUP BY cohort, mechanism",
            (client, last),
        ).fetchall()
        for sequence, cohort, mechanism, events in rows:
            try:
                members = load_cohort(database, cohort)
            except zlib.error as error:
                message = f"{self._file.path} is damaged (record set {cohort}); restore it from a backup"
                raise InputError(message) from error
            spending.add(members, load_mechanism(database, mechanism), events)
            last = max(last, sequence)
        self._spending[client] = last, spending
        return spending
