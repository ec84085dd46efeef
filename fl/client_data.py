"""A client's rows in its shard store: read by request, logged, and cut anew between rounds.

On a real node the store is a folder, brought up to date with the data source whenever a process opens it. In a
simulation it is kept in the memory of each worker; what must outlive a call, the layout and the last requests,
travels in the client's state, so that any worker can go on with any client.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from fl.data import Records, Source
from fl.data.datasets import KEPT_CLIENTS
from fl.engine.seeding import derive
from fl.run.reads import ACCESS_LOG, DECISION_LOG
from fl.settings import Settings
from shards.access import Access, AccessLog
from shards.audit import DecisionLog
from shards.cost import scan_bytes
from shards.errors import InputError
from shards.files import FolderFiles, MemoryFiles
from shards.forecast import repeat
from shards.layout import Layout
from shards.planner import Holdings, plan
from shards.planner import Settings as PlannerSettings
from shards.request import Request
from shards.schema import Schema
from shards.snapshot import Scan, Snapshot
from shards.store import Store
from shards.table import Table

HELD_OUT = "fedshard.held-out"
"""Key that tells rows to evaluate on from rows to train on, where a share is held out."""

_STATE = "fedshard.shards"
_REMEMBERED = 24  # requests that the planner looks back on
_CLOSE = 1.05  # times the bytes that match: what a cut may read and count as perfect


@dataclass(frozen=True)
class Holder:
    """Whose rows these are, and where what is kept of them belongs.

    Attributes
    ----------
    name : str
        The client's name in logs.
    index, clients : int
        Which client of how many.
    folder : Path
        Its private folder; in a simulation all clients share one.
    simulated : bool
        Whether the store is kept in memory.
    """

    name: str
    index: int
    clients: int
    folder: Path
    simulated: bool


class ClientData:
    """One client's rows during one call.

    Parameters
    ----------
    settings : Settings
        What is asked for, and how the rows may be cut.
    holder : Holder
        Whose rows.
    state : RecordDict
        The client's state, which outlives the call.
    """

    def __init__(self, settings: Settings, holder: Holder, state: RecordDict) -> None:
        self._settings, self._holder, self._state = settings, holder, state
        self._log = AccessLog(holder.folder / ACCESS_LOG)
        self._store = self._open()

    def train(self, server_round: int) -> Records:
        """Return the rows that a round trains on, by increasing id; there may be none."""
        request = self._settings.schedule().at(server_round)
        if self._settings.local_test_fraction:
            request = request.where(**{HELD_OUT: False})
        return self._read(server_round, "train", request)

    def evaluate(self, server_round: int) -> Records:
        """Return the rows held out, by increasing id; there may be none."""
        return self._read(server_round, "evaluate", Request.everything().where(**{HELD_OUT: True}))

    def _read(self, server_round: int, purpose: str, request: Request) -> Records:
        event = f"round {server_round} {purpose}"
        if self._settings.private and not request.public:
            raise InputError(f"{event}: the request depends on local data; with privacy on, release it first (law 4)")
        read = self._store.read(request)
        self._note(event, self._settings.schedule().clock(server_round), request, read.scan)
        return Records.of(read.table)

    def _note(self, event: str, clock: np.datetime64, request: Request, scan: Scan) -> None:
        """Log a read, and remember what was asked and how many bytes matched."""
        memory = self._memory()
        generation = memory["generation"] if self._holder.simulated else self._store.generation
        counts = (generation, scan.opened, scan.shards, scan.bytes_read, scan.bytes_matching, scan.rows)
        self._log.append(Access(self._holder.name, event, clock, request, *counts))
        memory["reads"] = [*memory["reads"], [request.to_json(), scan.bytes_matching]][-_REMEMBERED:]
        self._remember(memory)

    def settle(self, server_round: int) -> None:
        """Between rounds: cut the rows anew where what is asked for lately says that it pays."""
        memory, planner = self._memory(), self._settings.planner()
        history = [Request.from_json(request) for request, _ in memory["reads"]]
        with self._store.pin() as snapshot:
            if _settled(snapshot, history, [matching for _, matching in memory["reads"]], planner):
                return
            holdings = Holdings.of(snapshot)
        chosen = plan(holdings, history, planner)
        DecisionLog(self._holder.folder / DECISION_LOG).append(
            self._holder.name,
            f"after round {server_round}",
            chosen.state,
            chosen.candidates,
            planner.policy,
            chosen.decision,
        )
        if chosen.act:
            self._store.recut(chosen.layout)
            self._remember(memory | {"generation": memory["generation"] + 1, "layout": chosen.layout.to_json()})

    def _memory(self) -> dict[str, Any]:
        record = self._state.config_records.get(_STATE)
        if record is None:
            return {"generation": 1, "layout": Layout.single().to_json(), "reads": []}
        return dict(json.loads(str(record["memory"])))

    def _remember(self, memory: Mapping[str, Any]) -> None:
        self._state[_STATE] = ConfigRecord({"memory": json.dumps(memory, separators=(",", ":"))})

    def _open(self) -> Store:
        """Open the store and bring it to where the client's rows and state are."""
        holder, source = self._holder, self._settings.source()
        if not holder.simulated:
            return _on_disk(holder.folder / "store", source, holder.index, holder.clients, self._settings)
        store = _in_memory(source, holder.index, holder.clients, self._settings)
        layout = Layout.from_json(self._memory()["layout"])
        if store.layout != layout:  # another worker cut it since, or this one did in another run
            store.recut(layout)
        return store


