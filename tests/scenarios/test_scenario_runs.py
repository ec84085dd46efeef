"""Every scenario runs from the command line on its data, privately by default and openly when told so."""

import json
import math

import pytest

from fl.cli import main

SHORT_WINDOWS = (
    *("-c", "train-request='last 14d'", "-c", "clock-start=2013-03-01", "-c", "clock-step=14d"),
    *("-c", "user.test-from=2013-04-13", "-c", "user.test-days=14"),
)
SCENARIOS = {
    "hospitals": (4, "accuracy", ("cleveland", "hungarian", "switzerland", "va"), ()),
    "activity": (21, "accuracy", ("2", "24"), ()),
    "air-quality": (3, "rmse", ("Dongsi", "Shunyi"), SHORT_WINDOWS),
}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, folders):
    monkeypatch.chdir(tmp_path)

    def call(name, *arguments):
        clients, _, _, more = SCENARIOS[name]
        small = ("--clients", str(clients), "--workers", "0", "-c", "num-server-rounds=3", "--json")
        assert main(["run", name, "-c", f"data={folders[name]}", *small, *more, *arguments]) == 0
        summary = json.loads(capsys.readouterr().out)
        lines = (tmp_path / "runs" / summary["run_id"] / "metrics.jsonl").read_text().splitlines()
        rounds = [entry for entry in map(json.loads, lines) if entry["kind"] == "round"]
        return summary, rounds

    return call


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_private_by_default_and_measures_every_group_of_its_test_set(run, name):
    summary, rounds = run(name)
    _, metric, groups, _ = SCENARIOS[name]
    assert 0 < summary["epsilon_max"] <= 8.0
    assert len(rounds) == 3
    for group in groups:
        assert rounds[-1][f"test_{metric}/{group}"] > 0
    assert not [key for key in rounds[-1] if key.startswith("client_")]


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_privacy_a_scenario_learns_something(run, name):
    summary, rounds = run(name, "-c", "privacy=off")
    assert summary["epsilon_max"] is None
    spread = 38.0  # µg/m³, of the stand-in's PM2.5; the real one's is twice that
    guess = {"hospitals": math.log(2), "activity": math.log(6), "air-quality": (spread / 20) ** 2}[name]
    assert min(entry["test_loss"] for entry in rounds) < guess


@pytest.mark.parametrize(("name", "fix"), [(name, f"`fedshard data fetch {name}`") for name in SCENARIOS])
def test_without_its_data_a_scenario_says_where_to_get_it(tmp_path, monkeypatch, capsys, name, fix):
    monkeypatch.chdir(tmp_path)
    assert main(["run", name, "-c", f"data={tmp_path}"]) == 2
    error = capsys.readouterr().err.strip()
    assert fix in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
