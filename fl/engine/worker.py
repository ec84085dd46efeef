"""Running one message through a ClientApp, and the loop of a worker process around it.

A worker keeps nothing between calls: the node's state comes with the call and returns with the reply, so a
worker can be killed at any moment and another can take its place.
"""

import contextlib
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict, UserConfig
from flwr.clientapp import ClientApp

from fl.engine import codec, flower, wire
from fl.engine.seeding import seed_generators
from fl.engine.wire import Claims


@dataclass(frozen=True)
class Call:
    """One message for one node, ready to be executed anywhere.

    Attributes
    ----------
    metadata : dict
        Arguments that rebuild the message's metadata.
    content : bytes
        The encoded record dictionary of the message.
    node_config : dict
        ``partition-id``, ``num-partitions`` and what the engine adds.
    seed : int
        Seeds Python's, NumPy's and torch's generators for the call.
    """

    metadata: dict[str, Any]
    content: bytes
    node_config: UserConfig
    seed: int


@dataclass(frozen=True)
class Reply:
    """What came of a call.

    Attributes
    ----------
    metadata : dict
        Arguments that rebuild the reply's metadata.
    body : bytes
        The encoded content, or the encoded error where `failed`.
    failed : bool
        Whether `body` is an error.
    state : bytes or None
        The node's new encoded state; None where the call failed, which leaves the old one in force.
    details : str
        The traceback of a failed call, for the run's log; empty otherwise.
    """

    metadata: dict[str, Any]
    body: bytes
    failed: bool = False
    state: bytes | None = None
    details: str = ""

    @cached_property
    def message(self) -> Message:
        """The reply as the ServerApp sees it; decoded once, and handed over once."""
        if self.failed:
            return flower.build_message(self.metadata, error=codec.decode_error(self.body))
        return flower.build_message(self.metadata, content=codec.decode(self.body))


def error_reply(call: Call, code: int, reason: str, details: str = "") -> Reply:
    """Answer a call with an error in place of its ClientApp."""
    request = flower.build_message(call.metadata, content=RecordDict())
    reply = Message(Error(code=code, reason=reason), reply_to=request)
    return Reply(
        flower.metadata_fields(reply.metadata),
        codec.encode_error(reply.error),
        failed=True,
        details=details,
    )


def execute(app: ClientApp, call: Call, state: bytes, run_config: UserConfig) -> Reply:
    """Run one call through a ClientApp; every failure of the app becomes an error reply.

    The caller seeds the generators with the call's seed: a worker just does, this process also puts them back.

    Parameters
    ----------
    app : ClientApp
        The app, mods and lifespan included.
    call : Call
        The message and its seed.
    state : bytes
        The node's encoded state.
    run_config : dict
        The resolved run configuration; an app that changes it gets an error reply, as under Flower.

    Returns
    -------
    Reply
        The app's reply and the node's new state.
    """
    metadata = call.metadata
    node = metadata["dst_node_id"]
    flower.set_identity(metadata["run_id"], node)
    context = flower.build_context(metadata["run_id"], node, dict(call.node_config), dict(run_config))
    context.state = codec.decode(state)
    message = flower.build_message(metadata, content=codec.decode(call.content))
    try:
        reply = app(message, context)
        if not isinstance(reply, Message):
            raise TypeError(f"the ClientApp returned {type(reply).__name__}, not a Message")
        if context.run_config != run_config:
            raise ValueError("the ClientApp changed context.run_config, which is read-only")
        if reply.has_error():
            fields = flower.metadata_fields(reply.metadata)
            return Reply(fields, codec.encode_error(reply.error), failed=True, state=codec.encode(context.state))
        if metadata["message_type"].split(".")[0] == "train":
            _check_finite(reply.content)
        return Reply(
            flower.metadata_fields(reply.metadata),
            codec.encode(reply.content),
            state=codec.encode(context.state),
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also sys.exit and asyncio's CancelledError
        return error_reply(call, flower.ErrorCode.CLIENT_APP_RAISED_EXCEPTION, _reason(error), traceback.format_exc())


def _reason(error: BaseException) -> str:
    """Name the exception and the innermost line of the user's own code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and Path(f.filename) != Path(__file__)]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name})" if own else ""
    try:
        return f"{type(error).__name__}: {error}{where}"
    except Exception:  # an error that cannot say what it is about
        return f"{type(error).__name__}{where}"


def _check_finite(content: RecordDict) -> None:
    """Refuse NaN and infinity in a training reply: one such reply would spoil the whole aggregate."""
    for record in content.values():
        for name, values in _numbers(record):
            if values.dtype.kind in "fc" and not np.isfinite(values).all():
                raise ValueError(f"the reply holds NaN or infinity in '{name}'")


def _numbers(record: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(record, ArrayRecord):
        numeric = ((name, array) for name, array in record.items() if array.stype == flower.SType.NUMPY)
        return ((name, array.numpy() if (v := codec.values(array)) is None else v) for name, array in numeric)
    if isinstance(record, MetricRecord):
        return ((name, np.asarray(value)) for name, value in record.items())
    return ()


def serve(connection: Connection, claims: Claims | None, app: ClientApp, run_config: UserConfig) -> None:
    """Answer calls until the other end goes away.

    Parameters
    ----------
    connection : Connection
        Calls come and replies go here, in the same order.
    claims : Claims or None
        Where calls may be sent ahead and taken back before they begin.
    app : ClientApp
        What executes them.
    run_config : dict
        The resolved run configuration.
    """
    torch.set_num_threads(1)
    content = codec.EMPTY
    connection.send_bytes(b"")  # ready: the time of the first call starts now
    while True:
        try:
            header, (state, *fresh) = wire.receive(connection)
        except (EOFError, OSError):
            return
        content = fresh[0] if fresh else content
        if claims is not None and not claims.claim():
            continue
        call = Call(content=content, **header)
        seed_generators(call.seed)
        reply = execute(app, call, state, run_config)
        with contextlib.suppress(Exception):  # the app may have closed it
            sys.stdout.flush()  # a worker may be killed at any time: what the app printed must not wait in a buffer
        fields = {"metadata": reply.metadata, "failed": reply.failed, "details": reply.details}
        state_follows = () if reply.state is None else (reply.state,)
        wire.send(connection, fields, reply.body, *state_follows)


def send_call(connection: Connection, call: Call, state: bytes, content_follows: bool) -> None:
    """Send a call to a worker that runs `serve`; its content only where it is not that of the call sent before.

    A round sends the same model to every client.
    """
    header = {"metadata": call.metadata, "node_config": call.node_config, "seed": call.seed}
    wire.send(connection, header, state, *((call.content,) if content_follows else ()))


def receive_reply(connection: Connection) -> Reply:
    """Receive the reply to `send_call`; raises EOFError or OSError where the worker died."""
    header, (body, *state) = wire.receive(connection)
    return Reply(body=body, state=state[0] if state else None, **header)
