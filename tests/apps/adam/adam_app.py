"""A Flower app that knows nothing of fedshard: FedAdam (hidden server state), client state, global generators."""

import random
import time

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam

client, server = ClientApp(), ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    time.sleep(context.run_config["pause"])
    calls = context.state.metric_records.get("calls", MetricRecord({"n": 0}))
    context.state["calls"] = MetricRecord({"n": calls["n"] + 1})
    noise = np.random.normal() + torch.randn(1).item() + random.random()
    arrays = [
        a + context.run_config["step"] * noise * calls["n"] for a in message.content["arrays"].to_numpy_ndarrays()
    ]
    metrics = MetricRecord({"num-examples": 1 + context.node_config["partition-id"], "calls": calls["n"] + 1})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    value = float(np.mean([a.mean() for a in message.content["arrays"].to_numpy_ndarrays()]))
    metrics = MetricRecord({"num-examples": 1, "eval_loss": value, "eval_acc": 0.5})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    FedAdam(fraction_train=0.5, fraction_evaluate=0.5).start(
        grid, ArrayRecord([np.zeros((20, 20)), np.ones(3)]), num_rounds=context.run_config["num-server-rounds"]
    )
