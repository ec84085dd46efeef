"""Flower's earlier API runs as it is: NumPyClient, server_fn, the legacy strategies and the workflows."""

import threading

import numpy as np
import pytest
from flwr.app import Message
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, Server, ServerAppComponents, ServerConfig, SimpleClientManager
from flwr.server import strategy as s
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_PARAMS_RECORD
from flwr.serverapp import ServerApp
from shapes import CLIENTS, ask, partition, run, same_everywhere, server_of

from fl.run.summary import model_digest

pytestmark = pytest.mark.usefixtures("no_hang")


def start():
    return [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2)]


class Client(NumPyClient):
    def __init__(self, number):
        self.number = number

    def get_properties(self, config):
        return {"number": self.number, "asked": config.get("what", "")}

    def get_parameters(self, config):
        return [a + self.number for a in start()]

    def fit(self, parameters, config):
        moved = [(a + 0.1 * (1 + self.number) * np.random.rand(*a.shape)).astype(a.dtype) for a in parameters]
        return moved, self.number + 1, {"round": config.get("round", 0), "number": self.number}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), self.number + 1, {"accuracy": 0.1 * self.number}


def numpy_client(mods=None):
    return ClientApp(client_fn=lambda context: Client(partition(context)).to_client(), mods=mods)


def weighted(metrics):
    total = sum(count for count, _ in metrics)
    return {name: sum(count * m[name] for count, m in metrics) / total for name in metrics[0][1]}


def options():
    return {
        "fit_metrics_aggregation_fn": weighted,
        "evaluate_metrics_aggregation_fn": weighted,
        "on_fit_config_fn": lambda server_round: {"round": server_round},
    }


def legacy_server(strategy, rounds=2, **components):
    def server_fn(context):
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=rounds), **components)

    return ServerApp(server_fn=server_fn)


STRATEGIES = {
    "FedAvg": s.FedAvg,
    "FedAvg of a fraction": lambda **o: s.FedAvg(fraction_fit=0.5, min_fit_clients=2, **o),
    "FedAdam": lambda **o: s.FedAdam(initial_parameters=ndarrays_to_parameters(start()), **o),
    "FedMedian": s.FedMedian,
    "Krum": lambda **o: s.Krum(num_malicious_clients=1, **o),
    "DP fixed": lambda **o: s.DifferentialPrivacyServerSideFixedClipping(s.FedAvg(**o), 0.1, 0.5, CLIENTS),
}


@pytest.mark.parametrize("make", STRATEGIES.values(), ids=STRATEGIES)
def test_server_fn_with_a_legacy_strategy_gives_the_same_bits_though_it_sends_from_threads(make):
    outcome = same_everywhere(lambda: (legacy_server(make(**options())), numpy_client()))
    assert outcome.failed == 0
    assert [m["round"] for m in outcome.result.train_metrics_clientapp.values()] == [1, 2]
    assert set(outcome.result.evaluate_metrics_clientapp[2]) == {"loss", "accuracy"}


def test_many_clients_are_summed_in_one_order():
    def make():
        return legacy_server(s.FedAvg(**options()), rounds=1), numpy_client()

    assert len({model_digest(run(*make(), clients=12, workers=w).arrays) for w in (0, 2, 2, 2)}) == 1


@pytest.mark.parametrize("given", [True, False])
def test_the_first_model_is_the_strategys_or_else_a_clients(given):
    initial = ndarrays_to_parameters(start()) if given else None

    def make():
        strategy = s.FedAvg(fraction_fit=0, min_fit_clients=0, fraction_evaluate=0, initial_parameters=initial)
        return legacy_server(strategy), numpy_client()

    outcome = same_everywhere(make)
    shift = outcome.result.arrays.to_numpy_ndarrays()[1] - 1
    assert outcome.replied == (0 if given else 1)
    assert shift.tolist() in ([[0, 0]] if given else [[n, n] for n in range(CLIENTS)])


def test_the_deprecated_arguments_of_the_server_app():
    def make():
        strategy = s.FedAvg(initial_parameters=ndarrays_to_parameters(start()))
        return ServerApp(config=ServerConfig(num_rounds=1), strategy=strategy), numpy_client()

    assert same_everywhere(make).replied == 2 * CLIENTS


