"""Replies of clients that do not exist, a grid that only knows who there is, and rounds of a strategy over both."""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fl.engine import flower

NODES = tuple(range(101, 113))


class FewNodes:
    """What strategies ask a grid about."""

    def __init__(self, nodes):
        self.nodes = list(nodes)

    def get_node_ids(self):
        return self.nodes


def model(seed=0, scale=1.0):
    """A model of two arrays, one of them whole numbers, in another order than that of their names."""
    random = np.random.default_rng(seed)
    return {
        "weight": (scale * random.normal(size=(3, 2))).astype(np.float32),
        "bias": (scale * random.normal(size=4)).astype(np.float32),
    }


def record(arrays):
    return ArrayRecord({name: Array(values) for name, values in arrays.items()})


def reply(client, arrays, weight=1.0, **metrics):
    request = Message(RecordDict(), client, "train")
    fields = flower.metadata_fields(request.metadata) | {"src_node_id": client, "dst_node_id": 1}
    content = RecordDict({"arrays": record(arrays), "metrics": MetricRecord({"num-examples": weight, **metrics})})
    return flower.build_message(fields, content)


def replies(server_round=1, nodes=NODES):
    return [reply(node, model(1000 * server_round + node), 10 + node % 7, train_loss=node / 100) for node in nodes]


def rounds(strategy, number=2, nodes=NODES, make=replies):
    """Run some rounds of a strategy against made-up replies; returns the models after each, and the messages sent."""
    arrays, models, sent = record(model()), [], []
    for server_round in range(1, number + 1):
        sent.append(list(strategy.configure_train(server_round, arrays, ConfigRecord(), FewNodes(nodes))))
        aggregate, _ = strategy.aggregate_train(server_round, make(server_round))
        arrays = aggregate if aggregate is not None else arrays
        models.append({name: array.numpy() for name, array in arrays.items()})
    return models, sent


def same_bits(one, other):
    return all(
        list(a) == list(b) and all(a[name].tobytes() == b[name].tobytes() for name in a)
        for a, b in zip(one, other, strict=True)
    )
