"""A strategy whose aggregate is what a council committed: `ConsensusStrategy`."""

import copy
import hashlib
import logging
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, strategy
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fl.aggregation import (
    InsideAndAcross,
    Layout,
    TwoStep,
    Vector,
    WeightedMean,
    arrays_digest,
    krum,
    median,
    trimmed_mean,
)
from fl.council import outcome
from fl.council.certificate import RECORD, attached, numpy_arrays
from fl.council.council import Council, Decision
from fl.council.outcome import Assignment, Outcome, Update
from fl.council.rounds import Digests, EverybodyRound, RegionRound, Teaching
from fl.engine import codec, flower
from fl.engine.seeding import seeded
from shards.errors import FedshardError, InputError

Verify = Literal["region", "all"]

_LOG = logging.getLogger("fedshard")
_ADDITIVE = ("FedAvg", "FedProx", "FedAvgM", "FedAdagrad", "FedAdam", "FedYogi")
"""Flower's strategies that do with the weighted mean of the updates whatever they do."""


def rule_of(inner: Strategy) -> TwoStep:
    """Return the rule by which regions can begin what a strategy does.

    Raises
    ------
    InputError
        If a strategy is neither one of the weighted mean nor a robust rule that works inside and across regions.
    """
    name = type(inner).__name__
    if type(inner) is getattr(strategy, name, None):
        if name in _ADDITIVE:
            return WeightedMean()
        if isinstance(inner, strategy.FedMedian):
            return InsideAndAcross(median)
        if isinstance(inner, strategy.FedTrimmedAvg):
            return InsideAndAcross(partial(trimmed_mean, share=inner.beta))
        if name == "Krum":
            return InsideAndAcross(krum)
    raise InputError(f"council-verify = 'region': {name} cannot be begun in regions; use council-verify = 'all'")


