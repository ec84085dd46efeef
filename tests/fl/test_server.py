"""What the server checks before a run: groups of its test set, and that every round asks for records that exist."""

import sys

import pytest

from fl.server import FederationApp, make_strategy
from fl.settings import Settings
from shards.errors import InputError

APP = """
import numpy as np
from torch import nn
from fl.data import Records

def build():
    return nn.Linear(1, 1)

def load(client, num_clients):
    days = np.arange("2016-03-01", "2016-03-11", dtype="datetime64[D]").astype("datetime64[us]")
    ids = np.arange(10) + 10 * client
    return Records(np.ones((10, 1)), np.arange(10) / 2, ids, {"time": days, "region": np.repeat(f"r{client}", 10)})

def load_test():
    rows = np.arange(150)
    keys = {"region": np.array(["r0", "r1"])[rows % 2], "serial": rows}
    return Records(np.ones((150, 1)), rows / 2, rows + 100, keys)
"""
CONFIG = {
    **{"model": "server_app:build", "data": "server_app:load", "test-data": "server_app:load_test"},
    **{"num-server-rounds": 3, "task": "regression", "privacy": "off"},
}
WINDOW = {"train-request": "last 2d", "clock-start": "2016-03-04", "clock-step": "3d"}


@pytest.fixture
def preflight(tmp_path, monkeypatch):
    (tmp_path / "server_app.py").write_text(APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda **config: FederationApp().preflight({**CONFIG, **config}, 2, "app.toml")
    sys.modules.pop("server_app", None)


@pytest.mark.parametrize("config", [{}, {"test-by": "region"}, {**WINDOW, "num-server-rounds": 2}])
def test_a_configuration_that_fits_its_data_passes(preflight, config):
    preflight(**config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"test-by": "regoin"}, "test-by = 'regoin': the test set has no such key; did you mean 'region'?"),
        ({"test-by": "serial"}, "test-by = 'serial': 150 values; name a key with at most 100"),
        ({"test-by": "region", "test-data": ""}, "there is no test set to split"),
        (WINDOW, "no client has a record for round 3"),
        ({"train-request": "colour = red"}, "colour"),
        ({"task": "classification"}, "not integers"),
    ],
)
def test_a_configuration_that_does_not_is_one_line(preflight, config, message):
    with pytest.raises(InputError) as caught:
        preflight(**config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_id_that_two_clients_hold_is_one_line_that_names_both(preflight, tmp_path):
    app = tmp_path / "server_app.py"
    app.write_text(app.read_text().replace("ids = np.arange(10) + 10 * client", "ids = np.arange(10) + 8 * client"))
    with pytest.raises(InputError) as caught:
        preflight()
    assert str(caught.value) == (
        "client 0 and client 1 both hold a record with id 8 (2 such in all); "
        "give every record its own over all clients"
    )


def test_the_servers_momentum_reaches_the_strategy():
    config = {**CONFIG, "strategy": "FedAvgM", "server-momentum": 0.9}
    assert make_strategy(Settings.read(config)).server_momentum == 0.9
