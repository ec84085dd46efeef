"""The ClientApp that fedshard ships: local training on the client's own rows, private unless switched off.

With privacy on, what leaves is the noised update alone: weights are configured, metrics are withheld, errors name
no data, and a client that has nothing left to train on still replies (with noise). The ledger is charged, durably
and together with the bytes to send, before anything is sent.
"""

import hashlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from fl.client_data import ClientData, Holder
from fl.council import certificate
from fl.data import Records
from fl.engine import codec
from fl.engine.app import PRIVATE_KEY, SEED_KEY
from fl.engine.grid import round_of
from fl.home import home
from fl.model import build_model, evaluate, load_weights, tensors, weights
from fl.privacy import RecordLedger, client_secret, event_streams, simulated_secret, train_private
from fl.settings import WEIGHT_KEY, Settings
from shards.errors import FedshardError

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on this client's rows and reply with the new weights.

    With a council, a model without the block that made it is refused.
    """
    client = _Client(Settings.read(context.run_config), context)
    if client.settings.council_replicas:
        certificate.check(message, context, _round(message))
    if not client.settings.private:
        return Message(client.train_openly(message), reply_to=message)
    try:
        return Message(client.train_privately(message), reply_to=message)
    except Exception:
        # The reason of an error reply travels to the server: what failed, and on which rows, stays here.
        client.note(traceback.format_exc())
        raise ClientError("training failed; client.log in this client's private folder says why") from None


@app.evaluate()
def evaluate_locally(message: Message, context: Context) -> Message:
    """Evaluate the received model on the rows held out; refused under privacy, where no one charged for it."""
    client = _Client(Settings.read(context.run_config), context)
    if client.settings.private:
        raise ClientError("metrics on local data are withheld while privacy is on")
    rows = client.held_out(message)
    metrics = {**evaluate(client.model(message), rows, client.settings.objective()), WEIGHT_KEY: len(rows)}
    return Message(RecordDict({"metrics": MetricRecord({**metrics})}), reply_to=message)


class ClientError(FedshardError):
    """A client could not serve a message; the text names no data."""


@dataclass(frozen=True)
class _Client:
    settings: Settings
    context: Context

    @property
    def index(self) -> int:
        return int(self.context.node_config["partition-id"])

    @property
    def name(self) -> str:
        return f"client-{self.index}"

    @cached_property
    def private_folder(self) -> Path:
        configured = self.context.node_config.get(PRIVATE_KEY)
        folder = Path(str(configured)) if configured else home() / "private" / f"client-{self.index}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    @property
    def secret(self) -> bytes:
        seed = self.context.node_config.get(SEED_KEY)
        return client_secret(self.private_folder) if seed is None else simulated_secret(int(seed), self.index)

    @cached_property
    def data(self) -> ClientData:
        """The client's rows, to be read by request."""
        node = self.context.node_config
        holder = Holder(self.name, self.index, int(node["num-partitions"]), self.private_folder, SEED_KEY in node)
        return ClientData(self.settings, holder, self.context.state)

    def held_out(self, message: Message) -> Records:
        rows = self.data.evaluate(_round(message)) if self.settings.local_test_fraction else None
        if not rows:
            raise ClientError("no rows are held out here; set local-test-fraction")
        return rows

    def model(self, message: Message) -> nn.Module:
        model = build_model(self.settings.model)
        load_weights(model, next(iter(message.content.array_records.values())))
        return model

    def train_openly(self, message: Message) -> RecordDict:
        """Plain SGD on shuffled minibatches, weighted by the number of rows."""
        settings, model = self.settings, self.model(message)
        task = settings.objective()
        features, labels = tensors(self.data.train(_round(message)))
        optimizer = torch.optim.SGD(model.parameters(), settings.learning_rate, settings.momentum)
        model.train()
        losses = []
        for _ in range(settings.local_epochs):
            for batch in torch.split(torch.randperm(len(labels)), settings.batch_size) if len(labels) else ():
                loss = task.loss(model(features[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.item())
        with self._at_no_cost():
            self.data.settle(_round(message))
        metrics = {WEIGHT_KEY: len(labels), "loss": float(np.mean(losses or 0.0))}
        return RecordDict({"arrays": weights(model), "metrics": MetricRecord({**metrics})})

    def train_privately(self, message: Message) -> RecordDict:
        """DP-SGD, charged before the reply is returned; a repeated request gets the same bytes again."""
        request = codec.encode(message.content)
        event = f"run {self.context.run_id} round {_round(message)}"
        ledger = RecordLedger(self.private_folder / "ledger.sqlite")
        reply = ledger.released(self.name, event, request)
        if reply is None:
            reply = self._charged_update(ledger, event, request, message)
        else:  # a retry: the state that the first attempt left was lost with it
            with self._at_no_cost():
                self.data.train(_round(message))
        with self._at_no_cost():
            self.data.settle(_round(message))
        return codec.decode(reply)

    def _charged_update(self, ledger: RecordLedger, event: str, request: bytes, message: Message) -> bytes:
        settings, mechanism = self.settings, self.settings.mechanism()
        rows = self.data.train(_round(message))
        before = ledger.charged(self.name, event, request)
        if before is None:
            within = ledger.affordable(self.name, rows.ids, mechanism, settings.epsilon, settings.delta)
        else:
            within = np.isin(rows.ids, before)
        eligible = rows.select(within)
        if len(eligible) < len(rows):
            self.note(f"{len(rows) - len(eligible)} of {len(rows)} records have spent their budget and stay out")
        model = self.model(message)
        features, labels = tensors(eligible)
        streams = event_streams(self.secret, event, request + _fingerprint(eligible, settings))
        train_private(
            model,
            features,
            labels,
            mechanism=mechanism,
            clipping_norm=settings.clipping_norm,
            expected_batch_size=settings.expected_batch_size,
            learning_rate=settings.dp_learning_rate,
            momentum=settings.momentum,
            loss_fn=settings.objective().loss,
            coins=streams.coins,
            noise=streams.noise,
        )
        update = RecordDict({"arrays": weights(model), "metrics": MetricRecord({WEIGHT_KEY: 1})})
        return ledger.charge(self.name, event, request, codec.encode(update), mechanism, eligible.ids)

    @contextmanager
    def _at_no_cost(self) -> Iterator[None]:
        """Note a failure and go on: the reply is made, and paid for, whatever becomes of the cut and its log."""
        try:
            yield
        except FedshardError as error:
            self.note(f"shards: {error}")

    def note(self, text: str) -> None:
        """Keep something that only this client may know."""
        with (self.private_folder / "client.log").open("a", encoding="utf-8") as log:
            log.write(f"{self.name}, run {self.context.run_id}: {text}\n")


def _fingerprint(rows: Records, settings: Settings) -> bytes:
    """Digest all that a noised value is computed from: other rows or settings must never get the same noise."""
    digest = hashlib.sha256(repr(settings).encode())
    for column in (rows.ids, rows.features, rows.labels):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.digest()


def _round(message: Message) -> int:
    server_round = round_of(message)
    if server_round is None:
        raise ClientError("the message names no round")
    return server_round
