"""fedshard's Grid: what a ServerApp talks to when a federation runs on one machine."""

import hashlib
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from logging import getLogger

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict, UserConfig
from flwr.serverapp import Grid

from fl.engine import codec, flower
from fl.engine.events import BatchEvent, Observer, RoundEvent
from fl.engine.executor import Executor, NodeStates
from fl.engine.record import Entry, ReplyRecord
from fl.engine.seeding import derive
from fl.engine.snapshot import Snapshot, SnapshotStore
from fl.engine.worker import Call, Reply
from shards.errors import InputError

_LOG = getLogger("fedshard")
_WAITING_CALLS, _WAITING_SECONDS = 5, 5.0  # Flower's strategies ask once a second while they wait for nodes
_PAUSE_SECONDS = 15.0  # who asks this long after the last time is not waiting


@dataclass(frozen=True)
class Nodes:
    """The simulated nodes: ids are derived from the seed, as large as Flower's, and listed by partition."""

    configs: dict[int, UserConfig]

    @classmethod
    def create(cls, count: int, seed: int, extra: UserConfig) -> "Nodes":
        """Make `count` nodes; `extra` joins each node's configuration."""
        configs: dict[int, UserConfig] = {}
        for partition in range(count):
            node = derive(seed, "node", partition, bits=63) | 1 << 32  # clear of Flower's reserved small ids
            partitions = {flower.PARTITION_ID_KEY: partition, flower.NUM_PARTITIONS_KEY: count}
            configs[node] = {**partitions, **extra}
        return cls(configs)


@dataclass(eq=False)
class _Sent:
    """A message on its way: `future` holds the reply, from a worker or from the record."""

    call: Call
    digest: str
    future: "Future[Reply | None]"
    server_round: int | None
    at: float = field(default_factory=time.monotonic)
    replayed: bool = False


