"""The ServerApp: federated averaging, with a test of the global model after each round."""

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from logreg_app.data import CLASSES, FEATURES, ROUNDS, stamp

app = ServerApp()


def _test(server_round: int, arrays: ArrayRecord) -> None:
    stamp(server_round, arrays["weight"].numpy().T, arrays["bias"].numpy())


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds."""
    start = {"weight": torch.zeros(CLASSES, FEATURES), "bias": torch.zeros(CLASSES)}
    FedAvg(fraction_evaluate=0.0).start(
        grid=grid,
        initial_arrays=ArrayRecord(start),
        num_rounds=int(context.run_config.get("num-server-rounds", ROUNDS)),
        evaluate_fn=_test,
    )
