"""Running a ServerApp and a ClientApp together on this machine."""

import gc
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TypeVar

import torch
from flwr.app import ArrayRecord, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import Result

from fl.engine import flower
from fl.engine.app import AppSpec
from fl.engine.events import BatchEvent, Observer, RoundEvent
from fl.engine.executor import Executor, InlineExecutor, NodeStates
from fl.engine.grid import EngineGrid, Nodes, too_few_nodes
from fl.engine.launcher import ForkLauncher, SpawnLauncher, StartMethod, default_start_method
from fl.engine.pool import WorkerPool
from fl.engine.seeding import derive, seeded
from fl.engine.snapshot import SnapshotStore
from fl.loading import collector_off
from shards.errors import InputError

App = TypeVar("App")

_SWITCH_SECONDS = 2e-4
"""How long the ServerApp may keep the interpreter from the thread that feeds the workers (Python's default: 5 ms)."""


@dataclass(frozen=True)
class Apps:
    """A loaded pair of apps, and where they came from if from a folder (spawned workers import them anew)."""

    server: ServerApp
    client: ClientApp
    spec: AppSpec | None = None

    @classmethod
    def load(cls, spec: AppSpec) -> "Apps":
        """Import both components of an app folder.

        Raises
        ------
        InputError
            Naming the component, and what its import raised.
        """
        with collector_off():
            server = _import(flower.load_server_app, spec, "serverapp", spec.server_reference)
            client = _import(flower.load_client_app, spec, "clientapp", spec.client_reference)
        return cls(server, client, spec)


def _import(load: Callable[[str, Path], App], spec: AppSpec, kind: str, reference: str) -> App:
    try:
        return load(reference, spec.folder)
    except InputError:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        raise InputError(f"{spec.folder}: cannot load {kind} '{reference}': {cause}") from error


@dataclass(frozen=True)
class Options:
    """How a federation is simulated.

    Attributes
    ----------
    clients : int
        Number of nodes.
    seed : int
        Every random stream of the run derives from it.
    workers : int or None
        Worker processes; None for one per core (never more than clients), 0 for everything in this process.
    client_timeout : float
        Seconds that a client may take for one message.
    start_method : "fork", "spawn" or None
        How workers start; None for fork where it is safe.
    node_config : dict
        Joins every node's configuration, and is the ServerApp's.
    """

    clients: int
    seed: int = 0
    workers: int | None = None
    client_timeout: float = math.inf
    start_method: StartMethod | None = None
    node_config: UserConfig = field(default_factory=dict)


@dataclass
class Outcome:
    """What a run came to.

    Attributes
    ----------
    arrays : ArrayRecord or None
        The newest global model that the ServerApp reported, or its last strategy returned.
    result : Result or None
        What the last strategy (or legacy server) returned, with its metrics per round.
    replied, failed : int
        Replies with content, and messages that ended in an error or without a reply.
    first_error : str or None
        The reason of the first failure.
    rounds : dict[int, dict[str, float]]
        The metrics that the ServerApp reported, by round.
    recorded : bool
        Whether every reply was recorded, so that the run could have been resumed at any time.
    """

    arrays: ArrayRecord | None = None
    result: Result | None = None
    replied: int = 0
    failed: int = 0
    first_error: str | None = None
    rounds: dict[int, dict[str, float]] = field(default_factory=dict)
    recorded: bool = True

    @property
    def last(self) -> dict[str, float]:
        """The metrics of the last round, empty before the first."""
        return self.rounds[max(self.rounds)] if self.rounds else {}

    def on_batch(self, event: BatchEvent) -> None:
        """Count replies."""
        self.replied += event.replied
        self.failed += event.failed
        self.first_error = self.first_error or event.error

    def on_round(self, event: RoundEvent) -> None:
        """Keep the metrics and the model of the round."""
        self.rounds[event.server_round] = dict(event.metrics)
        self.arrays = event.arrays or self.arrays


