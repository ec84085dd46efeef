"""Complaints of other frameworks' users that no other test rules out; docs/complaints.md numbers them."""

import json
import os
import random
import sys
import threading
from importlib.metadata import requires
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from shapes import (
    ask,
    counting_client,
    fingerprint,
    reply_to,
    run,
    server_of,
    strategy_server,
    training_client,
)
from support import ADAM
from torch import nn

from fl.cli import main
from fl.data import Iid, open_source
from fl.data.spec import DataSpec
from fl.engine import Apps, Options, SnapshotStore, run_apps, wire
from fl.engine.engine import worker_count
from fl.privacy import Mechanism, event_streams, train_private
from shards.errors import InputError

MIB = 2**20


def own_memory():
    """MiB of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def test_2_memory_does_not_grow_with_rounds(tmp_path):
    clients, rounds, warm = 20, 16, 5
    server_memory, worker_memory = [], []

    def train(message, context):
        return reply_to(message, message.content["arrays"], **{"num-examples": 1, "mib": own_memory()})

    def look(server_round, arrays):
        server_memory.append(own_memory())

    class Watching(FedAvg):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            worker_memory.append(max(reply.content["metrics"]["mib"] for reply in replies))
            return super().aggregate_train(server_round, replies)

    arrays = ArrayRecord({"w": Array(np.zeros(MIB // 4, np.float32))})
    server = strategy_server(Watching(fraction_evaluate=0.0), rounds=rounds, initial_arrays=arrays, evaluate_fn=look)
    snapshots = SnapshotStore(tmp_path, 2048 * MIB)
    options = Options(clients=clients, workers=2, start_method="fork")
    outcome = run_apps(Apps(server, training_client(train=train)), {}, options, snapshots=snapshots)
    assert outcome.replied == clients * rounds
    # A model kept per round would make 11 MiB by now, one per client and round 220.
    assert max(server_memory[-3:]) - max(server_memory[:warm]) < 10
    assert max(worker_memory[-3:]) - max(worker_memory[:warm]) < 10


def test_4_a_session_can_run_again_and_again():
    def held():
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), children

    apps = strategy_server(FedAvg()), training_client()
    first = fingerprint(run(*apps, workers=2))
    before = held()
    assert [fingerprint(run(*apps, workers=2)) for _ in range(4)] == 4 * [first]
    assert held() == before


def test_5_there_are_as_many_client_processes_as_workers_and_never_more_than_cores(tmp_path, monkeypatch):
    client = counting_client(lambda context, count: (tmp_path / str(os.getpid())).touch())
    outcome = run(server_of(lambda grid, context: ask(grid, "train")), client, clients=60, workers=2)
    assert outcome.replied == 60
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5, 9}, raising=False)  # what a scheduler allots
    assert worker_count(Options(clients=1000)) == 3
    assert worker_count(Options(clients=2)) == 2


def test_6_nothing_needs_ray(tmp_path, monkeypatch):
    assert [line for line in requires("fedshard") if line.startswith("ray") and "extra ==" not in line] == []
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it raises
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(ADAM), "--clients", "3", "-c", "num-server-rounds=2", "--workers", "0"]) == 0


def test_8_breakpoints_of_client_and_server_stop_in_the_main_thread_of_the_users_process(monkeypatch):
    stops = []

    def stop(*_, **__):
        frame = sys._getframe(1)
        here = os.getpid() == process and threading.current_thread() is threading.main_thread()
        stops.append((frame.f_code.co_name, here))

    process = os.getpid()
    monkeypatch.setattr(sys, "breakpointhook", stop)
    client = ClientApp()

    @client.query()
    def query(message, context):
        breakpoint()
        return reply_to(message)

    def serve(grid, context):
        breakpoint()
        ask(grid, "query")

    run(server_of(serve), client, clients=2, workers=0)
    assert stops == [("serve", True), ("query", True), ("query", True)]


APP = """
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.app import ArrayRecord
import numpy as np
client, server = ClientApp(), ServerApp()

@client.train()
def train(message, context):
    raise KeyError("no such column")

@server.main()
def serve(grid, context):
    if context.run_config["who"] == "server":
        raise ArithmeticError("the server's own mistake")
    FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord([np.ones(2)]), num_rounds=1)
