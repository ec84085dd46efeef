"""Executing calls in worker processes.

A worker holds the call it executes and, where calls are small, the next one, sent ahead so that it never waits for
this process. A call sent ahead still belongs to the dispatcher until the worker begins it (`fl.engine.wire.Tokens`):
it is taken back for an idle worker, or when the client before it hangs, so a slow client delays nobody but itself.
"""

import contextlib
import socket
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from flwr.app import Message

from fl.engine import flower, wire
from fl.engine.executor import NodeStates
from fl.engine.launcher import Launcher, WorkerHandle
from fl.engine.worker import Call, Reply, error_reply, receive_reply, send_call

_START_SECONDS = 120.0  # a spawned worker imports the app first, which is not the client's time
_AHEAD = 2  # calls a worker holds: the one it executes, and the next
_MESSAGE_BYTES = 4096  # what a message takes of a socket's buffer beside its content and state, at most
_ATTEMPTS = 3  # workers that may die with a call they have not begun, before the call is given up
_LONGEST_WAIT_S = 3600.0  # the system refuses to wait for years


_DIED = "the client's process was killed or crashed"


def _cancel(future: "Future[Reply | None]", reason: Exception) -> None:
    """Cancel a future and wake who waits for it; one that has started, which cannot be cancelled, gets the reason."""
    if future.cancel():
        future.set_running_or_notify_cancel()  # `Future.cancel` alone wakes nobody
    else:
        future.set_exception(reason)


def _decode(reply: Reply) -> Message:
    """Decode a reply for the thread that waits for it, which then finds it done: clients are at work meanwhile."""
    return reply.message


@dataclass(eq=False)
class _Task:
    call: Call
    time_limit: float
    future: "Future[Reply | None]" = field(default_factory=Future)
    attempts: int = 0

    @property
    def node(self) -> int:
        return int(self.call.metadata["dst_node_id"])


@dataclass(eq=False)
class _Slot:
    """A worker and the calls it holds, in the order in which it executes them; the first one is under way.

    Attributes
    ----------
    numbers : deque of int
        The token number of each of `tasks`.
    sent : int
        Calls sent to this worker; numbers the next one.
    unread : int
        Bytes sent since the worker last replied, at most. Calls taken back are among them: until it has replied, a
        worker reads nothing, and what its socket cannot hold would make this process wait for a client.
    last_content : bytes or None
        The content sent last, which the worker keeps, so that a round's model is sent to it once.
    """

    worker: WorkerHandle
    ready: bool = False
    tasks: deque[_Task] = field(default_factory=deque)
    numbers: deque[int] = field(default_factory=deque)
    sent: int = 0
    unread: int = 0
    deadline: float = 0.0
    last_content: bytes | None = None

    def has_room_for(self, task: _Task, state: bytes) -> bool:
        """Whether a call can be sent without waiting: an idle worker reads it at once, a busy one if it is small."""
        if not self.tasks:
            return True
        small = self.unread + self.size_of(task, state) <= wire.SMALL
        return self.ready and self.worker.tokens is not None and len(self.tasks) < _AHEAD and small

    def size_of(self, task: _Task, state: bytes) -> int:
        """Return how many bytes sending a call would take."""
        fresh = task.call.content is not self.last_content
        return _MESSAGE_BYTES + len(state) + (len(task.call.content) if fresh else 0)

    def start_clock(self) -> None:
        """Count the time limit of the first call from now."""
        if self.tasks:
            grace = 0.0 if self.ready else _START_SECONDS
            self.deadline = time.monotonic() + self.tasks[0].time_limit + grace

    def take_back(self) -> list[_Task]:
        """Take back every call that the worker has not begun, in order."""
        taken = []
        while self.worker.tokens is not None and (number := self.worker.tokens.take()) is not None:
            place = self.numbers.index(number)
            taken.append(self.tasks[place])
            del self.tasks[place], self.numbers[place]
        return taken


