"""A client's records in shards that can be cut anew while they are read.

A store is a set of immutable shards, named by their content, and one manifest per generation. A commit writes new
shards durably, then the manifest by one rename, and only then removes what no generation in use names. So whatever
instant a crash hits, the newest manifest is whole and every shard it names is there.

Writers take turns; readers pin a generation and hinder nobody.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from shards.disk import DiskFullError
from shards.errors import FedshardError, InputError
from shards.files import TEMPORARY, Content, Files
from shards.layout import Layout
from shards.manifest import Manifest, Shard, generation_of
from shards.request import Request
from shards.scalar import ID
from shards.schema import Schema
from shards.snapshot import Read, Snapshot
from shards.table import Rows, Table, concat, validate
from shards.zone import Zone

_SHARD = re.compile(r"[0-9a-f]{64}\.safetensors")


class Store:
    """A store; `create` or `open` one. What it says of itself is that of the newest generation."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._decoded: Manifest | None = (
            None  # the newest manifest that was seen: most reads find it still the newest
        )

    @staticmethod
    def create(files: Files, table: Table, layout: Layout | None = None) -> "Store":
        """Create a store.

        Parameters
        ----------
        files : Files
            Where it is kept.
        table : Table
            Its first rows, possibly none; they set the schema.
        layout : Layout, optional
            How to cut them; one box by default.

        Raises
        ------
        InputError
            If there is a store already, the table is not valid (see `table.validate`) or the layout does not fit it.
        DiskFullError
            If the disk is full; nothing is left behind.
        """
        store = Store(files)
        table = validate(table, files.where)
        layout = (layout or Layout.single()).bind(table.kinds)
        with files.writing():
            if Store.exists(files):
                raise InputError(f"{files.where}: holds a shard store already; open it, or name another folder")
            nothing = Manifest(0, Schema.of(table), layout, ())
            boxes = layout.assign(table)
            store._commit(nothing, (Shard.of(table.take(_in(box, boxes)), box) for box in np.unique(boxes).tolist()))
        return store

    @staticmethod
    def open(files: Files) -> "Store":
        """Open a store, and remove what a crash left behind unless a writer is at work.

        Raises
        ------
        InputError
            If there is none, or its manifest is damaged or newer than this code.
        """
        store = Store(files)
        newest = store._manifest()
        known = {newest.file, *(shard.file for shard in newest.shards)}
        if any(name not in known and _ours(name) for name in files.names()):
            with suppress(FedshardError), files.writing(wait=False):
                store._sweep()
        return store

    @staticmethod
    def exists(files: Files) -> bool:
        """Return whether there is a store; what a creation cut short left behind is none."""
        return bool(Store(files)._generations())

    @property
    def generation(self) -> int:
        """Number of the generation, from 1."""
        return self._manifest().generation

    @property
    def layout(self) -> Layout:
        """How the rows are cut."""
        return self._manifest().layout

    @property
    def zones(self) -> tuple[Zone, ...]:
        """What is known of each shard without opening it."""
        return Snapshot(self._files, self._manifest()).zones

    @contextmanager
    def pin(self) -> Iterator[Snapshot]:
        """Keep the newest generation readable until the context ends, whatever is committed or removed meanwhile.

        A pin is a shared lock on the manifest: it ends with this process, and no writer waits for it.
        """
        with ExitStack() as stack:
            while True:
                manifest = self._manifest()
                try:
                    stack.enter_context(self._files.holding(manifest.file))
                    break
                except FileNotFoundError:  # replaced between reading and locking
                    continue
            yield Snapshot(self._files, manifest)

    def read(self, request: Request) -> Read:
        """Read the rows asked for; see `Snapshot.read`."""
        with self.pin() as snapshot:
            return snapshot.read(request)

    def keys(self) -> Table:
        """Return ids and keys of all rows, by increasing id; payload is not touched."""
        with self.pin() as snapshot:
            return snapshot.keys()

    def verify(self) -> None:
        """Check every shard of the newest generation; see `Snapshot.verify`."""
        with self.pin() as snapshot:
            snapshot.verify()

    def append(self, table: Table) -> int:
        """Add rows as one further shard, which no box takes in before the next `compact` or `recut`.

        One shard and not one per box: an append costs one sync, and most rows of an append are alike in time, so that
        its zone tells them apart from the rest.

        Returns
        -------
        int
            Bytes written.

        Raises
        ------
        InputError
            If the table is not valid, has other columns, or a record id that is in the store.
        DiskFullError
            If the disk is full; nothing was added.
        """
        table = validate(table, self._files.where)
        with self._writing() as snapshot:
            snapshot.schema.check(table, self._files.where)
            if len(table) == 0:
                return 0
            _check_new(table, snapshot)
            kept = ((shard, None) for shard in snapshot.manifest.shards)
            return self._commit(snapshot.manifest, chain(kept, [Shard.of(snapshot.schema.arranged(table), None)]))

    def recut(self, layout: Layout) -> int:
        """Cut all rows by a layout; a shard whose rows stay together alone in one box is not written again.

        Returns
        -------
        int
            Bytes moved: those of the boxes that had to be written.

        Raises
        ------
        InputError
            If the layout does not fit the keys, or a shard is missing or damaged.
        DiskFullError
            If the disk is full; the rows stay as they were cut.
        """
        with self._writing() as snapshot:
            return self._cut(snapshot, layout.bind(snapshot.schema.kinds))

    def compact(self) -> int:
        """Take appended rows into their boxes; returns and raises as `recut`."""
        with self._writing() as snapshot:
            return self._cut(snapshot, snapshot.layout)

    def purge(self, request: Request) -> int:
        """Remove rows for good, from the newest generation and from those before it.

        The files are removed from the file system; what a medium keeps of removed files is beyond this code.

        Returns
        -------
        int
            Rows removed.

        Raises
        ------
        InputError
            If the request does not fit the keys; or if a reader still holds an older generation with such rows. New
            reads no longer see them even then; purge again after the reader ends.
        DiskFullError
            If the disk is full; purge again when it is not.
        """
        with self._writing() as snapshot:
            bound = request.bind(snapshot.schema.kinds)
            touched = [shard for shard in snapshot.manifest.shards if bound.may_match(shard.zone)]
            rows = sum(int(bound.mask(snapshot.open(shard).keys()).sum()) for shard in touched)
            if rows:
                self._commit(snapshot.manifest, _without(snapshot, bound))
            held = self._sweep()
            self._files.sync()  # the removals must last; elsewhere what comes back is swept again
            for older in held:
                if any(bound.may_match(shard.zone) for shard in older.shards):
                    raise InputError(
                        f"{self._files.where}: {rows} rows removed, but a reader holds generation "
                        f"{older.generation}, whose files keep them; purge again when it has ended"
                    )
        return rows

    @contextmanager
    def _writing(self) -> Iterator[Snapshot]:
        """Be the only writer, with the newest generation."""
        with self._files.writing():
            yield Snapshot(self._files, self._manifest())

    def _cut(self, snapshot: Snapshot, layout: Layout) -> int:
        return self._commit(replace(snapshot.manifest, layout=layout), _regrouped(snapshot, layout))

    def _commit(self, old: Manifest, shards: Iterable[tuple[Shard, Content | None]]) -> int:
        """Make a new generation of shards, given with their bytes where they are new; return the bytes written."""
        there = {shard.file for shard in old.shards}
        after: list[Shard] = []
        written = 0

        def new() -> Iterator[tuple[str, Content]]:  # one at a time, so that a recut holds no more than one box
            nonlocal written
            for shard, content in shards:
                after.append(shard)
                if content is not None and shard.file not in there:
                    there.add(shard.file)
                    written += shard.zone.bytes
                    yield shard.file, content

        manifest = replace(old, generation=old.generation + 1)
        try:
            self._files.write(new())
            manifest = replace(manifest, shards=tuple(after))
            self._files.write([(manifest.file, [manifest.encode()])])
            self._decoded = manifest
        except BaseException:
            self._files.remove(manifest.file)  # where only the sync after its rename failed
            raise
        finally:
            with suppress(DiskFullError):  # what is left is removed by the next commit
                self._sweep()
        return written

    def _sweep(self) -> list[Manifest]:
        """Remove what neither the newest generation nor a held one names; return the held ones. Writers only."""
        *older, newest = self._generations() or [""]
        held = [self._load(name) for name in older if not self._files.remove(name)]
        live = [self._load(newest), *held] if newest else []
        used = {name for manifest in live for name in (manifest.file, *(shard.file for shard in manifest.shards))}
        for name in self._files.names():
            if _ours(name) and name not in used:
                self._files.remove(name)
        return held

    def _generations(self) -> list[str]:
        """Names of the manifests, the newest last."""
        return sorted(name for name in self._files.names() if generation_of(name) is not None)

    def _manifest(self) -> Manifest:
        """Return the newest manifest."""
        while True:
            generations = self._generations()
            if not generations:
                raise InputError(f"{self._files.where}: no shard store here; name the folder of one, or create it")
            with suppress(FileNotFoundError):  # replaced between listing and reading
                self._decoded = self._load(generations[-1])
                return self._decoded

    def _load(self, name: str) -> Manifest:
        if self._decoded and self._decoded.file == name:
            return self._decoded
        return Manifest.decode(bytes(self._files.map(name)), f"{self._files.where}/{name}")


