"""What fedshard relies on in Flower's earlier API and in how results come about; see test_flower_contract.py."""

import inspect

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg, Result, Strategy

from fl.engine import flower


class _Proxy:
    """A legacy client proxy that answers in this process."""

    def __init__(self, cid, fails=False):
        self.cid, self.fails = cid, fails

    def fit(self, ins, timeout, group_id):
        from flwr.common import Code, FitRes, Status

        if self.fails:
            raise ValueError("broken")
        return FitRes(Status(Code.OK, ""), ins.parameters, int(self.cid), {})

    def evaluate(self, ins, timeout, group_id):
        from flwr.common import Code, EvaluateRes, Status

        return EvaluateRes(Status(Code.OK, ""), 0.5, int(self.cid), {})


def test_legacy_gathering_returns_results_with_cid_and_failures_and_can_be_put_in_order():
    import flwr.server.server as legacy
    from flwr.common import EvaluateIns, FitIns, Parameters

    originals = legacy.fit_clients, legacy.evaluate_clients
    proxies = [_Proxy(str(2**62 + n)) for n in (5, 3, 11, 7)] + [_Proxy("1", fails=True)]
    fit = [(proxy, FitIns(Parameters([], ""), {})) for proxy in proxies]
    with flower.canonical_legacy_order():
        assert (legacy.fit_clients, legacy.evaluate_clients) != originals
        results, failures = legacy.fit_clients(client_instructions=fit, max_workers=None, timeout=None, group_id=1)
        assert [int(proxy.cid) - 2**62 for proxy, _ in results] == [3, 5, 7, 11]
        assert [str(failure) for failure in failures] == ["broken"]
        evaluate = [(proxy, EvaluateIns(Parameters([], ""), {})) for proxy in proxies[:2]]
        results, failures = legacy.evaluate_clients(evaluate, None, None, 1)
        assert [int(proxy.cid) - 2**62 for proxy, _ in results] == [3, 5]
        assert failures == []
    assert (legacy.fit_clients, legacy.evaluate_clients) == originals


def test_the_legacy_server_calls_the_gathering_functions_by_their_module_names():
    import flwr.server.server as legacy

    for method, name in (
        (legacy.Server.fit_round, "fit_clients"),
        (legacy.Server.evaluate_round, "evaluate_clients"),
    ):
        assert name in method.__code__.co_names  # looked up in the module at each call, so that ours is found


class _Nothing(FedAvg):
    """A strategy that never samples."""

    def configure_train(self, server_round, arrays, config, grid):
        return []

    def configure_evaluate(self, server_round, arrays, config, grid):
        return []


class _SilentGrid:
    def send_and_receive(self, messages, *, timeout=None):
        return []


def test_the_result_of_a_strategy_is_observed():
    seen, start = [], Strategy.start
    with flower.observed_results(seen.append):
        result = _Nothing().start(_SilentGrid(), ArrayRecord([np.zeros(1)]), num_rounds=1)
    assert Strategy.start is start
    assert isinstance(result, Result)
    assert seen == [result]
    assert {"arrays", "train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp"} <= set(
        vars(result)
    )


def test_the_outcome_of_a_legacy_server_is_observed_as_a_result():
    import flwr.server.server as legacy
    from flwr.common import ndarrays_to_parameters
    from flwr.server import SimpleClientManager
    from flwr.server.strategy import FedAvg as LegacyFedAvg

    weights = [np.arange(4, dtype=np.float32), np.ones((2, 2))]
    strategy = LegacyFedAvg(
        fraction_fit=0,
        min_fit_clients=0,
        min_available_clients=0,
        fraction_evaluate=0,
        initial_parameters=ndarrays_to_parameters(weights),
        evaluate_fn=lambda server_round, arrays, config: (server_round + 0.5, {"accuracy": 0.25, "label": "x"}),
    )
    seen, fit = [], legacy.Server.fit
    with flower.observed_results(seen.append):
        history, seconds = legacy.Server(client_manager=SimpleClientManager(), strategy=strategy).fit(1, None)
    assert legacy.Server.fit is fit
    assert seconds >= 0
    assert history.losses_centralized == [(0, 0.5), (1, 1.5)]
    (result,) = seen
    assert [a.tolist() for a in result.arrays.to_numpy_ndarrays()] == [w.tolist() for w in weights]
    assert dict(result.evaluate_metrics_serverapp[1]) == {"loss": 1.5, "accuracy": 0.25}


def test_legacy_histories_have_the_series_we_translate():
    from flwr.server import History

    assert {
        "losses_distributed",
        "losses_centralized",
        "metrics_distributed_fit",
        "metrics_distributed",
        "metrics_centralized",
    } <= set(vars(History()))


def test_the_thread_that_watches_for_nodes_is_started_by_name_and_told_to_end():
    import flwr.server.compat.app as app
    import flwr.server.workflow.default_workflows as workflows
    from flwr.server import SimpleClientManager

    assert "start_update_client_manager_thread" in app.start_grid.__code__.co_names
    assert "start_update_client_manager_thread" in workflows.DefaultWorkflow.__call__.__code__.co_names

    class Empty:
        def get_node_ids(self):
            return []

    thread, stop, _ = app.start_update_client_manager_thread(Empty(), SimpleClientManager())
    stop.set()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_legacy_sampling_waits_in_the_client_manager():
    from flwr.server import SimpleClientManager

    parameters = inspect.signature(SimpleClientManager.wait_for).parameters
    assert list(parameters) == ["self", "num_clients", "timeout"]
    assert "wait_for" in SimpleClientManager.sample.__code__.co_names
    assert SimpleClientManager().wait_for(1, timeout=0) is False