def test_a_server_of_ones_own_with_get_properties():
    seen = []

    class Asking(Server):
        def fit(self, num_rounds, timeout):
            from flwr.common import GetPropertiesIns

            self._client_manager.num_available()
            for proxy in self._client_manager.all().values():
                result = proxy.get_properties(GetPropertiesIns({"what": "size"}), timeout=30, group_id=None)
                seen.append((result.properties["number"], result.properties["asked"]))
            return super().fit(num_rounds, timeout)

    def make():
        manager = SimpleClientManager()
        server = Asking(client_manager=manager, strategy=s.FedAvg(**options()))
        return legacy_server(None, server=server, client_manager=manager), numpy_client()

    same_everywhere(make)
    assert sorted(seen) == sorted(2 * [(n, "size") for n in range(CLIENTS)])


def test_a_failing_legacy_client_is_a_failure_of_its_own_only():
    class Failing(Client):
        def fit(self, parameters, config):
            if self.number == 2:
                raise ValueError("no data today")
            return super().fit(parameters, config)

    failures = []

    class Counting(s.FedAvg):
        def aggregate_fit(self, server_round, results, failed):
            failures.append(str(failed[0]))
            return super().aggregate_fit(server_round, results, failed)

    outcome = same_everywhere(
        lambda: (
            legacy_server(Counting(**options())),
            ClientApp(client_fn=lambda context: Failing(partition(context)).to_client()),
        )
    )
    assert outcome.failed == 2
    assert outcome.replied == 1 + 2 * (CLIENTS - 1) + 2 * CLIENTS
    assert len(failures) == 4
    assert all("ValueError: no data today" in failure for failure in failures)


def test_every_message_comes_from_the_server_also_when_threads_send_them():
    def from_server(message, context, call_next):
        assert message.metadata.src_node_id == 1, message.metadata
        return call_next(message, context)

    outcome = same_everywhere(
        lambda: (legacy_server(s.FedAvg(**options()), rounds=3), numpy_client([from_server])), clients=8
    )
    assert outcome.failed == 0, outcome.first_error


def test_no_thread_is_left_after_a_legacy_server_also_when_it_raises():
    """With a thread left, the next run of this process could not fork its workers."""

    class Broken(s.FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            raise ArithmeticError("the server's own mistake")

    before = threading.active_count()
    run(legacy_server(s.FedAvg(**options()), rounds=1), numpy_client(), workers=2)
    assert threading.active_count() == before
    with pytest.raises(ArithmeticError):
        run(legacy_server(Broken()), numpy_client(), workers=2)
    assert threading.active_count() == before


def test_a_main_function_that_calls_its_grid_a_driver():
    heard = []
    app = ServerApp()

    @app.main()
    def main(driver, context):
        heard.extend(ask(driver, "query"))

    client = ClientApp()
    client.query()(lambda message, context: Message(message.content, reply_to=message))
    run(app, client, workers=2)
    assert len(heard) == CLIENTS


@pytest.mark.parametrize("dropped", [None, 1])
def test_secure_aggregation_recovers_the_average_also_of_those_that_remain(dropped):
    class Plain(Client):
        def fit(self, parameters, config):
            if self.number == dropped and config["round"] == 1:
                raise ValueError("dropped out between the stages")
            return [a + self.number for a in parameters], 10, {"round": config["round"], "number": self.number}

    def main(grid, context):
        strategy = s.FedAvg(fraction_evaluate=0, initial_parameters=ndarrays_to_parameters(start()), **options())
        legacy = LegacyContext(context, config=ServerConfig(num_rounds=1), strategy=strategy)
        secure = SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2, max_weight=100)
        DefaultWorkflow(fit_workflow=secure)(grid, legacy)
        models.append(legacy.state.array_records[MAIN_PARAMS_RECORD])

    models = []
    client = ClientApp(client_fn=lambda context: Plain(partition(context)).to_client(), mods=[secaggplus_mod])
    for workers in (0, 2):
        run(server_of(main), client, workers=workers)
    inline, pooled = models
    assert model_digest(inline) == model_digest(pooled)  # random keys and masks cancel exactly
    expected = np.mean([n for n in range(CLIENTS) if n != dropped])
    for got, first in zip(pooled.to_numpy_ndarrays(), start(), strict=True):
        np.testing.assert_allclose(got, first + expected, atol=1e-4)


def test_the_default_workflow_is_observed_as_a_legacy_server_is():
    def main(grid, context):
        strategy = s.FedAvg(**options())
        DefaultWorkflow()(grid, LegacyContext(context, config=ServerConfig(num_rounds=2), strategy=strategy))

    outcome = same_everywhere(lambda: (server_of(main), numpy_client()))
    assert [metrics["round"] for metrics in outcome.result.train_metrics_clientapp.values()] == [1, 2]
    assert set(outcome.result.evaluate_metrics_clientapp[2]) == {"loss", "accuracy"}