def _ours(name: str) -> bool:
    """Return whether a store made the file: other files in its folder are left alone."""
    whole = name.removesuffix(TEMPORARY)
    return generation_of(whole) is not None or _SHARD.fullmatch(whole) is not None


def _check_new(table: Table, snapshot: Snapshot) -> None:
    """Raise if a record id is in the store; only shards whose ids may overlap are opened."""
    same = Request.everything().between(ID, int(table.ids[0])).between(ID, None, int(table.ids[-1]) + 1)
    for shard in snapshot.manifest.shards:
        if same.may_match(shard.zone):
            ids = snapshot.open(shard).ids
            at = np.minimum(np.searchsorted(ids, table.ids), len(ids) - 1)
            known = table.ids[ids[at] == table.ids]
            if len(known):
                raise InputError(
                    f"{snapshot.where}: record id {known[0]} is in the store; purge it first to replace it"
                )


def _regrouped(snapshot: Snapshot, layout: Layout) -> Iterator[tuple[Shard, Content | None]]:
    """Yield the shard of each box, with its bytes where it is no shard already."""
    shards = snapshot.manifest.shards
    assigned = [layout.assign(snapshot.open(shard).keys()) for shard in shards]
    for box in np.unique(np.concatenate([*assigned, np.empty(0, np.int64)])).tolist():
        sources = [(shard, boxes) for shard, boxes in zip(shards, assigned, strict=True) if (boxes == box).any()]
        only, boxes = sources[0]
        if len(sources) == 1 and (boxes == box).all():
            yield replace(only, box=box), None
        else:
            yield Shard.of(concat([snapshot.open(shard).take(_in(box, boxes)) for shard, boxes in sources]), box)


def _in(box: int, boxes: NDArray[np.int64]) -> Rows:
    """Return which rows are in a box: a slice where they follow one another, since a slice copies nothing."""
    rows = np.flatnonzero(boxes == box)
    first, end = int(rows[0]), int(rows[-1]) + 1
    return slice(first, end) if end - first == len(rows) else rows


def _without(snapshot: Snapshot, bound: Request) -> Iterator[tuple[Shard, Content | None]]:
    """Yield each shard without the rows asked for, with its bytes where it had such rows."""
    for shard in snapshot.manifest.shards:
        kept = ~bound.mask(snapshot.open(shard).keys()) if bound.may_match(shard.zone) else np.ones(1, np.bool_)
        if kept.all():
            yield shard, None
        elif kept.any():
            yield Shard.of(snapshot.open(shard).take(kept), shard.box)
