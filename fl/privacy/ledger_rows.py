"""Rows the ledger stores once and refers to: mechanisms and sets of records."""

import hashlib
from sqlite3 import Connection

import numpy as np
from numpy.typing import NDArray

from fl.privacy.accounting import Mechanism
from fl.privacy.cohort import decode, encode


def mechanism_id(database: Connection, mechanism: Mechanism) -> int:
    """Return the row of a mechanism, adding it if new."""
    values = (float(mechanism.sampling_rate), float(mechanism.noise_multiplier), mechanism.steps)
    database.execute(
        "INSERT OR IGNORE INTO mechanism (sampling_rate, noise_multiplier, steps) VALUES (?, ?, ?)", values
    )
    query = "SELECT id FROM mechanism WHERE (sampling_rate, noise_multiplier, steps) = (?, ?, ?)"
    (row,) = database.execute(query, values).fetchone()
    return int(row)


def load_mechanism(database: Connection, row: int) -> Mechanism:
    """Return the mechanism stored in a row."""
    query = "SELECT sampling_rate, noise_multiplier, steps FROM mechanism WHERE id = ?"
    return Mechanism(*database.execute(query, (row,)).fetchone())


def cohort_id(database: Connection, records: NDArray[np.int64]) -> int:
    """Return the row of a set of records (sorted, shape (n,)), adding it if new."""
    # The digest is of the ids and not of their packed form, which may differ between versions of zlib.
    digest = hashlib.sha256(records.astype("<i8").tobytes()).digest()
    query = "SELECT id FROM cohort WHERE digest = ?"
    known = database.execute(query, (digest,)).fetchone()
    if known is None:
        database.execute("INSERT INTO cohort (digest, records) VALUES (?, ?)", (digest, encode(records)))
        known = database.execute(query, (digest,)).fetchone()
    return int(known[0])


def load_cohort(database: Connection, row: int) -> NDArray[np.int64]:
    """Return the set of records stored in a row, sorted, shape (n,).

    Raises
    ------
    zlib.error
        If the row is damaged: SQLite keeps no checksums of its own.
    """
    (encoded,) = database.execute("SELECT records FROM cohort WHERE id = ?", (row,)).fetchone()
    return decode(encoded)
