"""One week of one station out of nine stations' four years, read from the shard store and in three other ways."""

import importlib
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import ROOT, BenchmarkError
from shards.files import FolderFiles
from shards.layout import Cut, Layout, Leaf, Node
from shards.request import Request
from shards.scalar import scalar
from shards.store import Store
from shards.table import Table

STATIONS = ROOT.parent / "shared" / "data" / "iot" / "beijing_multisite"
STATION, END = "Dongsi", np.datetime64("2017-03-01T00", "us")
"""Whose week is read, and when it ends: with the data, as in a round that reads what is new."""

_PAYLOAD = ["PM2.5", "PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM"]
_REPEATS = 15


@dataclass(frozen=True)
class Way:
    """One way of reading the week.

    Attributes
    ----------
    name : str
        What it is called.
    files : list of Path
        What it reads.
    read : callable
        Returns the rows; told whether the files are cold.
    counted_bytes : int
        Bytes the way itself accounts for: rows of opened shards, or of row groups after decompression.
    """

    name: str
    files: list[Path]
    read: Callable[[bool], Table]
    counted_bytes: int


@dataclass(frozen=True)
class Cost:
    """What a way costs.

    Attributes
    ----------
    name : str
        What the way is called.
    hot_s, cold_s : float
        Median seconds with the files in the page cache, and dropped from it before each read.
    counted_bytes : int
        As for the way.
    disk_bytes : int
        Bytes that the system fetched from the disk in a cold read, read-ahead included.
    """

    name: str
    hot_s: float
    cold_s: float
    counted_bytes: int
    disk_bytes: int


def air_quality() -> Table:
    """Return all stations' hours: keys time and region, payload eleven measurements with their gaps as NaN.

    Raises
    ------
    BenchmarkError
        If the data are not there.
    """
    csv = importlib.import_module("pyarrow.csv")
    options = csv.ConvertOptions(null_values=["NA", ""], column_types=dict.fromkeys(_PAYLOAD, "float32"))
    paths = sorted(STATIONS.glob("*.csv.gz"))
    if not paths:
        raise BenchmarkError(f"{STATIONS}: no air-quality data here")
    tables = [csv.read_csv(path, convert_options=options) for path in paths]
    parts = [{name: np.asarray(table[name]) for name in table.column_names} for table in tables]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    calendar = zip(*(joined[name] for name in ("year", "month", "day", "hour")), strict=True)
    dates = [f"{year}-{month:02}-{day:02}T{hour:02}" for year, month, day, hour in calendar]
    keys = {"time": np.array(dates, "datetime64[us]"), "region": joined["station"].astype("U")}
    features = np.stack([joined[name] for name in _PAYLOAD], axis=1)
    return Table(np.arange(len(features)), keys, {"features": features})