def worker_count(options: Options) -> int:
    """Resolve the number of workers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores if options.workers is None else options.workers, options.clients)


def run_apps(
    apps: Apps,
    run_config: UserConfig,
    options: Options,
    *,
    snapshots: SnapshotStore | None = None,
    observers: Sequence[Observer] = (),
    on_ready: Callable[[], None] = lambda: None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Run a ServerApp against simulated clients until it returns.

    Same apps, same configuration and same seed give the same bits, whatever the number of workers, for apps that
    take randomness from Python's, NumPy's and torch's global generators only, keep client state in
    ``context.state`` only, and do not depend on the clock.

    Parameters
    ----------
    apps : Apps
        What to run.
    run_config : dict
        The resolved run configuration.
    options : Options
        Clients, seed and workers.
    snapshots : SnapshotStore, optional
        Where replies are recorded; a store that already holds some makes this a resumed run.
    observers : sequence of Observer
        Receive what happens, in order.
    on_ready : callable, optional
        Called once the workers have started, before the ServerApp does: threads may start from here on.
    outcome : Outcome, optional
        Filled as the run goes on, and returned: holds what was reached where the ServerApp raises.

    Returns
    -------
    Outcome
        Final arrays and metrics where the ServerApp used a strategy, and counts of replies.

    Raises
    ------
    Exception
        Whatever the ServerApp raises.
    """
    states, outcome = NodeStates(), outcome or Outcome()
    run_id = derive(options.seed, "run", bits=63)
    record = snapshots.open_record() if snapshots else None

    def take(result: Result) -> None:
        outcome.result = result
        outcome.arrays = result.arrays or outcome.arrays

    with ExitStack() as stack:
        stack.enter_context(one_thread())
        stack.enter_context(flower.quick_records())
        if worker_count(options):
            _load_optimizers()
        # What is loaded by now stays: keep the collector, and the memory shared with forked workers, off it.
        gc.freeze()
        stack.callback(gc.unfreeze)
        executor = _executor(apps, run_config, options, states)
        stack.callback(executor.close)
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_SECONDS)
        stack.enter_context(_release_on_interrupt(executor))
        stack.enter_context(flower.canonical_legacy_order())
        stack.enter_context(flower.bounded_legacy_waits(too_few_nodes(options.clients)))
        stack.enter_context(flower.joined_legacy_threads())
        stack.enter_context(flower.observed_results(take))
        grid = EngineGrid(
            run=flower.make_run(run_id, {}),
            nodes=Nodes.create(options.clients, options.seed, options.node_config),
            executor=executor,
            states=states,
            seed=options.seed,
            client_timeout=options.client_timeout,
            record=record,
            snapshots=snapshots,
            observers=[outcome, *observers],
        )
        stack.callback(grid.close)
        on_ready()
        flower.set_identity(run_id, flower.SUPERLINK_NODE_ID)
        node_config = dict(options.node_config)
        context = flower.build_context(run_id, flower.SUPERLINK_NODE_ID, node_config, dict(run_config))
        stack.enter_context(seeded(derive(options.seed, "server")))
        try:
            apps.server(grid, context)
        finally:
            outcome.recorded = grid.recorded
    return outcome


def _executor(apps: Apps, run_config: UserConfig, options: Options, states: NodeStates) -> Executor:
    workers = worker_count(options)
    if workers == 0:
        return InlineExecutor(apps.client, run_config, states)
    method = options.start_method or default_start_method()
    if method == "fork":
        return WorkerPool(ForkLauncher(apps.client, run_config), workers, states)
    if apps.spec is None:
        raise InputError(
            "workers cannot be forked here, and an app that has no folder cannot be spawned: use workers=0"
        )
    return WorkerPool(SpawnLauncher(apps.spec.client_reference, apps.spec.folder, run_config), workers, states)


def _load_optimizers() -> None:
    """Import the large part of torch that the first optimizer of a process needs: once here, not in each worker."""
    with collector_off():
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread per operation: two give other bits, and a pool of them does not survive a fork."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _release_on_interrupt(executor: Executor) -> Iterator[None]:
    """On Ctrl-C or SIGTERM, end every wait for a client first: threads of a legacy server may hang in one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    owner = os.getpid()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a process that the ServerApp forked: it ends as it would elsewhere
            signal.signal(signum, before[signum])
            os.kill(os.getpid(), signum)
            return
        executor.stop()
        raise KeyboardInterrupt

    before = {int(number): signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
