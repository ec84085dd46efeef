"""Whatever a client does costs its own reply only; whatever the server does leaves nothing behind."""

import asyncio
import os
import signal
import sys
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp.strategy import FedAvg
from shapes import (
    CLIENTS,
    ask,
    gone,
    hanging_client,
    partition,
    reply_to,
    run,
    same_everywhere,
    server_of,
    strategy_server,
    training_client,
)

pytestmark = pytest.mark.usefixtures("no_hang")

BOTH = pytest.mark.parametrize("workers", [0, 2])


def bad(value):
    return ArrayRecord({"w": Array(np.array([1.0, value]))})


def raising(message, context):
    raise KeyError("no such column")


def leaving(message, context):
    sys.exit("enough")


def cancelled(message, context):
    raise asyncio.CancelledError


def meddling(message, context):
    context.run_config["lr"] = 2
    return reply_to(message)


MISDEEDS = {
    "raises": (raising, "KeyError: 'no such column'"),
    "sys.exit": (leaving, "SystemExit: enough"),
    "cancelled": (cancelled, "CancelledError"),
    "returns None": (lambda message, context: None, "returned NoneType, not a Message"),
    "returns content": (lambda message, context: RecordDict(), "returned RecordDict, not a Message"),
    "NaN": (lambda message, context: reply_to(message, bad(np.nan)), "NaN or infinity in 'w'"),
    "infinity": (lambda message, context: reply_to(message, bad(np.inf)), "NaN or infinity in 'w'"),
    "NaN metric": (lambda message, context: reply_to(message, loss=float("nan")), "NaN or infinity in 'loss'"),
    "changes run_config": (meddling, "changed context.run_config, which is read-only"),
}


@BOTH
@pytest.mark.parametrize(("misdeed", "reason"), MISDEEDS.values(), ids=MISDEEDS)
def test_a_misbehaving_client_gets_an_error_reply_and_keeps_its_old_state(misdeed, reason, workers):
    client = ClientApp()
    heard = []

    @client.train()
    def train(message, context):
        context.state["seen"] = ConfigRecord({"n": context.state.get("seen", {"n": 0})["n"] + 1})
        if partition(context) == 1 and message.content["config"]["bad"]:
            return misdeed(message, context)
        return reply_to(message, seen=context.state["seen"]["n"])

    def main(grid, context):
        for is_bad in (False, True, False):
            heard.append(ask(grid, "train", config={"bad": is_bad}))

    outcome = run(server_of(main), client, workers=workers, config={"lr": 1})
    first, second, third = heard
    failed = [reply for reply in second if reply.has_error()]
    assert [reply.metadata.src_node_id for reply in failed] == [first[1].metadata.src_node_id]
    assert failed[0].error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert reason in failed[0].error.reason
    assert [r.content["metrics"]["seen"] for r in first] == CLIENTS * [1]
    assert [r.content["metrics"]["seen"] for r in third] == [3, 2, 3, 3]
    assert (outcome.replied, outcome.failed) == (3 * CLIENTS - 1, 1)
    assert reason in outcome.first_error
    assert outcome.first_error.startswith("client 1: ")


def test_the_reason_names_the_line_of_the_app_that_raised():
    client = ClientApp()
    client.train()(raising)
    replies = []
    run(server_of(lambda grid, context: replies.extend(ask(grid, "train"))), client)
    line = raising.__code__.co_firstlineno + 1
    assert replies[0].error.reason.endswith(f"(test_flower_shapes_failures.py:{line} in raising)")


@BOTH
def test_an_error_that_the_client_answers_with_arrives_and_its_state_is_kept_as_under_flower(workers):
    client = ClientApp()

    @client.query()
    def query(message, context):
        times = context.state.get("seen", {"n": 0})["n"] + 1
        context.state["seen"] = ConfigRecord({"n": times})
        return Message(Error(77, f"not today, {times}"), reply_to=message)

    heard = []

    def main(grid, context):
        heard.extend((r.error.code, r.error.reason) for _ in range(2) for r in ask(grid, "query"))

    run(server_of(main), client, workers=workers)
    assert heard == CLIENTS * [(77, "not today, 1")] + CLIENTS * [(77, "not today, 2")]


