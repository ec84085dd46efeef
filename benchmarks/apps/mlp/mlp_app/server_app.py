"""The ServerApp: federated averaging, with a test of the global model after each round."""

import time

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from mlp_app.task import ROUNDS, Net, load_server_data
from mlp_app.task import test as test_fn

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds."""
    torch.manual_seed(0)
    net, loader = Net(), load_server_data()

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        net.load_state_dict(arrays.to_torch_state_dict())
        loss, accuracy = test_fn(net, loader)
        print(f"[{time.perf_counter():.6f}] round {server_round}: {loss=:.6f} {accuracy=:.4f}", flush=True)
        return MetricRecord({"loss": loss, "accuracy": accuracy})

    FedAvg().start(
        grid=grid,
        initial_arrays=ArrayRecord(net.state_dict()),
        num_rounds=int(context.run_config.get("num-server-rounds", ROUNDS)),
        evaluate_fn=evaluate,
    )
