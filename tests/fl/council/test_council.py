"""The council in one process agrees on the same chain whatever F replicas do, twice alike, and names who lied."""

import hashlib
import json
import stat

import msgspec
import pytest

from consensus.ledger import Genesis, read, verify
from fl.council import outcome
from fl.council.council import Plan
from fl.council.faults import Faults
from fl.council.keys import SharedScheme, derived_key
from fl.council.outcome import Outcome, Reception, Update, assign, included
from shards.errors import FedshardError, InputError


def operation(number):
    return outcome.encode(Outcome(number, "region", "FedAvg", (), (), bytes([number]) * 32, b"", ()))


def only(*allowed):
    return lambda replica, other: "" if other in allowed else "not this round's"


def decide(council, count=4):
    return [council.agree(operation(number), only(operation(number))) for number in range(count)]


@pytest.mark.parametrize("protocol", ["flat", "regional", "regional-fast", "two-layer", "star"])
def test_every_protocol_agrees_and_its_chain_verifies(council, protocol, tmp_path):
    made = council(16, protocol=protocol, folder=tmp_path)
    decisions = decide(made, 20)  # past a checkpoint
    assert [decision.block.operations for decision in decisions] == [(operation(number),) for number in range(20)]
    checked = verify(read(tmp_path), Genesis.read(tmp_path))
    assert (checked.bad, checked.blocks) == (None, 20)


def test_a_quiet_round_sends_what_the_formula_says_and_every_phase_takes_its_time(council):
    second = decide(council(20), 2)[1]
    n, k = 20, 4
    assert second.messages["vote"] == 5 * n - 4 * k - 1 + 2 * k * (k - 1)
    assert second.phases_ms["order"] == 0
    assert all(100 < second.phases_ms[name] < 1000 or name == "answer" for name in ("prepare", "commit"))
    assert not second.refused


MIXES = [
    "false-aggregate:1",
    "false-aggregate:3",
    "lying-head:3",
    "silent:3",
    "false-aggregate:1,lying-head:1,silent:1",
]


@pytest.mark.parametrize("faults", MIXES)
def test_with_f_faulty_replicas_the_same_is_decided_and_liars_are_named(council, faults, tmp_path):
    made = council(10, faults, folder=tmp_path)
    decisions = decide(made)
    assert [decision.block.operations for decision in decisions] == [(operation(number),) for number in range(4)]
    assert verify(read(tmp_path), Genesis.read(tmp_path)).bad is None
    liars = {replica for replica, kind in made.faulty.items() if kind == "false-aggregate"}
    named = {liar: count for decision in decisions for liar, count, _ in decision.refused}
    assert liars <= set(named) <= set(made.faulty)  # a lying head passes a lie on when it comes to lead
    assert all(count == len(made.correct) for count in named.values())


def test_two_councils_of_one_seed_leave_the_same_bytes(council, tmp_path):
    for name in "ab":
        decide(council(10, "false-aggregate:1,lying-head:1", folder=tmp_path / name), 18)
    files = ("ledger.jsonl", "genesis.json", "private/council-keys.json")
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_a_council_that_follows_its_ledger_goes_on_as_if_it_had_never_stopped(council, tmp_path):
    faults = "false-aggregate:2,silent:1"
    decide(council(10, faults, folder=tmp_path / "whole"), 20)
    decide(council(10, faults, folder=tmp_path / "cut"), 9)
    again = council(10, faults, folder=tmp_path / "cut")
    for block in list(again.ledger.blocks):
        again.follow(block)
    for number in range(9, 20):
        again.agree(operation(number), only(operation(number)))
    assert (tmp_path / "whole/ledger.jsonl").read_bytes() == (tmp_path / "cut/ledger.jsonl").read_bytes()


def test_what_correct_replicas_refuse_is_not_decided(council):
    made = council(4)
    with pytest.raises(FedshardError, match="no decision"):
        made.agree(operation(1), only(operation(2)))
    assert made.last is None


def test_keys_stay_in_the_private_folder_readable_by_their_owner(council, tmp_path):
    made = council(4, folder=tmp_path)
    path = tmp_path / "private" / "council-keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())) == {"0", "1", "2", "3", "server"}
    public = (tmp_path / "genesis.json").read_text()
    assert all(secret not in public for secret in json.loads(path.read_text()).values())
    assert "simulated in the server process" in made.genesis.keys


def test_a_shared_scheme_takes_no_forgery_for_known():
    pairs = [derived_key(0, index) for index in range(2)]
    publics = tuple(public for _, public in pairs)
    known = set()
    schemes = [SharedScheme(key, public, publics, known) for key, public in pairs]
    signature = schemes[0].sign(b"statement")
    assert schemes[1].verify(0, b"statement", signature)
    assert not schemes[1].verify(0, b"other", signature)
    assert not schemes[1].verify(1, b"statement", signature)
    assert not schemes[1].verify(0, b"statement", bytes(64))
    assert not schemes[1].verify(2, b"statement", signature)
    known.clear()
    assert schemes[1].verify(0, b"statement", signature)  # for real, now
    assert (publics[0], b"statement", signature) in known


@pytest.mark.parametrize(
    ("size", "faults", "message"),
    [
        (3, "", "a council of 3 replicas: it needs 4 to 255"),
        (256, "", "it needs 4 to 255"),
        (10, "silent:4", "4 faulty replicas; 10 survive at most 3, so ask for fewer"),
        (10, "sillent:1", "did you mean 'silent'"),
        (10, "silent", "expected silent:NUMBER"),
        (10, "silent:one", "expected silent:NUMBER"),
        (10, "silent:1, silent:1", "expected silent:NUMBER, once"),
        (20, "lying-head:5", "there are 4 replicas to be it"),
    ],
)
def test_a_council_that_cannot_be_is_one_line(size, faults, message):
    with pytest.raises(InputError) as caught:
        Plan.of(size, "regional", Faults.parse(faults))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_clients_keep_their_region_and_new_ones_join_the_smallest():
    first = assign([5, 3, 9, 1, 7], 2)
    assert first == ((1, 5, 9), (3, 7))
    assert assign([1, 2], 2, first) == ((1, 5, 9), (2, 3, 7))


def test_a_block_includes_what_f_plus_one_replicas_list():
    updates = [Update(client, hashlib.sha256(bytes([client])).digest()) for client in range(3)]
    lists = (Reception((updates[1], updates[0]), (0, 1), ()), Reception((updates[2],), (2,), ()))
    assert included(lists, 1) == (updates[0], updates[1])
    assert included((*lists, Reception((updates[2],), (3,), ())), 1) == tuple(updates)
    assert included(lists, 0) == tuple(updates)


def test_an_outcome_has_one_encoding_only():
    encoded = operation(3)
    assert outcome.decode(encoded).server_round == 3
    longer = msgspec.msgpack.encode(msgspec.msgpack.decode(encoded)).replace(b"\x98\x03", b"\x98\xcc\x03", 1)
    assert longer != encoded
    assert outcome.decode(longer) is None
    assert outcome.decode(b"") is None
