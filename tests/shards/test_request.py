from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from tables import DAY0, requests, table

from shards.errors import InputError
from shards.request import Request
from shards.zone import Zone

ROWS = table(range(50))


def said(call, *arguments, **keywords):
    with pytest.raises(InputError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_conditions_select_the_rows_a_reader_expects():
    keys = ROWS.keys
    request = Request.everything().where(region=["north", "öst"]).between("label", 0, 1.5)
    expected = np.isin(keys["region"], ["north", "öst"]) & (keys["label"] >= 0) & (keys["label"] <= 1)
    assert expected.any()
    np.testing.assert_array_equal(request.mask(ROWS), expected)


def test_a_window_ends_before_its_clock_and_starts_a_span_earlier():
    now = datetime(2024, 3, 10, 12, tzinfo=UTC)
    times = np.array(["2024-03-03T12", "2024-03-03T11:59", "2024-03-10T11:59", "2024-03-10T12"], "datetime64[us]")
    rows = type(ROWS)(np.arange(4), {"time": times})
    resolved = Request.window("7d").resolve(now)
    assert resolved.mask(rows).tolist() == [True, False, True, False]
    assert resolved.origin == "calendar"
    assert resolved == Request.window("1 w").resolve("2024-03-10T13:00+01:00") == Request.window("168h").resolve(now)


def test_a_window_without_a_clock_cannot_be_read():
    assert "call resolve(now) first" in said(Request.window("7d").mask, ROWS)


def test_times_are_compared_in_utc_whatever_their_zone():
    east = datetime(2024, 3, 10, tzinfo=timezone(timedelta(hours=8)))
    bound = Request.everything().between("time", east).bind(ROWS.kinds)
    assert bound == Request.everything().between("time", "2024-03-09T16:00").bind(ROWS.kinds)


@given(requests(), requests())
def test_both_means_both_in_any_order(one, two):
    np.testing.assert_array_equal((one & two).mask(ROWS), one.mask(ROWS) & two.mask(ROWS))
    assert one & two == two & one
    assert one & one == one


@given(requests())
def test_json_brings_back_the_same_request(request_):
    assert Request.from_json(request_.to_json()) == request_
    bound = request_.bind(ROWS.kinds)
    assert Request.from_json(bound.to_json()) == bound == bound.bind(ROWS.kinds)


@given(requests())
def test_zones_never_hide_a_matching_row_and_never_promise_too_much(request_):
    wanted = request_.mask(ROWS)
    bound = request_.bind(ROWS.kinds)
    for start in range(0, 50, 7):
        part = slice(start, start + 7)
        zone = Zone.of(ROWS.take(part))
        assert bound.may_match(zone) or not wanted[part].any()
        assert wanted[part].all() or not bound.covers(zone)


def test_combining_keeps_the_more_private_origin():
    public, local = Request.window("7d").derived_from("release"), Request().where(label=1).derived_from("local")
    assert public.public
    assert not local.public
    assert (public & local).origin == "local"
    assert not (public & local).public
    assert local.derived_from("config").resolve(DAY0).origin == "local"


def test_configuration_says_what_code_says():
    parsed = Request.parse(
        "last 7d of stamp; region = north, 'a, b', \"12\"; label = 1; score >= 0.5; time < 2024-03-02"
    )
    built = (
        Request.window("7d", key="stamp").where(region=["north", "a, b", "12"], label=1)
        .between("score", 0.5).between("time", None, np.datetime64("2024-03-02", "us"))
    )  # fmt: skip
    assert parsed == built
    assert Request.parse("everything") == Request.parse("") == Request.everything()
    assert Request.parse("region = 'a; b'; label = -1") == Request().where(region="a; b", label=-1)
    assert Request.parse("sick = true") == Request.everything().where(sick=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("last week", "window 'week': write a number and a unit"),
        ("last 0d", "window '0d'"),
        ("age <= 5", "'<=' is not known; use '=' or, as intervals are half-open, '>=' and '<'"),
        ("region == north", "'==' is not known"),
        ("region != north", "'!=' is not known"),
        ("region = O'Hare", "put a text that holds a quote into quotes of the other kind"),
        ("age < 5, 6", "age < takes one value, got 2"),
        ("nonsense", "cannot read 'nonsense'; write 'last 7d', 'key = a, b' or 'key >= value'"),
        ("region = 'north", "separate values by commas"),
        ("time >= 2024-13-01", "'2024-13-01' is not a time"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused(text, expected):
    assert expected in said(Request.parse, text)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request().where(regoin="north"), "no key 'regoin': did you mean 'region'?"),
        (Request().where(region=12), "key 'region' holds str, and 12 is int; put it in quotes"),
        (Request().where(label=1.5), "key 'label' holds int64, and 1.5 is float"),
        (Request().where(label=True), "key 'label' holds int64, and True is bool"),
        (Request().where(label=2**63), "does not fit into int64"),
        (Request().between("sick", True), "has no order"),
        (Request().between("time", "soon"), "'soon' is not a time"),
    ],
)
def test_a_request_that_does_not_fit_the_keys_is_refused(request_, expected):
    assert expected in said(request_.mask, ROWS)


def test_values_that_no_key_can_have_are_refused():
    assert "cannot be compared" in said(Request().where, label=None)
    assert "nan" in said(Request().between, "score", float("nan"))
    assert "NaT" in said(Request().between, "time", np.datetime64("NaT"))
    assert "not a request" in said(Request.from_json, {"origin": "elsewhere", "conditions": []})
