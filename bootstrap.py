"""Set everything up in a virtual environment of its own, then run the main job or the tests.

    python3 bootstrap.py run     # the digits federation; further arguments go to `fedshard run`
    python3 bootstrap.py test    # lint, types and the quick test suite; further arguments go to pytest

Needs Python 3.11 or newer and nothing else. The environment is `.venv` beside this file; it is made on the first
call, and brought up to date whenever the project's requirements have changed.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
REQUIREMENTS = ("setup.cfg", "pyproject.toml", "constraints.txt")
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def set_up() -> None:
    """Make or update the environment; does nothing where it is up to date."""
    stamp = ENVIRONMENT / "fedshard.stamp"
    wanted = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in REQUIREMENTS)).hexdigest()
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"setting up {ENVIRONMENT} (a few minutes the first time) ...", flush=True)
    pip_works = PYTHON.exists() and run("pip", "--version", quiet=True) == 0
    if not pip_works:  # also after a first attempt that failed half-way
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", "constraints.txt", "--editable", ".[dev]"], cwd=ROOT, check=True)
    stamp.write_text(wanted)


def run(*command: str | Path, quiet: bool = False) -> int:
    """Run a module of the environment in the project's folder and return its exit status."""
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": os.environ.get("FLWR_TELEMETRY_ENABLED", "0")}
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(
        [PYTHON, "-m", *command], cwd=ROOT, env=environment, stdout=output, stderr=output
    ).returncode


def main() -> int:
    """Do what the command line asks for."""
    if sys.version_info < (3, 11):
        print(f"fedshard needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    if len(sys.argv) < 2 or sys.argv[1] not in ("run", "test"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        set_up()
    except subprocess.CalledProcessError as error:
        print(f"bootstrap: setting up failed ({error}); its message is above", file=sys.stderr)
        return 1
    task, arguments = sys.argv[1], sys.argv[2:]
    if task == "run":
        app = [] if arguments and not arguments[0].startswith("-") else ["scenarios/digits"]
        return run("fl.cli", "run", *app, *arguments)
    checks = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
    failed = [" ".join(check) for check in checks if run(*check)]
    tests = run("pytest", *arguments)  # last, so that the output ends with pytest's summary
    if failed:
        print(f"failed before the tests: {', '.join(failed)}", file=sys.stderr)
    return tests or int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
