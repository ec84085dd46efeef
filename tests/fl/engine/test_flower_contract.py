"""What fedshard relies on in Flower beyond its public modules; a new Flower release is judged by this file."""

import ast
import inspect
import logging
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.app.message.typeddict import TypedDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from fl.engine import flower
from fl.engine.codec import DecodedArray

ROOT = Path(__file__).parents[3]
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}
# Every private name that fl/engine/flower.py imports; each has a test here or in test_flower_contract_legacy.py.
PINNED = {
    "flwr.server.server",
    "flwr.app.message.typeddict.TypedDict",
    "flwr.clientapp.client_app.LoadClientAppError",
    "flwr.common.config.flatten_dict",
    "flwr.common.config.get_project_config",
    "flwr.common.constant.NUM_PARTITIONS_KEY",
    "flwr.common.constant.PARTITION_ID_KEY",
    "flwr.common.constant.SUPERLINK_NODE_ID",
    "flwr.common.constant.ErrorCode",
    "flwr.common.constant.SType",
    "flwr.proto.node_pb2.NodeInfo",
    "flwr.serverapp.server_app.LoadServerAppError",
    "flwr.supercore.object_ref.load_app",
    "flwr.supercore.run.Run",
    "flwr.supercore.task_identity.TaskIdentity",
    "flwr.compat.common.recorddict_compat.parameters_to_arrayrecord",
    "flwr.server.client_manager.SimpleClientManager",
    "flwr.server.compat.app",
    "flwr.server.workflow.default_workflows",
    "flwr.server.workflow.constant.MAIN_PARAMS_RECORD",
}
METADATA = {
    "run_id": 7,
    "message_id": "m",
    "src_node_id": 1,
    "dst_node_id": 99,
    "reply_to_message_id": "",
    "group_id": "2",
    "created_at": 12.5,
    "ttl": 60.0,
    "message_type": "train",
    "src_task_id": 1,
    "dst_task_id": None,
}