class WorkerPool:
    """Runs calls in worker processes; a thread of its own hands them out and collects the replies.

    Parameters
    ----------
    launcher : Launcher
        Starts a worker, and its replacement where one dies or is killed.
    size : int
        The number of workers.
    states : NodeStates
        Node states, read when a call is sent and updated when it ends.
    """

    def __init__(self, launcher: Launcher, size: int, states: NodeStates) -> None:
        self._launcher, self._states = launcher, states
        self._slots = [_Slot(launcher.start()) for _ in range(size)]
        self._queue: deque[_Task] = deque()
        self._lock = threading.Lock()  # guards the queue, `_abandoned` and `_woken`
        self._abandoned: set[Future[Reply | None]] = set()
        self._closing = self._woken = False
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
        self._wake_write.send(b"w")  # no lock, whoever holds it: signal handlers call this

    def close(self) -> None:
        """Stop the dispatcher and end all workers."""
        self.stop()
        self._thread.join()
        self._launcher.close()
        for slot in self._slots:
            slot.worker.close()
        self._wake_read.close()
        self._wake_write.close()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake_write.send(b"w")

    def _dispatch(self) -> None:
        try:
            while not self._closing:
                self._drop_abandoned()
                self._hand_out()
                busy = {slot.worker.connection: slot for slot in self._slots if slot.tasks}
                now = time.monotonic()
                timeout = min((slot.deadline - now for slot in busy.values()), default=None)
                died = {slot.worker.sentinel: slot for slot in busy.values()}
                limit = None if timeout is None else min(max(timeout, 0.0), _LONGEST_WAIT_S)
                for ready in wait([*busy, *died, self._wake_read], limit):
                    if ready == self._wake_read:
                        with self._lock:
                            self._woken = False
                            self._wake_read.recv(4096)
                    elif isinstance(ready, int):
                        self._bury(died[ready])
                    else:
                        self._collect(busy[ready])  # type: ignore[index]
                self._kill_overdue()
        finally:
            self._closing = True
            with self._lock:
                pending = [*self._queue, *(task for slot in self._slots for task in slot.tasks)]
                self._queue.clear()
            for task in pending:
                _cancel(task.future, RuntimeError("the workers have ended"))

    def _hand_out(self) -> None:
        """Send queued calls where there is room, idle workers first; calls of one node never overlap."""
        held = {task.node for slot in self._slots for task in slot.tasks}
        with self._lock:
            waiting: deque[_Task] = deque()
            while self._queue:
                task = self._queue.popleft()
                slot = None if task.node in held else self._room_for(task)
                if slot is None:
                    waiting.append(task)
                    if task.node not in held:
                        break
                    continue
                held.add(task.node)
                self._send(slot, task)
            self._queue.extendleft(reversed(waiting))
        for idle in [slot for slot in self._slots if not slot.tasks]:
            self._steal_for(idle)

    def _room_for(self, task: _Task) -> _Slot | None:
        state = self._states[task.node]
        slots = sorted(self._slots, key=lambda slot: len(slot.tasks))
        return next((slot for slot in slots if slot.has_room_for(task, state)), None)

    def _steal_for(self, idle: _Slot) -> None:
        """Give an idle worker the call that another holds and has not begun."""
        for slot in self._slots:
            if len(slot.tasks) > 1:
                first = slot.tasks[0]
                for task in slot.take_back():
                    self._send(idle if not idle.tasks else slot, task)
                if slot.tasks and slot.tasks[0] is not first:
                    slot.start_clock()
                if idle.tasks:
                    return

    def _send(self, slot: _Slot, task: _Task) -> None:
        if not task.future.running():
            task.future.set_running_or_notify_cancel()
        fresh, state = slot.last_content is not task.call.content, self._states[task.node]
        slot.unread += slot.size_of(task, state)
        slot.tasks.append(task)
        slot.numbers.append(slot.sent % 256)
        if len(slot.tasks) == 1:
            slot.start_clock()
        with contextlib.suppress(OSError):  # a worker that died is seen, and its calls with it, when replies are read
            if slot.worker.tokens is not None:
                slot.worker.tokens.put(slot.sent)
            send_call(slot.worker.connection, task.call, state, fresh)
        slot.sent, slot.last_content = slot.sent + 1, task.call.content

    def _bury(self, slot: _Slot) -> None:
        """Take what a worker that died had still sent, then replace it.

        A child of a client's own may hold the other end of the connection, which then does not end with the worker.
        """
        while slot.tasks and slot.worker.exited():
            if slot.worker.connection.poll():
                self._collect(slot)
            else:
                self._replace(slot, _DIED)

    def _collect(self, slot: _Slot) -> None:
        try:
            if not slot.ready:
                slot.worker.connection.recv_bytes()
                slot.ready = True
                slot.start_clock()
                return
            reply = receive_reply(slot.worker.connection)
        except Exception:  # the connection ended, or the client wrote into it
            self._replace(slot, _DIED)
            return
        task = slot.tasks.popleft()
        slot.numbers.popleft()
        slot.unread = 0
        slot.start_clock()
        try:
            _decode(reply)
        except Exception as error:
            task.future.set_exception(error)
        else:
            self._states.update(task.node, reply.state)
            task.future.set_result(reply)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.tasks and slot.deadline <= now and not slot.worker.connection.poll():
                self._replace(slot, f"no reply within {slot.tasks[0].time_limit:g} s; the client was stopped")

    def _drop_abandoned(self) -> None:
        with self._lock:
            abandoned, self._abandoned = self._abandoned, set()
            if not abandoned:
                return
            for task in [task for task in self._queue if task.future in abandoned]:
                self._queue.remove(task)
                _cancel(task.future, CancelledError())
        for slot in self._slots:
            if any(task.future in abandoned for task in slot.tasks):
                self._drop(slot, abandoned)

    def _drop(self, slot: _Slot, abandoned: "set[Future[Reply | None]]") -> None:
        """Drop a worker's abandoned calls; the others go on, and the worker lives unless it executes one of them."""
        back = slot.take_back()
        for task in [task for task in back if task.future in abandoned]:
            task.future.set_exception(CancelledError())
            back.remove(task)
        with self._lock:
            self._queue.extendleft(reversed(back))
        while any(task.future in abandoned for task in slot.tasks):
            if slot.tasks[0].future in abandoned and not slot.worker.connection.poll():
                self._replace(slot, None)
            else:  # it has replied, or has begun the next call, so that its reply is on the way
                self._collect(slot)

    def _replace(self, slot: _Slot, reason: str | None) -> None:
        """End the call under way, with an error reply or (reason None) as cancelled, and replace the worker.

        The others that the worker held go back into the queue, and so does the first where it had not begun: a worker
        may die while it is idle.
        """
        task = slot.tasks[0]
        back = slot.take_back()
        task.attempts += 1
        innocent = task in back and reason == _DIED and task.attempts < _ATTEMPTS
        slot.worker.kill()
        slot.worker.close()
        kept = [*([task] if innocent else []), *slot.tasks, *back]
        others = [other for other in dict.fromkeys(kept) if innocent or other is not task]
        with self._lock:
            self._queue.extendleft(reversed(others))
        slot.tasks.clear()
        slot.numbers.clear()
        slot.last_content, slot.ready, slot.sent, slot.unread = None, False, 0, 0
        if innocent:
            pass
        elif reason is None:
            task.future.set_exception(CancelledError())
        else:
            task.future.set_result(error_reply(task.call, flower.ErrorCode.CLIENT_APP_CRASHED, reason))
        slot.worker = self._launcher.start()
