"""From a phone's signals to features: windows of 128 samples at 50 Hz, as the original data set has them.

The original (Reyes-Ortiz et al., 2013) has one text file per signal, a window a line: total acceleration and
acceleration without gravity in g, rotation in rad/s.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError

SIGNALS = tuple(f"{kind}_{axis}" for kind in ("total_acc", "body_acc", "body_gyro") for axis in "xyz")
STATISTICS = ("mean", "std", "min", "max", "mad")
FEATURES = (
    *(f"{signal}_{name}" for signal in (*SIGNALS, "acc_mag", "gyro_mag", "jerk_mag") for name in STATISTICS),
    *("acc_peak_hz", "acc_spec_energy", "corr_xy", "corr_xz", "corr_yz"),
)

_SAMPLES, _HZ = 128, 50.0
_ORIGINAL_LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")


def read_signals(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
    """Read the original's files, training people before test people.

    Returns
    -------
    features : NDArray[np.float64]
        Shape (windows, 65), in the order of `FEATURES`.
    subjects : NDArray[np.int64]
        Who carried the phone, 1 to 30.
    labels : NDArray[np.str_]
        What they did.

    Raises
    ------
    InputError
        If a file is missing, is not what it should be, or is not as long as the others.
    """
    features, subjects, labels = [], [], []
    for part in ("train", "test"):
        windows = np.stack([_table(folder / f"{name}_{part}.txt", _SAMPLES) for name in SIGNALS], axis=2)
        people, numbers = (
            _table(folder / f"{name}_{part}.txt", 1)[:, 0].astype(np.int64) for name in ("subject", "y")
        )
        if not len(windows) == len(people) == len(numbers):
            raise InputError(
                f"{folder}: the {part} files have {len(windows)} windows, {len(people)} subjects and "
                f"{len(numbers)} labels; they must be as many"
            )
        if not np.isin(numbers, np.arange(1, 7)).all():
            raise InputError(f"{folder / f'y_{part}.txt'}: labels are 1 to 6")
        features.append(window_features(windows))
        subjects.append(people)
        labels.append(np.array(_ORIGINAL_LABELS)[numbers - 1])
    return np.concatenate(features), np.concatenate(subjects), np.concatenate(labels)


def window_features(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the features of windows.

    Parameters
    ----------
    windows : NDArray[np.float64]
        Shape (n, 128, 9): samples of `SIGNALS`.

    Returns
    -------
    NDArray[np.float64]
        Shape (n, 65), in the order of `FEATURES`: of each signal and three magnitudes mean, standard deviation,
        least, greatest, and median absolute deviation; then the strongest frequency of the acceleration's magnitude
        in Hz, its spectral energy, and the correlations of the total acceleration's axes (0 where one stands still).
    """
    total, gyro = windows[:, :, 0:3], windows[:, :, 6:9]
    strength, turning = np.linalg.norm(total, axis=2), np.linalg.norm(gyro, axis=2)
    jerk = np.linalg.norm(np.diff(total, axis=1), axis=2)
    columns = [_statistics(windows[:, :, place]) for place in range(len(SIGNALS))]
    columns += [_statistics(magnitude) for magnitude in (strength, turning, jerk)]
    power = np.abs(np.fft.rfft(strength - strength.mean(axis=1, keepdims=True), axis=1)) ** 2
    peak = np.fft.rfftfreq(_SAMPLES, 1 / _HZ)[power.argmax(axis=1)]
    centred = total - total.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1))
    pairs = [(0, 1), (0, 2), (1, 2)]
    together = [(centred[:, :, a] * centred[:, :, b]).mean(axis=1) for a, b in pairs]
    scale = [spread[:, a] * spread[:, b] for a, b in pairs]
    still = [np.divide(t, s, out=np.zeros_like(t), where=s > 0) for t, s in zip(together, scale, strict=True)]
    return np.column_stack([*columns, peak, power.sum(axis=1) / _SAMPLES, *still])


def _statistics(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = np.median(signal, axis=1, keepdims=True)
    deviation = np.median(np.abs(signal - middle), axis=1)
    return np.column_stack(
        [signal.mean(axis=1), signal.std(axis=1), signal.min(axis=1), signal.max(axis=1), deviation]
    )


def _table(path: Path, width: int) -> NDArray[np.float64]:
    """Read a file of numbers separated by blanks."""
    try:
        table = np.loadtxt(path, ndmin=2)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); `fedshard data fetch activity` downloads it") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if table.shape[1] != width:
        raise InputError(f"{path}: {table.shape[1]} numbers a line, expected {width}")
    return table
