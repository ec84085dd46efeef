"""Records decoded block by block, put together without holding the features twice."""

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fl.data.blocks import Block
from fl.data.records import Records
from shards.errors import InputError


@dataclass
class Gathered:
    """What was decoded so far: features in one array that grows in place, the small columns in parts."""

    parts: list[Records] = field(default_factory=list)
    origins: list[Block] = field(default_factory=list)
    features: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    count: int = 0

    def add(self, part: Records, block: Block, *, ids_may_repeat: bool) -> None:
        """Append the records of a block.

        Raises
        ------
        InputError
            If their features have another shape than those before.
        """
        shape = part.features.shape[1:]
        if self.parts and shape != self.parts[0].features.shape[1:]:
            before = self.parts[0].features.shape[1:]
            raise InputError(
                f"{block.file}: features of shape {shape} after others of {before}; make all files alike"
            )
        width = int(np.prod(shape))
        start, end = self.count * width, (self.count + len(part)) * width
        if end > self.features.size:
            # realloc moves pages, not bytes: a quarter more at a time never needs the features twice.
            self.features.resize(max(end, self.features.size * 5 // 4), refcheck=False)
        self.features[start:end] = part.features.ravel()
        self.count += len(part)
        nothing = np.empty((0, *shape), dtype=np.float32)  # a slice would keep the whole block alive
        self.parts.append(Records(nothing, part.labels, part.ids, part.keys))
        if ids_may_repeat:
            self.origins.append(Block(block.file, block.unit, array("q", block.rows), {}))

    def check_ids(self, column: str) -> None:
        """Raise if two rows have one id, naming both."""
        if not column:
            return
        ids = np.concatenate([part.ids for part in self.parts])
        order = np.argsort(ids, kind="stable")
        twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
        if len(twice):
            earlier, later = (self._place(int(row)) for row in order[twice[0] : twice[0] + 2])
            raise InputError(f"{later}, column {column!r}: the same id as {earlier}; give every record its own")

    def records(self) -> Records:
        """Return all rows."""
        shape = self.parts[0].features.shape[1:]
        self.features.resize(self.count * int(np.prod(shape)), refcheck=False)
        return Records(
            self.features.reshape(self.count, *shape),
            np.concatenate([part.labels for part in self.parts]),
            np.concatenate([part.ids for part in self.parts]),
            {name: np.concatenate([part.keys[name] for part in self.parts]) for name in self.parts[0].keys},
        )

    def _place(self, row: int) -> str:
        for origin in self.origins:
            if row < len(origin):
                return f"{origin.file}, {origin.unit} {origin.rows[row]}"
            row -= len(origin)
        raise IndexError(row)
