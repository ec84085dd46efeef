"""Every private Flower name that fedshard relies on; ``tests/fl/engine/test_flower_contract*.py`` pin each one.

Nothing outside this file imports from Flower's private modules, so a new Flower release is checked here.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, wraps
from io import BytesIO
from pathlib import Path
from typing import Any

import flwr.server.compat.app as legacy_app
import flwr.server.server as legacy_server
import flwr.server.workflow.default_workflows as legacy_workflows
import numpy as np
from flwr.app import Array, ArrayRecord, Context, Error, Message, Metadata, MetricRecord, RecordDict, UserConfig
from flwr.app.message.typeddict import TypedDict
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.common.config import flatten_dict
from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY, SUPERLINK_NODE_ID, ErrorCode, SType
from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord
from flwr.proto.node_pb2 import NodeInfo
from flwr.server.client_manager import SimpleClientManager
from flwr.server.workflow.constant import MAIN_PARAMS_RECORD
from flwr.serverapp import ServerApp
from flwr.serverapp.server_app import LoadServerAppError
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore.object_ref import load_app
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

__all__ = [
    "NUM_PARTITIONS_KEY",
    "PARTITION_ID_KEY",
    "PLAIN_TYPES",
    "SUPERLINK_NODE_ID",
    "ErrorCode",
    "NodeInfo",
    "Run",
    "SType",
    "flatten_dict",
]

PLAIN_TYPES = ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")
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
def quick_records() -> Iterator[None]:
    """Do what Flower's records do in less time, which small models' messages mostly consist of.

    Arrays become the bytes `Array` always makes, without NumPy writing its text header anew for each. Setting an item
    checks key and value as ever, without making the types that Flower names to type checkers at each call.
    """
    original = vars(Array)["from_numpy_ndarray"]

    def quick(cls: type[Array], ndarray: NDArray[Any]) -> Array:
        dtype = str(ndarray.dtype)
        if type(ndarray) is not np.ndarray or dtype not in PLAIN_TYPES or not ndarray.flags.c_contiguous:
            return original.__func__(cls, ndarray)  # type: ignore[no-any-return]
        array = Array.__new__(Array)
        data = numpy_header(dtype, ndarray.shape) + ndarray.tobytes()
        vars(array).update(dtype=dtype, shape=ndarray.shape, stype=SType.NUMPY, data=data)
        return array

    def set_item(self: Any, key: Any, value: Any) -> None:
        fields = self.__dict__
        fields["_check_key_fn"](key)
        fields["_check_value_fn"](value)
        fields["_data"][key] = value

    arrays: Any = Array
    records: Any = TypedDict
    slow_set = records.__setitem__
    arrays.from_numpy_ndarray, records.__setitem__ = classmethod(quick), set_item
    try:
        yield
    finally:
        arrays.from_numpy_ndarray, records.__setitem__ = original, slow_set


@lru_cache(maxsize=1024)
def numpy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the header that ``numpy.save`` writes before the values of a C-contiguous array of a plain type."""
    buffer = BytesIO()
    fields = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


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
def bounded_legacy_waits(error: Exception) -> Iterator[None]:
    """Raise where a legacy server waits (a day) for more clients than there are."""
    wait_for = SimpleClientManager.wait_for

    def checked(self: SimpleClientManager, num_clients: int, timeout: int = 86400) -> bool:
        if num_clients > self.num_available():  # registers the grid's nodes first
            raise error
        return wait_for(self, num_clients, timeout)

    SimpleClientManager.wait_for = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        SimpleClientManager.wait_for = wait_for  # type: ignore[method-assign]


@contextmanager
def joined_legacy_threads() -> Iterator[None]:
    """End the threads with which legacy servers watch for nodes: one that raises leaves its thread running."""
    modules: tuple[Any, ...] = (legacy_app, legacy_workflows)
    start = modules[0].start_update_client_manager_thread
    started: list[tuple[threading.Thread, threading.Event]] = []

    def observed(*args: Any, **kwargs: Any) -> Any:
        thread, stop, done = start(*args, **kwargs)
        started.append((thread, stop))
        return thread, stop, done

    for module in modules:
        module.start_update_client_manager_thread = observed
    try:
        yield
    finally:
        for module in modules:
            module.start_update_client_manager_thread = start
        for thread, stop in started:
            stop.set()
            thread.join()


@contextmanager
def observed_results(on_result: Callable[[Result], None]) -> Iterator[None]:
    """Report the `Result` of each ``Strategy.start``, and what each legacy server or workflow came to.

    A strategy or server with a ``start`` or ``fit`` of its own is observed too. Legacy outcomes are translated to
    a `Result`, so that observers see one shape.
    """

    def server_result(self: legacy_server.Server, outcome: Any, *_: Any, **__: Any) -> Result:
        return _legacy_result(parameters_to_arrayrecord(self.parameters, keep_input=True), outcome[0])

    def workflow_result(self: Any, outcome: None, grid: Any, context: Any) -> Result:
        return _legacy_result(context.state.array_records[MAIN_PARAMS_RECORD], context.history)

    with ExitStack() as stack:
        for base, name, result_of in (
            (Strategy, "start", lambda self, result, *_, **__: result),
            (legacy_server.Server, "fit", server_result),
            (legacy_workflows.DefaultWorkflow, "__call__", workflow_result),
        ):
            for owner in _owners(base, name):
                original = vars(owner)[name]
                setattr(owner, name, _reporting(original, result_of, on_result))
                stack.callback(setattr, owner, name, original)
        yield


def _owners(base: type, name: str) -> list[type]:
    """Return the classes below `base`, itself included, that define a method."""
    found = [base]
    for owner in found:
        found.extend(owner.__subclasses__())
    return [owner for owner in dict.fromkeys(found) if name in vars(owner)]


def _reporting(method: Any, result_of: Callable[..., Result], on_result: Callable[[Result], None]) -> Any:
    @wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        outcome = method(self, *args, **kwargs)
        on_result(result_of(self, outcome, *args, **kwargs))
        return outcome

    return wrapper


def _legacy_result(arrays: ArrayRecord, history: Any) -> Result:
    result = Result()
    result.arrays = arrays

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
    """Show Flower's own log from a level upwards for a while; what apps log through Flower's logger stays visible."""
    own = str(Path(legacy_server.__file__).parents[1])

    def wanted(record: logging.LogRecord) -> bool:
        return record.levelno >= level or not record.pathname.startswith(own)

    handlers = list(logging.getLogger("flwr").handlers)
    for handler in handlers:
        handler.addFilter(wanted)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(wanted)
