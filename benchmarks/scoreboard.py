"""Do the checkers notice? Broken cores, and how many seeds it takes: ``python -m benchmarks.scoreboard``.

A variant is caught by the first seed whose run breaks an invariant or a liveness bound on the broken core, and breaks
none on the real core under the very same attack. Controls have one faulty replica more than is survived: they must be
seen to fail, or the checkers see nothing.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, machine
from benchmarks.report import Bar, save, setting, table
from benchmarks.seeds import commit, version
from consensus.simulation.scenarios import run

sys.path.insert(0, str(ROOT / "tests" / "support"))
from broken import BUGS, SCENARIOS, Bug, too_many

SEEDS, CONTROL_SEEDS = 5000, 60
CONTROLS = {"twins": "agreement", "silent": "liveness"}


def catch(bug: Bug, seeds: int, seconds: float) -> dict[str, Any]:
    """Run seeds until one shows the bug, or the time is up."""
    begun = time.monotonic()
    skipped, tried = [], 0
    for seed in range(seeds):
        if time.monotonic() - begun > seconds:
            break
        tried = seed + 1
        broken = bug.run(seed)
        if not broken.violations:
            continue
        if bug.run(seed, broken=False).violations:
            skipped.append(seed)
            continue
        first = broken.violations[0]
        found = {"seeds": seed + 1, "invariant": first.invariant, "detail": first.detail}
        return {**found, "real_core_fails_too": skipped, "seconds": time.monotonic() - begun}
    return {"seeds": None, "tried": tried, "real_core_fails_too": skipped, "seconds": time.monotonic() - begun}


def control(protocol: str, *, silent: bool) -> dict[str, int]:
    """Count the runs in which each invariant is broken by one faulty replica more than is survived."""
    broken: dict[str, int] = {}
    for seed in range(CONTROL_SEEDS):
        violations = run(too_many(seed, protocol, silent=silent)).violations
        for invariant in {violation.invariant for violation in violations}:
            broken[invariant] = broken.get(invariant, 0) + 1
    return broken


def main() -> int:
    """Run all variants and controls, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoreboard", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="the most seeds for one variant")
    parser.add_argument("--seconds", type=float, default=1e9, help="the most time for one variant")
    parser.add_argument("--only", nargs="*", default=list(BUGS), help="names of variants; nothing is written then")
    parser.add_argument("--state", type=Path, help="file that holds what is done; resumable")
    options = parser.parse_args()
    here = machine(["msgspec"])
    known = json.loads(options.state.read_text()) if options.state and options.state.exists() else {}
    found = {name: one for name, one in known.items() if name in BUGS}
    for name in options.only:
        if name not in found:
            found[name] = catch(BUGS[name], options.seeds, options.seconds)
            print(name, found[name], flush=True)
        if options.state:
            options.state.write_text(json.dumps(found, indent=1))
    if options.only != list(BUGS):
        return 0
    found = {name: found[name] for name in BUGS}
    controls = {
        f"{protocol}, n=4, two {kind}": control(protocol, silent=kind == "silent")
        for protocol in ("flat", "regional")
        for kind in CONTROLS
    }
    caught = sum(one["seeds"] is not None for one in found.values())
    seen = sum(counts.get(CONTROLS[name.split()[-1]], 0) > 0 for name, counts in controls.items())
    too = sum(len(one["real_core_fails_too"]) for one in found.values())
    bars = [
        Bar(f"variants caught within {options.seeds} seeds, of {len(BUGS)}", caught, len(BUGS)),
        Bar("broken variants", len(BUGS), 20),
        Bar(f"controls seen to fail, of {len(controls)}", seen, len(controls)),
        Bar("runs in which the real core failed too", too, 0, at_least=False),
    ]
    rows = [
        [
            name,
            BUGS[name].what,
            str(one["seeds"] or f"not in {one['tried']}"),
            one.get("invariant", ""),
            f"{one['seconds']:.1f}",
        ]
        for name, one in found.items()
    ]
    control_rows = [
        [name, str(CONTROL_SEEDS), ", ".join(f"{key} {count}" for key, count in sorted(counts.items()))]
        for name, counts in controls.items()
    ]
    command = "python -m benchmarks.scoreboard"
    text = "\n\n".join(
        [
            "# Seeded bugs",
            "Seeds until the simulator's checkers catch a deliberately broken core; the real core passes the same "
            "seeds under the same attacks. The variants are in `tests/support/broken.py`.",
            setting(command, here),
            f"Code: commit {commit()}, digest of the simulated code {version()}.",
            table(["variant", "what is wrong", "seeds to catch", "caught by", "s"], rows),
            "Caught by a scripted scenario of the suite, without seeds:",
            table(["variant", "tests"], [[name, f"`{where}`"] for name, where in SCENARIOS.items()]),
            "Controls, one faulty replica more than is survived: runs in which an invariant broke.",
            table(["control", "seeds", "broken"], control_rows),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
        ]
    )
    results = {"command": command, **here, "commit": commit(), "version": version(), "variants": found}
    save("scoreboard", {**results, "controls": controls, "bars": [bar.as_dict() for bar in bars]}, text)
    return 0 if all(bar.passed for bar in bars) else 1


def _shown(found: dict[str, Any]) -> str:
    return str(found["seeds"] or f"not in {found['tried']}")


if __name__ == "__main__":
    sys.exit(main())