def flower_imports(file):
    """Every Flower import of a file, as ``module`` or ``module.name``, with whether the module is public."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {(name.name, name.name in PUBLIC) for name in node.names if name.name.split(".")[0] == "flwr"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flwr":
            found |= {(f"{node.module}.{name.name}", node.module in PUBLIC) for name in node.names}
    return found


ARRAYS = (
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.zeros((), np.float64),
    np.zeros((0, 3), np.int64),
    np.array([True, False]),
    np.arange(5, dtype=">f4"),
    np.asfortranarray(np.ones((2, 3), np.float16)),
    np.arange(10)[::2],
    np.array(["text"]),
)


def test_quick_records_refuse_what_flowers_refuse_and_keep_what_they_keep():
    wrong = (("a", 1), (1, MetricRecord({"x": 1})), ("a", None))

    def outcome():
        content, errors = RecordDict({"m": MetricRecord({"x": 1.5})}), []
        for key, value in wrong:
            with pytest.raises(TypeError) as caught:
                content[key] = value
            errors.append(str(caught.value))
        with pytest.raises(TypeError):
            content["m"]["x"] = "text"
        content.metric_records["n"] = MetricRecord({"y": [1, 2]})
        content["c"] = ConfigRecord({"s": "text", "b": b"bytes"})
        return errors, content

    slow, plain = outcome(), vars(TypedDict)["__setitem__"]
    with flower.quick_records():
        assert vars(TypedDict)["__setitem__"] is not plain
        assert outcome() == slow
    assert vars(TypedDict)["__setitem__"] is plain


@pytest.mark.parametrize("ndarray", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_quick_arrays_are_flowers_own_to_the_byte(ndarray):
    slow = Array(ndarray)
    with flower.quick_records():
        quick = Array(ndarray)
    assert quick == slow
    assert (quick.is_dirty, quick.object_id) == (slow.is_dirty, slow.object_id)
    assert Array.from_numpy_ndarray(ndarray) == slow


def test_private_flower_names_are_imported_in_one_file_only():
    files = [
        file for package in ("fl", "consensus", "shards", "scenarios") for file in (ROOT / package).rglob("*.py")
    ]
    private = {
        (str(file.relative_to(ROOT)), name) for file in files for name, public in flower_imports(file) if not public
    }
    assert {name for file, name in private if file != "fl/engine/flower.py"} == set()
    assert {name for _, name in private} <= PINNED, "a private name without a test in this file"


def test_the_scan_sees_what_it_should(tmp_path):
    file = tmp_path / "x.py"
    file.write_text(
        "import flwr.common.constant as c\ndef f():\n    from flwr.proto.a_pb2 import B\nimport flwr.app\n"
    )
    assert flower_imports(file) == {
        ("flwr.common.constant", False),
        ("flwr.proto.a_pb2.B", False),
        ("flwr.app", True),
    }


def test_identity_can_be_set_and_names_the_sender_of_a_message():
    flower.set_identity(11, 22)
    message = Message(RecordDict(), dst_node_id=5, message_type="train")
    assert (message.metadata.run_id, message.metadata.src_node_id) == (11, 22)
    assert message.metadata.src_task_id is not None
    flower.set_identity(12, 23)
    assert Message(RecordDict(), dst_node_id=5, message_type="train").metadata.src_node_id == 23


def test_metadata_is_exactly_the_fields_we_carry():
    parameters = list(inspect.signature(Metadata.__init__).parameters)[1:]
    assert set(parameters) == set(METADATA)
    assert flower.metadata_fields(Metadata(**METADATA)) == METADATA


def test_a_message_is_rebuilt_from_its_fields_with_content_or_error():
    content = RecordDict({"c": ConfigRecord({"k": 1})})
    message = flower.build_message(METADATA, content=content)
    assert message.has_content()
    assert message.content == content
    assert flower.metadata_fields(message.metadata) == METADATA
    failed = flower.build_message(METADATA, error=Error(2, "why"))
    assert failed.has_error()
    assert not failed.has_content()
    assert (failed.error.code, failed.error.reason) == (2, "why")


def test_stamp_sets_the_id_that_replies_refer_to():
    flower.set_identity(1, 1)
    message = Message(RecordDict(), dst_node_id=5, message_type="query.x")
    assert message.metadata.message_id == ""
    flower.stamp(message, "abc")
    reply = Message(RecordDict(), reply_to=message)
    assert message.metadata.message_id == "abc"
    assert reply.metadata.reply_to_message_id == "abc"
    assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (5, 1)
    assert reply.metadata.message_type == "query.x"
    assert Message(Error(2, "x"), reply_to=message).metadata.reply_to_message_id == "abc"


def test_legacy_message_types_are_still_valid_and_others_are_not():
    for kind in ("get_parameters", "get_properties", "train", "evaluate.more", "query"):
        Metadata(**{**METADATA, "message_type": kind})
    with pytest.raises(ValueError, match="Invalid message type"):
        Metadata(**{**METADATA, "message_type": "nonsense"})


def test_context_takes_the_arguments_we_give_and_starts_empty():
    context = flower.build_context(1, 2, {"partition-id": 3}, {"lr": 0.1})
    assert isinstance(context, Context)
    assert (context.run_id, context.node_id) == (1, 2)
    assert (context.node_config, context.run_config) == ({"partition-id": 3}, {"lr": 0.1})
    assert len(context.state) == 0
    required = [
        name
        for name, parameter in inspect.signature(Context.__init__).parameters.items()
        if parameter.default is inspect.Parameter.empty and name != "self"
    ]
    assert set(required) == {"run_id", "node_id", "node_config", "state", "run_config"}


def test_an_empty_run_has_the_fields_that_server_apps_read():
    run = flower.make_run(5, {"lr": 1})
    assert isinstance(run, flower.Run)
    assert (run.run_id, run.override_config) == (5, {"lr": 1})
    assert (run.fab_id, run.fab_version, run.fab_hash) == ("", "", "")
    assert flower.Run(**vars(run)) == run


def test_the_grid_implements_all_that_flower_asks_for():
    from fl.engine import EngineGrid

    assert EngineGrid.__abstractmethods__ == frozenset()
    for name in Grid.__abstractmethods__:
        theirs, ours = getattr(Grid, name), getattr(EngineGrid, name)
        if not isinstance(theirs, property):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
    public = {name for name, value in vars(Grid).items() if callable(value) and not name.startswith("_")}
    assert public == {
        "set_run",
        "create_message",
        "get_node_ids",
        "get_nodes",
        "push_messages",
        "pull_messages",
        "send_and_receive",
    }


def test_node_info_and_constants():
    info = flower.NodeInfo(node_id=2**62, status="online")
    assert (info.node_id, info.status) == (2**62, "online")
    assert (flower.PARTITION_ID_KEY, flower.NUM_PARTITIONS_KEY) == ("partition-id", "num-partitions")
    assert flower.SUPERLINK_NODE_ID == 1
    assert flower.SType.NUMPY == "numpy.ndarray"
    assert (flower.ErrorCode.CLIENT_APP_RAISED_EXCEPTION, flower.ErrorCode.CLIENT_APP_CRASHED) == (2, 8)


def test_flatten_dict_joins_with_dots_and_refuses_other_types():
    assert flower.flatten_dict({"a": {"b": 1, "c": "x"}, "d": True}) == {"a.b": 1, "a.c": "x", "d": True}
    with pytest.raises(ValueError, match="key a needs to be of type"):
        flower.flatten_dict({"a": [1, 2]})


def test_load_app_imports_once_and_adds_the_folder_to_the_path(tmp_path, monkeypatch):
    import sys

    module = "contract_app_loaded_once"
    (tmp_path / f"{module}.py").write_text(
        "from flwr.clientapp import ClientApp\nfrom flwr.serverapp import ServerApp\n"
        "client, server, other = ClientApp(), ServerApp(), 3\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, module, raising=False)
    client = flower.load_client_app(f"{module}:client", tmp_path)
    assert flower.load_client_app(f"{module}:client", tmp_path) is client  # server and client share one import
    assert flower.load_server_app(f"{module}:server", tmp_path) is sys.modules[module].server
    assert str(tmp_path) in sys.path
    with pytest.raises(TypeError, match="is a int, not a ClientApp"):
        flower.load_client_app(f"{module}:other", tmp_path)
    with pytest.raises(flower.LoadClientAppError, match="Unable to load attribute"):
        flower.load_client_app(f"{module}:missing", tmp_path)
    with pytest.raises(flower.LoadServerAppError, match="Unable to load attribute"):
        flower.load_server_app(f"{module}:missing", tmp_path)
    with pytest.raises(ModuleNotFoundError):
        flower.load_client_app("contract_no_such_module:app", tmp_path)


def test_flowers_own_log_can_be_hidden_while_what_apps_log_through_it_stays():
    (handler,) = logging.getLogger("flwr").handlers
    flowers = logging.LogRecord("flwr", logging.INFO, flower.legacy_server.__file__, 1, "x", (), None)
    apps = logging.LogRecord("flwr", logging.INFO, __file__, 1, "x", (), None)
    with flower.flower_log(logging.WARNING):
        assert not handler.filter(flowers)
        assert handler.filter(apps)
    assert handler.filter(flowers)


def test_an_array_is_four_fields():
    array = Array(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert set(vars(array)) - {"_is_dirty"} == {"dtype", "shape", "stype", "data"}
    assert isinstance(array.data, bytes)


def test_our_decoded_array_passes_for_one_of_flowers():
    array = Array(np.arange(6, dtype=np.float32).reshape(2, 3))
    ours = DecodedArray(array.dtype, tuple(array.shape), array.stype, bytes(array.data))
    assert ours.numpy().tolist() == array.numpy().tolist()
    assert ours == array
    assert array == ours
    assert ours != Array(np.zeros((2, 3), dtype=np.float32))
    assert ours.object_id == array.object_id  # Flower hashes the name of the class with the content


def test_strategies_name_the_round_where_we_look_for_it():
    config = ConfigRecord()

    class Grid3:
        def get_node_ids(self):
            return [2**40 + n for n in range(3)]

    flower.set_identity(1, 1)
    messages = list(FedAvg().configure_train(4, ArrayRecord([np.zeros(1)]), config, Grid3()))
    from fl.engine.grid import round_of

    assert [round_of(message) for message in messages] == [4, 4, 4]
    assert len({id(message.content) for message in messages}) == 1  # one content for all: encoded once
