"""Starting worker processes, safely, at any time of a run.

Where fork is safe, a *zygote* is forked once, before the ServerApp starts and while this process has a single
thread. It holds the loaded apps and forks a worker whenever asked, so that a killed worker is replaced in
milliseconds, shares its memory with the others, and never inherits a lock that some thread held. Elsewhere
(macOS, Windows, an initialised CUDA context, a threaded parent) workers are spawned and load the app themselves.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Literal, Protocol

import torch
from flwr.app import UserConfig
from flwr.clientapp import ClientApp

from fl.engine import flower
from fl.engine.wire import Claims, Tokens
from fl.engine.worker import serve

StartMethod = Literal["fork", "spawn"]
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class WorkerHandle:
    """One live worker: its connection and how to end it at once."""

    connection: Connection
    sentinel: int
    """A descriptor that is ready to be read once the worker has ended."""
    kill: Callable[[], None]
    release: Callable[[], None] = lambda: None
    tokens: Tokens | None = None
    """Who owns a call; None where calls cannot be sent ahead of their turn, since none could be taken back."""

    def exited(self) -> bool:
        """Return whether the worker has ended."""
        return bool(wait([self.sentinel], 0))

    def close(self) -> None:
        """Give back the descriptors; the worker, if it lives, ends by itself."""
        self.connection.close()
        self.release()
        if self.tokens is not None:
            self.tokens.close()


class Launcher(Protocol):
    """Starts workers, and ends all of them on `close`."""

    def start(self) -> WorkerHandle:
        """Start one more worker."""

    def close(self) -> None:
        """End every worker started here."""


def default_start_method() -> StartMethod:
    """Return ``"fork"`` where forking this process is safe now, else ``"spawn"``."""
    safe = sys.platform == "linux" and threading.active_count() == 1 and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return "fork" if safe and _has_pidfd() else "spawn"


def _has_pidfd() -> bool:
    """Return whether the system names processes by descriptors, which unlike numbers are never used again."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


class ForkLauncher:
    """Forks workers from a zygote that holds the loaded ClientApp.

    Parameters
    ----------
    app : ClientApp
        The app each worker runs.
    run_config : dict
        The resolved run configuration.
    """

    def __init__(self, app: ClientApp, run_config: UserConfig) -> None:
        self._control, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            try:  # whatever happens, this copy of the process must not go on as if it were the original
                self._control.close()
                _run_zygote(theirs, app, run_config)
            finally:
                os._exit(1)
        theirs.close()
        self._pid = pid

    def start(self) -> WorkerHandle:
        """Ask the zygote for a worker.

        Raises
        ------
        RuntimeError
            If the zygote itself was killed.
        """
        ours, theirs = socket.socketpair()
        tokens = Tokens()
        try:
            with theirs:
                socket.send_fds(self._control, [b"w"], [theirs.fileno(), tokens.reader])
            _, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
        except OSError:
            descriptors = []
        if not descriptors:
            raise RuntimeError("the process that forks workers was killed (out of memory?)")
        (process,) = descriptors
        connection = Connection(ours.detach())
        return WorkerHandle(connection, process, lambda: _kill(process), lambda: os.close(process), tokens)

    def close(self) -> None:
        """End the zygote, which takes its process group with it.

        Shut down, not just closed: a child that the ServerApp forked may hold a copy of the socket.
        """
        with contextlib.suppress(OSError):  # it is gone already
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        os.waitpid(self._pid, 0)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)


def _end_with_parent() -> None:
    """Have the system kill this process when its parent ends, however that ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run_zygote(control: socket.socket, app: ClientApp, run_config: UserConfig) -> None:
    """Fork a worker per request until the parent goes away, then end the whole process group.

    A group of its own also keeps the terminal's Ctrl-C away from the workers: the parent decides when they end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            os.killpg(0, signal.SIGKILL)
        pid = os.fork()
        if pid == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _end_with_parent()
            try:
                serve(Connection(descriptors[0]), Claims(descriptors[1]), app, run_config)
            finally:
                os._exit(0)
        process = os.pidfd_open(pid)
        socket.send_fds(control, [b"p"], [process])
        for descriptor in (*descriptors, process):
            os.close(descriptor)


class SpawnLauncher:
    """Spawns workers, each of which imports the ClientApp by its reference.

    Parameters
    ----------
    reference : str
        ``module:attribute`` of the ClientApp.
    app_dir : Path
        The folder it is imported from.
    run_config : dict
        The resolved run configuration.
    """

    def __init__(self, reference: str, app_dir: Path, run_config: UserConfig) -> None:
        self._arguments = (reference, app_dir, run_config)
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def start(self) -> WorkerHandle:
        """Spawn a worker; it needs seconds until it answers."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_run_spawned, args=(theirs, *self._arguments))
        process.start()
        theirs.close()
        self._processes.append(process)
        return WorkerHandle(ours, process.sentinel, process.kill)

    def close(self) -> None:
        """Kill and reap every worker."""
        for process in self._processes:
            process.kill()
            process.join()


def _run_spawned(connection: Connection, reference: str, app_dir: Path, run_config: UserConfig) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(connection, None, flower.load_client_app(reference, app_dir), run_config)
