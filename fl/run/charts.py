"""Charts as HTML: a stretched SVG for the shapes, plain text around it, so that labels keep their size at any width.

Colours come from the page's style sheet (``--c0`` … ``--c5``), which knows light and dark. Rounds go from left to
right; each stands at the middle of a column of its own, so that lines, bars and maps of one run line up.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

Values = Mapping[int, float]

SIZE = 1000
"""Width and height of a drawing, in its own units."""

COLOURS = 6
"""How many the style sheet has (Okabe and Ito's, which colour-blind readers can tell apart)."""

_DOTS = 30  # with more rounds than this, dots would merge
_SMALLEST, _LARGEST = 1e-100, 1e100  # beyond these a value counts as 0, or as not finite
_MOST_COLUMNS = 500  # beyond about a pixel each, more would only make the page larger


@dataclass(frozen=True)
class Line:
    """A line of a chart: its label, its values by round, and the number of its colour."""

    label: str
    values: Values
    colour: int = 0


@dataclass(frozen=True)
class Band:
    """A filled range of a chart: its label, the two edges by round, and the number of its colour."""

    label: str
    low: Values
    high: Values
    colour: int = 0


@dataclass(frozen=True)
class Unit:
    """What an axis measures.

    Attributes
    ----------
    name : str
        Written above the axis; empty for a plain number.
    steps : tuple of (float, str)
        Larger units and what they are called, e.g. ``(1e6, "MB")``; the largest that fits is used.
    from_zero : bool
        Whether the axis starts at 0, as it must where lengths are compared.
    """

    name: str
    steps: tuple[tuple[float, str], ...] = ()
    from_zero: bool = True

    def scale(self, largest: float) -> tuple[float, str]:
        """Return the factor and the name that make `largest` easy to read."""
        fitting = [step for step in self.steps if largest >= step[0]]
        return max(fitting, default=(1.0, self.name))

    def text(self, value: float) -> str:
        """Write a value with its unit."""
        factor, name = self.scale(abs(value))
        return f"{value / factor:.3g} {name}".rstrip()


PLAIN = Unit("", from_zero=False)
FROM_ZERO = Unit("")
BYTES = Unit("B", ((1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB")))
SECONDS = Unit("s")


@dataclass(frozen=True)
class Axes:
    """Maps rounds and values to the drawing: columns from left to right, values from bottom to top.

    Attributes
    ----------
    first, columns, step : int
        The first round, how many columns there are, and how many rounds one stands for: of those the first is drawn.
    ticks : tuple of float
        The values that have a grid line, the lowest and the highest included.
    """

    first: int
    columns: int
    step: int
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, series: Iterable[Values], from_zero: bool = False, also: Iterable[float] = ()) -> "Axes":
        """Choose axes that hold every value of `series`, and the values `also`."""
        series = [_finite(values) for values in series]
        rounds = [number for values in series for number in values] or [0]
        figures = [*(value for values in series for value in values.values()), *also, *([0.0] if from_zero else [])]
        first, count = min(rounds), max(rounds) - min(rounds) + 1
        step = -(-count // _MOST_COLUMNS)
        return cls(first, -(-count // step), step, nice_ticks(min(figures, default=0.0), max(figures, default=1.0)))

    def column(self, number: int) -> int:
        """Return the column of a drawn round."""
        return (number - self.first) // self.step

    def drawn(self, values: Values) -> dict[int, float]:
        """Select what is drawn: finite values, in order, of the rounds that columns stand for."""
        return {n: value for n, value in sorted(_finite(values).items()) if (n - self.first) % self.step == 0}

    def x(self, number: int) -> float:
        """Return the middle of a round's column."""
        return round((self.column(number) + 0.5) / self.columns * SIZE, 1)

    def y(self, value: float) -> float:
        """Return the height of a value, counted from the top."""
        low, high = self.ticks[0], self.ticks[-1]
        return round((high - value) / (high - low) * SIZE, 1)

    def labels(self) -> str:
        """Write round numbers below the columns."""
        last = self.first + (self.columns - 1) * self.step
        sizes = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
        every = next(size for size in sizes if last - self.first < 6 * size)
        numbers = [number for number in range(self.first, last + 1) if number % every == 0] or [self.first]
        labels = (f'<span class="x" style="left:{self.x(number) / SIZE:.1%}">{number}</span>' for number in numbers)
        thinned = f'<span class="thinned">one round in {self.step} is drawn</span>' if self.step > 1 else ""
        return "".join(labels) + f'<span class="round">round</span>{thinned}'


def nice_ticks(low: float, high: float, count: int = 4) -> tuple[float, ...]:
    """Return about `count` + 1 round numbers, evenly spaced, that reach from `low` or below to `high` or above."""
    low, high = (0.0 if abs(value) < _SMALLEST else value for value in (low, high))
    if high - low <= max(_SMALLEST, 1e-9 * max(abs(low), abs(high))):  # all the same, as far as a chart can tell
        low, high = low - abs(low) / 10 - 0.05 * (low == 0), high + abs(high) / 10 + 0.05 * (high == 0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(float(f"{number * step:.12g}") for number in range(start, stop + 1))


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    unit: Unit = PLAIN,
    bands: Sequence[Band] = (),
    limit: tuple[str, float] | None = None,
    note: str = "",
) -> str:
    """Draw lines over rounds.

    Parameters
    ----------
    title, note : str
        What is shown, and what a reader must know about it.
    lines : sequence of Line
        At least one; values that are not finite are left out.
    unit : Unit
        Of the values.
    bands : sequence of Band
        Drawn behind the lines: at most two, the inner first.
    limit : (str, float), optional
        A value not to be exceeded, and what it is called: a dashed line.
    """
    edges = [edge for band in bands for edge in (band.low, band.high)]
    axes = Axes.around([*(line.values for line in lines), *edges], unit.from_zero, [limit[1]] if limit else [])
    shapes = [_area(axes, band) for band in bands]
    if limit:
        shapes.append(f'<path class="limit" d="M0 {axes.y(limit[1])}H{SIZE}"/>')
    shapes += [_stroke(axes, line) for line in lines]
    legend = [(line.label, f"c{line.colour}") for line in lines]
    legend += [(band.label, f"c{band.colour} {style}") for band, style in zip(bands, ("mid", "soft"), strict=False)]
    legend += [(f"{limit[0]}: {unit.text(limit[1])}", "limit")] if limit else []
    columns = {line.label: line.values for line in lines}
    for band in bands:
        columns |= {f"{band.label}, lowest": band.low, f"{band.label}, highest": band.high}
    return figure(title, note, legend, _plot(axes, unit, shapes, _hover(axes, columns, unit)))


def stacked_bars(title: str, parts: Mapping[str, Values], *, unit: Unit = FROM_ZERO, note: str = "") -> str:
    """Draw one bar per round, made of parts; values are at least 0. The arguments are those of `line_chart`."""
    numbers = sorted({number for values in parts.values() for number in values})
    totals = {number: sum(values.get(number, 0.0) for values in parts.values()) for number in numbers}
    axes = Axes.around([totals], from_zero=True)
    width = round(SIZE / axes.columns * 0.72, 2)
    base = dict.fromkeys(numbers, 0.0)
    shapes = []
    for colour, values in enumerate(parts.values()):
        path = []
        for number, value in axes.drawn(values).items():
            top, bottom = axes.y(base[number] + value), axes.y(base[number])
            path.append(f"M{axes.x(number) - width / 2:.1f} {bottom}h{width}V{top}h-{width}z" if value else "")
            base[number] += value
        shapes.append(f'<path class="bar c{colour % COLOURS}" d="{"".join(path)}"/>')
    legend = [(label, f"bar c{colour % COLOURS}") for colour, label in enumerate(parts)]
    return figure(title, note, legend, _plot(axes, unit, shapes, _hover(axes, parts, unit)))


def _finite(values: Values) -> dict[int, float]:
    return {number: value for number, value in sorted(values.items()) if abs(value) <= _LARGEST}


def _stroke(axes: Axes, line: Line) -> str:
    points = [f"{axes.x(number)} {axes.y(value)}" for number, value in axes.drawn(line.values).items()]
    dots = "".join(f"M{point}h.01" for point in points) if len(points) <= _DOTS else ""
    path = f'<path class="line c{line.colour}" d="M{"L".join(points)}"/>' if points else ""
    return path + (f'<path class="dots c{line.colour}" d="{dots}"/>' if dots else "")


def _area(axes: Axes, band: Band) -> str:
    low, high = axes.drawn(band.low), axes.drawn(band.high)
    there = [f"{axes.x(number)} {axes.y(high[number])}" for number in high if number in low]
    back = [f"{axes.x(number)} {axes.y(low[number])}" for number in reversed(low) if number in high]
    return f'<path class="band c{band.colour}" d="M{"L".join([*there, *back])}z"/>' if there else ""


def _hover(axes: Axes, columns: Mapping[str, Values], unit: Unit) -> list[str]:
    """Make one invisible strip per round that tells its values."""
    drawn = {label: axes.drawn(values) for label, values in columns.items()}
    width = SIZE / axes.columns
    strips = []
    for number in sorted({number for values in drawn.values() for number in values}):
        told = [f"{label}: {unit.text(values[number])}" for label, values in drawn.items() if number in values]
        strips.append(strip(axes.column(number) * width, 0, width, SIZE, "\n".join([f"round {number}", *told])))
    return strips


def strip(x: float, y: float, width: float, height: float, text: str) -> str:
    """Make an invisible rectangle that tells something when a pointer rests on it."""
    size = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return f"<rect {size}><title>{escape(text)}</title></rect>"


def svg(shapes: Iterable[str], hover: Iterable[str]) -> str:
    """Put shapes, and what tells more of them, into a drawing that fills its place."""
    inside = f'{"".join(shapes)}<g class="hover">{"".join(hover)}</g>'
    return f'<svg viewBox="0 0 {SIZE} {SIZE}" preserveAspectRatio="none" aria-hidden="true">{inside}</svg>'


def _plot(axes: Axes, unit: Unit, shapes: Sequence[str], hover: Sequence[str]) -> str:
    factor, name = unit.scale(max(map(abs, axes.ticks)))
    grid = "".join(f"M0 {axes.y(tick)}H{SIZE}" for tick in axes.ticks)
    texts = _tick_texts([tick / factor for tick in axes.ticks])
    labels = "".join(
        f'<span class="y" style="top:{axes.y(tick) / SIZE:.1%}">{text}</span>'
        for tick, text in zip(axes.ticks, texts, strict=True)
    )
    drawing = svg([f'<path class="grid" d="{grid}"/>', *shapes], hover)
    unit_name = f'<span class="unit">{escape(name)}</span>' if name else ""
    return f'<div class="plot">{unit_name}{drawing}{labels}{axes.labels()}</div>'


def _tick_texts(ticks: Sequence[float]) -> list[str]:
    """Write ticks with as many decimals as the longest needs; very large and very small ones by power of ten."""
    texts = [f"{tick:.6g}" for tick in ticks]
    if any("e" in text for text in texts):
        return texts
    decimals = max(len(text.partition(".")[2]) for text in texts)
    return [f"{tick:.{decimals}f}" for tick in ticks]


def figure(title: str, note: str, legend: Sequence[tuple[str, str]], plot: str, below: str = "") -> str:
    """Put a plot below its title, its note and, where it has more than one mark, its legend of (label, style)."""
    keys = "".join(f'<li class="{style}">{escape(label)}</li>' for label, style in legend)
    said = f"<p>{escape(note)}</p>" if note else ""
    caption = f"<h3>{escape(title)}</h3>{said}" + (f"<ul>{keys}</ul>" if len(legend) > 1 else "")
    return f"<figure><figcaption>{caption}</figcaption>{plot}{below}</figure>"
