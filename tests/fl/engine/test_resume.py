"""Resume by replay: whatever moment a run is killed at, resuming it ends in the uninterrupted run's bits."""

import json
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
from support import ADAM, DIGITS

from fl.cli import main

JOBS = {
    "digits": (DIGITS, "--clients", "6", "-c", "num-server-rounds=6", "--workers", "2"),
    "adam": (ADAM, "--clients", "8", "-c", "num-server-rounds=8", "-c", "pause=0.01", "--workers", "2"),
}


def in_child(arguments) -> int:
    """Start a command line in a forked process, which has its imports already; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os._exit(main([str(argument) for argument in arguments]))
        finally:
            os._exit(99)
    return pid


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def outcome(runs: Path) -> dict:
    (folder,) = runs.iterdir()
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Run each job once: its digest, and how long it takes."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)  # slow imports, here for all the children
    main(["run", str(DIGITS), "--clients", "2", "--workers", "0", "--runs-dir", str(tmp_path_factory.mktemp("warm"))])
    results = {}
    for name, job in JOBS.items():
        runs = tmp_path_factory.mktemp(name) / "runs"
        started = time.monotonic()
        assert status_of(in_child(["run", *job, "--runs-dir", runs])) == 0
        results[name] = outcome(runs)["summary"]["model_digest"], time.monotonic() - started
    return results


def kill_and_resume(name: str, runs: Path, moment: float, tear: int = 0) -> dict:
    """Kill a job after `moment` seconds, tear bytes off its newest record, resume it, and return its manifest."""
    pid = in_child(["run", *JOBS[name], "--runs-dir", runs])
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    status_of(pid)
    folders = list(runs.glob("*/run.json"))
    if not folders:  # killed before there was a run: nothing was lost
        assert status_of(in_child(["run", *JOBS[name], "--runs-dir", runs])) == 0
        return outcome(runs)
    folder = folders[0].parent
    for record in folder.glob("private/replies-*.log"):
        os.truncate(record, max(0, record.stat().st_size - tear))
    if json.loads(folders[0].read_text())["status"] != "completed":
        assert status_of(in_child(["run", "--resume", folder.name, "--runs-dir", runs, "--workers", "1"])) == 0
    return outcome(runs)


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("part", [0.4, 0.8])
def test_a_killed_run_resumes_to_the_same_bits(name, part, uninterrupted, tmp_path):
    digest, seconds = uninterrupted[name]
    manifest = kill_and_resume(name, tmp_path / "runs", seconds * part, tear=random.Random(part).randrange(300))
    assert manifest["status"] == "completed"
    assert manifest["summary"]["model_digest"] == digest


def test_killed_again_and_again(uninterrupted, tmp_path):
    runs, (digest, seconds) = tmp_path / "runs", uninterrupted["adam"]
    pid = in_child(["run", *JOBS["adam"], "--runs-dir", runs])
    for _ in range(4):
        time.sleep(seconds / 3)
        os.kill(pid, signal.SIGKILL)
        status_of(pid)
        if not runs.exists():
            pid = in_child(["run", *JOBS["adam"], "--runs-dir", runs])
            continue
        folder = next(runs.iterdir())
        if json.loads((folder / "run.json").read_text())["status"] == "completed":
            break
        pid = in_child(["run", "--resume", folder.name, "--runs-dir", runs])
    status_of(pid)
    assert outcome(runs)["summary"]["model_digest"] == digest


def test_ctrl_c_ends_cleanly_and_says_how_to_resume(tmp_path, uninterrupted, capfd):
    runs, (digest, seconds) = tmp_path / "runs", uninterrupted["adam"]
    pid = in_child(["run", *JOBS["adam"], "--runs-dir", runs])
    time.sleep(seconds / 2)
    os.kill(pid, signal.SIGINT)
    assert status_of(pid) == 130
    folder = next(runs.iterdir())
    assert f"fedshard run --resume {folder.name}" in capfd.readouterr().err
    assert outcome(runs)["status"] == "interrupted"
    assert status_of(in_child(["run", "--resume", folder.name, "--runs-dir", runs])) == 0
    assert outcome(runs)["summary"]["model_digest"] == digest


@pytest.fixture
def interrupted(tmp_path, uninterrupted, capsys):
    """Leave an interrupted run behind and return a function that fails to resume it, giving the one line."""
    runs = tmp_path / "runs"
    pid = in_child(["run", *JOBS["adam"], "--runs-dir", runs])
    time.sleep(uninterrupted["adam"][1] / 2)
    os.kill(pid, signal.SIGINT)
    status_of(pid)
    (folder,) = runs.iterdir()

    def refused(*arguments, run=folder.name):
        capsys.readouterr()
        assert main(["run", "--resume", run, "--runs-dir", str(runs), *map(str, arguments)]) == 2
        line = capsys.readouterr().err.strip()
        assert len(line.splitlines()) == 1
        return line

    refused.folder = folder
    return refused


def test_a_changed_run_is_refused_in_one_line(interrupted, monkeypatch):
    assert "'step' was 0.5 and is now 0.7" in interrupted("-c", "step=0.7")
    assert "seed was 0 and is now 1" in interrupted("--seed", 1)
    assert "clients was 8 and is now 9" in interrupted("--clients", 9)
    assert "it ran the app in" in interrupted(DIGITS, "--clients", 8)
    manifest = interrupted.folder / "run.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"torch": "', '"torch": "0.'))
    assert "torch was 0." in interrupted()
    code = json.loads(text)["code"]
    manifest.write_text(text.replace(code, "0" * 64))
    assert "the code of the app or of fedshard has changed" in interrupted()
    manifest.write_text(text.replace('"schema_version": 1', '"schema_version": 9'))
    assert "schema version 9" in interrupted()
    manifest.write_text(text[:50])
    assert "damaged" in interrupted()


def test_a_damaged_record_is_refused_in_one_line(interrupted):
    (record,) = interrupted.folder.glob("private/replies-*.log")
    data = bytearray(record.read_bytes())
    data[100] ^= 1
    record.write_bytes(data)
    assert f"{record}: damaged at byte 0" in interrupted()
    assert record.read_bytes() == data


def test_a_run_folder_in_use_is_refused(tmp_path, capsys, uninterrupted):
    runs = tmp_path / "runs"
    pid = in_child(["run", *JOBS["adam"], "-c", "pause=0.1", "--runs-dir", runs])
    while not list(runs.glob("*/run.json")):
        time.sleep(0.05)
    (folder,) = runs.iterdir()
    assert main(["run", "--resume", folder.name, "--runs-dir", str(runs)]) == 2
    assert "in use by another process" in capsys.readouterr().err
    os.kill(pid, signal.SIGINT)
    status_of(pid)


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path, uninterrupted, capfd):
    runs, limit = tmp_path / "runs", 60_000  # the record needs more; a write past it fails as on a full disk
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        os._exit(main([str(argument) for argument in ("run", *JOBS["adam"], "--runs-dir", runs)]))
    assert status_of(pid) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "replies-0.log: disk full; what was recorded before is intact" in lines[0]
    (folder,) = runs.iterdir()
    assert 0 < (folder / "private" / "replies-0.log").stat().st_size <= limit
    assert status_of(in_child(["run", "--resume", folder.name, "--runs-dir", runs])) == 0
    assert outcome(runs)["summary"]["model_digest"] == uninterrupted["adam"][0]


def test_a_completed_run_is_not_resumed(tmp_path, capsys):
    runs = tmp_path / "runs"
    assert status_of(in_child(["run", *JOBS["adam"], "--runs-dir", runs])) == 0
    (folder,) = runs.iterdir()
    assert main(["run", "--resume", folder.name, "--runs-dir", str(runs)]) == 2
    assert "it has completed" in capsys.readouterr().err


@pytest.mark.parametrize("status", ["running", "budget-spent"])
def test_killed_after_the_last_snapshot_loses_no_result(tmp_path, capsys, uninterrupted, status):
    runs = tmp_path / "runs"
    assert status_of(in_child(["run", *JOBS["digits"], "--runs-dir", runs])) == 0
    (folder,) = runs.iterdir()
    before = outcome(runs)["summary"]
    manifest = folder / "run.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "status": status, "summary": None}))
    (folder / "model.safetensors").unlink()
    assert status_of(in_child(["run", "--resume", folder.name, "--runs-dir", runs])) == 0
    after = outcome(runs)["summary"]
    assert {**after, "wall_s": 0} == {**before, "wall_s": 0}
    assert (folder / "model.safetensors").exists()


def test_a_missing_snapshot_is_refused_and_nothing_is_touched(tmp_path, capsys, uninterrupted):
    runs = tmp_path / "runs"
    assert status_of(in_child(["run", *JOBS["digits"], "--runs-dir", runs])) == 0
    (folder,) = runs.iterdir()
    manifest = folder / "run.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "status": "running"}))
    (folder / "private" / "snapshot.bin").unlink()
    records = sorted(path.name for path in folder.glob("private/replies-*"))
    assert main(["run", "--resume", folder.name, "--runs-dir", str(runs)]) == 2
    assert "snapshot.bin: missing, or older than replies-6.log" in capsys.readouterr().err
    assert sorted(path.name for path in folder.glob("private/replies-*")) == records
