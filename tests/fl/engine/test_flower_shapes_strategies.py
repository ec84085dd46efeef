"""Flower's strategies and privacy wrappers run as they are, to the same bits in this process and in workers."""

import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.clientapp.mod import LocalDpMod, adaptiveclipping_mod, fixedclipping_mod
from flwr.serverapp import strategy as s
from shapes import model, moved, partition, reply_to, same_everywhere, strategy_server, training_client

pytestmark = pytest.mark.usefixtures("no_hang")

OUTLIER = 1e4
STRATEGIES = {
    "FedAvg": s.FedAvg,
    "FedAvg of a fraction": lambda: s.FedAvg(fraction_train=0.5, fraction_evaluate=0.5),
    "FedAdam": lambda: s.FedAdam(eta=0.1),
    "FedAdagrad": lambda: s.FedAdagrad(eta=0.1),
    "FedYogi": lambda: s.FedYogi(eta=0.1),
    "FedAvgM": lambda: s.FedAvgM(server_learning_rate=0.9, server_momentum=0.5),
    "FedProx": lambda: s.FedProx(proximal_mu=0.1),
    "QFedAvg": lambda: s.QFedAvg(client_learning_rate=0.1),
}
ROBUST = {
    "FedMedian": s.FedMedian,
    "FedTrimmedAvg": lambda: s.FedTrimmedAvg(beta=0.3),
    "Krum": lambda: s.Krum(num_malicious_nodes=1),
    "MultiKrum": lambda: s.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3),
    "Bulyan": lambda: s.Bulyan(num_malicious_nodes=1),
}


def distance(arrays):
    pairs = zip(arrays.values(), model().values(), strict=True)
    return float(max(np.abs(a.numpy() - b.numpy()).max() for a, b in pairs))


@pytest.mark.parametrize("make", STRATEGIES.values(), ids=STRATEGIES)
def test_averaging_strategy(make):
    outcome = same_everywhere(lambda: (strategy_server(make()), training_client()))
    assert 0 < distance(outcome.arrays) < 10
    assert set(outcome.result.train_metrics_clientapp) == {1, 2}
    assert outcome.failed == 0


def outlying(message, context):
    arrays = moved(message.content["arrays"], 0.1)
    if partition(context) == 3:
        arrays = ArrayRecord({name: Array(a.numpy() + OUTLIER) for name, a in arrays.items()})
    return reply_to(message, arrays, **{"num-examples": 1, "train_loss": 1.0})


@pytest.mark.parametrize("make", ROBUST.values(), ids=ROBUST)
def test_robust_strategy_withstands_an_outlier(make):
    outcome = same_everywhere(lambda: (strategy_server(make(), rounds=1), training_client(train=outlying)), clients=7)
    assert 0 < distance(outcome.arrays) < 10


def test_the_outlier_would_spoil_a_plain_average():
    outcome = same_everywhere(
        lambda: (strategy_server(s.FedAvg(), rounds=1), training_client(train=outlying)), clients=7
    )
    assert distance(outcome.arrays) > OUTLIER / 8


def booster(*trees):
    inner = {
        "gbtree_model_param": {"num_trees": str(len(trees)), "num_parallel_tree": "1"},
        "iteration_indptr": list(range(len(trees) + 1)),
        "trees": [{"id": number, "leaf": leaf} for number, leaf in enumerate(trees)],
        "tree_info": [0] * len(trees),
    }
    return json.dumps({"learner": {"gradient_booster": {"model": inner}}}).encode()


def leaves(arrays):
    trees = json.loads(arrays["0"].numpy().tobytes())["learner"]["gradient_booster"]["model"]["trees"]
    return [tree["leaf"] for tree in trees]


def boost(message, context):
    known = message.content["arrays"]["0"].numpy().tobytes()
    so_far = len(leaves(message.content["arrays"])) if known else 0
    tree = booster(10 * so_far + partition(context))
    return reply_to(message, ArrayRecord([np.frombuffer(tree, dtype=np.uint8)]), **{"num-examples": 1})


def grow(strategy, rounds):
    def make():
        empty = ArrayRecord([np.frombuffer(b"", dtype=np.uint8)])
        return strategy_server(strategy(), rounds, initial_arrays=empty), training_client(train=boost)

    return same_everywhere(make)


def test_bagging_of_boosted_trees_collects_each_clients_tree():
    outcome = grow(lambda: s.FedXgbBagging(fraction_evaluate=0.0), 2)
    assert sorted(leaves(outcome.arrays)) == [0, 1, 2, 3, 40, 41, 42, 43]


def test_cyclic_boosting_visits_one_client_a_round():
    outcome = grow(s.FedXgbCyclic, 3)
    assert outcome.replied == 6  # a training and an evaluation message in each round
    assert len(leaves(outcome.arrays)) == 1


WRAPPERS = {
    "server fixed": (lambda inner: s.DifferentialPrivacyServerSideFixedClipping(inner, 0.1, 0.5, 4), None),
    "client fixed": (
        lambda inner: s.DifferentialPrivacyClientSideFixedClipping(inner, 0.1, 0.5, 4),
        fixedclipping_mod,
    ),
    "server adaptive": (lambda inner: s.DifferentialPrivacyServerSideAdaptiveClipping(inner, 0.1, 4), None),
    "client adaptive": (
        lambda inner: s.DifferentialPrivacyClientSideAdaptiveClipping(inner, 0.1, 4),
        adaptiveclipping_mod,
    ),
    "local": (lambda inner: inner, LocalDpMod(0.5, 0.01, 1.0, 1e-3)),
}


@pytest.mark.parametrize(("wrap", "mod"), WRAPPERS.values(), ids=WRAPPERS)
def test_privacy_wrapper_clips_and_its_noise_comes_from_the_seed(wrap, mod):
    outcome = same_everywhere(
        lambda: (strategy_server(wrap(s.FedAvg())), training_client(train_mods=[mod] if mod else None))
    )
    assert outcome.failed == 0
    unclipped = same_everywhere(lambda: (strategy_server(s.FedAvg()), training_client()))
    assert 0 < distance(outcome.arrays) < 0.8 * distance(unclipped.arrays)


def test_central_evaluation_sees_every_round():
    def evaluate(server_round, arrays):
        return MetricRecord({"distance": distance(arrays)})

    outcome = same_everywhere(
        lambda: (strategy_server(s.FedAvg(), rounds=3, evaluate_fn=evaluate), training_client())
    )
    series = [dict(outcome.result.evaluate_metrics_serverapp[n])["distance"] for n in range(4)]
    assert series[0] == 0
    assert series == sorted(series)
    assert series[3] == distance(outcome.arrays)


def test_a_strategy_with_a_start_of_its_own_is_observed_too():
    class Own(s.FedAvg):
        def start(self, grid, initial_arrays, num_rounds=3, **options):
            result = s.Result()
            for number in range(1, num_rounds + 1):
                arrays = result.arrays or initial_arrays
                replies = grid.send_and_receive(self.configure_train(number, arrays, ConfigRecord(), grid))
                result.arrays, result.train_metrics_clientapp[number] = self.aggregate_train(number, replies)
            return result

    outcome = same_everywhere(lambda: (strategy_server(Own()), training_client()))
    assert set(outcome.result.train_metrics_clientapp) == {1, 2}
