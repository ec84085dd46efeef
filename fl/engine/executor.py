"""Executing calls: what an executor promises, and the one that runs in this process, for breakpoints.

Executors (this one and `fl.engine.pool`) answer every call exactly once, through a future, whatever the client does:
a client that raises, hangs past its time limit or dies costs its own reply only.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from flwr.app import UserConfig
from flwr.clientapp import ClientApp

from fl.engine import codec, flower
from fl.engine.seeding import seeded
from fl.engine.worker import Call, Reply, execute

StateOf = Callable[[int], bytes]


class Executor(Protocol):
    """Answers calls; keeps the state of each node between them."""

    def submit(self, call: Call, time_limit: float) -> "Future[Reply | None]":
        """Queue a call; calls of one node run one at a time, in the order of submission.

        Parameters
        ----------
        call : Call
            What to execute.
        time_limit : float
            Seconds the client may take from its start, after which the reply is an error.
        """

    def abandon(self, futures: "list[Future[Reply | None]]") -> None:
        """Give up on calls: unless they are done by now, their futures end cancelled and change no node's state."""

    def stop(self) -> None:
        """End every pending future with an error, without waiting; safe in a signal handler."""

    def close(self) -> None:
        """Stop, and end all workers."""


class NodeStates:
    """The encoded ``context.state`` of every node that has one."""

    def __init__(self) -> None:
        self._states: dict[int, bytes] = {}

    def __getitem__(self, node_id: int) -> bytes:
        """Return a node's state, empty before its first reply."""
        return self._states.get(node_id, codec.EMPTY)

    def update(self, node_id: int, state: bytes | None) -> None:
        """Take over the state of a reply; a failed one (None) changes nothing."""
        if state is not None:
            self._states[node_id] = state

    def items(self) -> list[tuple[int, bytes]]:
        """Return every node with a state that is not empty, by node id."""
        return sorted((node, state) for node, state in self._states.items() if state)


class InlineExecutor:
    """Runs each call in the calling thread, so that breakpoints work; cannot enforce time limits."""

    def __init__(self, app: ClientApp, run_config: UserConfig, states: NodeStates) -> None:
        self._app, self._run_config, self._states = app, run_config, states
        self._lock = threading.Lock()

    def submit(self, call: Call, time_limit: float) -> "Future[Reply | None]":
        """Execute the call now."""
        future: Future[Reply | None] = Future()
        node = call.metadata["dst_node_id"]
        with self._lock, seeded(call.seed):
            reply = execute(self._app, call, self._states[node], self._run_config)
            flower.set_identity(call.metadata["run_id"], flower.SUPERLINK_NODE_ID)
            self._states.update(node, reply.state)
        future.set_result(reply)
        return future

    def abandon(self, futures: "list[Future[Reply | None]]") -> None:
        """Do nothing: every call has ended."""

    def stop(self) -> None:
        """Do nothing: nothing is pending."""

    def close(self) -> None:
        """Do nothing: there are no workers."""
