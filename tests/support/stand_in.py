"""The scenarios' data: where the real files are, and small generated stand-ins with their columns and gaps."""

import csv
from datetime import datetime, timedelta

import numpy as np
from support import ROOT

SHARED = ROOT.parent / "shared" / "data"
REAL = {
    "hospitals": SHARED / "health",
    "activity": SHARED / "har",
    "air-quality": SHARED / "iot" / "beijing_multisite",
}
"""Where the real files are, on machines that have them."""

PEOPLE = range(1, 31)
HEART = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
)
AIR = ("PM2.5", "PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN")


def _write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def hospitals(folder, patients=40):
    """Four hospitals; Switzerland has no cholesterol, and a tenth of all else is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for hospital in ("cleveland", "hungarian", "switzerland", "va"):
        rows = []
        for _ in range(patients):
            ill = draw.random() < 0.5
            row = [
                *(draw.integers(30, 75), draw.integers(2), 4 if ill else draw.integers(1, 4), draw.integers(95, 180)),
                *(0 if hospital == "switzerland" else draw.integers(150, 350), draw.integers(2), draw.integers(3)),
                *(draw.integers(90, 190), int(ill), draw.integers(0, 30) / 10, draw.integers(1, 4), draw.integers(4)),
                draw.choice([3, 6, 7]),
            ]
            row = [value if place < 3 or draw.random() < 0.9 else "" for place, value in enumerate(row)]
            rows.append([*row, draw.integers(1, 5) if ill else 0])
        _write(folder / f"heart_{hospital}.csv", (*HEART, "num"), rows)
    return folder


def signals(folder, windows=12):
    """Thirty people's signals in the original's files; standing still and walking differ as they do."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    held_out = {2, 4, 9, 10, 12, 13, 18, 20, 24}
    for part in ("train", "test"):
        people = [person for person in PEOPLE if (person in held_out) == (part == "test")]
        subject = np.repeat(people, windows)
        y = np.tile(np.arange(windows) % 6 + 1, len(people))
        phase = np.arange(128) / 50 * 2 * np.pi * 2
        moves = np.isin(y, (1, 2, 3))[:, None] * (1 + y[:, None] / 3)
        for place, axis in enumerate("xyz"):
            gravity = np.where(y == 6, place == 1, place == 0)[:, None] + 0.1 * (y[:, None] == 4)
            body = 0.2 * moves * np.sin(phase + place) + 0.01 * draw.normal(size=(len(y), 128))
            turning = 0.5 * moves * np.cos(phase + place) + 0.02 * draw.normal(size=(len(y), 128))
            for name, signal in (("total_acc", gravity + body), ("body_acc", body), ("body_gyro", turning)):
                np.savetxt(folder / f"{name}_{axis}_{part}.txt", signal, fmt="%.7e")
        np.savetxt(folder / f"subject_{part}.txt", subject, fmt="%d")
        np.savetxt(folder / f"y_{part}.txt", y, fmt="%d")
    return folder


def stations(folder, days=60, names=("Dongsi", "Gucheng", "Shunyi")):
    """Hourly PM2.5 that wanders, with gaps, at stations whose other columns follow it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        draw = np.random.default_rng(number)
        pm, rows = 80.0, []
        for hour in range(24 * days):
            time = datetime(2013, 3, 1) + timedelta(hours=hour)
            pm = max(3.0, 80 + 0.95 * (pm - 80) + 12 * draw.normal())
            others = (pm * 1.3, 15, 50, 1000 + pm, 60, 10, 1010, 0, 0)
            values = [f"{value:.4g}" if draw.random() < 0.97 else "NA" for value in (pm, *others)]
            rows.append([hour + 1, time.year, time.month, time.day, time.hour, *values, "NNW", 2.5, name])
        header = ("No", "year", "month", "day", "hour", *AIR, "wd", "WSPM", "station")
        _write(folder / f"PRSA_Data_{name}_20130301-20170228.csv", header, rows)
    return folder
