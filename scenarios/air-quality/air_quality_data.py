"""Air quality in Beijing: a client is a station, a record one hour, the label the next hour's PM2.5 in µg/m³.

The files are those of the UCI repository (Zhang et al., 2017), one per station: ``PRSA_Data_Dongsi_….csv`` or the
same as ``Dongsi.csv.gz``. An hour without PM2.5, or whose next hour has none, is no record; other gaps are filled
with public constants and marked. The time from `user.test-from` on is the server's test set; clients never train on
it. A measurement enters the records of the hours after it too (see `LAGS`): with privacy on, what is protected is
the record, an hour as the model sees it.
"""

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl.data import Records
from fl.data.values import derived_ids
from fl.loader import Place, read_columns
from shards.errors import InputError
from shards.scalar import utc

TARGET = "PM2.5"
LAGS = (1, 2, 3, 6, 12, 24)
"""Hours back at which PM2.5 is looked at again."""

# Public constants: about the middle and the spread of a big city's values. A gap is filled with the middle.
SCALES = {
    "PM10": (100.0, 100.0),  # µg/m³, as are the next four
    "SO2": (15.0, 20.0),
    "NO2": (50.0, 35.0),
    "CO": (1200.0, 1200.0),
    "O3": (60.0, 60.0),
    "TEMP": (13.0, 12.0),  # °C
    "PRES": (1010.0, 10.0),  # hPa
    "DEWP": (2.0, 14.0),  # °C
    "RAIN": (0.0, 2.0),  # mm
    "WSPM": (2.0, 1.5),  # m/s
}
PM25_SCALE = 100.0
RANGE = 5.0
"""Scaled values are clipped to ±5: bounded inputs keep a record's gradient near the clipping norm."""
INDICATED = ("PM10", "SO2", "NO2", "CO", "O3")
WINDS = ("N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW")

FEATURES = (
    TARGET,
    *(f"{TARGET} {hours} h before" for hours in LAGS),
    *SCALES,
    *(f"{name} missing" for name in INDICATED),
    *("wind north", "wind east", "hour sin", "hour cos", "hour sin 2", "hour cos 2", "year sin", "year cos"),
)

_HOUR = np.timedelta64(3600 * 10**6, "us")


def load(client: int, num_clients: int, place: Place) -> Records:
    """Return the hours of a client before the test period; stations are dealt in turn, one each where possible."""
    paths = _paths(place.folder)
    if num_clients > len(paths):
        raise InputError(f"{place.folder}: {len(paths)} stations; run with at most {len(paths)} clients")
    rows = _stations(tuple(paths[client::num_clients]))
    before = np.asarray(rows.keys["time"] + _HOUR < _test_period(place)[0])
    return rows.select(before)


def load_test(place: Place) -> Records:
    """Return the hours of the test period at all stations."""
    rows = _stations(tuple(_paths(place.folder)))
    start, end = _test_period(place)
    during = np.asarray((rows.keys["time"] >= start) & (rows.keys["time"] < end))
    return rows.select(during)


def _test_period(place: Place) -> tuple[np.datetime64, np.datetime64]:
    start = utc(str(place.user["test-from"]))
    return start, start + int(place.user["test-days"]) * 24 * _HOUR


def _paths(folder: Path) -> list[Path]:
    paths = sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")])
    if not paths:
        raise InputError(
            f"{folder}: no .csv or .csv.gz file here; `fedshard data fetch air-quality` downloads them, "
            "-c data=FOLDER says where they are"
        )
    return paths


def _stations(paths: tuple[Path, ...]) -> Records:
    parts = [_station(path) for path in paths]
    return Records(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ids for part in parts]),
        {key: np.concatenate([part.keys[key] for part in parts]) for key in ("time", "region")},
    )


