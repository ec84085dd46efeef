import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.audit import GENESIS, DecisionLog, replay
from shards.controller import Candidate, Policy, decide
from shards.errors import InputError

POLICY = Policy(alpha=2.1, hysteresis=1.1)


def log_one(log, client, number=0, recut=10):
    candidates = [Candidate("keep", {"boxes": 1}, 1000, 0), Candidate("recut", {"boxes": 4}, recut, 100 + number)]
    decision = decide(candidates, POLICY)
    return log.append(client, f"after round {number}", {"round": number}, candidates, POLICY, decision)


@pytest.fixture
def log(tmp_path):
    log = DecisionLog(tmp_path / "decisions.jsonl")
    for number in range(3):
        log_one(log, "ann", number)
        log_one(log, 'b"ö\n', number, recut=2000)
    return log


def edit(log, number, old, new):
    lines = log.path.read_bytes().splitlines(keepends=True)
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new)
    log.path.write_bytes(b"".join(lines))


def test_each_client_has_a_chain_of_its_own(log):
    entries = log.read('b"ö\n')
    assert [entry.sequence for entry in entries] == [0, 1, 2]
    assert [entry.previous for entry in entries] == [GENESIS, entries[0].digest, entries[1].digest]
    assert log.head('b"ö\n') == entries[2].digest
    assert log.head("nobody") == GENESIS
    assert len(log.read()) == 6
    log.verify()


def test_a_chain_does_not_depend_on_who_else_writes(log, tmp_path):
    alone = DecisionLog(tmp_path / "alone.jsonl")
    for number in range(3):
        log_one(alone, "ann", number)
    assert alone.read() == log.read("ann")


def test_every_entry_replays_to_the_same_decision(log):
    assert [entry.decision.kind for entry in log.read("ann")] == ["recut"] * 3
    for entry in log.read():
        assert replay(entry) == entry.decision


costs = st.integers(0, 10**18)


@given(
    costs,
    costs,
    costs,
    st.floats(0.1, 100),
    st.floats(1, 10),
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_an_entry_comes_back_bit_for_bit(tmp_path_factory, keep, recut, switching, alpha, hysteresis, state):
    log = DecisionLog(tmp_path_factory.mktemp("log") / "decisions.jsonl")
    policy = Policy(alpha, hysteresis)
    candidates = (Candidate("keep", {}, keep, 0), Candidate("recut", {"layout": [1.5, None]}, recut, switching))
    written = log.append("ann", "after round 1", state, candidates, policy, decide(candidates, policy))
    (read,) = log.read()
    assert read == written
    assert (read.state, read.candidates, read.policy) == (state, candidates, policy)
    assert replay(read) == read.decision
    log.verify()


def test_a_decision_that_was_made_up_does_not_replay(log):
    forged = dataclasses.replace(log.read("ann")[0].decision, kind="keep", index=0)
    entry = dataclasses.replace(log.read("ann")[0], decision=forged)
    assert replay(entry) != entry.decision


@pytest.mark.parametrize(
    ("line", "old", "new"),
    [
        (1, b'"running_cost":1000', b'"running_cost":1001'),
        (3, b'"alpha":2.1', b'"alpha":2.2'),
        (6, b'"event":"after', b'"event":"befor'),
        (4, b"}\n", b" }\n"),
    ],
)
def test_an_edit_is_found_in_its_line(log, line, old, new):
    edit(log, line, old, new)
    with pytest.raises(InputError, match=rf"decisions.jsonl: line {line} is damaged \(its content and its digest"):
        log.verify()


def test_an_edit_sealed_anew_is_found_in_the_next_line_of_the_client(log, tmp_path):
    lines = log.path.read_bytes().splitlines(keepends=True)
    other = DecisionLog(tmp_path / "other.jsonl")
    log_one(other, "ann", 7)
    lines[0] = other.path.read_bytes()
    log.path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=r"line 3 is damaged .* client 'ann'"):
        log.verify()


@pytest.mark.parametrize("order", [[0, 1, 4, 5], [2, 1, 0, 3, 4, 5], [0, 0, 1, 2, 3, 4, 5], [2, 3, 4, 5]])
def test_entries_left_out_swapped_or_repeated_are_found(log, order):
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[number] for number in order))
    with pytest.raises(InputError, match="does not follow"):
        log.verify()


def test_every_flipped_bit_is_found(tmp_path):
    log = DecisionLog(tmp_path / "decisions.jsonl")
    log_one(log, "ann")
    log_one(log, "ann", 1)
    data = log.path.read_bytes()
    for position in range(0, len(data) - 1, 3):
        log.path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(InputError, match="is damaged"):
            log.verify()


def test_dropping_the_older_half_keeps_every_chain_going(tmp_path):
    log = DecisionLog(tmp_path / "decisions.jsonl", max_bytes=4000)
    log_one(log, "silent")
    silent = log.head("silent")
    for number in range(40):
        log_one(log, "ann", number)
        log.verify()
        assert log.path.stat().st_size <= 4000 + 400
    kept = log.read("ann")
    assert [entry.sequence for entry in kept] == list(range(40 - len(kept), 40))
    assert 3 <= len(kept) < 40
    assert log.read("silent") == []
    assert log.head("silent") == silent
    assert log_one(log, "silent", 1).previous == silent
    log.verify()


def test_a_dropped_entry_after_the_anchor_is_found(tmp_path):
    log = DecisionLog(tmp_path / "decisions.jsonl", max_bytes=4000)
    for number in range(40):
        log_one(log, "ann", number)
    anchor, _first, *rest = log.path.read_bytes().splitlines(keepends=True)
    assert b"anchors" in anchor
    log.path.write_bytes(b"".join([anchor, *rest]))
    with pytest.raises(InputError, match="line 2 is damaged"):
        log.verify()
    log.path.write_bytes(b"".join([*rest, anchor]))
    with pytest.raises(InputError, match="line 1 is damaged"):
        log.verify()


def test_a_line_cut_short_is_as_if_never_written(log):
    data = log.path.read_bytes()
    entries = log.read()
    log.path.write_bytes(data[:-20])
    assert log.read() == entries[:-1]
    log.verify()
    log_one(log, 'b"ö\n', 2, recut=2000)
    assert log.path.read_bytes() == data


def test_a_line_that_is_no_decision_is_named(log):
    content = log.path.read_bytes()
    for junk in (b'{"client":"ann","sequence":3}\n', b'{"client":"ann",\n'):
        log.path.write_bytes(content + junk)
        with pytest.raises(InputError, match="line 7 is damaged"):
            log.read()
        with pytest.raises(InputError, match="line 7 is damaged"):
            log_one(log, "ann", 3)
        with pytest.raises(InputError, match="line 7 is damaged"):
            log.verify()


def test_only_plain_numbers_go_into_the_log(log):
    candidates = [Candidate("keep", {"loss": json.loads("NaN")}, 1, 0)]
    with pytest.raises(ValueError, match="JSON"):
        log.append("ann", "after round 4", {}, candidates, POLICY, decide(candidates, POLICY))
    log.verify()
