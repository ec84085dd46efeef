"""The arithmetic of ``benchmarks/apps/mlp`` as a bare torch loop, no framework: ``python -m benchmarks.bare``.

It does, in one process and one thread, with the app's own functions and sizes: for every round and client, the
client's data, a fresh optimiser, as many shuffled batches of the same size, and the mean of the weights by number of
records; then for every client the data again and a test of the mean; then a test on the server's records.

It does not: build a model per client (one is reused; the app, like Flower's quickstarts, builds one per message),
make or read messages, encode arrays, seed each client, check replies for NaN, isolate clients in another process,
average the clients' metrics, or write anything to disk.
"""

import argparse
import sys
import time

import torch

from benchmarks.measure import APPS, ROOT

sys.path.insert(0, str(ROOT / APPS / "mlp"))
from mlp_app.task import ROUNDS, Net, load_data, load_server_data, test, train

Weights = dict[str, torch.Tensor]


def train_round(net: torch.nn.Module, weights: Weights, clients: int) -> Weights:
    """Train on every client from the same weights and return the weighted mean."""
    total, mean = 0, {name: torch.zeros_like(values) for name, values in weights.items()}
    for client in range(clients):
        net.load_state_dict(weights)
        loader, _ = load_data(client)
        train(net, loader)
        records = len(loader.dataset)  # type: ignore[arg-type]
        total += records
        for name, values in net.state_dict().items():
            mean[name] += records * values
    return {name: values / total for name, values in mean.items()}


def test_round(net: torch.nn.Module, weights: Weights, clients: int) -> None:
    """Test the weights on every client."""
    net.load_state_dict(weights)
    for client in range(clients):
        test(net, load_data(client)[1])


def main() -> None:
    """Run all rounds, with a time stamp after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, server_loader = Net(), load_server_data()
    torch.optim.SGD(net.parameters())  # the first optimiser of a process imports much of torch: not in a round
    weights = {name: values.clone() for name, values in net.state_dict().items()}
    for server_round in range(arguments.rounds + 1):
        if server_round:
            weights = train_round(net, weights, arguments.clients)
            test_round(net, weights, arguments.clients)
        net.load_state_dict(weights)
        loss, accuracy = test(net, server_loader)
        print(f"[{time.perf_counter():.6f}] round {server_round}: {loss=:.6f} {accuracy=:.4f}", flush=True)


if __name__ == "__main__":
    main()
