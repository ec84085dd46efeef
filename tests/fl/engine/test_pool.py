"""Calls sent ahead of their turn: a worker never waits, and no client pays for another one."""

import os
import signal
import time

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from shapes import reply_to

from fl.engine import codec, flower
from fl.engine.executor import NodeStates
from fl.engine.launcher import ForkLauncher
from fl.engine.pool import WorkerPool
from fl.engine.wire import SMALL, Claims, Tokens
from fl.engine.worker import Call

pytestmark = pytest.mark.usefixtures("no_hang")


@pytest.fixture
def tokens():
    tokens = Tokens()
    yield tokens
    tokens.close()


def test_a_worker_claims_the_calls_whose_tokens_it_finds(tokens):
    claims = Claims(tokens.reader)
    for number in range(600):  # numbers go round after 256
        tokens.put(number)
        assert claims.claim()


def test_a_call_taken_back_is_passed_over_and_the_next_one_is_executed(tokens):
    claims = Claims(tokens.reader)
    tokens.put(0)
    assert tokens.take() == 0
    tokens.put(1)
    assert not claims.claim()
    assert claims.claim()
    assert tokens.take() is None


def test_a_token_is_never_taken_by_both_ends(tokens):
    claims = Claims(tokens.reader)
    tokens.put(0)
    assert claims.claim()
    assert tokens.take() is None


def sleeping_client():
    """Sleeps as long as it is told, and says in which process it did; below 0, leaves a child and dies."""
    app = ClientApp()

    @app.query()
    def query(message, context):
        if message.content["config"]["seconds"] < 0:
            if os.fork():
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(8)
            os._exit(0)
        time.sleep(message.content["config"]["seconds"])
        return reply_to(message, pid=os.getpid())

    return app


def call(node, seconds, size=0):
    content = RecordDict({"config": ConfigRecord({"seconds": seconds, "padding": b"x" * size})})
    metadata = {
        **{"run_id": 7, "message_id": f"m{node}", "src_node_id": 1, "dst_node_id": node, "reply_to_message_id": ""},
        **{"group_id": "1", "created_at": time.time(), "ttl": 60.0, "message_type": "query"},
        **{"src_task_id": 1, "dst_task_id": None},
    }
    return Call(metadata, codec.encode(content), {}, seed=node)


@pytest.fixture
def pool_of():
    pools = []

    def make(size):
        pools.append(WorkerPool(ForkLauncher(sleeping_client(), {}), size, NodeStates()))
        return pools[-1]

    flower.set_identity(7, flower.SUPERLINK_NODE_ID)
    yield make
    for pool in pools:
        pool.close()


def pid(future):
    message = future.result().message
    assert isinstance(message, Message)
    return message.content["metrics"]["pid"]