"""


@pytest.mark.parametrize(
    ("who", "cause", "place"),
    [
        ("server", "the ServerApp raised ArithmeticError: the server's own mistake", "in serve"),
        ("client", "no client ever gave a usable reply; first: client 1: KeyError: 'no such column'", "in train)"),
    ],
)
def test_9_a_run_that_fails_says_who_raised_what_and_where(tmp_path, monkeypatch, capsys, who, cause, place):
    name = f"failing_{who}"
    (tmp_path / f"{name}.py").write_text(APP)
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "failing"\n[tool.flwr.app.components]\nserverapp = "{name}:server"\n'
        f'clientapp = "{name}:client"\n[tool.flwr.app.config]\nwho = "{who}"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["run", ".", "--clients", "2", "--workers", "0"]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"fedshard: {cause}")
    assert place in said
    assert f"{name}.py" in said
    (folder,) = (tmp_path / "runs").iterdir()
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["status"] == "failed"
    assert manifest["error"] in said


def test_10_the_clients_a_strategy_samples_depend_on_the_seed_alone():
    def sampled(seed, workers):
        heard = []

        class Listening(FedAvg):
            def configure_train(self, server_round, arrays, config, grid):
                messages = list(super().configure_train(server_round, arrays, config, grid))
                heard.append([m.metadata.dst_node_id for m in messages])
                return messages

        random.seed()  # whatever happened before in the user's process
        strategy = Listening(fraction_train=0.3, fraction_evaluate=0.0)
        outcome = run(strategy_server(strategy, rounds=4), training_client(), clients=20, workers=workers, seed=seed)
        return heard, fingerprint(outcome)

    first = sampled(1, 0)
    assert sampled(1, 0) == sampled(1, 2) == first
    assert len({tuple(nodes) for nodes in first[0]}) > 1
    assert set(map(frozenset, sampled(2, 0)[0])) != set(map(frozenset, first[0]))


@pytest.mark.parametrize("path", ["", "/{client}.csv"])
def test_16_a_client_opens_no_file_of_another_client(tmp_path, path):
    (tmp_path / "0.csv").write_text("x,y\n1,0\n2,1\n")
    (tmp_path / "1.csv").write_text("x,y\n3,0\nnot a number,1\n")
    spec = DataSpec.read({"columns.target": "y"})
    source = open_source(f"csv:{tmp_path}{path}", partitioner=Iid(), seed=0, spec=spec)
    assert source.client(0, 2).features.ravel().tolist() == [1, 2]
    with pytest.raises(InputError, match=r"1\.csv, line 3"):
        source.client(1, 2)


def test_21_a_message_may_be_larger_than_the_512_mib_of_other_transports():
    size = 513 * MIB
    ours, theirs = Pipe()
    sender = threading.Thread(target=wire.send, args=(ours, {"type": "train"}, bytes(size), b"small"))
    sender.start()
    header, parts = wire.receive(theirs)
    sender.join()
    assert header == {"type": "train"}
    assert [len(part) for part in parts] == [size, 5]


REGIONS = """
[project]
name = "regions"
[tool.flwr.app.components]
serverapp = "fl.server:app"
clientapp = "fl.client:app"
[tool.flwr.app.config]
num-server-rounds = 2
model = "regions_model:build"
data = "csv:data"
columns.target = "y"
columns.region = "region"
train-request = "region = north"
privacy = "dp-sgd"
delta = 1e-5
expected-batch-size = 20.0
[tool.fedshard]
clients = 2
"""


def test_22_a_client_without_rows_in_a_round_still_replies_under_privacy(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    for region in ("north", "south"):
        rows = "".join(f"{k % 7},{region},{k % 2}\n" for k in range(20))
        (tmp_path / "data" / f"{region}.csv").write_text(f"x,region,y\n{rows}")
    (tmp_path / "regions_model.py").write_text("from torch import nn\n\ndef build():\n    return nn.Linear(1, 2)\n")
    (tmp_path / "pyproject.toml").write_text(REGIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["run", ".", "--workers", "0"]) == 0
    (log,) = tmp_path.glob("runs/*/metrics.jsonl")
    exchanges = [line for line in map(json.loads, log.read_text().splitlines()) if line["kind"] == "exchange"]
    assert [(line["replied"], line.get("failed", 0)) for line in exchanges] == [(2, 0), (2, 0)]


def test_30_the_share_of_records_drawn_is_the_rate_that_is_charged():
    drawn = []

    def loss(output, labels):
        drawn.append(len(labels))
        return nn.functional.cross_entropy(output, labels)

    n, rate, steps = 400, 0.05, 200
    streams = event_streams(b"secret of thirty-two bytes or so", "round 1", b"request")
    train_private(
        nn.Linear(3, 2),
        torch.randn(n, 3),
        torch.arange(n) % 2,
        mechanism=Mechanism(rate, 1.0, steps),
        clipping_norm=1.0,
        expected_batch_size=20.0,
        learning_rate=0.1,
        momentum=0.0,
        loss_fn=loss,
        coins=streams.coins,
        noise=streams.noise,
    )
    spread = np.sqrt(n * steps * rate * (1 - rate))
    assert abs(sum(drawn) - n * steps * rate) < 5 * spread
    assert np.std(drawn) == pytest.approx(np.sqrt(n * rate * (1 - rate)), rel=0.2)  # each record by its own coin
