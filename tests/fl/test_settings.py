"""The configuration is checked key by key; every mistake is one line that names the key."""

import sys

import numpy as np
import pytest

from fl.data import Records
from fl.settings import Settings
from fl.task import Classification, Regression
from shards.errors import InputError

WINDOW = {"train-request": "region = north; last 2d", "clock-start": "2016-03-01", "clock-step": "1d"}
LEAST = {"model": "m:build", "data": "m:load", "num-server-rounds": 3}


def test_the_task_is_classification_unless_said_otherwise():
    assert Settings.read(LEAST).objective() == Classification()
    config = {**LEAST, "task": "regression", "target-scale": 100}
    assert Settings.read(config).objective() == Regression(100.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"task": "ranking"}, 'task = \'ranking\': must be "classification" or "regression"'),
        ({"task": True}, "task = True: expected a number or a word"),
        ({"target-scale": 0.0}, "target-scale = 0.0: must be above 0"),
        ({"target-scale": float("inf")}, "target-scale = inf: must be above 0"),
        ({"target-scal": 1.0}, "did you mean 'target-scale'"),
        ({"test-by": 3}, "test-by = 3: expected a string"),
        ({"columns.taget": "y"}, "did you mean 'columns.target'"),
        ({"server-momentum": 0.9}, 'must be 0 unless strategy = "FedAvgM"'),
        ({"train-request": "last 30"}, "train-request = 'last 30'"),
        ({"train-request": "last 30d"}, "a window needs clock-start and clock-step"),
        ({"clock-start": "2016-03-01", "clock-step": "1d"}, "train-request has none"),
        ({**WINDOW, "clock-start": "soon"}, "clock-start = 'soon'"),
        ({**WINDOW, "clock-step": "1 fortnight"}, "clock-step = '1 fortnight'"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(config, message):
    with pytest.raises(InputError) as caught:
        Settings.read({**LEAST, **config}, "app.toml")
    assert str(caught.value).startswith("app.toml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_round_reads_the_window_that_ends_at_its_clock():
    schedule = Settings.read({**LEAST, **WINDOW}).schedule()
    days = np.arange("2016-02-27", "2016-03-06", dtype="datetime64[D]").astype("datetime64[us]")
    rows = Records(np.zeros((8, 1)), np.zeros(8), np.arange(8), {"time": days, "region": np.repeat("north", 8)})
    read = [days[schedule.at(number).mask(rows.table())].astype("datetime64[D]").astype(str) for number in (1, 2)]
    assert [window.tolist() for window in read] == [["2016-02-29", "2016-03-01"], ["2016-03-01", "2016-03-02"]]
    assert schedule.at(1).public


def test_without_a_request_every_round_reads_everything():
    rows = Records(np.zeros((2, 1)), np.zeros(2), np.arange(2))
    assert Settings.read(LEAST).schedule().at(7).mask(rows.table()).all()


LOADER = """
import numpy as np
from fl.data import Records
from torch import nn

def build():
    return nn.Linear(1, 2)

def load(client, num_clients, place):
    count = int((place.folder / "count.txt").read_text())
    return Records(np.full((count, 1), client), np.arange(count) % 2, np.arange(count) + place.user["first-id"])

def load_test(place):
    return load(place.seed, 1, place)
"""


def test_a_loader_of_the_apps_own_is_told_its_folder_its_seed_and_its_keys(tmp_path, monkeypatch):
    (tmp_path / "own_loader.py").write_text(LOADER)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "count.txt").write_text("3")
    monkeypatch.syspath_prepend(str(tmp_path))
    functions = {"model": "own_loader:build", "loader": "own_loader:load", "test-data": "own_loader:load_test"}
    config = {**LEAST, **functions, "data": "files", "data-seed": 5, "user.first-id": 70}
    try:
        source = Settings.read(config).source()  # a relative folder starts where the app is
        assert source.client(1, 2).ids.tolist() == [70, 71, 72]
        assert source.test().features.tolist() == [[5], [5], [5]]
        assert Settings.read(config).source() == source  # equal sources share what was read
        assert Settings.read({**config, "user.first-id": 80}).source().client(1, 2).ids.tolist() == [80, 81, 82]
    finally:
        sys.modules.pop("own_loader")