def compare(folder: Path) -> tuple[list[Cost], dict[str, Any]]:
    """Measure all ways, in turns; return them with the facts of the request."""
    rows = air_quality()
    request = Request.window("7d").where(region=STATION).resolve(END)
    expected = rows.take(request.mask(rows))
    cut, whole = (
        Store.create(FolderFiles(folder / name), rows, layout)
        for name, layout in (("cut", _weekly_cuts()), ("whole", Layout.hashed(16)))
    )
    by_time = rows.take(np.argsort(rows.keys["time"], kind="stable"))
    ways = [
        _store("shard store, cut by station and week", cut, folder / "cut", request),
        _store("full scan of the store, 16 shards by hash", whole, folder / "whole", request),
        *(_parquet(folder / f"{size}.parquet", by_time, size) for size in (len(rows) // 16, 4096)),
        _in_memory(folder / "rows.npz", rows, request),
    ]
    facts = {
        "rows": len(rows), "bytes": rows.nbytes, "matching_rows": len(expected), "matching_bytes": expected.nbytes,
        "request": f"the 7 days of {STATION} before {END}",
    }  # fmt: skip
    for way in ways:
        found = way.read(False)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.columns["features"], expected.columns["features"])
    del found  # a map that is still open keeps its pages in the cache
    return _measured(ways), facts


def _weekly_cuts() -> Layout:
    """Return the cuts that four earlier rounds' requests suggest: their station, at the ends of their windows.

    The window that is read starts where the last of them ended.
    """
    node: Node = Leaf()
    for weeks in range(1, 6):
        node = Cut("time", scalar(END - np.timedelta64(7 * weeks, "D")), Leaf(), node)
    return Layout(Cut("region", frozenset({STATION}), node, Leaf(10)))


def _store(name: str, store: Store, folder: Path, request: Request) -> Way:
    files = FolderFiles(folder)

    def read(cold: bool) -> Table:
        if cold:
            files.verified.clear()  # as in a process that has not opened the store before
        return store.read(request).table

    return Way(name, list(folder.iterdir()), read, store.read(request).scan.bytes_read)


def _parquet(path: Path, by_time: Table, size: int) -> Way:
    parquet = importlib.import_module("pyarrow.parquet")
    arrow = importlib.import_module("pyarrow")
    columns = {
        "id": by_time.ids,
        **by_time.keys,
        **{name: by_time.columns["features"][:, n] for n, name in enumerate(_PAYLOAD)},
    }
    parquet.write_table(arrow.table(columns), path, row_group_size=size)
    os.sync()
    start = END - np.timedelta64(7, "D")
    filters = [("time", ">=", start), ("time", "<", END), ("region", "==", STATION)]

    def read(cold: bool) -> Table:
        found = parquet.read_table(path, filters=filters, use_threads=False)
        features = np.stack([np.asarray(found[name]) for name in _PAYLOAD], axis=1)
        keys = {"time": np.asarray(found["time"]), "region": np.asarray(found["region"]).astype("U")}
        return Table(np.asarray(found["id"]), keys, {"features": features})

    footer = parquet.ParquetFile(path).metadata
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    place = footer.schema.names.index("time")
    opened = [g for g in groups if _overlaps(g.column(place).statistics, start)]
    name = f"Parquet sorted by time, {footer.num_row_groups} row groups"
    return Way(name, [path], read, sum(group.total_byte_size for group in opened))


def _overlaps(statistics: Any, start: np.datetime64) -> bool:
    low, high = (np.datetime64(moment, "us") for moment in (statistics.min, statistics.max))
    return bool(high >= start and low < END)


def _in_memory(path: Path, rows: Table, request: Request) -> Way:
    np.savez(path, ids=rows.ids, **rows.keys, **rows.columns)
    os.sync()

    def read(cold: bool) -> Table:
        table = rows
        if cold:
            with np.load(path) as file:
                keys = {name: file[name] for name in rows.keys}
                table = Table(file["ids"], keys, {"features": file["features"]})
        return table.take(request.mask(table))

    return Way("plain in-memory filter (cold: .npz loaded first)", [path], read, rows.nbytes)


def _measured(ways: Sequence[Way]) -> list[Cost]:
    hot, cold, disk = ({way.name: [] for way in ways} for _ in range(3))
    for _ in range(_REPEATS):
        for way in ways:
            hot[way.name].append(_seconds(way, False))
            drop_from_cache(way.files)
            before = _disk_bytes()
            cold[way.name].append(_seconds(way, True))
            disk[way.name].append(_disk_bytes() - before)
    medians = [[statistics.median(found[way.name]) for found in (hot, cold, disk)] for way in ways]
    return [
        Cost(way.name, hot_s, cold_s, way.counted_bytes, int(fetched))
        for way, (hot_s, cold_s, fetched) in zip(ways, medians, strict=True)
    ]


def drop_from_cache(files: Sequence[Path]) -> None:
    """Drop files from the page cache; they have been synced, so all of their pages can go."""
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _seconds(way: Way, cold: bool) -> float:
    start = time.perf_counter()
    way.read(cold)
    return time.perf_counter() - start


def _disk_bytes() -> int:
    """Bytes that this process has caused to be fetched from a disk so far."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])