@functools.lru_cache(maxsize=16)
def _station(path: Path) -> Records:
    """Read one station's file once per process; time is the hour, region the station."""
    raw = read_columns(path, ("year", "month", "day", "hour", TARGET, *SCALES), ("wd", "station"))
    times = _times(raw, path)
    hours = ((times - times.min()) // _HOUR).astype(np.int64)
    grid = {name: _on_grid(raw[name], hours) for name in (TARGET, *SCALES)}
    wind = np.full(len(grid[TARGET]), "", dtype="U3")
    wind[hours] = raw["wd"]
    clock = times.min() + np.arange(len(wind)) * _HOUR
    now = grid[TARGET]
    following = np.append(now[1:], np.nan)
    known = ~np.isnan(now) & ~np.isnan(following)
    name = str(raw["station"][0])
    first = int((clock[0] - np.datetime64(0, "us")) // _HOUR)
    return Records(
        _features(grid, wind, clock)[known],
        following[known].astype(np.float32),
        derived_ids(f"station {name}", first, len(clock))[known],
        {"time": clock[known], "region": np.full(int(known.sum()), name)},
    )


def _times(raw: dict[str, NDArray[np.float64]], path: Path) -> NDArray[np.datetime64]:
    parts = np.stack([raw[name] for name in ("year", "month", "day", "hour")], axis=1)
    low, high = np.array([1970, 1, 1, 0]), np.array([2100, 12, 31, 23])
    bad = np.flatnonzero(~((parts >= low) & (parts <= high) & (parts % 1 == 0)).all(axis=1))
    if len(bad):
        raise InputError(f"{path}, line {bad[0] + 2}: year, month, day, hour are no time; correct the line")
    year, month, day, hour = parts.astype(np.int64).T
    months = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (month - 1)
    days = months.astype("datetime64[D]") + (day - 1)
    times: NDArray[np.datetime64] = days.astype("datetime64[us]") + hour * _HOUR
    order = np.argsort(times, kind="stable")
    twice = np.flatnonzero(times[order][1:] == times[order][:-1])
    if len(twice):
        earlier, later = order[twice[0]], order[twice[0] + 1]
        raise InputError(f"{path}, line {later + 2}: the same hour as line {earlier + 2}; remove one")
    return times


def _on_grid(column: NDArray[np.float64], hours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Put values at their hours, so that the hour before is the element before; NaN where there is none."""
    grid = np.full(int(hours.max()) + 1, np.nan)
    grid[hours] = column
    return grid


def _features(
    grid: dict[str, NDArray[np.float64]], wind: NDArray[np.str_], clock: NDArray[np.datetime64]
) -> NDArray[np.float32]:
    now = grid[TARGET]
    columns = [now / PM25_SCALE]
    for hours in LAGS:
        before = np.concatenate([np.full(hours, np.nan), now])[: len(now)]
        columns.append(np.nan_to_num((before - now) / PM25_SCALE, nan=0.0))
    columns += [np.nan_to_num((grid[name] - middle) / spread, nan=0.0) for name, (middle, spread) in SCALES.items()]
    columns += [np.isnan(grid[name]).astype(np.float64) for name in INDICATED]
    angles = np.array([2 * np.pi * WINDS.index(name) / len(WINDS) if name in WINDS else np.nan for name in wind])
    columns += [np.nan_to_num(np.cos(angles), nan=0.0), np.nan_to_num(np.sin(angles), nan=0.0)]
    day = 2 * np.pi * (clock.astype("datetime64[h]").astype(np.int64) % 24) / 24
    year = 2 * np.pi * (clock - clock.astype("datetime64[Y]")) / (np.timedelta64(365 * 24, "h"))
    columns += [turn(angle) for angle in (day, 2 * day, year) for turn in (np.sin, np.cos)]
    scaled = np.stack(columns, axis=1)
    # Not the first: it is what the model adds its forecast of the change to.
    scaled[:, 1:] = np.clip(scaled[:, 1:], -RANGE, RANGE)
    return scaled.astype(np.float32)
