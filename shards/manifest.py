"""The manifest of one generation of a store: which shards there are, and what is in each."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from shards.errors import InputError
from shards.files import Content
from shards.layout import Layout
from shards.payload import encode
from shards.schema import Schema
from shards.table import Table
from shards.zone import Zone

VERSION = 1
"""Of the format of manifests and shards; a change that older code would misread raises it."""

_NAME = re.compile(r"manifest-(\d{10})\.json")
_HEAD, _MIDDLE, _END = b'{"sha256": "', b'",\n"manifest": ', b"}\n"


@dataclass(frozen=True)
class Shard:
    """One immutable file of rows.

    Attributes
    ----------
    digest : str
        SHA-256 of the file's bytes, in hexadecimal; it names the file.
    size : int
        Bytes of the file.
    box : int or None
        The box of the layout whose rows it holds; None for appended rows that no box has taken in yet.
    zone : Zone
        Of its rows, of which there is at least one.
    """

    digest: str
    size: int
    box: int | None
    zone: Zone

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.digest}.safetensors"

    @staticmethod
    def of(table: Table, box: int | None) -> "tuple[Shard, Content]":
        """Return the shard of a table in canonical order, and its file's bytes."""
        content = encode(table)
        digest = hashlib.sha256()
        for part in content:
            digest.update(part)
        return Shard(digest.hexdigest(), sum(map(len, content)), box, Zone.of(table)), content


@dataclass(frozen=True)
class Manifest:
    """One generation of a store.

    Attributes
    ----------
    generation : int
        From 1, one more with each commit.
    schema : Schema
        The same in every generation.
    layout : Layout
        How rows were cut; shards with a box number follow it.
    shards : tuple of Shard
        Boxes in order, then appended rows in the order in which they came.
    """

    generation: int
    schema: Schema
    layout: Layout
    shards: tuple[Shard, ...]

    @property
    def file(self) -> str:
        """The file's name."""
        return f"manifest-{self.generation:010}.json"

    def encode(self) -> bytes:
        """Return the manifest as JSON with its own checksum in front."""
        shards = [[s.digest, s.size, s.box, s.zone.to_json()] for s in self.shards]
        body = {
            "format": "fedshard store", "version": VERSION, "generation": self.generation,
            "schema": self.schema.to_json(), "layout": self.layout.to_json(), "shards": shards,
        }  # fmt: skip
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        return b"".join([_HEAD, hashlib.sha256(data).hexdigest().encode(), _MIDDLE, data, _END])

    @staticmethod
    def decode(data: bytes, where: str) -> "Manifest":
        """Return the manifest that `encode` wrote.

        Raises
        ------
        InputError
            If the bytes are damaged, or a newer fedshard wrote them; the line opens with `where`.
        """
        start = len(_HEAD) + 64 + len(_MIDDLE)
        body = data[start : -len(_END)]
        checksum = hashlib.sha256(body).hexdigest().encode()
        if data[:start] != _HEAD + checksum + _MIDDLE or data[-len(_END) :] != _END:
            raise InputError(f"{where}: damaged, its content does not match its checksum; restore it from a copy")
        fields: dict[str, Any] = json.loads(body.decode("utf-8", "surrogatepass"))
        if fields["version"] > VERSION:
            raise InputError(
                f"{where}: written by a newer fedshard (format {fields['version']}, this one reads up to {VERSION}); "
                "upgrade fedshard"
            )
        return Manifest(
            fields["generation"],
            Schema.from_json(fields["schema"]),
            Layout.from_json(fields["layout"]),
            tuple(Shard(digest, size, box, Zone.from_json(z)) for digest, size, box, z in fields["shards"]),
        )


def generation_of(name: str) -> int | None:
    """Return the generation of a manifest's file name, None for any other name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None
