"""A map of clients by rounds, as HTML: one picture of a pixel per cell, which stays small for a thousand clients."""

import base64
import struct
import zlib
from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

from fl.run.charts import PLAIN, SIZE, Axes, Unit, Values, figure, strip, svg

Cells = NDArray[np.float64]

_MOST_ROWS = 250  # below about a pixel each, rows would be dropped by the browser
_COLOUR = (0, 114, 178)


def heat_map(
    title: str, rows: Mapping[str, Values], *, unit: Unit = PLAIN, row: str = "client", note: str = ""
) -> str:
    """Draw clients from top to bottom, rounds from left to right, darker where the value is larger.

    Beyond 250 rows each drawn row is the mean of neighbours, and the chart says so.

    Parameters
    ----------
    title, note : str
        What is shown, and what a reader must know about it.
    rows : mapping of str to mapping of int to float
        Client → round → value, in the order to draw; values that are missing or not finite are left blank.
    unit : Unit
        Of the values.
    row : str
        What a row is.
    """
    names = list(rows)
    axes = Axes.around(rows.values())
    cells = np.full((len(names), axes.columns), np.nan)
    for index, name in enumerate(names):
        for number, value in axes.drawn(rows[name]).items():
            cells[index, axes.column(number)] = value
    group = -(-len(names) // _MOST_ROWS)
    cells = _means_of_neighbours(cells, group)
    values = cells[~np.isnan(cells)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    height = 1 / len(cells)
    hover = []
    for index, shown in enumerate(cells):
        first, last = names[index * group], names[min((index + 1) * group, len(names)) - 1]
        who = f"{row} {first}" if first == last else f"mean of {row}s {first} to {last}"
        known = shown[~np.isnan(shown)]
        text = f"{who}: on average {unit.text(known.mean())}, last {unit.text(known[-1])}" if len(known) else who
        hover.append(strip(0, index * height * SIZE, SIZE, height * SIZE, text))
    step = max(1, len(cells) // 5)
    labels = "".join(
        f'<span class="y" style="top:{(index + 0.5) * height:.2%}">{escape(names[index * group])}</span>'
        for index in range(0, len(cells), step)
    )
    sharp = " sharp" if len(cells) <= _MOST_ROWS else ""
    body = (
        f'<span class="unit">{escape(row)}</span><img class="cells{sharp}" alt="" src="{_png(cells, low, high)}">'
        f"{svg([], hover)}{labels}{axes.labels()}"
    )
    if group > 1:
        note = f"{note} Each row is the mean of {group} neighbours."
    if np.isnan(cells).any():
        note = f"{note} Blank: nothing that round."
    scale = f'<p class="scale">{escape(unit.text(low))}<i></i>{escape(unit.text(high))}</p>'
    size = f"height:{min(320, max(120, 16 * len(cells)))}px;margin-left:max(46px,{max(map(len, names)) + 1}ch)"
    return figure(title, note.strip(), [], f'<div class="plot" style="{size}">{body}</div>', scale)


def _means_of_neighbours(cells: Cells, group: int) -> Cells:
    """Average every `group` rows, passing over blanks."""
    starts = np.arange(0, len(cells), group)
    known = ~np.isnan(cells)
    counts = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
    sums = np.add.reduceat(np.where(known, cells, 0.0), starts, axis=0)
    means: Cells = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def _png(cells: Cells, low: float, high: float) -> str:
    """Encode cells as a picture of one colour that is opaque where they are high, one pixel each (a data URL).

    Being transparent, it reads on light and dark pages. PNG (W3C, 2003) with a palette: index 0 is blank.
    """
    share = (cells - low) / (high - low) if high > low else np.where(np.isnan(cells), np.nan, 0.5)
    levels = np.where(np.isnan(share), 0, 1 + np.round(254 * np.nan_to_num(share))).astype(np.uint8)
    lines = np.pad(levels, ((0, 0), (1, 0)))  # each line starts with its filter, 0: none
    alpha = bytes([0, *(30 + round(225 * level / 254) for level in range(255))])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", cells.shape[1], cells.shape[0], 8, 3, 0, 0, 0)
    chunks = (b"IHDR", header), (b"PLTE", bytes(_COLOUR) * 256), (b"tRNS", alpha)
    parts = [*chunks, (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    image = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)
    return "data:image/png;base64," + base64.b64encode(image).decode()
