"""What docs/observing.md tells users to do, done."""

import re
import sys

import pytest
from support import ROOT

from fl.cli import main

TEXT = (ROOT / "docs/observing.md").read_text(encoding="utf-8")


def block(language):
    (code,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return code


@pytest.fixture
def _there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])


@pytest.mark.usefixtures("_there")
def test_the_documented_tracker_works_as_written_and_is_about_ten_lines(tmp_path):
    name = re.search(r"Save this as `(\w+\.py)`", TEXT)[1]
    (tmp_path / name).write_text(block("python"))
    command = block("sh").split()
    assert command[:2] == ["fedshard", "run"]
    assert main(command[1:]) == 0
    (written,) = tmp_path.glob("runs/*/rounds.csv")
    lines = written.read_text().splitlines()
    assert [line.split(",")[:2] for line in lines if line.startswith("round")] == [
        ["round", str(n)] for n in range(1, 11)
    ]
    assert sum(line.startswith("exchange,") for line in lines) == 10
    assert sum(bool(line.strip()) for line in block("python").splitlines()) <= 11


def test_every_option_the_page_names_exists(capsys):
    for command in ("run", "report", "show"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    known = capsys.readouterr().out
    named = set(re.findall(r"`fedshard [^`]*?(--[a-z-]+)", TEXT)) | set(re.findall(r"`(--[a-z-]+)`", TEXT))
    assert named
    assert {option for option in named if option not in known} == set()
