"""The live view: figures of the newest round, from events and the access log."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from support import DIGITS

from fl.cli import main
from fl.engine import BatchEvent, RoundEvent
from fl.run import Printer
from fl.run.watch import Dashboard, sparkline
from shards.access import Access, AccessLog
from shards.request import Request

NOW = np.datetime64("2024-01-01T00:00:00", "us")


@pytest.fixture
def dashboard(tmp_path):
    manifest = SimpleNamespace(clients=2, config={"epsilon": 8.0})
    return Dashboard(SimpleNamespace(private=tmp_path, manifest=manifest))


def read(folder, client, number, bytes_read, matching):
    log = AccessLog(folder / "access.jsonl")
    log.append(
        Access(
            f"client-{client}", f"round {number} train", NOW, Request.everything(), 1, 1, 1, bytes_read, matching, 9
        )
    )


def drawn(dashboard, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(dashboard)
    return console.file.getvalue()


def test_a_round_shows_metrics_budget_reads_times_and_failures(dashboard, tmp_path):
    read(tmp_path, 0, 1, 4000, 1000)
    read(tmp_path, 0, 2, 1500, 1000)
    read(tmp_path, 1, 2, 1500, 1000)
    failed = BatchEvent("train", 2, 2, 1, 1, 0.01, "client 1: ValueError: no")
    for event in (BatchEvent("train", 1, 2, 2, 0, 0.01), RoundEvent(1, 4, {"test_accuracy": 0.5, "epsilon": 2.0})):
        dashboard.on_batch(event) if isinstance(event, BatchEvent) else dashboard.on_round(event)
    dashboard.on_batch(failed)
    dashboard.on_round(RoundEvent(2, 4, {"test_accuracy": 0.75, "epsilon": 4.0}))
    text = drawn(dashboard)
    assert "2/4" in text
    assert "▁█" in text
    assert "0.75  test set" in text
    assert "4 of 8  worst record" in text
    assert "3 kB for 2 kB matching (1.50 ×)" in text
    assert "failing  round 2, train: 1 of 2; first: client 1: ValueError: no" in text
    assert dashboard.line().split("  ")[-3:-1] == ["read 3 kB for 2 kB matching (1.50 ×)", "train 0.01 s"]


def test_it_fits_a_narrow_terminal_and_draws_before_the_first_round(dashboard):
    assert "round" in drawn(dashboard)
    dashboard.on_batch(BatchEvent("train", 1, 2, 0, 2, 0.01, "client 0: " + "x" * 300))
    assert max(map(len, drawn(dashboard, width=60).splitlines())) <= 60


def test_a_damaged_access_log_does_not_end_the_run(dashboard, tmp_path):
    (tmp_path / "access.jsonl").write_text('{"client": 3}\n')
    dashboard.on_round(RoundEvent(1, 1, {"test_loss": float("nan")}))
    assert "matching" not in drawn(dashboard)


def test_sparklines_scale_and_leave_gaps():
    assert sparkline([0.0, 7.0]) == "▁█"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert sparkline([1.0, float("nan"), 2.0]) == "▁ █"
    assert sparkline([float("nan")]) == " "
    assert sparkline([7.0], low=0.0, high=14.0) == "▅"
    assert len(sparkline(list(range(1000)))) == 28


def test_on_a_terminal_the_dashboard_takes_the_place_of_the_bar(dashboard):
    printer = Printer(io.StringIO())
    printer.console = Console(file=io.StringIO(), force_terminal=True, width=90, highlight=False)
    printer.dashboard = dashboard
    printer.start()
    printer.on_batch(BatchEvent("train", 1, 2, 2, 0, 0.01))
    printer.on_round(RoundEvent(1, 3, {"test_accuracy": 0.5}))
    printer.stop()
    text = printer.console.file.getvalue()
    assert "round   1/3  accuracy 0.500  2/2 replies" in text
    assert "test set" in text


def test_in_a_pipe_each_round_has_its_line_and_one_more(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(DIGITS), "-c", "num-server-rounds=2", "--clients", "4", "--workers", "0", "--watch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rounds = [index for index, line in enumerate(lines) if line.startswith("round")]
    assert len(rounds) == 2
    for index in rounds:
        assert "train " in lines[index + 1]
        assert "server " in lines[index + 1]
    assert not any("\x1b" in line for line in lines)
