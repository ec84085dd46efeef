"""The app of ``benchmarks/apps/mlp`` with no engine at all: ``python -m benchmarks.direct``.

Its ServerApp is given a Grid that calls the ClientApp at once, in the same process and thread, with the very message
objects that it was given. What this takes beyond the bare loop is the app's own: a model built per message, arrays
turned into Flower's records and back, Flower's aggregation. No engine that runs the app unmodified, one client at a
time, can be faster.

It does not: copy or encode anything, seed clients, keep their state, check replies, time them, isolate them in
another process, or write anything to disk.
"""

import argparse
import logging
import sys
from collections.abc import Iterable

import torch
from flwr.app import Message
from flwr.serverapp import Grid

from benchmarks.measure import APPS, ROOT
from fl.engine import flower

sys.path.insert(0, str(ROOT / APPS / "mlp"))
from mlp_app.client_app import app as client_app
from mlp_app.server_app import app as server_app

_RUN = 1


class DirectGrid(Grid):
    """Calls the ClientApp where it is."""

    def __init__(self, clients: int) -> None:
        self._nodes = {(1 << 32) + index: index for index in range(clients)}

    def set_run(self, run: flower.Run) -> None:
        """Do nothing."""

    @property
    def run(self) -> flower.Run:
        """A run without overrides."""
        return flower.make_run(_RUN, {})

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Not offered: today's strategies construct messages."""
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        """Return the node ids."""
        return list(self._nodes)

    def get_nodes(self) -> list[flower.NodeInfo]:
        """Return the nodes."""
        return [flower.NodeInfo(node_id=node, status="online") for node in self._nodes]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Not offered: strategies send and receive."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Not offered: strategies send and receive."""
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Call the ClientApp with each message."""
        return [self._call(message) for message in messages]

    def _call(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        config = {flower.PARTITION_ID_KEY: self._nodes[node], flower.NUM_PARTITIONS_KEY: len(self._nodes)}
        return client_app(message, flower.build_context(_RUN, node, config, {}))


def main() -> None:
    """Run the app; its server prints a time stamp after each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    arguments = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)  # as the bare loop does
    flower.set_identity(_RUN, flower.SUPERLINK_NODE_ID)
    server_app(DirectGrid(arguments.clients), flower.build_context(_RUN, flower.SUPERLINK_NODE_ID, {}, {}))


if __name__ == "__main__":
    main()
