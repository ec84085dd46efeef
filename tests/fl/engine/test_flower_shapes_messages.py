"""Flower's message API runs as it is: mods, queries, actions, lifespans, state, and servers that poll."""

import os
import signal

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import arrays_size_mod, message_size_mod
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from shapes import (
    CLIENTS,
    ask,
    counting_client,
    echo,
    partition,
    reply_to,
    run,
    same_everywhere,
    server_of,
    strategy_server,
    training_client,
)

from fl.run.summary import model_digest

pytestmark = pytest.mark.usefixtures("no_hang")

BOTH = pytest.mark.parametrize("workers", [0, 2])


def tagging(tag):
    """A mod that appends its tag to what the client heard on the way in and to what it said on the way out."""

    def mod(message, context, call_next):
        message.content["config"]["trail"] = [*message.content["config"].get("trail", []), f"{tag} in"]
        reply = call_next(message, context)
        reply.content["config"]["trail"] = [*reply.content["config"]["trail"], f"{tag} out"]
        return reply

    return mod


@BOTH
def test_mods_of_the_app_wrap_mods_of_the_function(workers):
    client = ClientApp(mods=[tagging("app")])
    client.train(mods=[tagging("first"), tagging("second")])(echo)
    client.query()(echo)
    trails = {}

    def main(grid, context):
        for kind in ("train", "query"):
            trails[kind] = [list(r.content["config"]["trail"]) for r in ask(grid, kind)]

    run(server_of(main), client, workers=workers)
    inner = ["first in", "second in", "second out", "first out"]
    assert trails["train"] == CLIENTS * [["app in", *inner, "app out"]]
    assert trails["query"] == CLIENTS * [["app in", "app out"]]


def test_size_mods_and_a_mod_that_changes_the_arrays():
    def doubling(message, context, call_next):
        reply = call_next(message, context)
        reply.content["arrays"] = ArrayRecord(
            {name: Array(2 * a.numpy()) for name, a in reply.content["arrays"].items()}
        )
        return reply

    def make(*mods):
        client = training_client([message_size_mod, arrays_size_mod], train_mods=list(mods))
        return strategy_server(FedAvg(), rounds=1), client

    plain, doubled = (same_everywhere(lambda mods=mods: make(*mods)) for mods in ((), (doubling,)))
    for name, array in plain.arrays.items():
        np.testing.assert_allclose(doubled.arrays[name].numpy(), 2 * array.numpy(), rtol=1e-6)


@BOTH
def test_actions_are_routed_by_name_and_an_unknown_one_is_an_error_reply(workers):
    client = ClientApp()
    for register, category in ((client.train, "train"), (client.evaluate, "evaluate"), (client.query, "query")):
        for action in ("default", "other"):
            register(action)(lambda m, c, said=f"{category} {action}": reply_to(m, **{said: 1}))
    heard = {}

    def main(grid, context):
        for kind in ("train", "train.other", "evaluate", "evaluate.other", "query", "query.other", "query.missing"):
            reply = ask(grid, kind, list(grid.get_node_ids())[:1])[0]
            heard[kind] = reply.error.reason if reply.has_error() else next(iter(reply.content["metrics"]))
            assert reply.metadata.message_type == kind

    run(server_of(main), client, workers=workers)
    assert "No query function registered with name 'missing'" in heard.pop("query.missing")
    assert heard == {
        f"{category}{suffix}": f"{category} {action}"
        for category in ("train", "evaluate", "query")
        for suffix, action in (("", "default"), (".other", "other"))
    }


@BOTH
def test_lifespans_enclose_the_server_once_and_each_message_of_a_client(workers, tmp_path):
    log, order = tmp_path / "log", []
    client, server = ClientApp(), ServerApp()

    @client.lifespan()
    def client_life(context):
        context.state["opened"] = ConfigRecord({"times": context.state.get("opened", {"times": 0})["times"] + 1})
        yield
        with log.open("a") as file:
            file.write(f"{partition(context)} closed after {context.state['opened']['times']}\n")
        context.state["closed"] = ConfigRecord({"yes": True})

    @client.query()
    def query(message, context):
        return reply_to(message, opened=context.state["opened"]["times"], closed=int("closed" in context.state))

    @server.lifespan()
    def server_life(context):
        order.append("open")
        yield
        order.append("close")

    @server.main()
    def main(grid, context):
        for _ in range(2):
            order.append([dict(r.content["metrics"]) for r in ask(grid, "query")])

    run(server, client, workers=workers, clients=2)
    rounds = [[{"opened": n, "closed": n - 1}] * 2 for n in (1, 2)]
    assert order == ["open", *rounds, "close"]
    assert sorted(log.read_text().splitlines()) == [f"{c} closed after {n}" for c in (0, 1) for n in (1, 2)]


def states_by_round(client, workers, rounds=3):
    seen = []

    def main(grid, context):
        for _ in range(rounds):
            seen.append(
                {
                    int(r.content["metrics"]["partition"]): (
                        r.content["metrics"]["count"],
                        model_digest(r.content["arrays"]),
                    )
                    for r in ask(grid, "train")
                    if r.has_content()
                }
            )

    run(server_of(main), client, workers=workers)
    return seen


def test_state_belongs_to_the_node_and_lasts_whichever_worker_serves_it():
    inline, pooled = (states_by_round(counting_client(), workers) for workers in (0, 2))
    assert inline == pooled
    assert [{n: count for n, (count, _) in seen.items()} for seen in pooled] == [
        dict.fromkeys(range(CLIENTS), n) for n in (1, 2, 3)
    ]
    assert len({digest for seen in pooled for _, digest in seen.values()}) == 3 * CLIENTS


def test_state_survives_the_worker_and_that_of_the_killed_call_is_as_before(tmp_path):
    dead = tmp_path / "dead"

    def die(context, count):
        if partition(context) == 1 and count == 2 and not dead.exists():
            dead.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    seen = states_by_round(counting_client(die), workers=2)
    undisturbed = states_by_round(counting_client(), workers=2)
    assert 1 not in seen[1]
    assert seen[2].pop(1)[0] == 2  # counted on from its state after round 1
    undisturbed[1].pop(1)
    undisturbed[2].pop(1)
    assert seen == undisturbed
