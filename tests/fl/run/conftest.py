import json

import numpy as np
import pytest

from shards.access import Access, AccessLog
from shards.audit import DecisionLog
from shards.controller import Candidate, Policy, decide
from shards.request import Request

MANIFEST = {
    "run_id": "made-up",
    "app": "apps/made-up",
    "name": "made-up",
    "config": {"privacy": "off"},
    "clients": 0,
    "seed": 7,
    "client_timeout": None,
    "code": "c0de" * 16,
    "versions": {"python": "3.11"},
    "status": "completed",
    "schema_version": 1,
}


@pytest.fixture
def made_run(tmp_path):
    """Write a run folder as a run of so many clients and rounds would leave it; return its path."""

    def make(clients=3, rounds=4, reads=False, **manifest):
        path = tmp_path / "runs" / "made-up"
        (path / "private").mkdir(parents=True)
        (path / "run.json").write_text(json.dumps({**MANIFEST, "clients": clients, **manifest}))
        with (path / "metrics.jsonl").open("w") as log:
            for line in lines(clients, rounds):
                log.write(json.dumps(line) + "\n")
        if reads:
            write_reads(path / "private", clients, rounds)
        return path

    return make


def lines(clients, rounds):
    """Rounds of 2 s: 1.5 s of training, 0.25 s of evaluation, 0.25 s of the server's own work."""
    rng = np.random.default_rng(0)
    for number in range(1, rounds + 1):
        start = 1000.0 + 2 * number
        for kind, end, seconds in (("train", 1.5, 1.5), ("evaluate", 1.75, 0.25)):
            told = {str(c): {"loss": float(rng.random()), "num-examples": 10} for c in range(clients)}
            if kind == "evaluate":
                told = {c: {**metrics, "accuracy": float(rng.random())} for c, metrics in told.items()}
            counts = {"sent": clients, "replied": clients, "seconds": seconds, "clients": told}
            yield {"kind": "exchange", "time": start + end, "message_type": kind, "server_round": number, **counts}
        metrics = {"test_accuracy": 1 - 0.5 / number, "test_loss": 1 / number, "client_accuracy": 1 - 0.6 / number}
        yield {"kind": "round", "time": start + 2, "server_round": number, **metrics}


def write_reads(private, clients, rounds):
    accesses, decisions = AccessLog(private / "access.jsonl"), DecisionLog(private / "decisions.jsonl")
    now = np.datetime64("2024-01-01T00:00:00", "us")
    for number in range(1, rounds + 1):
        for client in range(clients):
            name, shards = f"client-{client}", 1 if number == 1 else 4
            counts = (number, 1, shards, 4000 // shards, 900, 30)
            accesses.append(Access(name, f"round {number} train", now, Request.everything(), *counts))
            recut = Candidate("recut", {}, 1000, 1) if number == 1 else Candidate("recut", {}, 1000, 9000)
            ways = [Candidate("keep", {}, 4000 if number == 1 else 1000, 0), recut]
            decisions.append(name, f"after round {number}", {}, ways, Policy(), decide(ways, Policy()))
