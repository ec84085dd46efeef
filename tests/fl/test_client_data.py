"""A client's rows in its shard store: the cut changes what is read, never what is learned."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from torch import nn

from fl.cli import main
from fl.client import app
from fl.client_data import HELD_OUT, ClientData, Holder
from fl.data import Records
from fl.engine import flower
from fl.engine.app import PRIVATE_KEY, SEED_KEY
from fl.run.reads import ACCESS_LOG, DECISION_LOG
from fl.schedule import Schedule
from fl.settings import Settings
from shards.access import AccessLog
from shards.audit import DecisionLog, replay
from shards.disk import DiskFullError
from shards.errors import InputError
from shards.files import FolderFiles
from shards.layout import Cut, Layout, Leaf
from shards.request import Request
from shards.store import Store

DAYS = 60
START = np.datetime64("2020-01-01", "us")


def rows(days=DAYS, shift=0.0):
    """24 records a day, with a time, a region and one feature."""
    n = 24 * days
    draws = np.random.default_rng(0)
    times = START + np.arange(n) * np.timedelta64(1, "h")
    region = np.array(["east", "north", "west"])[draws.integers(3, size=n)]
    features = draws.normal(size=(n, 3)).astype(np.float32) + shift
    return Records(features, (features[:, 0] > 0).astype(np.int64), np.arange(n), {"time": times, "region": region})


def model():
    return nn.Linear(3, 2)


def load(client, num_clients):
    return rows()


def load_some(client, num_clients):
    return rows(days=25)


CONFIG = {
    "model": f"{__name__}:model",
    "data": f"{__name__}:load",
    "num-server-rounds": 8,
    "train-request": "last 7d; region = north, west",
    "clock-start": "2020-01-08",
    "clock-step": "7d",
}


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """The module by the name that the configuration gives, whatever pytest imported it as."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


def data(folder, state=None, simulated=True, **config):
    settings = Settings.read({**CONFIG, "privacy": "off", **config})
    holder = Holder("client-0", 0, 2, folder, simulated)
    return ClientData(settings, holder, RecordDict() if state is None else state)


def random_tree(draws, depth=0):
    """A tree of cuts at random keys and values, some leaves split by hash."""
    if depth == 4 or draws.random() < 0.2:
        return Leaf(int(draws.integers(1, 4)))
    yes, no = (random_tree(draws, depth + 1) for _ in range(2))
    kind = draws.integers(3)
    if kind == 0:
        return Cut("time", START + np.timedelta64(int(draws.integers(24 * DAYS)), "h"), yes, no)
    if kind == 1:
        chosen = draws.choice(["east", "north", "west"], size=draws.integers(1, 3), replace=False)
        return Cut("region", frozenset(map(str, chosen)), yes, no)
    return Cut("id", int(draws.integers(24 * DAYS)), yes, no)


def random_layout(seed):
    draws = np.random.default_rng(seed)
    return Layout(random_tree(draws), draws.bytes(8))


@pytest.fixture
def reply_under(tmp_path):
    """What a client replies to a training message, all of it, when its rows are cut by a layout."""
    flower.set_identity(1, 1)
    torch.manual_seed(0)
    arrays = ArrayRecord(model().state_dict())

    def send(layout, number=0, **config):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        node = {"partition-id": 0, "num-partitions": 2, PRIVATE_KEY: str(folder), SEED_KEY: 0}
        context = flower.build_context(7, 5, node, {**CONFIG, "data": f"{__name__}:load_some", **config})
        memory = {"generation": 1, "layout": layout.to_json(), "reads": []}
        context.state["fedshard.shards"] = ConfigRecord({"memory": json.dumps(memory)})
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 2})})
        message = Message(content, 5, "train")
        flower.stamp(message, "id")
        torch.manual_seed(1)
        reply = app(message, context)
        bits = [array.data for array in reply.content["arrays"].values()]
        return bits, {name: dict(record) for name, record in reply.content.metric_records.items()}

    return send


OPEN, PRIVATE = {"privacy": "off", "batch-size": 64}, {"sampling-rate": 0.3, "local-test-fraction": 0.3}


@pytest.mark.parametrize("config", [OPEN, PRIVATE])
def test_updates_are_the_same_to_the_bit_under_100_random_layouts(reply_under, config):
    first = reply_under(Layout.single(), **config)
    boxes = set()
    for seed in range(1, 101):
        layout = random_layout(seed)
        boxes.add(layout.boxes)
        assert reply_under(layout, seed, **config) == first
    assert len(boxes) > 5


def test_a_round_reads_what_its_window_and_regions_name(tmp_path):
    wanted = data(tmp_path).train(2)
    everything = rows()
    expected = everything.select(
        (everything.keys["time"] >= np.datetime64("2020-01-15"))
        & (everything.keys["time"] < np.datetime64("2020-01-22"))
        & (everything.keys["region"] != "east")
    )
    np.testing.assert_array_equal(wanted.ids, expected.ids)
    np.testing.assert_array_equal(wanted.features, expected.features)


