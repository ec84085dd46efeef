"""Runs with a council, as a user starts them: liars change no bit, a killed run goes on in the same bits."""

import json
import os
import signal
import time

import pytest
import torch
from support import DIGITS

from fl.cli import main

SMALL = ("--clients", "8", "--workers", "0", "-c", "num-server-rounds=3", "--json")
BYZANTINE = ("byzantine", "--clients", "8", "-c", "num-server-rounds=2", "--workers", "0")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_folder(tmp_path, result):
    return tmp_path / "runs" / result["run_id"]


def log_of(folder, kind):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def test_a_private_run_with_a_council_says_who_decides_and_its_ledger_verifies(fedshard, tmp_path):
    result = fedshard("run", DIGITS, *SMALL, "-c", "council-replicas=10")
    assert result["committed_blocks"] == 4  # the model to start from, and three rounds
    assert 0 < result["consensus_p50_ms"] < 5000
    assert result["epsilon_max"] <= 8.0
    folder = run_folder(tmp_path, result)
    verified = fedshard("ledger", "verify", result["run_id"], "--json")
    assert (verified["blocks"], verified["replicas"]) == (4, 10)
    assert fedshard("ledger", "verify", result["run_id"]).startswith("ok: 4 blocks, ")
    assert "simulated in the server process" in fedshard("ledger", "verify", result["run_id"])
    assert all(line["replied"] == 8 for line in log_of(folder, "exchange"))
    assert [line["height"] for line in log_of(folder, "block")] == [1, 2, 3, 4]


def test_the_model_is_that_of_the_run_without_a_council_but_for_the_last_bits_of_the_mean(fedshard):
    plain = fedshard("run", DIGITS, *SMALL)
    agreed = fedshard("run", DIGITS, *SMALL, "-c", "council-replicas=4")
    assert agreed["test_accuracy"] == pytest.approx(plain["test_accuracy"], abs=0.02)
    assert plain["committed_blocks"] is None


@pytest.mark.parametrize("damage", ["block", "model", "end"])
def test_whatever_is_changed_afterwards_is_one_line(fedshard, tmp_path, damage):
    result = fedshard("run", DIGITS, *SMALL, "-c", "council-replicas=4")
    folder = run_folder(tmp_path, result)
    lines = (folder / "ledger.jsonl").read_text().splitlines(keepends=True)
    if damage == "block":
        block = json.loads(lines[2])
        block["view"] = 7
        (folder / "ledger.jsonl").write_text("".join([*lines[:2], json.dumps(block) + "\n", *lines[3:]]))
    if damage == "end":
        (folder / "ledger.jsonl").write_text("".join(lines[:-1]))
    if damage == "model":
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "model.safetensors").write_bytes(data)
    said = fedshard("ledger", "verify", result["run_id"], status=1).strip()
    expected = {
        "block": "block 3 is not good: its certificate",
        "end": "block 4 is missing: the run committed 4",
        "model": "model.safetensors is not the model of block 4",
    }[damage]
    assert expected in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (("council-replicas=3",), "it needs 4 to 255"),
        (("council-replicas=10", "council-protocol=regionall"), "regionall"),
        (("council-replicas=10", "council-faults=silent:4"), "10 survive at most 3"),
        (("council-replicas=0",), "council-faults = "),
        (("council-verify=some",), 'council-verify = \'some\': must be "region" or "all"'),
        (("strategy=MultiKrum",), "MultiKrum cannot be begun in regions"),
    ],
)
def test_a_council_that_cannot_be_is_one_line_before_the_run(fedshard, tmp_path, config, message):
    overrides = [part for pair in config for part in ("-c", pair)]
    said = fedshard("run", "byzantine", *overrides, status=2).strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_without_a_ledger_says_so(fedshard):
    result = fedshard("run", DIGITS, *SMALL)
    assert "no genesis.json" in fedshard("ledger", "verify", result["run_id"], status=2)


@pytest.mark.parametrize("verify_by", ["region", "all"])
def test_the_byzantine_scenario_shows_its_arms_side_by_side(fedshard, tmp_path, verify_by):
    told = fedshard("run", *BYZANTINE, "-c", f"council-verify={verify_by}", "-c", "user.poisoned-clients=1")
    (path,) = (tmp_path / "runs").iterdir()
    assert "changed nothing" in told
    assert "replica 0, as leader, proposed what 16 replicas refused" in told
    last = log_of(path, "round")[-1]
    arms = [name.partition("/")[2] for name in last if name.startswith("test_accuracy/")]
    assert arms == [
        *("honest, FedAvg", "poisoned, FedAvg", "poisoned, FedMedian"),
        *("poisoned, council", "poisoned, council with liars"),
    ]
    assert last["test_loss/poisoned, council"] == last["test_loss/poisoned, council with liars"]
    assert last["test_loss/honest, FedAvg"] < last["test_loss/poisoned, FedAvg"]
    for folder in (path, path / "without-liars"):
        assert fedshard("ledger", "verify", str(folder)).startswith("ok: ")


def started(arguments):
    """Start a command line in a forked process, which has its imports already; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os._exit(main([str(argument) for argument in arguments]))
        finally:
            os._exit(99)
    return pid


def test_a_run_that_is_killed_goes_on_to_the_same_model_and_the_same_ledger(fedshard, tmp_path):
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    job = ("run", DIGITS, "--clients", "6", "--workers", "0", "-c", "num-server-rounds=6", "-c", "council-replicas=7")
    whole = fedshard(*job, "--json", "--runs-dir", tmp_path / "whole")
    for blocks in (2, 5):
        runs = tmp_path / f"cut-{blocks}"
        pid = started((*job, "--runs-dir", runs))
        deadline = time.monotonic() + 60
        while sum(path.read_text().count("\n") for path in runs.glob("*/ledger.jsonl")) < blocks:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        (folder,) = runs.iterdir()
        resumed = fedshard("run", "--resume", folder, "--workers", "0", "--json")
        assert resumed["model_digest"] == whole["model_digest"]
        assert resumed["committed_blocks"] == whole["committed_blocks"] == 7
        whole_folder = tmp_path / "whole" / whole["run_id"]
        assert (folder / "ledger.jsonl").read_bytes() == (whole_folder / "ledger.jsonl").read_bytes()
