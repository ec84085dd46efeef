"""The shard store's speed, what it reads beside three rivals, and its memory: ``python -m benchmarks.store``."""

import argparse
import os
import shutil
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import machine, runs_folder
from benchmarks.report import Bar, save, setting, table
from benchmarks.store_limit import BOXES, LIMIT_MIB, TIMES, Limited
from benchmarks.store_limit import measure as measure_limited
from benchmarks.store_rivals import Cost, compare
from shards.files import FolderFiles, MemoryFiles
from shards.layout import Cut, Layout, Leaf, Node
from shards.request import Request
from shards.scalar import scalar
from shards.store import Store
from shards.table import Table

ROWS, FLOATS, SHARDS, APPENDED = 200_000, 64, 16, 1_000
CLIENTS = 1_000
_START, _MINUTE = np.datetime64("2024-01-01", "us"), np.timedelta64(1, "m")

_NOTE = """\
Written: {rows:,} rows × {floats} float32 with keys time, region and label, cut into {shards} shards by time.
Checksums, zone maps, manifest and a sync of every file and of the folder are in the time; the disk is left to rest
before each. Opened: a read whose one shard matches whole, with the folder listed, the generation pinned and the file
mapped; its checksum was computed when the process first opened it, which is the row below.

The week: {request}; {matching_rows} of {week_rows:,} rows, {matching_bytes:,} of {week_bytes:,} bytes.
Cold: the files were dropped from the page cache, and a store's checksums are computed again. Bytes are what each way
accounts for: rows of opened shards, or the row groups that statistics leave over; from disk is what the system
fetched, read-ahead included.

Limited: a process with RLIMIT_DATA at {limit} MiB, and a store {times:.2f} times as large in {boxes} shards; a week
of one of two regions by its request, and by reading everything in chunks of a shard. Reading everything at once:
{everything}."""


@dataclass(frozen=True)
class Speed:
    """Median seconds on the one store that is written, read and appended to."""

    write_s: float
    append_s: float
    open_s: float
    first_open_s: float
    part_s: float
    all_s: float


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=9, help="times each is measured (default 9)")
    repeat = parser.parse_args().repeat
    here = machine(["fedshard", "numpy", "safetensors", "pyarrow"])
    with runs_folder() as folder:
        speed = _speed(Path(folder), repeat)
        ways, facts = compare(Path(folder))
        limited, size = measure_limited(Path(folder) / "limited")
    memory = _memory()
    times = size / (LIMIT_MIB << 20)
    bars = [
        Bar(f"{ROWS:,} × {FLOATS} floats written in {SHARDS} shards, seconds", speed.write_s, 0.2, False),
        Bar("one shard opened and read hot, milliseconds", speed.open_s * 1e3, 1, False),
        Bar(f"append of {APPENDED:,} rows with fsync, milliseconds", speed.append_s * 1e3, 20, False),
        Bar("the week: bytes read / bytes matching", ways[0].counted_bytes / facts["matching_bytes"], 2, False),
        Bar("store read under a memory limit: its bytes / the limit", times, TIMES),
    ]
    results = {
        "command": f"python -m benchmarks.store --repeat {repeat}",
        **here,
        "speed": asdict(speed),
        "week": {**facts, "ways": [asdict(way) for way in ways]},
        "limited": {**asdict(limited), "limit_mib": LIMIT_MIB, "store_bytes": size},
        "memory_of_a_store_in_memory": memory,
        "bars": [bar.as_dict() for bar in bars],
    }
    save("store", results, _text(results, speed, ways, limited, bars))
    return 0 if all(bar.passed for bar in bars) else 1


def _rows(first: int, count: int) -> Table:
    ids = np.arange(first, first + count)
    rng = np.random.default_rng(first)
    keys = {
        "time": _START + ids * _MINUTE,
        "region": np.array(["north", "south", "east", "west"])[rng.integers(0, 4, count)],
        "label": rng.integers(0, 10, count),
    }
    return Table(ids, keys, {"features": rng.random((count, FLOATS), dtype=np.float32)})


