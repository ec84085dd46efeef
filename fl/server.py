"""The ServerApp that fedshard ships: rounds of training under a privacy budget, evaluated on a public test set."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flwr.serverapp.strategy as flower_strategies
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict, UserConfig
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy
from safetensors.numpy import save_file

from fl.council import SIMULATED
from fl.council.council import Council
from fl.council.faults import KINDS
from fl.council.rounds import forge
from fl.data import Records, validate
from fl.engine import EngineGrid, RoundEvent
from fl.engine.app import PRIVATE_KEY, SEED_KEY
from fl.engine.flower import flower_log
from fl.engine.seeding import derive, seeded
from fl.errors import BudgetSpentError
from fl.home import home
from fl.model import build_model, evaluate, load_weights, number_of_classes, weights
from fl.privacy import check_private, epsilon, rdp
from fl.run.blocks import described
from fl.run.progress import Printer
from fl.settings import WEIGHT_KEY, Settings
from fl.strategy import ConsensusStrategy, rule_of
from shards.errors import InputError
from shards.nearest import suggest

_STATELESS = ("FedAvg", "FedProx", "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan")
"""Strategies that are a function of the replies alone: a snapshot of the model is a snapshot of them."""

MIN_CLIENTS = 2
MAX_TEST_GROUPS = 100
REPLY_TIMEOUT_S = 3600.0


class FederationApp(ServerApp):
    """A ServerApp that can check everything a run needs before the run exists."""

    def preflight(self, run_config: UserConfig, clients: int, where: str) -> None:
        """Check configuration, model, data of every client, and privacy budget.

        Parameters
        ----------
        run_config : dict
            The resolved run configuration.
        clients : int
            How many there will be.
        where : str
            Names the configuration in errors.

        Raises
        ------
        InputError
            With one line for the first thing that is wrong.
        """
        settings = Settings.read(run_config, where)
        if clients < MIN_CLIENTS:
            raise InputError(f"--clients {clients}: a federation needs at least {MIN_CLIENTS} clients")
        try:
            inner, council = make_strategy(settings), settings.council()
            if council is not None and settings.council_verify == "region":
                rule_of(inner)
            source, model = settings.source(), build_model(settings.model)
            _test_groups(source.test(), settings.test_by)
            cost = epsilon(rdp(settings.mechanism()), settings.delta) if settings.private else 0.0
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        classes = number_of_classes(model, source.client(0, clients), settings.objective(), "client 0")
        for index in range(clients):
            validate(source.client(index, clients), f"client {index} of {clients}", classes, settings.task)
        if (test := source.test()) is not None:
            validate(test, "the test set", classes, settings.task)
        everyone = [source.client(index, clients) for index in range(clients)]
        _check_ids(everyone)
        _check_requests(settings, everyone, where)
        if settings.private:
            check_private(model)
            if cost > settings.epsilon:
                raise InputError(
                    f"{where}: epsilon = {settings.epsilon:g}: one round alone costs {cost:.3g}; raise epsilon or "
                    "noise-multiplier, or lower sampling-rate or local-steps"
                )

    def describe(self, run_config: UserConfig) -> list[str]:
        """Return the lines that a simulated run prints before its first round."""
        settings = Settings.read(run_config)
        simulated = "simulated noise: whoever has the seed can remove it"
        untested = "no test-data: accuracy and loss are not measured; the key test-data names files or a function"
        lines = [_privacy_line(settings), *([simulated] if settings.private else []), *_council_lines(settings)]
        return lines if settings.source().test() is not None else [*lines, untested]


def _privacy_line(settings: Settings) -> str:
    if not settings.private:
        return "privacy: OFF: updates reveal the clients' records; switch on with -c privacy=dp-sgd"
    return (
        f"privacy: DP-SGD at every client, ε ≤ {settings.epsilon:g} per record at δ = {settings.delta:g} "
        f"(noise multiplier {settings.mechanism().noise_multiplier:.3f}, clipping norm {settings.clipping_norm:g})"
    )


def _council_lines(settings: Settings) -> list[str]:
    """Say who decides, what a vote vouches for, and what is simulated."""
    plan = settings.council()
    if plan is None:
        return []
    vouched = {
        "region": "members recompute their region's sum, every replica the total",
        "all": "every replica recomputes the aggregate from all updates",
    }[settings.council_verify]
    lines = [
        f"{SIMULATED}: {plan.regions.n} replicas, {plan.protocol.name}, {plan.regions.k} regions, survives "
        f"{plan.bound} faulty ones; keys derive from the seed",
        f'council-verify = "{settings.council_verify}": {vouched}; metrics are the server\'s word',
    ]
    for kind in dict.fromkeys(plan.faulty.values()):
        replicas = ", ".join(str(replica) for replica, fault in plan.faulty.items() if fault == kind)
        lines.append(f"simulated faults: replica {replicas}: {kind}: {KINDS[kind]}")
    return lines


def make_strategy(settings: Settings) -> Strategy:
    """Build the strategy a configuration names.

    Raises
    ------
    InputError
        If Flower has no such strategy, or it needs arguments that the configuration cannot give.
    """
    kind = getattr(flower_strategies, settings.strategy, None)
    names = [name for name in flower_strategies.__all__ if name not in ("Strategy", "Result")]
    if kind is None or settings.strategy not in names:
        raise InputError(f"strategy = '{settings.strategy}': unknown; {suggest(settings.strategy, names)}")
    local = 1.0 if settings.evaluates_locally else 0.0
    arguments = {"fraction_train": settings.fraction_train, "fraction_evaluate": local}
    if settings.server_momentum:
        arguments["server_momentum"] = settings.server_momentum
    minima = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
    try:
        with flower_log(logging.ERROR):  # Flower warns that there is no federated evaluation: as configured
            return kind(**arguments, **minima)  # type: ignore[no-any-return]
    except TypeError as error:
        raise InputError(f"strategy = '{settings.strategy}': needs a ServerApp of your own: {error}") from error


def make_council(settings: Settings, context: Context, subfolder: str = ".") -> ConsensusStrategy | None:
    """Put the configured council around the configured strategy; None where there is none.

    Its chain lies in the run's folder, or in a subfolder of it where there are several, and its keys in the private
    folder. Without fedshard's engine both lie below the fedshard home folder.
    """
    plan = settings.council()
    if plan is None:
        return None
    node = context.node_config
    default = home() / "councils" / f"run-{context.run_id}" / "private"
    private = Path(str(node.get(PRIVATE_KEY, default)))
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed = int(node.get(SEED_KEY, context.run_id))
    folder = private.parent / subfolder
    folder.mkdir(exist_ok=True)
    council = Council(plan, folder, private, seed, forge)
    return ConsensusStrategy(make_strategy(settings), council, settings.council_verify)


app = FederationApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for the configured rounds, or until no record can afford another.

    fedshard's engine observes the rounds and keeps the model. Elsewhere (Flower's simulation, a SuperLink) each
    round is printed, and the model is written below the fedshard home folder.
    """
    settings = Settings.read(context.run_config)
    federation = Federation(settings, grid, context)
    if isinstance(grid, EngineGrid):
        federation.run()
        return
    print("\n".join([_privacy_line(settings), *_council_lines(settings)]))
    try:
        federation.run()
    finally:
        path = home() / "models" / f"run-{context.run_id}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: array.numpy() for name, array in federation.arrays.items()}, path)
        print(f"model of the newest round: {path}")


