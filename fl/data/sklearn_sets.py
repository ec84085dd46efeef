"""The data sets that ship inside scikit-learn, scaled to [0, 1] by bounds fixed here.

The bounds are constants of this file: round figures for what each quantity can typically be, never
computed from the rows. Scaling therefore tells nothing about any record and needs no privacy charge,
and every client scales alike without talking to the others. Values outside a bound are clipped.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.data.records import Records, validate

Bounds = tuple[tuple[float, float], ...]

# Centimetres: sepal length, sepal width, petal length, petal width of garden irises.
IRIS: Bounds = ((0, 10), (0, 5), (0, 8), (0, 3))

WINE: Bounds = (
    (8, 16),  # alcohol, % by volume
    (0, 8),  # malic acid, g/L
    (1, 4),  # ash, g/L
    (5, 35),  # alcalinity of ash, meq/L
    (50, 200),  # magnesium, mg/L
    (0, 5),  # total phenols, g/L
    (0, 6),  # flavanoids, g/L
    (0, 1),  # nonflavanoid phenols, g/L
    (0, 5),  # proanthocyanins, g/L
    (0, 15),  # colour intensity, absorbance units
    (0, 2),  # hue, ratio of absorbances
    (0, 5),  # OD280/OD315 of diluted wine, ratio
    (0, 2000),  # proline, mg/L
)

# Measures of a cell nucleus in a digitised breast mass (lengths in pixels, shape measures unitless).
_NUCLEUS: Bounds = (
    (5, 40),  # radius
    (5, 50),  # texture: standard deviation of grey levels
    (30, 260),  # perimeter
    (0, 4500),  # area
    (0, 0.25),  # smoothness
    (0, 1),  # compactness
    (0, 1.25),  # concavity
    (0, 0.3),  # concave points
    (0.1, 0.6),  # symmetry
    (0.04, 0.2),  # fractal dimension
)
# Mean, standard error and worst of each measure, in this order. A standard error is bounded by a tenth
# of its measure's upper bound.
BREAST_CANCER: Bounds = _NUCLEUS + tuple((0, high / 10) for _, high in _NUCLEUS) + _NUCLEUS

# Each of the 8x8 pixels counts the set bits of a 4x4 block: 0 to 16 by construction.
DIGITS: Bounds = ((0, 16),) * 64


@dataclass(frozen=True)
class _BuiltIn:
    """The bounds of one set's features and its number of classes."""

    bounds: Bounds
    num_classes: int


SETS = {
    "digits": _BuiltIn(DIGITS, 10),
    "iris": _BuiltIn(IRIS, 3),
    "wine": _BuiltIn(WINE, 3),
    "breast_cancer": _BuiltIn(BREAST_CANCER, 2),
}


def scale(values: NDArray[Any], bounds: Bounds) -> NDArray[np.float32]:
    """Map each column's bounds to [0, 1] and clip what lies outside.

    Parameters
    ----------
    values : NDArray
        Shape (n, d), in the units of `bounds`.
    bounds : Bounds
        Lower and upper bound of each of the d columns, lower < upper.

    Returns
    -------
    NDArray[np.float32]
        Shape (n, d), unitless, in [0, 1].
    """
    low, high = np.asarray(bounds, dtype=np.float64).T
    unit: NDArray[np.float64] = (values - low) / (high - low)
    return unit.clip(0.0, 1.0).astype(np.float32)


@functools.cache
def read_set(name: str) -> Records:
    """Read one whole set, once per process; nothing is downloaded.

    Parameters
    ----------
    name : str
        A key of `SETS`.

    Returns
    -------
    Records
        All rows, features (n, d) in [0, 1]. A record's id is its row number in scikit-learn's copy, and
        the one key is ``"class"``.

    Raises
    ------
    KeyError
        If there is no such set; callers check first, to word the error for the user.
    """
    built_in = SETS[name]
    # Imported only here and where it splits: it takes a second, in every process, that users' own data save.
    from sklearn import datasets

    values, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    records = Records(scale(values, built_in.bounds), labels, np.arange(len(labels)), {"class": labels})
    return validate(records, f"sklearn:{name}", built_in.num_classes)
