"""Fuzz what reads strangers' bytes, guided by coverage: ``python -m benchmarks.fuzz``.

Needs atheris (``pip install 'fedshard[fuzz]'``). One target after the other runs in a process of its own whose memory
is limited. Inputs that reach something new stay in the corpus folder, where the next call goes on; the results add up
all calls. An input that breaks a promise is kept beside the corpus, and ends the run of its target.
"""

import argparse
import importlib.util
import json
import random
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import ROOT, machine
from benchmarks.report import Bar, save, setting, table

CORPUS = ROOT / "runs" / "fuzz"
MEMORY_MB = 512
SLOWEST_S = 5
MINUTES = 20
_STATISTIC = re.compile(r"stat::(\w+):\s+(\d+)")
_COVERAGE = re.compile(r"cov: (\d+) ft: \d+ corp: (\d+)/")


@dataclass(frozen=True)
class Record:
    """What was done to one target, in all calls together.

    Attributes
    ----------
    seconds : float
        Time of its processes.
    executions : int
        Inputs tried.
    branches : int
        Places of the code reached, as counted in the last call.
    inputs : int
        Inputs kept, each of which reached something of its own.
    memory_mb : int
        The highest resident size of any of its processes, Python and libraries included.
    findings : int
        Inputs that broke a promise.
    """

    seconds: float = 0.0
    executions: int = 0
    branches: int = 0
    inputs: int = 0
    memory_mb: int = 0
    findings: int = 0


def main() -> int:
    """Fuzz all targets or one, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all targets together, this time")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="a folder that grows from call to call")
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # the process that fuzzes
    arguments, options = parser.parse_known_args()
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install 'fedshard[fuzz]'")
    if arguments.inside:
        return fuzz(arguments.target, options)
    from benchmarks.fuzz_targets import TARGETS  # here and in `fuzz` only: there it is imported with instrumentation

    if arguments.target not in (None, *TARGETS):
        parser.error(f"--target {arguments.target}: not one of {', '.join(TARGETS)}")
    names = [arguments.target] if arguments.target else list(TARGETS)
    here = machine(["fedshard", "atheris", "msgspec", "numpy"])
    records = {}
    for name in TARGETS:
        records[name] = _known(arguments.corpus, name)
        if name in names:
            seconds = int(60 * arguments.minutes / len(names))
            records[name] = _run(name, arguments.corpus, TARGETS[name].seeds(), TARGETS[name].limit, seconds)
    return _report(records, here)


def fuzz(name: str, options: list[str]) -> int:
    """Fuzz one target in this process until libFuzzer's options say it is enough; does not return."""
    import atheris

    with atheris.instrument_imports(include=["consensus", "benchmarks.fuzz_targets", "msgpack.fallback"]):
        from benchmarks import fuzz_targets

    target = fuzz_targets.TARGETS[name]

    def change(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        meant = fuzz_targets.mutate(data, chance) if chance.random() < 0.7 else b""
        return meant if 0 < len(meant) <= most else bytes(atheris.Mutate(data, most))

    atheris.Setup([sys.argv[0], *options], target.test, custom_mutator=change)
    atheris.Fuzz()
    return 0


def _known(corpus: Path, name: str) -> Record:
    file = corpus / f"{name}.json"
    return Record(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else Record()


def _run(name: str, corpus: Path, seeds: list[bytes], longest: int, seconds: int) -> Record:
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    before = _known(corpus, name)
    start = time.monotonic()
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.fuzz", "--inside", "--target", name, str(folder),
            f"-max_total_time={seconds}", f"-max_len={longest}", f"-rss_limit_mb={MEMORY_MB}",
            f"-timeout={SLOWEST_S}", f"-artifact_prefix={corpus}/{name}-", "-print_final_stats=1",
        ],
        cwd=ROOT, text=True, errors="replace", check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    statistics = dict(_STATISTIC.findall(done.stdout))
    reached = _COVERAGE.findall(done.stdout) or [(0, 0)]
    if done.returncode:
        print(done.stdout[-6000:])
    record = Record(
        seconds=before.seconds + time.monotonic() - start,
        executions=before.executions + int(statistics.get("number_of_executed_units", 0)),
        branches=int(reached[-1][0]),
        inputs=int(reached[-1][1]),
        memory_mb=max(before.memory_mb, int(statistics.get("peak_rss_mb", 0))),
        findings=before.findings + bool(done.returncode),
    )
    (corpus / f"{name}.json").write_text(json.dumps(asdict(record)), encoding="utf-8")
    print(f"{name}: {record}", flush=True)
    return record


def _report(records: dict[str, Record], here: dict[str, object]) -> int:
    rows = [
        [name, f"{r.seconds / 60:.1f}", f"{r.executions:,}", str(r.branches), str(r.inputs), str(r.memory_mb),
         str(r.findings)]
        for name, r in records.items()
    ]  # fmt: skip
    bars = [
        Bar("minutes of fuzzing", sum(r.seconds for r in records.values()) / 60, MINUTES),
        Bar("inputs that broke a promise", sum(r.findings for r in records.values()), 0, at_least=False),
        Bar("most memory, MB", max(r.memory_mb for r in records.values()), MEMORY_MB, at_least=False),
    ]
    command = "python -m benchmarks.fuzz"
    text = "\n\n".join(
        [
            "# Fuzzing",
            "What reads strangers' bytes, fuzzed with atheris under libFuzzer. Python code is instrumented; C code, "
            "as that of msgspec, is not, so messages are also changed as what they mean, and read a second time by "
            "the pure Python reader of msgpack, whose branches guide the fuzzer and whose reading must agree. "
            "Figures add up all calls; memory is a process's whole resident size.",
            setting(command, here),
            table(["target", "min", "inputs tried", "branches", "inputs kept", "MB", "findings"], rows),
            table(["bar", "measured", "limit", "result"], [bar.row() for bar in bars]),
        ]
    )
    details = {name: asdict(record) for name, record in records.items()}
    save("fuzz", {"command": command, **here, "targets": details, "bars": [bar.as_dict() for bar in bars]}, text)
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