def _settled(
    snapshot: Snapshot, history: Sequence[Request], matching: Sequence[int], planner: PlannerSettings
) -> bool:
    """Return whether the cut serves what is expected to be asked about as well as any: no plan could pay for itself.

    Reads that match no more rows than they did lately cost at least that many bytes, whatever the cut.
    """
    if len(snapshot.zones) > planner.max_boxes + planner.max_deltas:
        return False
    bound = [request.bind(snapshot.schema.kinds) for request in history]
    expected = repeat(bound, planner.horizon)
    reading = sum(scan_bytes(request, snapshot.zones) for request in expected)
    return reading * len(matching) <= _CLOSE * sum(matching) * len(expected)


@lru_cache(maxsize=KEPT_CLIENTS)
def _in_memory(source: Source, index: int, clients: int, settings: Settings) -> Store:
    return Store.create(MemoryFiles(), _rows(source, index, clients, settings))


def _on_disk(folder: Path, source: Source, index: int, clients: int, settings: Settings) -> Store:
    """Open a store on disk whose rows are those of the source, as these settings mark them.

    That is made sure of once per process, and again where another run with other settings has opened it since.
    """
    wanted = hashlib.sha256(repr((settings, index, clients)).encode()).hexdigest()
    follows = folder.with_name(f"{folder.name}.follows")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with follows.open("a+", encoding="ascii") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)  # two processes of one node would undo each other's changes
        marker.seek(0)
        if (folder, wanted) not in _followed or marker.read() != wanted:
            try:
                _follow(folder, _rows(source, index, clients, settings))
            except InputError as error:
                raise InputError(f"{error}; or remove {folder}: it is made anew from the data source") from error
            marker.truncate(0)
            marker.write(wanted)
            _followed.add((folder, wanted))
        return Store.open(FolderFiles(folder))


_followed: set[tuple[Path, str]] = set()
"""Stores on disk, and what they were made to follow, in this process."""


def _follow(folder: Path, table: Table) -> None:
    """Create a store, or change its rows to those of a table; its cut stays."""
    old, files = folder.with_name(f"{folder.name}.old"), FolderFiles(folder)
    shutil.rmtree(old, ignore_errors=True)  # left by a process that was killed here
    if Store.exists(files):
        store = Store.open(files)
        with store.pin() as snapshot:
            same_columns = snapshot.schema == Schema.of(table)
        if same_columns:
            kept = _unchanged(held := store.read(Request.everything()).table, table)
            if len(gone := np.setdiff1d(held.ids, kept)):
                store.purge(Request.everything().where(id=gone.tolist()))
            store.append(table.take(~np.isin(table.ids, kept)))
            return
        folder.rename(old)  # other columns are configured: the source has them all, so nothing is lost
        shutil.rmtree(old)
    Store.create(files, table)


def _unchanged(held: Table, table: Table) -> NDArray[np.int64]:
    """Return the ids of the rows that are the same in both tables."""
    common, ours, theirs = np.intersect1d(held.ids, table.ids, assume_unique=True, return_indices=True)
    same = np.ones(len(common), np.bool_)
    one, other = held.take(ours), table.take(theirs)
    for name in (*table.keys, *table.columns):
        left, right = (np.asarray({**t.keys, **t.columns}[name]) for t in (one, other))
        same &= (left == right).all(axis=tuple(range(1, left.ndim)))
    return common[same]


def _rows(source: Source, index: int, clients: int, settings: Settings) -> Table:
    """Read the client's rows, marked by whether they are held out."""
    table = source.client(index, clients).table()
    if not settings.local_test_fraction:
        return table
    marks = held_out(table.ids, settings.local_test_fraction, settings.data_seed, keep_one=not settings.private)
    return Table(table.ids, {**table.keys, HELD_OUT: marks}, table.columns)


def held_out(ids: NDArray[np.int64], fraction: float, seed: int, keep_one: bool) -> NDArray[np.bool_]:
    """Choose which of a client's rows are held out.

    Which side a row is on depends on its own id and the seed alone, so rows may come and go without moving others.

    Parameters
    ----------
    ids : NDArray[np.int64]
        The client's record ids, shape (n,).
    fraction : float
        Expected share held out, from 0 to below 1.
    seed : int
        The data seed.
    keep_one : bool
        Whether to train on one row where all would be held out. Not under privacy: there, whether a row takes part
        must not depend on other rows.

    Returns
    -------
    NDArray[np.bool_]
        Whether each row is held out, shape (n,).
    """
    draws = np.array([derive(seed, "held out", int(number), bits=53) for number in ids])
    chosen = draws < fraction * 2**53
    if keep_one and chosen.all():
        chosen[np.argmax(draws)] = False
    return chosen
