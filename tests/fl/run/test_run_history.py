"""The log of a run, folded into tables; times are computed by hand."""

import pytest

from fl.run.history import History


def exchange(number, kind, start, end, **fields):
    line = {"kind": "exchange", "time": end, "seconds": end - start, "server_round": number, "message_type": kind}
    return {**line, "sent": 4, "replied": 4, **fields}


def ended(number, time, **metrics):
    return {"kind": "round", "time": time, "server_round": number, **metrics}


def test_seconds_are_exchanges_and_what_the_server_did_between_them():
    lines = [
        exchange(1, "train", 100.0, 103.0),
        exchange(1, "evaluate", 103.5, 104.0),
        ended(1, 104.25),
        exchange(2, "train", 104.5, 106.5),
        ended(2, 107.0),
    ]
    seconds = History.of(lines).seconds
    assert seconds == {
        "train": {1: 3.0, 2: 2.0},
        "evaluate": {1: 0.5},
        "server": {1: 0.75, 2: pytest.approx(0.75)},  # the quarter second between the rounds opens round 2
    }


def test_phases_that_the_server_names_are_taken_out_of_its_rest():
    phases = {"kind": "phases", "time": 105.0, "server_round": 1, "aggregation": 0.5, "server test": 0.25}
    seconds = History.of([exchange(1, "train", 100.0, 103.0), ended(1, 104.0), phases]).seconds
    assert seconds == {
        "train": {1: 3.0},
        "aggregation": {1: 0.5},
        "server test": {1: 0.25},
        "other server": {1: 0.25},
    }


def test_the_night_between_two_attempts_is_nobodys_time():
    first = [exchange(1, "train", 100.0, 101.0), ended(1, 102.0), exchange(2, "train", 102.0, 103.0)]
    night = 50_000.0
    resumed = [
        ended(1, night),  # the snapshot's round, reported again
        exchange(2, "train", night, night, replayed=True),
        exchange(2, "evaluate", night + 1, night + 2),
        ended(2, night + 2.5),
    ]
    history = History.of([*first, *resumed])
    assert history.seconds == {"train": {1: 1.0, 2: 1.0}, "evaluate": {2: 1.0}, "server": {1: 1.0, 2: 1.5}}
    assert history.sent == {1: 4, 2: 8}, "the replayed exchange counts once"


def test_an_exchange_whose_first_log_line_was_lost_is_taken_from_its_replay():
    replayed = exchange(1, "train", 100.0, 100.0, replayed=True, clients={"0": {"loss": 2.0}})
    history = History.of([replayed, ended(1, 101.0)])
    assert history.clients == {"train loss": {"0": {1: 2.0}}}
    assert "train" not in history.seconds, "the time of a replay says nothing"


def test_exchanges_of_a_legacy_server_overlap_and_count_once():
    lines = [
        exchange(1, "train", 100.0, 102.0),
        exchange(1, "train", 101.0, 103.0),
        exchange(1, "train", 105.0, 106.0),
    ]
    assert History.of(lines).seconds["train"] == {1: 4.0}


def test_clients_metrics_failures_and_errors_are_sorted_out():
    told = {"10": {"loss": 3.0, "num-examples": 5}, "9": {"loss": 1.0}}
    failing = {"failed": 2, "error": "client 3: ValueError: no"}
    lines = [
        exchange(1, "train", 0.0, 1.0, clients=told, **failing),
        ended(1, 1.0, test_loss=1.0),
        ended(1, 2.0, x=2.0),
    ]
    history = History.of(lines)
    assert list(history.clients["train loss"]) == ["9", "10"], "numbers by value"
    assert list(history.clients) == ["train loss"], "weights are no figure"
    assert history.failed == {1: 2}
    assert history.errors == ("round 1, train: client 3: ValueError: no",)
    assert history.rounds == {1: {"test_loss": 1.0, "x": 2.0}}


def test_lines_of_other_kinds_and_without_a_round_are_passed_over():
    history = History.of([{"kind": "note", "server_round": 1}, {"kind": "exchange", "sent": 2}, {}])
    assert (history.rounds, history.clients, history.seconds, history.sent) == ({}, {}, {}, {})
