"""Every private Flower name that fedshard relies on; ``tests/fl/engine/test_flower_contract.py`` pins each one.

Nothing outside this file imports from Flower's private modules, so a new Flower release is checked here.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flwr.server.server as legacy_server
from flwr.app import Context, Error, Message, Metadata, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.common.config import flatten_dict, get_project_config
from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY, SUPERLINK_NODE_ID, ErrorCode, SType
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import ServerApp
from flwr.serverapp.server_app import LoadServerAppError
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore.object_ref import load_app
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "NUM_PARTITIONS_KEY",
    "PARTITION_ID_KEY",
    "SUPERLINK_NODE_ID",
    "ErrorCode",
    "NodeInfo",
    "Run",
    "SType",
    "flatten_dict",
    "get_project_config",
]

_SERVER_TASK_ID = 1


def set_identity(run_id: int, node_id: int) -> None:
    """Say who creates messages in this process: a plain ``Message(...)`` in an app reads it."""
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = node_id
    TaskIdentity.task_id = _SERVER_TASK_ID


def load_client_app(reference: str, app_dir: Path) -> ClientApp:
    """Import ``module:attribute`` from an app folder; raises what the import raises, or ``TypeError``."""
    app = load_app(reference, LoadClientAppError, app_dir)
    if not isinstance(app, ClientApp):
        raise TypeError(f"{reference} is a {type(app).__name__}, not a ClientApp")
    return app


def load_server_app(reference: str, app_dir: Path) -> ServerApp:
    """Import ``module:attribute`` from an app folder; raises what the import raises, or ``TypeError``."""
    app = load_app(reference, LoadServerAppError, app_dir)
    if not isinstance(app, ServerApp):
        raise TypeError(f"{reference} is a {type(app).__name__}, not a ServerApp")
    return app


def make_run(run_id: int, overrides: UserConfig) -> Run:
    """Describe a run to the ServerApp, as a SuperLink would."""
    run = Run.create_empty(run_id)
    run.override_config = overrides
    return run


def stamp(message: Message, message_id: str) -> None:
    """Give an outgoing message its identity; Flower leaves this to the SuperLink."""
    message.metadata.__dict__["_message_id"] = message_id


def metadata_fields(metadata: Metadata) -> dict[str, Any]:
    """Return the constructor arguments that rebuild a message's metadata in another process."""
    names = (
        "run_id message_id src_node_id dst_node_id reply_to_message_id group_id created_at ttl message_type "
        "src_task_id dst_task_id"
    )
    return {name: getattr(metadata, name) for name in names.split()}


def build_message(fields: dict[str, Any], content: RecordDict | None = None, error: Error | None = None) -> Message:
    """Rebuild a message from `metadata_fields` and its content or error."""
    arguments = {"content": content} if error is None else {"error": error}
    return Message(**arguments, metadata=Metadata(**fields))  # type: ignore[call-overload, no-any-return]


def build_context(run_id: int, node_id: int, node_config: UserConfig, run_config: UserConfig) -> Context:
    """Return a fresh context with empty state."""
    return Context(run_id=run_id, node_id=node_id, node_config=node_config, state=RecordDict(), run_config=run_config)


@contextmanager
def canonical_legacy_order() -> Iterator[None]:
    """Sort what legacy servers gather: they sum replies in the order of a set of futures, which no seed fixes."""
    originals = {name: getattr(legacy_server, name) for name in ("fit_clients", "evaluate_clients")}

    def ordered(gather: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            results, failures = gather(*args, **kwargs)
            return sorted(results, key=lambda pair: int(pair[0].cid)), failures

        return wrapper

    try:
        for name, original in originals.items():
            setattr(legacy_server, name, ordered(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(legacy_server, name, original)


@contextmanager
def observed_results(on_result: Callable[[Result], None]) -> Iterator[None]:
    """Report the `Result` of each ``Strategy.start``, and the parameters and history of each legacy server.

    A legacy server's outcome is translated to a `Result`, so that observers see one shape.
    """
    start, fit = Strategy.start, legacy_server.Server.fit

    def observed_start(self: Strategy, *args: Any, **kwargs: Any) -> Result:
        result = start(self, *args, **kwargs)
        on_result(result)
        return result

    def observed_fit(self: legacy_server.Server, *args: Any, **kwargs: Any) -> Any:
        outcome = fit(self, *args, **kwargs)
        on_result(_legacy_result(self, outcome[0]))
        return outcome

    Strategy.start, legacy_server.Server.fit = observed_start, observed_fit  # type: ignore[method-assign]
    try:
        yield
    finally:
        Strategy.start, legacy_server.Server.fit = start, fit  # type: ignore[method-assign]


def _legacy_result(server: legacy_server.Server, history: Any) -> Result:
    from flwr.app import MetricRecord
    from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord

    result = Result()
    result.arrays = parameters_to_arrayrecord(server.parameters, keep_input=True)

    def collect(losses: list[tuple[int, float]], metrics: dict[str, Any]) -> dict[int, MetricRecord]:
        rounds: dict[int, dict[str, Any]] = {number: {"loss": float(loss)} for number, loss in losses}
        for name, series in metrics.items():
            for number, value in series:
                if isinstance(value, int | float):
                    rounds.setdefault(number, {})[name] = value
        return {number: MetricRecord(values) for number, values in rounds.items()}

    result.train_metrics_clientapp = collect([], history.metrics_distributed_fit)
    result.evaluate_metrics_clientapp = collect(history.losses_distributed, history.metrics_distributed)
    result.evaluate_metrics_serverapp = collect(history.losses_centralized, history.metrics_centralized)
    return result


@contextmanager
def flower_log(level: int) -> Iterator[None]:
    """Show Flower's own log from a level upwards for the duration of a run."""
    logger = logging.getLogger("flwr")
    before = [(handler, handler.level) for handler in logger.handlers]
    for handler in logger.handlers:
        handler.setLevel(level)
    try:
        yield
    finally:
        for handler, old in before:
            handler.setLevel(old)
