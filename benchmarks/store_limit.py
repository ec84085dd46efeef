"""A store four times larger than the memory its process may use: ``python -m benchmarks.store_limit FOLDER MIB``."""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import run
from benchmarks.store_rivals import drop_from_cache
from shards.files import FolderFiles
from shards.layout import Cut, Layout, Leaf, Node
from shards.request import Request
from shards.scalar import scalar
from shards.store import Store
from shards.table import Table

LIMIT_MIB, TIMES, BOXES = 192, 4, 32
"""The limit (RLIMIT_DATA: heap, stacks and private writable maps), the store's size in limits, and its shards."""

_FLOATS, _START, _ROWS = 256, np.datetime64("2020-01-01", "us"), 24 * 1024
_STEP = np.timedelta64(15, "m")
_REPEATS = 5


@dataclass(frozen=True)
class Limited:
    """What a process with the limit found.

    Attributes
    ----------
    window_hot_s, window_cold_s : float
        Median seconds to read one week by its request.
    chunks_hot_s, chunks_cold_s : float
        The same by reading everything in chunks, one shard at a time, and filtering.
    rows : int
        Rows of the week, alike in both.
    everything : str
        What happened when everything was read at once.
    """

    window_hot_s: float
    window_cold_s: float
    chunks_hot_s: float
    chunks_cold_s: float
    rows: int
    everything: str


def measure(folder: Path) -> tuple[Limited, int]:
    """Write the store, read it in a process with the limit, and return what that found and the store's bytes."""
    rng = np.random.default_rng(0)
    total = TIMES * LIMIT_MIB * 2**20 // (4 * _FLOATS)
    store: Store | None = None
    for first in range(0, total, _ROWS):
        ids = np.arange(first, min(first + _ROWS, total))
        keys = {"time": _START + ids * _STEP, "region": np.array(["north", "south"])[ids % 2]}
        part = Table(ids, keys, {"features": rng.random((len(ids), _FLOATS), dtype=np.float32)})
        if store is None:
            store = Store.create(FolderFiles(folder), part, Layout(_cuts(0, BOXES, total)))
        else:
            store.append(part)
    assert store is not None
    store.compact()
    _, output = run([sys.executable, "-m", "benchmarks.store_limit", str(folder), str(LIMIT_MIB)])
    return Limited(**json.loads(output.splitlines()[-1])), sum(zone.bytes for zone in store.zones)


def _cuts(low: int, high: int, total: int) -> Node:
    if high - low == 1:
        return Leaf()
    middle = (low + high) // 2
    at = scalar(_START + middle * total // BOXES * _STEP)
    return Cut("time", at, _cuts(low, middle, total), _cuts(middle, high, total))


def _limited(folder: Path, limit_mib: int) -> Limited:
    resource.setrlimit(resource.RLIMIT_DATA, (limit_mib << 20, limit_mib << 20))
    files = FolderFiles(folder)
    store = Store.open(files)
    middle = _START + len(store.keys()) // 2 * _STEP
    week = Request.window("7d").where(region="north").resolve(middle)

    def window() -> int:
        return store.read(week).scan.rows

    def chunks() -> int:
        with store.pin() as snapshot:
            return sum(int(week.mask(part).sum()) for part in map(_touched, snapshot.parts(Request.everything())))

    def seconds(work: Callable[[], int], cold: bool) -> float:
        found = []
        for _ in range(_REPEATS):
            if cold:
                files.verified.clear()
                drop_from_cache(list(folder.iterdir()))
            start = time.perf_counter()
            assert work() == rows
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    rows = window()
    times = [seconds(work, cold) for work in (window, chunks) for cold in (False, True)]
    try:
        store.read(Request.everything())
        everything = "read"
    except (MemoryError, OSError):  # of an array, or of a map
        everything = "out of memory"
    return Limited(*times, rows, everything)


def _touched(part: Table) -> Table:
    """Look at every value, as training on them would: a map alone reads nothing."""
    features = part.columns["features"]
    assert isinstance(features, np.ndarray)
    features.max()
    return part


if __name__ == "__main__":
    print(json.dumps(vars(_limited(Path(sys.argv[1]), int(sys.argv[2])))))