def test_a_strategy_goes_on_with_the_replies_that_are_usable():
    def train(message, context):
        if partition(context) == message.content["config"]["server-round"]:
            return reply_to(message, bad(np.nan), **{"num-examples": 1})
        return reply_to(message, message.content["arrays"], **{"num-examples": 1})

    outcome = same_everywhere(lambda: (strategy_server(FedAvg()), training_client(train=train)))
    assert outcome.failed == 2
    assert outcome.replied == 2 * (CLIENTS - 1) + 2 * CLIENTS


def hang(context, config):
    if partition(context) == 2 and config.get("hang"):
        time.sleep(60)


def test_a_client_past_its_time_limit_is_stopped_and_serves_again_with_its_state(tmp_path):
    heard = []

    def main(grid, context):
        heard.extend(ask(grid, "train", config={"hang": flag}) for flag in (False, True, False))

    started = time.monotonic()
    run(server_of(main), hanging_client(hang, tmp_path), workers=2, client_timeout=0.6)
    assert time.monotonic() - started < 10
    assert [r.content["metrics"]["seen"] for r in heard[0]] == CLIENTS * [1]
    assert [r.has_error() for r in heard[1]] == [False, False, True, False]
    assert heard[1][2].error.code == ErrorCode.CLIENT_APP_CRASHED
    assert "no reply within 0.6 s" in heard[1][2].error.reason
    assert [r.content["metrics"]["seen"] for r in heard[2]] == [3, 3, 2, 3]
    pids = [int(file.name) for file in tmp_path.iterdir()]
    assert len(pids) == 3  # two workers, and one in place of the stopped
    assert gone(pids)


def test_the_time_to_live_of_a_message_is_a_time_limit_too():
    heard = []

    def main(grid, context):
        node = list(grid.get_node_ids())[2]
        content = RecordDict({"config": ConfigRecord({"hang": True})})
        heard.extend(grid.send_and_receive([Message(content, node, "train", ttl=0.5)]))

    run(server_of(main), hanging_client(hang), workers=2)
    assert "no reply within 0.5 s" in heard[0].error.reason


def test_stragglers_past_the_servers_timeout_stay_unanswered_and_unchanged():
    heard = []

    def main(grid, context):
        heard.append(ask(grid, "train", config={"hang": True}, timeout=1.0))
        heard.append(ask(grid, "train"))

    started = time.monotonic()
    outcome = run(server_of(main), hanging_client(hang), workers=2)
    assert time.monotonic() - started < 10
    assert len(heard[0]) == CLIENTS - 1
    assert [r.content["metrics"]["seen"] for r in heard[1]] == [2, 2, 1, 2]
    assert (outcome.replied, outcome.failed) == (2 * CLIENTS - 1, 1)
    assert "no reply before the server's timeout" in outcome.first_error


def test_clients_that_wait_in_line_past_the_servers_timeout_never_start(tmp_path):
    def all_hang(context, config):
        time.sleep(60)

    heard = []
    run(
        server_of(lambda grid, context: heard.append(ask(grid, "train", timeout=0.5))),
        hanging_client(all_hang, tmp_path),
        workers=2,
    )
    assert heard == [[]]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("end", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(0)])
def test_a_client_process_that_dies_is_replaced(end):
    def die(context, config):
        if partition(context) in (0, 3) and config.get("die"):
            end()

    heard = []

    def main(grid, context):
        heard.extend(ask(grid, "train", config={"die": flag}) for flag in (True, False))

    run(server_of(main), hanging_client(die), workers=2)
    assert [r.has_error() for r in heard[0]] == [True, False, False, True]
    assert heard[0][0].error.code == ErrorCode.CLIENT_APP_CRASHED
    assert "killed or crashed" in heard[0][0].error.reason
    assert [r.content["metrics"]["seen"] for r in heard[1]] == [1, 2, 2, 1]
