"""Shared by tests: where the apps are, and ``fedshard`` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADAM, DIGITS = ROOT / "tests/apps/adam", ROOT / "scenarios/digits"


class Cli:
    """Runs ``fedshard`` as a user would, in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: object, **options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fl.cli", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, **{**pipes, **options})

    def __call__(self, *arguments: object, status: int = 0) -> tuple[str, str]:
        """Return standard output and standard error, after checking the exit status."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=180)
        assert process.returncode == status, f"exit {process.returncode}\n{out}\n{err}"
        return out, err

    def json(self, *arguments: object) -> dict:
        return json.loads(self(*arguments, "--json")[0])

    def refuses(self, *arguments: object) -> str:
        """Check that bad input ends in one line, exit status 2 and no run folder; return the line."""
        before = sorted(self.folder.glob("runs/*"))
        _, err = self(*arguments, status=2)
        assert len(err.strip().splitlines()) == 1, err
        assert sorted(self.folder.glob("runs/*")) == before
        return err.strip()