class ConsensusStrategy(Strategy):
    """Wraps a strategy: its aggregate counts only once a council has agreed on it.

    Parameters
    ----------
    inner : Strategy
        Any deterministic strategy of Flower's message API.
    council : Council
        Who decides, and where the chain is kept. Until a deployed one exists it is simulated in this process.
    verify : str
        What a vote vouches for. ``region``: members recompute their region's sum, everybody the total; for weighted
        means, and for robust rules, which then work inside and across regions. ``all``: every replica recomputes the
        whole aggregate from all updates, on a snapshot of the strategy's state that is adopted on commit.
    shared : bool
        Whether replicas share what they compute; see `fl.council.rounds`.

    Attributes
    ----------
    decisions : list of (Decision, list of str)
        What was decided since the list was last emptied, with what is to be noted.
    seconds : float
        Wall time that the council took since it was last set to 0.

    Raises
    ------
    InputError
        If the strategy cannot be verified in that way.
    """

    def __init__(self, inner: Strategy, council: Council, verify: Verify = "region", shared: bool = True) -> None:
        self._inner, self._council, self._verify, self._shared = inner, council, verify, shared
        self._rule = rule_of(inner) if verify == "region" else None
        self._assignment: Assignment = ()
        self._layout: Layout | None = None
        self.decisions: list[tuple[Decision, list[str]]] = []
        self.seconds = 0.0

    def resume(self, server_round: int, arrays: ArrayRecord) -> None:
        """Go on after a round that an earlier attempt finished: follow the ledger up to it.

        Parameters
        ----------
        server_round : int
            The round.
        arrays : ArrayRecord
            The model after it.

        Raises
        ------
        FedshardError
            If the ledger does not end in that model, or its blocks are not those that this council would decide.
        """
        committed = b""
        for block in self._council.ledger.blocks[self._council.decided :]:
            found = _outcome(block.operations)
            if found is not None and found.server_round > server_round:
                break
            if found is not None:
                self._council.follow(block)
                self._assignment, committed = found.assignment, found.aggregate
        if committed != arrays_digest(numpy_arrays(arrays)):
            raise FedshardError(
                f"{self._council.ledger.path}: does not lead to the model after round {server_round}: blocks are "
                "missing; restore the file, or start a new run"
            )

    def summary(self) -> None:
        """Log the inner strategy's configuration."""
        self._inner.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure a round; every message carries the block that made its model."""
        start = time.perf_counter()
        self._layout = self._layout or Layout.of(numpy_arrays(arrays))  # the first: some strategies return float64
        regions = len(self._council.regions.members)
        assignment = outcome.assign(list(grid.get_node_ids()), regions, self._assignment)
        assignment = assignment if self._verify == "region" else ()
        if self._council.last is None or assignment != self._assignment:
            self._announce(server_round - 1, arrays, assignment)
        block = self._council.last
        assert block is not None, "a model was announced"
        self.seconds += time.perf_counter() - start
        messages = list(self._inner.configure_train(server_round, arrays, config, grid))
        record = attached(self._council.genesis, block)
        for message in messages:
            if RECORD not in message.content:  # the messages of a round may share one content
                message.content[RECORD] = record
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the council agree on the aggregate of the replies, and return what it committed."""
        answered = sorted((r for r in replies if r.has_content()), key=lambda reply: reply.metadata.src_node_id)
        start = time.perf_counter()
        found = (
            self._by_region(server_round, answered)
            if self._verify == "region"
            else self._by_all(server_round, answered)
        )
        self.seconds += time.perf_counter() - start
        return found

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure a round of evaluation, as the inner strategy does."""
        return self._inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate metrics, as the inner strategy does; no council vouches for them."""
        return self._inner.aggregate_evaluate(server_round, replies)

    # -- what the council is asked ------------------------------------------------------------------------------

    def _announce(self, server_round: int, arrays: ArrayRecord, assignment: Assignment) -> None:
        """Have a model that is taken as given committed, with the map of the next round."""
        digest = arrays_digest(numpy_arrays(arrays))
        operation = outcome.encode(self._frame(server_round, assignment, digest))
        why = "not the model that the server announced"
        decision = self._council.agree(operation, lambda replica, other: "" if other == operation else why)
        self.decisions.append((decision, []))
        self._assignment = assignment

    def _frame(self, server_round: int, assignment: Assignment, aggregate: bytes = b"") -> Outcome:
        rule = type(self._inner).__name__
        return Outcome(server_round, self._verify, rule, (), (), aggregate, b"", assignment)

    def _by_region(
        self, server_round: int, replies: Sequence[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        assert self._rule is not None
        assert self._layout is not None, "configure_train comes first"
        layout, inner = self._layout, cast(Any, self._inner)
        taught = [(reply, teaching) for reply in replies if (teaching := self._teaching(layout, reply)) is not None]
        results: dict[bytes, tuple[Strategy, ArrayRecord]] = {}

        def finish(total: Vector) -> bytes:
            stepped, arrays = self._stepped(server_round, _record(layout.arrays(total)))
            digest = arrays_digest(numpy_arrays(arrays))
            results[digest] = stepped, arrays
            return digest

        frame = self._frame(server_round, self._assignment)
        teachings = [teaching for _, teaching in taught]
        round_ = RegionRound(
            self._council, self._rule, finish, frame, self._assignment, teachings, shared=self._shared
        )
        operation = round_.propose()
        if operation is None:
            return None, None
        committed = self._decide(operation, round_)
        self._inner, arrays = results[committed.aggregate]
        contents = [reply.content for reply, _ in taught]
        return arrays, inner.train_metrics_aggr_fn(contents, inner.weighted_by_key)

    def _stepped(self, server_round: int, total: ArrayRecord) -> tuple[Strategy, ArrayRecord]:
        """Do what the strategy does with the total, on a snapshot of its state."""
        if not isinstance(self._rule, WeightedMean):
            return self._inner, total
        stepped = cast(Any, copy.deepcopy(self._inner))
        key = stepped.weighted_by_key
        content = RecordDict({stepped.arrayrecord_key: total, "metrics": MetricRecord({key: 1})})
        arrays, _ = stepped.aggregate_train(server_round, [Message(content, 0, "train")])
        return stepped, arrays

    def _teaching(self, layout: Layout, reply: Message) -> Teaching | None:
        """Read an update as the region rules need it; None, with a warning, for one that has no place in a sum."""
        client, content, key = reply.metadata.src_node_id, reply.content, cast(Any, self._inner).weighted_by_key
        records = list(content.array_records.values())
        weights = [record.get(key) for record in content.metric_records.values()]
        why = ""
        if len(records) != 1 or len(weights) != 1 or not isinstance(weights[0], int | float):
            why = f"it needs one array record, and one metric record with {key}"
        elif not layout.fits(arrays := numpy_arrays(records[0])):
            why = "its arrays are not those of the model"
        else:
            vector, weight = layout.vector(arrays), float(weights[0])
            if weight > 0 and np.isfinite(weight * np.abs(vector).max(initial=0.0)):
                return Teaching(Update(client, _digest(content)), vector, weight)
            why = f"its values or its {key} are not finite, or {key} is not above 0"
        _LOG.warning("client node %s: its update is left out: %s", client, why)
        return None

    def _by_all(
        self, server_round: int, replies: Sequence[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        if not replies:
            return None, None
        held = {reply.metadata.src_node_id: (reply, codec.encode(reply.content)) for reply in replies}
        results: dict[Digests, tuple[Strategy, ArrayRecord | None, MetricRecord | None]] = {}

        def recompute(clients: tuple[int, ...]) -> Digests:
            computed = [self._recomputed(server_round, [held[client] for client in clients], seed) for seed in (1, 2)]
            digests = [_digests(arrays, metrics) for _, arrays, metrics in computed]
            if digests[0] != digests[1]:
                raise InputError(
                    f"strategy {type(self._inner).__name__} draws random numbers, so replicas cannot recompute its "
                    "aggregate; use one that is a function of the replies, or council-replicas = 0"
                )
            results[digests[0]] = computed[0]
            return digests[0]

        updates = [Update(client, hashlib.sha256(data).digest()) for client, (_, data) in held.items()]
        round_ = EverybodyRound(self._council, recompute, self._frame(server_round, ()), updates, shared=self._shared)
        operation = round_.propose()
        if not any(arrays is not None for _, arrays, _ in results.values()):
            return None, None
        committed = self._decide(operation, round_)
        self._inner, arrays, metrics = results[committed.aggregate, committed.metrics]
        return arrays, metrics

    def _recomputed(
        self, server_round: int, held: Sequence[tuple[Message, bytes]], seed: int
    ) -> tuple[Strategy, ArrayRecord | None, MetricRecord | None]:
        """Apply the strategy on a snapshot of its state; replies are decoded anew, as strategies may consume them."""
        snapshot = copy.deepcopy(self._inner)
        replies = [
            flower.build_message(flower.metadata_fields(reply.metadata), codec.decode(data)) for reply, data in held
        ]
        with seeded(seed):
            return snapshot, *snapshot.aggregate_train(server_round, replies)

    def _decide(self, operation: bytes, round_: RegionRound | EverybodyRound) -> Outcome:
        decision = self._council.agree(operation, round_.judge)
        self.decisions.append((decision, round_.notes))
        committed = _outcome(decision.block.operations)
        assert committed is not None, "correct replicas vote for outcomes only"
        return committed


def _outcome(operations: Sequence[bytes]) -> Outcome | None:
    found = [item for operation in operations if (item := outcome.decode(operation)) is not None]
    return found[-1] if found else None


def _digest(content: RecordDict) -> bytes:
    return hashlib.sha256(codec.encode(content)).digest()


def _digests(arrays: ArrayRecord | None, metrics: MetricRecord | None) -> Digests:
    told = RecordDict({"metrics": metrics}) if metrics is not None else RecordDict()
    return arrays_digest(numpy_arrays(arrays)) if arrays is not None else bytes(32), _digest(told)


def _record(arrays: dict[str, NDArray[Any]]) -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in arrays.items()})