def test_rounds_come_to_read_little_more_than_they_ask_for_and_log_it(tmp_path):
    state = RecordDict()
    for number in range(1, 8):
        client = data(tmp_path, state)
        client.train(number)
        client.settle(number)
    reads = AccessLog(tmp_path / ACCESS_LOG).read("client-0")
    assert [read.event for read in reads] == [f"round {number} train" for number in range(1, 8)]
    assert str(reads[1].clock).startswith("2020-01-22")
    assert reads[0].bytes_read > 10 * reads[0].bytes_matching
    assert sum(r.bytes_read for r in reads[2:]) <= 2 * sum(r.bytes_matching for r in reads[2:])
    decisions = DecisionLog(tmp_path / DECISION_LOG)
    decisions.verify()
    assert all(replay(entry) == entry.decision for entry in decisions.read())
    assert reads[-1].generation == 1 + sum(entry.decision.kind != "keep" for entry in decisions.read())


def test_any_worker_goes_on_with_the_cut_that_another_made(tmp_path, monkeypatch):
    from fl import client_data

    state = RecordDict()
    first = data(tmp_path, state)
    first.train(1)
    first.settle(1)
    client_data._in_memory.cache_clear()  # as in a worker that never saw this client
    second = data(tmp_path, state)
    assert second._store.layout == first._store.layout
    assert second._store.layout.boxes > 1


def test_training_that_reads_everything_is_left_in_one_shard(tmp_path):
    state = RecordDict()
    plain = {"train-request": "", "clock-start": "", "clock-step": ""}
    for number in (1, 2, 3):
        client = data(tmp_path, state, **plain)
        assert len(client.train(number)) == 24 * DAYS
        client.settle(number)
    assert client._store.layout == Layout.single()
    assert not (tmp_path / DECISION_LOG).exists()


def test_training_and_evaluation_rows_are_told_apart_by_a_request(tmp_path):
    client = data(tmp_path, **{"local-test-fraction": 0.25, "train-request": "region = north", **NO_CLOCK})
    train, test = client.train(1), client.evaluate(1)
    assert not set(train.ids) & set(test.ids)
    assert 0.2 < len(test) / (24 * DAYS) < 0.3
    assert set(train.keys["region"]) == {"north"}
    assert not train.keys[HELD_OUT].any()


NO_CLOCK = {"clock-start": "", "clock-step": ""}


def test_a_request_made_of_local_data_is_refused_while_privacy_is_on(tmp_path, monkeypatch):
    private = Request.everything().where(region="north").derived_from("local")
    monkeypatch.setattr(Schedule, "at", lambda self, server_round: private)
    with pytest.raises(InputError, match="depends on local data"):
        data(tmp_path, privacy="dp-sgd").train(1)
    assert len(data(tmp_path).train(1))


SOURCES = [(DAYS, 0.0, 0), (DAYS + 5, 0.0, 0), (DAYS - 5, 0.0, 0), (DAYS, 1.0, 0), (DAYS, 0.0, 9999)]


@pytest.mark.parametrize(("days", "shift", "first_id"), SOURCES)
def test_a_store_on_disk_follows_the_data_source_and_keeps_its_cut(tmp_path, monkeypatch, days, shift, first_id):
    from fl import client_data

    def restart():
        client_data._followed.clear()
        return data(tmp_path, state, simulated=False)

    state = RecordDict()
    client_data._followed.clear()
    client = data(tmp_path, state, simulated=False)
    client.train(1)
    client.settle(1)
    layout = client._store.layout
    assert layout.boxes > 1
    wanted = rows(days, shift)
    wanted = Records(wanted.features, wanted.labels, wanted.ids + first_id, wanted.keys)
    monkeypatch.setattr(client_data, "_rows", lambda *arguments: wanted.table())
    (tmp_path / "store.old").mkdir()  # as a killed process may leave
    after = restart()._store
    assert after.layout == layout
    assert not (tmp_path / "store.old").exists()
    held = Records.of(after.read(Request.everything()).table)
    np.testing.assert_array_equal(held.ids, wanted.ids)
    np.testing.assert_array_equal(held.features, wanted.features)
    after.verify()


def test_a_store_on_disk_is_made_anew_where_other_columns_are_configured(tmp_path):
    from fl import client_data

    client_data._followed.clear()
    data(tmp_path, simulated=False).train(1)
    data(tmp_path, simulated=False, **{"local-test-fraction": 0.5}).train(1)
    assert HELD_OUT in Store.open(FolderFiles(tmp_path / "store")).keys().keys
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["store"]


def test_a_record_is_charged_only_for_the_rounds_whose_window_can_hold_it():
    sliding = Schedule.read("last 10d; region = north", "2020-01-01", "4d")
    assert [sliding.eligible_rounds(rounds) for rounds in (1, 2, 3, 30)] == [1, 2, 3, 3]
    hours = START + np.arange(24 * 400) * np.timedelta64(1, "h")
    held = np.zeros(len(hours), int)
    for number in range(1, 31):
        end = sliding.clock(number)
        held += (hours >= end - np.timedelta64(10, "D")) & (hours < end)
    assert held.max() == 3
    assert Schedule.read("region = north", "", "").eligible_rounds(30) == 30


