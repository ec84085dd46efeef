"""A council of real processes on this machine's loopback, to be measured and to be killed."""

import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import msgspec

from consensus.network.genesis import GENESIS, LOG, SIGNING_KEY, TRANSPORT_KEY, Genesis
from consensus.network.identities import new_member
from consensus.network.node import READY, STATUS, Status
from consensus.pbft.config import RegionMap
from shards.errors import FedshardError

HOST = "127.0.0.1"
PORTS = range(15000, 30000)  # below those that systems hand out to outgoing connections
ATTEMPTS = 5  # with other ports, when one was taken meanwhile
PATIENCE = 30.0  # seconds for a process to start, to answer or to end
PERSONAL = (SIGNING_KEY, TRANSPORT_KEY, LOG, LOG + "-wal", STATUS)


class ClusterError(FedshardError):
    """A replica process did not do what it was asked."""


class Cluster:
    """n replica processes; as a context, they are started, and ended whatever happens.

    The processes end when the thread that started them does, so that none outlives this process (Linux).

    Parameters
    ----------
    folder : Path
        Where each replica gets a folder of its own.
    n : int
        Number of replicas.
    protocol : str
        Its name.
    regions : tuple of tuple of int, optional
        Places by region; one region by default.
    timing : mapping, optional
        Fields of `consensus.pbft.config.Timing`.
    application : str, optional
        ``module:class``.
    reached_at : mapping of int to int, optional
        Ports under which others reach a replica, by place, if not at its own: those of a proxy.

    Attributes
    ----------
    genesis : Genesis
        The chain; known once started.
    ports : list of int
        Where each replica listens.
    """

    genesis: Genesis

    def __init__(
        self,
        folder: Path,
        n: int,
        protocol: str,
        regions: RegionMap = (),
        timing: Mapping[str, float] | None = None,
        application: str = "consensus.network.node:Journal",
        reached_at: Mapping[int, int] | None = None,
    ) -> None:
        self.folder, self.n = folder, n
        self._protocol, self._regions, self._application = protocol, regions, application
        self._timing = dict(timing or {})
        self._reached_at = reached_at or {}
        self.ports: list[int] = []
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cluster":
        for attempt in range(ATTEMPTS):
            self._found(free_ports(self.n))
            try:
                for place in range(self.n):
                    self.start(place)
                for place in range(self.n):
                    self.wait(place)
            except BaseException as error:
                self.close()
                taken = isinstance(error, ClusterError) and "is it in use" in str(error)
                if taken and attempt < ATTEMPTS - 1:
                    continue
                raise
            return self
        raise AssertionError("the last attempt returns or raises")

    def __exit__(self, *exception: object) -> None:
        self.close()

    def folder_of(self, place: int) -> Path:
        """Give a replica's folder."""
        return self.folder / f"replica-{place}"

    def start(self, place: int) -> None:
        """Start the process of a replica that does not run, with what its folder holds; `wait` for it then."""
        folder = self.folder_of(place)
        listen = f"{HOST}:{self.ports[place]}"
        command = [sys.executable, "-m", "consensus.network.node", str(folder), "--listen", listen]
        with (folder / "errors.txt").open("ab") as errors:
            self._processes[place] = subprocess.Popen(
                [*command, "--with-parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                process_group=0,  # so that a Ctrl-C at the terminal goes to the parent alone
            )

    def wait(self, place: int) -> None:
        """Wait until a started replica can be reached.

        Raises
        ------
        ClusterError
            If it ends instead; the message is what it said.
        """
        stdout = self._processes[place].stdout
        assert stdout is not None
        readable, _, _ = select.select([stdout], [], [], PATIENCE)
        if not readable or stdout.readline() != READY:
            raise ClusterError(f"replica {place} did not start: {self._said(place)}")

    def kill(self, place: int) -> None:
        """End a replica as a power cut would end it: SIGKILL."""
        process = self._processes.pop(place)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def signal(self, place: int, number: signal.Signals) -> None:
        """Send a replica a signal, e.g. SIGSTOP and SIGCONT for a pause."""
        self._processes[place].send_signal(number)

    def status(self, place: int) -> Status:
        """Ask a running replica how it stands.

        Raises
        ------
        ClusterError
            If it does not answer.
        """
        path = self.folder_of(place) / STATUS
        path.unlink(missing_ok=True)
        self.signal(place, signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while not path.exists():
            if time.monotonic() > deadline or self._processes[place].poll() is not None:
                raise ClusterError(f"replica {place} does not answer: {self._said(place)}")
            time.sleep(0.002)
        return msgspec.json.decode(path.read_bytes(), type=Status)

    def stop(self) -> list[Status]:
        """End all running replicas cleanly; returns the last words of each, in the order of places.

        Raises
        ------
        ClusterError
            If one ends with an error.
        """
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        last = []
        for place in sorted(self._processes):
            try:
                code = self._processes[place].wait(PATIENCE)
            except subprocess.TimeoutExpired as error:
                raise ClusterError(f"replica {place} does not end") from error
            if code:
                raise ClusterError(f"replica {place} ended with status {code}: {self._said(place)}")
            last.append(msgspec.json.decode((self.folder_of(place) / STATUS).read_bytes(), type=Status))
        self.close()
        return last

    def close(self) -> None:
        """Kill whatever runs still."""
        for place in tuple(self._processes):
            self.kill(place)

    def _found(self, ports: list[int]) -> None:
        """Make all keys and the genesis anew."""
        self.ports = ports
        members = []
        for place, port in enumerate(ports):
            folder = self.folder_of(place)
            for name in PERSONAL:
                (folder / name).unlink(missing_ok=True)
            members.append(new_member(folder, f"replica-{place}", HOST, self._reached_at.get(place, port)))
        self.genesis = Genesis(self._protocol, self._application, tuple(members), self._regions, self._timing)
        for place in range(self.n):
            self.genesis.write(self.folder_of(place) / GENESIS)

    def _said(self, place: int) -> str:
        lines = (self.folder_of(place) / "errors.txt").read_text().strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def free_ports(count: int) -> list[int]:
    """Find ports of the loopback that nobody listens at right now."""
    choice = random.SystemRandom()
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in choice.sample(PORTS, len(PORTS)):
            sock = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                sock.bind((HOST, port))
                ports.append(port)
            if len(ports) == count:
                break
    return ports


def even_regions(n: int, k: int) -> RegionMap:
    """Cut places 0 … n-1 into k runs whose sizes differ by one at most."""
    bounds = [n * region // k for region in range(k + 1)]
    return tuple(tuple(range(low, high)) for low, high in pairwise(bounds))
