"""What 30 people do, felt by the phones they carry: a client is a person, a record a window of 2.56 seconds.

The files are those of the UCI repository (Reyes-Ortiz et al., 2013), from which 65 features of acceleration and
rotation are computed, or ``uci_har_features.csv[.gz]`` with these computed before. The nine people whom the authors
held out are the server's test set.
"""

import functools
from pathlib import Path

import numpy as np
from activity_signals import FEATURES, read_signals
from numpy.typing import NDArray

from fl.data import Records
from fl.data.values import derived_ids
from fl.loader import Place, read_columns
from shards.errors import InputError
from shards.nearest import suggest

ACTIVITIES = ("LAYING", "SITTING", "STANDING", "WALKING", "WALKING_DOWNSTAIRS", "WALKING_UPSTAIRS")
Columns = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]
"""Features, subjects and activities, a row a window."""

RANGE = 5.0
"""Scaled features are clipped to ±5: bounded inputs keep a record's gradient near the clipping norm."""


def load(client: int, num_clients: int, place: Place) -> Records:
    """Return the windows of a client; those who train are dealt in turn, one each where clients are as many."""
    rows = _windows(place.folder)
    people = sorted(set(rows.keys["user"].tolist()) - set(_test_people(place, rows)))
    if num_clients > len(people):
        raise InputError(f"{len(people)} people train; run with at most {len(people)} clients")
    return rows.select(np.isin(rows.keys["user"], people[client::num_clients]))


def load_test(place: Place) -> Records:
    """Return the windows of the people held out."""
    rows = _windows(place.folder)
    return rows.select(np.isin(rows.keys["user"], _test_people(place, rows)))


def _test_people(place: Place, rows: Records) -> list[int]:
    """Read the list ``user.test-people``."""
    said = str(place.user["test-people"])
    known = set(rows.keys["user"].tolist())
    people = [int(word) for word in said.replace(",", " ").split() if word.isdigit()]
    if not people or len(people) != len(said.replace(",", " ").split()) or not set(people) < known:
        raise InputError(f"user.test-people = '{said}': give some of the people {min(known)} to {max(known)}")
    return people


@functools.lru_cache(maxsize=2)
def _windows(folder: Path) -> Records:
    """Read the files once for all clients that a process simulates; user is the person, class the activity."""
    features, subjects, labels = _read(folder)
    middles, spreads = np.array([_scale(name) for name in FEATURES]).T
    return Records(
        features=np.clip((features - middles) / spreads, -RANGE, RANGE).astype(np.float32),
        labels=np.searchsorted(ACTIVITIES, labels),
        ids=derived_ids("uci har", 0, len(labels)),
        keys={"user": subjects, "class": labels},
    )


def _read(folder: Path) -> Columns:
    """Return features, subjects and activities, from whichever files lie there."""
    for path in (folder / "uci_har_features.csv.gz", folder / "uci_har_features.csv"):
        if path.is_file():
            break
    else:
        if (folder / "y_train.txt").is_file():
            original: Columns = read_signals(folder)
            return original
        raise InputError(
            f"{folder}: neither the original's files nor uci_har_features.csv are here; "
            "`fedshard data fetch activity` downloads them, -c data=FOLDER says where they are"
        )
    columns = read_columns(path, ("subject", *FEATURES), ("label",))
    for name in ("subject", *FEATURES):
        if np.isnan(columns[name]).any():
            raise InputError(f"{path}, column {name!r}: record {np.isnan(columns[name]).argmax() + 1} has no value")
    labels = columns["label"]
    unknown = np.flatnonzero(~np.isin(labels, ACTIVITIES))
    if len(unknown):
        raise InputError(
            f"{path}, column 'label': record {unknown[0] + 1} is {str(labels[unknown[0]])!r}; "
            f"{suggest(str(labels[unknown[0]]), ACTIVITIES)}"
        )
    features = np.stack([columns[name] for name in FEATURES], axis=1)
    return features, columns["subject"].astype(np.int64), labels


def _scale(feature: str) -> tuple[float, float]:
    """Return middle and spread of a feature: public constants, from what phones and bodies can do.

    Acceleration in g (gravity is 1), rotation in rad/s, a step about twice a second.
    """
    signal, _, statistic = feature.rpartition("_")
    spread = statistic in ("std", "mad")
    if feature.startswith("corr"):
        return 0.0, 0.5
    if signal in ("acc", "acc_spec"):  # peak in Hz, energy in g²
        return 0.0, 5.0
    if signal == "acc_mag":
        return (0.0, 0.2) if spread else (1.0, 0.25)
    if signal == "jerk_mag":
        return 0.0, 0.1
    if signal.startswith("total_acc"):
        return 0.0, 0.2 if spread else 0.5
    if signal.startswith("body_acc"):
        return 0.0, 0.05 if statistic == "mean" else 0.25
    return 0.0, 0.5 if spread else 0.2 if statistic == "mean" else 1.0
