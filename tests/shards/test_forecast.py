import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shards.forecast import repeat
from shards.request import Request

KINDS = {"time": "datetime64[us]", "age": "int64", "score": "float64", "region": "str", "label": "int64"}


def weeks(*ends):
    return [Request.window("7d").where(region="north").resolve(end).bind(KINDS) for end in ends]


def test_no_history_has_no_forecast():
    assert repeat([], 5) == []


def test_requests_without_intervals_come_again_in_their_order():
    a, b, c = (Request.everything().where(label=label) for label in (1, 2, [3, 4]))
    assert repeat([a, b, c], 7) == [a, b, c, a, b, c, a]
    assert repeat([a], 2) == [a, a]
    assert repeat([a, b, c], 2) == [b, c]  # the latest count more


def test_a_window_that_moved_by_a_day_each_time_moves_on_by_a_day():
    assert repeat(weeks("2024-03-01", "2024-03-02", "2024-03-03"), 3) == weeks(
        "2024-03-04", "2024-03-05", "2024-03-06"
    )


def test_a_window_moves_on_at_its_mean_pace():
    assert repeat(weeks("2024-03-01", "2024-03-01", "2024-03-05"), 2) == weeks("2024-03-05", "2024-03-09")


def test_a_window_among_other_requests_moves_on_by_what_it_moved_per_request():
    first, second = weeks("2024-03-01", "2024-03-03")
    other = Request.everything().where(label=1)
    third, fourth = weeks("2024-03-05", "2024-03-07")
    assert repeat([first, other, second, other], 4) == [third, other, fourth, other]


def test_a_window_seen_once_or_jumping_to_and_fro_stays():
    once = weeks("2024-03-01")
    assert repeat(once, 2) == once * 2
    jumping = weeks("2024-03-01", "2024-03-09", "2024-03-05")
    assert repeat(jumping, 3) == jumping


def test_windows_of_different_width_or_place_move_apart_from_each_other():
    narrow = [Request.everything().between("age", 10 * n, 10 * n + 5) for n in (1, 2)]
    wide = [Request.everything().between("age", 30, 50)] * 2
    assert repeat([narrow[0], wide[0], narrow[1], wide[1]], 2) == [
        Request.everything().between("age", 30, 35),
        wide[0],
    ]


def test_half_open_intervals_move_and_texts_stay():
    scores = [Request.everything().between("score", low=low).bind(KINDS) for low in (0.25, 0.5)]
    assert repeat(scores, 1) == [Request.everything().between("score", low=0.75)]
    below = [Request.everything().between("score", high=high).bind(KINDS) for high in (0.5, 0.25)]
    assert repeat(below, 2) == [Request.everything().between("score", high=high) for high in (0.0, -0.25)]
    texts = [Request.everything().between("region", low, "z") for low in ("a", "b")]
    assert repeat(texts, 2) == texts


@given(st.integers(-(10**6), 10**6), st.integers(0, 10**6), st.integers(2, 24), st.integers(1, 30))
def test_a_steady_window_is_forecast_exactly(start, pace, seen, count):
    def at(number):
        low = np.datetime64("2024-01-01", "us") + np.timedelta64(start + pace * number, "s")
        return Request.everything().between("time", low, low + np.timedelta64(7, "D"))

    assert repeat([at(number) for number in range(seen)], count) == [at(seen + number) for number in range(count)]


@given(st.permutations(range(6)), st.integers(0, 20))
def test_a_forecast_asks_for_the_same_things_as_the_history(order, count):
    history = [weeks("2024-03-01", "2024-03-05", "2024-03-02")[n % 3] if n < 4 else Request() for n in order]
    forecast = repeat(history, count)
    assert len(forecast) == count
    assert {request.keys for request in forecast} <= {request.keys for request in history}
