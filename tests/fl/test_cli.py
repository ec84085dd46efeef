"""The command line, called as a user calls it; commands that train run in this process to save the imports."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import ADAM, DIGITS

from fl.data.fetch import ORIGINALS

SMALL = ("-c", "num-server-rounds=2", "--clients", "4", "--workers", "0")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refuses(fedshard, tmp_path):
    """Check that bad input ends in one line, exit status 2 and without a run folder; return the line."""

    def call(*arguments):
        before = sorted(tmp_path.glob("runs/*"))
        text = fedshard(*arguments, status=2).strip()
        assert len(text.splitlines()) == 1, text
        assert sorted(tmp_path.glob("runs/*")) == before
        return text

    return call


def test_the_main_job_in_small_leaves_a_complete_run_folder(fedshard, tmp_path):
    result = fedshard("run", DIGITS, *SMALL, "--json")
    assert list(result) == [
        *("run_id", "rounds", "test_accuracy", "test_loss", "epsilon_max", "delta", "consensus_p50_ms"),
        *("committed_blocks", "model_digest", "wall_s"),
    ]
    assert result["rounds"] == 2
    assert result["epsilon_max"] == pytest.approx(8.0, abs=0.01)
    assert result["epsilon_max"] <= 8.0
    assert (result["delta"], result["consensus_p50_ms"], result["committed_blocks"]) == (1e-5, None, None)
    folder = tmp_path / "runs" / result["run_id"]
    manifest = json.loads((folder / "run.json").read_text())
    assert (manifest["status"], manifest["schema_version"], manifest["clients"]) == ("completed", 1, 4)
    assert manifest["config"]["num-server-rounds"] == 2
    assert {"python", "flwr", "torch"} <= set(manifest["versions"])
    weights = load_file(folder / "model.safetensors")
    assert sum(w.size for w in weights.values()) == 1722
    assert all(np.isfinite(w).all() for w in weights.values())
    assert (folder / "private").stat().st_mode & 0o777 == 0o700
    assert {p.name for p in (folder / "private").iterdir()} >= {"ledger.sqlite", "access.jsonl"}
    kinds = [json.loads(line)["kind"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert kinds == ["exchange", "round", "phases"] * 2


def test_same_seed_same_bits_whatever_the_workers(fedshard):
    runs = [
        fedshard("run", DIGITS, *SMALL[:-1], workers, "--seed", seed, "--json")["model_digest"]
        for workers, seed in (("0", 3), ("1", 3), ("2", 3), ("2", 4))
    ]
    assert runs[0] == runs[1] == runs[2] != runs[3]


def test_privacy_off_is_loud_and_reports_what_clients_measured(fedshard):
    text = fedshard("run", DIGITS, *SMALL, "-c", "privacy=off")
    assert "privacy: OFF" in text
    assert "client accuracy" in text
    assert "ε" not in text


def test_simulated_noise_is_called_simulated(fedshard):
    text = fedshard("run", DIGITS, *SMALL)
    assert "simulated noise: whoever has the seed can remove it" in text
    assert "simulated clients" in text


def test_a_foreign_app_runs_unmodified_and_is_summed_up(fedshard):
    result = fedshard("run", ADAM, "--clients", "6", "--workers", "2", "--json")
    assert result["rounds"] == 5
    assert result["test_accuracy"] == pytest.approx(0.5)
    assert result["epsilon_max"] is None
    assert len(result["model_digest"]) == 64


def test_runs_and_show_report_what_was_run(fedshard):
    assert "no runs" in fedshard("runs")
    run_id = fedshard("run", DIGITS, *SMALL, "--json")["run_id"]
    assert run_id in fedshard("runs")
    assert [run["run_id"] for run in fedshard("runs", "--json")] == [run_id]
    shown = fedshard("show", run_id, "--json")
    assert [entry["server_round"] for entry in shown["rounds"]] == [1, 2]
    assert shown["summary"]["rounds"] == 2
    assert "partitioner=dirichlet" in fedshard("show", run_id)
    assert "no run here" in fedshard("show", "missing", status=2)


def test_a_budget_that_is_spent_stops_the_run_with_status_3_and_keeps_the_model(fedshard, tmp_path):
    rounds = ("-c", "num-server-rounds=9", "-c", "noise-multiplier=2.0", "-c", "epsilon=4.0")
    text = fedshard("run", DIGITS, *SMALL, *rounds, status=3)
    assert "privacy budget spent: after round" in text
    (folder,) = (tmp_path / "runs").iterdir()
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["status"] == "budget-spent"
    assert 0 < manifest["summary"]["rounds"] < 9
    assert manifest["summary"]["epsilon_max"] <= 4.0
    assert (folder / "model.safetensors").exists()


def test_data_plot_draws_the_split(fedshard, tmp_path):
    pytest.importorskip("matplotlib")
    figures = fedshard("data", "plot", DIGITS, "--out", tmp_path / "s.png", "--json")
    assert (tmp_path / "s.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert figures["clients"] == 20


def test_a_new_app_runs_as_it_is(fedshard, refuses):
    assert "made my-federation" in fedshard("new", "my-federation")
    result = fedshard("run", "my-federation", *SMALL, "--json")
    assert result["test_accuracy"] is not None
    assert "exists already" in refuses("new", "my-federation")
    assert "not a name" in refuses("new", "9lives")


def digits_copy(tmp_path, old="", new=""):
    folder = tmp_path / "app"
    shutil.copytree(DIGITS, folder, dirs_exist_ok=True)
    text = (folder / "pyproject.toml").read_text()
    assert old in text
    (folder / "pyproject.toml").write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num-server-rounds = 10\n", "", "the key 'num-server-rounds' is missing"),
        ("num-server-rounds", "num-server-round", "did you mean 'num-server-rounds'"),
        ("\nlearning-rate = 0.1", '\nlearning-rate = "fast"', "learning-rate = 'fast': expected a number"),
        ("\nlearning-rate = 0.1", "\nlearning-rate = -1.0", "must be above 0"),
        ("clipping-norm = 1.0", "clipping-norm = nan", "must be above 0"),
        ("sklearn:digits", "sklearn:digit", "did you mean 'digits'"),
        ("digits_model:build", "digits_model:biuld", "biuld"),
        ("digits_model:build", "nothing_here:build", "nothing_here"),
        ('partitioner = "dirichlet"', 'partitioner = "dirichle"', "did you mean 'dirichlet'"),
        ('"dp-sgd"', '"dp"', 'must be "dp-sgd" or "off"'),
        ("epsilon = 8.0", "epsilon = 0.001", "epsilon"),
        ("fl.client:app", "fl.client:ap", "cannot load clientapp"),
        ("fl.server:app", "fl.client:app", "not a ServerApp"),
    ],
)
def test_a_mistake_in_the_app_is_one_line_that_names_it(refuses, tmp_path, old, new, message):
    line = refuses("run", digits_copy(tmp_path, old, new), *SMALL[2:])
    assert message in line
    assert str(tmp_path / "app") in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run",), "needs an app folder"),
        (("run", "nowhere"), "no such folder"),
        (("run", DIGITS, "--clients", "1"), "at least 2 clients"),
        (("run", DIGITS, "--clients", "1438"), "1438"),
        (("run", DIGITS, "-c", "num-server-round=3"), "did you mean 'num-server-rounds'"),
        (("run", DIGITS, "-c", "noise-multiplier=0.3", "-c", "epsilon=1.0"), "one round alone costs"),
        (("run", DIGITS, "-c", "strategy=FedAvgg"), "strategy"),
        (("run", DIGITS, "--resume", "missing"), "no run here"),
        (("data", "plot", ADAM), "unknown key"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(refuses, arguments, message):
    assert message in refuses(*arguments)


BAD_DATA = """
import numpy as np
from torch import nn
from fl.data import Records

