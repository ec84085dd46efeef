"""The picture of ``fedshard consensus bench --plot``: latency against bytes and processor time."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from consensus.bench import Figures
from shards.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP*X"


def front(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find the points that no other beats: none is at least as small in every column and smaller in one.

    Parameters
    ----------
    points : array, shape (points, criteria)

    Returns
    -------
    array of bool, shape (points,)
    """
    no_larger = (points[:, None] <= points[None]).all(axis=2)
    smaller = (points[:, None] < points[None]).any(axis=2)
    beaten: NDArray[np.bool_] = np.asarray((no_larger & smaller).any(axis=0))
    return ~beaten


def criteria(figures: Figures) -> tuple[float, float, float]:
    """Give what a protocol is judged by: median client latency, ms; kB and busiest processor's ms per decision."""
    return float(np.median(figures.client)) * 1e3, sum(figures.bytes.values()) / 1e3, figures.busiest * 1e3


def draw(figures: Sequence[Figures], path: Path) -> None:
    """Draw all protocols; of those with as many replicas, the ones that none beats in all three respects are filled.

    Parameters
    ----------
    figures : sequence of Figures
        Of one payload and one link.
    path : Path
        Picture to write; the ending chooses the format, such as ``.png`` or ``.svg``. Overwritten.

    Raises
    ------
    InputError
        If matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--plot: matplotlib is not installed; pip install 'fedshard[plot]'") from error
    names = list(dict.fromkeys(one.case.name for one in figures))
    sizes = sorted({one.case.n for one in figures})
    colours = dict(zip(names, colormaps["tab10"].colors, strict=False))  # type: ignore[attr-defined]
    picture = Figure(figsize=(11, 5.4), dpi=150, layout="constrained")
    left, right = picture.subplots(1, 2, sharex=True)
    for n in sizes:
        own = [one for one in figures if one.case.n == n]
        points = np.array([criteria(one) for one in own])
        for one, point, best in zip(own, points, front(points), strict=True):
            colour = colours[one.case.name]
            for axes, y in ((left, point[1]), (right, point[2])):
                marker = _MARKERS[sizes.index(n) % len(_MARKERS)]
                axes.plot(
                    point[0], y, marker, color=colour, markerfacecolor=colour if best else "white", markersize=8
                )
    _label(left, "sent per decision by all replicas, kB")
    _label(right, "busiest replica's processor, ms per decision")
    protocols = [left.plot([], [], "s", color=colours[name])[0] for name in names]
    markers = [left.plot([], [], _MARKERS[i % len(_MARKERS)], color="0.4")[0] for i in range(len(sizes))]
    picture.legend(
        [*protocols, *markers],
        [*names, *(f"n = {n}" for n in sizes)],
        loc="outside lower center",
        ncols=6,
        frameon=False,
    )
    case = figures[0].case
    picture.suptitle(
        f"{case.payload:,} bytes per decision, {case.link / 1e6:g} Mbit/s, {case.network}; "
        "filled: no other of its size is better in all three",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    try:
        picture.savefig(path)
    except (OSError, ValueError) as error:  # ValueError: an ending that names no picture format
        raise InputError(f"--plot {path}: cannot be written ({error})") from error


def _label(axes: "Axes", what: str) -> None:
    from matplotlib.ticker import StrMethodFormatter

    axes.set(xlabel="client latency, median, ms", ylabel=what, xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(StrMethodFormatter("{x:,g}"))
    axes.tick_params(which="both", labelsize=8)
    axes.grid(visible=True, which="both", color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
