"""What the record ledger says of known histories, beside Opacus' accountant: ``python -m benchmarks.ledger``."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from opacus.accountants import RDPAccountant

from benchmarks.measure import machine
from benchmarks.report import Bar, save, setting, table
from fl.privacy import Mechanism, RecordLedger

EVENT = Mechanism(sampling_rate=0.05, noise_multiplier=1.0, steps=20)
DELTA = 1e-5
KNOWN = {14: 6.253, 22: 7.780, 50: 11.980}


def main() -> int:
    """Charge the events, and write the results."""
    here = machine(["fedshard", "opacus"])
    rows, bars = [], []
    for events, known in KNOWN.items():
        ours, theirs = ledger(events), accountant(events)
        rows.append([str(events), f"{ours:.6f}", f"{theirs:.6f}", f"{abs(ours - theirs):.1e}", f"{known:.3f}"])
        bars.append(Bar(f"{events} events: distance from {known}", abs(ours - known), 0.001, at_least=False))
        bars.append(Bar(f"{events} events: distance from Opacus", abs(ours - theirs), 1e-9, at_least=False))
    command = "python -m benchmarks.ledger"
    text = "\n\n".join(
        [
            "# The record ledger",
            "ε of a record after events of 20 steps, σ = 1, q = 0.05, δ = 1e-5.",
            setting(command, here),
            table(["events", "ledger", "Opacus", "difference", "known"], rows),
        ]
    )
    save("ledger", {"command": command, **here, "bars": [bar.as_dict() for bar in bars]}, text)
    return 0 if all(bar.passed for bar in bars) else 1


def ledger(events: int) -> float:
    """Charge one record through the ledger's file and return its ε."""
    with tempfile.TemporaryDirectory() as folder:
        book = RecordLedger(Path(folder) / "ledger.sqlite")
        record = np.array([7])
        for number in range(events):
            book.charge("client-0", f"event {number}", b"request", b"reply", EVENT, record)
        spent = float(book.epsilons("client-0", record, DELTA)[0])
        book.close()
    return spent


def accountant(events: int) -> float:
    """Return what Opacus' accountant says of the same steps."""
    theirs = RDPAccountant()
    theirs.history = [(EVENT.noise_multiplier, EVENT.sampling_rate, EVENT.steps * events)]
    return float(theirs.get_epsilon(delta=DELTA))


if __name__ == "__main__":
    sys.exit(main())