def build():
    return nn.Linear(3, 2)

def rows(client, num_clients):
    features = np.ones((4, 3), dtype=np.float32)
    labels = np.array([0, 1, 0, 1])
    {mischief}
    return Records(features=features, labels=labels, ids=np.arange(len(labels)))
"""


@pytest.mark.parametrize(
    ("mischief", "message"),
    [
        ("features[2, 1] = np.nan if client == 1 else 0", "client 1"),
        ("labels[3] = 2 * client", "label"),
        (
            "if client == 2: features, labels = features[:0], labels[:0]",
            "has no rows",
        ),
        ("features = features[:, :2]", "does not take the features"),
        ("raise OSError('disk on fire')", "disk on fire"),
        ("return 5", "Records"),
    ],
)
def test_bad_records_are_named_before_anything_is_written(refuses, tmp_path, mischief, message):
    folder = digits_copy(tmp_path, "sklearn:digits", f"bad_data_{abs(hash(mischief))}:rows")
    (folder / f"bad_data_{abs(hash(mischief))}.py").write_text(BAD_DATA.format(mischief=mischief))
    (folder / "pyproject.toml").write_text(
        (folder / "pyproject.toml").read_text().replace("digits_model:build", f"bad_data_{abs(hash(mischief))}:build")
    )
    assert message in refuses("run", folder, *SMALL)


def test_usage_errors_exit_with_2_and_help_names_the_exit_codes():
    for arguments, status in ((["run", "--clients", "0"], 2), (["frobnicate"], 2), (["--help"], 0)):
        process = subprocess.run([sys.executable, "-m", "fl.cli", *arguments], capture_output=True, text=True)
        assert process.returncode == status
        assert "Traceback" not in process.stderr
    assert "3 privacy budget spent, 130 interrupted" in " ".join(process.stdout.split())


def test_offline_a_fetch_says_what_to_place_where_and_writes_nothing(fedshard, tmp_path, monkeypatch):
    gone = replace(ORIGINALS["air-quality"], url="http://127.0.0.1:9/original.zip")
    monkeypatch.setitem(ORIGINALS, "air-quality", gone)
    line = fedshard("data", "fetch", "air-quality", "--folder", tmp_path / "raw", status=1)
    assert len(line.strip().splitlines()) == 1
    assert f"unpack PRSA_Data_*.csv into {tmp_path / 'raw'}" in line
    assert not (tmp_path / "raw").exists()


def test_fetching_an_unknown_scenario_suggests_the_near_one(refuses):
    assert "did you mean 'air-quality'?" in refuses("data", "fetch", "airquality")


def test_a_private_run_that_leaves_delta_to_its_default_says_which(fedshard, tmp_path):
    fedshard("new", "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["mine_task.py", "pyproject.toml"]
    file = tmp_path / "mine" / "pyproject.toml"
    file.write_text(file.read_text().replace("delta = 1e-5\n", ""))
    assert fedshard("run", "mine", *SMALL, "--json")["delta"] == 1e-5
    assert "(δ 1e-05)" in fedshard("run", "mine", *SMALL)
