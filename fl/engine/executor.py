"""Executing calls: in worker processes, or in this process for breakpoints.

Both executors answer every call exactly once, through a future, whatever the client does: a client that raises,
hangs past its time limit or dies costs its own reply only.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Protocol

from flwr.app import UserConfig
from flwr.clientapp import ClientApp

from fl.engine import codec, flower
from fl.engine.launcher import Launcher, WorkerHandle
from fl.engine.seeding import seeded
from fl.engine.worker import Call, Reply, error_reply, execute, receive_reply, send_call

StateOf = Callable[[int], bytes]
_START_SECONDS = 120.0  # a spawned worker imports the app first, which is not the client's time


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


def _cancel(future: "Future[Reply | None]") -> bool:
    """Cancel a future that has not started, and wake who waits for it (`Future.cancel` alone does not)."""
    return future.cancel() and not future.set_running_or_notify_cancel()


@dataclass(eq=False)
class _Task:
    call: Call
    time_limit: float
    future: "Future[Reply | None]" = field(default_factory=Future)

    @property
    def node(self) -> int:
        return int(self.call.metadata["dst_node_id"])


@dataclass(eq=False)
class _Slot:
    """A worker and what it is doing; `task` is None while it is idle."""

    worker: WorkerHandle
    ready: bool = False
    task: _Task | None = None
    deadline: float = 0.0
    last_content: bytes | None = None  # what the worker holds, so that a round's model is sent to it once


class WorkerPool:
    """Runs calls in worker processes; a thread of its own hands them out and collects the replies.

    Parameters
    ----------
    launcher : Launcher
        Starts a worker, and its replacement where one dies or is killed.
    size : int
        The number of workers.
    states : NodeStates
        Node states, read when a call starts and updated when it ends.
    """

    def __init__(self, launcher: Launcher, size: int, states: NodeStates) -> None:
        self._launcher, self._states = launcher, states
        self._slots = [_Slot(launcher.start()) for _ in range(size)]
        self._queue: deque[_Task] = deque()
        self._lock = threading.Lock()  # guards the queue and `_abandoned`
        self._abandoned: set[Future[Reply | None]] = set()
        self._closing = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._dispatch, name="fedshard-dispatch", daemon=True)
        self._thread.start()

    def submit(self, call: Call, time_limit: float) -> "Future[Reply | None]":
        """Queue a call for the next free worker; raises RuntimeError once the workers have ended."""
        task = _Task(call, time_limit)
        with self._lock:
            if self._closing:
                raise RuntimeError("the workers have ended")
            self._queue.append(task)
        self._wake()
        return task.future

    def abandon(self, futures: "list[Future[Reply | None]]") -> None:
        """Drop queued calls, kill the workers of running ones, and return once each future is cancelled or done."""
        with self._lock:
            self._abandoned.update(futures)
        self._wake()
        wait_for(futures)

    def stop(self) -> None:
        """Let the dispatcher end, which ends every pending future with an error."""
        self._closing = True
        self._wake()

    def close(self) -> None:
        """Stop the dispatcher and end all workers."""
        self.stop()
        self._thread.join()
        self._launcher.close()
        for slot in self._slots:
            slot.worker.connection.close()
        self._wake_read.close()
        self._wake_write.close()

    def _wake(self) -> None:
        self._wake_write.send(b"w")

    def _dispatch(self) -> None:
        try:
            while not self._closing:
                self._drop_abandoned()
                self._hand_out()
                busy = {slot.worker.connection: slot for slot in self._slots if slot.task}
                now = time.monotonic()
                timeout = min((slot.deadline - now for slot in busy.values()), default=None)
                for ready in wait([*busy, self._wake_read], None if timeout is None else max(timeout, 0.0)):
                    if ready == self._wake_read:
                        self._wake_read.recv(4096)
                    else:
                        self._collect(busy[ready])  # type: ignore[index]
                self._kill_overdue()
        finally:
            self._closing = True
            with self._lock:
                pending = [*self._queue, *(slot.task for slot in self._slots if slot.task)]
                self._queue.clear()
            for task in pending:
                if not _cancel(task.future):
                    task.future.set_exception(RuntimeError("the workers have ended"))

    def _hand_out(self) -> None:
        idle = [slot for slot in self._slots if slot.task is None]
        running = {slot.task.node for slot in self._slots if slot.task}
        with self._lock:
            waiting: deque[_Task] = deque()
            while self._queue and idle:
                task = self._queue.popleft()
                if task.node in running:
                    waiting.append(task)
                    continue
                running.add(task.node)
                slot = idle.pop()
                grace = 0.0 if slot.ready else _START_SECONDS
                slot.task, slot.deadline = task, time.monotonic() + task.time_limit + grace
            self._queue.extendleft(reversed(waiting))
        for slot in self._slots:
            if slot.task and not slot.task.future.running():
                slot.task.future.set_running_or_notify_cancel()
                self._send(slot, slot.task)

    def _send(self, slot: _Slot, task: _Task) -> None:
        fresh = slot.last_content is not task.call.content
        try:
            send_call(slot.worker.connection, task.call, self._states[task.node], fresh)
            slot.last_content = task.call.content
        except OSError:
            self._replace(slot, "the worker process died before it took the message")

    def _collect(self, slot: _Slot) -> None:
        assert slot.task is not None
        try:
            if not slot.ready:
                slot.worker.connection.recv_bytes()
                slot.ready, slot.deadline = True, time.monotonic() + slot.task.time_limit
                return
            reply = receive_reply(slot.worker.connection)
        except (EOFError, OSError):
            self._replace(slot, "the client's process was killed or crashed")
            return
        task, slot.task = slot.task, None
        self._states.update(task.node, reply.state)
        task.future.set_result(reply)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.task and slot.deadline <= now:
                self._replace(slot, f"no reply within {slot.task.time_limit:g} s; the client was stopped")

    def _drop_abandoned(self) -> None:
        with self._lock:
            abandoned, self._abandoned = self._abandoned, set()
            if not abandoned:
                return
            for task in [task for task in self._queue if task.future in abandoned]:
                self._queue.remove(task)
                _cancel(task.future)
        for slot in self._slots:
            if slot.task and slot.task.future in abandoned:
                self._replace(slot, None)

    def _replace(self, slot: _Slot, reason: str | None) -> None:
        """End the slot's call, with an error reply or (reason None) as cancelled, and replace its worker."""
        assert slot.task is not None
        slot.worker.kill()
        slot.worker.connection.close()
        task, slot.task, slot.last_content, slot.ready = slot.task, None, None, False
        if reason is None:
            task.future.set_exception(CancelledError())
        else:
            task.future.set_result(error_reply(task.call, flower.ErrorCode.CLIENT_APP_CRASHED, reason))
        slot.worker = self._launcher.start()