def test_every_call_is_answered_once_and_in_any_mixture_of_sizes(pool_of):
    pool = pool_of(3)
    sizes = [0, SMALL // 2, SMALL, 3 * SMALL, 1]
    calls = [call(node, 0.002 * (node % 3), sizes[node % len(sizes)]) for node in range(2, 80)]
    replies = [future.result() for future in [pool.submit(one, 30.0) for one in calls]]
    assert [reply.metadata["src_node_id"] for reply in replies] == list(range(2, 80))
    assert not any(reply.failed for reply in replies)


def test_a_call_behind_a_slow_client_is_executed_by_the_worker_that_is_free(pool_of):
    pool = pool_of(2)
    warm = [pool.submit(call(node, 0.0), 30.0) for node in (2, 3)]
    assert all(not future.result().failed for future in warm)
    start = time.monotonic()
    slow = pool.submit(call(4, 1.0), 30.0)
    quick = [pool.submit(call(node, 0.01), 30.0) for node in range(5, 12)]
    assert len({pid(future) for future in quick}) == 1
    assert time.monotonic() - start < 0.9
    assert pid(slow) != pid(quick[0])


def test_a_client_that_hangs_takes_no_other_call_with_it(pool_of):
    pool = pool_of(1)
    hanging, next_one, last = (pool.submit(call(n, s), 0.3) for n, s in ((2, 60.0), (3, 0.0), (4, 0.0)))
    assert hanging.result().failed
    assert "no reply within 0.3 s" in codec.decode_error(hanging.result().body).reason
    assert not next_one.result().failed
    assert not last.result().failed


def test_a_call_sent_ahead_can_be_abandoned_without_stopping_the_one_before_it(pool_of):
    pool = pool_of(1)
    first_pid = pid(pool.submit(call(2, 0.0), 30.0))
    running, ahead = pool.submit(call(3, 0.4), 30.0), pool.submit(call(4, 0.0), 30.0)
    time.sleep(0.1)
    pool.abandon([ahead])
    assert ahead.done()
    assert pid(running) == first_pid


def test_abandoning_the_running_call_leaves_the_one_sent_ahead_to_the_next_worker(pool_of):
    pool = pool_of(1)
    first_pid = pid(pool.submit(call(2, 0.0), 30.0))
    running, ahead = pool.submit(call(3, 60.0), 120.0), pool.submit(call(4, 0.0), 30.0)
    time.sleep(0.1)
    pool.abandon([running])
    assert running.done()
    assert pid(ahead) != first_pid


def test_calls_of_one_node_run_in_order_and_one_at_a_time(pool_of):
    pool = pool_of(2)
    futures = [pool.submit(call(2, 0.01), 30.0) for _ in range(6)] + [pool.submit(call(3, 0.0), 30.0)]
    done = []
    for index, future in enumerate(futures):
        future.add_done_callback(lambda _, index=index: done.append(index))
    assert not any(future.result().failed for future in futures)
    assert [index for index in done if index < 6] == list(range(6))


def test_calls_taken_from_a_busy_worker_never_fill_its_socket(pool_of):
    pool = pool_of(2)
    for future in [pool.submit(call(node, 0.0), 30.0) for node in (2, 3)]:
        future.result()
    slow = pool.submit(call(4, 1.5), 30.0)
    time.sleep(0.1)
    start = time.monotonic()
    for batch in range(40):  # each leaves a call of 20 KB unread at the busy worker, unless that is counted
        futures = [pool.submit(call(5 + node, 0.0, 20_000 + batch), 30.0) for node in range(3)]
        assert not any(future.result().failed for future in futures)
    assert time.monotonic() - start < 1.2
    assert not slow.result().failed


def test_the_time_limit_of_a_hanging_client_goes_on_while_calls_are_taken_from_behind_it(pool_of):
    pool = pool_of(2)
    for future in [pool.submit(call(node, 0.0), 30.0) for node in (2, 3)]:
        future.result()
    hanging, start = pool.submit(call(4, 60.0), 0.6), time.monotonic()
    while not hanging.done() and time.monotonic() < start + 5:
        for future in [pool.submit(call(5 + node, 0.02), 30.0) for node in range(3)]:
            future.result()
    assert hanging.result(timeout=0).failed
    assert time.monotonic() - start < 2


def test_a_worker_killed_while_idle_costs_no_reply(pool_of):
    pool = pool_of(1)
    first = pid(pool.submit(call(2, 0.0), 30.0))
    os.kill(first, signal.SIGKILL)
    time.sleep(0.1)
    assert pid(pool.submit(call(3, 0.0), 30.0)) != first


def test_a_killed_worker_is_noticed_although_a_child_of_the_clients_holds_its_connection(pool_of):
    pool = pool_of(1)
    start = time.monotonic()
    assert pool.submit(call(2, -1.0), 60.0).result().failed
    assert time.monotonic() - start < 3
    assert not pool.submit(call(3, 0.0), 30.0).result().failed


def test_a_time_limit_of_years_is_none(pool_of):
    assert not pool_of(1).submit(call(2, 0.0), 1e9).result().failed
