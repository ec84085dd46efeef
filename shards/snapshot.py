"""One generation of a store, as a reader sees it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shards.errors import InputError
from shards.files import Files
from shards.layout import Layout
from shards.manifest import Manifest, Shard
from shards.payload import Payload
from shards.request import Request
from shards.schema import Schema
from shards.table import Table, concat
from shards.zone import Zone


@dataclass(frozen=True)
class Scan:
    """What a read cost. Bytes are those of `Table.row_bytes`.

    Attributes
    ----------
    shards, opened : int
        Shards there are, and those opened because their zone may match.
    bytes_read : int
        Of all rows of the opened shards: a shard is the unit of reading.
    bytes_matching : int
        Of the rows asked for.
    rows : int
        Rows asked for.
    """

    shards: int
    opened: int
    bytes_read: int
    bytes_matching: int
    rows: int


@dataclass(frozen=True)
class Read:
    """The rows asked for, by increasing id, and what it cost to find them."""

    table: Table
    scan: Scan


class Snapshot:
    """One generation of a store. It stays readable while it is pinned; see `Store.pin`."""

    def __init__(self, files: Files, manifest: Manifest) -> None:
        self._files = files
        self.manifest = manifest

    @property
    def where(self) -> str:
        """What opens an error line."""
        return self._files.where

    @property
    def generation(self) -> int:
        """Number of the generation."""
        return self.manifest.generation

    @property
    def layout(self) -> Layout:
        """How the rows were cut."""
        return self.manifest.layout

    @property
    def schema(self) -> Schema:
        """Names and types of keys and columns."""
        return self.manifest.schema

    @property
    def zones(self) -> tuple[Zone, ...]:
        """What is known of each shard without opening it."""
        return tuple(shard.zone for shard in self.manifest.shards)

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(zone.rows for zone in self.zones)

    def read(self, request: Request) -> Read:
        """Read the rows asked for; only shards whose zone may match are opened.

        Where one whole shard matches, the payload's arrays are views on the file, not copied. What is returned
        belongs to the caller: writing to it changes neither the file nor what others read, and it outlives the pin.

        Raises
        ------
        InputError
            If the request does not fit the keys, or a shard is missing or damaged.
        """
        bound = request.bind(self.schema.kinds)
        opened = [shard.zone for shard in self.manifest.shards if bound.may_match(shard.zone)]
        table = concat(list(self.parts(bound)) or [self.schema.empty()])
        read = sum(zone.bytes for zone in opened)
        return Read(table, Scan(len(self.manifest.shards), len(opened), read, table.nbytes, len(table)))

    def parts(self, request: Request) -> Iterator[Table]:
        """Yield the rows asked for shard by shard, in no more memory than one takes; raises as `read`."""
        bound = request.bind(self.schema.kinds)
        for shard in self.manifest.shards:
            if bound.may_match(shard.zone):
                part = self._select(shard, bound)
                if len(part):
                    yield part

    def keys(self) -> Table:
        """Return ids and keys of all rows, by increasing id; payload is not touched."""
        empty = self.schema.empty()
        return concat([Table(empty.ids, empty.keys), *(self.open(shard).keys() for shard in self.manifest.shards)])

    def verify(self) -> None:
        """Check every shard: its checksum, and that its rows are those that the manifest speaks of.

        Raises
        ------
        InputError
            Naming the first file that is missing, damaged or not what the manifest says.
        """
        for shard in self.manifest.shards:
            self._files.verified.discard(shard.file)
            table = self.open(shard).table()
            boxes = {shard.box} if shard.box is None else set(self.layout.assign(table).tolist())
            if Zone.of(table) != shard.zone or boxes != {shard.box}:
                raise InputError(f"{self.where}/{shard.file}: its rows are not those in {self.manifest.file}")
        ids = self.keys().ids
        if (ids[1:] == ids[:-1]).any():
            repeated = ids[1:][ids[1:] == ids[:-1]][0]
            raise InputError(f"{self.where}/{self.manifest.file}: record id {repeated} is in two shards")

    def open(self, shard: Shard) -> Payload:
        """Open a shard; its checksum is computed when this process first does so, its size is compared each time.

        Raises
        ------
        InputError
            If the file is missing or damaged.
        """
        where = f"{self.where}/{shard.file}"
        try:
            data = self._files.map(shard.file)
        except FileNotFoundError as error:
            raise InputError(
                f"{where}: missing, though {self.manifest.file} names it; restore it from a copy"
            ) from error
        if len(data) != shard.size:
            raise InputError(f"{where}: damaged, {len(data)} bytes and not {shard.size}; restore it from a copy")
        if shard.file not in self._files.verified:
            if hashlib.sha256(data).hexdigest() != shard.digest:
                raise InputError(f"{where}: damaged, its content does not match its name; restore it from a copy")
            self._files.verified.add(shard.file)
        return Payload(data, self.schema)

    def _select(self, shard: Shard, bound: Request) -> Table:
        payload = self.open(shard)
        if bound.covers(shard.zone):
            return payload.table()
        wanted = bound.mask(payload.keys())
        return payload.table() if wanted.all() else payload.take(np.flatnonzero(wanted))
