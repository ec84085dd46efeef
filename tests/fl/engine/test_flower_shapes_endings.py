"""However a run ends, it ends at once and leaves no process behind; and workers that are spawned."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from shapes import (
    CLIENTS,
    alive,
    ask,
    gone,
    hanging_client,
    run,
    server_of,
    strategy_server,
    training_client,
)

from fl.engine import Apps, AppSpec, Options, run_apps
from shards.errors import InputError

pytestmark = pytest.mark.usefixtures("no_hang")


def test_waiting_for_more_nodes_than_there_are_ends_in_one_line():
    """At the pace of Flower's own strategies, so this takes some seconds."""
    with pytest.raises(InputError, match="waiting for more than the 4 simulated clients; raise --clients"):
        run(strategy_server(FedAvg(min_available_nodes=CLIENTS + 1)), training_client())


def test_looking_at_the_nodes_often_is_not_waiting():
    seen = []
    run(server_of(lambda grid, c: seen.extend(len(list(grid.get_node_ids())) for _ in range(500))), ClientApp())
    assert seen == 500 * [CLIENTS]


class Legacy(NumPyClient):
    def get_parameters(self, config):
        return [np.ones(2)]

    def fit(self, parameters, config):
        return parameters, 1, {}


def test_a_legacy_server_that_waits_for_more_clients_than_there_are_ends_in_one_line_too():
    """Flower would wait a day."""
    with pytest.raises(InputError, match="waiting for more than the 4 simulated clients; raise --clients"):
        run(legacy(min_available_clients=9), ClientApp(client_fn=lambda context: Legacy().to_client()))


def legacy(**options):
    def server_fn(context):
        strategy = LegacyFedAvg(fraction_evaluate=0, **options)
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=1))

    return ServerApp(server_fn=server_fn)


def test_a_server_that_raises_leaves_no_process(tmp_path):
    def main(grid, context):
        content = RecordDict({"config": ConfigRecord({"hang": True})})
        grid.push_messages([Message(content, node, "train") for node in grid.get_node_ids()])
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        raise ArithmeticError("the server's own mistake")

    def slow(context, config):
        time.sleep(60)

    started = time.monotonic()
    with pytest.raises(ArithmeticError, match="the server's own mistake"):
        run(server_of(main), hanging_client(slow, tmp_path), workers=2)
    assert time.monotonic() - started < 10
    assert gone([int(file.name) for file in tmp_path.iterdir()])
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # no child, not even one to be reaped


def test_a_server_that_exits_does_so():
    with pytest.raises(SystemExit):
        run(server_of(lambda grid, context: sys.exit(3)), ClientApp(), workers=2)


@contextlib.contextmanager
def in_a_process_of_its_own(server, client, pids):
    """Start a run in a fork of this process; yield its id and its workers' once both are at work."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(0)
        with contextlib.suppress(KeyboardInterrupt):
            run(server, client, workers=2)
            os._exit(1)
        os._exit(77)
    try:
        while len(list(pids.iterdir())) < 2:
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
            time.sleep(0.02)
        workers = [int(file.name) for file in pids.iterdir()]
        assert all(map(alive, workers))
        yield pid, workers
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def sleeping_apps(pids, kind):
    def sleep(*_):
        (pids / str(os.getpid())).touch()
        time.sleep(60)

    class Slow(Legacy):
        fit = sleep

    if kind == "legacy":
        return legacy(), ClientApp(client_fn=lambda context: Slow().to_client())
    return server_of(lambda grid, context: ask(grid, "train")), hanging_client(sleep)


@pytest.mark.parametrize("kind", ["messages", "legacy"])
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_clients_run_ends_at_once_and_leaves_no_process(sign, kind, tmp_path):
    with in_a_process_of_its_own(*sleeping_apps(tmp_path, kind), tmp_path) as (pid, workers):
        started = time.monotonic()
        os.kill(pid, sign)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 77  # KeyboardInterrupt, for the caller to handle
        assert time.monotonic() - started < 5
    assert gone(workers)


def test_workers_end_when_the_run_is_killed(tmp_path):
    with in_a_process_of_its_own(*sleeping_apps(tmp_path, "messages"), tmp_path) as (pid, workers):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert gone(workers)


APP = """
import time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
client, server, heard = ClientApp(), ServerApp(), []

@client.query()
def query(message, context):
    import multiprocessing
    child = multiprocessing.Process(target=time.sleep, args=(0,))  # as a DataLoader with workers does
    child.start()
    child.join()
    return Message(RecordDict({"c": ConfigRecord({"lr": context.run_config["lr"]})}), reply_to=message)

@server.main()
def main(grid, context):
    messages = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
    heard.extend(grid.send_and_receive(messages))
"""


def test_spawned_workers_import_the_app_from_its_folder(tmp_path, monkeypatch):
    (tmp_path / "spawned_app.py").write_text(APP)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "spawned"\n[tool.flwr.app.components]\nserverapp = "spawned_app:server"\n'
        'clientapp = "spawned_app:client"\n[tool.flwr.app.config]\nlr = 0.25\n'
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = AppSpec.load(tmp_path)
    apps = Apps.load(spec)
    options = Options(clients=2, workers=1, start_method="spawn", client_timeout=1.0)
    outcome = run_apps(apps, spec.config, options)
    assert outcome.failed == 0, outcome.first_error
    assert [reply.content["c"]["lr"] for reply in sys.modules["spawned_app"].heard] == [0.25, 0.25]


def test_a_child_that_the_server_leaves_behind_keeps_no_run_from_ending():
    def leave_a_child(grid, context):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        children.append(child)
        ask(grid, "train")

    children = []
    start = time.monotonic()
    run(server_of(leave_a_child), training_client(), workers=2)
    assert time.monotonic() - start < 20
    assert children[0].is_alive()
    children[0].terminate()
    children[0].join(5)
    assert children[0].exitcode == -signal.SIGTERM
