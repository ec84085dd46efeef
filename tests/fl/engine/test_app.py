import pytest

from fl.engine import AppSpec, parse_overrides
from shards.errors import InputError

GOOD = """
[project]
name = "demo"
[tool.flwr.app.components]
serverapp = "a:server"
clientapp = "a.b:client"
[tool.flwr.app.config]
rounds = 3
lr = 0.1
name = "x"
on = true
[tool.flwr.app.config.inner]
depth = 2
"""
CONFIG = {"num-server-rounds": 3, "lr": 0.1, "name": "x", "on": True}


def app(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def test_a_flower_app_is_read_as_flower_reads_it(tmp_path):
    spec = AppSpec.load(app(tmp_path, GOOD + "[tool.fedshard]\nclients = 7\n"))
    assert (spec.name, spec.server_reference, spec.client_reference) == ("demo", "a:server", "a.b:client")
    assert spec.config == {"rounds": 3, "lr": 0.1, "name": "x", "on": True, "inner.depth": 2}
    assert spec.clients == 7
    assert AppSpec.load(app(tmp_path, GOOD)).clients == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", "not valid TOML"),
        ("", r"section \[tool\] is missing"),
        ("[tool.flwr.app]\npublisher = 'x'\n", r"section \[tool.flwr.app.components\] is missing"),
        (GOOD.replace('clientapp = "a.b:client"', ""), "needs clientapp"),
        (GOOD.replace("a.b:client", "a.b"), 'needs clientapp = "module:attribute"'),
        (GOOD.replace("rounds = 3", "rounds = [3]"), "rounds"),
        (GOOD + "[tool.fedshard]\nclient = 3\n", "unknown key 'client'; did you mean 'clients'"),
        (GOOD + "[tool.fedshard]\nclients = 0\n", "clients must be a whole number from 1"),
    ],
)
def test_what_is_wrong_with_an_app_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        AppSpec.load(app(tmp_path, text))


def test_a_folder_that_is_no_app_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no pyproject\.toml here"):
        AppSpec.load(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        AppSpec.load(tmp_path / "missing")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("num-server-rounds=30", {"num-server-rounds": 30}),
        ("lr=1", {"lr": 1.0}),
        ("lr=1e-3", {"lr": 1e-3}),
        ("name=off", {"name": "off"}),
        ('name="two words"', {"name": "two words"}),
        ("name=3", {"name": "3"}),
        ("on=false lr=2", {"on": False, "lr": 2.0}),
    ],
)
def test_overrides_take_the_type_of_what_they_override(argument, expected):
    overrides = parse_overrides([argument], CONFIG)
    assert overrides == expected
    assert {k: type(v) for k, v in overrides.items()} == {k: type(v) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("num-server-round=3", "did you mean 'num-server-rounds'"),
        ("zzz=3", "choose one of"),
        ("num-server-rounds=many", "expected a whole number"),
        ("num-server-rounds=1.5", "expected a whole number"),
        ("on=1", "expected true or false"),
        ("lr", "expected key=value"),
        ("=3", "expected key=value"),
    ],
)
def test_a_bad_override_is_named(argument, message):
    with pytest.raises(InputError, match=message):
        parse_overrides([argument], CONFIG)