class Federation:
    """One run: the strategy, the model so far, and which round each node took part in.

    Parameters
    ----------
    settings : Settings
        What is to be done.
    grid : Grid
        The nodes.
    context : Context
        The ServerApp's.

    Attributes
    ----------
    arrays : ArrayRecord
        The global model.
    """

    def __init__(self, settings: Settings, grid: Grid, context: Context) -> None:
        self._settings, self._grid, self._run_id = settings, grid, context.run_id
        self._consensus = make_council(settings, context)
        self._strategy = self._consensus or make_strategy(settings)
        self._test = settings.source().test()
        self._test_groups = _test_groups(self._test, settings.test_by)
        self._model = build_model(settings.model)
        self.arrays = weights(self._model)
        self._participations: dict[int, int] = {}
        self._event_cost = rdp(settings.mechanism()) if settings.private else None
        self._report = grid.report if isinstance(grid, EngineGrid) else Printer().on_round

    def run(self) -> None:
        """Go through the rounds, from the newest snapshot if there is one."""
        first = self._restore()
        for server_round in range(first, self._settings.num_server_rounds + 1):
            view: Any = _View(self._grid, self._spent_nodes())
            if not view.get_node_ids():
                raise BudgetSpentError(
                    f"privacy budget spent: after round {server_round - 1} of {self._settings.num_server_rounds} no "
                    f"record can take part in another within ε = {self._settings.epsilon:g}; the model so far is kept"
                )
            phases: dict[str, float] = {}
            with seeded(derive(self._run_id, "round", server_round)):
                metrics = self._round(server_round, view, phases)
            blocks = self._blocks(phases) if self._consensus else ()
            total = self._settings.num_server_rounds
            self._report(RoundEvent(server_round, total, metrics, self.arrays, phases, blocks))
            self._snapshot(server_round, metrics)

    def _blocks(self, phases: dict[str, float]) -> list[dict[str, Any]]:
        """Take what the council decided in a round; its time includes the aggregation, which it repeats."""
        assert self._consensus is not None
        phases.pop("aggregation", None)
        phases["council"] = self._consensus.seconds
        blocks = described(self._consensus.decisions, self._consensus.seconds)
        self._consensus.decisions, self._consensus.seconds = [], 0.0
        return blocks

    def _round(self, server_round: int, view: Grid, phases: dict[str, float]) -> dict[str, float]:
        """Run one round; return its metrics and add the seconds of the server's own work to `phases`."""
        config = ConfigRecord()
        requests = list(self._strategy.configure_train(server_round, self.arrays, config, view))
        for message in requests:
            node = message.metadata.dst_node_id
            self._participations[node] = self._participations.get(node, 0) + 1
        replies = self._exchange(requests)
        with _timed(phases, "aggregation"):
            arrays, trained = self._aggregate(server_round, replies)
        self.arrays = arrays if arrays is not None else self.arrays
        metrics = _floats("train", trained)
        if self._settings.evaluates_locally:
            requests = list(self._strategy.configure_evaluate(server_round, self.arrays, config, view))
            local = self._strategy.aggregate_evaluate(server_round, self._exchange(requests))
            metrics |= _floats("client", local)
        if self._test is not None:
            with _timed(phases, "server test"):
                metrics |= self._tested(self._test)
        if self._event_cost is not None:
            metrics["epsilon"] = self._epsilon(max(self._participations.values()))
        return metrics

    def _aggregate(self, server_round: int, replies: list[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate what clients learned: nothing where they had no rows; where none had, the model stays."""
        taught = [reply for reply in replies if reply.has_error() or _weight(reply)]
        return self._strategy.aggregate_train(server_round, taught) if taught else (None, None)

    def _tested(self, test: Records) -> dict[str, float]:
        """Return the metrics of the global model on the test set, and on each group of it."""
        task = self._settings.objective()
        load_weights(self._model, self.arrays)
        metrics = {f"test_{name}": value for name, value in evaluate(self._model, test, task).items()}
        for group, rows in self._test_groups.items():
            measured = evaluate(self._model, rows, task)
            metrics |= {f"test_{name}/{group}": value for name, value in measured.items()}
        return metrics

    def _exchange(self, requests: Iterable[Message]) -> list[Message]:
        """Send messages and return the replies by node: sums are taken in an order that no network decides."""
        replies = self._grid.send_and_receive(requests, timeout=REPLY_TIMEOUT_S)
        return sorted(replies, key=lambda reply: reply.metadata.src_node_id)

    def _epsilon(self, events: int) -> float:
        """Return what a record spent at most in `events` rounds; the plan is public, so no client need say it."""
        assert self._event_cost is not None
        eligible = self._settings.schedule().eligible_rounds(events)
        return epsilon(eligible * self._event_cost, self._settings.delta)

    def _spent_nodes(self) -> set[int]:
        """Return the nodes none of whose records can afford another round."""
        if self._event_cost is None:
            return set()
        counts = self._participations
        return {node for node in counts if self._epsilon(counts[node] + 1) > self._settings.epsilon}

    def _snapshot(self, server_round: int, metrics: dict[str, float]) -> None:
        if isinstance(self._grid, EngineGrid) and self._settings.strategy in _STATELESS:
            counts = {str(node): count for node, count in self._participations.items()}
            state = RecordDict({"arrays": self.arrays, "round": MetricRecord({"number": server_round})})
            state["participations"] = MetricRecord({**counts})
            state["metrics"] = MetricRecord({**metrics})
            self._grid.snapshot(state)

    def _restore(self) -> int:
        """Take over the newest snapshot, report its round again, and return the round to start with."""
        state = self._grid.restored() if isinstance(self._grid, EngineGrid) else None
        if state is None:
            return 1
        self.arrays = state.array_records["arrays"]
        counts = state.metric_records["participations"]
        self._participations = {int(node): int(count) for node, count in counts.items()}  # type: ignore[arg-type]
        server_round = int(state.metric_records["round"]["number"])  # type: ignore[arg-type]
        if self._consensus is not None:
            self._consensus.resume(server_round, self.arrays)
            self._consensus.decisions.clear()
        metrics = {name: float(value) for name, value in state.metric_records["metrics"].items()}  # type: ignore[arg-type]
        self._report(RoundEvent(server_round, self._settings.num_server_rounds, metrics, self.arrays))
        return server_round + 1


def _weight(reply: Message) -> float:
    """Return the number of rows that a reply counts for; 1 where it does not say."""
    return next((float(record.get(WEIGHT_KEY, 1)) for record in reply.content.metric_records.values()), 1.0)  # type: ignore[arg-type]


@contextmanager
def _timed(phases: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    phases[name] = time.perf_counter() - start


class _View:
    """A Grid as strategies see it, without the nodes that may not be asked again."""

    def __init__(self, grid: Grid, without: set[int]) -> None:
        self._grid, self._without = grid, without

    def get_node_ids(self) -> list[int]:
        return [node for node in self._grid.get_node_ids() if node not in self._without]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)


def _check_ids(clients: Sequence[Records]) -> None:
    """Raise if two clients hold one record id: its budget would be counted at each of them alone."""
    ids = np.concatenate([records.ids for records in clients])
    owner = np.repeat(np.arange(len(clients)), [len(records) for records in clients])
    order = np.argsort(ids, kind="stable")
    repeated = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(repeated):
        first, second = order[repeated[0] : repeated[0] + 2]
        raise InputError(
            f"client {owner[first]} and client {owner[second]} both hold a record with id {ids[first]} "
            f"({len(repeated)} such in all); give every record its own over all clients"
        )


def _check_requests(settings: Settings, clients: Sequence[Records], where: str) -> None:
    """Raise if a round asks for records that no client has."""
    if not settings.train_request:
        return
    tables = [client.table() for client in clients]
    for server_round in range(1, settings.num_server_rounds + 1):
        request = settings.schedule().at(server_round)
        if not any(request.mask(table).any() for table in tables):
            raise InputError(
                f"{where}: train-request = '{settings.train_request}': no client has a record for round "
                f"{server_round}; change the request, its clock, or num-server-rounds"
            )


def _test_groups(test: Records | None, key: str) -> dict[str, Records]:
    """Split the test set by a key column, where one is configured.

    Raises
    ------
    InputError
        If there is no test set or no such column, or it has more than `MAX_TEST_GROUPS` values.
    """
    if not key:
        return {}
    if test is None:
        raise InputError(f"test-by = '{key}': there is no test set to split; name one in test-data")
    if key not in test.keys:
        raise InputError(f"test-by = '{key}': the test set has no such key; {suggest(key, test.keys)}")
    values = np.unique(test.keys[key])
    if len(values) > MAX_TEST_GROUPS:
        raise InputError(f"test-by = '{key}': {len(values)} values; name a key with at most {MAX_TEST_GROUPS}")
    return {str(value): test.select(test.keys[key] == value) for value in values}


def _floats(prefix: str, record: MetricRecord | None) -> dict[str, float]:
    """Return a record's scalars, their names prefixed by where they come from."""
    items = record.items() if record is not None else ()
    return {f"{prefix}_{name}": float(value) for name, value in items if isinstance(value, int | float)}
