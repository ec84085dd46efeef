"""docs/custom-data.md is run as it stands, on generated files."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, Cli

from fl.cli import main
from fl.data import DATA_KEYS

PAGE = (ROOT / "docs/custom-data.md").read_text(encoding="utf-8")
TUTORIAL = PAGE[: PAGE.index("## Where rows come from")]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL, re.DOTALL)


def clinic(path, rows, seed, header):
    """Write patients whose disease depends on age and cholesterol, a fifth of it not measured."""
    rng = np.random.default_rng(seed)
    lines = [header]
    for row in range(rows):
        age, chol = int(rng.integers(20, 90)), int(rng.integers(120, 380))
        sick = int(age / 90 + chol / 380 + rng.normal(0, 0.1) > 1.25)
        measured = "" if rng.random() < 0.2 else chol
        ward = ("cardiology", "surgery")[int(rng.integers(2))]
        lines.append(f"{age},{'fm'[row % 2]},{measured},2024-{1 + row % 12:02d}-03T09:30,{ward},{sick}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def app(tmp_path, monkeypatch):
    """The app of the page, edited as the page says, and the page's command that runs it."""
    (make, run), (sample,) = blocks("sh"), blocks("csv")
    (config,), (model,) = blocks("toml"), blocks("python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "clinics_task", raising=False)
    assert main(make.splitlines()[0].split()[1:]) == 0
    (tmp_path / "clinics" / "data").mkdir()
    for seed, name in enumerate(re.findall(r"\w+\.csv", make)):
        clinic(tmp_path / "clinics" / "data" / name, 200, seed, sample.splitlines()[0])
    clinic(tmp_path / "clinics" / "test.csv", 300, 99, sample.splitlines()[0])
    project, task = tmp_path / "clinics" / "pyproject.toml", tmp_path / "clinics" / "clinics_task.py"
    replace(project, r'data = "[^"]*"\ntest-data = "[^"]*"\n', config)
    replace(task, r"return nn\.Sequential\(.*\)", model.strip())
    return Cli(tmp_path), tmp_path / "clinics", run.split()[1:]


def replace(path, pattern, text):
    edited, changes = re.subn(pattern, lambda found: text, path.read_text())
    assert changes == 1
    path.write_text(edited)


def test_the_page_takes_a_folder_of_files_to_a_running_federation(app):
    cli, folder, run = app
    out, _ = cli(*run)
    assert "3 simulated clients" in out
    assert "privacy: DP-SGD at every client" in out
    assert "done: 10 rounds" in out
    (test_data,) = re.findall(r"`(test-data = .*?)`", TUTORIAL)[-1:]
    replace(folder / "pyproject.toml", r"(?=columns\.target)", f"{test_data}\n")
    assert (
        main([*run, "-c", "num-server-rounds=10", "-c", "privacy=off", "--workers", "0", "--runs-dir", "open"]) == 0
    )
    summary = json.loads(next(Path("open").glob("*/run.json")).read_text())["summary"]
    sick = np.array([int(line[-1]) for line in (folder / "test.csv").read_text().splitlines()[1:]])
    guessing = max(sick.mean(), 1 - sick.mean())
    assert summary["test_accuracy"] > guessing + 0.15


def test_a_bad_row_ends_in_one_line_with_its_place(app, capsys):
    _, folder, run = app
    with (folder / "data" / "west.csv").open("a") as file:
        file.write("old,f,200,2024-01-01,surgery,0\n")
    assert main(run) == 2
    line = capsys.readouterr().err.strip()
    assert "west.csv, line 202, column 'age': 'old' is not a number; correct it, or" in line
    assert "\n" not in line


def test_nine_lines_are_nine_and_every_key_is_on_the_page():
    own = [line for block in (*blocks("toml"), *blocks("python")) for line in block.splitlines() if line.strip()]
    assert len(own) == 9
    for key in DATA_KEYS:
        short = f"`.{key.removeprefix('columns.')}`"
        assert f"`{key}`" in PAGE or short in PAGE, key


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_the_sample_has_the_columns_that_the_keys_name():
    columns = blocks("csv")[0].splitlines()[0].split(",")
    named = re.findall(
        r"^columns\.(?:bounds|categories|fill)\.(\w+)|^columns\.\w+ = \"(\w+)\"", blocks("toml")[0], re.M
    )
    assert {name for pair in named for name in pair if name} == set(columns)
