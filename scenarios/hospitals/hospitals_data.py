"""Heart disease in four hospitals: a client is a hospital, a record a patient, the label whether the heart is ill.

The files are those of the UCI repository (Janosi, Steinbrunn, Pfisterer, Detrano), ``processed.va.data`` and so on,
or the same with a header, ``heart_va.csv`` or ``heart_va.csv.gz``. Much is missing, and not by chance: Switzerland
measured no cholesterol. Gaps are filled with public constants and marked by a feature of their own, so that no
hospital's data decides how another's are read.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl.data import Records
from fl.data.values import derived_ids
from fl.engine.seeding import derive
from fl.loader import Place, read_columns
from shards.errors import InputError

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")

COLUMNS = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg"),
    *("thalach", "exang", "oldpeak", "slope", "ca", "thal", "num"),
)

# Public constants: about the middle and the spread of an adult's values. A gap is filled with the middle.
SCALES = {
    "age": (55.0, 10.0),  # years
    "trestbps": (130.0, 20.0),  # resting blood pressure, mmHg
    "chol": (245.0, 50.0),  # serum cholesterol, mg/dl
    "thalach": (140.0, 25.0),  # highest heart rate, 1/min
    "oldpeak": (1.0, 1.0),  # ST depression by exercise, mm
    "ca": (0.0, 1.0),  # major vessels coloured, 0 to 3
    "sex": (0.5, 0.5),  # 1 for male
    "fbs": (0.5, 0.5),  # fasting blood sugar over 120 mg/dl
    "exang": (0.5, 0.5),  # angina by exercise
}
CATEGORIES = {"cp": (1, 2, 3, 4), "restecg": (0, 1, 2), "slope": (1, 2, 3), "thal": (3, 6, 7)}
INDICATED = ("trestbps", "chol", "thalach", "oldpeak", "ca", "fbs", "exang")
ZERO_MEANS_MISSING = ("trestbps", "chol")

FEATURES = (
    *SCALES,
    *(f"{name}={value}" for name, values in CATEGORIES.items() for value in values),
    *(f"{name} missing" for name in INDICATED),
)

TEST_SHARE = 1 / 3


def load(client: int, num_clients: int, place: Place) -> Records:
    """Return the training patients of a client; hospitals are dealt in turn, one each where there are four."""
    if num_clients > len(HOSPITALS):
        raise InputError(f"there are {len(HOSPITALS)} hospitals; run with at most {len(HOSPITALS)} clients")
    rows = _patients(place.folder, HOSPITALS[client::num_clients])
    return rows.select(~_is_test(rows, place.seed))


def load_test(place: Place) -> Records:
    """Return the patients held out in all hospitals: a third, each by its own id."""
    rows = _patients(place.folder, HOSPITALS)
    return rows.select(_is_test(rows, place.seed))


def _is_test(rows: Records, seed: int) -> NDArray[np.bool_]:
    draws = np.array([derive(seed, "test patient", int(number), bits=53) for number in rows.ids])
    return draws < TEST_SHARE * 2**53


def _patients(folder: Path, hospitals: tuple[str, ...]) -> Records:
    """Read the records of some hospitals; region is the hospital's name."""
    parts = [_hospital(folder, name) for name in hospitals]
    return Records(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ids for part in parts]),
        {"region": np.concatenate([part.keys["region"] for part in parts])},
    )


def _hospital(folder: Path, name: str) -> Records:
    columns, path = _columns(folder, name)
    for zero in ZERO_MEANS_MISSING:
        columns[zero] = np.where(columns[zero] == 0, np.nan, columns[zero])
    scaled = [
        np.nan_to_num((columns[column] - middle) / spread, nan=0.0) for column, (middle, spread) in SCALES.items()
    ]
    for column, values in CATEGORIES.items():
        _check_categories(columns[column], values, f"{path}, column {column!r}")
        scaled += [columns[column] == value for value in values]
    scaled += [np.isnan(columns[column]) for column in INDICATED]
    if np.isnan(columns["num"]).any():
        raise InputError(f"{path}, column 'num': record {np.isnan(columns['num']).argmax() + 1} has no diagnosis")
    count = len(columns["num"])
    return Records(
        features=np.stack(scaled, axis=1).astype(np.float32),
        labels=(columns["num"] > 0).astype(np.int64),
        ids=derived_ids(f"heart {name}", 0, count),
        keys={"region": np.full(count, name)},
    )


def _columns(folder: Path, name: str) -> tuple[dict[str, NDArray[np.float64]], Path]:
    """Read a hospital's file, whichever of its forms lies there."""
    for path in (folder / f"heart_{name}.csv.gz", folder / f"heart_{name}.csv"):
        if path.is_file():
            return read_columns(path, COLUMNS), path
    path = folder / f"processed.{name}.data"
    if not path.is_file():
        raise InputError(
            f"{folder}: neither processed.{name}.data nor heart_{name}.csv is here; `fedshard data fetch hospitals` "
            "downloads them, -c data=FOLDER says where they are"
        )
    try:
        raw = np.loadtxt(path, delimiter=",", converters=_number, ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if raw.shape[1] != len(COLUMNS):
        raise InputError(f"{path}: {raw.shape[1]} columns, expected the {len(COLUMNS)} of the UCI's processed files")
    return dict(zip(COLUMNS, raw.T, strict=True)), path


def _number(field: str) -> float:
    return np.nan if field == "?" else float(field)


def _check_categories(column: NDArray[np.float64], values: tuple[int, ...], where: str) -> None:
    bad = np.flatnonzero(~np.isnan(column) & ~np.isin(column, values))
    if len(bad):
        known = ", ".join(map(str, values))
        raise InputError(f"{where}: record {bad[0] + 1} has {column[bad[0]]:g}; expected one of {known}, or a gap")
