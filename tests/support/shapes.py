"""Small Flower apps, and running them in this process and in workers, for the tests of what our engine accepts."""

import os
import time
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fl.engine import Apps, Options, run_apps
from fl.run.summary import model_digest

CLIENTS = 4


def model():
    """A model of two arrays, small enough to read in a failing test."""
    return ArrayRecord({"w": Array(np.arange(6, dtype=np.float32).reshape(2, 3)), "b": Array(np.ones(2))})


def run(server, client, *, workers=0, clients=CLIENTS, config=None, **options):
    """Run a pair of apps; workers are forked, also where a test runner has a thread of its own."""
    options = {"start_method": "fork", "seed": 5, **options}
    return run_apps(Apps(server, client), config or {}, Options(clients=clients, workers=workers, **options))


def fingerprint(outcome):
    """What two runs of the same federation must agree on, bit by bit."""
    result = outcome.result
    assert result is not None
    assert result.arrays
    metrics = [result.train_metrics_clientapp, result.evaluate_metrics_clientapp, result.evaluate_metrics_serverapp]
    rounds = [{number: dict(record) for number, record in series.items()} for series in metrics]
    return model_digest(result.arrays), rounds, outcome.replied, outcome.failed


def same_everywhere(make, **options):
    """Run fresh apps of `make` in this process and in two workers, check that they agree, and return the outcome."""
    inline, pooled = (run(*make(), workers=workers, **options) for workers in (0, 2))
    assert fingerprint(inline) == fingerprint(pooled)
    return pooled


def server_of(main):
    """A ServerApp of one function of the grid and the context."""
    app = ServerApp()
    app.main()(main)
    return app


def strategy_server(strategy, rounds=2, **start):
    """The usual ServerApp: a strategy, started with `model`."""
    return server_of(
        lambda grid, context: strategy.start(grid, start.pop("initial_arrays", model()), num_rounds=rounds, **start)
    )


def partition(context):
    return int(context.node_config["partition-id"])


def moved(arrays, step):
    """Arrays a step away, with noise of the two global generators that the engine seeds."""
    return ArrayRecord(
        {
            name: Array((a.numpy() + step * np.random.rand(*a.shape) + float(torch.rand(1))).astype(a.dtype))
            for name, a in arrays.items()
        }
    )


def reply_to(message, arrays=None, **metrics):
    """A reply with arrays, where given, and metrics."""
    content = RecordDict({"metrics": MetricRecord(metrics)}) if metrics else RecordDict()
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content, reply_to=message)


def training_client(mods=None, train=None, train_mods=None):
    """A ClientApp that moves the model by random steps, larger for later partitions, and counts examples."""
    app = ClientApp(mods=mods)

    def usual_train(message, context):
        number = partition(context) + 1
        arrays = moved(message.content["arrays"], 0.1 * number)
        return reply_to(message, arrays, **{"num-examples": number, "train_loss": 0.5 / number})

    @app.evaluate()
    def evaluate(message, context):
        total = sum(float(a.numpy().sum()) for a in message.content["arrays"].values())
        return reply_to(message, **{"num-examples": partition(context) + 1, "total": total})

    app.train(mods=train_mods)(train or usual_train)
    return app


def echo(message, context):
    """Answer with what was asked."""
    return Message(message.content, reply_to=message)


def counting_client(before_reply=lambda context, count: None):
    """Each node keeps a counter and a running sum of random arrays in its state."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        state = context.state
        count = state["count"]["n"] + 1 if "count" in state else 1
        total = state["sum"]["a"].numpy() if "sum" in state else np.zeros(3)
        state["count"] = MetricRecord({"n": count})
        state["sum"] = ArrayRecord({"a": Array(total + np.random.rand(3) + partition(context))})
        state["bytes"] = ConfigRecord({"raw": bytes([count]), "list": [b"a", b"b"], "text": "ünï"})
        before_reply(context, count)
        return reply_to(message, state["sum"], count=count, partition=partition(context))

    return app


def ask(grid, kind, nodes=None, **send):
    """Send an empty message of a kind to nodes (all by default) and return the replies."""
    content = RecordDict({"config": ConfigRecord(send.pop("config", {}))})
    nodes = list(grid.get_node_ids()) if nodes is None else nodes
    return list(grid.send_and_receive([Message(content, node, kind) for node in nodes], **send))


def hanging_client(which, pids=None):
    """Each node counts its messages in its state, notes its process where asked, and then does `which`."""
    client = ClientApp()

    @client.train()
    def train(message, context):
        context.state["seen"] = ConfigRecord({"n": context.state.get("seen", {"n": 0})["n"] + 1})
        if pids:
            (pids / str(os.getpid())).touch()
        which(context, message.content["config"])
        return reply_to(message, seen=context.state["seen"]["n"])

    return client


def alive(pid):
    """Whether a process runs (one that nobody has reaped yet does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids, within=5.0):
    """Wait until no process is left, and say whether that came true in time."""
    end = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, pids))