class EngineGrid(Grid):
    """A Grid without polling: a message goes straight to a worker and its reply wakes the ServerApp.

    Replies are delivered in the order in which their messages were sent, and made durable before that.
    ``pull_messages`` waits for every message it is asked about, so that no result depends on the moment of a poll.

    Parameters
    ----------
    run : Run
        Described by ``grid.run``.
    nodes : Nodes
        Who can be sent messages.
    executor : Executor
        Executes the calls.
    states : NodeStates
        The states that the executor reads and writes; replayed replies update them too.
    seed : int
        Message ids and the seed of every call derive from it.
    client_timeout : float
        Seconds that a client may take for one message (``math.inf``: only the message's own ttl counts).
    record : ReplyRecord or None
        Where delivered replies go and, on resume, come from.
    snapshots : SnapshotStore or None
        Where `snapshot` puts the states.
    observers : sequence of Observer
        Receive every exchange, and every round that the ServerApp reports.
    """

    def __init__(
        self,
        *,
        run: flower.Run,
        nodes: Nodes,
        executor: Executor,
        states: NodeStates,
        seed: int,
        client_timeout: float,
        record: ReplyRecord | None = None,
        snapshots: SnapshotStore | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._run, self._nodes, self._executor, self._states = run, nodes, executor, states
        self._seed, self._client_timeout, self._observers = seed, client_timeout, observers
        self._record, self._snapshots = record, snapshots
        self._counters: dict[int, int] = {}  # messages sent to each node so far
        self._sent: dict[str, _Sent] = {}
        self._restored: RecordDict | None = None
        self._asked = (0.0, 0.0, 0)  # the first and last time the ServerApp asked for nodes since it sent; how often
        self._owner = threading.get_ident()
        if snapshots is not None and (latest := snapshots.latest()) is not None:
            self._counters = dict(latest.counters)
            for node, state in latest.states.items():
                states.update(node, state)
            self._restored = codec.decode(latest.server)

    def set_run(self, run: flower.Run) -> None:
        """Replace the run's description."""
        self._run = run

    @property
    def run(self) -> flower.Run:
        """The run's description."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message (deprecated by Flower in favour of the constructor)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the node ids, by partition.

        Raises
        ------
        InputError
            If the ServerApp keeps asking without sending anything: it waits for nodes that will never come.
        """
        if threading.get_ident() == self._owner and not self._sent:  # a legacy server's other thread asks regularly
            now = time.monotonic()
            first, last, calls = self._asked
            if calls == 0 or now - last > _PAUSE_SECONDS:
                first, calls = now, 0
            self._asked = first, now, calls + 1
            if calls >= _WAITING_CALLS and now - first > _WAITING_SECONDS:
                raise too_few_nodes(len(self._nodes.configs))
        return list(self._nodes.configs)

    def get_nodes(self) -> Iterable[flower.NodeInfo]:
        """Return what is known of each node: it is online."""
        return [flower.NodeInfo(node_id=node, status="online") for node in self._nodes.configs]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; clients start on them at once.

        Returns
        -------
        list[str]
            One id per message, without those addressed to unknown nodes, which are logged and dropped.
        """
        self._asked = (0.0, 0.0, 0)
        # A round sends one content to all: encoded once, unless an iterator may change it between two messages.
        shared = isinstance(messages, list | tuple)
        encoded: dict[int, tuple[bytes, str]] = {}
        by_digest: dict[str, bytes] = {}
        ids = []
        for message in messages:
            if message.metadata.reply_to_message_id or message.metadata.ttl <= 0:
                raise ValueError(f"Invalid message: {message}")
            content = message.content
            if not shared or id(content) not in encoded:
                data = codec.encode(content)
                digest = hashlib.sha256(data).hexdigest()
                encoded[id(content)] = by_digest.setdefault(digest, data), digest
            data, content_digest = encoded[id(content)]
            if message.metadata.dst_node_id not in self._nodes.configs:
                _LOG.error("no node %s: message dropped", message.metadata.dst_node_id)
                continue
            ids.append(self._push(message, data, content_digest))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Wait for the replies to these messages and return them, each once, in sending order."""
        wanted = set(message_ids)
        return self._deliver([message_id for message_id in list(self._sent) if message_id in wanted])

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages and return the replies in sending order.

        Clients that have not replied after `timeout` seconds are stopped; their messages stay unanswered.
        """
        ids = list(self.push_messages(messages))
        wait_for([self._sent[message_id].future for message_id in ids], timeout=timeout)
        late = [sent.future for i in ids if not (sent := self._sent[i]).future.done()]
        if late:
            self._executor.abandon(late)
        return self._deliver(ids)

    def snapshot(self, state: RecordDict) -> None:
        """Make the ServerApp's state durable, with every node's, so that a resumed run starts from here.

        Call it between exchanges; `restored` returns the state in a resumed run. Without a run folder it does
        nothing.
        """
        if self._snapshots is None or self._sent:
            return
        self._record = self._snapshots.save(
            Snapshot(codec.encode(state), dict(self._counters), dict(self._states.items())), self._record
        )

    def restored(self) -> RecordDict | None:
        """Return the state last given to `snapshot` before the run was interrupted, or None."""
        return self._restored

    def report(self, event: RoundEvent) -> None:
        """Tell the run's observers how a round ended; a ServerApp of ours calls it, others need not."""
        for observer in self._observers:
            observer.on_round(event)

    @property
    def recorded(self) -> bool:
        """Whether every delivered reply is in the record (or no record is kept)."""
        return self._record is None or not self._record.full

    def close(self) -> None:
        """Close the record."""
        if self._record is not None:
            self._record.close()

    def _push(self, message: Message, data: bytes, content_digest: str) -> str:
        metadata = message.metadata
        node = metadata.dst_node_id
        number = self._counters[node] = self._counters.get(node, 0) + 1
        message_id = f"{derive(self._seed, 'message', node, number, bits=256):064x}"
        flower.stamp(message, message_id)
        call = Call(
            {**flower.metadata_fields(metadata), "src_node_id": flower.SUPERLINK_NODE_ID},
            data,
            self._nodes.configs[node],
            derive(self._seed, "call", node, number),
        )
        digest = hashlib.sha256(f"{metadata.message_type}|{node}|{content_digest}".encode()).hexdigest()
        replayed = self._replay(message_id, digest)
        if replayed is None:
            limit = min(self._client_timeout, metadata.ttl)
            future: Future[Reply | None] = self._executor.submit(call, limit)
        else:
            future = Future()
            future.set_result(replayed.reply)
            if replayed.reply is not None:
                self._states.update(node, replayed.reply.state)
        self._sent[message_id] = _Sent(call, digest, future, round_of(message), replayed=replayed is not None)
        return message_id

    def _replay(self, message_id: str, digest: str) -> Entry | None:
        entry = self._record.entries.pop(message_id, None) if self._record else None
        if entry is not None and entry.request_digest != digest:
            raise InputError(
                "resume: the ServerApp sent a message other than the recorded one, so its results depend on "
                "something beyond the seed (time, environment, global state); start a new run"
            )
        return entry

    def _deliver(self, ids: Sequence[str]) -> list[Message]:
        """Wait for, record and return the replies; a cancelled future is a message that stays unanswered."""
        batch = [self._sent[message_id] for message_id in ids]
        entries = [Entry(message_id, sent.digest, _reply(sent)) for message_id, sent in zip(ids, batch, strict=True)]
        for message_id in ids:
            del self._sent[message_id]
        fresh = [entry for sent, entry in zip(batch, entries, strict=True) if not sent.replayed]
        if self._record is not None and fresh:
            self._record.append(fresh)
        answered = [(sent, entry.reply.message) for sent, entry in zip(batch, entries, strict=True) if entry.reply]
        if batch:
            event = self._summary(batch, [entry.reply for entry in entries], answered)
            for observer in self._observers:
                observer.on_batch(event)
        return [message for _, message in answered]

    def _summary(
        self, batch: Sequence[_Sent], replies: Sequence[Reply | None], answered: Sequence[tuple[_Sent, Message]]
    ) -> BatchEvent:
        failures = [(s, r) for s, r in zip(batch, replies, strict=True) if r is None or r.failed]
        error, details = None, ""
        if failures:
            sent, reply = failures[0]
            reason = codec.decode_error(reply.body).reason if reply else "no reply before the server's timeout"
            error, details = f"client {_partition(sent)}: {reason}", reply.details if reply else ""
        return BatchEvent(
            message_type=batch[0].call.metadata["message_type"],
            server_round=batch[0].server_round,
            sent=len(batch),
            replied=len(batch) - len(failures),
            failed=len(failures),
            seconds=time.monotonic() - min(sent.at for sent in batch),
            error=error,
            details=details,
            replayed=all(sent.replayed for sent in batch),
            clients={_partition(sent): _scalars(message) for sent, message in answered if message.has_content()},
        )


def _reply(sent: _Sent) -> Reply | None:
    try:
        return sent.future.result()
    except CancelledError:
        return None


def _partition(sent: _Sent) -> int:
    return int(sent.call.node_config[flower.PARTITION_ID_KEY])


def _scalars(message: Message) -> dict[str, float]:
    """Read the scalars of a message's metric records: counts and metrics, whatever the records are called."""
    records = [record for record in message.content.values() if isinstance(record, MetricRecord)]
    return {name: value for record in records for name, value in record.items() if isinstance(value, int | float)}


def too_few_nodes(count: int) -> InputError:
    """Say that the ServerApp waits for nodes that will never come."""
    return InputError(
        f"the ServerApp keeps waiting for more than the {count} simulated clients; raise --clients, or "
        "lower the strategy's minimum of nodes"
    )


def round_of(message: Message) -> int | None:
    """Read a message's round from where Flower's strategies put it (message API), or from the group id (legacy)."""
    for record in message.content.values():
        if isinstance(record, ConfigRecord) and isinstance(number := record.get("server-round"), int):
            return number
    return int(message.metadata.group_id) if message.metadata.group_id.isdigit() else None