def test_a_client_without_rows_in_a_round_learns_nothing_and_its_reply_counts_for_nothing(reply_under):
    reply, metrics = reply_under(
        Layout.single(), **{"privacy": "off", "train-request": "region = nowhere", **NO_CLOCK}
    )
    torch.manual_seed(0)
    assert reply == [array.data for array in ArrayRecord(model().state_dict()).values()]
    assert metrics == {"metrics": {"num-examples": 0, "loss": 0.0}}


def test_the_model_stays_where_no_client_that_was_asked_has_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    app_folder = tmp_path / "quiet"
    app_folder.mkdir()
    (app_folder / "quiet_task.py").write_text(TASK)
    (app_folder / "pyproject.toml").write_text(PYPROJECT)
    assert main(["run", "quiet", "--workers", "0", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rounds"] == 8
    rounds = [json.loads(line) for line in next(tmp_path.glob("runs/*/metrics.jsonl")).read_text().splitlines()]
    losses = [line["test_loss"] for line in rounds if line["kind"] == "round"]
    still = [before == after for before, after in pairwise(losses)]
    assert any(still)  # the client drawn had no rows that day
    assert not all(still)


TASK = """
import numpy as np
from torch import nn
from fl.data import Records

def model():
    return nn.Linear(2, 2)

def load(client, num_clients):
    n = 24 * 8
    start = "2020-01-01" if client == 0 else "2030-01-01"
    times = np.datetime64(start, "us") + np.arange(n) * np.timedelta64(1, "h")
    return Records(np.ones((n, 2), np.float32), np.arange(n) % 2, np.arange(n) + 1000 * client, {"time": times})

def load_test():
    return Records(np.eye(2, dtype=np.float32), np.array([0, 1]), np.arange(2), {})
"""

PYPROJECT = """
[project]
name = "quiet"
version = "0"
[tool.flwr.app]
publisher = "me"
[tool.flwr.app.components]
serverapp = "fl.server:app"
clientapp = "fl.client:app"
[tool.flwr.app.config]
num-server-rounds = 8
fraction-train = 0.34
model = "quiet_task:model"
data = "quiet_task:load"
test-data = "quiet_task:load_test"
train-request = "last 1d"
clock-start = "2020-01-01"
clock-step = "1d"
privacy = "off"
[tool.fedshard]
clients = 3
"""


def test_a_store_on_disk_whose_creation_was_killed_is_created_again(tmp_path):
    from fl import client_data

    client_data._followed.clear()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "lock").touch()
    assert len(data(tmp_path, simulated=False).train(1))


def test_two_configurations_of_one_process_never_read_each_others_marks(tmp_path):
    def held_out_rows(seed):
        client = data(tmp_path, simulated=False, **{"local-test-fraction": 0.5, "data-seed": seed})
        return set(client.evaluate(1).ids.tolist())

    first, second = held_out_rows(0), held_out_rows(1)
    assert first != second
    assert held_out_rows(0) == first


def test_a_damaged_store_on_disk_says_that_it_can_be_made_anew(tmp_path):
    from fl import client_data

    data(tmp_path, simulated=False).train(1)
    (shard,) = (tmp_path / "store").glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1])
    client_data._followed.clear()
    with pytest.raises(InputError, match="made anew from the data source"):
        data(tmp_path, simulated=False)
    for path in (tmp_path / "store").iterdir():
        path.unlink()
    assert len(data(tmp_path, simulated=False).train(1))


@pytest.fixture
def ask(tmp_path):
    """Send a training message with privacy on; return the reply's bits and the state after it."""
    flower.set_identity(1, 1)
    torch.manual_seed(0)
    arrays = ArrayRecord(model().state_dict())

    def send(number, state=None):
        node = {"partition-id": 0, "num-partitions": 2, PRIVATE_KEY: str(tmp_path), SEED_KEY: 0}
        context = flower.build_context(7, 5, node, dict(CONFIG))
        context.state = state or RecordDict()
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": number})})
        message = Message(content, 5, "train")
        flower.stamp(message, "id")
        reply = app(message, context)
        return [array.data for array in reply.content["arrays"].values()], context.state

    return send


def test_a_retry_that_resends_a_paid_reply_leaves_the_same_state(ask):
    first, state = ask(1)
    assert ask(1) == (first, state)  # the first attempt's state was lost, as when the run is killed
    assert "layout" in json.loads(state["fedshard.shards"]["memory"])


def test_what_goes_wrong_with_the_cut_costs_no_reply(ask, tmp_path, monkeypatch):
    def full(*arguments):
        raise DiskFullError("decisions.jsonl: disk full")

    monkeypatch.setattr(DecisionLog, "append", full)
    bits, _ = ask(1)
    assert bits
    assert "decisions.jsonl: disk full" in (tmp_path / "client.log").read_text()
