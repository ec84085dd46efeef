"""A picture of who holds what."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fl.data.describe import class_counts
from fl.data.records import Records
from shards.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = NDArray[np.int64]

# Beyond these a stacked bar can no longer be read: bars too thin, or more classes than telling colours.
MOST_BARS = 40
MOST_COLOURS = 20


def plot_split(clients: Sequence[Records], path: Path, title: str) -> None:
    """Draw how many records of each class each client holds.

    Up to 40 clients and 20 classes: one stacked bar of class counts per client. Beyond that: a heat map of
    each client's class shares, with a bar of its record count beside it. Client 0 is on top.

    Parameters
    ----------
    clients : Sequence[Records]
        The rows of every client, in client order.
    path : Path
        Picture to write; the ending chooses the format, such as ``.png`` or ``.svg``. Overwritten.
    title : str
        Heading of the picture.

    Raises
    ------
    InputError
        If matplotlib is not installed, there is no row at all, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plot: matplotlib is not installed; pip install 'fedshard[plot]'") from error
    classes, counts = class_counts(clients)
    # A Figure of one's own draws with Agg and leaves pyplot's global state and backend alone.
    figure = Figure(dpi=150, layout="constrained")
    if len(clients) <= MOST_BARS and len(classes) <= MOST_COLOURS:
        _draw_bars(figure, classes, counts)
    else:
        _draw_heat_map(figure, classes, counts)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # ValueError: an ending that names no picture format
        raise InputError(f"plot {path}: cannot be written ({error})") from error


def _draw_bars(figure: "Figure", classes: Counts, counts: Counts) -> None:
    """Draw one stacked bar per client."""
    from matplotlib import colormaps

    clients = np.arange(len(counts))
    figure.set_size_inches(8, 1.6 + 0.22 * max(len(counts), 6))
    axes = figure.add_subplot()
    palette = colormaps["tab10" if len(classes) <= 10 else "tab20"]
    left = np.zeros(len(counts), dtype=np.int64)
    for column, label in enumerate(classes):
        width = counts[:, column]
        axes.barh(
            clients,
            width,
            left=left,
            height=0.8,
            color=palette(column),
            edgecolor="white",
            linewidth=0.4,
            label=str(label),
        )
        left += width
    _client_axis(axes, len(counts))
    axes.set_xlim(0, 1.02 * left.max())
    axes.set_xlabel("records")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(title="class", loc="outside right upper", frameon=False)


def _draw_heat_map(figure: "Figure", classes: Counts, counts: Counts) -> None:
    """Draw clients by classes, darker where the class is more of the client, and the sizes beside it."""
    sizes = counts.sum(axis=1)
    figure.set_size_inches(9, min(9.0, 2.0 + 0.12 * max(len(counts), 12)))
    shares_axes, sizes_axes = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
    shares = counts / np.maximum(sizes, 1)[:, None]
    image = shares_axes.imshow(shares, aspect="auto", interpolation="nearest", cmap="Blues", vmin=0)
    _client_axis(shares_axes, len(counts))
    step = max(1, -(-len(classes) // 20))
    shares_axes.set_xticks(range(0, len(classes), step), [str(label) for label in classes[::step]])
    shares_axes.set_xlabel("class")
    # One outline rather than a bar each: hundreds of bars take seconds to draw.
    sizes_axes.stairs(sizes, np.arange(len(counts) + 1) - 0.5, orientation="horizontal", fill=True, color="0.45")
    sizes_axes.set_xlim(0, 1.05 * sizes.max())
    sizes_axes.set_xlabel("records")
    sizes_axes.tick_params(labelleft=False, left=False)
    sizes_axes.spines[["top", "right"]].set_visible(False)
    figure.colorbar(image, ax=[shares_axes, sizes_axes], shrink=0.6, label="share of the client's records")


def _client_axis(axes: "Axes", num_clients: int) -> None:
    """Label the clients downwards from 0, with at most about twenty tick labels."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 10**9) if num_clients <= 25 * step)
    axes.set_ylim(num_clients - 0.5, -0.5)
    axes.set_yticks(range(0, num_clients, step))
    axes.set_ylabel("client")