def _by_time(low: int, high: int) -> Node:
    if high - low == 1:
        return Leaf()
    middle = (low + high) // 2
    at = scalar(_START + middle * ROWS // SHARDS * _MINUTE)
    return Cut("time", at, _by_time(low, middle), _by_time(middle, high))


def _speed(folder: Path, repeat: int) -> Speed:
    rows, layout = _rows(0, ROWS), Layout(_by_time(0, SHARDS))
    files = FolderFiles(folder / "speed")

    def write() -> None:
        Store.create(files, rows, layout)

    def rest() -> None:
        shutil.rmtree(folder / "speed", ignore_errors=True)
        os.sync()
        time.sleep(1)

    write_s = _median(write, repeat, rest)
    store = Store.open(files)
    third = Request.everything().between("time", *(_START + n * ROWS // SHARDS * _MINUTE for n in (2, 3)))

    def read(request: Request) -> Callable[[], object]:
        return lambda: store.read(request)

    part = third.where(region="north")
    first_open_s = _median(read(third), repeat, files.verified.clear)
    open_s, part_s, all_s = (_median(read(request), repeat) for request in (third, part, Request.everything()))
    news = iter([_rows(ROWS + n * APPENDED, APPENDED) for n in range(repeat + 1)])
    append_s = _median(lambda: store.append(next(news)), repeat)
    return Speed(write_s, append_s, open_s, first_open_s, part_s, all_s)


def _median(work: Callable[[], object], repeat: int, before: Callable[[], object] = lambda: None) -> float:
    found = []
    for _ in range(repeat + 1):
        before()
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])  # the first one warms up


def _memory() -> dict[str, float]:
    """Return bytes per store in memory, beside the bytes of its rows."""
    found: dict[str, float] = {}
    for count in (0, 100):
        tables = [_rows(client * count, count) for client in range(CLIENTS)]
        tracemalloc.start()
        stores = [Store.create(MemoryFiles(), rows) for rows in tables]
        found[f"bytes_of_{count}_rows"] = sum(rows.nbytes for rows in tables) / CLIENTS
        found[f"store_of_{count}_rows"] = tracemalloc.get_traced_memory()[0] / len(stores)
        tracemalloc.stop()
    return found


def _text(
    results: Mapping[str, Any], speed: Speed, ways: Sequence[Cost], limited: Limited, bars: Sequence[Bar]
) -> str:
    facts, memory = results["week"], results["memory_of_a_store_in_memory"]
    milliseconds = {
        f"{ROWS:,} × {FLOATS} floats written in {SHARDS} shards": speed.write_s,
        f"append of {APPENDED:,} rows": speed.append_s,
        "one shard of them opened and read": speed.open_s,
        "the same when the process opens it first": speed.first_open_s,
        "a quarter of one shard's rows read": speed.part_s,
        "all rows read": speed.all_s,
    }
    rivals = [
        [
            way.name, f"{way.hot_s * 1e3:.2f} ms", f"{way.cold_s * 1e3:.2f} ms", f"{way.counted_bytes:,}",
            f"{way.counted_bytes / facts['matching_bytes']:.1f}×", f"{way.disk_bytes:,}",
        ]
        for way in ways
    ]  # fmt: skip
    limits = [
        ["a week by its request", f"{limited.window_hot_s:.4f} s", f"{limited.window_cold_s:.4f} s"],
        [
            "the same by reading everything in chunks",
            f"{limited.chunks_hot_s:.4f} s",
            f"{limited.chunks_cold_s:.4f} s",
        ],
        ["saved", *(f"{chunks - window:.4f} s" for window, chunks in _pairs(limited))],
    ]
    held = [
        [f"{count} rows", f"{memory[f'bytes_of_{count}_rows']:,.0f}", f"{memory[f'store_of_{count}_rows']:,.0f}"]
        for count in (0, 100)
    ]
    return "\n\n".join(
        [
            "# The shard store",
            setting(results["command"], results),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
            table(["", "median"], [[name, f"{s * 1e3:.2f} ms"] for name, s in milliseconds.items()]),
            table(["one station's week", "hot", "cold", "bytes", "bytes / matching", "from disk"], rivals),
            table(["under a memory limit", "hot", "cold"], limits),
            table([f"a store in memory, mean of {CLIENTS:,}", "bytes of its rows", "bytes held"], held),
            _NOTE.format(
                rows=ROWS, floats=FLOATS, shards=SHARDS, request=facts["request"], week_rows=facts["rows"],
                week_bytes=facts["bytes"], matching_rows=facts["matching_rows"],
                matching_bytes=facts["matching_bytes"], limit=LIMIT_MIB, boxes=BOXES,
                times=results["limited"]["store_bytes"] / (LIMIT_MIB << 20), everything=limited.everything,
            ),
        ]
    )  # fmt: skip


def _pairs(limited: Limited) -> list[tuple[float, float]]:
    return [(limited.window_hot_s, limited.chunks_hot_s), (limited.window_cold_s, limited.chunks_cold_s)]


if __name__ == "__main__":
    sys.exit(main())
