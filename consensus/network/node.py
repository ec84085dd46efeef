"""One replica as a process: ``python -m consensus.network.node FOLDER``.

The folder holds the genesis, the replica's two private keys and its durable log. SIGTERM ends it cleanly; SIGUSR1
makes it write `status.json`; SIGKILL loses nothing.
"""

import argparse
import asyncio
import ctypes
import gc
import hashlib
import importlib
import os
import resource
import signal
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from consensus.identity import Ed25519
from consensus.log import Log
from consensus.machine import Application, Decided, Noted
from consensus.network.genesis import GENESIS, LOG, SIGNING_KEY, Genesis, public_bytes, read_genesis, read_key
from consensus.network.runtime import Runtime
from consensus.pbft.replica import Replica
from shards.disk import write_atomically
from shards.errors import FedshardError, InputError

STATUS = "status.json"
READY = b"ready\n"  # what the process says on standard output once it can be reached
_PR_SET_PDEATHSIG = 1


class Status(Struct, frozen=True):
    """What a replica says about itself.

    Attributes
    ----------
    executed, stable, view : int
        Its last executed number, last stable checkpoint, and view.
    block : str
        Head of its chain of executed batches, in hexadecimal: equal at equal `executed`, or agreement is broken.
    decided : int
        Batches that this process executed since it started.
    operations : int
        Requests in them.
    sent : dict
        Messages and bytes sent by kind, since it started.
    dropped : int
        Messages dropped since too many waited.
    lost_records : int
        Damaged records that its log left out.
    cpu : float
        Processor seconds since it started.
    """

    executed: int
    stable: int
    view: int
    block: str
    decided: int
    operations: int
    sent: dict[str, tuple[int, int]]
    dropped: int
    lost_records: int
    cpu: float


class Journal:
    """The simplest application: it numbers operations and chains their digests; any operation will do."""

    def __init__(self) -> None:
        self.count = 0
        self.head = bytes(32)

    def check(self, operation: bytes) -> str:
        """Have nothing against any operation."""
        return ""

    def execute(self, operation: bytes) -> bytes:
        """Return the operation's number and the head of the chain up to it."""
        self.count += 1
        self.head = hashlib.sha256(self.head + operation).digest()
        return self.snapshot()

    def snapshot(self) -> bytes:
        """Return the number and the head."""
        return self.count.to_bytes(8, "big") + self.head

    def restore(self, snapshot: bytes) -> None:
        """Take them back."""
        self.count, self.head = int.from_bytes(snapshot[:8], "big"), snapshot[8:]


class Node:
    """A replica with everything around it.

    Parameters
    ----------
    folder : Path
        Its folder.

    Raises
    ------
    InputError
        If anything in the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.genesis = read_genesis(folder / GENESIS)
        key = read_key(folder / SIGNING_KEY)
        publics = [member.public for member in self.genesis.members]
        if public_bytes(key) not in publics:
            raise InputError(f"{folder / SIGNING_KEY}: no member of the genesis has this key; is it another chain's?")
        self.own = publics.index(public_bytes(key))
        self.log = Log(folder / LOG)
        self.replica = Replica(
            self.genesis.config(self.own),
            lambda members, own: Ed25519(key, members),
            load_application(self.genesis),
        )
        self.decided = self.operations = 0
        self.runtime = Runtime(self.genesis, self.own, folder, self.replica, self.log, self._observe)

    def status(self) -> Status:
        """Tell how it stands."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Status(
            self.replica.executed,
            self.replica.low,
            self.replica.view,
            self.replica.header.block.hex(),
            self.decided,
            self.operations,
            {kind: (messages, size) for kind, (messages, size) in self.runtime.sent.items()},
            self.runtime.dropped,
            self.log.dropped,
            used.ru_utime + used.ru_stime,
        )

    async def run(self, listen: tuple[str, int] | None) -> None:
        """Run until SIGTERM or SIGINT, or a failure."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.runtime.stop)
        loop.add_signal_handler(signal.SIGINT, self.runtime.stop)
        loop.add_signal_handler(signal.SIGUSR1, self._write_status)
        member = self.genesis.members[self.own]
        with self.log:
            await self.runtime.run(*(listen or (member.host, member.port)), _say_ready)
        self._write_status()

    def _observe(self, effect: Decided | Noted) -> None:
        if isinstance(effect, Decided):
            self.decided += 1
            self.operations += len(effect.requests)

    def _write_status(self) -> None:
        write_atomically(self.folder / STATUS, msgspec.json.encode(self.status()))


def load_application(genesis: Genesis) -> Application:
    """Make the application that a genesis names.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    module, _, name = genesis.application.partition(":")
    try:
        application: Application = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(f"genesis: application {genesis.application!r} cannot be made ({error})") from error
    return application


def end_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, however that ends (Linux; elsewhere not)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the system was told
            os._exit(1)


def _say_ready() -> None:
    gc.freeze()  # what was loaded stays; the collector need not look at it again
    os.write(sys.stdout.fileno(), READY)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def main() -> int:
    """Run a replica; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m consensus.network.node", description="Run one replica.")
    parser.add_argument("folder", type=Path, help="with genesis.json, signing.pem and transport.pem")
    parser.add_argument("--listen", type=_address, help="HOST:PORT to listen at, if another than the genesis's")
    parser.add_argument("--with-parent", type=int, metavar="PID", help="end when this process, the parent, ends")
    arguments = parser.parse_args()
    if arguments.with_parent is not None:
        end_with(arguments.with_parent)
    try:
        node = Node(arguments.folder)
        if node.log.dropped:
            print(
                f"{node.log.path}: {node.log.dropped} damaged records at the end were left out; until the next "
                "checkpoint this replica counts among the faulty ones",
                file=sys.stderr,
            )
        asyncio.run(node.run(arguments.listen))
    except FedshardError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
