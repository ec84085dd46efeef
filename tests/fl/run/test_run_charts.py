"""Charts: right numbers at the right places, whatever the values and the names."""

import base64
import io
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.run.charts import BYTES, SECONDS, Band, Line, line_chart, nice_ticks, stacked_bars
from fl.run.heat_map import heat_map

finite = st.floats(-1e9, 1e9)
anything = st.dictionaries(st.integers(0, 30), st.floats(allow_nan=True, allow_infinity=True), max_size=12)


def parse(figure):
    return ET.fromstring(re.sub(r"(<img[^>]*)>", r"\1/>", figure))


def path_of(figure, name):
    return [e.get("d") for e in parse(figure).iter("path") if name in e.get("class").split()]


@given(finite, finite)
def test_ticks_are_few_evenly_spaced_and_hold_the_range(a, b):
    low, high = min(a, b), max(a, b)
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    steps = np.diff(ticks)
    assert (steps > 0).all()
    assert steps == pytest.approx(np.full(len(steps), steps[0]), rel=0.01)
    slack = 0.02 * steps[0]
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack


def test_ticks_are_round_numbers():
    assert nice_ticks(0, 8) == (0, 2, 4, 6, 8)
    assert nice_ticks(0.905, 0.961) == pytest.approx((0.9, 0.92, 0.94, 0.96, 0.98))
    assert nice_ticks(0.5, 0.5)[0] < 0.5 < nice_ticks(0.5, 0.5)[-1]
    assert nice_ticks(0, 0)[-1] > 0


def test_a_line_goes_through_its_points():
    figure = line_chart("t", [Line("a", {1: 0.0, 2: 8.0})])
    assert path_of(figure, "line") == ["M250.0 1000.0L750.0 0.0"]


@given(anything, anything)
def test_values_that_are_not_finite_are_left_out_of_every_chart(a, b):
    shown = {number: abs(value) % 1e6 if math.isfinite(value) else value for number, value in a.items()}
    figures = [
        line_chart("t", [Line("a", shown), Line("b", b)], bands=[Band("c", a, b)]),
        stacked_bars("t", {"a": shown, "b": {1: 1.0}}),
    ]
    for figure in figures:
        shapes = "".join(e.get("d", "") for e in parse(figure).iter("path"))
        assert "nan" not in shapes
        assert "inf" not in shapes


def test_bars_stand_on_each_other():
    figure = stacked_bars("t", {"a": {1: 3.0}, "b": {1: 1.0}}, unit=SECONDS)
    lower, upper = path_of(figure, "bar")
    assert (lower, upper) == ("M140.0 1000.0h720.0V250.0h-720.0z", "M140.0 250.0h720.0V0.0h-720.0z")
    assert [e.text for e in parse(figure).iter("title")] == ["round 1\na: 3 s\nb: 1 s"]


def test_axes_use_the_unit_that_reads_best():
    figure = line_chart("t", [Line("read", {1: 2.5e6, 2: 7.5e6})], unit=BYTES)
    labels = [e.text for e in parse(figure).iter("span") if e.get("class") == "y"]
    assert labels == ["0", "2", "4", "6", "8"]
    assert [e.text for e in parse(figure).iter("span") if e.get("class") == "unit"] == ["MB"]
    assert "read: 2.5 MB" in figure


def test_labels_of_a_diverged_loss_stay_short():
    figure = line_chart("t", [Line("a", {1: 1.0, 2: 3e30})])
    labels = [e.text for e in parse(figure).iter("span") if e.get("class") == "y"]
    assert labels == ["0", "1e+30", "2e+30", "3e+30"]


def test_names_cannot_break_out_of_the_page():
    evil = "</title><script>alert('1')</script>&\""
    figures = [
        line_chart(evil, [Line(evil, {1: 1.0}), Line("b", {})], limit=(evil, 2.0), note=evil),
        stacked_bars(evil, {evil: {1: 1.0}, "b": {1: 2.0}}, note=evil),
        heat_map(evil, {evil: {1: 1.0}}, note=evil),
    ]
    for figure in figures:
        assert not list(parse(figure).iter("script"))
        assert "<script" not in figure


def test_more_rounds_than_columns_are_thinned_and_it_is_said():
    values = {number: float(number) for number in range(1, 5001)}
    figure = line_chart("t", [Line("a", values)])
    assert "one round in 10 is drawn" in figure
    assert len(path_of(figure, "line")[0].split("L")) == 500
    assert "round 11\n" in figure
    assert "round 12\n" not in figure


def pixels(figure):
    image = pytest.importorskip("matplotlib.image")
    data = next(parse(figure).iter("img")).get("src").partition(",")[2]
    return image.imread(io.BytesIO(base64.b64decode(data)))


def test_a_map_is_darker_where_the_value_is_larger_and_empty_where_there_is_none():
    alpha = pixels(heat_map("t", {"0": {1: 0.0, 2: 5.0}, "1": {2: 10.0, 1: math.nan}}))[..., 3]
    assert alpha.shape == (2, 2)
    assert alpha == pytest.approx(np.array([[30 / 255, 0.56], [0.0, 1.0]]), abs=0.01)


def test_a_map_of_many_clients_shows_means_of_neighbours():
    rows = {str(client): {1: float(client % 2)} for client in range(600)}
    rows["599"] = {1: math.nan}
    figure = heat_map("t", rows)
    assert pixels(figure).shape[:2] == (200, 1)
    assert "Each row is the mean of 3 neighbours." in figure
    assert "mean of clients 0 to 2: on average 0.333, last 0.333" in figure
    assert "mean of clients 597 to 599: on average 0.5" in figure, "a blank is passed over, not counted as 0"
